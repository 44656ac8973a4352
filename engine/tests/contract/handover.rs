//! Rule 5, handing over: a machine gives its connection to another, which gets everything from the next input on. The one
//! before it gets nothing any more; every test looks for that.

use std::sync::Arc;

use bowline_engine::machine::{Address, Context, Input};

use crate::each_driver;
use crate::probe::{Act, Actor, Log, Note, Probe, act};
use crate::rules::{address_of, count, has, noting};
use crate::stage::{Ended, Stage};

/// What a machine does in the call in which it hands over.
type Last = fn(&mut Context<'_, Probe>);

/// A machine that leaves what it reads, and hands over to one that notes when it is told to.
fn leaving(last: Last) -> impl Fn(&Arc<Log>, u16) -> Option<Act> + Clone + Send + Sync + 'static {
    move |log, _| {
        let mut first = noting(log, "first");
        let log = Arc::clone(log);
        Some(act(move |input, context| match input {
            Input::Mail { mail: Note::Go(_), .. } => {
                last(context);
                log.add("handed over");
                context.hand_over(Box::new(Actor::successor(&log, noting(&log, "second"))));
            }
            Input::Bytes(bytes) => log.add(format!("first was offered {}", bytes.len())),
            other => first(other, context),
        }))
    }
}

/// The same, at once when the first bytes come, of which it takes three.
fn leaving_at_once(last: Last) -> impl Fn(&Arc<Log>, u16) -> Option<Act> + Clone + Send + Sync + 'static {
    move |log, _| {
        let mut first = noting(log, "first");
        let log = Arc::clone(log);
        Some(act(move |input, context| match input {
            Input::Bytes(bytes) if bytes.len() < 3 => context.need(3),
            Input::Bytes(bytes) => {
                bytes.consume(3);
                last(context);
                log.add("handed over");
                context.hand_over(Box::new(Actor::successor(&log, noting(&log, "second"))));
            }
            other => first(other, context),
        }))
    }
}

fn nothing(_: &mut Context<'_, Probe>) {}

/// Tells the machine at `to` to hand over.
fn go(stage: &mut dyn Stage, to: Address) {
    stage.post(to, Note::Go(to)).expect("it is there");
}

fn expect_first_is_silent(app: &Probe) {
    let lines = app.log.lines();
    let after = lines.iter().skip_while(|line| *line != "handed over");
    assert!(!after.clone().any(|line| line.starts_with("first")), "{lines:#?}");
    assert_eq!(after.filter(|line| *line == "handed over").count(), 1, "{lines:#?}");
}

#[test]
fn what_is_left_of_an_offer_is_offered_to_the_new_machine_at_once() {
    each_driver(leaving_at_once(nothing), |stage, app| {
        let end = stage.connect(0);
        stage.send(end, b"go!rest");
        // On a socket both parts come at once; in the simulator the second may be late.
        stage.until(&|lines| lines.iter().any(|line| line.starts_with("second read")));
        stage.send(end, b"!");
        let all = |lines: &[String]| {
            let read = lines.iter().filter_map(|line| line.strip_prefix("second read "));
            read.collect::<String>() == "rest!"
        };
        stage.until(&all);
        expect_first_is_silent(app);
    });
}

#[test]
fn a_machine_that_leaves_a_full_buffer_to_another_is_no_fault() {
    const BYTES: usize = 100_000;
    let passing = |log: &Arc<Log>, _| {
        let log = Arc::clone(log);
        Some(act(move |input, context| {
            let Input::Bytes(_) = input else { return };
            let (own, mut read) = (Arc::clone(&log), 0);
            let second = act(move |input, _| match input {
                Input::Bytes(bytes) => {
                    read += bytes.len();
                    bytes.consume(bytes.len());
                    own.add(format!("second has {read}"));
                }
                Input::Lost(lost) => own.add(format!("second lost {lost:?}")),
                _ => {}
            });
            log.add("handed over");
            context.hand_over(Box::new(Actor::successor(&log, second)));
        }))
    };
    each_driver(passing, |stage, app| {
        let end = stage.connect(0);
        stage.send(end, &[7; BYTES]);
        let all = format!("second has {BYTES}");
        stage.until(&has(&all));
        expect_first_is_silent(app);
    });
}

#[test]
fn mail_goes_to_whoever_has_the_connection_in_order() {
    each_driver(leaving(nothing), |stage, app| {
        stage.connect(0);
        let to = address_of(stage, app, "first");
        stage.post(to, Note::Number(1)).expect("it is there");
        go(stage, to);
        stage.post(to, Note::Number(2)).expect("it is there");
        stage.until(&has("second got 2"));
        assert!(has("first got 1")(&app.log.lines()));
        expect_first_is_silent(app);
    });
}

#[test]
fn mail_that_comes_back_comes_to_the_new_machine() {
    fn send_to_nobody(context: &mut Context<'_, Probe>) {
        context.send(Address { index: 200, generation: 77 }, Note::Number(9));
    }
    each_driver(leaving(send_to_nobody), |stage, app| {
        stage.connect(0);
        let to = address_of(stage, app, "first");
        go(stage, to);
        stage.until(&has("second got back 9"));
        expect_first_is_silent(app);
    });
}

#[test]
fn an_armed_deadline_stays_armed() {
    fn arm(context: &mut Context<'_, Probe>) {
        context.set_deadline(Some(context.now.after_ms(30)));
    }
    each_driver(leaving(arm), |stage, app| {
        stage.connect(0);
        let to = address_of(stage, app, "first");
        go(stage, to);
        stage.until(&has("second woke"));
        assert_eq!(count(app, "second woke"), 1);
        expect_first_is_silent(app);
    });
}

#[test]
fn what_was_written_is_told_to_the_new_machine_if_the_old_one_wished_it() {
    fn write(context: &mut Context<'_, Probe>) {
        context.watch_output(true);
        assert!(context.write_copy(b"farewell"), "there is memory");
    }
    let watching = |log: &Arc<Log>, _| {
        let mut first = noting(log, "first");
        let log = Arc::clone(log);
        Some(act(move |input, context| match input {
            Input::Mail { mail: Note::Go(_), .. } => {
                write(context);
                log.add("handed over");
                let own = Arc::clone(&log);
                let second = act(move |input, _| {
                    if let Input::Flushed { queued: 0, .. } = input {
                        own.add("second wrote all");
                    }
                });
                context.hand_over(Box::new(Actor::successor(&log, second)));
            }
            Input::Flushed { .. } => log.add("first wrote"),
            other => first(other, context),
        }))
    };
    each_driver(watching, |stage, app| {
        let end = stage.connect(0);
        let to = address_of(stage, app, "first");
        go(stage, to);
        assert_eq!(stage.receive(end, 8), b"farewell");
        stage.until(&has("second wrote all"));
        expect_first_is_silent(app);
    });
}

#[test]
fn the_end_of_the_stream_is_told_to_the_new_machine_once() {
    each_driver(leaving(nothing), |stage, app| {
        let end = stage.connect(0);
        let to = address_of(stage, app, "first");
        go(stage, to);
        stage.until(&has("handed over"));
        stage.finish(end);
        stage.until(&has("second saw the end"));
        stage.post(to, Note::Number(1)).expect("it is there");
        stage.until(&has("second got 1"));
        assert_eq!(count(app, "second saw the end"), 1);
        expect_first_is_silent(app);
    });
}

#[test]
fn the_end_of_the_stream_is_told_to_the_new_machine_even_if_the_old_one_knows_it() {
    each_driver(leaving(nothing), |stage, app| {
        let end = stage.connect(0);
        let to = address_of(stage, app, "first");
        stage.send(end, b"rest");
        stage.finish(end);
        stage.until(&has("first saw the end"));
        go(stage, to);
        stage.until(&has("second saw the end"));
        stage.post(to, Note::Number(1)).expect("it is there");
        stage.until(&has("second got 1"));
        let second: Vec<_> = app.log.lines().into_iter().filter(|line| line.starts_with("second")).collect();
        assert_eq!(second, ["second read rest", "second saw the end", "second got 1"], "in this order, once");
        expect_first_is_silent(app);
    });
}

#[test]
fn what_the_old_machine_needed_no_longer_holds() {
    fn need_much(context: &mut Context<'_, Probe>) {
        context.need(1_000_000);
    }
    let needing = |log: &Arc<Log>, _| {
        let mut leaving = leaving(need_much)(log, 0).expect("it makes one");
        let log = Arc::clone(log);
        Some(act(move |input, context| {
            if let Input::Bytes(bytes) = &input {
                log.add(format!("first was offered {}", bytes.len()));
                return context.need(100_000);
            }
            leaving(input, context);
        }))
    };
    each_driver(needing, |stage, app| {
        let end = stage.connect(0);
        let to = address_of(stage, app, "first");
        stage.send(end, b"few");
        stage.until(&|lines| lines.iter().any(|line| line.starts_with("first was offered")));
        go(stage, to);
        stage.until(&|lines| lines.iter().any(|line| line.starts_with("second read")));
        stage.send(end, b"more");
        let all = |lines: &[String]| {
            let read = lines.iter().filter_map(|line| line.strip_prefix("second read "));
            read.collect::<String>() == "fewmore"
        };
        stage.until(&all);
        expect_first_is_silent(app);
    });
}

#[test]
fn a_connection_that_was_paused_stays_paused() {
    let pausing = |log: &Arc<Log>, _| {
        let mut first = noting(log, "first");
        let log = Arc::clone(log);
        Some(act(move |input, context| match input {
            Input::Bytes(_) => {
                log.add("first paused");
                context.set_reading(false);
            }
            Input::Mail { mail: Note::Go(_), .. } => {
                log.add("handed over");
                let mut second = noting(&log, "second");
                let resuming = act(move |input, context| {
                    if let Input::Mail { mail: Note::Number(_), .. } = &input {
                        context.set_reading(true);
                    }
                    second(input, context);
                });
                context.hand_over(Box::new(Actor::successor(&log, resuming)));
            }
            other => first(other, context),
        }))
    };
    each_driver(pausing, |stage, app| {
        let end = stage.connect(0);
        let to = address_of(stage, app, "first");
        stage.send(end, b"k");
        stage.until(&has("first paused"));
        stage.send(end, b"ept");
        go(stage, to);
        stage.until(&has("handed over"));
        stage.post(to, Note::Number(1)).expect("it is there");
        let all = |lines: &[String]| {
            let read = lines.iter().filter_map(|line| line.strip_prefix("second read "));
            read.collect::<String>() == "kept"
        };
        stage.until(&all);
        let lines = app.log.lines();
        let place = |start: &str| lines.iter().position(|line| line.starts_with(start));
        assert!(place("second got 1") < place("second read"), "nothing is offered before: {lines:#?}");
        expect_first_is_silent(app);
    });
}

#[test]
fn a_connection_that_is_handed_over_and_closed_in_one_call_calls_nobody() {
    fn close(context: &mut Context<'_, Probe>) {
        assert!(context.write_copy(b"bye"), "there is memory");
        context.close(7);
    }
    each_driver(leaving_at_once(close), |stage, app| {
        let end = stage.connect(0);
        stage.send(end, b"go!");
        assert_eq!(stage.rest(end), (b"bye".to_vec(), Ended::Finished));
        stage.until(&has("closed Machine(7)"));
        assert_eq!(count(app, "second"), 0, "{:#?}", app.log.lines());
        expect_first_is_silent(app);
    });
}

#[test]
fn a_lost_connection_is_told_to_the_new_machine() {
    each_driver(leaving(nothing), |stage, app| {
        let end = stage.connect(0);
        let to = address_of(stage, app, "first");
        go(stage, to);
        stage.until(&has("handed over"));
        stage.cut(end);
        stage.until(&has("second lost Reset"));
        expect_first_is_silent(app);
    });
}
