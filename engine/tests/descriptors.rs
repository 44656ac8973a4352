//! What a lack of descriptors does: in a process of its own, since the limit holds for all of it.
//!
//! One test, so that nothing else in the process takes or frees descriptors meanwhile.

mod support;

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use support::{Running, each_mode, echo, eventually, exchange, start, with_patience};

/// Takes every descriptor that is left.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// A client that connects while no descriptor is left: its own stands ready.
fn connect(socket: socket2::Socket, address: SocketAddr) -> TcpStream {
    socket.connect(&address.into()).expect("the kernel answers for the listener");
    with_patience(socket.into())
}

fn client_socket() -> socket2::Socket {
    use socket2::{Domain, Socket, Type};
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left")
}

#[test]
fn without_descriptors_accepting_pauses_ten_times_a_second_and_recovers() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has this limit");
    setrlimit(Resource::RLIMIT_NOFILE, 256, hard).expect("it may be lowered");
    each_mode(|options| {
        let running = start(options, 1, |_, _| Some(echo()));
        let address = running.engine.addresses()[0];
        let mut inside = running.dial();
        exchange(&mut inside, b"before");
        let sockets: Vec<_> = (0..40).map(|_| client_socket()).collect();
        let all = take_all();
        let began = Instant::now();
        let waiting: Vec<_> = sockets.into_iter().map(|socket| connect(socket, address)).collect();
        starve(&running, &mut inside);
        // Attempts are bounded by time, so time is what they are compared with: a busy loop makes thousands.
        let stats = running.handle.stats();
        let tenths = began.elapsed().as_millis() as u64 / 100 + 1;
        // Two workers may run into it at the same time.
        assert!(stats.accept_attempts_starved <= tenths + 2, "{stats:?}");
        assert_eq!(stats.accept_pauses, 1, "{stats:?}");
        drop(all);
        let mut served = 0;
        for mut client in waiting {
            // Those at the head of the queue were reset, the others waited and are served.
            use std::io::Write;
            if client.write_all(b"late").is_ok() && support::is_echoed(&mut client, b"late") {
                served += 1;
            }
        }
        assert!(served >= 20, "only {served} were served");
        exchange(&mut inside, b"after");
        exchange(&mut running.dial(), b"new");
    });
}

/// Waits until accepting has starved for a while; who is inside is served all along.
fn starve(running: &Running, inside: &mut TcpStream) {
    eventually("attempts were made in vain", || {
        exchange(inside, b"meanwhile");
        running.handle.stats().accept_attempts_starved >= 4
    });
}
