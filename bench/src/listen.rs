//! Listening sockets of the peers that a measurement needs: with a queue that holds a storm of connections, so that what is
//! measured is the gateway and not a connect that the peer's kernel dropped. It accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::trouble::Trouble;

/// Connections that wait to be accepted, as far as `net.core.somaxconn` allows.
const BACKLOG: i32 = 16_384;

/// Listens without blocking; `reuseport` lets several processes share the port.
pub fn listen(address: SocketAddr, reuseport: bool) -> Result<TcpListener, Trouble> {
    let open = || -> io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuseport)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(Trouble::doing(format!("listening on {address}")))
}
