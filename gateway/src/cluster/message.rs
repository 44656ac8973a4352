//! An HTTP message on its way from one connection to the other: its head and what came in the same read. Boxes of it are
//! used again by workers, so a warm gateway allocates none. It sends nothing.

use bowline_engine::buf::Piece;
use bowline_protocols::http::HttpHead;

use super::place::Place;

/// A message, or its beginning.
#[derive(Debug, Default)]
pub struct Message {
    /// The head.
    pub head: HttpHead,
    /// The first piece of the body, if there is one.
    pub body: Option<Piece>,
    /// True if nothing of the message follows by other mail.
    pub ends: bool,
    /// The request's number, or that of the request that it answers, as the client's connection counts them.
    pub key: u32,
    /// Of a request: the room it takes at its endpoint.
    pub place: Option<Place>,
    /// Of a request: how often it was sent before and came back.
    pub attempts: u8,
    /// Of a request: it takes no connection that was used before.
    pub fresh: bool,
}

impl Message {
    /// Empties it for another.
    pub fn clear(&mut self) {
        self.head.clear();
        (self.body, self.place) = (None, None);
        (self.ends, self.key, self.attempts, self.fresh) = (false, 0, 0, false);
    }
}
