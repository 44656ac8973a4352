//! Heads of requests and responses, from bytes (RFC 9112 sections 2 to 6). `scan` finds their end, `httparse` their
//! parts, `facts` what the fields say; here it is judged together and kept. Refuses to guess: whatever two readers
//! could take for two things is a fault. Called by the machines of the gateway.

use std::mem::MaybeUninit;

use httparse::Header;

use super::facts::Facts;
use super::scan::Scan;
use super::scan::Section;
use crate::http::BodyLength;
use crate::http::HttpFault;
use crate::http::HttpHead;
use crate::http::HttpLimits;
use crate::http::HttpVersion;
use crate::http::Method;
use crate::http::Underscores;
use crate::http::authority;
use crate::http::limits::FIELDS_CEILING;

/// Finds heads. It remembers how far it has looked for the end of one, so that a head that dribbles in is parsed once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadDecoder {
    scan: Scan,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStep {
    /// No whole head yet; offer again with at least so many bytes in all.
    Need(usize),
    /// The head is in the caller's [`HttpHead`] and took so many bytes.
    Head {
        /// Bytes, with at most one empty line before the head.
        consumed: usize,
    },
}

impl HeadDecoder {
    /// The head of a request at the front of `bytes`. On a fault `head` is empty.
    pub fn request(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        self.decode(bytes, limits, head, Section::Request, |bytes, head| decode_request(bytes, limits, head))
    }

    /// The head of a response to a request of `method` at the front of `bytes`; 1xx have no body and are said like others.
    /// On a fault `head` is empty.
    pub fn response(
        &mut self,
        bytes: &[u8],
        method: Method,
        limits: &HttpLimits,
        head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        let decode = |bytes: &[u8], head: &mut HttpHead| decode_response(bytes, method, limits, head);
        self.decode(bytes, limits, head, Section::Response, decode)
    }

    fn decode(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        head: &mut HttpHead,
        section: Section,
        decode: impl FnOnce(&[u8], &mut HttpHead) -> Result<(), HttpFault>,
    ) -> Result<HeadStep, HttpFault> {
        let found = self.scan.find(bytes, limits, section).inspect_err(|_| head.clear())?;
        let Some(place) = found else { return Ok(HeadStep::Need(bytes.len() + 1)) };
        *self = HeadDecoder::default();
        head.clear();
        head.reserve(place.len());
        let consumed = place.end;
        decode(&bytes[place], head).inspect_err(|_| head.clear())?;
        Ok(HeadStep::Head { consumed })
    }
}

/// Places for fields, which `httparse` fills; not written to before, since most heads need few of them.
type Room<'a> = [MaybeUninit<Header<'a>>; FIELDS_CEILING as usize];

fn decode_request(bytes: &[u8], limits: &HttpLimits, head: &mut HttpHead) -> Result<(), HttpFault> {
    let mut room: Room = [const { MaybeUninit::uninit() }; FIELDS_CEILING as usize];
    let mut parsed = httparse::Request::new(&mut []);
    whole(parsed.parse_with_uninit_headers(bytes, &mut room[..limits.fields()]))?;
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(HttpFault::BadTarget) };
    let version = version(parsed.version)?;
    let mut facts = Facts::default();
    facts.read_all(parsed.headers)?;
    head.write_method(method.as_bytes());
    write_target(target.as_bytes(), version, &facts, limits, head)?;
    facts.tell(version, head);
    head.body = request_body(&facts, head.method(), version, limits)?;
    facts.tell_of_request(head)?;
    for field in &*parsed.headers {
        keep_request_field(field, bytes, (&facts, limits), head)?;
    }
    Ok(())
}

fn decode_response(
    bytes: &[u8],
    method: Method,
    limits: &HttpLimits,
    head: &mut HttpHead,
) -> Result<(), HttpFault> {
    let mut room: Room = [const { MaybeUninit::uninit() }; FIELDS_CEILING as usize];
    let mut parsed = httparse::Response::new(&mut []);
    let room = &mut room[..limits.fields()];
    whole(httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, room))?;
    let status = parsed.code.ok_or(HttpFault::BadStatus)?;
    let version = version(parsed.version)?;
    let mut facts = Facts::default();
    facts.read_all(parsed.headers)?;
    head.write_status(status, parsed.reason.unwrap_or_default().as_bytes());
    facts.tell(version, head);
    head.body = response_body(&facts, status, method, version, limits)?;
    head.keep_alive &= head.body != BodyLength::UntilClose;
    let may_say_a_length = may_have_body(status) && (method == Method::Head || status == NOT_MODIFIED);
    head.declared_length = facts.length.filter(|_| may_say_a_length);
    for field in parsed.headers.iter().filter(|field| facts.forwards(field.name.as_bytes())) {
        head.push_line(line_of(field, bytes), field.name.as_bytes(), field.value);
    }
    Ok(())
}

/// The words of `httparse` in ours. The end of the head is known, so it cannot miss any of it.
fn whole(parsed: httparse::Result<usize>) -> Result<(), HttpFault> {
    Err(match parsed {
        Ok(httparse::Status::Complete(_)) => return Ok(()),
        Ok(httparse::Status::Partial) | Err(httparse::Error::NewLine) => HttpFault::BareCr,
        Err(httparse::Error::HeaderName) => HttpFault::BadFieldName,
        Err(httparse::Error::HeaderValue) => HttpFault::BadFieldValue,
        Err(httparse::Error::Status) => HttpFault::BadStatus,
        Err(httparse::Error::Token) => HttpFault::BadTarget,
        Err(httparse::Error::TooManyHeaders) => HttpFault::TooManyFields,
        Err(httparse::Error::Version) => HttpFault::BadVersion,
    })
}

fn version(minor: Option<u8>) -> Result<HttpVersion, HttpFault> {
    match minor {
        Some(0) => Ok(HttpVersion::Http10),
        Some(1) => Ok(HttpVersion::Http11),
        _ => Err(HttpFault::BadVersion),
    }
}

/// RFC 9112 section 3.2: the four forms of a target, and that `Host` agrees with those that name one.
fn write_target(
    target: &[u8],
    version: HttpVersion,
    facts: &Facts<'_>,
    limits: &HttpLimits,
    head: &mut HttpHead,
) -> Result<(), HttpFault> {
    if version == HttpVersion::Http11 && facts.host.is_none() {
        return Err(HttpFault::MissingHost);
    }
    if facts.host.is_some_and(|host| !authority::is_valid(host)) {
        return Err(HttpFault::BadHost);
    }
    let method = head.method();
    let (named, path) = match target {
        _ if method == Method::Connect => (Some(target), None),
        b"*" if method == Method::Options => (None, Some(target)),
        [b'/', ..] => (None, Some(target)),
        _ => split_absolute(target).map(|(authority, path)| (Some(authority), Some(path)))?,
    };
    head.write_authority(authority_of(named, facts.host, method)?);
    match path {
        None => Ok(()),
        Some(b"*") => {
            head.write_asterisk();
            Ok(())
        }
        // RFC 9112 section 3.2.4: this is how OPTIONS for a whole server goes through a proxy.
        Some(b"") if method == Method::Options => {
            head.write_asterisk();
            Ok(())
        }
        Some(path) => head.write_path(path, limits.escaped_slash),
    }
}

/// RFC 9112 section 3.2.2 has the target win over `Host`; where both speak and differ, somebody is being fooled.
fn authority_of<'a>(
    named: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    method: Method,
) -> Result<&'a [u8], HttpFault> {
    let Some(named) = named else { return Ok(host.unwrap_or_default()) };
    if !authority::is_valid(named) || (method == Method::Connect && !authority::has_port(named)) {
        return Err(HttpFault::BadHost);
    }
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(named)) {
        return Err(HttpFault::HostMismatch);
    }
    Ok(named)
}

/// Authority and path of a target in absolute form, whose path may be empty.
fn split_absolute(target: &[u8]) -> Result<(&[u8], &[u8]), HttpFault> {
    let is_scheme =
        |scheme: &&[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = SCHEMES.iter().find(|scheme| is_scheme(scheme)).ok_or(HttpFault::BadTarget)?;
    let behind = &target[scheme.len()..];
    let authority_end =
        behind.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(behind.len());
    Ok(behind.split_at(authority_end))
}

/// RFC 9112 section 6.3, without its tolerance. What follows a CONNECT is the tunnel's (RFC 9110 section 9.3.6), so one that
/// declares a body means two things.
fn request_body(
    facts: &Facts<'_>,
    method: Method,
    version: HttpVersion,
    limits: &HttpLimits,
) -> Result<BodyLength, HttpFault> {
    let declared = declared_body(facts, version, limits)?.unwrap_or_default();
    if method == Method::Connect && !matches!(declared, BodyLength::None | BodyLength::Exact(0)) {
        return Err(HttpFault::BodyForbidden);
    }
    Ok(declared)
}

/// RFC 9112 section 6.3.
fn response_body(
    facts: &Facts<'_>,
    status: u16,
    method: Method,
    version: HttpVersion,
    limits: &HttpLimits,
) -> Result<BodyLength, HttpFault> {
    let is_tunnel = method == Method::Connect && (200..300).contains(&status);
    if !may_have_body(status) && (facts.chunked || facts.length.is_some_and(|length| length > 0)) {
        return Err(HttpFault::BodyForbidden);
    }
    // RFC 9110 sections 8.6 and 15.4.5: these say how long a body would be, however long that is.
    if method == Method::Head || status == NOT_MODIFIED {
        declared_body(facts, version, &HttpLimits { body_bytes_max: 0, ..*limits })?;
        return Ok(BodyLength::None);
    }
    let declared = declared_body(facts, version, limits)?;
    if is_tunnel || !may_have_body(status) {
        return Ok(BodyLength::None);
    }
    Ok(declared.unwrap_or(BodyLength::UntilClose))
}

/// RFC 9110 section 8.6: a 1xx or 204 has none, and does not even say how long one would be.
fn may_have_body(status: u16) -> bool {
    status >= 200 && status != NO_CONTENT
}

/// What the framing fields say, if there are any.
fn declared_body(
    facts: &Facts<'_>,
    version: HttpVersion,
    limits: &HttpLimits,
) -> Result<Option<BodyLength>, HttpFault> {
    match (facts.length, facts.chunked) {
        (Some(_), true) => Err(HttpFault::LengthAndTransferEncoding),
        (None, true) if version == HttpVersion::Http10 => Err(HttpFault::TransferEncodingIn10),
        (None, true) => Ok(Some(BodyLength::Chunked)),
        (Some(length), false) if limits.body_bytes_max > 0 && length > limits.body_bytes_max => {
            Err(HttpFault::BodyTooLarge)
        }
        (Some(length), false) => Ok(Some(BodyLength::Exact(length))),
        (None, false) => Ok(None),
    }
}

fn keep_request_field(
    field: &Header<'_>,
    bytes: &[u8],
    (facts, limits): (&Facts<'_>, &HttpLimits),
    head: &mut HttpHead,
) -> Result<(), HttpFault> {
    let name = field.name.as_bytes();
    if limits.underscores != Underscores::Keep && name.contains(&b'_') {
        let refuses = limits.underscores == Underscores::Refuse;
        return if refuses { Err(HttpFault::UnderscoreInName) } else { Ok(()) };
    }
    if facts.forwards(name) {
        head.push_line(line_of(field, bytes), name, field.value);
    }
    Ok(())
}

/// As many bytes from the field's name on as its line takes when it is written by us.
fn line_of<'a>(field: &Header<'_>, bytes: &'a [u8]) -> &'a [u8] {
    let start = (field.name.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    let behind = bytes.get(start..).unwrap_or_default();
    behind.get(..HttpHead::line_bytes(field.name.len(), field.value.len())).unwrap_or_default()
}

const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;
