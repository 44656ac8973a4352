//! How much processor time a thread has used, asked by any other thread: one system call, for once in a while.

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

/// The clock that runs while one thread runs.
pub(crate) struct ThreadClock(ClockId);

/// Low bits of the name that Linux gives the clock of a thread: it is one thread's, and exact (`CPUCLOCK_PERTHREAD_MASK`
/// and `CPUCLOCK_SCHED`). `pthread_getcpuclockid` makes the same name.
const THREAD_CLOCK: i32 = 6;

impl ThreadClock {
    /// The clock of the thread that calls.
    pub(crate) fn of_this_thread() -> ThreadClock {
        ThreadClock(ClockId::from_raw(!gettid().as_raw() << 3 | THREAD_CLOCK))
    }

    /// Microseconds that the thread has run; nothing once it has ended.
    pub(crate) fn micros(&self) -> Option<u64> {
        let time = clock_gettime(self.0).ok()?;
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_time_of_another_thread_grows_while_it_runs_and_only_then() {
        let (tell, told) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let clock = ThreadClock::of_this_thread();
            while clock.micros().expect("it runs") < 20_000 {
                black_box(0);
            }
            tell.send(clock).expect("the test waits");
            assert!(wait.recv().is_err(), "nothing is ever sent");
        });
        let clock = told.recv().expect("it gets there");
        let other_began = clock.micros().expect("it has not ended");
        assert!(other_began >= 20_000);
        let own = ThreadClock::of_this_thread();
        let began = own.micros().expect("this one runs");
        while own.micros().expect("this one runs") < began + 20_000 {
            black_box(0);
        }
        // The other has fallen asleep by now, give or take the telling.
        assert!(clock.micros().expect("it has not ended") < other_began + 10_000);
        drop(go_on);
        other.join().expect("it did not panic");
        assert_eq!(clock.micros(), None);
    }
}
