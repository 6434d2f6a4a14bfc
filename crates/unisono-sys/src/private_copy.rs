//! A private copy of memory that another process has written, to be read and written as one's own.
//!
//! A short one is copied at once. A long one is mapped (MAP_PRIVATE, mmap(2)): each page is copied when it is first
//! written to, and not before. What is written is seen nowhere else. What the other side writes may or may not be seen
//! in pages that were not copied yet, so it must leave the memory alone as long as such a copy is there; and, since a
//! fork of this process has the copy as well, as long as it is there in a fork.
//!
//! Leaves out growing, and writing back.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc},
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
};

use crate::shared::Shared;

/// The first bytes of shared memory, copied; they lie at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub struct PrivateCopy {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to no thread. It is given out as an address only, and the code that reads or writes there
// answers for the order, as with any memory that is given out so.
unsafe impl Send for PrivateCopy {}
// SAFETY: as above.
unsafe impl Sync for PrivateCopy {}

impl PrivateCopy {
    /// A copy of the first `length` bytes, of which there is at least one. It does not need `memory` to live on.
    ///
    /// # Errors
    /// Of the kind `OutOfMemory`: there is not so much memory or address space (RLIMIT_AS) for this process, or it has
    /// too many mappings.
    ///
    /// # Panics
    /// When `memory` is shorter, or no byte is asked for.
    pub fn of(memory: &Shared, length: usize) -> io::Result<Self> {
        assert!((1..=memory.size()).contains(&length), "{length} bytes of {}", memory.size());
        let start = if is_mapped(length) { map(memory, length) } else { copied(memory, length) };
        Ok(Self { start: start?, length })
    }

    /// Whether it looks through to the memory that it is of, where it was not written to.
    pub fn is_mapped(&self) -> bool {
        is_mapped(self.length)
    }

    /// Where it lies; good for as long as `self` lives.
    pub fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.length
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        // SAFETY: it was made by `map` or `copied` with this length, which says by which of them, and what its address
        // was given to does not outlive `self`.
        unsafe {
            if is_mapped(self.length) {
                libc::munmap(self.start.as_ptr().cast(), self.length);
            } else {
                dealloc(self.start.as_ptr(), layout(self.length));
            }
        }
    }
}

fn map(memory: &Shared, length: usize) -> io::Result<NonNull<u8>> {
    // Most copies are only read, so room for pages that may never be written is not set aside (MAP_NORESERVE).
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours; the result is checked. The
    // file behind it was sealed against shrinking, so that no page of it can vanish.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            memory.as_fd().as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(start.cast()).expect("mmap(2) places nothing at zero unless told to"))
}

fn copied(memory: &Shared, length: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: the layout is not empty, and what is not there is told below.
    let start = NonNull::new(unsafe { alloc(layout(length)) }).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: so many bytes lie within the mapping, as `of` has checked, and at `start`, which is memory that was
    // allocated just now, and which no mapping overlaps.
    unsafe { std::ptr::copy_nonoverlapping(memory.address(), start.as_ptr(), length) };
    Ok(start)
}

fn is_mapped(length: usize) -> bool {
    length > LONGEST_COPIED_BYTES
}

fn layout(length: usize) -> Layout {
    Layout::from_size_align(length, ALIGNMENT).expect("a few MiB, aligned to a power of two")
}

/// Where copies lie is a multiple of this, in bytes.
pub const ALIGNMENT: usize = 64;
/// The longest that is copied at once, in bytes. Up to here a copy into memory that the allocator has at hand takes no
/// longer than the page faults of a mapping that is read (20 and 80 microseconds for 1 MiB), and a tenth of those of
/// one that is written to; and what it takes in memory is not much.
pub const LONGEST_COPIED_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, LONGEST_COPIED_BYTES, PrivateCopy, Shared};

    fn set(copy: &PrivateCopy, at: usize, byte: u8) {
        assert!(at < copy.size());
        // SAFETY: it lies within the copy, which nothing else looks at.
        unsafe { copy.address().add(at).write(byte) }
    }

    fn get(copy: &PrivateCopy, at: usize) -> u8 {
        assert!(at < copy.size());
        // SAFETY: as in `set`.
        unsafe { copy.address().add(at).read() }
    }

    fn read(memory: &Shared, at: usize) -> u8 {
        let mut bytes = Vec::new();
        memory.read(at, 1, &mut bytes);
        bytes[0]
    }

    #[test]
    fn what_is_written_to_a_copy_is_seen_in_no_other_and_not_in_the_memory() {
        for size in [3, 3 * 4096, LONGEST_COPIED_BYTES, LONGEST_COPIED_BYTES + 1] {
            let memory = Shared::new("test", size).unwrap();
            memory.write(0, &vec![7; size]);
            let (one, other) = (PrivateCopy::of(&memory, size - 1).unwrap(), PrivateCopy::of(&memory, size).unwrap());
            set(&one, size - 2, 8);
            set(&other, size - 1, 9);
            assert_eq!([size - 2, 0].map(|at| get(&one, at)), [8, 7]);
            assert_eq!([size - 2, size - 1, 0].map(|at| get(&other, at)), [7, 9, 7]);
            assert_eq!([size - 2, size - 1].map(|at| read(&memory, at)), [7, 7]);
            assert_eq!([&one, &other].map(|copy| copy.address() as usize % ALIGNMENT), [0, 0]);
        }
    }

    #[test]
    fn a_copy_outlives_the_memory_that_it_is_of() {
        for size in [4096, LONGEST_COPIED_BYTES + 1] {
            let memory = Shared::new("test", size).unwrap();
            memory.write(5, b"x");
            let copy = PrivateCopy::of(&memory, size).unwrap();
            drop(memory);
            assert_eq!(get(&copy, 5), b'x');
        }
    }

    #[test]
    #[should_panic(expected = "4097 bytes of 4096")]
    fn a_copy_of_more_than_there_is_is_refused() {
        let _ = PrivateCopy::of(&Shared::new("test", 4096).unwrap(), 4097);
    }
}
