//! The HTTP/1.1 shape of the tokio relay: a task per client waits for a whole request, takes an upstream connection out of its
//! runtime's keep-alive pool, passes the request on as it came and brings the answer back. One request of a client at a time,
//! so answers are in order. Started by `tokio` for each client.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::BUFFER;
use super::CLIENT_BYTES_KEPT;
use super::QUEUED_BYTES_MAX;
use super::lock;
use super::lost;
use crate::http;
use crate::http::Start;
use crate::reference::RelayOptions;
use crate::reference::lookout;
use crate::reference::lookout::Bell;
use crate::trouble::Trouble;

/// Upstream connections that nobody uses.
pub(super) struct Pool {
    options: RelayOptions,
    idle: Mutex<Vec<Half>>,
    bell: Bell,
}

/// One connection with what arrived on it and is no whole message.
struct Half {
    stream: TcpStream,
    partial: Vec<u8>,
}

impl Pool {
    /// A pool with a first connection, in this runtime.
    pub(super) fn open(
        stream: std::net::TcpStream,
        options: RelayOptions,
        bell: &Bell,
    ) -> Result<Arc<Self>, Trouble> {
        let idle = Mutex::new(vec![Half::new(stream)?]);
        Ok(Arc::new(Self { options, idle, bell: bell.clone() }))
    }

    fn take(&self) -> Result<Half, Trouble> {
        let idle = lock(&self.idle).pop();
        idle.map_or_else(|| Half::new(lookout::dial(&self.options)?), Ok)
    }
}

impl Half {
    fn new(stream: std::net::TcpStream) -> Result<Self, Trouble> {
        let stream = TcpStream::from_std(stream).map_err(Trouble::doing("taking a connection in"))?;
        Ok(Self { stream, partial: Vec::new() })
    }

    /// Waits for a whole message and moves it to `out`; an error for what cannot be read, and at the end.
    async fn read(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        loop {
            match http::first(&self.partial) {
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
                Ok(Start::Message(message)) => {
                    let bytes = message.bytes;
                    out.extend(self.partial.drain(..bytes));
                    self.partial.shrink_to(CLIENT_BYTES_KEPT);
                    return Ok(());
                }
                Ok(Start::Need(need)) if need > QUEUED_BYTES_MAX => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(Start::Need(need)) => self.fill(need).await?,
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until so many bytes are there.
    async fn fill(&mut self, need: usize) -> io::Result<()> {
        while self.partial.len() < need {
            poll_fn(|context| {
                BUFFER.with_borrow_mut(|buffer| {
                    let mut buffer = ReadBuf::new(buffer);
                    ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
                    if buffer.filled().is_empty() {
                        return io::Result::Err(io::ErrorKind::UnexpectedEof.into()).into();
                    }
                    self.partial.extend_from_slice(buffer.filled());
                    Ok(()).into()
                })
            })
            .await?;
        }
        Ok(())
    }
}

/// Starts the task of a client.
pub(super) fn serve(stream: std::net::TcpStream, pool: &Arc<Pool>) -> Result<(), Trouble> {
    let client = Half::new(stream)?;
    let pool = pool.clone();
    tokio::spawn(async move {
        if let Err(trouble) = client_task(client, &pool).await {
            pool.bell.ring(trouble);
        }
    });
    Ok(())
}

/// A client that ends is no trouble; an upstream connection that does is.
async fn client_task(mut client: Half, pool: &Pool) -> Result<(), Trouble> {
    let mut message = Vec::new();
    while client.read(&mut message).await.is_ok() {
        let mut upstream = pool.take()?;
        upstream.write(&message).await.map_err(|_| lost())?;
        message.clear();
        upstream.read(&mut message).await.map_err(|_| lost())?;
        lock(&pool.idle).push(upstream);
        if client.write(&message).await.is_err() {
            break;
        }
        message.clear();
        message.shrink_to(CLIENT_BYTES_KEPT);
    }
    Ok(())
}
