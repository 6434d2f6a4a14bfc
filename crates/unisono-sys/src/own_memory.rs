//! This process's own memory, read by the kernel: what is not mapped is an error and not a fault.
//!
//! process_vm_readv(2) on oneself needs no rights and is not interrupted by signals. What other threads write meanwhile
//! is read torn.
#![allow(unsafe_code)]

/// Fills `into` with what lies at `address`. Returns whether all of it could be read.
pub fn read(address: u64, into: &mut [u8]) -> bool {
    let Ok(start) = usize::try_from(address) else { return false };
    let length = into.len();
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: length };
    // SAFETY: the kernel writes no more than `length` bytes to `into`, which is borrowed mutably and so long. `remote`
    // is an address that the kernel checks page by page; it is only read.
    let done = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(done) == Ok(length)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_refused() {
        let there = *b"here it is";
        let mut into = [0; 10];
        assert!(read(there.as_ptr().addr() as u64, &mut into));
        assert_eq!(into, there);
        assert!(!read(0, &mut into));
        assert!(!read(u64::MAX - 4, &mut into));
    }
}
