//! The contract of filters: where they are called, what they may answer, and what follows from it. Every filter obeys it,
//! and the chain and the machines rely on it.

use std::fmt;

use bowline_engine::time::Time;
use bowline_protocols::http::HttpHead;

/// A filter of one route. It is shared by all exchanges of the route and keeps nothing of any of them: what an exchange
/// has to remember is in its [`super::Position`], which freezes with it.
///
/// - Each place is passed once per exchange, in the order of the methods here; bodies in as many pieces as they come.
///   Requests pass the filters of a route in order, responses in the reverse order.
/// - A head may be changed, except for what [`HttpHead`] refuses. A body may be seen, not changed, and is not kept: no
///   filter makes the gateway hold a body.
/// - A request that is sent once more on another connection does not pass again: the head that filters made is sent.
pub trait Filter: fmt::Debug + Send + Sync {
    /// The head of the request, before its route's rewrites.
    fn on_request_head(&self, _head: &mut HttpHead, _call: &Call) -> Verdict {
        Verdict::Continue
    }

    /// A piece of the request's body.
    fn on_request_body(&self, _piece: &[u8], _call: &Call) -> Verdict {
        Verdict::Continue
    }

    /// The trailers of the request, which are the fields of a head that has nothing else.
    fn on_request_trailers(&self, _trailers: &mut HttpHead, _call: &Call) -> Verdict {
        Verdict::Continue
    }

    /// The head of the response; not of interim ones (1xx).
    fn on_response_head(&self, _head: &mut HttpHead, _call: &Call) -> Verdict {
        Verdict::Continue
    }

    /// A piece of the response's body.
    fn on_response_body(&self, _piece: &[u8], _call: &Call) -> Verdict {
        Verdict::Continue
    }

    /// The trailers of the response.
    fn on_response_trailers(&self, _trailers: &mut HttpHead, _call: &Call) -> Verdict {
        Verdict::Continue
    }
}

/// What a filter is handed beside what passes.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The moment.
    pub now: Time,
    /// A random number: one per exchange, and made another for each filter by the chain.
    pub random: u64,
}

/// What a filter decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the next filter.
    Continue,
    /// The client is answered with this instead; what has been sent upstream is reset. Once the head of a response has
    /// gone to the client it means [`Verdict::Reset`], since nothing can be answered any more.
    Reply(Reply),
    /// The exchange ends on both sides without an answer.
    Reset,
    /// The head of a request waits, and so does all that comes behind it; then it goes on at the next filter. The deadline
    /// of the request goes on meanwhile. Anywhere else it is [`Verdict::Continue`]: what has begun to flow is held back
    /// by credit, not by filters.
    Pause {
        /// Until when.
        until: Time,
    },
}

/// An answer of the gateway without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status, 200 to 599.
    pub status: u16,
    /// Why, for logs, metrics and clients that may know.
    pub reason: &'static str,
}
