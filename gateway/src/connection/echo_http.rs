//! The embedded server's HTTP: answers every request with its own body, or with a line that says what was asked. What the
//! embedded server's connection becomes when its first byte is no Bolt; it knows nothing of clients behind the gateway.

use bowline_engine::machine::{Context, Freeze, Incoming, Input, Machine};
use bowline_protocols::http::{BodyLength, HttpHead};
use bowline_protocols::http1::{BodyDecoder, HeadDecoder, HeadStep, encode};

use crate::error::CloseReason;
use crate::worker::Proxy;

use super::http::part::{Part, take_part, with_scratch, write_end, write_piece};

/// One HTTP connection of the gateway to itself.
#[derive(Debug, Default)]
pub(super) struct EchoHttp {
    head: HeadDecoder,
    /// The body that is coming.
    body: Option<Body>,
    trailers: HttpHead,
    paused: bool,
}

/// A request's body on its way back.
#[derive(Debug)]
struct Body {
    decoder: BodyDecoder,
    /// How it is framed, both ways.
    length: BodyLength,
    /// The connection goes on after it.
    keep_alive: bool,
    /// The answer to HEAD ends with its head (RFC 9110 section 9.3.2), so what comes is thrown away.
    is_dropped: bool,
}

impl EchoHttp {
    fn on_bytes<A: Proxy>(&mut self, incoming: &mut Incoming<'_>, context: &mut Context<'_, A>) {
        while !incoming.is_empty() {
            let fresh: usize = context.effects.output.iter().map(|piece| piece.len()).sum();
            if context.output_bytes + fresh > OUTPUT_BYTES_MAX {
                self.paused = true;
                context.watch_output(true);
                return context.set_reading(false);
            }
            let goes_on = match self.body {
                None => self.on_head(incoming, context),
                Some(_) => self.on_body(incoming, context),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => return context.close(reason.index() as u8),
            }
        }
    }

    fn on_head<A: Proxy>(
        &mut self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) -> Result<bool, CloseReason> {
        let limits = context.local.shared.http_limits;
        let mut message = context.local.take_message();
        let step = self.head.request(incoming.bytes(), &limits, &mut message.head);
        match step.map_err(|_| CloseReason::HttpMalformed)? {
            HeadStep::Need(needed) => {
                context.need(needed);
                context.local.keep_message(message);
                return Ok(false);
            }
            HeadStep::Head { consumed } => incoming.consume(consumed),
        }
        self.head = HeadDecoder::default();
        context.count_request();
        let written = self.answer(&message.head, context);
        let keep_alive = message.head.keep_alive;
        context.local.keep_message(message);
        match written {
            false => Err(CloseReason::MemoryCeiling),
            true if self.body.is_none() && !keep_alive => Err(CloseReason::HttpFinished),
            true => Ok(true),
        }
    }

    /// Answers with the head of the echo, and with a line where there is no body to send back.
    fn answer<A: Proxy>(&mut self, request: &HttpHead, context: &mut Context<'_, A>) -> bool {
        let is_echo = !matches!(request.body, BodyLength::None | BodyLength::Exact(0));
        let is_head = request.method() == bowline_protocols::http::Method::Head;
        let mut line = Vec::new();
        if is_echo {
            self.body = Some(Body {
                decoder: BodyDecoder::new(request.body),
                length: request.body,
                keep_alive: request.keep_alive,
                is_dropped: is_head,
            });
        } else {
            line.extend_from_slice(b"Bowline's embedded upstream was asked for ");
            line.extend_from_slice(request.path_and_query());
            line.push(b'\n');
        }
        let mut message = context.local.take_message();
        let head = &mut message.head;
        head.body = if is_echo { request.body } else { BodyLength::Exact(line.len() as u64) };
        let kind = request.field(b"Content-Type").filter(|_| is_echo).unwrap_or(b"text/plain");
        let made = head.set_response(200, b"OK").is_ok() && head.add_field(b"Content-Type", kind).is_ok();
        let written = made
            && with_scratch(context, |out| {
                encode::response(&message.head, request.keep_alive, false, out);
                if !is_head {
                    out.extend_from_slice(&line);
                }
            });
        context.local.keep_message(message);
        written
    }

    fn on_body<A: Proxy>(
        &mut self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_, A>,
    ) -> Result<bool, CloseReason> {
        let limits = context.local.shared.http_limits;
        let Some(body) = &mut self.body else { return Ok(true) };
        let (length, keep_alive, is_dropped) = (body.length, body.keep_alive, body.is_dropped);
        let part = take_part(&mut body.decoder, incoming, &limits, &mut self.trailers);
        let (written, ends) = match part.map_err(|_| CloseReason::HttpMalformed)? {
            Part::Need(needed) => {
                context.need(needed);
                return Ok(false);
            }
            Part::Piece { ends, .. } if is_dropped => (true, ends),
            Part::End if is_dropped => (true, true),
            Part::Piece { piece, ends } => (write_piece(length, piece, ends, context), ends),
            Part::End => (write_end(length, None, context), true),
        };
        if ends {
            self.body = None;
        }
        match (written, ends && !keep_alive) {
            (false, _) => Err(CloseReason::MemoryCeiling),
            (true, true) => Err(CloseReason::HttpFinished),
            (true, false) => Ok(true),
        }
    }
}

/// With more than this queued it reads no further.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

impl<A: Proxy> Machine<A> for EchoHttp {
    fn on(&mut self, input: Input<'_, A>, context: &mut Context<'_, A>) {
        match input {
            Input::Bytes(incoming) => self.on_bytes(incoming, context),
            Input::Flushed { queued, .. } if self.paused && queued <= OUTPUT_BYTES_MAX / 2 => {
                self.paused = false;
                context.watch_output(false);
                context.set_reading(true);
            }
            Input::EndOfStream => context.close(CloseReason::PeerClosed.index() as u8),
            _ => {}
        }
    }

    fn freeze(&self) -> Freeze {
        Freeze::NotYet { why: "the embedded server's HTTP stays where it is" }
    }
}
