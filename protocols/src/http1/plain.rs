//! The way that most heads go: whole at once and written as everybody writes them. Each byte is looked at once, and the
//! head's text is copied as it lies, so that a connection that was idle for long touches little code and memory. Refuses
//! nothing: whatever is unusual, incomplete or wrong is left to `parse`, which judges it by the rules, so there is one place
//! for faults. What is taken here is taken to be the same there; tests cut every head to see both. Called by
//! `HeadDecoder` for bytes that nobody looked at yet.

use super::facts::Facts;
use super::judge;
use crate::http::HttpHead;
use crate::http::HttpLimits;
use crate::http::HttpVersion;
use crate::http::Method;
use crate::http::Underscores;
use crate::http::names;
use crate::http::path;
use crate::http::token;
use crate::span::Span;

/// Decodes a plain request into `head`, which is empty, and says how many bytes it took. Otherwise `head` holds anything.
pub(super) fn request(bytes: &[u8], limits: &HttpLimits, head: &mut HttpHead) -> Option<usize> {
    let bytes = within(bytes, limits);
    let method_len = token::len(bytes);
    let method = Method::of(&bytes[..method_len]);
    let target_start = method_len + 1;
    // These two have targets of their own forms.
    let is_usual = !matches!(method, Method::Connect | Method::Options) && method_len > 0;
    if !is_usual || !bytes[method_len..].starts_with(b" /") {
        return None;
    }
    let (target_len, is_normal) = path::measure(&bytes[target_start..]);
    let target_end = target_start + target_len;
    let version = version(bytes.get(target_end + 1..target_end + 1 + VERSION_BYTES)?)?;
    let fields_start = target_end + 1 + VERSION_BYTES + LINE_END.len();
    if bytes[target_end] != b' '
        || bytes.get(fields_start - LINE_END.len()..fields_start)? != LINE_END
        || fields_start - LINE_END.len() > limits.line_bytes_max as usize
    {
        return None;
    }
    let mut facts = Facts::default();
    let keeps_underscores = limits.underscores == Underscores::Keep;
    let end = fields(bytes, fields_start, limits, keeps_underscores, &mut facts, head)?;
    head.take_text(&bytes[..end]);
    head.place_method(method, span(0, method_len));
    place_host(bytes, version, &facts, head)?;
    match is_normal {
        true => head.place_path(span(target_start, target_len)),
        false => head.write_path(&bytes[target_start..target_end], limits.escaped_slash).ok()?,
    }
    judge::request(&facts, version, limits, head).ok()?;
    Some(end)
}

/// Decodes a plain response to a request of `method` into `head`, as [`request`] does.
pub(super) fn response(
    bytes: &[u8],
    method: Method,
    limits: &HttpLimits,
    head: &mut HttpHead,
) -> Option<usize> {
    let bytes = within(bytes, limits);
    let version = version(bytes.get(..VERSION_BYTES)?)?;
    let [b' ', digits @ .., b' '] = bytes.get(VERSION_BYTES..REASON_START)? else { return None };
    let status = status(digits)?;
    let reason_end = value_end(bytes, REASON_START)?;
    let reason = &bytes[REASON_START..reason_end];
    if reason_end > limits.line_bytes_max as usize || !is_trimmed(reason) || !reason.is_ascii() {
        return None;
    }
    let mut facts = Facts::default();
    let end = fields(bytes, reason_end + LINE_END.len(), limits, true, &mut facts, head)?;
    head.take_text(&bytes[..end]);
    head.place_status(status, span(REASON_START, reason_end - REASON_START));
    judge::response(&facts, method, version, limits, head).ok()?;
    Some(end)
}

/// Reads lines from `at` on to the empty one and says where that ends. Places of fields that are kept are told to `head`, what
/// the others say to `facts`.
fn fields<'a>(
    bytes: &'a [u8],
    mut at: usize,
    limits: &HttpLimits,
    keeps_underscores: bool,
    facts: &mut Facts<'a>,
    head: &mut HttpHead,
) -> Option<usize> {
    for _ in 0..=limits.fields() {
        let name = bytes.get(at..)?;
        let name = &name[..token::len(name)];
        if name.is_empty() {
            return bytes[at..].starts_with(LINE_END).then_some(at + LINE_END.len());
        }
        let value_start = at + name.len() + COLON.len();
        if bytes.get(value_start - COLON.len()..value_start)? != COLON {
            return None;
        }
        let value_end = value_end(bytes, value_start)?;
        let value = &bytes[value_start..value_end];
        if !is_trimmed(value) {
            return None;
        }
        match names::special(name) {
            Some(special) => facts.read(special, value, None).ok()?,
            None if keeps_underscores || !name.contains(&b'_') => {
                head.place_line(at, name.len(), value.len());
            }
            None if limits.underscores == Underscores::Drop => {}
            None => return None,
        }
        at = value_end + LINE_END.len();
    }
    None
}

/// Places `Host` as what the request is for.
fn place_host(bytes: &[u8], version: HttpVersion, facts: &Facts<'_>, head: &mut HttpHead) -> Option<()> {
    judge::check_host(version, facts).ok()?;
    if let Some(host) = facts.host {
        let start = (host.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        head.place_authority(span(start, host.len()));
    }
    Some(())
}

/// As much of it as a head may take.
fn within<'a>(bytes: &'a [u8], limits: &HttpLimits) -> &'a [u8] {
    let len = bytes.len().min(limits.head_bytes_max as usize).min(HEAD_BYTES_CEILING);
    &bytes[..len]
}

fn version(text: &[u8]) -> Option<HttpVersion> {
    match text {
        b"HTTP/1.1" => Some(HttpVersion::Http11),
        b"HTTP/1.0" => Some(HttpVersion::Http10),
        _ => None,
    }
}

/// RFC 9112 section 4: three digits, of which the first says the class.
fn status(digits: &[u8]) -> Option<u16> {
    let [class @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = digits else { return None };
    let digit = |byte: &u8| u16::from(byte - b'0');
    Some(digit(class) * 100 + digit(tens) * 10 + digit(ones))
}

/// True when nobody would leave blanks out at either end, nor wonder where an empty value lies.
fn is_trimmed(value: &[u8]) -> bool {
    matches!(value, [first, .., last] if *first != b' ' && *last != b' ')
        || matches!(value, [only] if *only != b' ')
}

/// Where the value that starts at `from` ends, with a line end behind it.
fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let len = token::before_control(rest);
    rest[len..].starts_with(LINE_END).then_some(from + len)
}

fn span(start: usize, len: usize) -> Span {
    Span::new(start as u32, len as u32)
}

const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";
/// What `HTTP/1.1` takes.
const VERSION_BYTES: usize = 8;
/// Where the reason of a response starts: behind a version, and a status between two spaces.
const REASON_START: usize = VERSION_BYTES + 5;
/// No head is larger than this, whatever the limit: places in it are kept in 32 bits.
const HEAD_BYTES_CEILING: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpFault;
    use crate::http1::HeadDecoder;
    use crate::http1::HeadStep;

    fn taken(head: &str) -> bool {
        let limits = HttpLimits::default();
        let end = match head.starts_with("HTTP/") {
            true => response(head.as_bytes(), Method::Get, &limits, &mut HttpHead::default()),
            false => request(head.as_bytes(), &limits, &mut HttpHead::default()),
        };
        assert!(end.is_none_or(|end| end == head.len()), "it ends where the head does");
        end.is_some()
    }

    #[test]
    fn what_everybody_writes_is_taken() {
        let heads = [
            "GET / HTTP/1.1\r\nHost: a.b:80\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
            "POST /echo HTTP/1.1\r\nHost: bench\r\nContent-Length: 1024\r\n\r\n",
            "PUT /a//../b%41?q=1#2 HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /chat HTTP/1.1\r\nHost: H\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n",
        ];
        let heads = heads.map(|head| (head, taken(head)));
        let left: Vec<_> = heads.iter().filter(|(_, taken)| !taken).map(|(head, _)| *head).collect();
        // A fragment may not stand in a target, and who says so is `parse`.
        assert_eq!(left, [heads[2].0]);
    }

    #[test]
    fn what_is_unusual_is_left_to_be_judged() {
        let targets = ["http://h/", "*", "", "/ ", "/\x7f", "/\u{e4}", "/..", "/a#b", "/%zz"];
        let targets = targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let lines = [
            "a:b",
            "a: ",
            "a:  b",
            "a: b ",
            "a:\tb",
            "a: b\tc",
            "a: b\0",
            "a : b",
            " a: b",
            ": b",
            "a",
            "a: b\nc: d",
            "a: b\rc: d",
            "Host: h",
            "Connection: a",
            "Content-Length: x",
            "Expect: x",
        ];
        let lines = lines.map(|line| format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n"));
        let others = [
            "",
            "G",
            "GET / HTTP/1.1\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r",
            "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
            "OPTIONS /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "HTTP/1.1 200\r\n\r\n",
            "HTTP/1.1 200 \r\n\r\n",
            "HTTP/1.1 600 x\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 \u{e4}\r\n\r\n",
            "HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\n",
        ]
        .map(str::to_owned);
        for head in targets.into_iter().chain(lines).chain(others) {
            assert!(!taken(&head), "{head:?}");
        }
    }

    #[test]
    fn limits_are_those_of_every_head() {
        let head = b"GET /1234567 HTTP/1.1\r\nHost: h\r\na: b\r\n\r\n";
        let usual = HttpLimits::default();
        let faults = [
            (HttpLimits { line_bytes_max: 21, ..usual }, None),
            (HttpLimits { line_bytes_max: 20, ..usual }, Some(HttpFault::LineTooLong)),
            (HttpLimits { fields_max: 2, ..usual }, None),
            (HttpLimits { fields_max: 1, ..usual }, Some(HttpFault::TooManyFields)),
            (HttpLimits { head_bytes_max: head.len() as u32, ..usual }, None),
            (HttpLimits { head_bytes_max: head.len() as u32 - 1, ..usual }, Some(HttpFault::HeadTooLarge)),
        ];
        for (limits, fault) in faults {
            let plain = request(head, &limits, &mut HttpHead::default());
            assert_eq!(plain, fault.is_none().then_some(head.len()), "{limits:?}");
            let step = HeadDecoder::default().request(head, &limits, &mut HttpHead::default());
            let expected = fault.map_or(Ok(HeadStep::Head { consumed: head.len() }), Err);
            assert_eq!(step, expected, "{limits:?}");
        }
    }

    #[test]
    fn every_byte_at_every_place_is_taken_as_the_rules_have_it() {
        let heads: [(bool, &[u8]); 2] = [
            (
                true,
                b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nA_b: c d\r\nte: trailers\r\nContent-Length: 10\r\n\r\n",
            ),
            (false, b"HTTP/1.1 200 a b\r\nA_b: c d\r\nkeep-alive: timeout=1\r\nContent-Length: 10\r\n\r\n"),
        ];
        for (is_request, head) in heads {
            for (at, byte) in (0..head.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
                let mut bytes = head.to_vec();
                bytes[at] = byte;
                let whole = decoded(is_request, [&bytes]);
                let by_rules = decoded(is_request, [&bytes[..1], &bytes]);
                assert_eq!(whole, by_rules, "{}", bytes.escape_ascii());
            }
        }
    }

    /// What becomes of a head that is offered like this. Once a part of it was looked at, the rules have it.
    fn decoded<const LEN: usize>(is_request: bool, offers: [&[u8]; LEN]) -> String {
        let (limits, mut head, mut decoder) =
            (HttpLimits::default(), HttpHead::default(), HeadDecoder::default());
        let mut step = Ok(HeadStep::Need(0));
        for bytes in offers {
            step = match (step, is_request) {
                (Err(_), _) => break,
                (_, true) => decoder.request(bytes, &limits, &mut head),
                (_, false) => decoder.response(bytes, Method::Get, &limits, &mut head),
            };
        }
        let values =
            (head.version, head.body, head.keep_alive, head.keep_alive_timeout_s, head.accepts_trailers);
        let first_line =
            (head.method(), head.method_text(), head.status(), head.reason(), head.path_and_query());
        let fields: Vec<_> = head.fields().collect();
        format!("{step:?} {values:?} {first_line:?} {:?} {fields:?}", head.authority())
    }
}
