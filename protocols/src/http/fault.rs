//! Owns the words for what a peer did wrong in HTTP, and the status that each is answered with. Every one ends the
//! connection on which it was seen: behind a doubt about framing nothing can be trusted (RFC 9112 section 11).

use std::fmt;

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpFault {
    /// A line that ends with LF alone.
    BareLf,
    /// A CR without LF behind it.
    BareCr,
    /// More than one empty line before a request, or any before a response.
    EmptyLines,
    /// A method that is no token, or none.
    BadMethod,
    /// A request target in none of the four forms, or in one that its method does not allow.
    BadTarget,
    /// A version that is not written like one; HTTP/0.9 is among them.
    BadVersion,
    /// A version that is well written and neither 1.0 nor 1.1.
    UnknownVersion,
    /// The first line is longer than the limit.
    LineTooLong,
    /// The head, or the trailers, are longer than the limit.
    HeadTooLarge,
    /// More fields than the limit.
    TooManyFields,
    /// A field name that is empty or no token, a line without colon, or whitespace before it.
    BadFieldName,
    /// A field value with a control character.
    BadFieldValue,
    /// A field that goes on in the next line, or a first field with whitespace before it.
    FoldedField,
    /// A field name with an underscore, where those are refused.
    UnderscoreInName,
    /// A 1.1 request without `Host`.
    MissingHost,
    /// More than one `Host`.
    DuplicateHost,
    /// A host or port that is not well-formed, or one with userinfo.
    BadHost,
    /// `Host` says otherwise than the request target.
    HostMismatch,
    /// A byte, or a percent escape, that may not stand in a path or query.
    BadPath,
    /// An escaped slash or backslash in the path, where those are refused.
    EscapedSlash,
    /// A path that climbs above its root, or hides that it does.
    PathAboveRoot,
    /// A `Content-Length` that is not a number that fits 64 bits.
    BadContentLength,
    /// More than one `Content-Length`, be they the same or not.
    DuplicateContentLength,
    /// A `Transfer-Encoding` that is not well-formed or does not end with `chunked`.
    BadTransferEncoding,
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// More than one `Transfer-Encoding`.
    DuplicateTransferEncoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndTransferEncoding,
    /// `Transfer-Encoding` in a message of HTTP/1.0.
    TransferEncodingIn10,
    /// An `Expect` other than `100-continue`.
    BadExpectation,
    /// A `Connection` that is no list of tokens, or a list beyond measure.
    BadConnection,
    /// An `Upgrade` that is no list of protocols.
    BadUpgrade,
    /// A status that is not a number from 100 to 599.
    BadStatus,
    /// A 1xx, 204 or CONNECT that declares a body.
    BodyForbidden,
    /// A chunk size that is not one to sixteen hexadecimal digits, or a sum of them above 64 bits.
    BadChunkSize,
    /// A chunk extension that is not well-formed.
    BadChunkExtension,
    /// More bytes of chunk extensions than the limit.
    ChunkExtensionsTooLarge,
    /// A chunk that is not followed by a line end.
    BadChunkEnd,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The stream ended before the body did.
    BodyTruncated,
}

impl HttpFault {
    /// Every fault, for metric registration and tests.
    pub const ALL: [Self; 39] = [
        Self::BareLf,
        Self::BareCr,
        Self::EmptyLines,
        Self::BadMethod,
        Self::BadTarget,
        Self::BadVersion,
        Self::UnknownVersion,
        Self::LineTooLong,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::BadFieldName,
        Self::BadFieldValue,
        Self::FoldedField,
        Self::UnderscoreInName,
        Self::MissingHost,
        Self::DuplicateHost,
        Self::BadHost,
        Self::HostMismatch,
        Self::BadPath,
        Self::EscapedSlash,
        Self::PathAboveRoot,
        Self::BadContentLength,
        Self::DuplicateContentLength,
        Self::BadTransferEncoding,
        Self::UnknownTransferCoding,
        Self::DuplicateTransferEncoding,
        Self::LengthAndTransferEncoding,
        Self::TransferEncodingIn10,
        Self::BadExpectation,
        Self::BadConnection,
        Self::BadUpgrade,
        Self::BadStatus,
        Self::BodyForbidden,
        Self::BadChunkSize,
        Self::BadChunkExtension,
        Self::ChunkExtensionsTooLarge,
        Self::BadChunkEnd,
        Self::BodyTooLarge,
        Self::BodyTruncated,
    ];

    /// The stable name, used as close reason and metric label, for example `http_bad_content_length`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BareLf => "http_bare_lf",
            Self::BareCr => "http_bare_cr",
            Self::EmptyLines => "http_empty_lines",
            Self::BadMethod => "http_bad_method",
            Self::BadTarget => "http_bad_target",
            Self::BadVersion => "http_bad_version",
            Self::UnknownVersion => "http_unknown_version",
            Self::LineTooLong => "http_line_too_long",
            Self::HeadTooLarge => "http_head_too_large",
            Self::TooManyFields => "http_too_many_fields",
            Self::BadFieldName => "http_bad_field_name",
            Self::BadFieldValue => "http_bad_field_value",
            Self::FoldedField => "http_folded_field",
            Self::UnderscoreInName => "http_underscore_in_name",
            Self::MissingHost => "http_missing_host",
            Self::DuplicateHost => "http_duplicate_host",
            Self::BadHost => "http_bad_host",
            Self::HostMismatch => "http_host_mismatch",
            Self::BadPath => "http_bad_path",
            Self::EscapedSlash => "http_escaped_slash",
            Self::PathAboveRoot => "http_path_above_root",
            Self::BadContentLength => "http_bad_content_length",
            Self::DuplicateContentLength => "http_duplicate_content_length",
            Self::BadTransferEncoding => "http_bad_transfer_encoding",
            Self::UnknownTransferCoding => "http_unknown_transfer_coding",
            Self::DuplicateTransferEncoding => "http_duplicate_transfer_encoding",
            Self::LengthAndTransferEncoding => "http_length_and_transfer_encoding",
            Self::TransferEncodingIn10 => "http_old_version_transfer_encoding",
            Self::BadExpectation => "http_bad_expectation",
            Self::BadConnection => "http_bad_connection",
            Self::BadUpgrade => "http_bad_upgrade",
            Self::BadStatus => "http_bad_status",
            Self::BodyForbidden => "http_body_forbidden",
            Self::BadChunkSize => "http_bad_chunk_size",
            Self::BadChunkExtension => "http_bad_chunk_extension",
            Self::ChunkExtensionsTooLarge => "http_chunk_extensions_too_large",
            Self::BadChunkEnd => "http_bad_chunk_end",
            Self::BodyTooLarge => "http_body_too_large",
            Self::BodyTruncated => "http_body_truncated",
        }
    }

    /// The status of the answer to a request: 400, 413, 414, 417, 431, 501 or 505. A response with the fault is 502.
    pub const fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::LineTooLong => 414,
            Self::BadExpectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::UnknownTransferCoding => 501,
            Self::UnknownVersion => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::error::Error for HttpFault {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_snake_case_and_displayed() {
        let names: BTreeSet<_> = HttpFault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), HttpFault::ALL.len());
        for fault in HttpFault::ALL {
            assert!(fault.name().starts_with("http_"), "{fault}");
            assert!(fault.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{fault}");
            assert_eq!(fault.to_string(), fault.name());
        }
    }

    #[test]
    fn statuses_are_those_of_client_errors_and_of_two_server_errors() {
        let statuses: BTreeSet<_> = HttpFault::ALL.iter().map(|fault| fault.status()).collect();
        assert_eq!(statuses, BTreeSet::from([400, 413, 414, 417, 431, 501, 505]));
    }
}
