//! The checked configuration of HTTP: routes, conditions, actions, edits and what is told to upstreams about the client.
//! Plain data without checks of its own beyond the shape of a redirect; made by the loader, read by the tables of
//! routes and by the filters.

use ipnet::IpNet;

use crate::config::pattern::Pattern;

/// What HTTP listeners do beyond the values that all protocols share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpPlan {
    /// The routes, in the order of the file.
    pub routes: Vec<HttpRoutePlan>,
    /// What upstreams are told about the client.
    pub forwarded: ForwardedPlan,
    /// Whether replies that the gateway makes for failures name the reason in a field. Default false.
    pub error_reason: bool,
}

/// What upstreams are told about the client.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardedPlan {
    /// In which fields. Default X-Forwarded-*.
    pub mode: ForwardedMode,
    /// The name in `Via`, which is not written without one. Default none.
    pub via: Option<String>,
    /// Whether every request has an `X-Request-Id`. Default true.
    pub request_id: bool,
    /// Whose word about the client is believed and carried on. Default nobody.
    pub trusted: Vec<IpNet>,
}

/// The fields in which upstreams are told about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedMode {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Both.
    Both,
    /// None.
    Off,
}

impl Default for ForwardedPlan {
    fn default() -> ForwardedPlan {
        ForwardedPlan { mode: ForwardedMode::XForwarded, via: None, request_id: true, trusted: Vec::new() }
    }
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoutePlan {
    /// The virtual host.
    pub host: HostPlan,
    /// The path.
    pub path: PathPlan,
    /// The methods, as they are written; none is any.
    pub methods: Vec<String>,
    /// What fields must be there; all of them.
    pub fields: Vec<Condition>,
    /// What query parameters must be there; all of them.
    pub query: Vec<Condition>,
    /// What happens to a request that matches.
    pub action: ActionPlan,
    /// The deadline of a request. Default 60,000 ms.
    pub timeout_ms: u64,
    /// What stands in place of the path, or of its matched prefix, on the way to the upstream.
    pub rewrite_prefix: Option<String>,
    /// What stands in place of the authority on the way to the upstream.
    pub rewrite_host: Option<String>,
    /// Its filters.
    pub filters: FiltersPlan,
}

impl HttpRoutePlan {
    /// A route of everything, to `action`.
    pub fn to(action: ActionPlan) -> HttpRoutePlan {
        HttpRoutePlan {
            host: HostPlan::Any,
            path: PathPlan::Any,
            methods: Vec::new(),
            fields: Vec::new(),
            query: Vec::new(),
            action,
            timeout_ms: TIMEOUT_MS,
            rewrite_prefix: None,
            rewrite_host: None,
            filters: FiltersPlan::default(),
        }
    }
}

/// [`HttpRoutePlan::timeout_ms`] where nothing is said.
pub const TIMEOUT_MS: u64 = 60_000;

/// A virtual host, in lower case; a port stands behind it if the route named one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPlan {
    /// Any.
    Any,
    /// This one.
    Exact(String),
    /// Every name below this one, at any depth: the text behind `*.`.
    Wildcard(String),
}

/// Which paths match.
#[derive(Clone, Debug, PartialEq)]
pub enum PathPlan {
    /// Any.
    Any,
    /// This one.
    Exact(String),
    /// This one and all that follow behind a slash.
    Prefix(String),
    /// Those that match as a whole.
    Regex(Pattern),
}

/// A field or query parameter that must be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Its name; of a field in lower case.
    pub name: String,
    /// What its value must be.
    pub wanted: Wanted,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Anything.
    Present,
    /// This.
    Exact(String),
    /// Something that matches as a whole.
    Regex(Pattern),
}

impl Wanted {
    /// Whether `value` is it.
    pub fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Wanted::Present => true,
            Wanted::Exact(text) => text.as_bytes() == value,
            Wanted::Regex(pattern) => pattern.is_match(value),
        }
    }
}

/// What happens to a request that matches.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionPlan {
    /// It goes to one of these clusters, by weight.
    Forward(Vec<WeightedCluster>),
    /// It is sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where.
        location: LocationPlan,
    },
    /// It is answered here.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The content, which may be empty.
        body: String,
        /// What the content is.
        content_type: String,
    },
}

/// A cluster and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// The position in the plan's clusters.
    pub cluster: usize,
    /// Its part of the sum of all weights; 0 is none.
    pub weight: u32,
}

/// The filters of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FiltersPlan {
    /// A delay.
    pub delay: Option<DelayPlan>,
    /// An answer that is a failure.
    pub abort: Option<AbortPlan>,
    /// Edits of the request's head.
    pub request: EditPlan,
    /// Edits of the response's head.
    pub response: EditPlan,
}

/// Requests that wait before they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayPlan {
    /// How long.
    pub ms: u64,
    /// How many of a hundred.
    pub percent: u8,
}

/// Requests that are answered with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortPlan {
    /// The status, 400 to 599.
    pub status: u16,
    /// How many of a hundred.
    pub percent: u8,
}

/// Edits of a head: first what is removed, then what is set, then what is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditPlan {
    /// Names of fields that are removed.
    pub remove: Vec<String>,
    /// Fields that replace all of the same name.
    pub set: Vec<FieldPlan>,
    /// Fields that stand beside those of the same name.
    pub add: Vec<FieldPlan>,
}

/// A field to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPlan {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a redirect leads: text and what stands for parts of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationPlan(Vec<LocationPart>);

/// A part of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationPart {
    /// Text.
    Text(String),
    /// `{host}`: the host that the client named, without a port.
    Host,
    /// `{authority}`: the host with the port that the client named.
    Authority,
    /// `{path}`: the path.
    Path,
    /// `{rest}`: the path behind the matched prefix.
    Rest,
    /// `{query}`: the query with its question mark, or nothing.
    Query,
}

impl LocationPlan {
    /// Reads one; the message says what would be right. What a client may choose can never become the host, unless the
    /// host is `{host}` or `{authority}`: behind a fixed host only a slash, a question mark or the end may follow.
    pub fn parse(text: &str) -> Result<LocationPlan, String> {
        let parts = parts(text)?;
        let [LocationPart::Text(first), rest @ ..] = &parts[..] else {
            let [LocationPart::Path, ..] = &parts[..] else {
                return Err(format!("{text:?} begins neither with http:// or https:// nor with a path"));
            };
            return Ok(LocationPlan(parts));
        };
        let behind = ["http://", "https://"].iter().find_map(|scheme| first.strip_prefix(scheme));
        let sound = match behind {
            // A relative location: two slashes would name a host, also where the second one comes from the request.
            None if !first.starts_with('/') => {
                return Err(format!("{text:?} begins neither with http:// or https:// nor with a path"));
            }
            None => first != "/" && !first.starts_with("//") || first == "/" && !begins_with_slash(rest),
            Some("") => {
                matches!(rest.first(), Some(LocationPart::Host | LocationPart::Authority))
                    && host_ends(&rest[1..], rest[0] == LocationPart::Host)
            }
            Some(host) if host.contains(['/', '?', '#']) => !host.starts_with(['/', '?', '#']),
            Some(_) => host_ends(rest, false),
        };
        if !sound {
            return Err(format!("{text:?}: what a client sends could become the host there"));
        }
        Ok(LocationPlan(parts))
    }

    /// Its parts.
    pub fn parts(&self) -> &[LocationPart] {
        &self.0
    }

    /// Whether it needs the part behind a matched prefix.
    pub fn has_rest(&self) -> bool {
        self.0.contains(&LocationPart::Rest)
    }
}

fn begins_with_slash(parts: &[LocationPart]) -> bool {
    matches!(parts.first(), Some(LocationPart::Path | LocationPart::Rest))
}

/// Whether a host is over before `parts`. A port may follow a host that has none.
fn host_ends(parts: &[LocationPart], port: bool) -> bool {
    match parts {
        [] | [LocationPart::Path | LocationPart::Rest | LocationPart::Query, ..] => true,
        [LocationPart::Host | LocationPart::Authority, ..] => false,
        [LocationPart::Text(text), behind @ ..] => match text.strip_prefix(':').filter(|_| port) {
            None => text.starts_with(['/', '?', '#']),
            Some(digits) => {
                let after = digits.trim_start_matches(|c: char| c.is_ascii_digit());
                after.starts_with(['/', '?', '#']) || after.is_empty() && host_ends(behind, false)
            }
        },
    }
}

fn parts(text: &str) -> Result<Vec<LocationPart>, String> {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("{text:?}: {bad:?} cannot stand in a location; write it as %XX"));
    }
    let mut parts = Vec::new();
    let mut left = text;
    while let Some((before, behind)) = left.split_once('{') {
        let (word, after) = behind.split_once('}').ok_or_else(|| format!("{text:?}: a }} is missing"))?;
        let part = match word {
            "host" => LocationPart::Host,
            "authority" => LocationPart::Authority,
            "path" => LocationPart::Path,
            "rest" => LocationPart::Rest,
            "query" => LocationPart::Query,
            _ => {
                return Err(format!(
                    "{text:?}: no {{{word}}}; known: {{host}}, {{authority}}, {{path}}, {{rest}}, {{query}}"
                ));
            }
        };
        if !before.is_empty() {
            parts.push(LocationPart::Text(before.to_owned()));
        }
        parts.push(part);
        left = after;
    }
    if !left.is_empty() {
        parts.push(LocationPart::Text(left.to_owned()));
    }
    Ok(parts)
}

/// Names of fields that no edit and no condition may name: they are values of the head or belong to one connection
/// (RFC 9110 section 7.6.1), and encoders write them anew.
pub fn is_protected(name: &str) -> bool {
    PROTECTED.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// RFC 9110 section 5.6.2: what methods and names of fields are.
pub fn is_token(text: &str) -> bool {
    let mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

const PROTECTED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_texts_with_parts_of_the_request() {
        let location = LocationPlan::parse("https://{host}:8443/new{path}{query}").unwrap();
        let text = |text: &str| LocationPart::Text(text.to_owned());
        let expected = [
            text("https://"),
            LocationPart::Host,
            text(":8443/new"),
            LocationPart::Path,
            LocationPart::Query,
        ];
        assert_eq!(location.parts(), expected);
        for right in [
            "https://{authority}{path}",
            "https://{host}",
            "http://example.com{rest}",
            "https://example.com:8443{path}",
            "https://example.com/a?from={host}",
            "/",
            "/new{rest}",
            "{path}",
            "/{query}",
            "/search?for={path}",
        ] {
            assert!(LocationPlan::parse(right).is_ok(), "{right}: {:?}", LocationPlan::parse(right));
        }
    }

    #[test]
    fn a_location_whose_host_a_client_could_choose_is_refused() {
        for wrong in [
            "/{rest}",
            "/{path}",
            "//example.com",
            "https://{path}",
            "https://{host}.example.com/",
            "https://{host}@example.com/",
            "https://{authority}:80/",
            "https://{host}:{host}/",
            "https://{host}:80{host}",
            "https://example.com{host}",
            "https:///example.com",
        ] {
            let said = LocationPlan::parse(wrong).err();
            assert_eq!(
                said.as_deref(),
                Some(format!("{wrong:?}: what a client sends could become the host there").as_str())
            );
        }
        for wrong in ["ftp://example.com", "{host}", "", "{rest}", "\\\\example.com"] {
            assert!(LocationPlan::parse(wrong).unwrap_err().contains("begins neither"), "{wrong}");
        }
        assert!(LocationPlan::parse("/a b").unwrap_err().contains("cannot stand"));
        assert!(LocationPlan::parse("/a\r\nb").unwrap_err().contains("cannot stand"));
        assert!(LocationPlan::parse("/{pth}").unwrap_err().contains("known: {host}"));
        assert!(LocationPlan::parse("/{path").unwrap_err().contains("a } is missing"));
    }
}
