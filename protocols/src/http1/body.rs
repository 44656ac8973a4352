//! Where a body ends: by length, in chunks, or with the connection (RFC 9112 sections 6 and 7). It drops chunk extensions
//! and trailers that may not be forwarded; it copies no body. Called by the machines of the gateway with what lies at the
//! front of their buffer, from which they then take what it named.

use super::scan::Scan;
use super::scan::Section;
use crate::http::BodyLength;
use crate::http::HttpFault;
use crate::http::HttpHead;
use crate::http::HttpLimits;
use crate::http::Underscores;
use crate::http::limits::FIELDS_CEILING;
use crate::http::names;
use crate::http::token;

/// Finds the pieces of one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of body so far, and those that the chunk at hand has still to bring.
    announced: u64,
    extension_bytes: u32,
}

/// ```text
/// Exact ──────────────────────────────┐
/// UntilClose ── end of the stream ────┤
/// Chunk ⇄ ChunkBytes                  ├─► Ending ─► Ended
///   └─ last chunk ─► Trailers ────────┘
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    Exact {
        left: u64,
    },
    UntilClose,
    /// A chunk head comes next, behind the line end of the chunk before it, if there was one.
    Chunk {
        behind_chunk: bool,
        searched: u32,
    },
    ChunkBytes {
        left: u64,
    },
    /// The last chunk is at the front of the bytes; trailers follow, from where the scan begins.
    Trailers {
        scan: Scan,
    },
    /// All was seen, but nobody was told.
    Ending,
    Ended,
}

/// What stands at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Nothing yet; offer again with at least so many bytes in all.
    Need(usize),
    /// `skip` bytes of framing, then `len` bytes of body; `len` is above 0.
    Piece {
        /// Bytes that are not body.
        skip: usize,
        /// Bytes of body behind them.
        len: usize,
    },
    /// The body has ended, behind `skip` bytes of framing. Trailers, if there were any, are in `trailers`.
    End {
        /// Bytes that are not body.
        skip: usize,
    },
}

impl BodyDecoder {
    /// The decoder of a body of this length.
    pub fn new(length: BodyLength) -> BodyDecoder {
        let state = match length {
            BodyLength::None | BodyLength::Exact(0) => State::Ending,
            BodyLength::Exact(left) => State::Exact { left },
            BodyLength::Chunked => State::Chunk { behind_chunk: false, searched: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, announced: 0, extension_bytes: 0 }
    }

    /// Looks at the front of `bytes`. The caller takes what a [`BodyStep::Piece`] or [`BodyStep::End`] names before it
    /// comes again. At the first [`BodyStep::End`], `trailers` holds those of this body and nothing else; after it, End is
    /// said again, with `skip` 0.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
        trailers: &mut HttpHead,
    ) -> Result<BodyStep, HttpFault> {
        match self.state {
            State::Exact { left } => Ok(self.exact_piece(left, bytes)),
            State::UntilClose => self.piece_until_close(bytes, limits),
            State::Chunk { behind_chunk, searched } => {
                self.chunk(behind_chunk, searched as usize, bytes, limits, trailers)
            }
            State::ChunkBytes { left } => Ok(self.chunk_piece(left, 0, bytes)),
            State::Trailers { scan } => self.trailers(scan, bytes, limits, trailers),
            State::Ending => {
                trailers.clear();
                self.state = State::Ended;
                Ok(BodyStep::End { skip: 0 })
            }
            State::Ended => Ok(BodyStep::End { skip: 0 }),
        }
    }

    /// True once the whole body was seen.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ending | State::Ended)
    }

    /// The stream ended: right for a body that ends with it, a fault for any other that has not ended.
    pub fn end_of_stream(&mut self) -> Result<(), HttpFault> {
        match self.state {
            State::UntilClose => self.state = State::Ending,
            State::Ending | State::Ended => {}
            _ => return Err(HttpFault::BodyTruncated),
        }
        Ok(())
    }

    fn exact_piece(&mut self, left: u64, bytes: &[u8]) -> BodyStep {
        let Some(len) = piece_len(left, bytes) else { return BodyStep::Need(1) };
        let left = left - len as u64;
        self.state = if left == 0 { State::Ending } else { State::Exact { left } };
        BodyStep::Piece { skip: 0, len }
    }

    /// Up to the limit all is body, and only what is above it a fault: how the bytes were cut makes no difference.
    fn piece_until_close(&mut self, bytes: &[u8], limits: &HttpLimits) -> Result<BodyStep, HttpFault> {
        if bytes.is_empty() {
            return Ok(BodyStep::Need(1));
        }
        let left = match limits.body_bytes_max {
            0 => u64::MAX,
            most => most.saturating_sub(self.announced),
        };
        let len = piece_len(left, bytes).ok_or(HttpFault::BodyTooLarge)?;
        self.announce(len as u64, limits)?;
        Ok(BodyStep::Piece { skip: 0, len })
    }

    fn chunk_piece(&mut self, left: u64, skip: usize, bytes: &[u8]) -> BodyStep {
        let behind = bytes.get(skip..).unwrap_or_default();
        let Some(len) = piece_len(left, behind) else { return BodyStep::Need(bytes.len() + 1) };
        let left = left - len as u64;
        let next = State::Chunk { behind_chunk: true, searched: 0 };
        self.state = if left == 0 { next } else { State::ChunkBytes { left } };
        BodyStep::Piece { skip, len }
    }

    /// A chunk head, and with it the first piece of its bytes, or the last chunk (RFC 9112 section 7.1).
    fn chunk(
        &mut self,
        behind_chunk: bool,
        searched: usize,
        bytes: &[u8],
        limits: &HttpLimits,
        trailers: &mut HttpHead,
    ) -> Result<BodyStep, HttpFault> {
        let start = if behind_chunk { CHUNK_END.len() } else { 0 };
        if !CHUNK_END[..start].iter().zip(bytes).all(|(expected, byte)| expected == byte) {
            return Err(HttpFault::BadChunkEnd);
        }
        let extensions_left = limits.extension_bytes_max.saturating_sub(self.extension_bytes);
        let Some(line_end) = self.chunk_line_end(start, searched, bytes, extensions_left)? else {
            return Ok(BodyStep::Need(bytes.len() + 1));
        };
        let (size, extension_bytes) = chunk_line(&bytes[start..line_end])?;
        if extension_bytes > extensions_left as usize {
            return Err(HttpFault::ChunkExtensionsTooLarge);
        }
        if size == 0 {
            return self.trailers(Scan::at(line_end), bytes, limits, trailers);
        }
        let announced = self.announced;
        self.announce(size, limits)?;
        let step = self.chunk_piece(size, line_end, bytes);
        if matches!(step, BodyStep::Need(_)) {
            // Nothing was taken, so the head of this chunk will be read again.
            self.announced = announced;
            self.state = State::Chunk { behind_chunk, searched: line_end as u32 - 1 };
        } else {
            self.extension_bytes += extension_bytes as u32;
        }
        Ok(step)
    }

    /// Where the line of a chunk head ends, behind its LF. It can be no longer than a size and what may still come of
    /// extensions.
    fn chunk_line_end(
        &mut self,
        start: usize,
        searched: usize,
        bytes: &[u8],
        extensions_left: u32,
    ) -> Result<Option<usize>, HttpFault> {
        let extensions_left = (extensions_left as usize).min(LINE_BYTES_CEILING);
        let end = start + SIZE_DIGITS_MAX + extensions_left + CHUNK_END.len();
        let from = searched.max(start);
        let window = bytes.get(from..end.min(bytes.len())).unwrap_or_default();
        if let Some(at) = memchr::memchr(b'\n', window) {
            return Ok(Some(from + at + 1));
        }
        if bytes.len() >= end {
            let has_extension = bytes[start..].iter().take(SIZE_DIGITS_MAX + 1).any(|byte| *byte == b';');
            let fault =
                if has_extension { HttpFault::ChunkExtensionsTooLarge } else { HttpFault::BadChunkSize };
            return Err(fault);
        }
        let searched = (from + window.len()) as u32;
        self.state = State::Chunk { behind_chunk: start > 0, searched };
        Ok(None)
    }

    fn trailers(
        &mut self,
        mut scan: Scan,
        bytes: &[u8],
        limits: &HttpLimits,
        trailers: &mut HttpHead,
    ) -> Result<BodyStep, HttpFault> {
        let found = scan.find(bytes, limits, Section::Trailers)?;
        self.state = State::Trailers { scan };
        let Some(place) = found else { return Ok(BodyStep::Need(bytes.len() + 1)) };
        trailers.clear();
        let skip = place.end;
        keep_trailers(&bytes[place], limits, trailers).inspect_err(|_| trailers.clear())?;
        self.state = State::Ended;
        Ok(BodyStep::End { skip })
    }

    /// Counts bytes before they come, so that a chunk that is too large is refused by its size.
    fn announce(&mut self, bytes: u64, limits: &HttpLimits) -> Result<(), HttpFault> {
        let announced = self.announced.checked_add(bytes).ok_or(HttpFault::BadChunkSize)?;
        if limits.body_bytes_max > 0 && announced > limits.body_bytes_max {
            return Err(HttpFault::BodyTooLarge);
        }
        self.announced = announced;
        Ok(())
    }
}

/// How much of `left` is there; `None` for nothing.
fn piece_len(left: u64, bytes: &[u8]) -> Option<usize> {
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (len > 0).then_some(len)
}

/// The size in the line of a chunk head, and how many bytes of extensions stand behind it (RFC 9112 section 7.1.1).
fn chunk_line(line: &[u8]) -> Result<(u64, usize), HttpFault> {
    let [text @ .., b'\r', b'\n'] = line else { return Err(HttpFault::BareLf) };
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = text.split_at(digits);
    if digits == 0 || digits > SIZE_DIGITS_MAX || !matches!(extensions.first(), None | Some(b';')) {
        return Err(HttpFault::BadChunkSize);
    }
    check_extensions(extensions)?;
    let add = |sum: u64, byte: &u8| (sum << 4) | u64::from((*byte as char).to_digit(16).unwrap_or_default());
    Ok((size.iter().fold(0, add), extensions.len()))
}

/// `;name`, `;name=token` or `;name="quoted"`, again and again; no blanks, which RFC 9112 only lets old senders write.
fn check_extensions(mut extensions: &[u8]) -> Result<(), HttpFault> {
    while let Some((b';', rest)) = extensions.split_first() {
        let rest = behind_token(rest)?;
        extensions = match rest {
            [b'=', quoted @ ..] if quoted.first() == Some(&b'"') => {
                let len = token::quoted_len(quoted).ok_or(HttpFault::BadChunkExtension)?;
                &quoted[len..]
            }
            [b'=', value @ ..] => behind_token(value)?,
            _ => rest,
        };
    }
    if extensions.is_empty() { Ok(()) } else { Err(HttpFault::BadChunkExtension) }
}

fn behind_token(bytes: &[u8]) -> Result<&[u8], HttpFault> {
    let len = bytes.iter().take_while(|byte| token::is_token_byte(**byte)).count();
    if len == 0 { Err(HttpFault::BadChunkExtension) } else { Ok(&bytes[len..]) }
}

/// Keeps those trailers that may be forwarded. Whether names with an underscore may is decided as in heads, except that
/// nobody is refused for one: the message was forwarded already.
fn keep_trailers(section: &[u8], limits: &HttpLimits, trailers: &mut HttpHead) -> Result<(), HttpFault> {
    if section == CHUNK_END {
        return Ok(());
    }
    let mut room = [httparse::EMPTY_HEADER; FIELDS_CEILING as usize];
    let fields = match httparse::parse_headers(section, &mut room[..limits.fields()]) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) | Err(httparse::Error::NewLine) => return Err(HttpFault::BareCr),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpFault::TooManyFields),
        Err(httparse::Error::HeaderValue) => return Err(HttpFault::BadFieldValue),
        Err(_) => return Err(HttpFault::BadFieldName),
    };
    trailers.reserve(section.len());
    for field in fields {
        let name = field.name.as_bytes();
        let is_aliased = limits.underscores != Underscores::Keep && name.contains(&b'_');
        if !is_aliased && !names::is_forbidden_trailer(name) {
            trailers.push_field(name, field.value);
        }
    }
    Ok(())
}

/// What stands behind every chunk.
const CHUNK_END: &[u8] = b"\r\n";

/// As many as 64 bits need.
const SIZE_DIGITS_MAX: usize = 16;

/// No line of a chunk head is longer, whatever the limit: places in it are kept in 32 bits.
const LINE_BYTES_CEILING: usize = 1 << 30;
