//! Bytes of a task or a result: short ones lie in the message, long ones in a *slot*, memory that both sides map.
//!
//! Slots are used again: a fresh mapping costs a page fault per 4 KiB, which is several times what the copy costs. A
//! slot belongs to the side that made it, is lent to the other side with the message that names it, and comes back when
//! its last view there dies, or when the other process has surely ended. Very large ones are not kept. One that a fork
//! of the other process may still look at is not used again.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use unisono_sys::{
    forks::{Moment, Since},
    private_copy::PrivateCopy,
    shared::Shared,
};

use crate::exchange::{Exchange, LONGEST_BYTES};

/// Bytes on their way.
#[derive(Debug, Clone)]
pub enum Blob {
    /// Short.
    Inline(Vec<u8>),
    /// In a slot of ours.
    Slot(Arc<SlotLease>),
}

/// A slot of ours in use; it goes back into its arena when dropped.
#[derive(Debug)]
pub struct SlotLease {
    /// By which number the other side knows it.
    pub number: u64,
    /// How many of its bytes count.
    pub length: usize,
    slot: Option<Arc<Shared>>,
    /// It must stay as it is.
    is_abandoned: AtomicBool,
    arena: Arena,
}

impl SlotLease {
    /// Its memory.
    pub fn memory(&self) -> &Shared {
        self.slot.as_ref().expect("a lease has its slot until it is dropped")
    }

    /// Whether it will be used again.
    pub fn is_kept(&self) -> bool {
        self.memory().size() <= LARGEST_KEPT_BYTES
    }

    /// Has it never written to again: a fork of the other side's may look at it.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        let is_abandoned = *self.is_abandoned.get_mut();
        if let Some(slot) = self.slot.take().filter(|slot| slot.size() <= LARGEST_KEPT_BYTES && !is_abandoned) {
            let mut free = self.arena.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !free.is_closed {
                free.slots.push((self.number, slot));
            }
        }
    }
}

/// The slots of one pool, for what it sends.
#[derive(Debug, Clone, Default)]
pub struct Arena(Arc<Mutex<Free>>);

#[derive(Debug, Default)]
struct Free {
    slots: Vec<(u64, Arc<Shared>)>,
    last: u64,
    /// None is used again.
    is_closed: bool,
}

impl Arena {
    /// Nothing more is sent, so nothing is kept to be used again: each slot is memory and a descriptor.
    pub fn close(&self) {
        let slots = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            free.is_closed = true;
            std::mem::take(&mut free.slots)
        };
        drop(slots);
    }

    /// A slot with room for so many bytes.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn lease(&self, length: usize) -> io::Result<Arc<SlotLease>> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.slots.iter().enumerate().filter(|(_, (_, slot))| slot.size() >= length);
        let best = fitting.min_by_key(|(_, (_, slot))| slot.size()).map(|(at, _)| at);
        let (number, slot) = if let Some(at) = best {
            free.slots.swap_remove(at)
        } else {
            free.last += 1;
            (free.last, Arc::new(Shared::new("unisono-slot", capacity(length))?))
        };
        Ok(Arc::new(SlotLease {
            number,
            length,
            slot: Some(slot),
            is_abandoned: AtomicBool::new(false),
            arena: self.clone(),
        }))
    }
}

/// How large a slot is made for so many bytes: kept ones in few sizes, so that they fit again.
pub fn capacity(length: usize) -> usize {
    if length > LARGEST_KEPT_BYTES / 2 { length.next_multiple_of(4096) } else { length.next_power_of_two() }
}

/// Bytes that came from the other side.
#[derive(Debug)]
pub enum Received {
    /// Short.
    Inline(Vec<u8>),
    /// In a slot of the other side's.
    Slot(View),
}

/// What is seen of a slot of the other side's; when it is dropped, the slot is theirs again.
#[derive(Debug)]
pub struct View {
    /// The slot, which is to be read only.
    pub memory: Arc<Shared>,
    /// How many of its bytes count.
    pub length: usize,
    loan: Loan,
}

impl View {
    pub(crate) fn new(memory: Arc<Shared>, length: usize, release: Release) -> io::Result<Self> {
        Ok(Self { memory, length, loan: Loan { release, since: Moment::now()? } })
    }

    /// The same, to be written to.
    ///
    /// # Errors
    /// As [`PrivateCopy::of`]; then the view is gone.
    pub fn into_private(self) -> io::Result<PrivateView> {
        let memory = PrivateCopy::of(&self.memory, self.length)?;
        // What was copied at once needs the slot no more.
        let loan = memory.is_mapped().then_some(self.loan);
        Ok(PrivateView { memory, _loan: loan })
    }
}

/// A private copy of what a slot of the other side's holds; when it is dropped, the slot is theirs again, if it is not
/// yet.
#[derive(Debug)]
pub struct PrivateView {
    /// The copy.
    pub memory: PrivateCopy,
    /// Behind the memory, so that it ends after it: pages that were not copied are still those of the slot.
    _loan: Option<Loan>,
}

/// A slot of the other side's that is looked at here.
#[derive(Debug)]
struct Loan {
    release: Release,
    since: Moment,
}

/// How the end of a view is said.
#[derive(Debug)]
pub(crate) enum Release {
    /// To a worker: its flag in the shared memory.
    Flag(Arc<Exchange>, usize),
    /// To a pool: in the next record.
    Note(Released, u64),
    /// It is not used again.
    Nothing,
}

/// Slots of a pool that a worker does not look at any more, each with whether a fork of it may.
pub(crate) type Released = Arc<Mutex<Vec<(u64, bool)>>>;

impl Drop for Loan {
    fn drop(&mut self) {
        let is_abandoned = match self.since.since() {
            Since::Nothing => false,
            Since::Forked => true,
            // What ends here is a copy; the slot is given back by the borrower.
            Since::InFork => return,
        };
        match &self.release {
            Release::Flag(exchange, slot) if is_abandoned => exchange.abandon(*slot),
            Release::Flag(exchange, slot) => exchange.give_back(*slot),
            Release::Note(notes, number) => {
                notes.lock().unwrap_or_else(PoisonError::into_inner).push((*number, is_abandoned));
            }
            Release::Nothing => {}
        }
    }
}

/// How a blob stands in a message: the bytes themselves, or which slot they are in.
pub fn write_reference(message: &mut Vec<u8>, blob: &Blob) {
    match blob {
        Blob::Inline(bytes) => {
            message.push(0);
            message.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            message.extend_from_slice(bytes);
        }
        Blob::Slot(lease) => write_slot(message, lease.number, lease.length),
    }
}

/// The same for a slot.
pub fn write_slot(message: &mut Vec<u8>, number: u64, length: usize) {
    message.push(1);
    message.extend_from_slice(&(length as u64).to_le_bytes());
    message.extend_from_slice(&number.to_le_bytes());
}

/// What a message says of a blob.
#[derive(Debug)]
pub enum Reference {
    /// Here they are.
    Inline(Vec<u8>),
    /// So many bytes of the slot with this number.
    Slot {
        /// Its number.
        number: u64,
        /// How many bytes.
        length: usize,
    },
}

/// Reads what [`write_reference`] wrote, and moves past it. `None` when it is not that.
pub fn read_reference(message: &mut &[u8]) -> Option<Reference> {
    let (kind, rest) = message.split_first()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if *kind == 0 {
        let (bytes, rest) = rest.split_at_checked(length)?;
        *message = rest;
        return Some(Reference::Inline(bytes.to_vec()));
    }
    let (number, rest) = rest.split_first_chunk::<8>()?;
    *message = rest;
    Some(Reference::Slot { number: u64::from_le_bytes(*number), length })
}

/// What is longer than this goes into a slot: half of what a message may hold, for a function and arguments.
pub const LONGEST_INLINE_BYTES: usize = LONGEST_BYTES / 2 - 64;
/// The largest slot that is kept.
pub const LARGEST_KEPT_BYTES: usize = 64 << 20;
