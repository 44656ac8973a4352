//! The cases of llhttp's suite, read as llhttp reads them: what it refuses is refused, what it takes is taken with the same
//! messages and bodies. Where we differ the case is listed, with the reason; a listed case that no longer differs fails.
//!
//! llhttp knows no rule about `Host`; requests of 1.1 get one here, so that everything behind it is looked at as well.

use std::collections::BTreeSet;

use bowline_protocols::http::{BodyLength, HttpFault, HttpLimits, Method, Underscores};
use bowline_protocols::http_properties::{Side, read};
use serde_json::Value;

use crate::support::{data, same_however_cut, unhex};

struct Case {
    name: String,
    side: Side,
    bytes: Vec<u8>,
    expected: Outcome,
}

/// What both can say of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    is_refused: bool,
    heads: usize,
    complete: usize,
    body_bytes: usize,
}

/// The cases without leniency; where llhttp pauses makes no difference to what it reads.
fn cases() -> Vec<Case> {
    let file = data("llhttp/cases.json");
    let all = file["cases"].as_array().expect("cases are a list");
    all.iter().filter_map(case).collect()
}

fn case(value: &Value) -> Option<Case> {
    let side = match (value["type"].as_str()?, value["meta"]["skipBody"] == true) {
        // llhttp was told to skip bodies that are not there: nobody can tell us that of a request.
        ("request", true) => return None,
        ("request", false) => Side::Requests,
        ("response", false) => Side::Responses(Method::Get),
        ("response", true) => Side::Responses(Method::Head),
        _ => return None,
    };
    let log: Vec<_> = value["log"].as_array()?.iter().filter_map(Value::as_str).collect();
    let mut bytes = unhex(&value["input_hex"]);
    if log.iter().filter_map(|line| offset(line)).max().unwrap_or(0) > bytes.len() {
        bytes.extend_from_slice(b"\r\n");
    }
    let bytes = if side == Side::Requests { with_host(&bytes) } else { bytes };
    let file = value["file"].as_str()?;
    Some(Case {
        name: format!("{file}: {}", value["name"].as_str()?),
        side,
        bytes,
        expected: outcome(value, &log),
    })
}

fn offset(line: &str) -> Option<usize> {
    line.strip_prefix("off=")?.split(' ').next()?.parse().ok()
}

fn outcome(value: &Value, log: &[&str]) -> Outcome {
    let count = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    let body = log.iter().filter(|line| line.contains(" span[body]="));
    let len = |line: &&str| line.split("len=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    Outcome {
        is_refused: value["error"]["code"].as_u64().is_some_and(|code| !NO_REFUSALS.contains(&code)),
        heads: count(" headers complete "),
        complete: count(" message complete"),
        body_bytes: body.filter_map(len).sum(),
    }
}

/// Puts a host behind every request line of 1.1, the one that its target names if it names one.
fn with_host(bytes: &[u8]) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    if text.to_ascii_lowercase().contains("\r\nhost:") {
        return bytes.to_vec();
    }
    let mut out = String::new();
    for line in text.split_inclusive("\r\n") {
        out.push_str(line);
        if let Some(start) = line.strip_suffix(" HTTP/1.1\r\n") {
            let target = start.rsplit(' ').next().unwrap_or_default();
            let named =
                target.split("://").nth(1).map(|behind| behind.split(['/', '?']).next().unwrap_or_default());
            let host = if start.starts_with("CONNECT") { target } else { named.unwrap_or("h") };
            out.push_str(&format!("Host: {host}\r\n"));
        }
    }
    out.chars().map(|char| char as u8).collect()
}

fn limits() -> HttpLimits {
    HttpLimits { underscores: Underscores::Keep, ..HttpLimits::default() }
}

fn ours(case: &Case) -> (Outcome, Option<HttpFault>) {
    let (outcome, fault) = outcome_of(case.side, &case.bytes);
    if !case.expected.is_refused || outcome.is_refused {
        return (outcome, fault);
    }
    // llhttp judges a head while it comes, we once it is whole: here it was cut off behind the fault.
    outcome_of(case.side, &[case.bytes.as_slice(), b"\r\n\r\n"].concat())
}

fn outcome_of(side: Side, bytes: &[u8]) -> (Outcome, Option<HttpFault>) {
    let transcript = read(side, bytes, [], &limits());
    // These streams were not ended for llhttp: that is neither a fault nor the end of a body.
    let fault = transcript.fault.filter(|fault| *fault != HttpFault::BodyTruncated);
    let endless = transcript.messages.iter().filter(|message| message.head.body == BodyLength::UntilClose);
    let complete =
        if fault.is_none() { transcript.complete() - endless.count() } else { transcript.complete() };
    let outcome = Outcome {
        is_refused: fault.is_some(),
        heads: transcript.messages.len(),
        complete,
        body_bytes: transcript.messages.iter().map(|message| message.body.len()).sum(),
    };
    (outcome, fault)
}

/// The same for both: behind a refusal, only that there is one counts.
fn agree(expected: &Outcome, ours: &Outcome) -> bool {
    expected.is_refused && ours.is_refused || expected == ours
}

#[test]
fn llhttp_and_we_read_the_same() {
    let listed: BTreeSet<_> = DIFFERENCES.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed.len(), DIFFERENCES.len(), "no case is listed twice");
    assert!(DIFFERENCES.iter().all(|(_, reason)| reason.ends_with('.')), "each has its reason");
    let cases = cases();
    assert!(cases.len() > 200, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (ours, fault) = ours(case);
        if agree(&case.expected, &ours) == listed.contains(case.name.as_str()) {
            let text = case.bytes.escape_ascii();
            wrong.push(format!(
                "{}\n  {text}\n  llhttp {:?}\n  we {ours:?} {fault:?}",
                case.name, case.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert!(listed.is_subset(&names), "{:?}", listed.difference(&names).collect::<Vec<_>>());
}

#[test]
fn no_case_depends_on_how_it_is_cut() {
    for case in cases() {
        same_however_cut(case.side, &case.bytes, &limits());
    }
}

/// Ends that are no refusal: data behind `Connection: close`, and the pauses at an upgrade, CONNECT and PRI.
const NO_REFUSALS: [u64; 5] = [5, 21, 22, 23, 24];

/// Cases in which we do otherwise, and why.
const DIFFERENCES: [(&str, &str); 28] = [
    (
        "request/connection.md: CRLF between requests, implicit `keep-alive`",
        "Two empty lines before a request; we skip one (RFC 9112 section 2.2).",
    ),
    (
        "request/invalid.md: HTTP protocol and ANNOUNCE method",
        "llhttp has a list of methods; to us any token is one (RFC 9110 section 9.1).",
    ),
    ("request/invalid.md: Invalid method", "The same."),
    ("request/method.md: CONNECT with body", "A body and a tunnel begin at the same byte: refused."),
    ("request/method.md: M-SEARCH request", "`*` is for OPTIONS alone (RFC 9112 section 3.2.4)."),
    ("request/method.md: SOURCE request with ICE", "Not HTTP."),
    ("request/method.md: OPTIONS request with RTSP", "Not HTTP."),
    ("request/method.md: ANNOUNCE request with RTSP", "Not HTTP."),
    (
        "request/method.md: PRI request HTTP2",
        "`*` is for OPTIONS alone; HTTP/2 is told apart before this codec is asked.",
    ),
    ("request/sample.md: curl GET", "`0.0.0.0=5000` is no host and port."),
    ("request/sample.md: Firefox GET", "The same."),
    ("request/sample.md: No HTTP version", "HTTP/0.9 is not spoken."),
    (
        "request/transfer-encoding.md: POST with `chunked` as last transfer-encoding",
        "We decode no coding but `chunked`: 501 (RFC 9112 section 6.1).",
    ),
    (
        "request/transfer-encoding.md: POST with `chunked` as last transfer-encoding (multiple headers)",
        "The same, and two fields are refused anyway.",
    ),
    (
        "request/uri.md: Fragment in URI",
        "A target has no fragment (RFC 9112 section 3.2); readers disagree where its path ends.",
    ),
    ("request/uri.md: `host:port` and basic auth", "Userinfo is not for targets (RFC 9110 section 4.2.4)."),
    (
        "response/connection.md: HTTP 101 response with Upgrade and Content-Length header",
        "A 1xx has no body (RFC 9110 section 8.6).",
    ),
    (
        "response/connection.md: HTTP 101 response with Upgrade and Transfer-Encoding header",
        "The same (RFC 9112 section 6.1).",
    ),
    (
        "response/connection.md: HTTP 304 with Content-Length",
        "Bytes between responses: whose they are nobody knows.",
    ),
    ("response/connection.md: HTTP 100 first, then 400", "The same."),
    ("response/pipelining.md: Should parse multiple events", "The same."),
    ("response/sample.md: RTSP response", "Not HTTP."),
    ("response/sample.md: ICE response", "Not HTTP."),
    ("response/sample.md: HTTP version 0.9", "There is no such version."),
    (
        "response/sample.md: Response starting with CRLF",
        "Bytes before a response: whose they are nobody knows.",
    ),
    (
        "response/transfer-encoding.md: `chunked` before other transfer-encoding",
        "Refused instead of read until the end, which clients could not tell from chunks.",
    ),
    (
        "response/transfer-encoding.md: multiple transfer-encoding where chunked is not the last one",
        "The same.",
    ),
    (
        "response/transfer-encoding.md: `chunkedchunked` transfer-encoding does not enable chunked enconding",
        "An unknown coding could not be passed on.",
    ),
];
