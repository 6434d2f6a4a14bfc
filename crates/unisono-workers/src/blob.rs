//! Bytes of a task or a result: short ones lie in the message, long ones in a *slot*, memory that both sides map.
//!
//! Slots are used again: a fresh mapping costs a page fault per 4 KiB, which is several times what the copy costs. A
//! slot belongs to whoever made it, is lent to the other side with the message that names it, and comes back when its
//! last view there dies, or when the other process has surely ended. Very large ones are not kept.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use unisono_sys::shared::Shared;

use crate::exchange::{Exchange, LONGEST};

/// Bytes on their way.
#[derive(Debug, Clone)]
pub enum Blob {
    /// Short.
    Inline(Vec<u8>),
    /// In a slot of ours.
    Slot(Arc<Lease>),
}

/// A slot of ours in use; it goes back into its arena when dropped.
#[derive(Debug)]
pub struct Lease {
    /// By which number the other side knows it.
    pub number: u64,
    /// How many of its bytes count.
    pub length: usize,
    slot: Option<Arc<Shared>>,
    arena: Arena,
}

impl Lease {
    /// Its memory.
    pub fn memory(&self) -> &Shared {
        self.slot.as_ref().expect("a lease has its slot until it is dropped")
    }

    /// Whether it will be used again.
    pub fn is_kept(&self) -> bool {
        self.memory().size() <= LARGEST_KEPT
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take().filter(|slot| slot.size() <= LARGEST_KEPT) {
            let mut free = self.arena.0.lock().unwrap_or_else(PoisonError::into_inner);
            free.slots.push((self.number, slot));
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
}

impl Arena {
    /// A slot with room for so many bytes.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn lease(&self, length: usize) -> io::Result<Arc<Lease>> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.slots.iter().enumerate().filter(|(_, (_, slot))| slot.size() >= length);
        let best = fitting.min_by_key(|(_, (_, slot))| slot.size()).map(|(at, _)| at);
        let (number, slot) = if let Some(at) = best {
            free.slots.swap_remove(at)
        } else {
            free.last += 1;
            (free.last, Arc::new(Shared::new("unisono-slot", capacity(length))?))
        };
        Ok(Arc::new(Lease { number, length, slot: Some(slot), arena: self.clone() }))
    }
}

/// How large a slot is made for so many bytes: kept ones in few sizes, so that they fit again.
pub fn capacity(length: usize) -> usize {
    if length > LARGEST_KEPT / 2 { length.next_multiple_of(4096) } else { length.next_power_of_two() }
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
    /// The slot.
    pub memory: Arc<Shared>,
    /// How many of its bytes count.
    pub length: usize,
    /// Who is told.
    pub release: Release,
}

/// How the end of a view is said.
#[derive(Debug)]
pub enum Release {
    /// To a worker: its flag in the shared memory.
    Flag(Arc<Exchange>, usize),
    /// To a pool: in the next record.
    Note(Arc<Mutex<Vec<u64>>>, u64),
    /// It is not used again.
    Nobody,
}

impl Drop for View {
    fn drop(&mut self) {
        match &self.release {
            Release::Flag(exchange, slot) => exchange.give_back(*slot),
            Release::Note(notes, number) => notes.lock().unwrap_or_else(PoisonError::into_inner).push(*number),
            Release::Nobody => {}
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

/// What is longer than this, in bytes, goes into a slot: half of what a message may hold, for a function and arguments.
pub const LONGEST_INLINE: usize = LONGEST / 2 - 64;
/// The largest slot that is kept, in bytes.
pub const LARGEST_KEPT: usize = 64 << 20;
