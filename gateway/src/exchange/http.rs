//! What HTTP connections hold only while something is going on: [`Work`] at a server's connection, [`HttpLoad`] at a
//! client's. Boxes of both are used again by workers. Plain data; the machines decide.

use bowline_engine::machine::Address;
use bowline_engine::time::Time;
use bowline_protocols::http::{BodyLength, HttpHead, Method};
use bowline_protocols::http1::{BodyDecoder, HeadDecoder};

use crate::cluster::Message;
use crate::cluster::Place;
use crate::filter::Position;

use super::line::Line;
use super::load::Drain;

/// A request and its response on the way at a server's connection.
#[derive(Debug)]
pub struct Work {
    /// The client's connection.
    pub owner: Address,
    /// The request until it is written, and afterwards while it may have to be sent again or compared with.
    pub request: Option<Box<Message>>,
    /// Its number there.
    pub key: u32,
    /// Its room at the endpoint.
    pub place: Option<Place>,
    /// Its method, which decides whether the response has a body.
    pub method: Method,
    /// How its body is framed.
    pub length: BodyLength,
    /// Whether all of it was written or queued.
    pub request_ended: bool,
    /// Bytes of it that were queued so far, framing included.
    pub queued_bytes: u64,
    /// Looks for the head of the response.
    pub head: HeadDecoder,
    /// How far the response is.
    pub response: Response,
    /// The request may be sent again: nothing of it was written, or it only reads and was written to a connection that may
    /// have been stale.
    pub may_repeat: bool,
    /// Some byte of the response has come.
    pub answered: bool,
    /// The server keeps the connection after this response.
    pub keep_alive: bool,
    /// Interim responses so far.
    pub interims: u8,
    /// Bytes that may be sent to the owner; a piece may overdraw it.
    pub credit: i64,
    /// What the owner's pieces took of its credit and was not given back yet.
    pub owed_bytes: u32,
    /// Where trailers are read into.
    pub trailers: HttpHead,
}

/// How far a response is.
#[derive(Clone, Copy, Debug)]
pub enum Response {
    /// Its head has not come.
    Head,
    /// Its body comes.
    Body(BodyDecoder),
    /// It is over.
    Ended,
}

impl Default for Work {
    fn default() -> Work {
        Work {
            owner: Address::OUTSIDE,
            key: 0,
            request: None,
            place: None,
            method: Method::Get,
            length: BodyLength::None,
            request_ended: false,
            queued_bytes: 0,
            head: HeadDecoder::default(),
            response: Response::Head,
            may_repeat: true,
            answered: false,
            keep_alive: false,
            interims: 0,
            credit: 0,
            owed_bytes: 0,
            trailers: HttpHead::default(),
        }
    }
}

/// What exists only under load at a client's connection.
#[derive(Debug, Default)]
pub struct HttpLoad {
    /// Looks for the head of a request.
    pub head: HeadDecoder,
    /// When the first byte of the head came that is arriving; only at rest.
    pub head_began: Option<Time>,
    /// What it is in the middle of.
    pub phase: Phase,
    /// Where trailers are read into.
    pub trailers: HttpHead,
    /// How the connection is to end.
    pub drain: Option<Drain>,
}

/// What a client's connection is in the middle of. Each state owns what only it needs.
#[derive(Debug, Default)]
pub enum Phase {
    /// Nothing, or the head of the next request.
    #[default]
    Rest,
    /// A request that is coming, on its way or being answered.
    Exchange(HttpExchange),
    /// The client has not taken an answer that is over, and is not read until it has: since when, and how much of it was
    /// written since.
    Backlog(Time, u64),
    /// Nothing more is said; input is thrown away so that the client can read its last answer.
    Lingering(Lingering),
}

/// The time between the last byte of ours and the end of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Lingering {
    /// When it began, or began again, since its client was still taking what is queued.
    pub since: Time,
    /// Bytes that were queued then.
    pub queued: usize,
    /// Bytes that were thrown away.
    pub thrown: u64,
    /// It ends with a reset: to this client an end in order would make a cut answer whole.
    pub resets: bool,
}

impl HttpLoad {
    /// True if nothing is going on.
    pub fn is_empty(&self) -> bool {
        self.is_quiet() && self.drain.is_none()
    }

    /// True between two requests, with nothing of the next one there.
    pub fn is_quiet(&self) -> bool {
        self.head_began.is_none() && matches!(self.phase, Phase::Rest)
    }

    /// The request that is being answered.
    pub fn exchange(&self) -> Option<&HttpExchange> {
        if let Phase::Exchange(exchange) = &self.phase { Some(exchange) } else { None }
    }

    /// The same, to be changed.
    pub fn exchange_mut(&mut self) -> Option<&mut HttpExchange> {
        if let Phase::Exchange(exchange) = &mut self.phase { Some(exchange) } else { None }
    }

    /// Ends the exchange, if there is one: the connection is at rest afterwards.
    pub fn take_exchange(&mut self) -> Option<HttpExchange> {
        self.exchange()?;
        match std::mem::take(&mut self.phase) {
            Phase::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// The end that has begun.
    pub fn lingering(&self) -> Option<Lingering> {
        if let Phase::Lingering(lingering) = self.phase { Some(lingering) } else { None }
    }

    /// Since when the client has not taken an answer that is over, and how much of it was written since.
    pub fn backlog(&self) -> Option<(Time, u64)> {
        if let Phase::Backlog(since, taken) = self.phase { Some((since, taken)) } else { None }
    }
}

/// One request and its answer at a client's connection.
#[derive(Debug)]
pub struct HttpExchange {
    /// The server's connection; nothing for what this side answers, and while a filter holds the request.
    pub upstream: Option<Address>,
    /// The number under which that knows the request.
    pub key: u32,
    /// The method.
    pub method: Method,
    /// The client speaks HTTP/1.0.
    pub is_http10: bool,
    /// The client keeps the connection after this exchange.
    pub keep_alive: bool,
    /// Where the request's body ends.
    pub body: BodyDecoder,
    /// All of the request has come.
    pub request_ended: bool,
    /// The client asks for another protocol.
    pub asks_upgrade: bool,
    /// The client waits for a 100 before it sends its body.
    pub needs_continue: bool,
    /// Bytes of the body that may be sent; a piece may overdraw it.
    pub credit: i64,
    /// How far the answer is.
    pub answer: Answer,
    /// The cluster it went to, once its route has said one; none for what is answered here.
    pub cluster: Option<u16>,
    /// The route that it took.
    pub route: Option<u16>,
    /// Where it stands among the filters of the route.
    pub position: Position,
    /// The random number of its filters.
    pub random: u64,
    /// The first byte of the request.
    pub began: Time,
    /// When the head of the answer must be there; the time runs from the end of the request, or from when the server
    /// last took some of it.
    pub deadline: Time,
    /// How long the server has for that.
    pub timeout_ms: u64,
    /// The window over which the rate of the request's body is measured: since when, and how many bytes of it came.
    pub request_window: (Time, u64),
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// What the access line will say, while access lines are written.
    pub line: Option<Box<Line>>,
}

/// How far the answer to a client's request is. When all of it is queued the exchange is over.
#[derive(Debug)]
pub enum Answer {
    /// A filter holds the request, and when it goes on.
    Held(Box<Message>, Time),
    /// Nothing of it is here.
    Awaited,
    /// Its head has been queued, and its body comes.
    Begun(Begun),
}

/// The body of an answer on its way to the client.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// How it is framed here.
    pub length: BodyLength,
    /// What its pieces took of the server's credit and was not given back yet.
    pub owed_bytes: u32,
    /// The window over which its rate is measured: since when, and how many bytes of it were taken.
    pub window: (Time, u64),
}

impl HttpExchange {
    /// What of the answer is on its way; nothing before its head was queued.
    pub fn begun(&mut self) -> Option<&mut Begun> {
        if let Answer::Begun(begun) = &mut self.answer { Some(begun) } else { None }
    }

    /// Its request is on its way to a server, and no filter holds it back; the answer has not begun.
    pub fn is_asked(&self) -> bool {
        matches!(self.answer, Answer::Awaited)
    }

    /// The head of the answer has been queued.
    pub fn is_answered(&self) -> bool {
        matches!(self.answer, Answer::Begun(_))
    }
}
