//! The HTTP/1.1 shape of the epoll relay: finds where messages with a length end, changes none of their bytes, and gives each
//! client whose requests are unanswered an upstream connection of its own out of its thread's keep-alive pool. Pipelined
//! requests follow each other on that connection, so answers come back in order. Called by the threads of `epoll`.

use std::sync::Arc;

use slab::Slab;

use super::Connection;
use super::QUEUED_BYTES_MAX;
use super::Thread;
use super::lock;
use crate::http;
use crate::http::Start;
use crate::reference::lookout;
use crate::trouble::Trouble;

/// Whom an upstream connection works for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loan {
    /// The client, by its token.
    client: u64,
    /// Its unanswered requests; nobody has the connection when there are none.
    open: usize,
}

impl Thread {
    /// Queues whole requests on the client's upstream connection; says how many bytes they took, nothing for what this relay
    /// cannot pass on.
    pub(super) fn pass_http_requests(
        &mut self,
        client: &Arc<Connection>,
        bytes: &[u8],
    ) -> Result<Option<usize>, Trouble> {
        let Some((used, count)) = whole(bytes) else { return Ok(None) };
        if count == 0 {
            return Ok(Some(0));
        }
        let upstream = self.lend(client, count)?;
        let mut out = lock(&upstream.output);
        out.bytes.extend_from_slice(&bytes[..used]);
        self.note_dirty(&upstream, &mut out);
        Ok((out.bytes.len() - out.written <= QUEUED_BYTES_MAX).then_some(used))
    }

    /// The upstream connection that has the client's unanswered requests, or one that nobody has.
    fn lend(&mut self, client: &Arc<Connection>, count: usize) -> Result<Arc<Connection>, Trouble> {
        let lender = lock(&client.output).lender.and_then(|token| self.relay.find(token));
        if let Some(upstream) = lender {
            let loan = &mut lock(&upstream.output).loan;
            if loan.client == client.token && loan.open > 0 {
                loan.open += count;
                return Ok(upstream.clone());
            }
        }
        let upstream = match self.pool.pop() {
            Some(upstream) => upstream,
            None => self.relay.seat(lookout::dial(&self.options)?, self.index, Some(Slab::new()))?,
        };
        lock(&upstream.output).loan = Loan { client: client.token, open: count };
        lock(&client.output).lender = Some(upstream.token);
        Ok(upstream)
    }

    /// Queues whole answers where their requests came from; the last one frees the connection for others.
    pub(super) fn pass_http_answers(&mut self, upstream: &Arc<Connection>, bytes: &[u8]) -> Option<usize> {
        let (used, count) = whole(bytes)?;
        // Held to the end: the client's next request finds the loan over only when these answers are queued.
        let mut from = lock(&upstream.output);
        from.loan.open = from.loan.open.checked_sub(count)?;
        // Nobody waits any more when the client has closed.
        if let (Some(client), true) = (self.relay.find(from.loan.client), count > 0) {
            let mut out = lock(&client.output);
            out.bytes.extend_from_slice(&bytes[..used]);
            self.note_dirty(&client, &mut out);
        }
        if count > 0 && from.loan.open == 0 {
            self.pool.push(upstream.clone());
        }
        Some(used)
    }
}

/// How many bytes the whole messages at the beginning take, and how many they are; nothing for what cannot be read.
fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut used, mut count) = (0, 0);
    while used < bytes.len() {
        match http::first(&bytes[used..]).ok()? {
            Start::Message(message) => used += message.bytes,
            Start::Need(_) => break,
        }
        count += 1;
    }
    Some((used, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_counted_and_the_rest_waits() {
        let mut sent = Vec::new();
        http::append_answer(b"abc", &mut sent);
        let one = sent.len();
        http::append_answer(b"", &mut sent);
        let two = sent.len();
        assert_eq!(whole(&sent), Some((two, 2)));
        assert_eq!(whole(&sent[..two - 1]), Some((one, 1)));
        assert_eq!(whole(&sent[..one - 1]), Some((0, 0)));
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), None);
    }
}
