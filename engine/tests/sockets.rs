//! The drivers over real sockets: what a peer on the other side of a loopback connection sees, in every mode.
//!
//! The numbered rules of the contract have tests of their own; these prove opening, closing, limits, back pressure and
//! mail with the kernel in between. The modes stand in `support::MODES`.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bowline_engine::machine::{Address, CloseCause, Context, Input, Lost, Machine, Open, OpenError};
use bowline_engine::options::{Mode, Options, Rebalance};
use bowline_engine::time::Time;

use support::{
    App, Letter, Running, dial, each_mode, echo, eventually, exchange, expect, expect_end, is_refused, lock,
    machine, pattern, reset, start, with_patience,
};

#[test]
fn an_echo_returns_every_byte_and_counts_them() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| Some(echo()));
        let mut client = running.dial();
        exchange(&mut client, b"x");
        let bytes = pattern(3 << 20);
        let mut writer = client.try_clone().expect("descriptors are left");
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes).expect("the engine reads"));
            expect(&mut client, &bytes);
        });
        let info = running.connections().pop().expect("the client is there");
        assert_eq!((info.listener, info.peer), (Some(0), Some(client.local_addr().expect("bound"))));
        client.shutdown(Shutdown::Write).expect("it is open");
        expect_end(&mut client);
        let records = running.all_closed();
        let all = bytes.len() as u64 + 1;
        assert_eq!((records[0].bytes_in, records[0].bytes_out), (all, all));
        assert_eq!((records.len(), records[0].cause), (1, CloseCause::Machine(0)));
    });
}

/// One side of a relay: an accepted one opens its partner. It closes when both directions have ended.
fn relay(upstream: Option<SocketAddr>, mut partner: Option<Address>) -> Box<dyn Machine<App>> {
    let mut ends = 0;
    machine(move |input, context| match input {
        Input::Opened => {
            let Some(to) = upstream else { return };
            let other = relay(None, Some(context.me));
            partner = context.open(Open::new(to, 10_000), other).ok();
        }
        Input::Bytes(bytes) => {
            let all = bytes.len();
            context.send(partner.expect("it was opened first"), Letter::Bytes(bytes.take(all)));
        }
        Input::Mail { mail: Letter::Bytes(piece), .. } => context.write(piece),
        Input::Mail { mail: Letter::End, .. } => {
            context.shutdown_write();
            ends += 1;
            if ends == 2 {
                context.close(0);
            }
        }
        Input::Mail { mail: Letter::Gone, .. } | Input::Bounced { .. } => context.close(1),
        Input::EndOfStream => {
            context.send(partner.expect("it was opened first"), Letter::End);
            ends += 1;
            if ends == 2 {
                context.close(0);
            }
        }
        Input::Failed(_) | Input::Lost(_) => {
            if let Some(partner) = partner {
                context.send(partner, Letter::Gone);
            }
        }
        _ => {}
    })
}

#[test]
fn a_relay_of_two_machines_carries_both_directions_and_each_end_by_itself() {
    each_mode(|options| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let upstream = server.local_addr().expect("bound");
        let running = start(options, 1, move |_, _| Some(relay(Some(upstream), None)));
        let (there, back) = (pattern(2 << 20), pattern(1 << 20));
        let mut client = running.dial();
        let mut served = with_patience(server.accept().expect("the relay connects").0);
        std::thread::scope(|scope| {
            let mut sender = client.try_clone().expect("descriptors are left");
            let there = &there;
            scope.spawn(move || {
                sender.write_all(there).expect("the relay reads");
                sender.shutdown(Shutdown::Write).expect("it is open");
            });
            expect(&mut served, there);
            expect_end(&mut served);
            // The other direction is open still.
            let mut answerer = served.try_clone().expect("descriptors are left");
            let back = &back;
            scope.spawn(move || answerer.write_all(back).expect("the relay reads"));
            expect(&mut client, back);
        });
        served.shutdown(Shutdown::Write).expect("it is open");
        expect_end(&mut client);
        let causes: Vec<_> = running.all_closed().iter().map(|record| record.cause).collect();
        assert_eq!(causes, [CloseCause::Machine(0); 2]);
    });
}

#[test]
fn the_other_side_of_a_relay_is_told_when_one_breaks() {
    each_mode(|options| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let upstream = server.local_addr().expect("bound");
        let running = start(options, 1, move |_, _| Some(relay(Some(upstream), None)));
        let mut client = running.dial();
        let mut served = with_patience(server.accept().expect("the relay connects").0);
        client.write_all(b"hello").expect("the relay reads");
        expect(&mut served, b"hello");
        reset(served);
        expect_end(&mut client);
        let mut causes: Vec<_> = running.all_closed().iter().map(|record| record.cause).collect();
        causes.sort_by_key(|cause| matches!(cause, CloseCause::Machine(_)));
        assert_eq!(causes, [CloseCause::Lost(Lost::Reset), CloseCause::Machine(1)]);
    });
}

/// Machines that forward on command and write down what they get.
fn correspondents(options: Options, seen: &Arc<Mutex<Vec<(bool, u64)>>>) -> Running {
    let seen = Arc::clone(seen);
    start(options, 1, move |_, _| {
        let seen = Arc::clone(&seen);
        Some(machine(move |input, context| match input {
            Input::Mail { mail: Letter::Forward(to, number), .. } => context.send(to, Letter::Number(number)),
            Input::Mail { mail: Letter::Number(number), .. } => lock(&seen).push((false, number)),
            Input::Bounced { mail: Letter::Number(number), .. } => lock(&seen).push((true, number)),
            Input::EndOfStream => context.close(0),
            _ => {}
        }))
    })
}

fn post(running: &Running, to: Address, letter: Letter) {
    assert!(running.handle.post(to, letter).is_ok(), "the address names a slot");
}

#[test]
fn mail_to_a_connection_that_is_gone_bounces_to_its_sender_and_then_to_nobody() {
    each_mode(|options| {
        let seen = Arc::default();
        let running = correspondents(options, &seen);
        let receiver = running.dial();
        eventually("it is there", || running.connections().len() == 1);
        let to = running.connections()[0].address;
        let sender = running.dial();
        eventually("both are there", || running.connections().len() == 2);
        let from = running.connections().iter().map(|info| info.address).find(|at| *at != to);
        let from = from.expect("the other one");
        post(&running, from, Letter::Forward(to, 7));
        eventually("it arrived", || *lock(&seen) == [(false, 7)]);
        drop(receiver);
        eventually("the receiver is gone", || running.connections().len() == 1);
        post(&running, from, Letter::Forward(to, 8));
        eventually("it bounced", || *lock(&seen) == [(false, 7), (true, 8)]);
        // Nobody ever had that address: it bounces all the same.
        post(&running, from, Letter::Forward(Address { index: 4_000, generation: 0 }, 9));
        eventually("it bounced", || lock(&seen).last() == Some(&(true, 9)));
        drop(sender);
        running.all_closed();
        post(&running, from, Letter::Number(10));
        eventually("it is nobody's", || running.app.orphans.load(Ordering::Relaxed) == 1);
        let never = Address { index: 4_000, generation: 0 };
        assert!(running.handle.post(never, Letter::Number(11)).is_err());
    });
}

#[test]
fn mail_between_workers_arrives_in_order_and_exactly_once() {
    const CONNECTIONS: usize = 8;
    const LETTERS: u64 = 2_000;
    each_mode(|options| {
        let options = Options { workers: 4, pin_cores: true, ..options };
        let everyone: Arc<Mutex<Vec<Address>>> = Arc::default();
        let received = Arc::new(AtomicUsize::new(0));
        let (addresses, count) = (Arc::clone(&everyone), Arc::clone(&received));
        let running = start(options, 1, move |_, _| {
            let (addresses, count) = (Arc::clone(&addresses), Arc::clone(&count));
            let mut next: Vec<(Address, u64)> = Vec::new();
            Some(machine(move |input, context| match input {
                // One letter to everyone per call: senders and receivers run at the same time.
                Input::Mail { from, mail: Letter::Forward(me, number) } => {
                    assert_eq!((me, from == me || from == Address::OUTSIDE), (context.me, true));
                    for to in lock(&addresses).iter().filter(|to| **to != me) {
                        context.send(*to, Letter::Number(number));
                    }
                    if number + 1 < LETTERS {
                        context.send(me, Letter::Forward(me, number + 1));
                    }
                }
                Input::Mail { from, mail: Letter::Number(number) } => {
                    if !next.iter().any(|(sender, _)| *sender == from) {
                        next.push((from, 0));
                    }
                    let expected = next.iter_mut().find(|(sender, _)| *sender == from);
                    let expected = &mut expected.expect("just added").1;
                    assert_eq!(number, *expected, "in order, exactly once");
                    *expected += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Input::EndOfStream => context.close(0),
                _ => {}
            }))
        });
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| running.dial()).collect();
        eventually("all are there", || running.connections().len() == CONNECTIONS);
        let all: Vec<_> = running.connections().iter().map(|info| info.address).collect();
        lock(&everyone).clone_from(&all);
        for me in &all {
            post(&running, *me, Letter::Forward(*me, 0));
        }
        let expected = CONNECTIONS * (CONNECTIONS - 1) * LETTERS as usize;
        eventually("every letter arrived", || received.load(Ordering::Relaxed) >= expected);
        drop(clients);
        running.all_closed();
        assert_eq!(received.load(Ordering::Relaxed), expected);
        let workers = running.handle.stats().workers;
        let posted = all.len() as u64;
        let own = CONNECTIONS as u64 * (LETTERS - 1);
        let sum: u64 = workers.iter().map(|worker| worker.mail).sum();
        assert_eq!(sum, expected as u64 + posted + own);
    });
}

#[test]
fn a_deadline_comes_once_at_its_time_and_the_one_it_replaced_does_not() {
    each_mode(|options| {
        let calls: Arc<Mutex<Vec<(Time, Time)>>> = Arc::default();
        let seen = Arc::clone(&calls);
        let running = start(options, 1, move |_, _| {
            let seen = Arc::clone(&seen);
            let mut armed = Time::ZERO;
            Some(machine(move |input, context| match input {
                Input::Opened => {
                    context.set_deadline(Some(context.now.after_ms(30)));
                    armed = context.now.after_ms(150);
                    context.set_deadline(Some(armed));
                }
                Input::Deadline => {
                    lock(&seen).push((armed, context.now));
                    if lock(&seen).len() == 2 {
                        return context.close(3);
                    }
                    armed = context.now.after_ms(40);
                    context.set_deadline(Some(armed));
                }
                _ => {}
            }))
        });
        let mut client = running.dial();
        expect_end(&mut client);
        assert_eq!(running.next_cause(), CloseCause::Machine(3));
        let calls = lock(&calls);
        assert_eq!(calls.len(), 2);
        assert!(calls.iter().all(|(armed, now)| now >= armed), "never early: {calls:?}");
    });
}

#[test]
fn after_the_peers_end_the_machine_may_still_write() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            let mut ended = false;
            Some(machine(move |input, context| match input {
                Input::EndOfStream => {
                    assert!(!std::mem::replace(&mut ended, true), "the end is told once");
                    assert!(context.write_copy(b"after your end"));
                    context.watch_output(true);
                }
                Input::Flushed { queued: 0, .. } => context.close(4),
                _ => {}
            }))
        });
        let mut client = running.dial();
        client.write_all(b"before").expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        expect(&mut client, b"after your end");
        expect_end(&mut client);
        assert_eq!(running.next_cause(), CloseCause::Machine(4));
    });
}

#[test]
fn the_machine_may_end_its_side_and_go_on_reading() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            let mut bytes_in = 0;
            Some(machine(move |input, context| match input {
                Input::Opened => {
                    assert!(context.write_copy(&pattern(10_000)));
                    context.shutdown_write();
                }
                Input::Bytes(bytes) => {
                    bytes_in += bytes.len();
                    bytes.consume(bytes.len());
                }
                Input::EndOfStream => context.close(u8::from(bytes_in == 300_000)),
                _ => {}
            }))
        });
        let mut client = running.dial();
        expect(&mut client, &pattern(10_000));
        expect_end(&mut client);
        client.write_all(&pattern(300_000)).expect("the machine reads");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(running.next_cause(), CloseCause::Machine(1));
    });
}

/// Says "p" and reads no more; what it reads after all is a fault.
fn paused() -> Box<dyn Machine<App>> {
    machine(|input, context| match input {
        Input::Opened => {
            context.set_reading(false);
            assert!(context.write_copy(b"p"));
        }
        Input::Bytes(_) | Input::EndOfStream => context.close(99),
        _ => {}
    })
}

#[test]
fn a_reset_is_noticed_while_reading_is_paused() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| Some(paused()));
        for unread in [&b""[..], &pattern(10_000)] {
            let mut client = running.dial();
            expect(&mut client, b"p");
            client.write_all(unread).expect("the kernel takes it");
            reset(client);
            assert_eq!(running.next_cause(), CloseCause::Lost(Lost::Reset));
        }
    });
}

#[test]
fn a_reset_is_noticed_after_the_peers_end() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            Some(machine(|input, context| {
                if let Input::EndOfStream = input {
                    assert!(context.write_copy(b"e"));
                }
            }))
        });
        let mut client = running.dial();
        client.shutdown(Shutdown::Write).expect("it is open");
        expect(&mut client, b"e");
        reset(client);
        assert_eq!(running.next_cause(), CloseCause::Lost(Lost::Reset));
    });
}

#[test]
fn at_rest_with_both_sides_shut_and_input_unread_nothing_turns() {
    each_mode(|options| {
        let running = start(options, 2, |listener, _| {
            if listener == 1 {
                return Some(echo());
            }
            Some(machine(|input, context| match input {
                Input::Opened => {
                    context.set_reading(false);
                    assert!(context.write_copy(b"p"));
                    context.shutdown_write();
                }
                Input::Mail { .. } => context.set_reading(true),
                Input::EndOfStream => context.close(5),
                Input::Bytes(bytes) => bytes.consume(bytes.len()),
                _ => {}
            }))
        });
        let mut client = running.dial();
        client.write_all(b"unread").expect("the kernel takes it");
        expect(&mut client, b"p");
        expect_end(&mut client);
        client.shutdown(Shutdown::Write).expect("it is open");
        let turns = |running: &Running| -> u64 {
            running.handle.stats().workers.iter().map(|worker| worker.turns).sum()
        };
        // Another connection shows that time passes: each exchange is at least one turn of its own.
        let mut busy = dial(running.engine.addresses()[1]);
        exchange(&mut busy, b"warm");
        let before = turns(&running);
        (0..500).for_each(|_| exchange(&mut busy, b"tick"));
        let spent = turns(&running) - before;
        assert!(spent < 1_100, "500 exchanges took {spent} turns");
        let held = running.connections().into_iter().find(|info| info.listener == Some(0));
        post(&running, held.expect("it is there").address, Letter::Number(0));
        assert_eq!(running.next_cause(), CloseCause::Machine(5));
    });
}

/// Answers a message, which begins with its length, with a head before it and an end behind it, and notes how many ranges
/// that took.
fn framing(ranges: &Arc<Mutex<Vec<usize>>>) -> Box<dyn Machine<App>> {
    let ranges = Arc::clone(ranges);
    machine(move |input, context| match input {
        Input::Bytes(bytes) => {
            let declared = bytes.bytes().first_chunk().map_or(2, |length| u16::from_be_bytes(*length));
            let declared = usize::from(declared);
            if bytes.len() < declared.max(2) {
                return context.need(declared.max(2));
            }
            assert!(context.write_copy(b"head"), "there is memory");
            context.write_behind(bytes.take(declared));
            assert!(context.write_copy(b"end"), "there is memory");
            lock(&ranges).push(context.effects.output.len());
        }
        Input::EndOfStream => context.close(0),
        _ => {}
    })
}

#[test]
fn what_is_written_behind_a_copy_is_one_range_with_it_while_both_are_small() {
    each_mode(|options| {
        let ranges: Arc<Mutex<Vec<usize>>> = Arc::default();
        let machines = Arc::clone(&ranges);
        let running = start(options, 1, move |_, _| Some(framing(&machines)));
        let mut client = running.dial();
        for length in [2, 1_000, 2_041, 2_042, 2_044, 2_045, 20_000] {
            let mut message = pattern(length);
            message[..2].copy_from_slice(&u16::try_from(length).expect("it is small").to_be_bytes());
            client.write_all(&message).expect("the engine reads");
            expect(&mut client, &[b"head", &message[..], b"end"].concat());
        }
        assert_eq!(*lock(&ranges), [1, 1, 1, 2, 2, 3, 3], "up to 2 KiB are copied");
    });
}

#[test]
fn a_paused_machine_gets_its_bytes_when_it_resumes() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            let mut resumed = false;
            Some(machine(move |input, context| match input {
                Input::Opened => context.set_reading(false),
                Input::Mail { .. } => {
                    resumed = true;
                    context.set_reading(true);
                }
                Input::Bytes(bytes) => {
                    assert!(resumed, "a paused machine is offered nothing");
                    let all = bytes.len();
                    context.write(bytes.take(all));
                }
                Input::EndOfStream => context.close(0),
                _ => {}
            }))
        });
        let mut client = running.dial();
        client.write_all(b"early").expect("the kernel takes it");
        eventually("it is there", || running.connections().len() == 1);
        post(&running, running.connections()[0].address, Letter::Number(0));
        expect(&mut client, b"early");
        exchange(&mut client, b"late");
    });
}

#[test]
fn a_thousand_connections_come_and_go_and_each_is_counted_once() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| Some(echo()));
        let address = running.engine.addresses()[0];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..250 {
                        let mut client = dial(address);
                        exchange(&mut client, format!("{thread} {round}").as_bytes());
                        match round % 3 {
                            0 => reset(client),
                            1 => drop(client),
                            _ => {
                                client.shutdown(Shutdown::Write).expect("it is open");
                                expect_end(&mut client);
                            }
                        }
                    }
                });
            }
        });
        let records = running.all_closed();
        let mut addresses: Vec<_> = records.iter().map(|record| record.address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!((records.len(), addresses.len()), (1_000, 1_000));
        assert_eq!(running.handle.stats().accepted, 1_000);
        let sent: u64 = records.iter().map(|record| record.bytes_out).sum();
        let expected: usize = (0..4).flat_map(|t| (0..250).map(move |r| format!("{t} {r}").len())).sum();
        assert_eq!(sent, expected as u64);
        assert_eq!(running.handle.stats().buffers_refused, 0);
    });
}

#[test]
fn over_the_limit_a_connection_is_reset_and_counted_and_room_comes_back() {
    each_mode(|options| {
        let options = Options { connections_max: 8, ..options };
        let running = start(options, 1, |_, _| Some(echo()));
        let mut inside: Vec<_> = (0..8).map(|_| running.dial()).collect();
        inside.iter_mut().for_each(|client| exchange(client, b"in"));
        assert!((0..5).all(|_| is_refused(running.dial())));
        let stats = running.handle.stats();
        assert_eq!((stats.accepted, stats.refused_limit, stats.connections), (8, 5, 8));
        inside.iter_mut().for_each(|client| exchange(client, b"still in"));
        drop(inside.pop());
        eventually("there is room", || running.handle.stats().connections == 7);
        exchange(&mut running.dial(), b"in");
    });
}

fn dial_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127/8 is loopback");
    socket.connect(&to.into()).expect("it listens");
    with_patience(socket.into())
}

#[test]
fn a_source_over_its_share_is_reset_and_others_are_not() {
    each_mode(|options| {
        let options = Options { connections_per_source_max: Some(3), ..options };
        let running = start(options, 1, |_, _| Some(echo()));
        let to = running.engine.addresses()[0];
        let from = |last| dial_from(Ipv4Addr::new(127, 0, 0, last), to);
        let mut greedy: Vec<_> = (0..3).map(|_| from(2)).collect();
        greedy.iter_mut().for_each(|client| exchange(client, b"in"));
        assert!(is_refused(from(2)) && is_refused(from(2)));
        exchange(&mut from(3), b"in");
        assert_eq!((running.handle.stats().refused_source, running.handle.stats().refused_limit), (2, 0));
        greedy.clear();
        eventually("all are gone", || running.handle.stats().connections == 0);
        exchange(&mut from(2), b"in");
    });
}

/// A machine that opens `to` and closes with what came of it: 100 and the error's number, or 50.
fn opener(to: SocketAddr, timeout_ms: u64, failed: &Arc<Mutex<Vec<OpenError>>>) -> Box<dyn Machine<App>> {
    let failed = Arc::clone(failed);
    machine(move |input, context: &mut Context<'_, App>| {
        if let Input::Opened = input {
            let failed = Arc::clone(&failed);
            let other = machine(move |input, _| match input {
                Input::Failed(error) => lock(&failed).push(error),
                _ => panic!("it cannot be opened"),
            });
            assert!(context.open(Open::new(to, timeout_ms), other).is_ok());
        }
    })
}

#[test]
fn a_connect_that_is_refused_fails_and_is_recorded() {
    each_mode(|options| {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let to = nobody.local_addr().expect("bound");
        drop(nobody);
        let failed = Arc::default();
        let seen = Arc::clone(&failed);
        let running = start(options, 1, move |_, _| Some(opener(to, 10_000, &seen)));
        let client = running.dial();
        assert_eq!(running.next_cause(), CloseCause::Failed(OpenError::Refused));
        assert_eq!(*lock(&failed), [OpenError::Refused]);
        drop(client);
    });
}

/// A listener whose queue is full, so that nobody answers a SYN, and those who fill it.
fn deaf_listener() -> (socket2::Socket, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left");
    let listener = new();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback");
    listener.listen(0).expect("it is bound");
    let address = listener.local_addr().expect("bound");
    let fill = || {
        let socket = new();
        socket.set_nonblocking(true).expect("a plain option");
        let _ = socket.connect(&address);
        socket
    };
    let queue = (0..4).map(|_| fill()).collect();
    (listener, queue)
}

#[test]
fn a_connect_that_nobody_answers_times_out() {
    each_mode(|options| {
        let (listener, _queue) = deaf_listener();
        let to = listener.local_addr().expect("bound").as_socket().expect("an IP address");
        let failed = Arc::default();
        let seen = Arc::clone(&failed);
        let running = start(options, 1, move |_, _| Some(opener(to, 100, &seen)));
        let _client = running.dial();
        assert_eq!(running.next_cause(), CloseCause::Failed(OpenError::TimedOut));
        assert_eq!(*lock(&failed), [OpenError::TimedOut]);
    });
}

#[test]
fn after_accepting_stopped_who_is_inside_is_served_and_nobody_else() {
    each_mode(|options| {
        let running = start(options, 2, |_, _| Some(echo()));
        let (first, second) = (running.engine.addresses()[0], running.engine.addresses()[1]);
        let mut inside: Vec<_> = (0..20).map(|_| dial(first)).collect();
        running.handle.stop_accepting(0);
        running.handle.stop_accepting(0);
        eventually("nobody listens", || TcpStream::connect(first).is_err());
        inside.iter_mut().for_each(|client| exchange(client, b"inside"));
        exchange(&mut dial(second), b"another listener");
    });
}

#[test]
fn the_end_of_the_engine_resets_everything_and_leaves_nothing() {
    each_mode(|options| {
        let seen: Arc<Mutex<Vec<Lost>>> = Arc::default();
        let machines = Arc::clone(&seen);
        let Running { app, engine, handle } = start(options, 1, move |_, _| {
            let seen = Arc::clone(&machines);
            Some(machine(move |input, context| match input {
                Input::Bytes(bytes) => {
                    let all = bytes.len();
                    context.write(bytes.take(all));
                }
                Input::Lost(lost) => {
                    lock(&seen).push(lost);
                    // A machine may want to go on; there is nothing to go on with.
                    let open = Open::new(context.peer, 1_000);
                    assert!(context.open(open, echo()).is_err());
                }
                _ => {}
            }))
        });
        let mut clients: Vec<_> = (0..30).map(|_| dial(engine.addresses()[0])).collect();
        clients.iter_mut().for_each(|client| exchange(client, b"hello"));
        let address = engine.addresses()[0];
        let mut known = Vec::new();
        handle.for_each(|info| known.push(info.address));
        drop(engine);
        assert_eq!(*lock(&seen), [Lost::Shutdown; 30]);
        assert_eq!((app.closed().len(), handle.stats().connections), (30, 0));
        assert!(clients.into_iter().all(is_refused));
        assert!(TcpStream::connect(address).is_err());
        assert!(handle.post(known[0], Letter::Number(1)).is_err());
        drop(handle);
        assert_eq!(Arc::strong_count(&app), 1, "no thread holds the application any more");
    });
}

#[test]
fn a_large_message_is_offered_when_it_is_whole_and_not_before() {
    const MESSAGE: usize = 9 << 20;
    each_mode(|options| {
        let offered: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = Arc::clone(&offered);
        let running = start(options, 1, move |_, _| {
            let seen = Arc::clone(&seen);
            Some(machine(move |input, context| match input {
                Input::Bytes(bytes) => {
                    lock(&seen).push(bytes.len());
                    if bytes.len() < MESSAGE {
                        return context.need(MESSAGE);
                    }
                    let good = bytes.bytes()[..MESSAGE] == pattern(MESSAGE);
                    bytes.consume(MESSAGE);
                    assert!(context.write_copy(if good { b"good" } else { b"evil" }));
                }
                Input::EndOfStream => context.close(0),
                _ => {}
            }))
        });
        let mut client = running.dial();
        for _ in 0..2 {
            pattern(MESSAGE).chunks(100_001).for_each(|part| client.write_all(part).expect("it is read"));
            expect(&mut client, b"good");
        }
        let offered = lock(&offered);
        assert!(offered.iter().sum::<usize>() <= 3 * MESSAGE, "{offered:?}");
        drop(client);
        running.all_closed();
        eventually("no buffer is held", || running.handle.stats().buffer_bytes <= 4 * (64 << 10));
    });
}

#[test]
fn a_slow_reader_gets_all_and_the_machine_never_queues_more_than_it_wants() {
    const PART: usize = 256 << 10;
    const PARTS: usize = 64;
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            let (mut parts, mut told) = (0, 0);
            Some(machine(move |input, context| {
                match input {
                    Input::Opened => context.watch_output(true),
                    Input::Flushed { written, queued } => {
                        told += written;
                        assert_eq!(told + queued, parts * PART, "every byte is told once");
                        if queued > 0 {
                            return;
                        }
                    }
                    _ => return,
                }
                if parts == PARTS {
                    return context.close(6);
                }
                parts += 1;
                assert!(context.write_copy(&pattern(PART)));
            }))
        });
        let mut client = running.dial();
        // More than the kernel takes for a client that does not read: the machine has to wait.
        eventually("output waits", || running.connections().iter().any(|info| info.memory_bytes > 0));
        let part = pattern(PART);
        for _ in 0..PARTS {
            for piece in part.chunks(5_000) {
                expect(&mut client, piece);
            }
            let held: u32 = running.connections().iter().map(|info| info.memory_bytes).sum();
            assert!(held as usize <= 2 * PART, "{held}");
        }
        expect_end(&mut client);
        let record = running.all_closed().remove(0);
        assert_eq!((record.cause, record.bytes_out), (CloseCause::Machine(6), (PARTS * PART) as u64));
    });
}

#[test]
fn a_machine_that_answers_each_flush_with_more_is_heard_out_although_its_socket_never_fills() {
    const PARTS: usize = 100;
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            let mut parts = 0;
            Some(machine(move |input, context| {
                match input {
                    Input::Opened => context.watch_output(true),
                    Input::Flushed { queued: 0, .. } => {}
                    _ => return,
                }
                if parts == PARTS {
                    return context.close(6);
                }
                parts += 1;
                assert!(context.write_copy(b"part"));
            }))
        });
        let mut client = running.dial();
        (0..PARTS).for_each(|_| expect(&mut client, b"part"));
        expect_end(&mut client);
    });
}

#[test]
fn a_close_comes_after_everything_that_was_written_even_with_input_unread() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            Some(machine(|input, context| {
                if let Input::Bytes(_) = input {
                    assert!(context.write_copy(&pattern(4 << 20)));
                    context.close(7);
                }
            }))
        });
        let mut client = running.dial();
        client.write_all(&pattern(60_000)).expect("the kernel takes it");
        expect(&mut client, &pattern(4 << 20));
        expect_end(&mut client);
        assert_eq!(running.next_cause(), CloseCause::Machine(7));
    });
}

#[test]
fn a_reset_by_the_machine_throws_output_away() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| {
            Some(machine(|input, context| {
                if let Input::Bytes(_) = input {
                    assert!(context.write_copy(&pattern(4 << 20)));
                    context.reset(8);
                }
            }))
        });
        let mut client = running.dial();
        client.write_all(b"go").expect("the kernel takes it");
        let error = client.read_to_end(&mut Vec::new()).expect_err("it is a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(running.next_cause(), CloseCause::Machine(8));
    });
}

#[test]
fn a_machine_that_panics_ends_its_connection_and_nothing_of_its_call_reaches_another() {
    each_mode(|options| {
        let options = Options { workers: 1, reactors: 1, ..options };
        let running = start(options, 2, |listener, _| {
            if listener == 0 {
                return Some(echo());
            }
            Some(machine(|input, context| {
                if let Input::Bytes(_) = input {
                    assert!(context.write_copy(b"of the call that panicked"));
                    context.close(77);
                    panic!("this test panics inside a machine");
                }
            }))
        });
        let (good, bad) = (running.engine.addresses()[0], running.engine.addresses()[1]);
        let mut neighbour = dial(good);
        exchange(&mut neighbour, b"before");
        let mut faulty = dial(bad);
        faulty.write_all(b"go").expect("it is open");
        assert!(is_refused(faulty));
        assert_eq!(running.next_cause(), CloseCause::Lost(Lost::Broken));
        exchange(&mut neighbour, b"after");
        exchange(&mut dial(good), b"new");
    });
}

#[test]
fn a_connection_without_a_machine_is_reset() {
    each_mode(|options| {
        let running = start(options, 1, |_, _| None);
        assert!(is_refused(running.dial()));
        assert_eq!(running.all_closed().len(), 1);
    });
}

#[test]
fn connections_spread_over_the_workers() {
    each_mode(|options| {
        let shared = options.accept == bowline_engine::options::Accept::Shared;
        // Where every turn is a move, newcomers do not stay where they were placed.
        let stay = options.rebalance != Rebalance::EveryTurn;
        let running = start(options, 1, |_, _| Some(echo()));
        let mut clients: Vec<_> = (0..40).map(|_| running.dial()).collect();
        clients.iter_mut().for_each(|client| exchange(client, b"hello"));
        let on_first = running.connections().iter().filter(|info| info.reactor == 0).count();
        assert!(running.connections().iter().all(|info| info.reactor < 2));
        assert!(!stay || if shared { on_first == 20 } else { (1..40).contains(&on_first) }, "{on_first}");
    });
}

#[test]
fn an_address_in_use_is_named_in_the_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = taken.local_addr().expect("bound");
    for mode in support::MODES {
        let error = support::start_at(*mode, address).expect_err("somebody else has it");
        assert_eq!(error.address, Some(address));
    }
}

/// The modes differ, or a test that runs in "every mode" runs twice in one.
#[test]
fn no_mode_stands_twice() {
    let modes: &[Mode] = support::MODES;
    assert!(!modes.is_empty());
    assert!(modes.iter().enumerate().all(|(at, mode)| !modes[..at].contains(mode)));
}
