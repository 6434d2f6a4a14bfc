//! What a thread that stands still is doing: from a few looks at it, some milliseconds apart.
//!
//! A look says what the kernel and the interpreter show at one moment; only together do they say why. Nothing is blamed
//! on a line while the thread was given no time on a core.

use std::time::Duration;

use unisono_sys::thread_activity::{Activity, Schedule, SystemCall};

use crate::interpreter::{LockHolder, Thread};

/// What is seen of a thread at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What the kernel says that it does.
    pub activity: Activity,
    /// Who has the interpreter's lock.
    pub lock: LockHolder,
    /// Whether what it sleeps on is that lock.
    pub waits_for_lock: bool,
    /// Whether the garbage collector is at work.
    pub is_collecting: bool,
    /// The address of the instruction that it executes.
    pub instruction: Option<u64>,
}

/// Several looks at a thread, and what it was given meanwhile.
#[derive(Debug, Clone)]
pub struct Looks {
    /// The thread.
    pub thread: Thread,
    /// One after the other.
    pub each: Vec<Look>,
    /// How long they took.
    pub lasted: Duration,
    /// Its time on a core before and after, where the kernel tells it.
    pub schedule: Option<(Schedule, Schedule)>,
}

/// Why a thread stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It waits for the interpreter's lock, which another thread has, where that could be seen.
    WaitsForLock(Option<Thread>),
    /// It is ready and is given no core: its group has used up its quota, or the machine is overloaded.
    NoCpu,
    /// It works.
    Works {
        /// At what.
        on: Work,
        /// Whether it has the interpreter's lock all the while.
        holds_lock: bool,
    },
    /// It sleeps in a system call.
    Sleeps {
        /// Which.
        call: SystemCall,
        /// Whether it has the interpreter's lock all the while, so that no other thread runs either.
        holds_lock: bool,
    },
    /// Nothing can be seen of it.
    Unknown,
}

/// What a thread works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The garbage collector.
    Collection,
    /// One call of C that lasts.
    OneCall,
    /// Code of Python.
    Python,
}

/// A thread that has had less of a core than this while it was looked at has not worked.
const IDLE_SHARE: f64 = 0.1;
/// One that has had more has.
const BUSY_SHARE: f64 = 0.3;
/// One that has waited for a core for so much longer than it had one was kept from it.
const STARVED_TIMES: f64 = 3.0;

impl Looks {
    /// Returns what they say together.
    pub fn cause(&self) -> Cause {
        let count = |what: &dyn Fn(&Look) -> bool| self.each.iter().filter(|look| what(look)).count();
        let looks = self.each.len();
        let most = looks / 2 + 1;
        let held_elsewhere = |look: &Look| matches!(look.lock, LockHolder::Thread(holder) if holder != self.thread);
        let holds_lock = count(&|look| look.lock == LockHolder::Thread(self.thread)) >= most;
        let elsewhere = count(&held_elsewhere);
        let runs = count(&|look| look.activity == Activity::Runs);
        let (busy, starved) = self.shares();
        let slept_on_futex = self.last_call().is_some_and(|call| call.name() == Some("futex")) || runs > 0;

        if looks == 0 || count(&|look| look.activity == Activity::Unknown) >= most {
            return Cause::Unknown;
        }
        if count(&|look| look.waits_for_lock) >= most
            || (elsewhere + 1 >= looks && looks > 1 && busy < IDLE_SHARE && slept_on_futex)
        {
            let holder = self.each.iter().rev().find(|look| held_elsewhere(look));
            return Cause::WaitsForLock(holder.and_then(|look| match look.lock {
                LockHolder::Thread(holder) => Some(holder),
                _ => None,
            }));
        }
        // What it has waited is counted only once it runs again, so that a thread which never did shows nothing.
        if starved > busy * STARVED_TIMES + BUSY_SHARE || (runs + 1 >= looks && busy < IDLE_SHARE) {
            return Cause::NoCpu;
        }
        if busy > BUSY_SHARE || runs >= most {
            let on = if count(&|look| look.is_collecting) >= most {
                Work::Collection
            } else if self.stands_at_one_instruction() {
                Work::OneCall
            } else {
                Work::Python
            };
            return Cause::Works { on, holds_lock };
        }
        self.last_call().map_or(Cause::Unknown, |call| Cause::Sleeps { call, holds_lock })
    }

    /// The shares of the time that it was on a core, and that it was kept from one.
    fn shares(&self) -> (f64, f64) {
        let Some((before, after)) = self.schedule else { return (0.0, 0.0) };
        let whole = self.lasted.as_secs_f64().max(1e-6);
        let share = |before: u64, after: u64| Duration::from_nanos(after.saturating_sub(before)).as_secs_f64() / whole;
        (share(before.ran, after.ran), share(before.waited, after.waited))
    }

    fn last_call(&self) -> Option<SystemCall> {
        self.each.iter().rev().find_map(|look| match look.activity {
            Activity::Sleeps(call) => Some(call),
            _ => None,
        })
    }

    fn stands_at_one_instruction(&self) -> bool {
        let mut instructions = self.each.iter().map(|look| look.instruction);
        let Some(Some(first)) = instructions.next() else { return false };
        instructions.all(|instruction| instruction == Some(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: Thread = Thread(1);
    const OTHER: Thread = Thread(2);
    const FUTEX: SystemCall = SystemCall { number: 202, first: 0x1000 };
    const SLEEP: SystemCall = SystemCall { number: 230, first: 0 };
    const LOOK: Look = Look {
        activity: Activity::Runs,
        lock: LockHolder::Thread(LOOP),
        waits_for_lock: false,
        is_collecting: false,
        instruction: Some(7),
    };

    /// Five looks of 4 ms, with what share of that on a core, and ready without one.
    fn looks(each: [Look; 5], busy: f64, starved: f64) -> Looks {
        let lasted = Duration::from_millis(20);
        let share = |share: f64| (lasted.as_secs_f64() * share * 1e9) as u64;
        let schedule = Some((Schedule::default(), Schedule { ran: share(busy), waited: share(starved) }));
        Looks { thread: LOOP, each: each.to_vec(), lasted, schedule }
    }

    #[test]
    fn a_call_that_sleeps_is_named_and_so_is_the_lock_that_it_keeps() {
        let sleeps = Look { activity: Activity::Sleeps(SLEEP), lock: LockHolder::Nothing, ..LOOK };
        assert_eq!(looks([sleeps; 5], 0.0, 0.0).cause(), Cause::Sleeps { call: SLEEP, holds_lock: false });
        let keeps = Look { lock: LockHolder::Thread(LOOP), ..sleeps };
        assert_eq!(looks([keeps; 5], 0.0, 0.0).cause(), Cause::Sleeps { call: SLEEP, holds_lock: true });
    }

    #[test]
    fn a_thread_that_works_is_told_by_what_it_works_on() {
        let works = |each| looks(each, 0.95, 0.0).cause();
        assert_eq!(works([LOOK; 5]), Cause::Works { on: Work::OneCall, holds_lock: true });
        let collects = Look { is_collecting: true, ..LOOK };
        assert_eq!(works([collects; 5]), Cause::Works { on: Work::Collection, holds_lock: true });
        let mut moves = [LOOK; 5];
        moves[3].instruction = Some(9);
        assert_eq!(works(moves), Cause::Works { on: Work::Python, holds_lock: true });
        let without = Look { lock: LockHolder::Nothing, ..LOOK };
        assert_eq!(works([without; 5]), Cause::Works { on: Work::OneCall, holds_lock: false });
    }

    #[test]
    fn a_thread_that_waits_for_the_lock_is_not_to_blame_for_it() {
        let waits =
            Look { activity: Activity::Sleeps(FUTEX), lock: LockHolder::Thread(OTHER), waits_for_lock: true, ..LOOK };
        assert_eq!(looks([waits; 5], 0.0, 0.0).cause(), Cause::WaitsForLock(Some(OTHER)));
        // Caught between two futexes, awake for a moment each time.
        let wakes = Look { activity: Activity::Runs, waits_for_lock: false, ..waits };
        assert_eq!(looks([waits, wakes, wakes, waits, wakes], 0.02, 0.0).cause(), Cause::WaitsForLock(Some(OTHER)));
        // A lock of the program's own, while another thread runs: that is a sleep.
        let own = Look { waits_for_lock: false, lock: LockHolder::Nothing, ..waits };
        assert_eq!(looks([own; 5], 0.0, 0.0).cause(), Cause::Sleeps { call: FUTEX, holds_lock: false });
    }

    #[test]
    fn nothing_is_blamed_on_code_that_is_given_no_core() {
        assert_eq!(looks([LOOK; 5], 0.0, 0.0).cause(), Cause::NoCpu);
        assert_eq!(looks([LOOK; 5], 0.1, 0.9).cause(), Cause::NoCpu);
    }

    #[test]
    fn what_cannot_be_seen_is_not_guessed() {
        let unseen = Look { activity: Activity::Unknown, ..LOOK };
        assert_eq!(looks([unseen; 5], 0.0, 0.0).cause(), Cause::Unknown);
        assert_eq!(Looks { each: Vec::new(), ..looks([LOOK; 5], 0.0, 0.0) }.cause(), Cause::Unknown);
    }
}
