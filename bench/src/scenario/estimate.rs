//! Owns how long a measurement is going to take, so that a run can say before it begins when it will end. An estimate: its
//! constants were taken from runs on two processors, and windows that are taken again come on top. Called by `suite`.

use std::time::Duration;

use crate::scenario::count::Counting;
use crate::scenario::file::Load;
use crate::scenario::file::What;
use crate::scenario::file::Window;

/// One measurement of one target.
pub fn duration(window: &Window) -> Duration {
    let processes = STARTED * window.processes as u32;
    processes
        + match &window.what {
            What::Load(load) | What::SlowReaders { load, .. } => load_duration(load),
            // Opened twice over: the warm baseline answers as many requests as there are connections.
            What::Memory { connections, polled } => {
                MEMORY_SETTLES + polled.unwrap_or_default() + CONNECTION_MEMORY * *connections as u32
            }
            // Memory is often given back before it must be.
            What::Churn { total, rest, .. } => CONNECTION_CHURN * *total as u32 + *rest * 2 / 3,
        }
}

fn load_duration(load: &Load) -> Duration {
    let count = match load.counting {
        None => Duration::ZERO,
        Some(Counting::Syscalls) => Duration::from_millis(500),
        Some(Counting::Instructions) => {
            Duration::from_secs(4) + CONNECTION_BELOW_VALGRIND * load.connections as u32
        }
    };
    load.warmup + load.duration + count + CONNECTION * load.connections as u32
}

/// For people.
pub fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

/// Backend, target and load generator; and their ends.
const STARTED: Duration = Duration::from_millis(400);
/// Opened, answered once, closed.
const CONNECTION: Duration = Duration::from_micros(150);
const CONNECTION_BELOW_VALGRIND: Duration = Duration::from_micros(400);
const CONNECTION_MEMORY: Duration = Duration::from_micros(300);
const CONNECTION_CHURN: Duration = Duration::from_micros(120);
const MEMORY_SETTLES: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file::Scenario;

    #[test]
    fn an_estimate_holds_at_least_what_a_window_waits_for() {
        for name in Scenario::names() {
            for window in Scenario::find(name).expect(name).windows {
                let least = match &window.what {
                    What::Load(load) | What::SlowReaders { load, .. } => load.warmup + load.duration,
                    What::Memory { polled, .. } => polled.unwrap_or_default(),
                    What::Churn { rest, .. } => *rest / 2,
                };
                assert!(duration(&window) > least, "{name} {}", window.name);
            }
        }
    }

    #[test]
    fn durations_are_short_to_read() {
        assert_eq!([90, 150, 3_600].map(|s| shown(Duration::from_secs(s))), ["90 s", "3 min", "60 min"]);
    }
}
