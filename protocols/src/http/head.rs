//! The head of one message in the form that all versions share: what decides is decoded, framing is a value instead of a
//! field, everything else stands as it came. It owns its text and is meant to be used again, so that a warm connection
//! allocates nothing. Hop-by-hop fields (RFC 9110 section 7.6.1), `Host` and the framing fields are not among its fields:
//! decoders turn them into values, encoders write them anew.

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
    /// HTTP/1.1, and any later minor version.
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
#[derive(Debug, Default)]
pub struct HttpHead {
    // text: Vec<u8>, fields: Vec<Field { name: Span, value: Span }>, method, target spans, status ...
    /// The version it came in.
    pub version: HttpVersion,
    /// The body behind it.
    pub body: BodyLength,
    /// Whether its sender keeps the connection after this message (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Whether a request waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// The length that an answer to HEAD, or a 304, declares of the body it does not have.
    pub declared_length: Option<u64>,
}

/// A field, path or authority holds a byte that must not be written (RFC 9110 section 5.5): nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError;

impl HttpHead {
    /// Empties it; memory is kept, unless it is more than `bytes_max`.
    pub fn clear(&mut self) {
        todo!()
    }
    /// Makes it the head of a request.
    pub fn set_request(&mut self, _method: &[u8], _authority: &[u8], _path: &[u8]) -> Result<(), FieldError> {
        todo!()
    }
    /// Makes it the head of a response, 100 to 599.
    pub fn set_response(&mut self, _status: u16, _reason: &[u8]) -> Result<(), FieldError> {
        todo!()
    }
    /// The method of a request.
    pub fn method(&self) -> Method {
        todo!()
    }
    /// The method as it is written.
    pub fn method_text(&self) -> &[u8] {
        todo!()
    }
    /// The status of a response; 0 for a request.
    pub fn status(&self) -> u16 {
        todo!()
    }
    /// The reason phrase of a response; empty if there was none.
    pub fn reason(&self) -> &[u8] {
        todo!()
    }
    /// Host and port as the client named them, in lower case, without userinfo; empty for a 1.0 request without `Host`.
    pub fn authority(&self) -> &[u8] {
        todo!()
    }
    /// Path and query in normal form ([`super::path`]); `*` for the whole server; empty for CONNECT.
    pub fn path_and_query(&self) -> &[u8] {
        todo!()
    }
    /// The path alone.
    pub fn path(&self) -> &[u8] {
        todo!()
    }
    /// What stands behind the first `?`, without it.
    pub fn query(&self) -> Option<&[u8]> {
        todo!()
    }
    /// Replaces the path, keeping the query if `path` has none.
    pub fn set_path_and_query(&mut self, _path_and_query: &[u8]) -> Result<(), FieldError> {
        todo!()
    }
    /// Replaces the authority.
    pub fn set_authority(&mut self, _authority: &[u8]) -> Result<(), FieldError> {
        todo!()
    }
    /// The protocol that `Upgrade` names, if `Connection` nominates it: `websocket`. Never `h2c`, which is dropped.
    pub fn upgrade(&self) -> Option<&[u8]> {
        todo!()
    }
    /// Sets or removes it; the encoder writes `Connection: upgrade` and `Upgrade`.
    pub fn set_upgrade(&mut self, _protocol: Option<&[u8]>) -> Result<(), FieldError> {
        todo!()
    }
    /// Every field, in order, as it came.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
    /// How many fields.
    pub fn fields_len(&self) -> usize {
        todo!()
    }
    /// The value of the first field of this name, which is compared without regard to case.
    pub fn field(&self, _name: &[u8]) -> Option<&[u8]> {
        todo!()
    }
    /// Adds a field behind the others.
    pub fn add_field(&mut self, _name: &[u8], _value: &[u8]) -> Result<(), FieldError> {
        todo!()
    }
    /// Removes all fields of this name; says how many.
    pub fn remove_field(&mut self, _name: &[u8]) -> usize {
        todo!()
    }
    /// Bytes of text that it holds, for limits.
    pub fn text_bytes(&self) -> usize {
        todo!()
    }
}
