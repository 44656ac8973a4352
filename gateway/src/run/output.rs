//! Writes a line to a descriptor whose reader may be asleep: it asks before each piece whether there is room, and gives
//! up where there is none. The main thread must never wait for a reader, or it would be deaf to signals. Called where the
//! ready line is written.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::BorrowedFd;

use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;

/// Writes `line` and a line break, or as much of it as there is room for.
pub(super) fn say(out: BorrowedFd<'_>, line: &str) -> io::Result<()> {
    // A copy of the descriptor without a buffer: the end of the process would wait for what is left in one.
    let mut unbuffered = File::from(out.try_clone_to_owned()?);
    for piece in format!("{line}\n").as_bytes().chunks(PIECE_BYTES) {
        if !has_room(out)? {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "its reader is slow and the pipe is full"));
        }
        unbuffered.write_all(piece)?;
    }
    Ok(())
}

/// `PIPE_BUF`: a pipe that polls writable takes that much at once.
const PIECE_BYTES: usize = 4_096;
/// How long a reader may take to make room.
const PATIENCE_MS: u8 = 100;

fn has_room(out: BorrowedFd<'_>) -> io::Result<bool> {
    let ready = poll(&mut [PollFd::new(out, PollFlags::POLLOUT)], PollTimeout::from(PATIENCE_MS))?;
    // A pipe without a reader counts too: writing to it says so.
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_line_longer_than_one_piece_arrives_whole() {
        let (mut reader, writer) = io::pipe().expect("descriptors are left");
        let line = "x".repeat(3 * PIECE_BYTES);
        say(writer.as_fd(), &line).expect("there is room");
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("text");
        assert_eq!(read, line + "\n");
    }

    #[test]
    fn a_pipe_that_is_full_or_has_no_reader_is_an_error_and_no_wait() {
        let (reader, mut writer) = io::pipe().expect("descriptors are left");
        while has_room(writer.as_fd()).expect("it can be asked") {
            writer.write_all(&[0; PIECE_BYTES]).expect("there is room");
        }
        let error = say(writer.as_fd(), "ready").expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(reader);
        let error = say(writer.as_fd(), "ready").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
