//! Answers that the gateway makes itself: complete, small, and never with anything of the request in them.

use bowline_engine::machine::Context;
use bowline_protocols::http::{BodyLength, HttpHead, Method};
use bowline_protocols::http1::encode;

use crate::worker::Proxy;

use super::part::with_scratch;

/// An answer of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply<'a> {
    /// 200 to 599.
    pub(super) status: u16,
    /// The name of what went wrong, if clients may know it.
    pub(super) reason: Option<&'static str>,
    /// One more field.
    pub(super) field: Option<(&'a [u8], &'a [u8])>,
    /// The body, with its type; the status in words where nothing else is said.
    pub(super) body: Option<(&'a [u8], &'a [u8])>,
}

impl Reply<'_> {
    /// An answer that is its status alone.
    pub(super) fn of(status: u16) -> Reply<'static> {
        Reply { status, reason: None, field: None, body: None }
    }
}

/// Who is answered, and how its connection goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct To {
    pub(super) method: Method,
    pub(super) is_http10: bool,
    pub(super) keep_alive: bool,
}

/// Writes `reply`; says how many bytes that were, nothing at the memory ceiling.
pub(super) fn write<A: Proxy>(reply: &Reply<'_>, to: To, context: &mut Context<'_, A>) -> Option<usize> {
    let mut message = context.local.take_message();
    let (kind, body, line_end): (&[u8], &[u8], &[u8]) = match reply.body {
        Some((kind, body)) => (kind, body, b""),
        None => (b"text/plain", phrase(reply.status).as_bytes(), b"\n"),
    };
    let made = fill(&mut message.head, reply, (kind, body.len() + line_end.len()));
    let mut bytes = 0;
    let written = made
        && with_scratch(context, |out| {
            encode::response(&message.head, to.keep_alive, to.is_http10, out);
            if to.method != Method::Head {
                out.extend_from_slice(body);
                out.extend_from_slice(line_end);
            }
            bytes = out.len();
        });
    context.local.keep_message(message);
    written.then_some(bytes)
}

/// False if something in it must not be written.
fn fill(head: &mut HttpHead, reply: &Reply<'_>, (kind, body_bytes): (&[u8], usize)) -> bool {
    let has_body = !matches!(reply.status, 204 | 304);
    head.body = if has_body { BodyLength::Exact(body_bytes as u64) } else { BodyLength::None };
    let mut fields = reply.field.into_iter().chain(reply.reason.map(|name| (REASON, name.as_bytes())));
    head.set_response(reply.status, phrase(reply.status).as_bytes()).is_ok()
        && (!has_body || head.add_field(b"Content-Type", kind).is_ok())
        && fields.all(|(name, value)| head.add_field(name, value).is_ok())
}

/// The reason phrase of a status (RFC 9110 section 15).
pub(super) const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Answer",
    }
}

/// The field that names what went wrong, where the configuration says so.
const REASON: &[u8] = b"X-Bowline-Reason";
