//! What an upstream is told about the client: X-Forwarded-For, -Proto and -Host, Forwarded (RFC 7239), Via and
//! X-Request-Id. What peers say of themselves in these fields is believed of trusted ones alone and removed otherwise,
//! however the names are written. Applied to the head of a request before filters and rewrites; made from the plan.

use std::io::Write;
use std::net::IpAddr;

use bowline_protocols::http::FieldError;
use bowline_protocols::http::HttpHead;
use bowline_protocols::http::HttpVersion;

use crate::config::http::ForwardedMode;
use crate::config::http::ForwardedPlan;
use crate::config::network::is_within;

/// What is told, and whose word is believed.
#[derive(Debug)]
pub struct Forwarded {
    plan: ForwardedPlan,
}

impl Forwarded {
    /// As `plan` says.
    pub fn new(plan: &ForwardedPlan) -> Forwarded {
        Forwarded { plan: plan.clone() }
    }

    /// Whether this peer is a proxy whose word about its client is believed.
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        is_within(&self.plan.trusted, peer)
    }

    /// Makes the head of a request from `peer` say what the upstream shall know. Values are put together in `scratch`.
    pub fn apply(
        &self,
        head: &mut HttpHead,
        peer: IpAddr,
        is_tls: bool,
        random: u64,
        scratch: &mut Vec<u8>,
    ) -> Result<(), FieldError> {
        let is_first = !self.is_trusted(peer);
        if is_first {
            remove_claims(head);
        }
        let hop = Hop { peer: peer.to_canonical(), proto: if is_tls { "https" } else { "http" }, is_first };
        if matches!(self.plan.mode, ForwardedMode::XForwarded | ForwardedMode::Both) {
            hop.add_x_forwarded(head, scratch)?;
        }
        if matches!(self.plan.mode, ForwardedMode::Forwarded | ForwardedMode::Both) {
            append(head, "Forwarded", scratch, |head, list| hop.element(head.authority(), list))?;
        }
        if let Some(name) = &self.plan.via {
            let version: &[u8] = match head.version {
                HttpVersion::Http10 => b"1.0 ",
                HttpVersion::Http11 => b"1.1 ",
            };
            append(head, "Via", scratch, |_, list| put(list, &[version, name.as_bytes()]))?;
        }
        if self.plan.request_id { set_request_id(head, is_first, random, scratch) } else { Ok(()) }
    }

    /// Removes the same fields from trailers, where nobody's word is believed: who reads them there cannot tell whether
    /// they were checked.
    pub fn apply_to_trailers(&self, trailers: &mut HttpHead) {
        remove_claims(trailers);
    }
}

/// The connection on which a request came.
struct Hop {
    peer: IpAddr,
    proto: &'static str,
    /// Nothing was said of hops before it, or it was removed: there is nothing to look for.
    is_first: bool,
}

impl Hop {
    /// The first proxy that is trusted has said which scheme and host the client used; the list of addresses grows.
    fn add_x_forwarded(&self, head: &mut HttpHead, scratch: &mut Vec<u8>) -> Result<(), FieldError> {
        match self.is_first {
            true => {
                scratch.clear();
                put_address(self.peer, scratch);
                head.add_field(b"X-Forwarded-For", scratch)?;
            }
            false => append(head, "X-Forwarded-For", scratch, |_, list| put_address(self.peer, list))?,
        }
        if self.is_first || head.field(b"x-forwarded-proto").is_none() {
            head.add_field(b"X-Forwarded-Proto", self.proto.as_bytes())?;
        }
        let has_host = !self.is_first && head.field(b"x-forwarded-host").is_some();
        if !has_host && !head.authority().is_empty() {
            scratch.clear();
            scratch.extend_from_slice(head.authority());
            head.add_field(b"X-Forwarded-Host", scratch)?;
        }
        Ok(())
    }

    /// RFC 7239 section 4: values that are no tokens stand in quotes, an address of IPv6 in brackets too.
    fn element(&self, authority: &[u8], list: &mut Vec<u8>) {
        match self.peer {
            IpAddr::V4(_) => {
                put(list, &[b"for="]);
                put_address(self.peer, list);
            }
            IpAddr::V6(_) => {
                put(list, &[b"for=\"["]);
                put_address(self.peer, list);
                put(list, &[b"]\""]);
            }
        }
        if !authority.is_empty() && !authority.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            put(list, &[b";host=\"", authority, b"\""]);
        }
        put(list, &[b";proto=", self.proto.as_bytes()]);
    }
}

/// Adds what `add` writes to the list in the lines of `name`, and makes them one; `list` is where that is written.
fn append(
    head: &mut HttpHead,
    name: &str,
    list: &mut Vec<u8>,
    add: impl FnOnce(&HttpHead, &mut Vec<u8>),
) -> Result<(), FieldError> {
    list.clear();
    for (_, value) in head.fields().filter(|(one, _)| one.eq_ignore_ascii_case(name.as_bytes())) {
        if !value.is_empty() {
            put(list, &[value, b", "]);
        }
    }
    add(head, list);
    head.remove_field(name.as_bytes());
    head.add_field(name.as_bytes(), list)
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends the address as text. One of IPv4 is written by hand: every request of most clients comes with one.
fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    let address = match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => return write!(out, "{address}").expect("a vector takes all"),
    };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

/// A number as it stands in an id that is made here.
fn hexadecimal(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15])
}

/// One id: the first that came, if it is one, else one that is made of `random`.
fn set_request_id(
    head: &mut HttpHead,
    is_first: bool,
    random: u64,
    scratch: &mut Vec<u8>,
) -> Result<(), FieldError> {
    if is_first {
        return head.add_field(b"X-Request-Id", &hexadecimal(random));
    }
    let is_id = |id: &&[u8]| (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    let lines = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(REQUEST_ID)).count();
    let came = head.field(REQUEST_ID).filter(is_id);
    if lines == 1 && came.is_some() {
        return Ok(());
    }
    scratch.clear();
    match came {
        Some(id) => scratch.extend_from_slice(id),
        None => scratch.extend_from_slice(&hexadecimal(random)),
    }
    head.remove_field(REQUEST_ID);
    head.add_field(b"X-Request-Id", scratch)
}

fn remove_claims(head: &mut HttpHead) {
    head.retain_fields(|name| !is_claim(name));
}

/// Whether a field says something about the client that only the gateway may say. An underscore counts as a dash, since
/// CGI servers make the same variable of both.
fn is_claim(name: &[u8]) -> bool {
    let is = |byte: u8, wanted: u8| byte.to_ascii_lowercase() == wanted || byte == b'_' && wanted == b'-';
    let begins = |wanted: &[u8]| {
        name.len() >= wanted.len() && name.iter().zip(wanted).all(|(byte, wanted)| is(*byte, *wanted))
    };
    // All of them begin so, and few others do.
    let may_be = matches!(name.first(), Some(b'X' | b'x' | b'F' | b'f'));
    let is_one = |claim: &&[u8]| name.len() == claim.len() && begins(claim);
    may_be && (begins(b"x-forwarded-") || CLAIMS.iter().any(is_one))
}

const CLAIMS: [&[u8]; 4] = [b"forwarded", b"x-forwarded", b"x-real-ip", REQUEST_ID];
const REQUEST_ID: &[u8] = b"x-request-id";
/// Longer ones would only fill logs.
const ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "203.0.113.9";
    const PROXY: &str = "10.1.2.3";

    fn policy(mode: ForwardedMode) -> ForwardedPlan {
        let trusted = vec!["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
        ForwardedPlan { mode, via: None, request_id: false, trusted }
    }

    fn head(fields: &[(&str, &str)]) -> HttpHead {
        let mut head = HttpHead::default();
        head.set_request(b"GET", b"a.b:81", b"/").expect("a request");
        for (name, value) in fields {
            head.add_field(name.as_bytes(), value.as_bytes()).expect("a field");
        }
        head
    }

    fn applied(plan: &ForwardedPlan, peer: &str, fields: &[(&str, &str)]) -> Vec<String> {
        let mut head = head(fields);
        let peer = peer.parse().expect("an address");
        Forwarded::new(plan)
            .apply(&mut head, peer, false, 0xabc, &mut Vec::new())
            .expect("it can be written");
        let text = String::from_utf8_lossy;
        head.fields().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    const CLAIMED: &[(&str, &str)] = &[
        ("Accept", "x"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-Forwarded-Host", "bank.example"),
        ("X-Forwarded-Prefix", "/admin"),
        ("x_forwarded_for", "3.3.3.3"),
        ("X-Forwarded", "for=1.1.1.1"),
        ("Forwarded", "for=4.4.4.4"),
        ("X-Real-IP", "5.5.5.5"),
        ("X-Request-Id", "mine"),
    ];

    #[test]
    fn nothing_that_a_stranger_claims_reaches_the_upstream() {
        let own = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http", "X-Forwarded-Host: a.b:81"];
        let with = |more: &[&'static str]| [&["Accept: x"][..], more].concat();
        let x_forwarded = applied(&policy(ForwardedMode::XForwarded), CLIENT, CLAIMED);
        assert_eq!(x_forwarded, with(&own));
        let forwarded = "Forwarded: for=203.0.113.9;host=\"a.b:81\";proto=http";
        assert_eq!(applied(&policy(ForwardedMode::Forwarded), CLIENT, CLAIMED), with(&[forwarded]));
        let both = [&own[..], &[forwarded]].concat();
        assert_eq!(applied(&policy(ForwardedMode::Both), CLIENT, CLAIMED), with(&both));
        assert_eq!(applied(&policy(ForwardedMode::Off), CLIENT, CLAIMED), with(&[]));
    }

    #[test]
    fn the_word_of_a_trusted_proxy_is_kept_and_added_to() {
        let said = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Real-IP", "1.1.1.1"),
        ];
        let right = [
            "X-Forwarded-Proto: https",
            "X-Real-IP: 1.1.1.1",
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.1.2.3",
            "X-Forwarded-Host: a.b:81",
            "Forwarded: for=1.1.1.1, for=10.1.2.3;host=\"a.b:81\";proto=http",
        ];
        assert_eq!(applied(&policy(ForwardedMode::Both), PROXY, &said), right);
        let mapped = format!("::ffff:{PROXY}");
        assert_eq!(applied(&policy(ForwardedMode::Both), &mapped, &said), right, "it is the same peer");
        let off = applied(&policy(ForwardedMode::Off), PROXY, &said);
        assert_eq!(off.len(), said.len());
    }

    #[test]
    fn an_address_of_six_has_brackets_where_the_field_wants_them() {
        assert_eq!(
            applied(&policy(ForwardedMode::Both), "fd00::1", &[])[..],
            [
                "X-Forwarded-For: fd00::1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: a.b:81",
                "Forwarded: for=\"[fd00::1]\";host=\"a.b:81\";proto=http"
            ]
        );
    }

    #[test]
    fn what_is_written_by_hand_is_what_would_be_printed() {
        for octets in [[0, 9, 10, 99], [100, 255, 127, 1], [200, 105, 50, 0]] {
            let mut out = Vec::new();
            put_address(octets.into(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), IpAddr::from(octets).to_string());
        }
        for number in [0, 0xabc, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(String::from_utf8_lossy(&hexadecimal(number)), format!("{number:016x}"));
        }
    }

    #[test]
    fn tls_and_a_missing_host_show() {
        let mut head = HttpHead::default();
        head.set_request(b"GET", b"", b"/").expect("a request");
        let policy = Forwarded::new(&policy(ForwardedMode::Both));
        policy
            .apply(&mut head, CLIENT.parse().expect("an address"), true, 0, &mut Vec::new())
            .expect("it can be written");
        assert_eq!(head.field(b"x-forwarded-proto"), Some(&b"https"[..]));
        assert_eq!(head.field(b"x-forwarded-host"), None);
        assert_eq!(head.field(b"forwarded"), Some(&b"for=203.0.113.9;proto=https"[..]));
    }

    #[test]
    fn a_request_has_one_id_and_only_a_trusted_proxy_chooses_it() {
        let plan = ForwardedPlan { request_id: true, ..policy(ForwardedMode::Off) };
        let made = ["X-Request-Id: 0000000000000abc"];
        let mine = [("x-request-id", "mine")];
        assert_eq!(applied(&plan, CLIENT, &[]), made);
        assert_eq!(applied(&plan, CLIENT, &mine), made);
        assert_eq!(applied(&plan, PROXY, &[]), made);
        assert_eq!(applied(&plan, PROXY, &mine), ["x-request-id: mine"]);
        let two = [("x-request-id", "mine"), ("X-Request-ID", "other")];
        assert_eq!(applied(&plan, PROXY, &two), ["X-Request-Id: mine"]);
        let long = "x".repeat(ID_BYTES_MAX + 1);
        for wrong in ["", "a b", &long] {
            assert_eq!(applied(&plan, PROXY, &[("x-request-id", wrong)]), made, "{wrong}");
        }
    }

    #[test]
    fn via_grows_by_this_gateway_whoever_sent_it() {
        let plan = ForwardedPlan { via: Some("bowline".to_owned()), ..policy(ForwardedMode::Off) };
        assert_eq!(applied(&plan, CLIENT, &[]), ["Via: 1.1 bowline"]);
        assert_eq!(applied(&plan, CLIENT, &[("via", "1.0 x")]), ["Via: 1.0 x, 1.1 bowline"]);
    }

    #[test]
    fn trailers_claim_nothing_whoever_sent_them() {
        let mut trailers = head(CLAIMED);
        Forwarded::new(&policy(ForwardedMode::Both)).apply_to_trailers(&mut trailers);
        assert_eq!(trailers.fields_len(), 1);
    }
}
