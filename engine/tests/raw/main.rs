//! What only the raw mode promises: descriptors that are reused at once confuse nothing, one connection has one reader,
//! sockets at rest cause no wake-ups, and what a thief ran is flushed and armed like everything else.
//!
//! Everything goes over loopback sockets and the public front of the engine; the rules that all drivers share are tested
//! elsewhere, against all of them.

mod moves;
mod world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_engine::machine::{CloseCause, Lost};
use bowline_engine::options::{Accept, Dispatch, Mode, Options, Rebalance};

use world::{ANSWER, Behaviour, World, eventually};

fn options(reactors: usize, workers: usize) -> Options {
    Options { mode: Mode::Raw(Dispatch::Help), reactors, workers, ..Options::default() }
}

/// The ways of running that differ in who runs whom.
fn each_shape(case: impl Fn(Options)) {
    case(options(2, 2));
    case(options(1, 4));
    case(Options { mode: Mode::Raw(Dispatch::Handoff), ..options(2, 3) });
    case(Options { rebalance: Rebalance::EveryTurn, ..options(2, 2) });
    let moving = Options { rebalance: Rebalance::EveryTurn, ..options(3, 4) };
    case(Options { mode: Mode::Raw(Dispatch::Handoff), ..moving });
}

/// Turns and returns of `epoll_wait` so far.
fn activity(world: &World) -> (u64, u64) {
    let workers = world.handle().stats().workers;
    (workers.iter().map(|worker| worker.turns).sum(), workers.iter().map(|worker| worker.waits).sum())
}

/// Asserts that nothing runs while nothing happens.
fn assert_quiet(world: &World) {
    // Whatever is still on its way comes to rest first.
    let mut before = activity(world);
    eventually("it comes to rest", || {
        std::thread::sleep(Duration::from_millis(20));
        std::mem::replace(&mut before, activity(world)) == activity(world)
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(activity(world), before, "turns and returns of epoll_wait at rest");
}

#[test]
fn descriptors_that_are_reused_at_once_lose_no_connection() {
    each_shape(|options| {
        let world = World::start(options, Behaviour::AnswerAndCloseAnother);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..200 {
                        let mut stream = world.connect();
                        stream.write_all(&[1]).expect("it is open");
                        // An answer, or the close that another connection caused: a lost one would get neither.
                        let mut answer = [0];
                        let end = stream.read(&mut answer).map(|bytes| answer[..bytes].to_vec());
                        let lost =
                            end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                        assert!(!lost, "round {round}: neither answered nor closed");
                    }
                });
            }
        });
        eventually("every connection has ended", || world.closed() == 1_600);
        assert_eq!(world.overlaps(), 0, "two calls of one machine at a time");
        assert_eq!(world.handle().stats().stranded, 0);
    });
}

#[test]
fn one_socket_has_one_reader_even_when_everybody_steals() {
    let world = World::start(options(1, 4), Behaviour::Echo);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut streams: Vec<_> = (0..40).map(|_| world.connect()).collect();
                for _ in 0..40 {
                    for stream in &mut streams {
                        stream.write_all(&[7; 64]).expect("it is open");
                    }
                    for stream in &mut streams {
                        let mut answer = [0; 64];
                        stream.read_exact(&mut answer).expect("every byte comes back, whoever ran it");
                    }
                }
            });
        }
    });
    assert_eq!(world.overlaps(), 0, "two calls of one machine at a time");
    let stolen: u64 = world.handle().stats().workers.iter().map(|worker| worker.stolen).sum();
    assert!(stolen > 0, "nothing was stolen, so this shows nothing");
}

#[test]
fn a_paused_connection_notices_a_reset_without_any_other_event() {
    each_shape(|options| {
        let world = World::start(options, Behaviour::Pause);
        let mut stream = world.connect();
        stream.write_all(&[1; 1_000]).expect("it is open");
        eventually("it is accepted", || world.opened() == 1);
        assert_quiet(&world);
        world::reset(stream);
        eventually("the reset is seen", || world.causes() == [CloseCause::Lost(Lost::Reset)]);
    });
}

#[test]
fn a_half_closed_connection_is_quiet_and_still_writes() {
    each_shape(|options| {
        let world = World::start(options, Behaviour::KeepOpen);
        let mut stream = world.connect();
        stream.write_all(&[3]).expect("it is open");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("it answers after the end of the stream");
        assert_eq!((answer, world.ends()), ([ANSWER], 1));
        assert_quiet(&world);
    });
}

#[test]
fn with_both_sides_shut_and_input_unread_nothing_runs() {
    each_shape(|options| {
        let world = World::start(options, Behaviour::ShutAndPause);
        let mut stream = world.connect();
        let mut nothing = [0];
        assert_eq!(stream.read(&mut nothing).expect("FIN"), 0);
        stream.write_all(&[5; 100]).expect("it still reads, as far as we know");
        stream.shutdown(Shutdown::Write).expect("it is open");
        assert_quiet(&world);
        // Credit resumes it: what waited is read, to the end.
        world.wake_all();
        eventually("the input is read", || world.read_bytes() == 100);
        eventually("the end is read", || world.ends() == 1);
        assert_quiet(&world);
    });
}

#[test]
fn a_worker_that_always_has_work_still_runs_what_others_find() {
    let shapes = [(Dispatch::Help, 1, 1), (Dispatch::Handoff, 1, 1), (Dispatch::Handoff, 2, 2)];
    for (dispatch, reactors, workers) in shapes {
        let options = Options { mode: Mode::Raw(dispatch), ..options(reactors, workers) };
        let world = World::start(options, Behaviour::Swallow);
        // Each of these mails itself in every turn, so no worker's queue is ever empty again.
        let mut busy: Vec<_> = (0..4).map(|_| world.connect()).collect();
        busy.iter_mut().for_each(|stream| stream.write_all(&[0]).expect("it is open"));
        let before = activity(&world).0;
        eventually("they run", || activity(&world).0 > before + 1_000);
        for _ in 0..10 {
            let mut stream = world.connect();
            stream.write_all(&[1]).expect("it is open");
            let mut answer = [0];
            stream.read_exact(&mut answer).expect("a newcomer is served beside them");
        }
    }
}

#[test]
fn when_accepting_has_stopped_nothing_runs() {
    for accept in [Accept::Shared, Accept::Reuseport] {
        each_shape(|options| {
            let world = World::start(Options { accept, ..options }, Behaviour::Echo);
            let mut stream = world.connect();
            stream.write_all(&[7]).expect("it is open");
            let mut answer = [0];
            stream.read_exact(&mut answer).expect("it answers");
            world.handle().stop_accepting(0);
            assert_quiet(&world);
            stream.write_all(&[8]).expect("it is open");
            stream.read_exact(&mut answer).expect("it still answers");
            assert_eq!(answer, [8]);
        });
    }
}

#[test]
fn a_single_busy_connection_wakes_nobody() {
    let options = Options { read_budget_bytes: 4 << 10, ..options(1, 2) };
    let world = World::start(options, Behaviour::Swallow);
    let mut stream = world.connect();
    for _ in 0..200 {
        stream.write_all(&[9; 64 << 10]).expect("it is open");
    }
    eventually("all is read", || world.read_bytes() == 200 * (64 << 10));
    let wakes: u64 = world.handle().stats().workers.iter().map(|worker| worker.wakes).sum();
    assert_eq!(wakes, 0, "there was never more than one slot to run");
}

#[test]
fn urgent_data_hides_nothing_of_what_lies_behind_it() {
    each_shape(|options| {
        let world = World::start(options, Behaviour::Echo);
        let mut stream = world.connect();
        for _ in 0..200 {
            let socket = socket2::SockRef::from(&stream);
            socket.send(b"before").expect("it is open");
            socket.send_out_of_band(b"!").expect("it is open");
            socket.send(b"behind").expect("it is open");
            let mut echoed = [0; 12];
            stream.read_exact(&mut echoed).expect("all of it is echoed");
            assert_eq!(&echoed, b"beforebehind");
        }
        socket2::SockRef::from(&stream).send_out_of_band(b"!").expect("it is open");
        assert_quiet(&world);
    });
}

#[test]
fn the_watchdog_finds_nobody_stranded() {
    let world = World::start(options(2, 2), Behaviour::Echo);
    let streams: Vec<TcpStream> = (0..100).map(|_| world.connect()).collect();
    eventually("all are accepted", || world.opened() == 100);
    // Two looks of the watchdog, one second apart.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(world.handle().stats().stranded, 0);
    drop(streams);
    eventually("all have ended", || world.closed() == 100);
    assert_eq!(world.record.live.load(Ordering::SeqCst), 0);
}
