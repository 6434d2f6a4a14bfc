//! What a pool and one worker share: cells with tasks on them, and two rings of bytes.
//!
//! A task lies on a *cell*. The side that first changes its state from `QUEUED` has it: the worker by beginning it, the
//! pool by retracting it. A finished task's result is in the results ring before the next one begins. So after a
//! worker's death its memory says for every task whether it never began, was under way, or had ended: none is lost, and
//! none is run twice because a message was on its way.
//!
//! Words are published with release and read with acquire; a flag that says "I am going to sleep" is set and then
//! looked past once more, with a full fence on both sides, so that no wake-up is lost. `models.rs` tries every order of
//! steps and every value that a read may see.
//!
//! Knows no sockets and nothing of what the bytes mean. What a task does may write over all of it. So each side keeps
//! its own counts in memory of its own, believes of the other's words only what keeps it within its memory and its
//! time, and a state that is none says that the worker has gone mad ([`Exchange::is_sane`]): it may lose its own tasks,
//! and no others.

#[cfg(all(test, loom))]
mod models;

use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::memory::{AtomicU32, Memory, Ordering, fence, sized};

/// How many tasks may lie before one worker.
pub const CELLS: u64 = sized(256, 2) as u64;
/// The longest message that goes into a ring; what is longer goes into a slot.
pub const LONGEST_BYTES: usize = 64 << 10;
/// How many slots for results a worker may lend at once.
pub const SLOTS: usize = sized(64, 2);

/// One result, or another note of the worker.
#[derive(Debug)]
pub struct ResultRecord {
    /// What it is, as the worker's side says.
    pub kind: u32,
    /// Which cell it is about, counted from the worker's start.
    pub task: u64,
    /// How long the task ran.
    pub took_ns: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The shared memory; both sides have one.
#[derive(Debug)]
pub struct Exchange {
    memory: Memory,
    /// What the words of this side say, kept where the other cannot write. The pool's:
    put: Own,
    read: Own,
    /// As far as the worker was seen to have come.
    seen: Own,
    /// The worker's:
    taken: Own,
    written: Own,
}

/// A count that only one side touches, and of that one thread at a time.
#[derive(Debug, Default)]
struct Own(std::sync::atomic::AtomicU64);

impl Own {
    fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn set(&self, count: u64) {
        self.0.store(count, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Why a task cannot be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// A task lies on every cell, or did before it was taken back and its cell was passed.
    Cells,
    /// Its bytes do not fit before those of the oldest task; they will when that has ended.
    Ring,
}

/// The memory says what cannot be: it was written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

impl From<Torn> for io::Error {
    fn from(_: Torn) -> Self {
        Self::new(io::ErrorKind::InvalidData, "the memory that a worker shares with its pool was written over")
    }
}

impl Exchange {
    /// A new one, empty.
    ///
    /// # Errors
    /// As [`unisono_sys::shared::Shared::new`].
    pub fn new() -> io::Result<Self> {
        Memory::new("unisono-exchange", TASKS + 2 * RING_BYTES).map(Self::over)
    }

    /// The one that a pool has made.
    ///
    /// # Errors
    /// When it is none.
    #[cfg(not(loom))]
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        let memory = Memory::open(descriptor)?;
        if memory.size() != TASKS + 2 * RING_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the memory of this version of unisono"));
        }
        Ok(Self::over(memory))
    }

    fn over(memory: Memory) -> Self {
        let [put, read, seen, taken, written] = [(); 5].map(|()| Own::default());
        Self { memory, put, read, seen, taken, written }
    }

    /// The pool's side: puts a task on the next cell. `oldest` is where the bytes of the oldest task begin that has not
    /// ended; `at` is where those of this one go. Returns the task's number.
    ///
    /// # Errors
    /// When there is no room for it now.
    pub fn put(&self, oldest: u64, at: u64, bytes: &[u8]) -> Result<u64, Full> {
        self.has_room(oldest, at, bytes.len())?;
        let number = self.put.get();
        self.write_ring(TASKS, at, bytes);
        self.memory.word64(cell(number) + CELL_AT).store(at, Ordering::Relaxed);
        self.memory.word32(cell(number) + CELL_LENGTH).store(bytes.len() as u32, Ordering::Relaxed);
        // The cell before the count: the worker looks at a cell only when the count has passed it, and takes one whose
        // state is not its own for torn.
        self.state(number).store(state(number, QUEUED), Ordering::Release);
        self.put.set(number + 1);
        self.memory.word64(PUT).store(number + 1, Ordering::Release);
        Ok(number)
    }

    /// The pool's side: the number of the task that is put next.
    pub fn next_number(&self) -> u64 {
        self.put.get()
    }

    /// The pool's side: whether so many bytes can be put now.
    ///
    /// # Errors
    /// When they cannot.
    pub fn has_room(&self, oldest: u64, at: u64, length: usize) -> Result<(), Full> {
        if at + length as u64 - oldest > RING_BYTES as u64 {
            return Err(Full::Ring);
        }
        if self.has_cell() { Ok(()) } else { Err(Full::Cells) }
    }

    /// The pool's side: whether a cell is free. To be asked again before a sleep that a free cell is to end, since the
    /// worker announces results and that it has run out of tasks, not that it has passed what was taken back.
    pub fn has_cell(&self) -> bool {
        self.passed().is_ok_and(|passed| self.put.get() - passed < CELLS)
    }

    /// The pool's side: how many cells the worker is through with.
    ///
    /// # Errors
    /// When it says to be through with more than it was given, or with less than before.
    pub fn passed(&self) -> Result<u64, Torn> {
        let taken = self.memory.word64(TAKEN).load(Ordering::Acquire);
        if !(self.seen.get()..=self.put.get()).contains(&taken) {
            return Err(Torn);
        }
        self.seen.set(taken);
        Ok(taken)
    }

    /// The pool's side: whether all words are such as a worker writes, of which the tasks with these numbers have not
    /// ended. To be asked from time to time: it looks at each cell.
    pub fn is_sane(&self, mut open: impl Iterator<Item = u64>) -> bool {
        let word = |at: usize| self.memory.word64(at).load(Ordering::Relaxed);
        let unread = word(WRITTEN).wrapping_sub(self.read.get());
        (word(PUT), word(READ)) == (self.put.get(), self.read.get())
            && (unread == 0 || (HEAD_BYTES as u64..=RING_BYTES as u64).contains(&unread))
            && self.passed().is_ok()
            && open.all(|number| {
                let is = self.state(number).load(Ordering::Relaxed);
                is == state(number, QUEUED) || is == state(number, BEGUN)
            })
    }

    /// The pool's side: whether the worker has not begun it yet. Neither this nor [`Exchange::began`] holds for a task
    /// whose cell was written over.
    pub fn is_queued(&self, number: u64) -> bool {
        self.state(number).load(Ordering::Acquire) == state(number, QUEUED)
    }

    /// The pool's side: whether the worker has to be woken, which is said once.
    pub fn must_wake_worker(&self) -> bool {
        self.lower(SLEEPS)
    }

    /// The pool's side: takes a task back that has not begun; false when the worker was faster.
    pub fn retract(&self, number: u64) -> bool {
        self.change(number, QUEUED, RETRACTED)
    }

    /// The pool's side: when the task began, in nanoseconds of the monotonic clock, if it has.
    pub fn began_ns(&self, number: u64) -> Option<u64> {
        (self.state(number).load(Ordering::Acquire) == state(number, BEGUN))
            .then(|| self.memory.word64(cell(number) + CELL_BEGAN).load(Ordering::Relaxed))
    }

    /// The pool's side: takes the next record out of the results ring.
    ///
    /// # Errors
    /// When what lies there was not written by [`Exchange::publish`]; nothing that follows can be read either.
    pub fn next_record(&self) -> Result<Option<ResultRecord>, Torn> {
        let read = self.read.get();
        let unread = self.memory.word64(WRITTEN).load(Ordering::Acquire).wrapping_sub(read);
        if unread == 0 {
            return Ok(None);
        }
        if !(HEAD_BYTES as u64..=RING_BYTES as u64).contains(&unread) {
            return Err(Torn);
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        self.read_ring(RESULTS, read, HEAD_BYTES, &mut head);
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes of the head"));
        let length = number(0) as usize & 0xffff_ffff;
        if whole(length) > unread {
            return Err(Torn);
        }
        let mut bytes = Vec::with_capacity(length);
        self.read_ring(RESULTS, read + HEAD_BYTES as u64, length, &mut bytes);
        self.read.set(read + whole(length));
        // After the bytes were copied: the worker writes over what lies before this.
        self.memory.word64(READ).store(read + whole(length), Ordering::Release);
        Ok(Some(ResultRecord { kind: (number(0) >> 32) as u32, task: number(8), took_ns: number(16), bytes }))
    }

    /// The pool's side: whether the worker waits for room in the results ring, which is said once.
    pub fn worker_wants_room(&self) -> bool {
        self.lower(WANTS_ROOM)
    }

    /// The pool's side: asks to be woken by the next results, or no longer.
    pub fn pool_waits(&self, waits: bool) {
        self.memory.word32(POOL_WAITS).store(u32::from(waits), Ordering::Relaxed);
        if waits {
            fence(Ordering::SeqCst);
        }
    }

    /// The pool's side: whether records lie there.
    pub fn has_records(&self) -> bool {
        self.read.get() != self.memory.word64(WRITTEN).load(Ordering::Acquire)
    }

    /// The pool's side: a slot for results is not looked at any more.
    pub fn give_back(&self, slot: usize) {
        self.lent(slot).store(0, Ordering::Release);
    }

    /// The pool's side: a slot for results must stay as it is, since a fork of this process may look at it.
    pub fn abandon(&self, slot: usize) {
        self.lent(slot).store(ABANDONED, Ordering::Release);
    }

    /// The worker's side: begins the next task and appends its bytes; returns its number.
    ///
    /// # Errors
    /// When what lies there was not put by a pool.
    pub fn take(&self, now_ns: u64, bytes: &mut Vec<u8>) -> Result<Option<u64>, Torn> {
        loop {
            let number = self.taken.get();
            let ahead = self.memory.word64(PUT).load(Ordering::Acquire).wrapping_sub(number);
            if ahead == 0 {
                return Ok(None);
            }
            if ahead > CELLS {
                return Err(Torn);
            }
            // Before the state, so that the pool, when it sees the state, sees the time.
            self.memory.word64(cell(number) + CELL_BEGAN).store(now_ns, Ordering::Relaxed);
            if self.change(number, QUEUED, BEGUN) {
                let at = self.memory.word64(cell(number) + CELL_AT).load(Ordering::Relaxed);
                let length = self.memory.word32(cell(number) + CELL_LENGTH).load(Ordering::Relaxed) as usize;
                if length > LONGEST_BYTES {
                    return Err(Torn);
                }
                self.read_ring(TASKS, at, length, bytes);
                return Ok(Some(number));
            }
            // Only what was taken back is passed over: a task must not be lost because its cell was written over.
            if self.state(number).load(Ordering::Acquire) != state(number, RETRACTED) {
                return Err(Torn);
            }
            // Passing it frees its cell, for which the pool may wait with a task in its hand.
            self.leave(number);
        }
    }

    /// The worker's side: the cell is free again.
    pub fn leave(&self, number: u64) {
        self.taken.set(number + 1);
        self.memory.word64(TAKEN).store(number + 1, Ordering::Release);
    }

    /// The worker's side: writes a record, unless there is no room for it now.
    ///
    /// # Errors
    /// When the pool seems to have read what was not written.
    pub fn publish(&self, kind: u32, task: u64, took_ns: u64, bytes: &[u8]) -> Result<bool, Torn> {
        let written = self.written.get();
        if self.unread()? + whole(bytes.len()) > RING_BYTES as u64 {
            return Ok(false);
        }
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&(u64::from(kind) << 32 | bytes.len() as u64).to_le_bytes());
        head[8..16].copy_from_slice(&task.to_le_bytes());
        head[16..].copy_from_slice(&took_ns.to_le_bytes());
        self.write_ring(RESULTS, written, &head);
        self.write_ring(RESULTS, written + HEAD_BYTES as u64, bytes);
        self.written.set(written + whole(bytes.len()));
        // After the bytes: the pool reads up to here at once.
        self.memory.word64(WRITTEN).store(written + whole(bytes.len()), Ordering::Release);
        Ok(true)
    }

    /// The worker's side: how many bytes of results the pool has not read.
    ///
    /// # Errors
    /// As [`Exchange::publish`].
    pub fn unread(&self) -> Result<u64, Torn> {
        let unread = self.written.get().wrapping_sub(self.memory.word64(READ).load(Ordering::Acquire));
        if unread > RING_BYTES as u64 { Err(Torn) } else { Ok(unread) }
    }

    /// The worker's side: whether the pool has to be woken, which is said once.
    pub fn must_wake_pool(&self) -> bool {
        self.lower(POOL_WAITS)
    }

    /// The worker's side: whether a task lies there.
    pub fn has_task(&self) -> bool {
        self.taken.get() != self.memory.word64(PUT).load(Ordering::Acquire)
    }

    /// The worker's side: sleeps by `sleep`, of which it is woken; `None` when a task lies there and it did not.
    pub fn while_idle<T>(&self, sleep: impl FnOnce() -> T) -> Option<T> {
        self.memory.word32(SLEEPS).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // What was put before the flag could be seen is not announced.
        let slept = (!self.has_task()).then(sleep);
        self.memory.word32(SLEEPS).store(0, Ordering::Relaxed);
        slept
    }

    /// The worker's side: asks to be woken when there is room for results.
    pub fn want_room(&self) {
        self.memory.word32(WANTS_ROOM).store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker's side: whether a slot for results is not lent to the pool, so that it may be written.
    pub fn is_free(&self, slot: usize) -> bool {
        self.lent(slot).load(Ordering::Acquire) == 0
    }

    /// The worker's side: whether another slot must take the place of this one.
    pub fn is_abandoned(&self, slot: usize) -> bool {
        self.lent(slot).load(Ordering::Acquire) == ABANDONED
    }

    /// The worker's side: lends a slot to the pool, before the record that names it is published.
    pub fn lend(&self, slot: usize) {
        self.lent(slot).store(LENT_OUT, Ordering::Relaxed);
    }

    fn lent(&self, slot: usize) -> &AtomicU32 {
        self.memory.word32(LENT + slot % SLOTS * 4)
    }

    /// Whether a flag was up, which the other side raised before it looked for what was published here just now.
    fn lower(&self, flag: usize) -> bool {
        fence(Ordering::SeqCst);
        let flag = self.memory.word32(flag);
        // The look is for the common case, in which the other side is awake and the line stays with its owner. An
        // exchange that fails writes nothing, unlike a swap; without that the model checker, which does not order what
        // a swap that read zero wrote before the next flag, would see sleepers that are never woken.
        flag.load(Ordering::Relaxed) == 1 && flag.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn change(&self, number: u64, from: u32, to: u32) -> bool {
        let (from, to) = (state(number, from), state(number, to));
        self.state(number).compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn state(&self, number: u64) -> &AtomicU32 {
        self.memory.word32(cell(number))
    }

    fn write_ring(&self, ring: usize, at: u64, bytes: &[u8]) {
        let start = at as usize % RING_BYTES;
        let (first, second) = bytes.split_at(bytes.len().min(RING_BYTES - start));
        self.memory.write(ring + start, first);
        self.memory.write(ring, second);
    }

    fn read_ring(&self, ring: usize, at: u64, length: usize, bytes: &mut Vec<u8>) {
        let start = at as usize % RING_BYTES;
        let first = length.min(RING_BYTES - start);
        self.memory.read(ring + start, first, bytes);
        self.memory.read(ring, length.min(RING_BYTES) - first, bytes);
    }
}

#[cfg(not(loom))]
impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// What a record takes in the ring: its head, its bytes, and what makes the next head lie at a multiple of eight.
const fn whole(length: usize) -> u64 {
    (HEAD_BYTES + length).next_multiple_of(8) as u64
}

const fn cell(number: u64) -> usize {
    CELL + (number % CELLS) as usize * CELL_SIZE
}

// Words that different sides write lie in different cache lines.
const LINE: usize = sized(64, 8);
const PUT: usize = 0;
const POOL_WAITS: usize = LINE;
const READ: usize = 2 * LINE;
const SLEEPS: usize = 3 * LINE;
const TAKEN: usize = 4 * LINE;
const WRITTEN: usize = 5 * LINE;
const WANTS_ROOM: usize = 6 * LINE;
const LENT: usize = 7 * LINE;
const CELL: usize = (LENT + SLOTS * 4).next_multiple_of(8);
const CELL_SIZE: usize = sized(32, 24);
const CELL_LENGTH: usize = 4;
const CELL_AT: usize = 8;
const CELL_BEGAN: usize = 16;
const TASKS: usize = (CELL + CELLS as usize * CELL_SIZE).next_multiple_of(sized(4096, 8));
const RESULTS: usize = TASKS + RING_BYTES;
/// Room for sixteen of the longest messages; pages that are never written cost nothing.
const RING_BYTES: usize = sized(1 << 20, 64);
const HEAD_BYTES: usize = 24;

/// How a state stands on the cell of a task. It is the task's own, so that neither what is written over a cell by
/// chance nor what once stood there is taken for a state.
const fn state(number: u64, state: u32) -> u32 {
    ((number as u32).wrapping_mul(0x9e37_79b1) ^ 0x7a5c_31e8) & !3 | state
}

const QUEUED: u32 = 1;
const BEGUN: u32 = 2;
const RETRACTED: u32 = 3;

// What the word of a slot says; 0 is that it is free.
const LENT_OUT: u32 = 1;
const ABANDONED: u32 = 2;

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::{CELLS, Exchange, Full, HEAD_BYTES, LONGEST_BYTES, RESULTS, RING_BYTES, TASKS, Torn, WRITTEN};

    fn pair() -> (Exchange, Exchange) {
        let ours = Exchange::new().unwrap();
        let theirs = Exchange::open(rustix::io::dup(&ours).unwrap()).unwrap();
        (ours, theirs)
    }

    #[test]
    fn tasks_arrive_in_order_and_whole() {
        let (pool, worker) = pair();
        let mut at = 0;
        for round in 0..100u64 {
            let bytes = vec![round as u8; LONGEST_BYTES - round as usize];
            assert_eq!(pool.put(at, at, &bytes), Ok(round));
            at += bytes.len() as u64;
            let mut taken = Vec::new();
            assert_eq!(worker.take(round, &mut taken), Ok(Some(round)));
            assert_eq!((taken, pool.began_ns(round)), (bytes, Some(round)));
            worker.leave(round);
        }
    }

    #[test]
    fn a_retracted_task_is_passed_over_and_one_that_has_begun_cannot_be_retracted() {
        let (pool, worker) = pair();
        for _ in 0..3 {
            pool.put(0, 0, b"x").unwrap();
        }
        assert!(pool.retract(1));
        let mut bytes = Vec::new();
        assert_eq!(worker.take(1, &mut bytes), Ok(Some(0)));
        assert!(!pool.retract(0));
        worker.leave(0);
        assert_eq!(worker.take(1, &mut bytes), Ok(Some(2)));
    }

    #[test]
    fn cells_and_bytes_are_bounded() {
        let (pool, worker) = pair();
        for number in 0..CELLS {
            assert_eq!(pool.put(0, number, b"x"), Ok(number));
        }
        assert_eq!(pool.put(0, CELLS, b"x"), Err(Full::Cells));
        worker.take(0, &mut Vec::new()).unwrap().unwrap();
        worker.leave(0);
        assert_eq!(pool.put(0, 2 << 20, b"x"), Err(Full::Ring), "further than the ring is long");
        assert_eq!(pool.put(1, CELLS, b"x"), Ok(CELLS));
    }

    #[test]
    fn results_come_back_until_the_ring_is_full() {
        let (pool, worker) = pair();
        let mut sent = 0;
        while worker.publish(1, sent, 5, &vec![sent as u8; 60_001]).unwrap() {
            sent += 1;
        }
        assert!(sent >= 16);
        for number in 0..sent {
            let record = pool.next_record().unwrap().unwrap();
            assert_eq!((record.kind, record.task, record.took_ns), (1, number, 5));
            assert_eq!(record.bytes, vec![number as u8; 60_001]);
        }
        assert!(pool.next_record().unwrap().is_none() && worker.publish(1, sent, 5, b"again").unwrap());
    }

    #[test]
    fn a_sleeper_is_woken_once_and_does_not_sleep_past_a_task() {
        let (pool, worker) = pair();
        assert_eq!(worker.while_idle(|| (pool.must_wake_worker(), pool.must_wake_worker())), Some((true, false)));
        assert!(!pool.must_wake_worker(), "it is awake");
        pool.put(0, 0, b"x").unwrap();
        assert_eq!(worker.while_idle(|| "slept"), None);
        pool.pool_waits(true);
        assert!(worker.must_wake_pool() && !worker.must_wake_pool());
    }

    #[test]
    fn what_no_worker_wrote_is_torn_and_never_read_beyond_what_was_written() {
        let (pool, worker) = pair();
        for written in [1, 23, RING_BYTES as u64 + 1, u64::MAX] {
            worker.memory.word64(WRITTEN).store(written, std::sync::atomic::Ordering::Release);
            assert_eq!(pool.next_record().unwrap_err(), Torn, "{written} bytes were written");
        }
        worker.memory.word64(WRITTEN).store(24, std::sync::atomic::Ordering::Release);
        worker.memory.write(RESULTS, &1u64.to_le_bytes());
        assert_eq!(pool.next_record().unwrap_err(), Torn, "a record of 25 bytes in 24");
        worker.memory.write(RESULTS, &0u64.to_le_bytes());
        assert_eq!(pool.next_record().unwrap().unwrap().bytes, b"");
    }

    proptest! {
        #[test]
        fn whatever_a_worker_writes_there_the_pool_does_not_panic_and_comes_to_an_end(
            words in prop::collection::vec((0..TASKS / 8, prop_oneof![any::<u64>(), 0..200u64, u64::MAX - 50..]), 0..40),
            records in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let (pool, worker) = pair();
            worker.memory.write(RESULTS, &records);
            for (at, word) in words {
                worker.memory.write(at * 8, &word.to_le_bytes());
            }
            // Each step takes at least a head out of the ring.
            let most = RING_BYTES / HEAD_BYTES + 1;
            let read = (0..most).take_while(|_| matches!(pool.next_record(), Ok(Some(_)))).count();
            prop_assert!(read < most);
            for number in [0, 1, CELLS, u64::MAX] {
                let _ = (pool.began_ns(number), pool.retract(number), pool.has_cell());
            }
            let _ = (pool.put(0, 0, b"x"), pool.must_wake_worker(), pool.worker_wants_room(), pool.has_records());
        }
    }
}
