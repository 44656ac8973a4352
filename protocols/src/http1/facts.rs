//! Reads those fields of a head that decide something: framing, `Host`, `Connection` and its like (RFC 9110 section 7.6.1).
//! Refuses every doubt about them. It copies nothing; called while a head is decoded, before its fields are kept.

use httparse::Header;

use crate::http::BodyLength;
use crate::http::HttpFault;
use crate::http::HttpHead;
use crate::http::HttpVersion;
use crate::http::head::is_protocol;
use crate::http::names;
use crate::http::names::Special;
use crate::http::token;

/// What the fields of one head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_alive_timeout_s: Option<u32>,
    accepts_trailers: bool,
    upgrade: Option<&'a [u8]>,
    upgrade_nominated: bool,
    expects_continue: bool,
    expects_other: bool,
}

impl<'a> Facts<'a> {
    /// Reads all of them, or finds the first fault.
    pub(super) fn read_all(
        &mut self,
        fields: &[Header<'a>],
        nominated: &mut Nominated<'a>,
    ) -> Result<(), HttpFault> {
        for field in fields {
            if let Some(special) = names::special(field.name.as_bytes()) {
                self.read(special, field.value, Some(nominated))?;
            }
        }
        Ok(())
    }

    /// Writes what is neither framing nor target into `head`.
    pub(super) fn tell(&self, version: HttpVersion, head: &mut HttpHead) {
        let is_11 = version == HttpVersion::Http11;
        head.version = version;
        // RFC 9112 section 9.3.
        head.keep_alive = !self.close && (is_11 || self.keep_alive);
        head.keep_alive_timeout_s = self.keep_alive_timeout_s;
        // RFC 9110 section 7.8: 1.0 does not know it.
        head.write_upgrade(self.upgrade.filter(|_| self.upgrade_nominated && is_11));
    }

    /// Writes what a request alone can say: in a response these fields mean nothing, not even a fault.
    pub(super) fn tell_of_request(&self, head: &mut HttpHead) -> Result<(), HttpFault> {
        if self.expects_other {
            return Err(HttpFault::BadExpectation);
        }
        let is_11 = head.version == HttpVersion::Http11;
        head.accepts_trailers = self.accepts_trailers && is_11;
        // RFC 9110 section 10.1.1: 1.0 does not know it, and nobody waits to send nothing.
        let has_body = !matches!(head.body, BodyLength::None | BodyLength::Exact(0));
        head.expects_continue = self.expects_continue && is_11 && has_body;
        Ok(())
    }

    /// Reads one. Where nobody keeps what is nominated, to nominate is a fault.
    pub(super) fn read(
        &mut self,
        special: Special,
        value: &'a [u8],
        nominated: Option<&mut Nominated<'a>>,
    ) -> Result<(), HttpFault> {
        match special {
            Special::Host if self.host.is_some() => return Err(HttpFault::DuplicateHost),
            Special::Host => self.host = Some(value),
            Special::ContentLength if self.length.is_some() => return Err(HttpFault::DuplicateContentLength),
            Special::ContentLength => self.length = Some(content_length(value)?),
            Special::TransferEncoding if self.chunked => return Err(HttpFault::DuplicateTransferEncoding),
            Special::TransferEncoding => self.chunked = transfer_encoding(value)?,
            Special::Connection => self.read_connection(value, nominated)?,
            Special::KeepAlive => self.keep_alive_timeout_s = keep_alive_timeout(value),
            Special::Te => {
                self.accepts_trailers |=
                    token::list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            Special::Upgrade => self.read_upgrade(value)?,
            Special::Expect if is_continue(value) => self.expects_continue = true,
            Special::Expect => self.expects_other = true,
            Special::Dropped => {}
        }
        Ok(())
    }

    fn read_connection(
        &mut self,
        value: &'a [u8],
        mut nominated: Option<&mut Nominated<'a>>,
    ) -> Result<(), HttpFault> {
        for option in token::list(value) {
            if !token::is_token(option) {
                return Err(HttpFault::BadConnection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_nominated = true;
            } else {
                nominated.as_mut().ok_or(HttpFault::BadConnection)?.add(option)?;
            }
        }
        Ok(())
    }

    /// The first protocol that we may switch to: other versions of HTTP, and TLS, would be spoken behind our back.
    fn read_upgrade(&mut self, value: &'a [u8]) -> Result<(), HttpFault> {
        for protocol in token::list(value) {
            if !is_protocol(protocol) {
                return Err(HttpFault::BadUpgrade);
            }
            let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
            let is_refused =
                REFUSED_PROTOCOLS.iter().any(|refused| refused.as_bytes().eq_ignore_ascii_case(name));
            if !is_refused && self.upgrade.is_none() {
                self.upgrade = Some(protocol);
            }
        }
        Ok(())
    }
}

/// The fields that `Connection` says are for us alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nominated<'a> {
    names: [&'a [u8]; NOMINATED_MAX],
    len: usize,
}

impl<'a> Nominated<'a> {
    fn add(&mut self, name: &'a [u8]) -> Result<(), HttpFault> {
        let place = self.names.get_mut(self.len).ok_or(HttpFault::BadConnection)?;
        *place = name;
        self.len += 1;
        Ok(())
    }

    /// True when no field removes this one, and it is none that becomes a value.
    pub(super) fn forward(&self, name: &[u8]) -> bool {
        names::special(name).is_none() && (!self.contain(name) || names::is_protected(name))
    }

    fn contain(&self, name: &[u8]) -> bool {
        self.names[..self.len].iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

/// RFC 9110 section 8.6: digits alone. A list, even of equal numbers, is refused: two readers may not see the same in it.
fn content_length(value: &[u8]) -> Result<u64, HttpFault> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let add = |sum: u64, byte: &u8| sum.checked_mul(10)?.checked_add(digit(byte)?);
    let length = value.iter().try_fold(0, add).filter(|_| !value.is_empty());
    length.ok_or(HttpFault::BadContentLength)
}

/// RFC 9112 section 6.1: true for exactly `chunked`. Codings that may exist are not ours to decode; what does not end with
/// `chunked`, or says it twice, has no end that we could know.
fn transfer_encoding(value: &[u8]) -> Result<bool, HttpFault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|byte| *byte == b',').map(token::trim).peekable();
    let mut is_single = true;
    while let Some(coding) = codings.next() {
        let is_last = codings.peek().is_none();
        let may_stand_here = is_single && is_last && !is_chunked(coding) || is_chunked(coding) == is_last;
        if !token::is_token(coding) || !may_stand_here {
            return Err(HttpFault::BadTransferEncoding);
        }
        is_single = false;
    }
    Err(HttpFault::UnknownTransferCoding)
}

/// RFC 9110 section 10.1.1: there is one expectation, and asking twice for it asks for the same.
fn is_continue(value: &[u8]) -> bool {
    let mut expectations = value.split(|byte| *byte == b',').map(token::trim);
    expectations.all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue"))
}

/// A hint and no more: what is not understood is no fault.
fn keep_alive_timeout(value: &[u8]) -> Option<u32> {
    token::list(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(TIMEOUT.len())?;
        let seconds = std::str::from_utf8(seconds).ok()?;
        name.eq_ignore_ascii_case(TIMEOUT).then(|| seconds.parse().ok()).flatten()
    })
}

const TIMEOUT: &[u8] = b"timeout=";

/// Protocols whose bytes we would have to understand to keep our own rules.
const REFUSED_PROTOCOLS: [&str; 4] = ["h2c", "h2", "http", "tls"];

/// Most fields that one head may nominate; real ones nominate one or two, and each is compared with every field.
const NOMINATED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits_that_fit() {
        assert_eq!(content_length(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(content_length(b"007"), Ok(7));
        for value in
            ["", "+1", "-1", "0x10", "1_0", "1 0", "1,1", "1.0", "18446744073709551616", "1\x0b", "\u{661}"]
        {
            assert_eq!(content_length(value.as_bytes()), Err(HttpFault::BadContentLength), "{value:?}");
        }
    }

    #[test]
    fn only_chunked_is_chunked() {
        use HttpFault::{BadTransferEncoding, UnknownTransferCoding};
        let cases = [
            ("chunked", Ok(true)),
            ("CHUNKED", Ok(true)),
            ("gzip", Err(UnknownTransferCoding)),
            ("xchunked", Err(UnknownTransferCoding)),
            ("identity", Err(UnknownTransferCoding)),
            ("gzip, chunked", Err(UnknownTransferCoding)),
            ("gzip,deflate ,chunked", Err(UnknownTransferCoding)),
            ("", Err(BadTransferEncoding)),
            (",chunked", Err(BadTransferEncoding)),
            ("chunked,", Err(BadTransferEncoding)),
            ("chunked, chunked", Err(BadTransferEncoding)),
            ("chunked, identity", Err(BadTransferEncoding)),
            ("gzip, deflate", Err(BadTransferEncoding)),
            ("\x0bchunked", Err(BadTransferEncoding)),
            ("chunked;a=b", Err(BadTransferEncoding)),
            ("\"chunked\"", Err(BadTransferEncoding)),
            ("chun ked", Err(BadTransferEncoding)),
        ];
        for (value, expected) in cases {
            assert_eq!(transfer_encoding(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn the_timeout_is_a_hint() {
        assert_eq!(keep_alive_timeout(b"max=5, Timeout=75"), Some(75));
        for value in ["", "timeout", "timeout=", "timeout=x", "timeout=99999999999", "=5"] {
            assert_eq!(keep_alive_timeout(value.as_bytes()), None, "{value}");
        }
    }
}
