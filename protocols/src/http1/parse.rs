//! Heads of requests and responses, from bytes (RFC 9112 sections 2 to 6). Most are taken by `plain` at the first look; of
//! the others `scan` finds the end, `httparse` the parts, `facts` what the fields say, and here it is kept. Refuses to
//! guess: whatever two readers could take for two things is a fault. Called by the machines of the gateway.

use std::mem::MaybeUninit;

use httparse::Header;

use super::facts::Facts;
use super::facts::Nominated;
use super::judge;
use super::plain;
use super::scan::Scan;
use super::scan::Section;
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
    /// The head of a request at the front of `bytes`. Until it is whole, and on a fault, `head` is empty.
    pub fn request(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        if !self.scan.has_begun() {
            head.clear();
            if let Some(consumed) = plain::request(bytes, limits, head) {
                return Ok(HeadStep::Head { consumed });
            }
        }
        self.request_by_rules(bytes, limits, head)
    }

    /// The head of a response to a request of `method` at the front of `bytes`; 1xx have no body and are said like others.
    /// Until it is whole, and on a fault, `head` is empty.
    pub fn response(
        &mut self,
        bytes: &[u8],
        method: Method,
        limits: &HttpLimits,
        head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        if !self.scan.has_begun() {
            head.clear();
            if let Some(consumed) = plain::response(bytes, method, limits, head) {
                return Ok(HeadStep::Head { consumed });
            }
        }
        self.response_by_rules(bytes, method, limits, head)
    }

    /// Apart, so that neither its code nor its room for fields lies on the way of most heads.
    #[cold]
    #[inline(never)]
    fn request_by_rules(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        head: &mut HttpHead,
    ) -> Result<HeadStep, HttpFault> {
        self.decode(bytes, limits, head, Section::Request, |bytes, head| decode_request(bytes, limits, head))
    }

    #[cold]
    #[inline(never)]
    fn response_by_rules(
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
        head.clear();
        let Some(place) = self.scan.find(bytes, limits, section)? else {
            return Ok(HeadStep::Need(bytes.len() + 1));
        };
        *self = HeadDecoder::default();
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
    let (mut facts, mut nominated) = (Facts::default(), Nominated::default());
    facts.read_all(parsed.headers, &mut nominated)?;
    head.write_method(method.as_bytes());
    write_target(target.as_bytes(), version, &facts, limits, head)?;
    judge::request(&facts, version, limits, head)?;
    for field in &*parsed.headers {
        keep_request_field(field, bytes, (&nominated, limits), head)?;
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
    let (mut facts, mut nominated) = (Facts::default(), Nominated::default());
    facts.read_all(parsed.headers, &mut nominated)?;
    head.write_status(status, parsed.reason.unwrap_or_default().as_bytes());
    judge::response(&facts, method, version, limits, head)?;
    for field in parsed.headers.iter().filter(|field| nominated.forward(field.name.as_bytes())) {
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
    judge::check_host(version, facts)?;
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

fn keep_request_field(
    field: &Header<'_>,
    bytes: &[u8],
    (nominated, limits): (&Nominated<'_>, &HttpLimits),
    head: &mut HttpHead,
) -> Result<(), HttpFault> {
    let name = field.name.as_bytes();
    if limits.underscores != Underscores::Keep && name.contains(&b'_') {
        let refuses = limits.underscores == Underscores::Refuse;
        return if refuses { Err(HttpFault::UnderscoreInName) } else { Ok(()) };
    }
    if nominated.forward(name) {
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
