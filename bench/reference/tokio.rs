//! The floor of the tokio mode, in the two shapes that come closest to raw: one current-thread runtime per core, or one
//! multi-thread runtime. A task per client reads and queues on a shared upstream connection, whose own two tasks write what
//! was queued meanwhile and bring answers back. No channel and no allocation per request. It ends when an upstream is lost.

mod http;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Poll;
use std::task::ready;
use std::thread;

use slab::Slab;
use tokio::io::AsyncRead;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc;

use super::RelayOptions;
use super::frames;
use super::frames::Start;
use super::lookout;
use super::lookout::Bell;
use super::lookout::Lookout;
use crate::host;
use crate::trouble::Trouble;
use crate::wire::Protocol;

use http::Pool;

/// Which shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Runtime {
    /// A runtime of its own for each thread.
    CurrentThread,
    /// One for all.
    MultiThread,
}

/// Relays until a signal, the end of its time or a lost upstream connection. `announce` is told where it listens.
pub fn run(
    options: &RelayOptions,
    runtime: Runtime,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), Trouble> {
    host::raise_descriptor_limit()?;
    let lookout = Lookout::new()?;
    let listener = crate::listen::listen(options.listen, options.reuseport)?;
    let address = listener.local_addr().map_err(Trouble::doing("asking for the bound address"))?;
    let streams =
        (0..options.threads).map(|_| lookout::dial(options)).collect::<Result<Vec<_>, Trouble>>()?;
    match runtime {
        Runtime::CurrentThread => current_thread(options, listener, streams, &lookout.bell()),
        Runtime::MultiThread => multi_thread(options, listener, streams, &lookout.bell()),
    }?;
    announce(address);
    lookout.wait(options.duration)
}

/// One runtime per upstream connection; the first accepts and deals clients out in turn.
fn current_thread(
    options: &RelayOptions,
    listener: std::net::TcpListener,
    streams: Vec<std::net::TcpStream>,
    bell: &Bell,
) -> Result<(), Trouble> {
    let mut listener = Some(listener);
    let (dealers, hands): (Vec<_>, Vec<_>) = streams.iter().map(|_| mpsc::unbounded_channel()).unzip();
    for (stream, mut hand) in streams.into_iter().zip(hands) {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(Trouble::doing("starting a runtime"))?;
        let (options, bell, listener, dealers) = (*options, bell.clone(), listener.take(), dealers.clone());
        thread::spawn(move || {
            let rings = bell.clone();
            let ended = runtime.block_on(async move {
                let way = Way::open(stream, &options, false, &bell)?;
                if let Some(listener) = listener {
                    tokio::spawn(or_ring(bell, accept(listener, Deal::Hands(dealers))));
                }
                while let Some(stream) = hand.recv().await {
                    way.serve(stream)?;
                }
                Ok(())
            });
            if let Err(trouble) = ended {
                rings.ring(trouble);
            }
        });
    }
    Ok(())
}

/// One runtime with as many threads as there are upstream connections.
fn multi_thread(
    options: &RelayOptions,
    listener: std::net::TcpListener,
    streams: Vec<std::net::TcpStream>,
    bell: &Bell,
) -> Result<(), Trouble> {
    let runtime = Builder::new_multi_thread().worker_threads(streams.len()).enable_io().build();
    let runtime = runtime.map_err(Trouble::doing("starting a runtime"))?;
    let (options, bell) = (*options, bell.clone());
    thread::spawn(move || {
        let rings = bell.clone();
        let ended = runtime.block_on(async move {
            let ways = streams.into_iter().map(|stream| Way::open(stream, &options, true, &bell));
            let ways = ways.collect::<Result<Vec<_>, Trouble>>()?;
            // In a task, since the thread that blocks here is none of the workers.
            let accepting = tokio::spawn(accept(listener, Deal::Tasks(ways))).await;
            accepting.unwrap_or_else(|error| Err(Trouble::Broken(error.to_string())))
        });
        if let Err(trouble) = ended {
            rings.ring(trouble);
        }
    });
    Ok(())
}

/// The way of requests to the backend.
enum Way {
    /// One connection for all.
    Bolt(Arc<Upstream>),
    /// One for each request in flight.
    Http(Arc<Pool>),
}

impl Way {
    fn open(
        stream: std::net::TcpStream,
        options: &RelayOptions,
        yields: bool,
        bell: &Bell,
    ) -> Result<Self, Trouble> {
        Ok(match options.protocol {
            Protocol::Http => Self::Http(Pool::open(stream, *options, bell)?),
            _ => Self::Bolt(Upstream::open(stream, yields, bell)?),
        })
    }

    fn serve(&self, stream: std::net::TcpStream) -> Result<(), Trouble> {
        match self {
            Self::Bolt(upstream) => serve(stream, upstream),
            Self::Http(pool) => http::serve(stream, pool),
        }
    }
}

/// Where accepted clients go, in turn.
enum Deal {
    /// To other runtimes.
    Hands(Vec<mpsc::UnboundedSender<std::net::TcpStream>>),
    /// To tasks of this one.
    Tasks(Vec<Way>),
}

async fn accept(listener: std::net::TcpListener, deal: Deal) -> Result<(), Trouble> {
    let listener = TcpListener::from_std(listener).map_err(Trouble::doing("waiting for connections"))?;
    for turn in 0usize.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(Trouble::doing("accepting a connection")(error)),
        };
        // Only latency suffers without it, so a peer that is gone already is no error here.
        let _ = stream.set_nodelay(true);
        let stream = stream.into_std().map_err(Trouble::doing("taking a connection in"))?;
        match &deal {
            Deal::Hands(hands) => {
                let dealt = hands[turn % hands.len()].send(stream);
                dealt.map_err(|_| Trouble::Broken("a runtime has ended".into()))?;
            }
            Deal::Tasks(ways) => ways[turn % ways.len()].serve(stream)?,
        }
    }
    Ok(())
}

/// Rings when a task ends with trouble.
async fn or_ring(bell: Bell, task: impl Future<Output = Result<(), Trouble>>) {
    if let Err(trouble) = task.await {
        bell.ring(trouble);
    }
}

/// One connection's socket and what it has not taken yet.
struct Side {
    stream: OwnedWriteHalf,
    queued: Mutex<Queued>,
}

#[derive(Default)]
struct Queued {
    bytes: Vec<u8>,
    written: usize,
    /// A task waits for room, and writes.
    waits: bool,
}

impl Side {
    /// With the half that its own task reads.
    fn new(stream: std::net::TcpStream) -> Result<(Self, OwnedReadHalf), Trouble> {
        let stream = TcpStream::from_std(stream).map_err(Trouble::doing("taking a connection in"))?;
        let (input, stream) = stream.into_split();
        Ok((Self { stream, queued: Mutex::default() }, input))
    }

    /// Writes what it takes now; true when that was all, an error when the connection is over.
    fn write_some(&self, queued: &mut Queued) -> io::Result<bool> {
        while queued.written < queued.bytes.len() {
            match self.stream.try_write(&queued.bytes[queued.written..]) {
                Ok(count) => queued.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        queued.written = 0;
        queued.bytes.clear();
        Ok(true)
    }

    /// Answers to a client: written at once, the rest by a task that waits for room.
    fn write_or_wait(self: &Arc<Self>) {
        let mut queued = lock(&self.queued);
        if queued.waits {
            return;
        }
        match self.write_some(&mut queued) {
            Ok(true) => queued.bytes.shrink_to(CLIENT_BYTES_KEPT),
            Ok(false) => {
                queued.waits = true;
                let side = self.clone();
                tokio::spawn(async move { side.write_rest().await });
            }
            // Its reading task sees the same and ends.
            Err(_) => queued.bytes = Vec::new(),
        }
    }

    async fn write_rest(&self) {
        while self.stream.writable().await.is_ok() {
            let mut queued = lock(&self.queued);
            if !matches!(self.write_some(&mut queued), Ok(false)) {
                *queued = Queued::default();
                return;
            }
        }
    }
}

/// A shared upstream connection.
struct Upstream {
    side: Side,
    waiting: Mutex<Slab<Waiting>>,
    /// Something was queued.
    work: Notify,
}

struct Waiting {
    client: Arc<Side>,
    id: u32,
}

impl Upstream {
    /// With its two tasks, in this runtime. `yields` collects more before a write, where a woken task would run next.
    fn open(stream: std::net::TcpStream, yields: bool, bell: &Bell) -> Result<Arc<Self>, Trouble> {
        let (side, input) = Side::new(stream)?;
        let upstream = Arc::new(Self { side, waiting: Mutex::default(), work: Notify::new() });
        let (writes, reads) = (upstream.clone(), upstream.clone());
        let (rings, bell) = (bell.clone(), bell.clone());
        tokio::spawn(async move {
            if writes.write_all(yields).await.is_err() {
                rings.ring(lost());
            }
        });
        tokio::spawn(async move {
            if reads.read_all(input).await.is_err() {
                bell.ring(lost());
            }
        });
        Ok(upstream)
    }

    async fn write_all(&self, yields: bool) -> io::Result<()> {
        let mut taken = Queued::default();
        loop {
            self.work.notified().await;
            if yields {
                tokio::task::yield_now().await;
            }
            std::mem::swap(&mut taken.bytes, &mut lock(&self.side.queued).bytes);
            while !self.side.write_some(&mut taken)? {
                self.side.stream.writable().await?;
            }
            if taken.bytes.capacity() > OUT_BYTES_KEPT {
                taken.bytes = Vec::new();
            }
        }
    }

    async fn read_all(&self, mut input: OwnedReadHalf) -> io::Result<()> {
        let mut inbox = Inbox::default();
        let mut touched: Vec<Arc<Side>> = Vec::new();
        loop {
            let deal = |frame: &frames::Frame, bytes: &[u8]| {
                let waiting = lock(&self.waiting).try_remove(frames::id_of(frame, bytes) as usize);
                let Some(Waiting { client, id }) = waiting else { return };
                let mut queued = lock(&client.queued);
                let was_empty = queued.bytes.is_empty();
                frames::append_with_id(frame, bytes, id, &mut queued.bytes);
                drop(queued);
                if was_empty {
                    touched.push(client);
                }
            };
            inbox.read(&mut input, deal).await?;
            for client in touched.drain(..) {
                client.write_or_wait();
            }
        }
    }
}

fn lost() -> Trouble {
    Trouble::Broken("an upstream connection was lost".into())
}

/// Starts the task of a client.
fn serve(stream: std::net::TcpStream, upstream: &Arc<Upstream>) -> Result<(), Trouble> {
    let (client, input) = Side::new(stream)?;
    let client = Arc::new(client);
    let upstream = upstream.clone();
    // A client that ends, however, is no trouble.
    tokio::spawn(async move { client_task(&client, input, &upstream).await });
    Ok(())
}

async fn client_task(client: &Arc<Side>, mut input: OwnedReadHalf, upstream: &Upstream) -> io::Result<()> {
    let mut inbox = Inbox::default();
    loop {
        let mut acks = false;
        let mut was_empty = false;
        let pass = |frame: &frames::Frame, bytes: &[u8]| {
            if frame.is_heartbeat && frame.is_request {
                frames::append_ack(frame, bytes, &mut lock(&client.queued).bytes);
                acks = true;
            } else if frame.is_request {
                let waiting = Waiting { client: client.clone(), id: frames::id_of(frame, bytes) };
                let id = lock(&upstream.waiting).insert(waiting) as u32;
                let mut queued = lock(&upstream.side.queued);
                was_empty |= queued.bytes.is_empty();
                frames::append_with_id(frame, bytes, id, &mut queued.bytes);
            }
        };
        inbox.read(&mut input, pass).await?;
        if acks {
            client.write_or_wait();
        }
        if was_empty {
            upstream.work.notify_one();
        }
        if lock(&client.queued).bytes.len() > QUEUED_BYTES_MAX
            || lock(&upstream.side.queued).bytes.len() > QUEUED_BYTES_MAX
        {
            return Err(io::Error::other("it does not take its answers"));
        }
    }
}

/// The beginning of a frame that one connection sent.
#[derive(Default)]
struct Inbox {
    partial: Vec<u8>,
}

impl Inbox {
    /// Waits for bytes and hands out the whole frames that they complete; an error for what is no Bolt, and at the end.
    async fn read(
        &mut self,
        stream: &mut OwnedReadHalf,
        mut each: impl FnMut(&frames::Frame, &[u8]),
    ) -> io::Result<()> {
        // By `poll_read`, which takes a short read for the end of what is there: `try_read` would ask once more.
        poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(self.take(buffer.filled(), &mut each))
            })
        })
        .await
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(&frames::Frame, &[u8])) -> io::Result<()> {
        if self.partial.is_empty() {
            let used = cut(bytes, each)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.partial.extend_from_slice(bytes);
        let used = cut(&self.partial, each)?;
        self.partial.drain(..used);
        Ok(())
    }
}

/// How many bytes the whole frames at the beginning took.
fn cut(bytes: &[u8], each: &mut impl FnMut(&frames::Frame, &[u8])) -> io::Result<usize> {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        match frames::first(rest) {
            Start::Frame(frame) => {
                each(&frame, &rest[..frame.bytes]);
                used += frame.bytes;
            }
            Start::Partial => return Ok(used),
            Start::Foreign => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; READ_BYTES]);
}

const READ_BYTES: usize = 64 << 10;
const OUT_BYTES_KEPT: usize = 1 << 20;
const CLIENT_BYTES_KEPT: usize = 4 << 10;
const QUEUED_BYTES_MAX: usize = 64 << 20;
