//! Owns how gateway and backend are started for a recipe. Refuses to know what is measured.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::spawn::Spawned;
use crate::trouble::Trouble;
use crate::wire::Protocol;

/// The gateway under test.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its program.
    pub program: PathBuf,
    /// Flags beyond those that the recipe gives.
    pub flags: Vec<String>,
}

/// A running program with the address that it listens on.
#[derive(Debug)]
pub struct Running {
    process: Spawned,
    /// Its first listener.
    pub address: SocketAddr,
    /// Its admin interface, if it has one.
    pub admin: Option<SocketAddr>,
    ends_by: Signal,
}

impl Running {
    /// A program that says on one line when it is ready.
    pub fn announced(process: Spawned) -> Result<Self, Trouble> {
        let ready = process.ready()?;
        Ok(Self { process, address: ready.address, admin: ready.admin, ends_by: Signal::SIGINT })
    }

    /// A program that was told where to listen and says nothing, and the signal that ends it.
    pub fn silent(
        mut process: Spawned,
        address: SocketAddr,
        protocol: Protocol,
        ends_by: Signal,
    ) -> Result<Self, Trouble> {
        process.wait_until_answers(address, protocol)?;
        Ok(Self { process, address, admin: None, ends_by })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What was started.
    pub fn command(&self) -> &str {
        self.process.command()
    }

    /// Ends it, fast.
    pub fn stop(mut self) -> Result<(), Trouble> {
        self.process.stop(self.ends_by)
    }
}

/// Starts a backend that ends by itself after `seconds` at the latest.
pub fn backend(bench: &Path, pin: Option<usize>, seconds: u64) -> Result<Running, Trouble> {
    let mut arguments = words(&["backend", "--listen", "127.0.0.1:0", "--duration", &seconds.to_string()]);
    if let Some(core) = pin {
        arguments.extend(words(&["--pin", &core.to_string()]));
    }
    Running::announced(Spawned::start(bench, "the backend", bench, &arguments)?)
}

/// Starts a gateway from one listener to one upstream that speak the same.
pub fn gateway(
    bench: &Path,
    gateway: &Gateway,
    engine: &str,
    protocol: Protocol,
    upstream: SocketAddr,
    more: &[&str],
) -> Result<Running, Trouble> {
    let scheme = protocol.scheme();
    let (listen, upstream) = (format!("{scheme}://127.0.0.1:0"), format!("{scheme}://{upstream}"));
    let mut arguments = words(&["run", "--listen", &listen, "--upstream", &upstream]);
    arguments.extend(words(&["--engine", engine, "--admin", "off"]));
    arguments.extend(words(more));
    arguments.extend(gateway.flags.iter().map(OsString::from));
    let name = format!("the gateway ({engine})");
    Running::announced(Spawned::start(bench, &name, &gateway.program, &arguments)?)
}

/// As arguments of a command.
pub fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
