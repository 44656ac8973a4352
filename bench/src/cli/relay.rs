//! Owns the flags of the bare relays. Refuses a runtime for the relay that has none.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;

use super::say_ready;
use super::values::count_up_to;
use super::values::seconds;
use crate::reference;
use crate::reference::RelayOptions;
use crate::reference::tokio::Runtime;
use crate::trouble::Trouble;
use crate::wire::Protocol;

#[derive(Debug, Args)]
pub(super) struct RelayFlags {
    /// Which one: `epoll` is the floor of the raw mode, `tokio` that of the tokio mode.
    kind: Kind,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Lets other processes listen there too.
    #[arg(long)]
    reuseport: bool,
    /// The backend.
    #[arg(long)]
    to: SocketAddr,
    /// What is relayed: bolt or http.
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// Threads, each with an upstream connection of its own, or with a pool of them for HTTP.
    #[arg(long, default_value_t = 2, value_parser = count_up_to::<64>)]
    threads: usize,
    /// Shape of the tokio relay; one current-thread runtime per thread by default.
    #[arg(long)]
    runtime: Option<Runtime>,
    /// Seconds after which it ends; without it SIGTERM does.
    #[arg(long, value_parser = seconds)]
    duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Epoll,
    Tokio,
}

pub(super) fn run(flags: &RelayFlags) -> Result<(), Trouble> {
    if flags.protocol == Protocol::Websocket {
        return Err(Trouble::Asked("--protocol: the relays know Bolt and HTTP alone".into()));
    }
    let options = RelayOptions {
        listen: flags.listen,
        reuseport: flags.reuseport,
        to: flags.to,
        protocol: flags.protocol,
        threads: flags.threads,
        duration: flags.duration,
    };
    let announce = |address: SocketAddr| say_ready("relay", &address.to_string());
    match (flags.kind, flags.runtime) {
        (Kind::Epoll, Some(_)) => Err(Trouble::Asked("--runtime: the epoll relay has none".into())),
        (Kind::Epoll, None) => reference::epoll::run(&options, announce),
        (Kind::Tokio, runtime) => {
            reference::tokio::run(&options, runtime.unwrap_or(Runtime::CurrentThread), announce)
        }
    }
}
