//! What a thread of this process does at this moment, as the kernel tells it: its system call, and its time on a core.
//!
//! `/proc/self/task/TID/syscall` and `schedstat` (proc(5)) are opened when watching starts, since a daemon that gives
//! up root cannot open them later.

use std::{fs::File, io, os::unix::fs::FileExt};

/// The files of one thread.
#[derive(Debug)]
pub struct ThreadActivity {
    call: File,
    schedule: File,
}

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs, or would if it were given a core.
    Runs,
    /// It sleeps in a system call.
    Sleeps(SystemCall),
    /// The kernel does not tell, or the thread is gone.
    Unknown,
}

/// A system call by its number and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number on this machine.
    pub number: i64,
    /// Its first argument.
    pub first: u64,
}

/// How long a thread has been on a core, and ready without one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds on a core.
    pub ran: u64,
    /// Nanoseconds in which it was ready and had no core; the kernel adds them when it runs again.
    pub waited: u64,
}

impl ThreadActivity {
    /// Opens what is told of the thread that the kernel knows as `id`.
    ///
    /// # Errors
    /// When there is no such thread, or this process may not look at itself (`hidepid`, or it is not dumpable).
    pub fn of(id: u64) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/self/task/{id}/{name}"));
        Ok(Self { call: open("syscall")?, schedule: open("schedstat")? })
    }

    /// What it does now.
    pub fn now(&self) -> Activity {
        let mut buffer = [0; 256];
        match read(&self.call, &mut buffer) {
            Some(line) if line.starts_with("running") => Activity::Runs,
            Some(line) => parsed(line).map_or(Activity::Unknown, Activity::Sleeps),
            None => Activity::Unknown,
        }
    }

    /// How long it has been on a core until now.
    pub fn schedule(&self) -> Option<Schedule> {
        let mut buffer = [0; 128];
        let mut numbers = read(&self.schedule, &mut buffer)?.split_whitespace().map(str::parse);
        Some(Schedule { ran: numbers.next()?.ok()?, waited: numbers.next()?.ok()? })
    }
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let length = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

/// `NUMBER 0xARGUMENT ...`; a number of -1 is a thread that is stopped outside of any call.
fn parsed(line: &str) -> Option<SystemCall> {
    let mut words = line.split_whitespace();
    let number = words.next()?.parse().ok().filter(|number| *number >= 0)?;
    let first = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    Some(SystemCall { number, first })
}

impl SystemCall {
    /// Its name, or `None` for one that no program waits in for long.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.number).map(|(_, name)| *name)
    }

    /// Whether its first argument is a descriptor that it waits for.
    pub fn is_of_descriptor(self) -> bool {
        OF_DESCRIPTOR.contains(&self.number)
    }

    /// Whether it waits for the events of the epoll instance `descriptor`.
    pub fn waits_for_epoll(self, descriptor: i32) -> bool {
        EPOLL.contains(&self.number) && i64::from(descriptor) == i64::from(self.first as u32)
    }
}

/// epoll_pwait2(2) has this number on every architecture.
const EPOLL_PWAIT2: i64 = 441;
#[cfg(target_arch = "x86_64")]
const EPOLL: [i64; 3] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, EPOLL_PWAIT2];
#[cfg(not(target_arch = "x86_64"))]
const EPOLL: [i64; 2] = [libc::SYS_epoll_pwait, EPOLL_PWAIT2];

const OF_DESCRIPTOR: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sendfile,
];

const NAMES: &[(i64, &str)] = &[
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_pread64, "pread64"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (EPOLL_PWAIT2, "epoll_pwait2"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
    (libc::SYS_getrandom, "getrandom"),
    (libc::SYS_io_getevents, "io_getevents"),
    (libc::SYS_semtimedop, "semtimedop"),
    (libc::SYS_msgrcv, "msgrcv"),
    (libc::SYS_msync, "msync"),
    (libc::SYS_exit, "exit"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause"),
];

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream, sync::mpsc};

    use super::*;

    #[test]
    fn a_thread_that_sleeps_is_seen_in_its_system_call() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = theirs.read(&mut [0]);
        });
        let id = told.recv().unwrap();
        let activity = ThreadActivity::of(u64::try_from(id).unwrap()).unwrap();
        let call = loop {
            if let Activity::Sleeps(call) = activity.now()
                && call.is_of_descriptor()
            {
                break call;
            }
            std::thread::yield_now();
        };
        assert!(matches!(call.name(), Some("recvfrom" | "read")), "{call:?}");
        drop(ours);
        thread.join().unwrap();
        assert_eq!(activity.now(), Activity::Unknown);
    }

    #[test]
    fn the_time_on_a_core_of_a_thread_that_works_grows() {
        let activity =
            ThreadActivity::of(u64::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap()).unwrap();
        let before = activity.schedule().unwrap();
        while activity.schedule().unwrap().ran == before.ran {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        assert_eq!(parsed("-1 0x7ffd 0x7f00"), None);
        assert_eq!(parsed(""), None);
        assert_eq!(parsed("232 0x5 0x7f 0x1 0x2 0x0 0x0 0x7ffd 0x7f"), Some(SystemCall { number: 232, first: 5 }));
    }
}
