//! Owns the reading of a child's output: lines that can be awaited with a deadline, and text that is kept for the report
//! of a failure. Refuses to keep more than a bound. Used for the gateway and for the interop peers.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};

use crate::wait::PATIENCE;

/// How much of a child's text is kept; what comes after is read and dropped.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// The lines of a stream, in order.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    /// Reads `stream` on a thread of its own until it ends.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; nothing once the stream has ended.
    ///
    /// # Panics
    /// When neither comes within four times [`PATIENCE`]: a peer on a busy machine starts slowly.
    pub fn next_line(&self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE * 4) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {:?}", PATIENCE * 4),
        }
    }
}

/// What a stream has said so far.
#[derive(Clone, Debug)]
pub struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    /// Reads `stream` on a thread of its own until it ends.
    pub fn of(mut stream: impl Read + Send + 'static) -> Self {
        let text = Self(Arc::default());
        let kept = text.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                let mut bytes = kept.0.lock().expect("no reader panics");
                let room = TEXT_BYTES_MAX.saturating_sub(bytes.len());
                bytes.extend_from_slice(&chunk[..length.min(room)]);
            }
        });
        text
    }

    /// All of it.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no reader panics")).into_owned()
    }
}
