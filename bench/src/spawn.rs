//! Owns the processes that a run starts: gateway, backend, more load generators. Each ends with us, whatever ends us: it is
//! started through `bowline-bench guard`, which asks the kernel for that and then becomes the program. Only the main thread
//! may start them. Every wait has a deadline.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use bowline_protocols::bolt;
use bowline_protocols::bolt::Version;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

use crate::host;
use crate::http;
use crate::trouble::Trouble;
use crate::wire::Protocol;

/// A running child process.
#[derive(Debug)]
pub struct Spawned {
    name: String,
    command: String,
    child: Child,
    lines: Receiver<String>,
    ended: bool,
}

impl Spawned {
    /// Starts `program` so that it ends with us. `bench` is the path of `bowline-bench` itself.
    pub fn start(bench: &Path, name: &str, program: &Path, arguments: &[OsString]) -> Result<Self, Trouble> {
        Self::start_with(bench, name, program, arguments, Stdio::inherit())
    }

    /// The same with what it says on standard error appended to a file.
    pub fn start_logged(
        bench: &Path,
        name: &str,
        program: &Path,
        arguments: &[OsString],
        log: &Path,
    ) -> Result<Self, Trouble> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(Trouble::doing(format!("opening {}", log.display())))?;
        Self::start_with(bench, name, program, arguments, Stdio::from(file))
    }

    fn start_with(
        bench: &Path,
        name: &str,
        program: &Path,
        arguments: &[OsString],
        errors: Stdio,
    ) -> Result<Self, Trouble> {
        if !program.is_file() && program.components().count() > 1 {
            return Err(Trouble::Asked(format!("{}: no such program", program.display())));
        }
        let mut child = Command::new(bench)
            .arg("guard")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(Trouble::doing(format!("starting {name}")))?;
        let Some(output) = child.stdout.take() else {
            return Err(Trouble::Broken(format!("{name} has no standard output")));
        };
        let (sender, lines) = sync_channel(LINES_MAX);
        // It ends with the child's output. What nobody takes is dropped, so that the child is never blocked by us.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let shown = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        let command = shown.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Ok(Self { name: name.into(), command, child, lines, ended: false })
    }

    /// What was started, as one would type it.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    pub fn next_line(&self, patience: Duration) -> Result<String, Trouble> {
        self.lines.recv_timeout(patience).map_err(|error| {
            Trouble::Broken(match error {
                RecvTimeoutError::Timeout => {
                    format!("{} said nothing for {} s", self.name, patience.as_secs())
                }
                RecvTimeoutError::Disconnected => {
                    format!("{} ended without the line that was waited for", self.name)
                }
            })
        })
    }

    /// Where it listens, from the line that says that it is ready.
    pub fn ready(&self) -> Result<Ready, Trouble> {
        let line = self.next_line(READY_MAX)?;
        parse_ready(&line)
            .ok_or_else(|| Trouble::Broken(format!("{} is not ready, it said: {line}", self.name)))
    }

    /// Waits until a program that says nothing when it is ready carries a heartbeat and its answer. That it takes connections
    /// is not enough: some do before they know where to.
    pub fn wait_until_answers(&mut self, address: SocketAddr, protocol: Protocol) -> Result<(), Trouble> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if probe(address, protocol).is_ok() {
                return Ok(());
            }
            if self.has_ended()? {
                return Err(Trouble::Broken(format!("{} ended instead of being ready", self.name)));
            }
            thread::sleep(STEP);
        }
        Err(Trouble::Broken(format!("{} brings no answer at {address}", self.name)))
    }

    /// Writes one line to its standard input.
    pub fn tell(&mut self, line: &str) -> Result<(), Trouble> {
        let told = self.child.stdin.as_mut().map_or(Ok(()), |input| writeln!(input, "{line}"));
        told.map_err(Trouble::doing(format!("telling {} to {line}", self.name)))
    }

    /// Sends a signal and waits for the end; kills it when that takes too long.
    pub fn stop(&mut self, signal: Signal) -> Result<(), Trouble> {
        // It may be gone already, which is what we want.
        let _ = kill(Pid::from_raw(self.pid() as i32), signal);
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if self.has_ended()? {
                return Ok(());
            }
            thread::sleep(STEP);
        }
        self.kill();
        Err(Trouble::Broken(format!("{} did not end within {} s of {signal}", self.name, STOP_MAX.as_secs())))
    }

    fn has_ended(&mut self) -> Result<bool, Trouble> {
        if !self.ended {
            let status =
                self.child.try_wait().map_err(Trouble::doing(format!("waiting for {}", self.name)))?;
            self.ended = status.is_some();
        }
        Ok(self.ended)
    }

    fn kill(&mut self) {
        if !self.ended {
            // Both fail only when it has ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.ended = true;
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One heartbeat, or one request of HTTP, there and back.
fn probe(address: SocketAddr, protocol: Protocol) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_MAX)?;
    stream.set_read_timeout(Some(PROBE_MAX))?;
    match protocol {
        Protocol::Bolt => {
            let mut frame = [0; bolt::encode::CONTROL_BYTES_MAX];
            let bytes = bolt::encode_heartbeat(Version::V1, PROBE_ID, &mut frame);
            stream.write_all(&frame[..bytes])?;
            stream.read_exact(&mut [0; 1])
        }
        Protocol::Http | Protocol::Websocket => {
            let mut request = Vec::new();
            http::append_get(&http::fields(&[]), 0, PROBE_ID, 0, &mut request);
            stream.write_all(&request)?;
            let mut status = [0; PROBE_OK.len()];
            stream.read_exact(&mut status)?;
            // A proxy that does not reach its backend yet answers by itself.
            if status == *PROBE_OK { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        }
    }
}

/// Where a process that is ready listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its first listener.
    pub address: SocketAddr,
    /// Its admin interface, if it has one.
    pub admin: Option<SocketAddr>,
}

/// From a line like `{"event":"ready","listeners":[{"address":"127.0.0.1:1"}],"admin":"127.0.0.1:2"}`.
fn parse_ready(line: &str) -> Option<Ready> {
    let ready: Value = serde_json::from_str(line).ok()?;
    if ready.get("event")? != "ready" {
        return None;
    }
    let address = ready.pointer("/listeners/0/address")?.as_str()?.parse().ok()?;
    let admin = ready.get("admin").and_then(Value::as_str).and_then(|admin| admin.parse().ok());
    Some(Ready { address, admin })
}

/// Asks the kernel to end this process with its parent, then becomes `program`. Returns only on failure.
pub fn guard(parent: u32, program: &[OsString]) -> Trouble {
    let Some((name, arguments)) = program.split_first() else {
        return Trouble::Asked("guard: no program".into());
    };
    // The program decides about signals by itself, and may not know how to end when it is asked to.
    if let Err(trouble) =
        host::end_with_parent(parent, Signal::SIGKILL).and_then(|()| host::unblock_signals())
    {
        return trouble;
    }
    let error = Command::new(name).args(arguments).exec();
    Trouble::doing(format!("starting {}", name.display()))(error)
}

const LINES_MAX: usize = 1_024;
const READY_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(10);
const PROBE_MAX: Duration = Duration::from_millis(500);
const PROBE_ID: u32 = 1;
const PROBE_OK: &[u8; 12] = b"HTTP/1.1 200";
const STEP: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_first_listener() {
        let line = r#"{"event":"ready","listeners":[{"name":"a","protocol":"bolt","address":"127.0.0.1:7"}],"admin":null,"pid":3}"#;
        let address = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(parse_ready(line), Some(Ready { address, admin: None }));
        let line = line.replace("null", "\"127.0.0.1:9\"");
        let admin = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!(parse_ready(&line), Some(Ready { address, admin }));
        for wrong in ["", "ready", r#"{"event":"ready","listeners":[]}"#, r#"{"event":"other"}"#] {
            assert_eq!(parse_ready(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_missing_program_is_the_callers_mistake() {
        let missing = Path::new("./no/such/gateway");
        let trouble = Spawned::start(Path::new("bowline-bench"), "gateway", missing, &[]);
        assert!(matches!(trouble, Err(Trouble::Asked(why)) if why.contains("no/such/gateway")));
    }
}
