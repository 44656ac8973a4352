//! Programs of others that a test needs and may be missing: found on the path or below `.peers`, where `scripts/peers.sh`
//! puts them; and networks of a test's own, which only root may make. What is missing is said in one line, and the test
//! does nothing.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::gateway::root;
use crate::wait::eventually;

/// Where a program is; nothing, with a line, if it is not installed.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([root().join(".peers/bin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("SKIP {name}: not installed; scripts/peers.sh {name} installs it");
    }
    found
}

/// Runs `case` on a thread with a network of its own: a loopback and nothing else. Processes that it starts are in it too.
/// Does nothing, with a line, where this user may not.
pub fn in_own_network(case: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                return println!("SKIP: no network of its own ({error})");
            }
            if !run("ip", &["link", "set", "lo", "up"]) {
                return println!("SKIP: the loopback cannot be set up");
            }
            case();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Runs a program to its end; whether it is there and succeeds.
pub fn run(name: &str, arguments: &[&str]) -> bool {
    let Some(program) = program(name) else { return false };
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it and waits until `address` accepts.
    pub fn start(mut command: Command, address: SocketAddr) -> Running {
        let child = command.stdin(Stdio::null()).spawn().expect("the program can be started");
        let running = Running(child);
        eventually("it listens", || TcpStream::connect(address).is_ok());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago, for programs that cannot say which one they took.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}
