//! TCP sockets with the options of this project: listening, connecting, resetting.
//!
//! On Linux an accepted socket inherits what its listener was given (keepalive, `TCP_NODELAY`, `TCP_USER_TIMEOUT`,
//! `TCP_NOTSENT_LOWAT`), so options cost nothing per accepted connection.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::machine::Open;
use crate::options::SocketOptions;

/// Input that is thrown away at a close, so that the kernel does not answer it with a reset that overtakes our last
/// bytes.
const DISCARD_BYTES_MAX: usize = 64 << 10;

/// A listening socket.
pub(crate) fn listen(
    address: SocketAddr,
    reuse_port: bool,
    options: &SocketOptions,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_options(&socket, options)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Begins to connect. True beside the socket if it is established at once.
pub(crate) fn connect(open: &Open, options: &SocketOptions) -> io::Result<(TcpStream, bool)> {
    let socket = Socket::new(Domain::for_address(open.to), Type::STREAM, Some(Protocol::TCP))?;
    set_options(&socket, options)?;
    socket.set_nonblocking(true)?;
    if let Some(from) = open.from {
        // The port is chosen by the connect, so that one port of this address serves many destinations.
        nix::sys::socket::setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&open.to.into()) {
        Ok(()) => Ok((socket.into(), true)),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {
            Ok((socket.into(), false))
        }
        Err(error) => Err(error),
    }
}

fn set_options(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(options.keepalive_idle)
        .with_interval(options.keepalive_interval)
        .with_retries(options.keepalive_probes);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    socket.set_tcp_notsent_lowat(options.notsent_lowat_bytes)
}

/// Where the peer of `stream` connected to before the packet filter sent it to this host's own address.
pub(crate) fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let is_v4 = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_ipv4());
    let found = if is_v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok()?.as_socket()
}

/// Makes the close of `stream` a reset. Best effort: a socket that refuses is closed anyway.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Closes in order: FIN, then what the peer already sent is thrown away.
pub(crate) fn close(mut stream: TcpStream, scratch: &mut [u8]) {
    let _ = stream.shutdown(Shutdown::Write);
    let mut discarded = 0;
    while let Ok(bytes @ 1..) = stream.read(scratch) {
        discarded += bytes;
        if discarded >= DISCARD_BYTES_MAX {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_inherit_the_options_of_their_listener() {
        let options = SocketOptions::default();
        let listener = listen("127.0.0.1:0".parse().expect("an address"), false, &options).expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let _peer = TcpStream::connect(address).expect("it listens");
        listener.set_nonblocking(false).expect("a plain option");
        let (accepted, _) = listener.accept().expect("the peer connected");
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().expect("readable") && socket.keepalive().expect("readable"));
        assert_eq!(socket.tcp_notsent_lowat().expect("readable"), options.notsent_lowat_bytes);
        assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(options.user_timeout));
    }
}
