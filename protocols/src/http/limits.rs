//! Owns every bound on what an HTTP peer may send; the defaults are the strict position. Plain values: the codecs are
//! handed them with every call, and keep none.

/// What one message may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Largest request or status line, in bytes, without its line end. Default 8 KiB. Above: 414.
    pub line_bytes_max: u32,
    /// Largest head, first line included, in bytes; also the largest trailer section. Default 32 KiB. Above: 431.
    pub head_bytes_max: u32,
    /// Most fields of a head, and of a trailer section. Default 100, at most [`FIELDS_CEILING`]. Above: 431.
    pub fields_max: u32,
    /// Most bytes of chunk extensions in one body. Default 4 KiB. Above: 400.
    pub extension_bytes_max: u32,
    /// Largest body, in bytes; 0 is no limit. Default 0. Above: 413.
    pub body_bytes_max: u64,
    /// What happens to `%2f` and `%5c` in a path. Default: refused.
    pub escaped_slash: EscapedSlash,
    /// What happens to field names with an underscore in requests. Default: dropped.
    pub underscores: Underscores,
}

/// What happens to an escaped slash or backslash in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlash {
    /// 400.
    #[default]
    Refuse,
    /// Left as it is: neither routing nor the upstream sees a separator.
    Keep,
}

/// What happens to a field of a request whose name has an underscore: CGI servers take it for the same with a dash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// The field is not forwarded.
    #[default]
    Drop,
    /// 400.
    Refuse,
    /// Forwarded.
    Keep,
}

/// More fields than this are never taken, whatever the limit: their places are kept on the stack while a head is decoded.
pub const FIELDS_CEILING: u32 = 256;

impl HttpLimits {
    /// The limit on fields that holds.
    pub(crate) fn fields(&self) -> usize {
        self.fields_max.min(FIELDS_CEILING) as usize
    }
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            line_bytes_max: 8 << 10,
            head_bytes_max: 32 << 10,
            fields_max: 100,
            extension_bytes_max: 4 << 10,
            body_bytes_max: 0,
            escaped_slash: EscapedSlash::Refuse,
            underscores: Underscores::Drop,
        }
    }
}
