//! Connections that move from reactor to reactor (O8): skewed load is spread, even load moves nobody, and whatever moves
//! loses no byte, no deadline and no end of its stream.
//!
//! The rules of the contract and the other tests over sockets also run with every turn a move; these count moves.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use bowline_engine::options::{Dispatch, Mode, Options, Rebalance};

use crate::options;
use crate::world::{Behaviour, World, eventually};

fn moves(world: &World) -> u64 {
    world.handle().stats().workers.iter().map(|worker| worker.moves).sum()
}

/// How many of these clients' connections have each of two reactors as their home.
fn homes(world: &World, clients: &[SocketAddr]) -> [usize; 2] {
    let mut homes = [0; 2];
    world.handle().for_each(|info| {
        if info.peer.is_some_and(|peer| clients.contains(&peer)) {
            homes[info.reactor as usize] += 1;
        }
    });
    homes
}

fn address(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().expect("it is bound")
}

/// Sends to each of the streams and takes what comes back.
fn exchange(streams: &mut [TcpStream], bytes: &[u8]) {
    streams.iter_mut().for_each(|stream| stream.write_all(bytes).expect("it is open"));
    let mut answer = vec![0; bytes.len()];
    for stream in streams {
        stream.read_exact(&mut answer).expect("every byte comes back");
        assert!(answer == bytes, "and in order");
    }
}

/// Connections of which every second one has reactor 0 as its home; these come first.
fn connect(world: &World, count: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let mut streams: Vec<_> = (0..count).map(|_| world.connect()).collect();
    exchange(&mut streams, b"hello");
    let (hot, cold): (Vec<_>, Vec<_>) =
        streams.into_iter().partition(|stream| homes(world, &[address(stream)]) == [1, 0]);
    assert_eq!((hot.len(), cold.len()), (count / 2, count / 2), "newcomers are placed evenly");
    (hot, cold)
}

#[test]
fn load_on_the_connections_of_one_reactor_is_spread() {
    let world = World::start(options(2, 2), Behaviour::Echo);
    let (mut hot, mut cold) = connect(&world, 80);
    let addresses: Vec<_> = hot.iter().map(address).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Two clients, so that whoever leads the other reactor has connections to take.
        for part in hot.chunks_mut(20) {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    exchange(part, &[7; 64]);
                }
            });
        }
        let spread = || homes(&world, &addresses)[1] >= 10;
        let looked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("they move", spread)));
        done.store(true, Ordering::Relaxed);
        looked.expect("busy connections leave the reactor that all of them are on");
    });
    let [stayed, left] = homes(&world, &addresses);
    assert!(stayed >= 10, "{stayed} stayed and {left} left: half was to go");
    assert!(moves(&world) >= left as u64);
    // Whoever moved is still served, and whoever did nothing has stayed.
    exchange(&mut hot, b"after");
    let idle: Vec<_> = cold.iter().map(address).collect();
    assert_eq!(homes(&world, &idle), [0, 40]);
    exchange(&mut cold, b"after");
    assert_eq!((world.overlaps(), world.handle().stats().stranded), (0, 0));
}

#[test]
fn connections_that_are_equally_busy_or_idle_stay() {
    let world = World::start(options(2, 2), Behaviour::Echo);
    let (mut first, mut second) = connect(&world, 40);
    let turns = || world.handle().stats().workers.iter().map(|worker| worker.turns).collect::<Vec<_>>();
    for _ in 0..400 {
        first.iter_mut().zip(&mut second).for_each(|(first, second)| {
            exchange(std::slice::from_mut(first), b"x");
            exchange(std::slice::from_mut(second), b"x");
        });
    }
    assert!(turns().iter().all(|turns| *turns > 1_000), "both have worked: {:?}", turns());
    assert_eq!(moves(&world), 0);
}

#[test]
fn without_rebalancing_nobody_moves() {
    let world = World::start(Options { rebalance: Rebalance::Off, ..options(2, 2) }, Behaviour::Echo);
    let (mut hot, _cold) = connect(&world, 40);
    (0..2_000).for_each(|_| exchange(&mut hot, &[7; 64]));
    assert_eq!(moves(&world), 0);
}

/// Engines whose connections move after every turn.
fn each_moving(case: impl Fn(Options)) {
    for (dispatch, reactors, workers) in
        [(Dispatch::Help, 2, 2), (Dispatch::Help, 3, 5), (Dispatch::Handoff, 2, 3)]
    {
        case(Options {
            mode: Mode::Raw(dispatch),
            rebalance: Rebalance::EveryTurn,
            read_budget_bytes: 8 << 10,
            ..options(reactors, workers)
        });
    }
}

#[test]
fn every_byte_comes_back_while_every_turn_is_a_move() {
    each_moving(|options| {
        let world = World::start(options, Behaviour::Echo);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let world = &world;
                scope.spawn(move || {
                    let mut streams: Vec<_> = (0..20).map(|_| world.connect()).collect();
                    for round in 0..60 {
                        let bytes: Vec<_> =
                            (0..1 << (round % 15)).map(|at| (at * 7 + client) as u8).collect();
                        exchange(&mut streams, &bytes);
                    }
                    streams.iter().for_each(|stream| {
                        stream.shutdown(Shutdown::Write).expect("it is open");
                    });
                    for stream in &mut streams {
                        assert_eq!(stream.read(&mut [0]).expect("the end comes"), 0);
                    }
                });
            }
        });
        eventually("every connection has ended", || world.closed() == 80);
        // Each answer ends a turn; the largest stop on a budget and go on without a rest.
        assert!(moves(&world) > 80 * 48, "{}", moves(&world));
        assert_eq!((world.overlaps(), world.handle().stats().stranded), (0, 0));
    });
}
