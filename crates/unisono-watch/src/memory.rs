//! Reading memory that another thread changes and frees meanwhile, without ever faulting.
//!
//! What is read may be torn or may be something else by now. Whoever reads checks what it got.

use unisono_sys::own_memory;

/// Where addresses of an interpreter can be read.
pub trait Memory {
    /// Fills `into` from `address`. Returns whether all of it was there.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;

    /// A word, or `None` where nothing is mapped.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_ne_bytes(bytes))
    }

    /// A signed number of four bytes, or `None` where nothing is mapped.
    fn int(&self, address: u64) -> Option<i32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| i32::from_ne_bytes(bytes))
    }
}

/// The memory of this process.
#[derive(Debug, Clone, Copy)]
pub struct OwnMemory;

impl Memory for OwnMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        own_memory::read(address, into)
    }
}
