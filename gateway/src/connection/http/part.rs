//! Pieces of bodies: out of the bytes that arrived, and into the framing of the connection that they go to. Used by both
//! sides; it sends nothing.

use bowline_engine::buf::Piece;
use bowline_engine::machine::{Context, Incoming};
use bowline_protocols::http::{BodyLength, HttpFault, HttpHead, HttpLimits};
use bowline_protocols::http1::{BodyDecoder, BodyStep, encode};

use crate::worker::Proxy;
use crate::worker::Worker;

/// What was found at the front of the bytes.
#[derive(Debug)]
pub(in crate::connection) enum Part {
    /// Nothing yet; so many bytes must wait before it makes sense to look again.
    Need(usize),
    /// A piece; with `ends`, the body has ended behind it and had no trailers.
    Piece { piece: Piece, ends: bool },
    /// The body has ended; its trailers are in the head that was given.
    End,
}

/// Takes the next part of a body.
pub(in crate::connection) fn take_part(
    body: &mut BodyDecoder,
    incoming: &mut Incoming<'_>,
    limits: &HttpLimits,
    trailers: &mut HttpHead,
) -> Result<Part, HttpFault> {
    match body.decode(incoming.bytes(), limits, trailers)? {
        BodyStep::Need(needed) => Ok(Part::Need(needed)),
        BodyStep::End { skip } => {
            incoming.consume(skip);
            Ok(Part::End)
        }
        BodyStep::Piece { skip, len } => {
            incoming.consume(skip);
            let piece = incoming.take(len);
            let ends = body.has_ended() || ends_here(body, incoming, limits, trailers)?;
            Ok(Part::Piece { piece, ends })
        }
    }
}

/// Consumes the end of a body that is right at the front and has no trailers.
fn ends_here(
    body: &mut BodyDecoder,
    incoming: &mut Incoming<'_>,
    limits: &HttpLimits,
    trailers: &mut HttpHead,
) -> Result<bool, HttpFault> {
    let mut ahead = *body;
    let BodyStep::End { skip } = ahead.decode(incoming.bytes(), limits, trailers)? else { return Ok(false) };
    if trailers.fields_len() > 0 {
        return Ok(false);
    }
    incoming.consume(skip);
    *body = ahead;
    Ok(true)
}

/// Writes a piece of a body in the framing of `length`. False at the memory ceiling.
pub(in crate::connection) fn write_piece<A: Proxy>(
    length: BodyLength,
    piece: Piece,
    ends: bool,
    context: &mut Context<'_, A>,
) -> bool {
    if length != BodyLength::Chunked {
        context.write_behind(piece);
        return true;
    }
    let mut line = [0; 18];
    let written = encode::chunk_head(piece.len(), &mut line);
    if !context.write_copy(&line[..written]) {
        return false;
    }
    context.write_behind(piece);
    match ends {
        true => context.write_copy(LAST_CHUNK),
        false => context.write_copy(encode::CHUNK_END),
    }
}

/// Writes the end of a body in the framing of `length`.
pub(in crate::connection) fn write_end<A: Proxy>(
    length: BodyLength,
    trailers: Option<&HttpHead>,
    context: &mut Context<'_, A>,
) -> bool {
    length != BodyLength::Chunked || with_scratch(context, |out| encode::last_chunk(trailers, out))
}

/// Writes what `fill` makes in the worker's buffer. False at the memory ceiling.
pub(in crate::connection) fn with_scratch<A: Proxy>(
    context: &mut Context<'_, A>,
    fill: impl FnOnce(&mut Vec<u8>),
) -> bool {
    let mut out = std::mem::take(&mut context.local.scratch);
    out.clear();
    fill(&mut out);
    let written = context.write_copy(&out);
    out.clear();
    out.shrink_to(SCRATCH_BYTES_KEPT);
    context.local.scratch = out;
    written
}

/// Bytes of a body in flight from one side to the other.
pub(in crate::connection) fn window_bytes(local: &Worker) -> u32 {
    u32::try_from(local.shared.plan.limits.tunnel_credit_bytes).unwrap_or(u32::MAX).clamp(1, i32::MAX as u32)
}

/// What a piece takes of its receiver's credit. A small one takes more than its bytes, because it is framed and held by
/// itself; both sides reckon alike, so what is given back is what was taken.
pub(in crate::connection) fn cost_of(piece: &Piece) -> u32 {
    u32::try_from(piece.len().max(PIECE_COST_MIN)).unwrap_or(u32::MAX)
}

/// Takes from `owed` what may be given back as credit: the share of what waited that was written. What is written is
/// longer than what it was taken for, so bytes cannot be set against bytes.
pub(in crate::connection) fn take_settled(owed: &mut u32, written: usize, queued: usize) -> u32 {
    let share = u64::from(*owed).saturating_mul(written as u64) / (written as u64 + queued as u64).max(1);
    let bytes = if queued == 0 { *owed } else { u32::try_from(share).unwrap_or(*owed).min(*owed) };
    *owed -= bytes;
    bytes
}

/// The least that a piece takes of a credit.
const PIECE_COST_MIN: usize = 64;
/// The end of a chunk, and of a body without trailers behind it.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// The worker's buffer is kept up to this size.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;
