//! Owns the main thread of a relay: it waits for a signal, for the end of the relay's time or for trouble in a thread, while
//! the threads relay. They end with the process.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use mio::Events;
use mio::Poll;
use mio::Token;
use mio::Waker;

use crate::clock::Alarm;
use crate::clock::Clock;
use crate::host::Signals;
use crate::trouble::Trouble;

/// Waits on the main thread. It takes SIGTERM and SIGINT of this thread and of those that it starts later.
#[derive(Debug)]
pub struct Lookout {
    poll: Poll,
    signals: Signals,
    bell: Bell,
}

/// Tells the main thread that a thread cannot go on.
#[derive(Clone, Debug)]
pub struct Bell {
    waker: Arc<Waker>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Bell {
    /// Ends the relay with this; the first one counts.
    pub fn ring(&self, trouble: Trouble) {
        let mut first = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(trouble);
        // Without it the main thread would only see the trouble at the end of its time; there is nobody else to tell.
        let _ = self.waker.wake();
    }
}

impl Lookout {
    /// Takes the signals.
    pub fn new() -> Result<Self, Trouble> {
        let poll = Poll::new().map_err(Trouble::doing("opening a poll"))?;
        let signals = Signals::new()?;
        signals.register(poll.registry(), SIGNAL)?;
        let waker = Waker::new(poll.registry(), BELL).map_err(Trouble::doing("opening a wakeup"))?;
        let bell = Bell { waker: Arc::new(waker), trouble: Arc::default() };
        Ok(Self { poll, signals, bell })
    }

    /// For the threads.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits for a signal, for `duration` or for trouble.
    pub fn wait(mut self, duration: Option<Duration>) -> Result<(), Trouble> {
        let clock = Clock::start();
        let end_ns = duration.map_or(u64::MAX, |duration| duration.as_nanos() as u64);
        let mut alarm = Alarm::new(self.poll.registry(), ALARM)?;
        if duration.is_some() {
            alarm.set(clock.now_ns(), end_ns)?;
        }
        let mut events = Events::with_capacity(4);
        while clock.now_ns() < end_ns && !self.signals.take() {
            if let Some(trouble) = self.bell.trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(trouble);
            }
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other.map_err(Trouble::doing("waiting for the end"))?,
            }
        }
        Ok(())
    }
}

/// The upstream connection of one thread.
pub fn dial(options: &super::RelayOptions) -> Result<std::net::TcpStream, Trouble> {
    let open = || {
        let stream = std::net::TcpStream::connect_timeout(&options.to, CONNECT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    open().map_err(Trouble::doing::<io::Error>(format!("connecting to {}", options.to)))
}

const SIGNAL: Token = Token(0);
const BELL: Token = Token(1);
const ALARM: Token = Token(2);
const CONNECT_MAX: Duration = Duration::from_secs(5);
