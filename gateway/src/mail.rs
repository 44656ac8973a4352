//! What machines send each other. A run of whole frames for one receiver travels as one mail, and inside mail the id
//! field of every frame carries the exchange's key: the downstream connection knows the client's id, the upstream
//! connection the server's, and neither has to tell the other.
//!
//! Nothing here decides anything. Control mail is bounded: per exchange at most one cancel and one failure (X5).

use bowline_engine::buf::Piece;
use bowline_engine::time::Time;
use bowline_protocols::http::HttpHead;

use crate::cluster::Message;
use crate::cluster::Place;
use crate::error::CloseReason;
use crate::error::Failure;

/// Whole frames of one kind for one receiver, in order.
#[derive(Debug)]
pub struct Run {
    /// The frames.
    pub piece: Piece,
    /// How many.
    pub frames: u16,
    /// The cluster that they were routed to.
    pub cluster: u16,
    /// How often they were sent before and came back unwritten.
    pub attempts: u8,
}

/// Mail between machines, and from the control plane.
#[derive(Debug)]
pub enum Mail {
    /// Downstream to upstream: requests, each with its key as id, and their places. Oneway ones have no key.
    Requests {
        /// The frames.
        run: Run,
        /// Room for them at the endpoint.
        place: Place,
    },
    /// Upstream to downstream: replies, each with the key of its exchange as id.
    Replies {
        /// The frames.
        piece: Piece,
        /// How many.
        frames: u16,
    },
    /// Upstream to downstream: no byte of these requests was written.
    Unsent {
        /// The frames, as they were sent.
        run: Run,
        /// What to answer if they are not tried elsewhere.
        why: Failure,
    },
    /// Upstream to downstream: the exchange failed after its request was written.
    Failed {
        /// Its key.
        key: u32,
        /// Why.
        why: Failure,
    },
    /// Upstream to downstream: oneway requests were written.
    Written {
        /// How many.
        frames: u32,
        /// Their bytes.
        bytes: u32,
    },
    /// Downstream to upstream: nobody waits for the reply any more.
    Cancel {
        /// The key; nothing for all exchanges of the sender.
        key: Option<u32>,
    },
    /// Bound upstream to its downstream: a request of the server, with the server's id.
    Callback {
        /// The frame.
        piece: Piece,
    },
    /// Downstream to bound upstream: the answer to a callback, with the server's id.
    CallbackReply {
        /// The frame; nothing if there was no memory for one.
        piece: Option<Piece>,
    },
    /// Bound upstream to its downstream: it takes no new requests.
    Leaving,
    /// Bound upstream to its downstream: it is gone, and nothing of it will come any more.
    Left {
        /// True if it had not announced that, so that its client's session is lost.
        lost: bool,
    },
    /// Downstream to bound upstream: read on, or do not.
    Pace {
        /// Whether to read.
        reading: bool,
    },
    /// HTTP, downstream to upstream: a request, or its beginning.
    HttpRequest {
        /// Its head, with what came behind it.
        message: Box<Message>,
    },
    /// HTTP, upstream to downstream: no byte of this request was processed, so it may be sent again.
    HttpUnsent {
        /// The request.
        message: Box<Message>,
        /// What to answer if it is not.
        why: Failure,
    },
    /// HTTP, upstream to downstream: a response, or its beginning; or an interim one.
    HttpResponse {
        /// Its head, with what came behind it.
        message: Box<Message>,
    },
    /// HTTP, both ways: more of a body.
    HttpBody {
        /// The request's number, as its client's connection counts them: a late word about one is not taken for the next.
        key: u32,
        /// The bytes, without framing.
        piece: Piece,
        /// True if nothing of the message follows.
        ends: bool,
    },
    /// HTTP, both ways: a body has ended.
    HttpEnd {
        /// The request's number.
        key: u32,
        /// The fields behind it.
        trailers: Option<Box<HttpHead>>,
    },
    /// HTTP, upstream to downstream: the exchange failed after some of its request was written.
    HttpFailed {
        /// The request's number.
        key: u32,
        /// Why.
        why: Failure,
    },
    /// HTTP, both ways: so much of what a body took was written, so much more may be sent.
    HttpCredit {
        /// The request's number.
        key: u32,
        /// How much.
        bytes: u32,
    },
    /// The other side of a bound pair or a tunnel is gone.
    PartnerGone,
    /// Tunnel: the connection to the upstream is there.
    TunnelOpened,
    /// Tunnel: the upstream could not be reached.
    TunnelFailed {
        /// Why not.
        why: CloseReason,
    },
    /// Tunnel: bytes.
    Data {
        /// The bytes.
        piece: Piece,
    },
    /// Tunnel: so many bytes were written, so many more may be sent.
    Credit {
        /// How many.
        bytes: u32,
    },
    /// Tunnel: the sender's peer will send no more.
    End,
    /// Tunnel of a WebSocket, client's side to server's: the client was told that it ends, and is to answer.
    Farewell,
    /// Downstream to downstream: memory is at its ceiling, and the receiver's output queue is the longest.
    Shed,
    /// From the control plane: end at a quiet point, at the latest at `deadline`.
    Drain {
        /// When everything must have ended.
        deadline: Time,
    },
}

const _: () = assert!(size_of::<Mail>() <= 64, "mail is moved by value through inboxes");
