//! Starting a program: the same bargain as `posix_spawn`, without what that costs for each of thousands.
//!
//! The child borrows the memory of this process until it has become another program, and the calling thread waits for
//! that (`CLONE_VM` and `CLONE_VFORK`, see clone(2)), so nothing is copied. Between the two, the child does only what
//! is safe after a fork, on a stack of its own that is made once: `posix_spawn` of glibc 2.36 maps and unmaps one each
//! time, and to unmap it interrupts every processor that another thread of this process has run on. Its end comes as a
//! descriptor together with its number, so it cannot have been taken in before it is watched.
//!
//! What the child gets: a process group of its own, three streams, a folder, an environment, the signal mask of the
//! caller, SIGPIPE and SIGXFSZ as they are in a fresh process, and the limit of descriptors as it was before we raised
//! it. Everything else is inherited, as with `posix_spawn`.
//!
//! No search in `PATH` and no shell for files without an interpreter: the caller says which files to try.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, waitpid},
};

use crate::descriptors;

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// The files to try, in this order, by the rules of execvp(3).
    pub files: &'a [CString],
    /// Its arguments, its own name first.
    pub arguments: &'a [CString],
    /// All of its environment: `NAME=VALUE`.
    pub environment: &'a [CString],
    /// Where it runs; `None`: where we are. A relative file is looked for from there.
    pub folder: Option<&'a CStr>,
    /// Standard input, output and error; `None`: ours. Descriptors that could be taken for one of them are refused.
    pub streams: [Option<BorrowedFd<'a>>; 3],
    /// The terminal in whose foreground its group is put.
    pub terminal: Option<BorrowedFd<'a>>,
    /// Whether it gets nothing but these three, whatever else we would let it inherit.
    pub only_streams: bool,
}

/// A program that was started. It has not been waited for yet.
#[derive(Debug)]
pub struct Started {
    /// Its number.
    pub pid: Pid,
    /// Readable once it has ended, see pidfd_open(2).
    pub end: OwnedFd,
}

/// Starts programs, one at a time.
#[derive(Debug)]
pub struct Starter {
    /// Where a child runs until it has become another program; of whole words, so that its end is aligned.
    stack: Vec<u128>,
}

impl Default for Starter {
    fn default() -> Self {
        Self { stack: vec![0; STACK_BYTES / mem::size_of::<u128>()] }
    }
}

impl Starter {
    /// Starts a program at the head of a process group of its own.
    ///
    /// # Errors
    /// What execve(2), chdir(2) or clone(2) say; `InvalidInput` for a stream whose descriptor is one of the first
    /// three.
    pub fn start(&mut self, program: &Program<'_>) -> io::Result<Started> {
        let streams = program.streams.map(|stream| stream.map(|descriptor| descriptor.as_raw_fd()));
        if streams.iter().flatten().any(|descriptor| *descriptor <= libc::STDERR_FILENO) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let files = pointers(program.files);
        let arguments = pointers(program.arguments);
        let environment = pointers(program.environment);
        let mut plan = Plan {
            files: files.as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            folder: program.folder.map_or(ptr::null(), CStr::as_ptr),
            streams,
            only_streams: program.only_streams,
            terminal: program.terminal.map(|descriptor| descriptor.as_raw_fd()),
            // Before the clone: a handler that ran in the child would change our memory.
            mask: block_all()?,
            descriptors: descriptors::before().map(|limit| libc::rlimit {
                rlim_cur: limit.current.unwrap_or(libc::RLIM_INFINITY),
                rlim_max: limit.maximum.unwrap_or(libc::RLIM_INFINITY),
            }),
            error: 0,
        };
        let mut end: RawFd = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let top = self.stack.as_mut_ptr_range().end;
        // SAFETY: `top` is the aligned end of memory that `self` owns and that nothing else uses, since `self` is
        // borrowed exclusively. `plan` and all that it points to live in this frame, which does not go on before the
        // child has executed or ended (`CLONE_VFORK`). `end` has room for the descriptor that the kernel writes. All
        // signals are blocked, so no handler runs in the child, where it would change the memory of this process.
        let pid = unsafe {
            libc::clone(become_program, top.cast(), flags, ptr::from_mut(&mut plan).cast(), ptr::from_mut(&mut end))
        };
        let failed = io::Error::last_os_error();
        set_mask(&plan.mask)?;
        // Looked at first: `from_raw` does not take a negative number.
        let Some(pid) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else { return Err(failed) };
        // SAFETY: the kernel has just given us this descriptor, and nothing else refers to it.
        let end = unsafe { OwnedFd::from_raw_fd(end) };
        // SAFETY: `plan` is a live local; it is read anew since the child has written to it.
        let error = unsafe { ptr::read_volatile(&raw const plan.error) };
        if error == 0 {
            return Ok(Started { pid, end });
        }
        // It ends by itself. Where this process takes in the ends of all its children, there is nothing to wait for.
        while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
        Err(io::Error::from_raw_os_error(error))
    }
}

/// What the child reads, and where it says why it could not become the program.
struct Plan {
    files: *const *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    folder: *const c_char,
    streams: [Option<RawFd>; 3],
    terminal: Option<RawFd>,
    only_streams: bool,
    mask: libc::sigset_t,
    /// The limit of descriptors, where this process has raised its own.
    descriptors: Option<libc::rlimit>,
    error: c_int,
}

/// The child's way to its program. Shares all memory with the parent, so it allocates nothing, takes no lock, and calls
/// what is safe after a fork alone (signal-safety(7)).
extern "C" fn become_program(plan: *mut c_void) -> c_int {
    // SAFETY: it is the parent's `Plan`, which outlives this function (see there), and nothing else looks at it
    // meanwhile.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    // SAFETY: `plan` holds strings and lists that end with NUL, and whole sets of signals, all of which live as long.
    plan.error = unsafe { execute(plan) };
    // SAFETY: it ends the child alone, without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Returns why it could not be done.
///
/// # Safety
/// To be called in the child alone, with pointers that live until it has executed.
unsafe fn execute(plan: &Plan) -> c_int {
    // SAFETY: each call takes numbers, or pointers of which the caller says that they live; none of them allocates.
    unsafe {
        if libc::setpgid(0, 0) < 0 || reset_handlers() < 0 {
            return last_error();
        }
        // Before it can read: SIGTTOU, by which this is answered in the background, is blocked still.
        if let Some(terminal) = plan.terminal
            && libc::tcsetpgrp(terminal, libc::getpid()) < 0
        {
            return last_error();
        }
        for (target, descriptor) in (0..).zip(plan.streams) {
            if let Some(descriptor) = descriptor
                && libc::dup2(descriptor, target) < 0
            {
                return last_error();
            }
        }
        // After the streams have their numbers.
        if plan.only_streams && close_others() < 0 {
            return last_error();
        }
        if !plan.folder.is_null() && libc::chdir(plan.folder) < 0 {
            return last_error();
        }
        if let Some(limit) = &plan.descriptors
            && libc::setrlimit(libc::RLIMIT_NOFILE, limit) < 0
        {
            return last_error();
        }
        // Last: with no handler left, what arrives from here on is for the program.
        if libc::sigprocmask(libc::SIG_SETMASK, &plan.mask, ptr::null_mut()) < 0 {
            return last_error();
        }
        let mut reason = libc::ENOENT;
        let mut file = plan.files;
        while !(*file).is_null() {
            libc::execve(*file, plan.arguments, plan.environment);
            match last_error() {
                // There may be one in a folder behind it.
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => reason = libc::EACCES,
                other => return other,
            }
            file = file.add(1);
        }
        reason
    }
}

/// Whatever comes after the three streams is closed by the next execve(2), also what we would let others inherit.
///
/// # Safety
/// To be called in the child alone, whose descriptors are a copy of the parent's.
unsafe fn close_others() -> c_int {
    const FIRST: libc::c_uint = libc::STDERR_FILENO as libc::c_uint + 1;
    // SAFETY: both calls take numbers alone, and change a flag of descriptors that are not used in the child.
    unsafe {
        if libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return 0;
        }
        // A kernel before 5.11, or a filter of system calls that does not know it.
        for descriptor in libc::STDERR_FILENO + 1..MOST_DESCRIPTORS {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        0
    }
}

/// Nothing of this process may run when a signal comes before the program is there, and none that came for this
/// process's group may end it; and a program expects to be ended by SIGPIPE and SIGXFSZ, which this process may ignore.
///
/// # Safety
/// To be called in the child alone, whose handlers are a copy of the parent's.
unsafe fn reset_handlers() -> c_int {
    // SAFETY: all pointers are to live locals of the right type, and zeroed is a valid `sigaction` that says `SIG_DFL`.
    unsafe {
        let default: libc::sigaction = mem::zeroed();
        let ignored = libc::sigaction { sa_sigaction: libc::SIG_IGN, ..default };
        for signal in 1..=libc::SIGRTMAX() {
            let mut found: libc::sigaction = mem::zeroed();
            // Two numbers are the C library's own, which it does not show; they are not sent from process to process.
            let is_handled = libc::sigaction(signal, ptr::null(), &mut found) == 0
                && !matches!(found.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
            // A key that was pressed before it had a group of its own was for the group that it has left; ignoring
            // forgets it.
            if is_handled && libc::sigaction(signal, &ignored, ptr::null_mut()) < 0 {
                return -1;
            }
            if (is_handled || matches!(signal, libc::SIGPIPE | libc::SIGXFSZ))
                && libc::sigaction(signal, &default, ptr::null_mut()) < 0
            {
                return -1;
            }
        }
        0
    }
}

fn last_error() -> c_int {
    // SAFETY: the C library's own pointer to the calling thread's `errno`, which the child shares with its waiting
    // parent.
    unsafe { *libc::__errno_location() }
}

/// Blocks all signals of this thread; returns which were blocked before.
pub(crate) fn block_all() -> io::Result<libc::sigset_t> {
    let mut all = mem::MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both are live locals of the right type; a zeroed set is a valid, empty one, and the call fills it in.
    match unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
    } {
        // SAFETY: zeroed before, and filled in by the call.
        0 => Ok(unsafe { before.assume_init() }),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

pub(crate) fn set_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` is borrowed for the call, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// As the kernel takes lists: with a null pointer at the end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// As many as are looked at where the kernel cannot do it: what is usually the most that a process may have.
const MOST_DESCRIPTORS: c_int = 1 << 16;
/// Ten times what it takes; execve(2) itself runs on the kernel's stack.
const STACK_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::fd::AsFd};

    use super::*;
    use crate::process::reap;

    fn strings(words: &[&str]) -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).unwrap()).collect()
    }

    /// What a script prints, and how it ended.
    fn printed(script: &str, environment: &[&str], folder: Option<&CStr>) -> (String, i32) {
        let (mut reader, writer) = io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let started = Starter::default().start(&Program {
            files: &strings(&["/nowhere/sh", "/etc/passwd/sh", "/bin/sh"]),
            arguments: &strings(&["sh", "-c", script]),
            environment: &strings(environment),
            folder,
            streams: [Some(null.as_fd()), Some(writer.as_fd()), None],
            terminal: None,
            only_streams: false,
        });
        drop(writer);
        let started = started.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let mut ready = [rustix::event::PollFd::new(&started.end, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut ready, None).is_err() {}
        let status = reap(started.pid).unwrap().unwrap().status;
        (text, status.code().unwrap_or(-1))
    }

    #[test]
    fn a_program_has_the_streams_the_environment_and_the_folder_that_it_was_given_and_its_own_group() {
        let script = "pwd; echo $A; cat; ps -o pgid= -p $$ | tr -d ' '; echo $$; exit 3";
        let (text, code) = printed(script, &["A=1 2", "PATH=/bin:/usr/bin"], Some(c"/"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((&lines[..2], code), (&["/", "1 2"][..], 3));
        assert_eq!(lines[2], lines[3]);
    }

    #[test]
    fn no_signal_is_blocked_or_ignored_that_was_not_before() {
        // Rust ignores SIGPIPE in every program; see proc_pid_status(5) for what the numbers mean.
        let (text, _) = printed("cat /proc/self/status", &["PATH=/bin:/usr/bin"], None);
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!(mask(&text, "SigBlk:"), mask(&own, "SigBlk:"));
        assert_eq!(
            mask(&text, "SigIgn:"),
            mask(&own, "SigIgn:") & !(1 << (libc::SIGPIPE - 1)) & !(1 << (libc::SIGXFSZ - 1))
        );
        assert_eq!(mask(&text, "SigCgt:"), 0);
    }

    #[test]
    fn a_program_that_is_to_have_its_streams_alone_inherits_nothing_else() {
        let (mut reader, writer) = io::pipe().unwrap();
        // What a shell has opened for its children is inherited by everything.
        let inherited = rustix::io::dup(&writer).unwrap();
        let null = File::open("/dev/null").unwrap();
        for (only_streams, seen) in [(false, true), (true, false)] {
            let script = format!("[ -e /proc/self/fd/{} ] && echo seen; echo end", inherited.as_raw_fd());
            let started = Starter::default().start(&Program {
                files: &strings(&["/bin/sh"]),
                arguments: &strings(&["sh", "-c", &script]),
                environment: &[],
                folder: None,
                streams: [Some(null.as_fd()), Some(writer.as_fd()), None],
                terminal: None,
                only_streams,
            });
            let started = started.unwrap();
            let mut ready = [rustix::event::PollFd::new(&started.end, rustix::event::PollFlags::IN)];
            while rustix::event::poll(&mut ready, None).is_err() {}
            reap(started.pid).unwrap();
            let mut text = [0; 32];
            let length = reader.read(&mut text).unwrap();
            assert_eq!(text[..length].starts_with(b"seen"), seen);
        }
    }

    #[test]
    fn what_cannot_be_executed_says_why_and_leaves_no_child() {
        let mut starter = Starter::default();
        for (file, error) in
            [("/nowhere", libc::ENOENT), ("/etc/passwd", libc::EACCES), ("/etc/passwd/x", libc::ENOENT)]
        {
            let program = Program {
                files: &strings(&[file]),
                arguments: &strings(&["x"]),
                environment: &[],
                folder: None,
                streams: [None; 3],
                terminal: None,
                only_streams: false,
            };
            assert_eq!(starter.start(&program).unwrap_err().raw_os_error(), Some(error), "{file}");
        }
        let program = Program {
            files: &strings(&["/bin/true"]),
            arguments: &strings(&["true"]),
            environment: &[],
            folder: Some(c"/nowhere"),
            streams: [None; 3],
            terminal: None,
            only_streams: false,
        };
        assert_eq!(starter.start(&program).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
