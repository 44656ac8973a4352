//! The socket of one connection under tokio: reads and writes that remember what they learned about readiness, and a
//! watch for errors while nothing is read.
//!
//! It calls the system only when tokio's readiness says that something is there, and treats a short read or write as
//! the end of readiness, which edge-triggered epoll allows, as tokio's own streams do; like theirs, a read that ended short
//! because of urgent data leaves what lies behind it until more arrives (the raw mode asks for urgent data). It knows neither machines nor slots. Called by the task.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Shutdown, TcpStream as StdStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys;

/// Room for what a closing connection throws away at once.
const SCRATCH_BYTES: usize = 8 << 10;

type Watch = Pin<Box<dyn Future<Output = ()>>>;

/// A socket that belongs to this thread's runtime.
pub(crate) struct Socket {
    stream: Rc<TcpStream>,
    /// Waits for an error; there only while nothing is read.
    watch: Option<Watch>,
    /// The watch has ended: tokio keeps that readiness for ever, so it is not asked twice.
    watched: bool,
}

impl Socket {
    /// Takes a non-blocking socket into the runtime of this thread.
    pub(crate) fn new(stream: StdStream) -> io::Result<Socket> {
        Ok(Socket { stream: Rc::new(TcpStream::from_std(stream)?), watch: None, watched: false })
    }

    /// Reads, if something may be there.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let result = self.stream.try_read(bytes);
        if matches!(result, Ok(count) if 0 < count && count < bytes.len()) {
            self.forget(Interest::READABLE);
        }
        result
    }

    /// Writes what the socket takes.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // One range alone is sent without the kernel's work for a list.
        let result = match slices {
            [only] => self.stream.try_write(only),
            _ => self.stream.try_write_vectored(slices),
        };
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        if matches!(result, Ok(count) if 0 < count && count < asked) {
            self.forget(Interest::WRITABLE);
        }
        result
    }

    /// The next event will say when there is more to do: a short read or write has used up what was there.
    fn forget(&self, interest: Interest) {
        let _ = self.stream.try_io(interest, || Err::<(), _>(ErrorKind::WouldBlock.into()));
    }

    /// True if a read may succeed; else the task is woken when it may.
    pub(crate) fn is_readable(&mut self, context: &mut Context<'_>) -> bool {
        self.watch = None;
        self.stream.poll_read_ready(context).is_ready()
    }

    /// True if a write may succeed; else the task is woken when it may.
    pub(crate) fn is_writable(&self, context: &mut Context<'_>) -> bool {
        self.stream.poll_write_ready(context).is_ready()
    }

    /// True, once, if the connection broke; else the task is woken when it does. For a connection that is not read.
    pub(crate) fn is_broken(&mut self, context: &mut Context<'_>) -> bool {
        if self.watched {
            return false;
        }
        let watch = self.watch.get_or_insert_with(|| {
            let stream = Rc::clone(&self.stream);
            Box::pin(async move {
                // An error of the runtime itself means that it ends, and this task with it.
                let _ = stream.ready(Interest::ERROR).await;
            })
        });
        let broken = watch.as_mut().poll(context).is_ready();
        if broken {
            self.watch = None;
            self.watched = true;
        }
        broken
    }

    /// The error that the system holds for this socket, if any.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.stream.take_error().unwrap_or_else(Some)
    }

    /// How the connect ended: nothing yet, established, or failed.
    pub(crate) fn connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_writable(context) {
            return Poll::Pending;
        }
        Poll::Ready(self.take_error().map_or(Ok(()), Err))
    }

    /// Sends FIN.
    pub(crate) fn shutdown_write(&self) {
        // It fails only on a connection that is broken, which the next read or the watch reports.
        let _ = SockRef::from(&*self.stream).shutdown(Shutdown::Write);
    }

    /// Closes in order, or with a reset.
    pub(crate) fn close(self, abort: bool) {
        drop(self.watch);
        let stream = Rc::into_inner(self.stream).expect("the watch was the only other owner");
        let Ok(stream) = stream.into_std() else { return };
        if abort {
            sys::socket::reset_on_close(&stream);
        } else {
            sys::socket::close(stream, &mut [0; SCRATCH_BYTES]);
        }
    }
}
