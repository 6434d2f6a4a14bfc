//! What a pool holds, all of it under one lock, and the states that it can be in.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{Arc, Condvar, Mutex, Weak, atomic::AtomicU64},
    time::Duration,
};

use super::{news::News, starts::Starts, system::System, waiting::Waiting};
use crate::{
    blob::Arena,
    spin::Spin,
    task::{Death, Task},
    worker::Worker,
    zygote::{RunningZygote, Zygote},
};

/// What a pool is like.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// How many workers at most.
    pub workers: usize,
    /// How the zygote makes them.
    pub method: u8,
    /// After so many tasks a worker is replaced.
    pub tasks_per_worker: Option<u64>,
    /// How many tasks may wait or run before `submit` waits; `None` for any number.
    pub pending: Option<usize>,
    /// How many tasks with the same key may run at once.
    pub per_key: usize,
}

/// Executes tasks in worker processes.
///
/// A program that is its own zygote and its own worker (the zygote, forty lines about descriptors, is hidden here):
/// ```standalone_crate
/// use std::{env, fs::File, io, os::fd::OwnedFd, sync::Arc};
/// use unisono_workers::{
///     Awaited, Function, Inside, Pool, PoolDescriptors, PoolOptions, TaskOutcome, Terms, Zygote, kind,
///     blob::{Blob, Received},
/// };
///
/// fn main() -> io::Result<()> {
///     match env::args().nth(1).as_deref() {
///         // What the pool starts: makes a worker for each message that comes, and tells how each has ended.
///         Some("zygote") => zygote::serve(),
///         // What that starts, with the worker's end of what it shares with the pool.
///         Some("worker") => {
///             let [socket, memory] = zygote::inherited()?;
///             worker(Inside::new(socket, memory)?)
///         }
///         _ => program(),
///     }
/// }
///
/// fn program() -> io::Result<()> {
///     let zygote = Zygote::new(vec![env::current_exe()?.into(), "zygote".into()]);
///     let options = PoolOptions { workers: 2, method: 0, tasks_per_worker: None, pending: None, per_key: 1 };
///     let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
///     let given = PoolDescriptors { settings: null()?, output: null()?, inherited: Vec::new() };
///     let pool = Pool::new(options, Arc::new(zygote), given)?;
///
///     let definition = Blob::Inline(b"reverse".to_vec());
///     let function = Arc::new(Function { number: 1, name: "reverse".into(), definition });
///     let task = pool.submit(function, Blob::Inline(b"abc".to_vec()), Terms::default(), false).expect("it is open");
///     while !pool.wait(Awaited::End(&task), None) {}
///     let Some(TaskOutcome::Returned(Received::Inline(bytes))) = task.take_outcome() else { panic!("it returns") };
///     assert_eq!(bytes, b"cba");
///
///     pool.close(false, false);
///     while !pool.wait(Awaited::Over, None) {}
///     assert_eq!(pool.counts(), (0, 0));
///     Ok(())
/// }
///
/// /// Runs what it is given until the pool is gone. It knows one function.
/// fn worker(mut inside: Inside) -> io::Result<()> {
///     inside.ready()?;
///     loop {
///         let Some(task) = inside.take()? else {
///             if inside.sleep()? {
///                 continue;
///             }
///             return Ok(());
///         };
///         let Ok(Received::Inline(arguments)) = &task.arguments else { panic!("short ones come inline") };
///         let reversed: Vec<u8> = arguments.iter().rev().copied().collect();
///         inside.publish(kind::RETURNED, &task, reversed.len(), &[&reversed])?;
///     }
/// }
/// #
/// # mod zygote {
/// #     use std::{
/// #         env, fs::File,
/// #         io::{self, IoSlice, IoSliceMut, Write},
/// #         mem::MaybeUninit,
/// #         os::{fd::{AsFd, BorrowedFd, OwnedFd}, unix::process::ExitStatusExt},
/// #         process::{Command, Stdio},
/// #     };
/// #
/// #     use rustix::net::{
/// #         AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
/// #         SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
/// #     };
/// #
/// #     pub fn serve() -> io::Result<()> {
/// #         loop {
/// #             let descriptors = receive(io::stdin().as_fd())?;
/// #             if descriptors.is_empty() {
/// #                 return Ok(());
/// #             }
/// #             let [socket, memory, status, _settings, words] = exactly(descriptors);
/// #             let (ours, theirs) =
/// #                 socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
/// #             let mut child = Command::new(env::current_exe()?)
/// #                 .arg("worker")
/// #                 .stdin(theirs)
/// #                 .stdout(Stdio::null())
/// #                 .stderr(words)
/// #                 .spawn()?;
/// #             send(ours.as_fd(), &[socket.as_fd(), memory.as_fd()])?;
/// #             std::thread::spawn(move || {
/// #                 let end = child.wait()?;
/// #                 File::from(status).write_all(&end.into_raw().to_le_bytes())
/// #             });
/// #         }
/// #     }
/// #
/// #     pub fn inherited() -> io::Result<[OwnedFd; 2]> {
/// #         Ok(exactly(receive(io::stdin().as_fd())?))
/// #     }
/// #
/// #     fn exactly<const COUNT: usize>(descriptors: Vec<OwnedFd>) -> [OwnedFd; COUNT] {
/// #         descriptors.try_into().expect("what a worker inherits")
/// #     }
/// #
/// #     fn receive(socket: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
/// #         let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
/// #         let mut control = RecvAncillaryBuffer::new(&mut space);
/// #         recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
/// #         let rights = control.drain().filter_map(|message| match message {
/// #             RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
/// #             _ => None,
/// #         });
/// #         Ok(rights.flatten().collect())
/// #     }
/// #
/// #     fn send(socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
/// #         let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
/// #         let mut control = SendAncillaryBuffer::new(&mut space);
/// #         assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
/// #         sendmsg(socket, &[IoSlice::new(b"w")], &mut control, SendFlags::NOSIGNAL)?;
/// #         Ok(())
/// #     }
/// # }
/// ```
#[derive(Debug)]
pub struct Pool {
    pub(super) options: PoolOptions,
    pub(super) zygote: Arc<Zygote>,
    pub(super) arena: Arena,
    pub(super) core: Mutex<Core>,
    /// Something ended, or the driver has left.
    pub(super) changed: Condvar,
    /// There is something to watch over, for [`Pool::serve`].
    pub(super) wanted: Condvar,
    pub(super) next_task: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Core {
    /// `None` once the pool is over.
    pub(super) system: Option<Arc<System>>,
    pub(super) waiting: Waiting,
    pub(super) workers: HashMap<usize, Worker>,
    pub(super) last_worker: usize,
    /// How the last worker ended that had worked and was not let go.
    pub(super) loss: Option<Loss>,
    /// When to look whether a task is past its time: (when, worker, cell).
    pub(super) deadlines: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// Tasks that have ended, and of which [`Pool::serve`] is to tell.
    pub(super) told: Vec<u64>,
    /// How many tasks are observed and have not ended.
    pub(super) observed: usize,
    /// How many tasks have no outcome.
    pub(super) open: usize,
    pub(super) driver: Driver,
    pub(super) followers: usize,
    /// The worker that would have been given more, had it had a free cell.
    pub(super) lacks_cell: Option<usize>,
    pub(super) lifecycle: Lifecycle,
    pub(super) server: Server,
    pub(super) starts: Starts,
    pub(super) news: News,
    /// The last zygote that was told of as lost; so that it is once, for all its workers.
    pub(super) lost_zygote: Weak<RunningZygote>,
    /// When was last looked after what nothing announces.
    pub(super) looked_ns: u64,
    /// How long a task takes; a mean that forgets.
    pub(super) mean_ns: u64,
    /// Something was read at the last look.
    pub(super) is_fresh: bool,
    /// Room for a message, used again and again.
    pub(super) text: Vec<u8>,
    /// What workers have written to their standard error and was not passed on yet.
    pub(super) words: Vec<u8>,
    /// When a driver was last woken.
    pub(super) woken_ns: u64,
    pub(super) spin: Spin,
}

/// Whether tasks are taken.
#[derive(Debug)]
pub(super) enum Lifecycle {
    Open,
    /// No more, and it ends when those that it has are done.
    Closed,
    /// There will be no workers, and why.
    Broken(String),
}

/// The one of those that wait which sleeps in epoll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// None of them does.
    Absent,
    /// It looks for results before it sleeps, or at what has woken it.
    Awake,
    /// Until then at the latest.
    Asleep { until_ns: u64 },
}

/// The thread in [`Pool::serve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// It drives, or there is none.
    Awake,
    /// It sleeps until something is wanted of it, or for a moment.
    Resting,
    /// It sleeps until something is wanted of it, the next task included.
    Dormant,
    /// It is to return, as is each that comes.
    Stopped,
}

impl Core {
    pub(super) fn new(per_key: usize, system: System) -> Self {
        Self {
            system: Some(Arc::new(system)),
            waiting: Waiting::new(per_key),
            workers: HashMap::new(),
            last_worker: 0,
            loss: None,
            deadlines: BinaryHeap::new(),
            told: Vec::new(),
            observed: 0,
            open: 0,
            driver: Driver::Absent,
            followers: 0,
            lacks_cell: None,
            lifecycle: Lifecycle::Open,
            server: Server::Awake,
            starts: Starts::default(),
            news: News::default(),
            lost_zygote: Weak::new(),
            looked_ns: 0,
            mean_ns: 0,
            is_fresh: false,
            text: Vec::new(),
            words: Vec::new(),
            woken_ns: 0,
            spin: Spin::new(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        !matches!(self.lifecycle, Lifecycle::Open)
    }

    /// Why there will be no workers, if that is so.
    pub(super) fn broken(&self) -> Option<&String> {
        match &self.lifecycle {
            Lifecycle::Broken(why) => Some(why),
            Lifecycle::Open | Lifecycle::Closed => None,
        }
    }

    pub(super) fn has_driver(&self) -> bool {
        self.driver != Driver::Absent
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_closed() && self.open == 0 && self.workers.is_empty()
    }

    /// Wakes the driver.
    pub(super) fn notify(&self) {
        if let Some(system) = &self.system {
            system.notify();
        }
    }
}

/// How a worker ended that was not let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// How.
    pub death: Death,
    /// The last that it wrote to its standard error.
    pub stderr_tail: Vec<u8>,
}

/// What one may wait for.
#[derive(Debug, Clone, Copy)]
pub enum Awaited<'a> {
    /// The end of a task.
    End(&'a Task),
    /// Room for another task, if their number is bounded.
    Room,
    /// That nothing is left of a closed pool.
    Over,
}

pub(super) fn nanoseconds_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}
