//! Memory of a model: the words are the model checker's, and so is the account of which side may touch a byte.
//!
//! A byte that one side writes while the other may be at it, without a word that hands it over, fails the model. The
//! values themselves lie beside that account, since looking through a cell of the checker's would be unsafe code.

use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
};

use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64},
};

/// Stands for `unisono_sys::shared::Shared`; both sides hold the same one.
#[derive(Debug)]
pub(crate) struct Memory {
    words32: Vec<AtomicU32>,
    words64: Vec<AtomicU64>,
    touched: Vec<UnsafeCell<()>>,
    bytes: Vec<AtomicU8>,
}

impl Memory {
    pub(crate) fn new(_name: &str, length: usize) -> io::Result<Self> {
        Ok(Self {
            words32: (0..length / 4).map(|_| AtomicU32::new(0)).collect(),
            words64: (0..length / 8).map(|_| AtomicU64::new(0)).collect(),
            touched: (0..length).map(|_| UnsafeCell::new(())).collect(),
            bytes: (0..length).map(|_| AtomicU8::new(0)).collect(),
        })
    }

    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        &self.words32[offset / 4]
    }

    pub(crate) fn word64(&self, offset: usize) -> &AtomicU64 {
        &self.words64[offset / 8]
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            self.touched[at].with_mut(|_| self.bytes[at].store(*byte, Ordering::Relaxed));
        }
    }

    pub(crate) fn read(&self, offset: usize, length: usize, bytes: &mut Vec<u8>) {
        for at in offset..offset + length {
            self.touched[at].with(|_| bytes.push(self.bytes[at].load(Ordering::Relaxed)));
        }
    }
}
