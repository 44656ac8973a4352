//! What a head means once its fields were read: how long its body is, and whether it says so once (RFC 9112 sections 3.2
//! and 6.3). Refuses to look at bytes of a head; called by both ways to decode one, so that they cannot differ in it.

use super::facts::Facts;
use crate::http::BodyLength;
use crate::http::HttpFault;
use crate::http::HttpHead;
use crate::http::HttpLimits;
use crate::http::HttpVersion;
use crate::http::Method;
use crate::http::authority;

/// RFC 9112 section 3.2: 1.1 has a `Host`, and everybody's is well-formed.
pub(super) fn check_host(version: HttpVersion, facts: &Facts<'_>) -> Result<(), HttpFault> {
    match facts.host {
        None if version == HttpVersion::Http11 => Err(HttpFault::MissingHost),
        Some(host) if !authority::is_valid(host) => Err(HttpFault::BadHost),
        _ => Ok(()),
    }
}

/// Writes what the fields of a request say into `head`, which has its method.
pub(super) fn request(
    facts: &Facts<'_>,
    version: HttpVersion,
    limits: &HttpLimits,
    head: &mut HttpHead,
) -> Result<(), HttpFault> {
    facts.tell(version, head);
    head.body = request_body(facts, head.method(), version, limits)?;
    facts.tell_of_request(head)
}

/// Writes what the fields of a response to a request of `method` say into `head`, which has its status.
pub(super) fn response(
    facts: &Facts<'_>,
    method: Method,
    version: HttpVersion,
    limits: &HttpLimits,
    head: &mut HttpHead,
) -> Result<(), HttpFault> {
    let status = head.status();
    facts.tell(version, head);
    head.body = response_body(facts, status, method, version, limits)?;
    head.keep_alive &= head.body != BodyLength::UntilClose;
    let may_say_a_length = may_have_body(status) && (method == Method::Head || status == NOT_MODIFIED);
    head.declared_length = facts.length.filter(|_| may_say_a_length);
    Ok(())
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

const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;
