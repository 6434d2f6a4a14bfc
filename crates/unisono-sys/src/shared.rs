//! Memory that two processes share: a sealed memfd (memfd_create(2)), mapped into both.
//!
//! It has no name, so nothing is left in /dev/shm however its users end. Its size is sealed, so that no peer can make
//! a read here fail with SIGBUS. What is in it is for its users to agree on: words are atomic, and a range of bytes
//! belongs to one side at a time, handed over by a word.
//!
//! Leaves out huge pages and growing: a larger mapping is another one.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

/// A mapping of a memfd, and its descriptor.
#[derive(Debug)]
pub struct Shared {
    descriptor: OwnedFd,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to no thread. It is reached only by atomic words and by raw copies of checked ranges.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// New memory of so many bytes, all zero, whose size never changes.
    ///
    /// # Errors
    /// `ENOMEM` and `EMFILE` of memfd_create(2), ftruncate(2) and mmap(2).
    pub fn new(name: &str, length: usize) -> io::Result<Self> {
        let descriptor = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&descriptor, length as u64)?;
        fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(descriptor, length)
    }

    /// Maps what another process has made.
    ///
    /// # Errors
    /// When it is not a sealed memfd, or there is no room for it.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        if !rustix::fs::fcntl_get_seals(&descriptor)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "shared memory that may shrink"));
        }
        let length = usize::try_from(fstat(&descriptor)?.st_size).unwrap_or(0);
        Self::map(descriptor, length)
    }

    fn map(descriptor: OwnedFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours; the result is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap(2) places nothing at zero unless told to");
        Ok(Self { descriptor, start, length })
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.length
    }

    /// Where it lies; good for as long as `self` lives.
    pub fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The word of 32 bits at a multiple of four.
    ///
    /// # Panics
    /// When it does not lie within.
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        assert_eq!(offset % 4, 0, "a word of 32 bits is aligned");
        // SAFETY: it lies within the mapping, which lives as long as `self`, and is aligned, since mappings begin at a
        // page. Any bits are a valid word, and every user of this range goes through atomics.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// The word of 64 bits at a multiple of eight.
    ///
    /// # Panics
    /// When it does not lie within.
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8);
        assert_eq!(offset % 8, 0, "a word of 64 bits is aligned");
        // SAFETY: as in `word32`.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// When they do not fit in there.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: the range lies within the mapping, and `bytes` is memory of ours, which no mapping overlaps.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) }
    }

    /// Appends a range of it to `bytes`.
    ///
    /// # Panics
    /// When there is no such range.
    pub fn read(&self, offset: usize, length: usize, bytes: &mut Vec<u8>) {
        self.check(offset, length);
        bytes.reserve(length);
        // SAFETY: the source lies within the mapping, room for it was just reserved behind what `bytes` holds, and the
        // length covers only what has been written.
        unsafe {
            let end = bytes.as_mut_ptr().add(bytes.len());
            std::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), end, length);
            bytes.set_len(bytes.len() + length);
        }
    }

    fn check(&self, offset: usize, length: usize) {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.length), "a range within {} bytes", self.length);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: it was mapped by us with this length, and nothing borrowed from `self` can live any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::Shared;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let ours = Shared::new("test", 4096).unwrap();
        let theirs = Shared::open(rustix::io::dup(&ours).unwrap()).unwrap();
        ours.write(100, b"hello");
        ours.word64(8).store(7, Ordering::Release);
        let mut read = Vec::new();
        theirs.read(100, 5, &mut read);
        assert_eq!((read.as_slice(), theirs.word64(8).load(Ordering::Acquire)), (&b"hello"[..], 7));
    }

    #[test]
    #[should_panic(expected = "a range within 4096 bytes")]
    fn a_range_beyond_the_end_is_refused() {
        Shared::new("test", 4096).unwrap().write(4090, b"too long");
    }

    #[test]
    fn memory_that_may_shrink_is_refused() {
        let open = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(Shared::open(open).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}
