//! Signals: their names, holding them back, waiting for them, and sending them.
//!
//! A program that supervises others holds back every signal from its first instruction and takes them one by one with
//! [`HeldSignals::next`]. So there are no handlers, nothing runs in the middle of something else, and a signal that
//! comes early waits. What cannot be held (KILL, STOP), and the two that the C library keeps for itself (32 and 33), is
//! out of reach; a fault of the program's own (a bad address) ends it even when held.
//!
//! Values that travel with real-time signals are not read: a group cannot be sent one.

#![allow(unsafe_code)]

use core::{fmt, mem::MaybeUninit, ptr, str::FromStr, time::Duration};

use crate::{error::SystemError, process::ProcessId};

/// A signal by its number. Source: signal(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(i32);

impl Signal {
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(libc::SIGINT);
    /// Quit from the keyboard.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// The terminal is gone, or "read the configuration again".
    pub const HUP: Self = Self(libc::SIGHUP);
    /// The polite request to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// The end; cannot be held.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// A child has ended, stopped or gone on.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Go on, if stopped.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// Stop; cannot be held.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Stop, from the keyboard.
    pub const TSTP: Self = Self(libc::SIGTSTP);
    /// A background process has read from its terminal.
    pub const TTIN: Self = Self(libc::SIGTTIN);
    /// A background process has written to its terminal.
    pub const TTOU: Self = Self(libc::SIGTTOU);

    /// The signal with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        (1..=libc::SIGRTMAX()).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Whether it stops a process that does not say otherwise.
    pub fn stops(self) -> bool {
        matches!(self, Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU)
    }
}

/// Reads `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number).ok_or(UnknownSignal);
        }
        let name = match text.split_at_checked(3) {
            Some((start, name)) if start.eq_ignore_ascii_case("SIG") => name,
            _ => text,
        };
        if let Some((number, _)) = NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)) {
            return Ok(Self(*number));
        }
        let (base, offset) = match name.find(['+', '-']).and_then(|at| name.split_at_checked(at)) {
            Some((base, offset)) => (base, offset.parse::<i32>().map_err(|_| UnknownSignal)?),
            None => (name, 0),
        };
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        let base = match base {
            _ if base.eq_ignore_ascii_case("RTMIN") => *real_time.start(),
            _ if base.eq_ignore_ascii_case("RTMAX") => *real_time.end(),
            _ => return Err(UnknownSignal),
        };
        base.checked_add(offset).filter(|number| real_time.contains(number)).map(Self).ok_or(UnknownSignal)
    }
}

/// Its name without `SIG`; `RTMIN+n` for a real-time signal.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None if self.0 >= libc::SIGRTMIN() => write!(f, "RTMIN+{}", self.0 - libc::SIGRTMIN()),
            None => write!(f, "{}", self.0),
        }
    }
}

/// There is no signal of that name or number here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSignal;

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such signal (try `TERM`, `SIGHUP`, `15` or `RTMIN+3`)")
    }
}

impl core::error::Error for UnknownSignal {}

/// Every signal of this thread, held back for the rest of its life.
///
/// It must be the only thread: others would still be interrupted.
pub struct HeldSignals {
    all: libc::sigset_t,
    /// What was held before, which is what a child must start with.
    before: libc::sigset_t,
}

impl HeldSignals {
    /// Holds back every signal that can be, and takes notice of children again should the caller have ignored them.
    ///
    /// Source: sigprocmask(2), and wait(2) on what an ignored SIGCHLD does to waiting.
    pub fn hold() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are ours and large enough by their type; sigfillset initialises the one, sigprocmask the
        // other, and neither can fail with these arguments. SIG_DFL is no function, so nothing of ours is ever called.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            Self { all: all.assume_init(), before: before.assume_init() }
        }
    }

    /// Waits for the next signal; `None` when `timeout` passed first, or when the wait was disturbed.
    ///
    /// Source: sigtimedwait(2).
    pub fn next(&self, timeout: Option<Duration>) -> Option<Signal> {
        let timeout = timeout.map(|timeout| libc::timespec {
            // At most 68 years at once; a longer wait is disturbed then.
            tv_sec: i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX).into(),
            // Below a thousand million, by Duration's own rule.
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        });
        let pointer = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the set is initialised and `timeout` outlives the call; no information is asked for.
        let number = unsafe { libc::sigtimedwait(&raw const self.all, ptr::null_mut(), pointer) };
        (number > 0).then_some(Signal(number))
    }

    /// Stops this process as Ctrl-Z would, and comes back when something lets it go on.
    ///
    /// Comes back at once where nothing could let it go on: the first process of a namespace, and a group without a
    /// shell, are not stopped by this signal (signal(7), "orphaned process group" in setpgid(2)).
    pub fn suspend(&self) {
        // SAFETY: the set is ours and initialised by sigemptyset. The signal is pending for this process alone and
        // its action was never changed, so unblocking it runs no code of ours.
        unsafe {
            let mut stop = MaybeUninit::uninit();
            libc::sigemptyset(stop.as_mut_ptr());
            libc::sigaddset(stop.as_mut_ptr(), libc::SIGTSTP);
            libc::kill(libc::getpid(), libc::SIGTSTP);
            libc::sigprocmask(libc::SIG_UNBLOCK, stop.as_ptr(), ptr::null_mut());
            libc::sigprocmask(libc::SIG_BLOCK, stop.as_ptr(), ptr::null_mut());
        }
    }

    /// What was held before, for a child to start with.
    pub(crate) fn before(&self) -> &libc::sigset_t {
        &self.before
    }
}

/// What a signal is sent to. Source: kill(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// One process.
    Process(ProcessId),
    /// Every process of a group.
    Group(ProcessId),
    /// Every process that may be sent one, but for this one and the first of the namespace. Only the first process
    /// of a namespace should ever say this.
    Everything,
}

/// Sends a signal.
///
/// # Errors
/// [`SystemError::NO_PROCESS`] when no process is there to get it; otherwise as in kill(2).
pub fn send(recipient: Recipient, signal: Signal) -> Result<(), SystemError> {
    let recipient = match recipient {
        Recipient::Process(process) => process.number(),
        Recipient::Group(process) => -process.number(),
        Recipient::Everything => -1,
    };
    // SAFETY: no memory is involved. A `ProcessId` is never 0 or 1's negative by mistake: it is positive by its rule.
    SystemError::check(unsafe { libc::kill(recipient, signal.0) }).map(drop)
}

/// The standard signals of Linux; where a number has two names, the usual one.
const NAMES: &[(i32, &str)] = &[
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGKILL, "KILL"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCHLD, "CHLD"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGSTOP, "STOP"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGPWR, "PWR"),
    (libc::SIGSYS, "SYS"),
];

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_signal_is_read_back_from_its_name_and_number() {
        for number in (1..=31).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal));
            assert_eq!(number.to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn a_name_is_read_however_it_is_written() {
        for text in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        assert_eq!("SIGRTMAX-1".parse(), Ok(Signal(libc::SIGRTMAX() - 1)));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "SIG", "TERMINATE", "0", "-1", "65", "RTMIN-1", "RTMAX+1", "RTMIN+x", "RTMIN+99999999999", "é"]
        {
            assert_eq!(text.parse::<Signal>(), Err(UnknownSignal), "{text}");
        }
    }
}
