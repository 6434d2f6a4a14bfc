//! The pool's view of one worker: what lies before it, what of ours it has, and how it ends.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Signal, pidfd_send_signal},
};
use unisono_sys::{monotonic::nanoseconds, private::Private, shared::Shared};

use crate::{
    begun::{BEGUN, BegunCounter},
    blob::{Blob, Received, Reference, Release, SlotLease, View, read_reference, write_reference},
    exchange::{Exchange, Full, LONGEST_BYTES, ResultRecord, Torn},
    inside::ONCE,
    message::{self, Message},
    task::{Death, Task, held},
    zygote::RunningZygote,
};

/// A task that lies before a worker.
#[derive(Debug)]
pub(crate) struct PlacedTask {
    pub number: u64,
    /// Where its bytes begin in the ring.
    at: u64,
    /// Its function came with it.
    defines: bool,
    /// `None` once it has ended, or was taken back.
    pub task: Option<Arc<Task>>,
}

/// What became of an attempt to put a task before a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    Lies,
    /// The worker has to pass what was taken back first.
    LacksCell,
    /// The worker has to read or to end something first.
    LacksRoom,
}

impl From<Full> for Placed {
    fn from(full: Full) -> Self {
        match full {
            Full::Cells => Self::LacksCell,
            Full::Ring => Self::LacksRoom,
        }
    }
}

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    Starting,
    /// It can take tasks: it has been initialized.
    Ready,
    /// It has begun a task at some time, so its start was none that failed.
    Active,
}

/// Whether a worker is to end, and gets nothing more for that. Each but the first includes what the one before it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// It is gone, or cannot be reached.
    CutOff,
    /// It was told to end: then that is no failure. Since when.
    Dismissed {
        since_ns: u64,
    },
    /// It is to be killed, at the latest when it is known which process it is.
    Doomed {
        since_ns: u64,
    },
    /// It has written over what it shares with us, of which nothing can be read any more.
    Torn {
        since_ns: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub exchange: Arc<Exchange>,
    pub socket: Private,
    /// The end of a pipe into which the zygote writes how the worker ended.
    pub status: Private,
    /// What it writes to its standard error; only it and its children hold the other end.
    pub words: Private,
    /// It has said more than could be passed on, and waits.
    pub is_unheard: bool,
    /// The end of that.
    pub stderr_tail: Vec<u8>,
    /// Its process, once it is known, and the number of that.
    process: Option<(OwnedFd, i32)>,
    /// What it notes where what it shares with us does not lie, once that is known.
    ledger: Option<BegunCounter>,
    /// The zygote that makes it; played workers have none.
    pub starter: Option<Arc<RunningZygote>>,
    pub progress: Progress,
    pub entries: VecDeque<PlacedTask>,
    /// How many of the entries still count.
    pub busy: usize,
    /// How many tasks it has been given and kept.
    pub given: u64,
    pub leaving: Leaving,
    /// The first task that lies before it, if it had not begun that when this was looked at first, and when that was.
    unbegun: Option<(u64, u64)>,
    /// Since when its process is known to have ended, though its zygote has not told how.
    gone_since_ns: Option<u64>,
    /// When it is woken unasked and how much later the next time, both in nanoseconds; no time if it has come on.
    nudge: (u64, u64),
    /// Tasks with a key that it was killed for: until it is gone for certain, nothing else of that key may begin.
    pub killed_for: Vec<Arc<Task>>,
    functions: HashSet<u64>,
    sent: HashSet<u64>,
    lent: Vec<Arc<SlotLease>>,
    /// Slots that are not kept, and that it was sent for a task which it will not get.
    stale: Vec<u64>,
    slots: HashMap<u64, Arc<Shared>>,
    next: u64,
}

/// The other ends of what a worker and its pool are joined by.
#[derive(Debug)]
pub(crate) struct Spawn {
    pub socket: Private,
    /// For the zygote, which starts it.
    pub status: Private,
    pub words: Private,
}

impl Worker {
    /// One that has nothing yet, and what it is to inherit.
    pub fn new() -> io::Result<(Self, Spawn)> {
        let (socket, theirs) = message::pair()?;
        let (status, teller) = Private::pair(|| Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?))?;
        // The worker's end blocks, as a standard error does.
        let (words, speaker) = Private::pair(|| Ok(pipe_with(PipeFlags::CLOEXEC)?))?;
        rustix::io::ioctl_fionbio(&words, true)?;
        let worker = Self {
            exchange: Arc::new(Exchange::new()?),
            socket,
            status,
            words,
            is_unheard: false,
            stderr_tail: Vec::new(),
            process: None,
            ledger: None,
            starter: None,
            progress: Progress::Starting,
            entries: VecDeque::new(),
            busy: 0,
            given: 0,
            leaving: Leaving::No,
            unbegun: None,
            gone_since_ns: None,
            nudge: (0, 0),
            killed_for: Vec::new(),
            functions: HashSet::new(),
            sent: HashSet::new(),
            lent: Vec::new(),
            stale: Vec::new(),
            slots: HashMap::new(),
            next: 0,
        };
        Ok((worker, Spawn { socket: theirs, status: teller, words: speaker }))
    }

    /// Puts a task before it, if there is room.
    pub fn give(&mut self, task: &Arc<Task>, text: &mut Vec<u8>) -> io::Result<Placed> {
        let function = &task.function;
        let arguments = held(&task.arguments);
        let Some(arguments) = arguments.as_ref() else { return Ok(Placed::Lies) };
        self.forget();
        let is_new = function.number == 0 || !self.functions.contains(&function.number);
        text.clear();
        // By which the worker knows that it reads this task and no other, though its cell was written over.
        text.extend_from_slice(&self.exchange.next_number().to_le_bytes());
        text.extend_from_slice(&function.number.to_le_bytes());
        text.push(u8::from(is_new));
        let mut slots: Vec<Arc<SlotLease>> = Vec::new();
        for blob in is_new.then_some(&function.definition).into_iter().chain([arguments]) {
            write_reference(text, blob);
            if let Blob::Slot(lease) = blob {
                slots.push(lease.clone());
            }
        }
        assert!(text.len() <= LONGEST_BYTES, "what is inline is at most half of the longest message");
        let oldest = self.entries.front().map_or(self.next, |entry| entry.at);
        // Asked first, so that no memory is sent for nothing.
        if let Err(full) = self.exchange.has_room(oldest, self.next, text.len()) {
            return Ok(full.into());
        }
        // Memory before the task that refers to it: the worker does not wait for what is not there when it begins.
        if !self.send(&slots)? {
            return Ok(Placed::LacksRoom);
        }
        let number = match self.exchange.put(oldest, self.next, text) {
            Ok(number) => number,
            Err(full) => {
                slots.iter().for_each(|lease| self.unsend(lease));
                return Ok(full.into());
            }
        };
        self.entries.push_back(PlacedTask { number, at: self.next, defines: is_new, task: Some(task.clone()) });
        self.next += text.len() as u64;
        self.busy += 1;
        self.given += 1;
        self.lent.append(&mut slots);
        if function.number != 0 {
            self.functions.insert(function.number);
        }
        // After the task lies there: a worker that sleeps has looked with its flag up, and finds it when it is woken.
        if self.exchange.must_wake_worker() {
            message::wake(self.socket.as_fd());
        }
        Ok(Placed::Lies)
    }

    /// Sends what it does not have of these. False when it must read first.
    fn send(&mut self, slots: &[Arc<SlotLease>]) -> io::Result<bool> {
        for (at, lease) in slots.iter().enumerate() {
            if lease.is_kept() && self.sent.contains(&lease.number) {
                continue;
            }
            match message::send_memory(self.socket.as_fd(), lease.number, lease.memory().as_fd(), false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    slots[..at].iter().for_each(|lease| self.unsend(lease));
                    return Ok(false);
                }
                sent => sent?,
            }
            if lease.is_kept() {
                self.sent.insert(lease.number);
            }
        }
        Ok(true)
    }

    /// It will get no task that refers to this. What is kept is of use later; the rest it would keep for nothing.
    fn unsend(&mut self, lease: &SlotLease) {
        if !lease.is_kept() {
            self.stale.push(lease.number);
            self.forget();
        }
    }

    /// Has it let go of what it was sent in vain; what cannot be said now is said with the next task.
    fn forget(&mut self) {
        while let Some(number) = self.stale.last() {
            match message::send_forget(self.socket.as_fd(), *number) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // One that is gone has let go of everything.
                _ => self.stale.pop(),
            };
        }
    }

    /// The task on a cell, which is then no longer there.
    pub fn close(&mut self, number: u64) -> Option<Arc<Task>> {
        let first = self.entries.front()?.number;
        let entry = self.entries.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)?;
        let task = entry.task.take()?;
        self.busy -= 1;
        while self.entries.front().is_some_and(|entry| entry.task.is_none()) {
            self.entries.pop_front();
        }
        Some(task)
    }

    /// The task on a cell.
    pub fn on_cell(&self, number: u64) -> Option<&Arc<Task>> {
        self.entries.iter().find(|entry| entry.number == number)?.task.as_ref()
    }

    /// Whether this is the last task that lies before it. Once what lay behind it was taken back, this says whether
    /// the worker is still at it or was quicker, and has begun another.
    pub fn is_last(&self, number: u64) -> bool {
        self.entries.iter().rfind(|entry| entry.task.is_some()).is_some_and(|entry| entry.number == number)
    }

    /// Whether it has done nothing about the first task that lies before it, though it could, for longer than any
    /// worker takes that runs. To be asked of a task that has not begun.
    pub fn hangs_before(&mut self, number: u64, now_ns: u64) -> bool {
        if self.entries.iter().find(|entry| entry.task.is_some()).is_none_or(|entry| entry.number != number) {
            return false;
        }
        match self.unbegun {
            Some((first, since_ns)) if first == number => now_ns.saturating_sub(since_ns) >= LONGEST_WAKE_NS,
            _ => {
                self.unbegun = Some((number, now_ns));
                false
            }
        }
    }

    /// Its process has ended. Whether it is to be reaped without being told how: where that is of no interest, or is
    /// waited for in vain.
    pub fn is_gone_for_good(&mut self, now_ns: u64) -> bool {
        let since_ns = *self.gone_since_ns.get_or_insert(now_ns);
        let is_expected = self.is_doomed() || self.dismissed().is_some() && self.is_idle();
        is_expected && !self.is_torn() || now_ns.saturating_sub(since_ns) >= LONGEST_UNTOLD_NS
    }

    /// Takes the last task back, unless it has begun. Never another than the last, since what defines a function is
    /// relied on by those after it.
    pub fn take_back(&mut self) -> Option<Arc<Task>> {
        let entry = self.entries.iter().rev().find(|entry| entry.task.is_some())?;
        let (number, defines) = (entry.number, entry.defines);
        // Claim it before anything of it is undone: a worker that was quicker relies on all that came with it.
        if !self.exchange.retract(number) {
            return None;
        }
        let task = self.close(number)?;
        self.given -= 1;
        if let Some(Blob::Slot(lease)) = held(&task.arguments).as_ref() {
            self.released(lease.number);
            self.unsend(lease);
        }
        if defines {
            self.functions.remove(&task.function.number);
            if let Blob::Slot(lease) = &task.function.definition {
                self.released(lease.number);
                self.unsend(lease);
            }
        }
        Some(task)
    }

    /// Reads what it has written to its standard error, appends it to `heard`, and keeps the last of it. False when no
    /// more will come.
    pub fn hear(&mut self, heard: &mut Vec<u8>) -> bool {
        let mut words = [0; 4096];
        let most = heard.len() + MOST_HEARD_BYTES;
        while heard.len() < most {
            match rustix::io::read(&self.words, &mut words) {
                Ok(0) => return false,
                Ok(length) => {
                    heard.extend_from_slice(&words[..length]);
                    self.stderr_tail.extend_from_slice(&words[..length]);
                    let excess = self.stderr_tail.len().saturating_sub(STDERR_TAIL_BYTES);
                    self.stderr_tail.drain(..excess);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true,
            }
        }
        true
    }

    /// Lets it end when it has done what lies before it.
    pub fn dismiss(&mut self) {
        if self.dismissed().is_none() {
            self.leaving = Leaving::Dismissed { since_ns: nanoseconds() };
        }
        self.give_no_more();
    }

    /// It gets no more tasks, since it is gone or cannot be reached.
    pub fn give_no_more(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::CutOff;
        }
        // It fails only when the worker has gone by itself.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    pub fn is_ready(&self) -> bool {
        self.progress >= Progress::Ready
    }

    pub fn has_worked(&self) -> bool {
        self.progress == Progress::Active
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Since when it is to end, in nanoseconds, if we have said so.
    pub fn dismissed(&self) -> Option<u64> {
        match self.leaving {
            Leaving::No | Leaving::CutOff => None,
            Leaving::Dismissed { since_ns } | Leaving::Doomed { since_ns } | Leaving::Torn { since_ns } => {
                Some(since_ns)
            }
        }
    }

    pub fn is_doomed(&self) -> bool {
        matches!(self.leaving, Leaving::Doomed { .. } | Leaving::Torn { .. })
    }

    pub fn is_torn(&self) -> bool {
        matches!(self.leaving, Leaving::Torn { .. })
    }

    /// Whether this task is under way, or has ended without our having read so.
    pub fn has_begun(&self, number: u64) -> bool {
        self.exchange.began_ns(number).is_some()
    }

    /// Whether something lies there to be read.
    pub fn has_records(&self) -> bool {
        !self.is_torn() && self.exchange.has_records()
    }

    /// The next record, and the bytes that belong to it.
    pub fn next_record(&mut self) -> Option<(ResultRecord, Option<Received>)> {
        if self.is_torn() {
            return None;
        }
        let Ok(record) = self.exchange.next_record() else {
            self.tear();
            return None;
        };
        let record = record?;
        if self.exchange.worker_wants_room() {
            message::wake(self.socket.as_fd());
        }
        let received = match read_reference(&mut record.bytes.as_slice()) {
            Some(Reference::Inline(bytes)) => Some(Received::Inline(bytes)),
            Some(Reference::Slot { number, length }) => self.view(number, length),
            None => None,
        };
        Some((record, received))
    }

    /// Reads what is in the socket, though not without end. False when the worker has closed it.
    pub fn read_socket(&mut self) -> io::Result<bool> {
        for _ in 0..MOST_MESSAGES {
            let Some(message) = message::receive(self.socket.as_fd(), false)? else { break };
            match message {
                Message::Closed => return Ok(false),
                Message::Wake | Message::Forget(_) => {}
                // The first counts, since it came from the zygote, or from itself before its first task.
                Message::Process(process, number) => {
                    self.process.get_or_insert((process, number));
                    if self.is_doomed() {
                        self.kill();
                    }
                }
                Message::Memory(BEGUN, memory) => self.ledger = Some(BegunCounter::open(memory)?),
                Message::Memory(number, memory) => {
                    // A slot that takes another's place is another slot.
                    self.slots.retain(|known, _| known & 255 == ONCE || known & 255 != number & 255);
                    self.slots.insert(number, Arc::new(Shared::open(memory)?));
                }
            }
        }
        Ok(true)
    }

    /// It wrote over what it shares with us. It is killed: what it has not been heard to end dies with it, and no more.
    pub fn tear(&mut self) {
        self.note_torn();
        self.kill();
    }

    /// As [`Worker::tear`], of one that has ended.
    pub fn note_torn(&mut self) {
        self.leaving = Leaving::Torn { since_ns: self.dismissed().unwrap_or_else(nanoseconds) };
    }

    /// Whether it has written over what it shares with us, or says to be through with a task of which no result came.
    /// To be asked when all that it had published before is read.
    pub fn is_mad(&self, passed: Result<u64, Torn>) -> bool {
        let open = || self.entries.iter().filter(|entry| entry.task.is_some()).map(|entry| entry.number);
        let Ok(passed) = passed else { return true };
        !self.exchange.is_sane(open()) || open().next().is_some_and(|first| first < passed)
    }

    /// What it has not begun of the tasks that lie before it, once it is dead, whatever it has written over the
    /// exchange.
    pub fn not_begun(&mut self) -> Vec<Arc<Task>> {
        let _ = self.read_socket();
        let Some(begun) = self.ledger.as_ref().and_then(BegunCounter::begun) else { return Vec::new() };
        let numbers: Vec<_> = self.entries.iter().map(|entry| entry.number).filter(|number| *number >= begun).collect();
        // The last first, so that each goes before those behind it.
        numbers.into_iter().rev().filter_map(|number| self.close(number)).collect()
    }

    /// Wakes it, when it has not come on for a while: what it would have been woken by may have been written over. Less
    /// and less often, since it may well be at a long task.
    pub fn nudge(&mut self, now_ns: u64, first_ns: u64) {
        match &mut self.nudge {
            (_, 0) => self.nudge = (now_ns + first_ns, first_ns),
            (at_ns, pause_ns) if *at_ns <= now_ns => {
                *pause_ns *= 2;
                *at_ns = now_ns + *pause_ns;
                message::wake(self.socket.as_fd());
            }
            _ => {}
        }
    }

    /// It has ended a task.
    pub fn has_come_on(&mut self) {
        self.nudge.1 = 0;
    }

    /// Kills it, now or as soon as that is possible. Its end is told by its status pipe.
    pub fn kill(&mut self) {
        if !self.is_doomed() {
            self.leaving = Leaving::Doomed { since_ns: self.dismissed().unwrap_or_else(nanoseconds) };
        }
        if let Some((process, _)) = &self.process {
            // It fails only when the process is gone already.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Its zygote is gone, and it is to go as well: the system kills it, but not at the very same moment.
    pub fn kill_orphan(&mut self) {
        if let Some((process, _)) = &self.process {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Kills it for the sake of a task, whose key is free only when it is gone.
    pub fn kill_for(&mut self, task: &Arc<Task>) {
        if task.terms.key.is_some() {
            held(&task.inner).is_held_by_dying = true;
            self.killed_for.push(task.clone());
        }
        self.kill();
    }

    /// Its process, if that is known.
    pub fn process(&self) -> Option<&OwnedFd> {
        self.process.as_ref().map(|(process, _)| process)
    }

    /// The number of its process, if that is known.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|(_, number)| *number)
    }

    /// Whether it has only to be let go.
    pub fn is_idle(&self) -> bool {
        self.busy == 0
    }

    /// A slot of ours that it has given back.
    pub fn released(&mut self, number: u64) {
        let Some(at) = self.lent.iter().position(|lease| lease.number == number) else { return };
        let lease = self.lent.swap_remove(at);
        // While another task before it refers to the same slot, it must find it there.
        if lease.is_abandoned() && !self.lent.iter().any(|lease| lease.number == number) && self.sent.remove(&number) {
            self.stale.push(number);
            self.forget();
        }
    }

    /// The same of one that a fork of it may look at: it is not written to again, nor kept by the worker.
    pub fn abandoned(&mut self, number: u64) {
        if let Some(lease) = self.lent.iter().find(|lease| lease.number == number) {
            lease.abandon();
        }
        self.released(number);
    }

    /// How it ended, if it has.
    pub fn death(&self) -> Option<Death> {
        let mut status = [0; 8];
        let read = rustix::io::read(&self.status, &mut status);
        let number = |at: usize| i32::from_le_bytes(status[at..at + 4].try_into().expect("four bytes"));
        match read {
            Ok(4) => Some(match number(0) & 0x7f {
                0 => Death::Exit(number(0) >> 8 & 0xff),
                signal => Death::Signal(signal),
            }),
            Ok(8) => Some(Death::Unmade(number(4))),
            Ok(_) => Some(Death::Unknown),
            Err(_) => None,
        }
    }

    fn view(&mut self, number: u64, length: usize) -> Option<Received> {
        if !self.slots.contains_key(&number) {
            // Its descriptor was sent before the record was written.
            self.read_socket().ok()?;
        }
        let slot = number & 255;
        let memory = if slot == ONCE { self.slots.remove(&number)? } else { self.slots.get(&number)?.clone() };
        if length > memory.size() {
            return None;
        }
        let release = match slot {
            ONCE => Release::Nothing,
            slot => Release::Flag(self.exchange.clone(), slot as usize),
        };
        View::new(memory, length, release).ok().map(Received::Slot)
    }
}

/// So long a worker that runs may take to begin the first task that lies before it, in nanoseconds, on a machine that
/// has much else to do.
pub(crate) const LONGEST_WAKE_NS: u64 = 5_000_000_000;
/// So long a zygote may take to tell how a worker has ended, which tasks are told in their turn. One that was stopped
/// never does.
const LONGEST_UNTOLD_NS: u64 = 5_000_000_000;
/// So many messages are read at once, so that a worker that never stops talking does not hold up the others.
const MOST_MESSAGES: usize = 256;
/// So much of a worker's standard error is kept.
const STDERR_TAIL_BYTES: usize = 2048;
/// So much is read at once, and kept until it is passed on: what a pipe holds, so that an end is heard whole.
pub(crate) const MOST_HEARD_BYTES: usize = 64 << 10;
