//! Owns the processes that a run starts: gateway, backend, more load generators. Each ends with us, whatever ends us: it is
//! started through `bowline-bench guard`, which asks the kernel for that and then becomes the program. Only the main thread
//! may start them. Every wait has a deadline.

use std::ffi::OsString;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::SocketAddr;
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

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

use crate::host;
use crate::trouble::Trouble;

/// A running child process.
#[derive(Debug)]
pub struct Spawned {
    name: String,
    child: Child,
    lines: Receiver<String>,
    ended: bool,
}

impl Spawned {
    /// Starts `program` so that it ends with us. `bench` is the path of `bowline-bench` itself.
    pub fn start(bench: &Path, name: &str, program: &Path, arguments: &[OsString]) -> Result<Self, Trouble> {
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
        Ok(Self { name: name.into(), child, lines, ended: false })
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

    /// The address of its first listener, from the line that says that it is ready.
    pub fn ready(&self) -> Result<SocketAddr, Trouble> {
        let line = self.next_line(READY_MAX)?;
        parse_ready(&line)
            .ok_or_else(|| Trouble::Broken(format!("{} is not ready, it said: {line}", self.name)))
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

/// The address of the first listener in a line like `{"event":"ready","listeners":[{"address":"127.0.0.1:1"}]}`.
fn parse_ready(line: &str) -> Option<SocketAddr> {
    let ready: Value = serde_json::from_str(line).ok()?;
    if ready.get("event")? != "ready" {
        return None;
    }
    ready.get("listeners")?.get(0)?.get("address")?.as_str()?.parse().ok()
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
const STEP: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_first_listener() {
        let line = r#"{"event":"ready","listeners":[{"name":"a","protocol":"bolt","address":"127.0.0.1:7"}],"admin":null,"pid":3}"#;
        assert_eq!(parse_ready(line), Some(SocketAddr::from(([127, 0, 0, 1], 7))));
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
