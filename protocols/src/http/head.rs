//! The head of one message in the form that all versions share: what decides is decoded, framing is a value instead of a
//! field, everything else stands as it came. It owns its text and is meant to be used again, so that a warm connection
//! allocates nothing. Hop-by-hop fields (RFC 9110 section 7.6.1), `Host` and the framing fields are not among its fields:
//! decoders turn them into values, encoders write them anew.

use std::ops::Range;

use super::authority;
use super::fault::HttpFault;
use super::limits::EscapedSlash;
use super::names;
use super::names::Special;
use super::path;
use super::token;
use crate::span::Span;

/// A method (RFC 9110 section 9). Any other token is [`Method::Other`]; [`HttpHead::method_text`] has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// CONNECT.
    Connect,
    /// OPTIONS.
    Options,
    /// TRACE.
    Trace,
    /// PATCH.
    Patch,
    /// Another token.
    Other,
}

/// The version that a message was sent in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// How long the body is (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, and no length was said: a GET, a 204, the answer to HEAD without a length.
    #[default]
    None,
    /// So many bytes, as `Content-Length` said; 0 is written as such.
    Exact(u64),
    /// As many as come, in chunks; trailers may follow.
    Chunked,
    /// As many as come until the connection ends: responses alone.
    UntilClose,
}

/// A head.
#[derive(Clone, Debug, Default)]
pub struct HttpHead {
    /// The version it came in.
    pub version: HttpVersion,
    /// The body behind it.
    pub body: BodyLength,
    /// Whether its sender keeps the connection after this message (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// For how many seconds its sender says that it keeps an idle connection.
    pub keep_alive_timeout_s: Option<u32>,
    /// Whether a request waits for a 100 before it sends its body; the encoder writes `Expect` by it.
    pub expects_continue: bool,
    /// Whether the sender of a request takes trailers (`TE: trailers`).
    pub accepts_trailers: bool,
    /// The length that an answer to HEAD, or a 304, declares of the body it does not have.
    pub declared_length: Option<u64>,
    method: Method,
    status: u16,
    has_upgrade: bool,
    method_at: Span,
    reason_at: Span,
    authority_at: Span,
    path_at: Span,
    upgrade_at: Span,
    fields: Vec<FieldAt>,
    text: Vec<u8>,
}

/// A field's line in the text, as it is written: name, [`COLON`], value, [`LINE_END`]. Lines that follow each other are
/// written at once.
#[derive(Clone, Copy, Debug)]
struct FieldAt {
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl FieldAt {
    fn name(self) -> Span {
        Span::new(self.start, self.name_len)
    }

    fn value(self) -> Span {
        Span::new(self.start + self.name_len + COLON.len() as u32, self.value_len)
    }

    fn line(self) -> Range<usize> {
        self.start as usize..self.value().end() as usize + LINE_END.len()
    }
}

/// What was to be written holds a byte that must not be (RFC 9110 section 5.5), or is the encoder's to write: nothing was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError;

impl std::fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("this may not be written to a head")
    }
}

impl std::error::Error for FieldError {}

impl Method {
    /// The method of this text, which tells case.
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }
}

impl HttpHead {
    /// Empties it; memory is kept, unless it is more than [`KEPT_BYTES_MAX`].
    #[inline(never)]
    pub fn clear(&mut self) {
        let (mut text, mut fields) = (std::mem::take(&mut self.text), std::mem::take(&mut self.fields));
        text.clear();
        fields.clear();
        if text.capacity() > KEPT_BYTES_MAX {
            text = Vec::new();
        }
        if fields.capacity() * size_of::<FieldAt>() > KEPT_BYTES_MAX {
            fields = Vec::new();
        }
        *self = HttpHead { text, fields, ..HttpHead::default() };
    }

    /// Makes it the head of a request; its fields stay. The path may be empty for CONNECT alone.
    pub fn set_request(&mut self, method: &[u8], authority: &[u8], path: &[u8]) -> Result<(), FieldError> {
        let is_connect = method == b"CONNECT" && path.is_empty();
        if !token::is_token(method) || !(authority.is_empty() || authority::is_valid(authority)) {
            return Err(FieldError);
        }
        if !is_connect && !is_path_and_query(path) {
            return Err(FieldError);
        }
        self.check_room(method.len() + authority.len() + path.len())?;
        self.write_method(method);
        self.write_authority(authority);
        self.path_at = self.write(path);
        (self.status, self.reason_at) = (0, Span::default());
        Ok(())
    }

    /// Makes it the head of a response, 100 to 599; its fields stay.
    pub fn set_response(&mut self, status: u16, reason: &[u8]) -> Result<(), FieldError> {
        if !(100..=599).contains(&status) || !token::is_value(reason) {
            return Err(FieldError);
        }
        self.check_room(reason.len())?;
        self.write_status(status, reason);
        (self.method, self.method_at) = (Method::default(), Span::default());
        (self.authority_at, self.path_at) = (Span::default(), Span::default());
        Ok(())
    }

    /// The method of a request.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method as it is written; empty in a response.
    pub fn method_text(&self) -> &[u8] {
        self.method_at.of(&self.text)
    }

    /// The status of a response; 0 for a request.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase of a response; empty if there was none.
    pub fn reason(&self) -> &[u8] {
        self.reason_at.of(&self.text)
    }

    /// Host and port as the client named them, in lower case, without userinfo; empty for a 1.0 request without `Host`.
    pub fn authority(&self) -> &[u8] {
        self.authority_at.of(&self.text)
    }

    /// Path and query in normal form ([`super::path`]); `*` for the whole server; empty for CONNECT.
    pub fn path_and_query(&self) -> &[u8] {
        self.path_at.of(&self.text)
    }

    /// The path alone.
    pub fn path(&self) -> &[u8] {
        split_query(self.path_and_query()).0
    }

    /// What stands behind the first `?`, without it.
    pub fn query(&self) -> Option<&[u8]> {
        split_query(self.path_and_query()).1
    }

    /// Replaces the path, keeping the query if `path` has none.
    pub fn set_path_and_query(&mut self, path_and_query: &[u8]) -> Result<(), FieldError> {
        if !is_path_and_query(path_and_query) {
            return Err(FieldError);
        }
        let brings_query = split_query(path_and_query).1.is_some();
        let kept_bytes = if brings_query { 0 } else { self.query().map_or(0, |query| query.len() + 1) };
        self.check_room(path_and_query.len() + kept_bytes)?;
        let query_start = self.path_at.end() as usize - kept_bytes;
        let mut place = self.write(path_and_query);
        self.text.extend_from_within(query_start..query_start + kept_bytes);
        place.len += kept_bytes as u32;
        self.path_at = place;
        Ok(())
    }

    /// Replaces the authority.
    pub fn set_authority(&mut self, authority: &[u8]) -> Result<(), FieldError> {
        if !authority.is_empty() && !authority::is_valid(authority) {
            return Err(FieldError);
        }
        self.check_room(authority.len())?;
        self.write_authority(authority);
        Ok(())
    }

    /// The protocol that `Upgrade` names, if `Connection` nominates it: `websocket`. Never `h2c`, which is dropped.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.has_upgrade.then(|| self.upgrade_at.of(&self.text))
    }

    /// Sets or removes it; the encoder writes `Connection: upgrade` and `Upgrade`.
    pub fn set_upgrade(&mut self, protocol: Option<&[u8]>) -> Result<(), FieldError> {
        if protocol.is_some_and(|protocol| !is_protocol(protocol)) {
            return Err(FieldError);
        }
        self.check_room(protocol.map_or(0, <[u8]>::len))?;
        self.write_upgrade(protocol);
        Ok(())
    }

    /// Every field, in order, as it came.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name().of(&self.text), field.value().of(&self.text)))
    }

    /// How many fields.
    pub fn fields_len(&self) -> usize {
        self.fields.len()
    }

    /// The value of the first field of this name, which is compared without regard to case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Adds a field behind the others; blanks around its value are left out. Fields that say what this head holds as a
    /// value (framing, `Host`, `Connection` and their like) are refused: a second one would contradict the first.
    pub fn add_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        let is_ours = !matches!(names::special(name), None | Some(Special::Dropped));
        if is_ours || !token::is_token(name) || !token::is_value(value) {
            return Err(FieldError);
        }
        self.check_room(HttpHead::line_bytes(name.len(), value.len()))?;
        self.push_field(name, token::trim(value));
        Ok(())
    }

    /// Removes all fields of this name; says how many.
    pub fn remove_field(&mut self, name: &[u8]) -> usize {
        let (before, text) = (self.fields.len(), &self.text);
        self.fields.retain(|field| !field.name().of(text).eq_ignore_ascii_case(name));
        before - self.fields.len()
    }

    /// Removes every field whose name is not to be kept.
    pub fn retain_fields(&mut self, mut keeps: impl FnMut(&[u8]) -> bool) {
        let text = &self.text;
        self.fields.retain(|field| keeps(field.name().of(text)));
    }

    /// Bytes of text that it holds, for limits; what was replaced or removed counts until it is cleared.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Makes room for the text of a head of so many bytes at once.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.text.reserve(bytes);
    }

    /// Takes a whole head, which is known to be sound, as its text; what is placed is a place in it.
    pub(crate) fn take_text(&mut self, bytes: &[u8]) {
        debug_assert!(self.text.is_empty(), "places count from the front");
        self.text.extend_from_slice(bytes);
    }

    /// Places a method in the text.
    pub(crate) fn place_method(&mut self, method: Method, place: Span) {
        (self.method, self.method_at) = (method, place);
    }

    /// Places the reason of a status in the text.
    pub(crate) fn place_status(&mut self, status: u16, reason: Span) {
        (self.status, self.reason_at) = (status, reason);
    }

    /// Places a path and query in normal form in the text.
    pub(crate) fn place_path(&mut self, place: Span) {
        self.path_at = place;
    }

    /// Places an authority that is known to be sound, and writes it in lower case there.
    pub(crate) fn place_authority(&mut self, place: Span) {
        self.authority_at = place;
        let text = &mut self.text[place.start as usize..place.end() as usize];
        text.iter_mut().filter(|byte| byte.is_ascii_uppercase()).for_each(|byte| *byte |= 0x20);
    }

    /// Places a field whose line starts there in the text, and is written as we write it.
    pub(crate) fn place_line(&mut self, start: usize, name_len: usize, value_len: usize) {
        let (name_len, value_len) = (name_len as u32, value_len as u32);
        self.fields.push(FieldAt { start: start as u32, name_len, value_len });
    }

    /// Writes a method that is known to be a token.
    pub(crate) fn write_method(&mut self, method: &[u8]) {
        self.method = Method::of(method);
        self.method_at = self.write(method);
    }

    /// Writes a status and reason that are known to be sound.
    pub(crate) fn write_status(&mut self, status: u16, reason: &[u8]) {
        self.status = status;
        self.reason_at = self.write(reason);
    }

    /// Writes an authority that is known to be sound, in lower case.
    pub(crate) fn write_authority(&mut self, authority: &[u8]) {
        self.authority_at = self.write(authority);
        let start = self.authority_at.start as usize;
        self.text[start..].make_ascii_lowercase();
    }

    /// Writes the normal form of a path and query.
    pub(crate) fn write_path(&mut self, raw: &[u8], slash: EscapedSlash) -> Result<(), HttpFault> {
        let start = self.text.len();
        path::normalise(raw, slash, &mut self.text)?;
        self.path_at = Span::new(start as u32, (self.text.len() - start) as u32);
        Ok(())
    }

    /// Writes the target that means the whole server.
    pub(crate) fn write_asterisk(&mut self) {
        self.path_at = self.write(b"*");
    }

    /// Writes protocols that are known to be sound.
    pub(crate) fn write_upgrade(&mut self, protocol: Option<&[u8]>) {
        self.has_upgrade = protocol.is_some();
        self.upgrade_at = self.write(protocol.unwrap_or_default());
    }

    /// Adds a field that is known to be sound.
    pub(crate) fn push_field(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len() as u32;
        self.text.reserve(HttpHead::line_bytes(name.len(), value.len()));
        [name, COLON, value, LINE_END].iter().for_each(|part| self.text.extend_from_slice(part));
        self.fields.push(FieldAt { start, name_len: name.len() as u32, value_len: value.len() as u32 });
    }

    /// What the line of a field takes.
    pub(crate) fn line_bytes(name_len: usize, value_len: usize) -> usize {
        name_len + value_len + LINE_BYTES_MIN
    }

    /// Adds a field that is known to be sound and came in this line, its end included, if that is how it is written.
    pub(crate) fn push_line(&mut self, line: &[u8], name: &[u8], value: &[u8]) {
        let is_plain = line.len() == HttpHead::line_bytes(name.len(), value.len())
            && line[name.len()..].starts_with(COLON)
            && line.ends_with(LINE_END);
        if !is_plain {
            return self.push_field(name, value);
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(line);
        self.fields.push(FieldAt { start, name_len: name.len() as u32, value_len: value.len() as u32 });
    }

    /// Appends every field, in order, each as a line with its end.
    pub(crate) fn append_lines(&self, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in self.fields.iter().map(|field| field.line()) {
            if line.start != run.end {
                out.extend_from_slice(&self.text[run]);
                run = line.start..line.start;
            }
            run.end = line.end;
        }
        out.extend_from_slice(&self.text[run]);
    }

    fn write(&mut self, bytes: &[u8]) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        Span::new(start as u32, bytes.len() as u32)
    }

    /// Spans count in 32 bits, so text beyond them is refused.
    fn check_room(&self, more: usize) -> Result<(), FieldError> {
        let bytes = self.text.len().checked_add(more).ok_or(FieldError)?;
        if bytes <= u32::MAX as usize { Ok(()) } else { Err(FieldError) }
    }
}

/// True for `protocol` or `protocol/version` (RFC 9110 section 7.8).
pub(crate) fn is_protocol(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b'/');
    parts.all(token::is_token)
}

fn is_path_and_query(bytes: &[u8]) -> bool {
    bytes == b"*" || (bytes.first() == Some(&b'/') && token::is_visible(bytes) && !bytes.contains(&b'#'))
}

fn split_query(path_and_query: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', path_and_query) {
        Some(at) => (&path_and_query[..at], Some(&path_and_query[at + 1..])),
        None => (path_and_query, None),
    }
}

/// How much memory a head keeps for its text, and again for its fields, when it is emptied.
pub const KEPT_BYTES_MAX: usize = 16 << 10;

/// What stands between a field's name and its value.
const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";
/// What a field's line takes beside its name and value.
const LINE_BYTES_MIN: usize = COLON.len() + LINE_END.len();
