//! The rules that every driver keeps, each by its number.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_engine::machine::{Address, Input, Open};

use crate::each_driver;
use crate::probe::{Act, Actor, Log, Note, Probe, act};
use crate::stage::{Ended, Stage};

/// A machine that notes its own address when it opens, and what else comes to it.
pub(crate) fn noting(log: &Arc<Log>, name: &'static str) -> Act {
    let log = Arc::clone(log);
    act(move |input, context| match input {
        Input::Opened => log.add(format!("{name} is {}", context.me.as_u64())),
        Input::Bytes(bytes) => {
            log.add(format!("{name} read {}", String::from_utf8_lossy(bytes.bytes())));
            bytes.consume(bytes.len());
        }
        Input::Mail { mail: Note::Number(number), .. } => log.add(format!("{name} got {number}")),
        Input::Bounced { mail: Note::Number(number), .. } => log.add(format!("{name} got back {number}")),
        Input::Deadline => log.add(format!("{name} woke")),
        Input::EndOfStream => log.add(format!("{name} saw the end")),
        Input::Lost(lost) => log.add(format!("{name} lost {lost:?}")),
        _ => {}
    })
}

/// The address that a machine noted.
pub(crate) fn address_of(stage: &mut dyn Stage, app: &Probe, name: &str) -> Address {
    let start = format!("{name} is ");
    stage.until(&|lines| lines.iter().any(|line| line.starts_with(&start)));
    let lines = app.log.lines();
    let line = lines.iter().rev().find(|line| line.starts_with(&start)).expect("just seen");
    Address::from_u64(line[start.len()..].parse().expect("a number"))
}

pub(crate) fn has(line: &str) -> impl Fn(&[String]) -> bool + '_ {
    move |lines| lines.iter().any(|one| one == line)
}

pub(crate) fn count(app: &Probe, start: &str) -> usize {
    app.log.lines().iter().filter(|line| line.starts_with(start)).count()
}

#[test]
fn rule_1_and_2_calls_never_meet_and_time_never_goes_back_under_load() {
    // Two machines that flood each other and themselves, while bytes come; the probe watches every call.
    let flooding = |log: &Arc<Log>, listener: u16| {
        let (log, mut left) = (Arc::clone(log), 300_u32);
        Some(act(move |input, context| match input {
            Input::Opened => log.add(format!("m{listener} is {}", context.me.as_u64())),
            Input::Mail { mail: Note::Go(other), .. } => {
                for number in 0..10 {
                    context.send(other, Note::Number(number));
                }
            }
            Input::Mail { from, mail: Note::Number(number) } if left > 0 => {
                left -= 1;
                context.send(if number % 3 == 0 { context.me } else { from }, Note::Number(number + 1));
                if left == 0 {
                    log.add(format!("m{listener} is done"));
                }
            }
            Input::Bytes(bytes) => bytes.consume(bytes.len()),
            _ => {}
        }))
    };
    each_driver(flooding, |stage, app| {
        let ends = [stage.connect(0), stage.connect(1)];
        let addresses = ["m0", "m1"].map(|name| address_of(stage, app, name));
        stage.post(addresses[0], Note::Go(addresses[1])).expect("it is there");
        stage.post(addresses[1], Note::Go(addresses[0])).expect("it is there");
        for _ in 0..50 {
            ends.iter().for_each(|end| stage.send(*end, b"noise"));
        }
        stage.until(&|lines| has("m0 is done")(lines) && has("m1 is done")(lines));
    });
}

#[test]
fn rule_2_randomness_comes_with_the_call() {
    let drawing = |log: &Arc<Log>, _| {
        let log = Arc::clone(log);
        Some(act(move |input, context| {
            if matches!(input, Input::Opened) {
                let differ = context.random() != context.random();
                log.add(format!("differ {differ}"));
            }
        }))
    };
    each_driver(drawing, |stage, _| {
        stage.connect(0);
        stage.until(&has("differ true"));
    });
}

#[test]
fn rule_3_what_is_not_consumed_is_offered_again_with_more_behind_it() {
    let pairs = |log: &Arc<Log>, _| {
        let log = Arc::clone(log);
        Some(act(move |input, _| {
            let Input::Bytes(bytes) = input else { return };
            while bytes.len() >= 3 {
                let three = String::from_utf8_lossy(&bytes.bytes()[..3]).into_owned();
                bytes.consume(3);
                log.add(three);
            }
        }))
    };
    each_driver(pairs, |stage, app| {
        let end = stage.connect(0);
        for part in ["ab", "cde", "f", "gh", "i"] {
            stage.send(end, part.as_bytes());
        }
        stage.until(&has("ghi"));
        assert_eq!(app.log.lines(), ["abc", "def", "ghi"]);
    });
}

#[test]
fn rule_3_a_machine_that_needs_more_is_offered_so_much_and_large_bytes_once() {
    const LARGE: usize = 1_000_000;
    let needy = |log: &Arc<Log>, _| {
        let (log, mut offered) = (Arc::clone(log), 0);
        Some(act(move |input, context| {
            let Input::Bytes(bytes) = input else { return };
            offered += bytes.len();
            if bytes.len() < LARGE {
                return context.need(LARGE);
            }
            let is_right = bytes.bytes().iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8);
            log.add(format!("whole {is_right}"));
            log.add(if offered <= LARGE + (80 << 10) { "offered once" } else { "offered again" });
            bytes.consume(LARGE);
        }))
    };
    each_driver(needy, |stage, _| {
        let end = stage.connect(0);
        let large: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
        stage.send(end, &large);
        stage.until(&|lines| has("whole true")(lines) && has("offered once")(lines));
    });
}

#[test]
fn rule_3_a_machine_that_asks_for_one_byte_more_each_time_is_not_fed_byte_by_byte() {
    const ALL: usize = 32_000;
    let asking = |log: &Arc<Log>, _| {
        let (log, mut offers) = (Arc::clone(log), 0);
        Some(act(move |input, context| {
            let Input::Bytes(bytes) = input else { return };
            offers += 1;
            if bytes.len() < ALL {
                if bytes.len() == 16_384 {
                    log.add("more than is offered again");
                }
                return context.need(bytes.len() + 1);
            }
            log.add(if offers < 40 { "in portions".to_owned() } else { format!("in {offers} offers") });
            bytes.consume(ALL);
        }))
    };
    each_driver(asking, |stage, _| {
        let end = stage.connect(0);
        stage.send(end, &[7; 16_384]);
        stage.until(&has("more than is offered again"));
        stage.send(end, &[7; ALL - 16_384]);
        stage.until(&has("in portions"));
    });
}

#[test]
fn rule_3_consuming_nothing_from_a_full_buffer_is_a_fault() {
    let idle = |log: &Arc<Log>, _| {
        let log = Arc::clone(log);
        Some(act(move |input, _| {
            if let Input::Lost(lost) = input {
                log.add(format!("lost {lost:?}"));
            }
        }))
    };
    each_driver(idle, |stage, _| {
        let end = stage.connect(0);
        stage.send(end, &[7; 20_000]);
        stage.until(&has("lost Stuck"));
        assert_eq!(stage.rest(end).1, Ended::Reset);
    });
}

#[test]
fn rule_4_mail_arrives_in_the_order_of_its_sender_exactly_once() {
    const MAIL: u64 = 500;
    let both = |log: &Arc<Log>, listener: u16| {
        let own = Arc::clone(log);
        Some(match listener {
            0 => noting(log, "receiver"),
            _ => act(move |input, context| match input {
                Input::Opened => own.add(format!("sender is {}", context.me.as_u64())),
                Input::Mail { mail: Note::Go(to), .. } => {
                    (0..MAIL).for_each(|number| context.send(to, Note::Number(number)));
                }
                _ => {}
            }),
        })
    };
    each_driver(both, |stage, app| {
        let (receiver, sender) = (stage.connect(0), stage.connect(1));
        let to = address_of(stage, app, "receiver");
        let from = address_of(stage, app, "sender");
        stage.post(from, Note::Go(to)).expect("it is there");
        stage.send(receiver, b"noise");
        let last = format!("receiver got {}", MAIL - 1);
        stage.until(&has(&last));
        let got: Vec<_> =
            app.log.lines().into_iter().filter(|line| line.starts_with("receiver got")).collect();
        let expected: Vec<_> = (0..MAIL).map(|number| format!("receiver got {number}")).collect();
        assert_eq!(got, expected);
        stage.finish(sender);
    });
}

/// Machines of listener 0 note; those of listener 1 send three numbers to whom they are told, and close after `closes`.
fn senders(closes: bool) -> impl Fn(&Arc<Log>, u16) -> Option<Act> + Clone + Send + Sync + 'static {
    move |log, listener| {
        let own = Arc::clone(log);
        Some(match listener {
            0 => noting(log, "receiver"),
            _ => act(move |input, context| match input {
                Input::Opened => own.add(format!("sender is {}", context.me.as_u64())),
                Input::Mail { mail: Note::Go(to), .. } => {
                    (0..3).for_each(|number| context.send(to, Note::Number(number)));
                    if closes {
                        context.close(9);
                    }
                }
                Input::Bounced { mail: Note::Number(number), .. } => {
                    own.add(format!("sender got back {number}"))
                }
                _ => {}
            }),
        })
    }
}

fn gone_receiver(stage: &mut dyn Stage, app: &Probe) -> (Address, Address) {
    let receiver = stage.connect(0);
    let to = address_of(stage, app, "receiver");
    stage.cut(receiver);
    stage.until(&has("closed Lost(Reset)"));
    stage.connect(1);
    (to, address_of(stage, app, "sender"))
}

#[test]
fn rule_4_mail_without_receiver_goes_back_in_order() {
    each_driver(senders(false), |stage, app| {
        let (to, from) = gone_receiver(stage, app);
        stage.post(from, Note::Go(to)).expect("it is there");
        stage.until(&has("sender got back 2"));
        let back: Vec<_> =
            app.log.lines().into_iter().filter(|line| line.starts_with("sender got back")).collect();
        assert_eq!(back, ["sender got back 0", "sender got back 1", "sender got back 2"]);
        assert_eq!(app.orphans.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn rule_4_mail_goes_to_no_later_connection_of_the_same_slot() {
    each_driver(senders(false), |stage, app| {
        let (to, from) = gone_receiver(stage, app);
        for _ in 0..4 {
            stage.connect(0);
        }
        stage.until(&|lines| lines.iter().filter(|line| line.starts_with("receiver is")).count() == 5);
        stage.post(from, Note::Go(to)).expect("it is there");
        stage.until(&has("sender got back 2"));
        assert_eq!(count(app, "receiver got"), 0);
    });
}

#[test]
fn rule_4_a_bounce_whose_sender_is_gone_is_given_to_the_application() {
    each_driver(senders(true), |stage, app| {
        let (to, from) = gone_receiver(stage, app);
        stage.post(from, Note::Go(to)).expect("it is there");
        stage.until(&|lines| lines.iter().filter(|line| *line == "orphaned").count() == 3);
        assert_eq!(count(app, "sender got back"), 0);
    });
}

#[test]
fn rule_4_mail_from_outside_to_nobody_is_given_to_the_application_or_back() {
    each_driver(senders(false), |stage, app| {
        let (to, _) = gone_receiver(stage, app);
        stage.post(to, Note::Number(1)).expect("the address was one");
        stage.until(&has("orphaned"));
        let never = Address { index: 200_000, generation: 0 };
        assert!(matches!(stage.post(never, Note::Number(7)), Err(Note::Number(7))));
    });
}

#[test]
fn rule_5_output_keeps_its_order_and_close_comes_after_the_flush() {
    let writer = |_: &Arc<Log>, _| {
        Some(act(move |input, context| {
            let Input::Bytes(bytes) = input else { return };
            bytes.consume(bytes.len());
            context.close(3);
            for block in 0..200_u8 {
                assert!(context.write_copy(&[block; 1_000]), "there is memory");
            }
        }))
    };
    each_driver(writer, |stage, _| {
        let end = stage.connect(0);
        // One byte, since a close over unread ones is a reset.
        stage.send(end, b"g");
        let (bytes, ended) = stage.rest(end);
        assert_eq!((bytes.len(), ended), (200_000, Ended::Finished));
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 1_000) as u8));
        stage.until(&has("closed Machine(3)"));
    });
}

#[test]
fn rule_5_effects_are_carried_out_before_the_next_call() {
    // A machine that mails itself finds its deadline, its pause and its mail in force by then.
    let careful = |log: &Arc<Log>, _| {
        let log = Arc::clone(log);
        Some(act(move |input, context| match input {
            Input::Opened => {
                assert!(context.write_copy(b"abc"), "there is memory");
                context.send(context.me, Note::Number(context.output_bytes as u64));
            }
            Input::Mail { mail: Note::Number(before), .. } => {
                // Output waits for the end of the batch, or has been flushed by then: never lost, never doubled.
                let is_kept = before == 0 && (context.output_bytes == 3 || context.output_bytes == 0);
                log.add(format!("kept {is_kept}"));
            }
            _ => {}
        }))
    };
    each_driver(careful, |stage, _| {
        let end = stage.connect(0);
        assert_eq!(stage.receive(end, 3), b"abc");
        stage.until(&has("kept true"));
    });
}

#[test]
fn rule_5_a_reset_throws_queued_output_away() {
    let abrupt = |_: &Arc<Log>, _| {
        Some(act(move |input, context| {
            let Input::Bytes(bytes) = input else { return };
            bytes.consume(bytes.len());
            assert!(context.write_copy(&[1; 5_000]), "there is memory");
            context.reset(4);
        }))
    };
    each_driver(abrupt, |stage, _| {
        let end = stage.connect(0);
        stage.send(end, b"go");
        assert_eq!(stage.rest(end).1, Ended::Reset);
        stage.until(&has("closed Machine(4)"));
    });
}

#[test]
fn rule_5_the_write_side_is_shut_after_what_is_queued_and_reading_goes_on() {
    let half = |log: &Arc<Log>, _| {
        let (log, mut said) = (Arc::clone(log), false);
        Some(act(move |input, context| match input {
            Input::Opened => {
                assert!(context.write_copy(&[5; 90_000]), "there is memory");
                context.shutdown_write();
            }
            Input::Bytes(bytes) if !said => {
                said = true;
                log.add("read after the end of its own");
                bytes.consume(bytes.len());
            }
            Input::EndOfStream => context.close(1),
            _ => {}
        }))
    };
    each_driver(half, |stage, _| {
        let end = stage.connect(0);
        let (bytes, ended) = stage.rest(end);
        assert_eq!((bytes.len(), ended), (90_000, Ended::Finished));
        stage.send(end, b"still here");
        stage.until(&has("read after the end of its own"));
        stage.finish(end);
        stage.until(&has("closed Machine(1)"));
    });
}

/// A machine that opens connections where it is told to; theirs note what becomes of them.
fn opener(log: &Arc<Log>, _: u16) -> Option<Act> {
    let log = Arc::clone(log);
    Some(act(move |input, context| match input {
        Input::Opened => log.add(format!("opener is {}", context.me.as_u64())),
        Input::Mail { mail: Note::Open(to), .. } => {
            let opened = Box::new(Actor::new(&log, greeter(&log)));
            if context.open(Open::new(to, 5_000), opened).is_err() {
                log.add("no room");
            }
        }
        _ => {}
    }))
}

/// A machine that greets its peer and closes once it is answered.
fn greeter(log: &Arc<Log>) -> Act {
    let log = Arc::clone(log);
    act(move |input, context| match input {
        Input::Opened => assert!(context.write_copy(b"hello"), "there is memory"),
        Input::Failed(error) => log.add(format!("failed {error:?}")),
        Input::Bytes(bytes) => {
            log.add(format!("answered {}", String::from_utf8_lossy(bytes.bytes())));
            bytes.consume(bytes.len());
            context.close(2);
        }
        _ => {}
    })
}

#[test]
fn rule_5_an_opened_connection_begins_with_opened_and_carries_bytes_both_ways() {
    each_driver(opener, |stage, app| {
        let [open, _] = stage.targets();
        stage.connect(0);
        let me = address_of(stage, app, "opener");
        stage.post(me, Note::Open(open)).expect("it is there");
        let server = stage.accept();
        assert_eq!(stage.receive(server, 5), b"hello");
        stage.send(server, b"x");
        stage.until(&has("answered x"));
        assert_eq!(stage.rest(server), (Vec::new(), Ended::Finished));
        stage.until(&has("closed Machine(2)"));
    });
}

#[test]
fn rule_5_a_connect_that_fails_says_so_once_and_last() {
    each_driver(opener, |stage, app| {
        let [_, refused] = stage.targets();
        stage.connect(0);
        let me = address_of(stage, app, "opener");
        stage.post(me, Note::Open(refused)).expect("it is there");
        stage.until(&has("closed Failed(Refused)"));
        assert_eq!(count(app, "failed Refused"), 1);
    });
}

/// A machine that stops reading after the first byte that it is offered, until a number comes.
fn pausing(log: &Arc<Log>, listener: u16) -> Option<Act> {
    let (log, mut paused) = (Arc::clone(log), false);
    if listener == 1 {
        return Some(noting(&log, "other"));
    }
    Some(act(move |input, context| match input {
        Input::Opened => log.add(format!("pausing is {}", context.me.as_u64())),
        Input::Bytes(bytes) => {
            log.add(if paused { "FORBIDDEN bytes while paused" } else { "read" });
            let taken = if context.input_bytes == 0 && !paused { 1 } else { bytes.len() };
            log.add(format!("took {}", String::from_utf8_lossy(&bytes.bytes()[..taken])));
            bytes.consume(taken);
            paused = true;
            context.set_reading(false);
        }
        Input::Mail { .. } => {
            paused = false;
            context.set_reading(true);
            log.add("resumed");
        }
        Input::Lost(lost) => log.add(format!("lost {lost:?}")),
        _ => {}
    }))
}

/// What a pausing machine took in all.
fn taken(lines: &[String]) -> String {
    lines.iter().filter_map(|line| line.strip_prefix("took ")).collect()
}

#[test]
fn rule_6_a_paused_machine_is_offered_nothing_until_it_resumes_and_then_everything() {
    each_driver(pausing, |stage, app| {
        let (end, other) = (stage.connect(0), stage.connect(1));
        let me = address_of(stage, app, "pausing");
        stage.send(end, b"abcd");
        stage.until(&has("took a"));
        stage.send(end, b"efgh");
        // Another connection's bytes pass meanwhile, so the engine has had its chance to break the rule.
        stage.send(other, b"p");
        stage.until(&has("other read p"));
        assert_eq!(taken(&app.log.lines()), "a");
        for round in 0..8 {
            let before = taken(&app.log.lines()).len();
            if before == 8 {
                break;
            }
            assert!(round < 7, "it resumed seven times for eight bytes");
            stage.post(me, Note::Number(0)).expect("it is there");
            stage.until(&|lines| taken(lines).len() > before);
        }
        assert_eq!(taken(&app.log.lines()), "abcdefgh");
    });
}

#[test]
fn rule_6_a_paused_machine_learns_of_a_reset() {
    each_driver(pausing, |stage, _| {
        let end = stage.connect(0);
        stage.send(end, b"abcd");
        stage.until(&has("took a"));
        stage.cut(end);
        stage.until(&has("lost Reset"));
        stage.until(&has("closed Lost(Reset)"));
    });
}

#[test]
fn rule_6_the_end_of_the_stream_waits_for_what_is_before_it() {
    let slow = |log: &Arc<Log>, _| {
        let log = Arc::clone(log);
        Some(act(move |input, context| match input {
            Input::Opened => log.add(format!("slow is {}", context.me.as_u64())),
            Input::Bytes(bytes) => {
                bytes.consume(1);
                log.add("one");
                context.set_reading(false);
            }
            Input::Mail { .. } => context.set_reading(true),
            Input::EndOfStream => log.add("end"),
            _ => {}
        }))
    };
    each_driver(slow, |stage, app| {
        let end = stage.connect(0);
        let me = address_of(stage, app, "slow");
        stage.send(end, b"xyz");
        stage.finish(end);
        for round in 1..=3 {
            stage.until(&|lines| lines.iter().filter(|line| *line == "one").count() == round);
            assert_eq!(count(app, "end"), 0, "round {round}");
            stage.post(me, Note::Number(0)).expect("it is there");
        }
        stage.until(&has("end"));
    });
}

/// Machines of listener 0 arm, arm later, and are not to be woken early; those of listener 1 arm and disarm.
fn armed(log: &Arc<Log>, listener: u16) -> Option<Act> {
    let (log, mut due) = (Arc::clone(log), None);
    Some(act(move |input, context| match (input, listener) {
        (Input::Opened, 0) => {
            context.set_deadline(Some(context.now.after_ms(20)));
            due = Some(context.now.after_ms(120));
            context.send(context.me, Note::Number(0));
        }
        (Input::Mail { .. }, 0) => context.set_deadline(due),
        (Input::Deadline, 0) => {
            let is_early = due.is_none_or(|due| context.now < due);
            log.add(if is_early { "FORBIDDEN an early deadline" } else { "woke" });
            due = None;
        }
        (Input::Opened, _) => {
            context.set_deadline(Some(context.now.after_ms(30)));
            context.send(context.me, Note::Number(0));
        }
        (Input::Mail { .. }, _) => {
            context.set_deadline(None);
            log.add("disarmed");
        }
        (Input::Deadline, _) => log.add("FORBIDDEN a disarmed deadline"),
        _ => {}
    }))
}

#[test]
fn rule_7_arming_again_replaces_and_a_stale_deadline_never_comes() {
    each_driver(armed, |stage, app| {
        stage.connect(1);
        stage.until(&has("disarmed"));
        stage.connect(0);
        stage.until(&has("woke"));
        // A second one wakes later still: by then everything stale would have come.
        stage.connect(0);
        stage.until(&|lines| lines.iter().filter(|line| *line == "woke").count() == 2);
        assert_eq!(count(app, "woke"), 2);
    });
}

#[test]
fn a_connection_that_nobody_wants_is_reset() {
    each_driver(
        |log, listener| (listener == 1).then(|| noting(log, "other")),
        |stage, _| {
            let end = stage.connect(0);
            assert_eq!(stage.rest(end).1, Ended::Reset);
            let other = stage.connect(1);
            stage.send(other, b"f");
            stage.until(&has("other read f"));
        },
    );
}
