//! Models of who runs, who arms and who releases: rules O1 to O4, O7 and O8.
//!
//! Every thread adds one cause and then works like a worker, so that a slot which one queued may be run by another: that
//! is stealing. After all have ended nothing may be left over.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::time::Tick;
use crate::timer;

/// Runs one model: `threads` work at once on a world with one connection.
fn model(sent: usize, on_timer: OnTimer, threads: &[fn(&World, Address)], check: fn(&World)) {
    let threads: Arc<[fn(&World, Address)]> = threads.into();
    loom::model(move || {
        let world = Arc::new(World::new());
        let address = world.open(on_timer);
        let (here, others) = threads.split_first().expect("a model has threads");
        let spawn = |act: &fn(&World, Address)| {
            let (world, act) = (Arc::clone(&world), *act);
            thread::spawn(move || act(&world, address))
        };
        let others: Vec<_> = others.iter().map(spawn).collect();
        here(&world, address);
        others.into_iter().for_each(|other| other.join().expect("it did not panic"));
        world.check(sent);
        check(&world);
    });
}

#[test]
fn event_mail_and_timer_all_lead_to_a_turn_of_one_holder() {
    model(
        1,
        OnTimer::Stay,
        &[|world, _| world.fire(0), |world, _| world.fetch(0, 0), |world, to| world.send(to, 0)],
        |world| assert_eq!((counted(&world.seen.timers), counted(&world.seen.delivered[0])), (1, 1)),
    );
}

#[test]
fn every_event_of_a_connection_that_rests_armed_leads_to_a_turn() {
    model(
        0,
        OnTimer::Stay,
        &[
            |world, _| {
                world.fetch(0, 0);
                world.fetch(0, 0);
            },
            |world, _| world.fetch(0, 0),
        ],
        |world| assert!(counted(&world.seen.events[0]) >= 1),
    );
}

#[test]
fn mail_of_two_senders_arrives_once_and_in_the_order_of_each() {
    model(
        4,
        OnTimer::Stay,
        &[
            |world, to| {
                world.send(to, 0);
                world.send(to, 1);
            },
            |world, to| {
                world.send(to, 2);
                world.send(to, 3);
            },
        ],
        |world| {
            let order = world.seen.order.lock().expect("no test panics in it");
            let place = |mail| order.iter().position(|seen| *seen == mail).expect("it was delivered");
            assert!(place(0) < place(1) && place(2) < place(3));
        },
    );
}

#[test]
fn mail_to_a_connection_that_closes_arrives_or_bounces_once() {
    model(
        2,
        OnTimer::Close,
        &[|world, _| world.fire(0), |world, to| world.send(to, 0), |world, to| world.send(to, 1)],
        |world| assert_eq!(world.table.live(), 0),
    );
}

#[test]
fn a_new_connection_gets_no_mail_of_the_one_before() {
    model(
        1,
        OnTimer::Close,
        &[
            |world, _| {
                world.fire(0);
                if world.table.live() == 0 {
                    world.open(OnTimer::Stay);
                }
            },
            |world, to| world.send(to, 0),
        ],
        |_| {},
    );
}

#[test]
fn an_event_of_an_ended_generation_never_runs() {
    model(
        0,
        OnTimer::Close,
        &[
            |world, _| {
                world.fire(0);
                if world.table.live() == 0 {
                    world.open(OnTimer::Stay);
                }
            },
            |world, _| world.fetch(0, 0),
        ],
        |_| {},
    );
}

#[test]
fn arming_never_touches_the_socket_of_the_next_connection() {
    model(
        1,
        OnTimer::Close,
        &[
            |world, _| world.fetch(0, 0),
            |world, to| world.send(to, 0),
            |world, _| {
                world.fire(0);
                if world.table.live() == 0 {
                    world.open(OnTimer::Stay);
                }
            },
        ],
        |_| {},
    );
}

#[test]
fn a_connection_that_moves_keeps_its_events_and_its_mail() {
    model(
        1,
        OnTimer::Move,
        &[
            |world, _| world.fire(0),
            |world, _| {
                world.fetch(0, 0);
                world.fetch(0, 1);
            },
            |world, to| world.send(to, 0),
        ],
        |world| assert_eq!((counted(&world.seen.timers), counted(&world.seen.delivered[0])), (1, 1)),
    );
}

#[test]
fn a_connection_that_moves_there_and_back_misses_no_event_of_either_reactor() {
    model(
        0,
        OnTimer::Move,
        &[
            |world, _| {
                world.fire(0);
                world.fire(0);
            },
            |world, _| world.fetch(0, 0),
            |world, _| world.fetch(0, 1),
        ],
        // The second may come while the first waits; then they are one.
        |world| assert!((1..=2).contains(&counted(&world.seen.timers))),
    );
}

#[test]
fn an_event_of_the_old_home_never_runs_for_the_next_connection() {
    model(
        0,
        OnTimer::MoveThenClose,
        &[
            |world, _| {
                world.fire(0);
                world.fire(0);
                if world.table.live() == 0 {
                    world.open(OnTimer::Stay);
                }
            },
            |world, _| world.fetch(0, 0),
        ],
        |_| {},
    );
}

#[test]
fn bodies_go_only_while_nobody_can_reach_them() {
    loom::model(|| {
        let world = Arc::new(World::new());
        let old = world.open(OnTimer::Close);
        world.fire(0);
        let trimmer = Arc::clone(&world);
        let trimmer = thread::spawn(move || {
            for slot in trimmer.table.trim(Time::from_ms(20_000)) {
                trimmer.queue.push(slot);
            }
            trimmer.drain();
        });
        let sender = Arc::clone(&world);
        let sender = thread::spawn(move || sender.send(old, 0));
        world.table.look([(0, Tick(1))].into_iter(), |_, tick, shared| {
            assert_eq!(timer::fire(shared, tick, tick), timer::Fired::Nothing);
        });
        let new = world.open(OnTimer::Stay);
        assert_ne!(new, old);
        trimmer.join().expect("it did not panic");
        sender.join().expect("it did not panic");
        world.check(1);
        assert_eq!(counted(&world.seen.bounced[0]), 1);
    });
}
