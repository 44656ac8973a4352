//! The texts within a route: hosts, paths, conditions, fields, methods and weights, each read into what it means or
//! refused in words that say what would be right. Knows no place and no other key: that is the reader of routes.

use bowline_protocols::http::EscapedSlash;
use bowline_protocols::http::path::normalise;

use crate::config::http::Condition;
use crate::config::http::FieldPlan;
use crate::config::http::HostPlan;
use crate::config::http::Wanted;
use crate::config::http::is_protected;
use crate::config::http::is_token;
use crate::config::pattern::Pattern;
use crate::config::url::is_host;

/// `example.com`, `*.example.com`, an address, each with or without a port; in lower case afterwards.
pub(crate) fn host(text: &str) -> Result<HostPlan, String> {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("*.") {
        Some(below) if below.starts_with('[') => Err(format!("{text:?}: an address has no names below it")),
        Some(below) => authority(text, below).map(HostPlan::Wildcard),
        None if lower.contains('*') => {
            Err(format!("{text:?}: a star stands for whole labels in front: *.example.com"))
        }
        None => authority(text, &lower).map(HostPlan::Exact),
    }
}

/// A host that is written, not compared: without a star.
pub(crate) fn plain_host(text: &str) -> Result<String, String> {
    authority(text, text)
}

fn authority(said: &str, text: &str) -> Result<String, String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    if !is_host(name) || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(format!("{said:?} is no host; write for example example.com or example.com:8080"));
    }
    match port.map(str::parse::<u16>) {
        Some(Err(_) | Ok(0)) => Err(format!("{said:?}: {:?} is no port", port.unwrap_or_default())),
        // As clients write it: 080 would never be named.
        Some(Ok(port)) => Ok(format!("{name}:{port}")),
        None => Ok(text.to_owned()),
    }
}

/// A path as requests are compared with it: in normal form, without a query.
pub(crate) fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with a slash"));
    }
    if text.contains(['?', '#']) {
        return Err(format!("{text:?} holds more than a path; conditions on the query stand under query"));
    }
    let mut normal = Vec::new();
    normalise(text.as_bytes(), EscapedSlash::Keep, &mut normal)
        .map_err(|_| format!("{text:?} is no path; write what is not ASCII as %XX"))?;
    if normal != text.as_bytes() {
        let normal = String::from_utf8_lossy(&normal).into_owned();
        return Err(format!("{text:?}: requests are compared in normal form, which is {normal:?}"));
    }
    Ok(text.to_owned())
}

/// A path whose end is the end of a segment.
pub(crate) fn prefix(text: &str) -> Result<String, String> {
    match text.strip_suffix('/') {
        Some(without) if !without.is_empty() => {
            Err(format!("{text:?}: a prefix ends where a segment ends by itself; write {without:?}"))
        }
        _ => path(text),
    }
}

/// `NAME`, `NAME=VALUE` or `NAME~REGEX` of a field.
pub(crate) fn field_condition(text: &str) -> Result<Condition, String> {
    let condition = query_condition(text)?;
    let name = field_name(&condition.name)?;
    Ok(Condition { name: name.to_ascii_lowercase(), ..condition })
}

/// The same of a query parameter.
pub(crate) fn query_condition(text: &str) -> Result<Condition, String> {
    let at = text.find(['=', '~']).unwrap_or(text.len());
    let (name, rest) = text.split_at(at);
    if name.is_empty() {
        return Err(format!("{text:?} has no name; write NAME, NAME=VALUE or NAME~REGEX"));
    }
    let wanted = match rest.split_at_checked(1) {
        Some(("~", pattern)) => Wanted::Regex(Pattern::new(pattern)?),
        Some((_, value)) => Wanted::Exact(value.to_owned()),
        None => Wanted::Present,
    };
    Ok(Condition { name: name.to_owned(), wanted })
}

/// `NAME=VALUE`.
pub(crate) fn field(text: &str) -> Result<FieldPlan, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    field_name(name)?;
    if let Err(message) = field_value(value) {
        return Err(format!("{text:?}: {message}"));
    }
    Ok(FieldPlan { name: name.to_owned(), value: value.to_owned() })
}

/// RFC 9110 section 5.5: no control characters, no spaces around it.
pub(crate) fn field_value(value: &str) -> Result<(), &'static str> {
    if value.trim_matches([' ', '\t']) != value {
        return Err("a value has no spaces around it");
    }
    match value.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        true => Err("a value has no control characters"),
        false => Ok(()),
    }
}

/// A name that an edit or a condition may have.
pub(crate) fn field_name(name: &str) -> Result<&str, String> {
    if !is_token(name) {
        return Err(format!("{name:?} is no name of a field"));
    }
    if name.eq_ignore_ascii_case("host") {
        return Err("the host is not among the fields; say host or rewrite_host".to_owned());
    }
    if is_protected(name) {
        return Err(format!("{name:?} belongs to the connection or the framing, which the gateway writes"));
    }
    Ok(name)
}

/// A method; case matters.
pub(crate) fn method(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if !is_token(text) {
        return Err(format!("{text:?} is no method"));
    }
    if upper != text && METHODS.contains(&upper.as_str()) {
        return Err(format!("{text:?}: methods are told apart by case; write {upper}"));
    }
    Ok(text.to_owned())
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// `NAME=WEIGHT`.
pub(crate) fn weight(text: &str) -> Result<(&str, u32), String> {
    let wrong = || format!("{text:?} is not NAME=WEIGHT with a weight of 0 to {WEIGHT_MAX}");
    let (name, weight) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let weight = weight.parse().ok().filter(|weight| *weight <= WEIGHT_MAX).ok_or_else(wrong)?;
    Ok((name, weight))
}

/// Of one cluster.
const WEIGHT_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        let exact = |text: &str| Ok(HostPlan::Exact(text.to_owned()));
        assert_eq!(host("Example.COM"), exact("example.com"));
        assert_eq!(host("example.com:8080"), exact("example.com:8080"));
        assert_eq!(host("[::1]"), exact("[::1]"));
        assert_eq!(host("[::1]:80"), exact("[::1]:80"));
        assert_eq!(host("*.Example.com:080"), Ok(HostPlan::Wildcard("example.com:80".to_owned())));
        for wrong in
            ["", "*", "*.", "a*.b", "*.*.b", "a b", ".a", "a.", "a..b", "a:", "a:0", "a:99999", "a/b"]
        {
            assert!(host(wrong).is_err(), "{wrong:?} is {:?}", host(wrong));
        }
        assert!(plain_host("*.a").is_err());
    }

    #[test]
    fn paths_stand_in_the_form_that_requests_have() {
        for right in ["/", "/a", "/a/", "/a%20b"] {
            assert_eq!(path(right).as_deref(), Ok(right));
        }
        assert_eq!(path("a").unwrap_err(), "\"a\" does not begin with a slash");
        assert_eq!(
            path("/a/../b").unwrap_err(),
            "\"/a/../b\": requests are compared in normal form, which is \"/b\""
        );
        assert!(path("/a?b").unwrap_err().contains("more than a path"));
        assert!(path("/%zz").is_err() && path("/a b").is_err());
        assert_eq!(prefix("/").as_deref(), Ok("/"));
        assert!(prefix("/a/").unwrap_err().contains("write \"/a\""));
    }

    #[test]
    fn conditions_have_a_name_and_perhaps_a_value_or_an_expression() {
        let read = |text: &str| field_condition(text).map(|condition| (condition.name, condition.wanted));
        let name = "x-a".to_owned();
        assert_eq!(read("X-A"), Ok((name.clone(), Wanted::Present)));
        assert_eq!(read("X-A=b=~c"), Ok((name.clone(), Wanted::Exact("b=~c".to_owned()))));
        assert_eq!(read("X-A="), Ok((name.clone(), Wanted::Exact(String::new()))));
        assert_eq!(read("X-A~b+="), Ok((name, Wanted::Regex(Pattern::new("b+=").unwrap()))));
        for wrong in ["=b", "", "a b", "x~(", "Host=a", "Connection", "Content-Length=1"] {
            assert!(field_condition(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(query_condition("A b").map(|condition| condition.name).as_deref(), Ok("A b"));
    }

    #[test]
    fn fields_that_are_not_the_operators_to_write_are_refused() {
        let plan = |name: &str, value: &str| Ok(FieldPlan { name: name.to_owned(), value: value.to_owned() });
        assert_eq!(field("X-A=b=c, d"), plan("X-A", "b=c, d"));
        assert_eq!(field("X-A="), plan("X-A", ""));
        for name in ["Host", "Transfer-Encoding", "content-length", "TE", "Upgrade", "Connection", "a b", ""]
        {
            assert!(field(&format!("{name}=x")).is_err(), "{name}");
        }
        for value in ["a\r\nb", " a", "a\t", "\0", "\x7f"] {
            assert!(field(&format!("x={value}")).is_err(), "{value:?}");
        }
        assert!(field("X-A").is_err());
    }

    #[test]
    fn methods_are_told_apart_by_case() {
        assert_eq!(method("GET").as_deref(), Ok("GET"));
        assert_eq!(method("PROPFIND").as_deref(), Ok("PROPFIND"));
        assert!(method("get").unwrap_err().contains("write GET"));
        assert!(method("G T").is_err());
    }

    #[test]
    fn weights_are_whole_and_bounded() {
        assert_eq!(weight("a=b=3"), Ok(("a=b", 3)));
        for wrong in ["a", "=1", "a=", "a=-1", "a=1000001", "a=1.5"] {
            assert!(weight(wrong).is_err(), "{wrong}");
        }
    }
}
