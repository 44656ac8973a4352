//! The embedded server: answers every Bolt request with its own class, header and content, so that a gateway without an
//! upstream is a whole one; a connection that begins with HTTP goes on as `echo_http`. Served on a loopback listener of its own; it knows nothing of clients behind the gateway.

use bowline_engine::machine::{Context, Freeze, Incoming, Input, Machine};
use bowline_protocols::CONTROL_BYTES_MAX;
use bowline_protocols::bolt::{self, Decoded, Frame, ResponseParts, encode_response};

use crate::error::CloseReason;
use crate::worker::Proxy;

use super::echo_http::EchoHttp;
use super::frames::next_frame;
use super::state::{Kind, State, close_reason, freeze};

/// One connection of the gateway to itself.
#[derive(Debug, Default)]
pub struct Echo {
    paused: bool,
}

impl Echo {
    fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        let limits = context.local.shared.limits;
        // A Bolt frame begins with 1 or 2, a request of HTTP with a letter.
        if incoming.bytes().first().is_some_and(u8::is_ascii_alphabetic) {
            return context.hand_over(Box::new(EchoHttp::default()));
        }
        while !incoming.is_empty() {
            if self.is_full(context) {
                self.paused = true;
                context.watch_output(true);
                return context.set_reading(false);
            }
            match next_frame(incoming.bytes(), &limits) {
                Ok(Decoded::Need(need)) => return context.need(need),
                Ok(Decoded::Frame(frame)) => {
                    let total = frame.total_bytes as usize;
                    if !answer(&frame, &incoming.bytes()[..total], context) {
                        return context.close(CloseReason::MemoryCeiling.index() as u8);
                    }
                    incoming.consume(total);
                }
                Err(fault) => return context.close(close_reason(fault).index() as u8),
            }
        }
    }

    fn is_full<A: Proxy>(&self, context: &Context<'_, A>) -> bool {
        let fresh: usize = context.effects.output.iter().map(|piece| piece.len()).sum();
        context.output_bytes + fresh > OUTPUT_BYTES_MAX
    }

    fn on_flushed<A: Proxy>(&mut self, queued: usize, context: &mut Context<'_, A>) {
        if self.paused && queued <= OUTPUT_BYTES_MAX / 2 {
            self.paused = false;
            context.watch_output(false);
            context.set_reading(true);
        }
    }
}

/// With more than this queued it reads no further.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Answers one frame; false if there is no memory for it.
fn answer<A: Proxy>(frame: &Frame, bytes: &[u8], context: &mut Context<'_, A>) -> bool {
    match frame.kind {
        bolt::Kind::Heartbeat => {
            let mut out = [0; CONTROL_BYTES_MAX];
            let length = bolt::encode_heartbeat_ack(frame, &mut out);
            context.write_copy(&out[..length])
        }
        bolt::Kind::Request => {
            let mut out = std::mem::take(&mut context.local.scratch);
            let parts = ResponseParts {
                version: frame.version,
                id: frame.id,
                codec: frame.codec,
                status: bolt::Status::Success.code(),
                crc: frame.crc,
                class: frame.class.of(bytes),
                header: frame.header.of(bytes),
                content: frame.content.of(bytes),
            };
            // What came through the gateway has no class or header that is too long to be written.
            let written = encode_response(&parts, &mut out).is_ok() && context.write_copy(&out);
            out.clear();
            out.shrink_to(SCRATCH_BYTES_KEPT);
            context.local.scratch = out;
            written
        }
        _ => true,
    }
}

/// The worker's buffer is kept up to this size.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

impl<A: Proxy> Machine<A> for Echo {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        match input {
            Input::Opened => context.set_state(State::Idle as u8),
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Flushed { queued, .. } => self.on_flushed(queued, context),
            Input::EndOfStream => context.close(CloseReason::PeerClosed.index() as u8),
            _ => {}
        }
    }

    fn freeze(&self) -> Freeze {
        freeze(Kind::Echo, &self.paused, Vec::new())
    }
}

impl Echo {
    /// The connection that `frozen` describes.
    pub fn thaw(
        frozen: &bowline_engine::machine::Frozen,
    ) -> Result<Echo, bowline_engine::machine::ThawError> {
        Ok(Echo { paused: super::state::thaw(frozen)? })
    }
}
