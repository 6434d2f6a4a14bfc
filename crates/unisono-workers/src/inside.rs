//! The worker's side: takes tasks one after the other, and publishes what became of each before it begins the next.
//!
//! It wakes its pool when it runs out of tasks, when it has not done so for a while, or when much is unread; never for
//! each result. A pool that reads because of one wake-up looks once more a millisecond later, so that no result waits
//! for the end of the task after it.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, PoisonError},
};

use unisono_sys::{monotonic::nanoseconds, shared::Shared};

use crate::{
    begun::{BEGUN, BegunCounter},
    blob::{
        LARGEST_KEPT_BYTES, LONGEST_INLINE_BYTES, Received, Reference, Release, Released, View, capacity,
        read_reference, write_slot,
    },
    exchange::{Exchange, SLOTS, Torn},
    message::{self, Message},
    spin::{Look, Spin},
};

/// What a record of the results ring is about.
pub mod kind {
    /// A task returned.
    pub const RETURNED: u32 = 1;
    /// A task raised.
    pub const RAISED: u32 = 2;
    /// A slot of the pool's is free again.
    pub const RELEASED: u32 = 3;
    /// The worker cannot work.
    pub const UNFIT: u32 = 4;
    /// A slot of the pool's must stay as it is: nothing here looks at it any more, but a fork may.
    pub const ABANDONED: u32 = 5;
    /// The worker can work: it will take tasks from now on.
    pub const READY: u32 = 6;
}

/// A task to be run.
#[derive(Debug)]
pub struct Given {
    /// Its number on the cells.
    pub number: u64,
    /// When it began.
    pub began_ns: u64,
    /// Which function.
    pub function: u64,
    /// What that function is, the first time.
    pub definition: Option<io::Result<Received>>,
    /// The arguments; or why there is no room for them, which concerns this task alone.
    pub arguments: io::Result<Received>,
}

/// One worker's view of its pool.
#[derive(Debug)]
pub struct Inside {
    socket: OwnedFd,
    pub(crate) exchange: Exchange,
    message: Vec<u8>,
    ledger: BegunCounter,
    /// Slots of the pool that are mapped here, or why they could not be.
    known: HashMap<u64, io::Result<Arc<Shared>>>,
    /// Slots of the pool that are not looked at any more.
    released: Released,
    /// Slots of ours, for results.
    slots: Vec<(u64, Shared)>,
    last_slot: u64,
    woken_ns: u64,
    spin: Spin,
}

impl Inside {
    /// A worker over what it inherited; tells the pool which process it is.
    ///
    /// # Errors
    /// When the memory is not that of a pool, or the pool is gone.
    pub fn new(socket: OwnedFd, memory: OwnedFd) -> io::Result<Self> {
        let process = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
        Self::of(process.as_fd(), socket, memory)
    }

    /// The same for a worker whose process is this one: tests play workers without being killed as such.
    pub(crate) fn of(process: BorrowedFd<'_>, socket: OwnedFd, memory: OwnedFd) -> io::Result<Self> {
        message::send_process(socket.as_fd(), process)?;
        let ledger = BegunCounter::new()?;
        message::send_memory(socket.as_fd(), BEGUN, ledger.as_fd(), true)?;
        Ok(Self {
            socket,
            exchange: Exchange::open(memory)?,
            message: Vec::new(),
            ledger,
            known: HashMap::new(),
            released: Arc::default(),
            slots: Vec::new(),
            last_slot: 0,
            woken_ns: 0,
            spin: Spin::new(),
        })
    }

    /// The next task, if there is one.
    ///
    /// # Errors
    /// When the pool is gone, or what it wrote cannot be read.
    pub fn take(&mut self) -> io::Result<Option<Given>> {
        let mut text = std::mem::take(&mut self.message);
        text.clear();
        let began_ns = nanoseconds();
        let given = match self.exchange.take(began_ns, &mut text) {
            // What cannot be read does not begin, and can be run by another.
            Ok(Some(number)) => self.read_task(number, began_ns, &text).map(|given| {
                // Before the caller runs it: should the task write over the exchange, this says that it has begun.
                self.ledger.note(number + 1);
                Some(given)
            }),
            Ok(None) => Ok(None),
            Err(torn) => Err(torn.into()),
        };
        self.message = text;
        given
    }

    /// Sleeps until there may be something to do; false when the pool is gone. Returns early for a signal.
    ///
    /// # Errors
    /// When what came cannot be read.
    pub fn sleep(&mut self) -> io::Result<bool> {
        self.note_released()?;
        // Before the look and the sleep: nothing of ours may lie there unannounced while the pool waits for it.
        if self.exchange.must_wake_pool() {
            message::wake(self.socket.as_fd());
        }
        // The pool, which is about to send another task, is at work.
        if self.spin.is_worth_it(1, nanoseconds()) {
            let look = Spin::look(|| self.exchange.has_task());
            self.spin.learn(look, nanoseconds());
            if look == Look::Came {
                return Ok(true);
            }
        }
        match self.exchange.while_idle(|| message::receive(self.socket.as_fd(), true)) {
            Some(message) => self.heed(message?),
            None => Ok(true),
        }
    }

    /// Says what became of a task. `write` fills the bytes when they go into a slot.
    ///
    /// # Errors
    /// When the pool is gone, or there is no memory for a slot; then nothing was said.
    pub fn publish(&mut self, kind: u32, task: &Given, length: usize, parts: &[&[u8]]) -> io::Result<()> {
        let now = nanoseconds();
        let mut record = Vec::with_capacity(length.min(LONGEST_INLINE_BYTES) + 17);
        if length <= LONGEST_INLINE_BYTES {
            record.push(0);
            record.extend_from_slice(&(length as u64).to_le_bytes());
            parts.iter().for_each(|part| record.extend_from_slice(part));
        } else {
            let number = self.fill_slot(length, parts)?;
            write_slot(&mut record, number, length);
        }
        self.note_released()?;
        self.record(kind, task.number, now.saturating_sub(task.began_ns), &record)?;
        // The record first: a cell that is free says that its result lies in the ring.
        self.exchange.leave(task.number);
        let quiet = now.saturating_sub(self.woken_ns) < QUIET_NS && self.exchange.unread()? < MUCH_BYTES;
        if !quiet && self.exchange.must_wake_pool() {
            self.woken_ns = now;
            message::wake(self.socket.as_fd());
        }
        Ok(())
    }

    /// Says that this worker can work. Until it has, it is starting, and what it ends by is a start that failed.
    ///
    /// # Errors
    /// When the pool is gone.
    pub fn ready(&mut self) -> io::Result<()> {
        self.record(kind::READY, 0, 0, &[])
    }

    /// Says that this worker cannot work, and why.
    ///
    /// # Errors
    /// When the pool is gone.
    pub fn unfit(&mut self, why: &[u8]) -> io::Result<()> {
        self.record(kind::UNFIT, 0, 0, &why[..why.len().min(LONGEST_INLINE_BYTES)])?;
        message::wake(self.socket.as_fd());
        Ok(())
    }

    fn record(&mut self, kind: u32, task: u64, took_ns: u64, bytes: &[u8]) -> io::Result<()> {
        while !self.exchange.publish(kind, task, took_ns, bytes)? {
            self.exchange.want_room();
            if self.exchange.must_wake_pool() {
                message::wake(self.socket.as_fd());
            }
            // Once more with the flag up: room that was made before it could be seen is not announced.
            if self.exchange.publish(kind, task, took_ns, bytes)? {
                break;
            }
            let message = message::receive(self.socket.as_fd(), true)?;
            if !self.heed(message)? {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    fn note_released(&mut self) -> io::Result<()> {
        let released = std::mem::take(&mut *self.released.lock().unwrap_or_else(PoisonError::into_inner));
        released.into_iter().try_for_each(|(number, is_abandoned)| {
            self.record(if is_abandoned { kind::ABANDONED } else { kind::RELEASED }, number, 0, &[])
        })
    }

    fn heed(&mut self, message: Option<Message>) -> io::Result<bool> {
        match message {
            Some(Message::Closed) => Ok(false),
            Some(Message::Memory(number, descriptor)) => {
                self.known.insert(number, Shared::open(descriptor).map(Arc::new));
                Ok(true)
            }
            Some(Message::Forget(number)) => {
                self.known.remove(&number);
                Ok(true)
            }
            Some(Message::Wake | Message::Process(..)) | None => Ok(true),
        }
    }

    fn read_task(&mut self, number: u64, began_ns: u64, mut text: &[u8]) -> io::Result<Given> {
        let torn = || io::Error::new(io::ErrorKind::InvalidData, "a task that cannot be read");
        let (own, rest) = text.split_first_chunk::<8>().ok_or_else(torn)?;
        if u64::from_le_bytes(*own) != number {
            return Err(Torn.into());
        }
        let (function, rest) = rest.split_first_chunk::<8>().ok_or_else(torn)?;
        let (is_defined, rest) = rest.split_first().ok_or_else(torn)?;
        text = rest;
        let definition = match *is_defined {
            0 => None,
            _ => Some(self.received(read_reference(&mut text).ok_or_else(torn)?)?),
        };
        let arguments = self.received(read_reference(&mut text).ok_or_else(torn)?)?;
        Ok(Given { number, began_ns, function: u64::from_le_bytes(*function), definition, arguments })
    }

    /// Fails when the pool is gone; the inner one, when this process cannot have what is referred to.
    fn received(&mut self, reference: Reference) -> io::Result<io::Result<Received>> {
        let (number, length) = match reference {
            Reference::Inline(bytes) => return Ok(Ok(Received::Inline(bytes))),
            Reference::Slot { number, length } => (number, length),
        };
        // Its descriptor was sent before the task was put, so what is not there now never comes.
        while !self.known.contains_key(&number) {
            let message = message::receive(self.socket.as_fd(), false)?;
            if message.is_none() {
                return Err(Torn.into());
            }
            if !self.heed(message)? {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let release = Release::Note(self.released.clone(), number);
        match &self.known[&number] {
            Ok(memory) => {
                let memory = memory.clone();
                if memory.size() > LARGEST_KEPT_BYTES {
                    self.known.remove(&number);
                }
                Ok(View::new(memory, length, release).map(Received::Slot))
            }
            Err(error) => {
                let error = io::Error::new(error.kind(), error.to_string());
                self.let_go(number);
                Ok(Err(error))
            }
        }
    }

    /// Has the pool send a slot again that could not be mapped, should it be needed once more: there may be room by
    /// then.
    fn let_go(&mut self, number: u64) {
        self.known.remove(&number);
        self.released.lock().unwrap_or_else(PoisonError::into_inner).push((number, true));
    }

    /// Copies the parts into a slot of ours; returns its number, whose low byte says which.
    fn fill_slot(&mut self, length: usize, parts: &[&[u8]]) -> io::Result<u64> {
        let fits = |at: &usize| self.slots[*at].1.size() >= length && self.exchange.is_free(*at);
        let best = (0..self.slots.len()).filter(fits).min_by_key(|at| self.slots[*at].1.size());
        if let Some(at) = best {
            self.exchange.lend(at);
            copy(parts, &self.slots[at].1);
            return Ok(self.slots[at].0);
        }
        let slot = Shared::new("unisono-slot", capacity(length))?;
        copy(parts, &slot);
        let last = self.slots.len();
        let place = (0..last).find(|at| self.exchange.is_abandoned(*at)).or((last < SLOTS).then_some(last));
        let place = place.filter(|_| slot.size() <= LARGEST_KEPT_BYTES);
        self.last_slot += 1;
        let number = self.last_slot << 8 | place.map_or(ONCE, |at| at as u64);
        message::send_memory(self.socket.as_fd(), number, slot.as_fd(), true)?;
        if let Some(at) = place {
            self.exchange.lend(at);
            if at == last {
                self.slots.push((number, slot));
            } else {
                self.slots[at] = (number, slot);
            }
        }
        Ok(number)
    }
}

fn copy(parts: &[&[u8]], slot: &Shared) {
    let mut at = 0;
    for part in parts {
        slot.write(at, part);
        at += part.len();
    }
}

/// The low byte of a slot's number that is used once.
pub const ONCE: u64 = 255;
/// For so long after a wake-up the next results are not announced: about what a wake-up costs.
pub(crate) const QUIET_NS: u64 = 50_000;
/// So many unread bytes are announced all the same: half of the ring.
const MUCH_BYTES: u64 = 512 << 10;
