//! Architectures without kernels of ours: the tokens have no values.
//!
//! The `sha2` and `blake3` crates use what these processors have (such as the SHA-2 instructions of ARMv8).

use super::{Blake3Settings, CompressBlake3, CompressSha256};

/// Never exists here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Avx512 {}

/// Never exists here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Avx2 {}

/// Never exists here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ShaNi {}

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        None
    }
}

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        None
    }
}

impl ShaNi {
    pub(crate) fn detect() -> Option<Self> {
        None
    }
}

impl CompressSha256<16> for Avx512 {
    fn compress(self, _: &mut [[u32; 8]; 16], _: &[&[u8]; 16]) {
        match self {}
    }
}

impl CompressSha256<8> for Avx2 {
    fn compress(self, _: &mut [[u32; 8]; 8], _: &[&[u8]; 8]) {
        match self {}
    }
}

impl<const N: usize> CompressSha256<N> for ShaNi {
    fn compress(self, _: &mut [[u32; 8]; N], _: &[&[u8]; N]) {
        match self {}
    }
}

impl CompressBlake3<16> for Avx512 {
    fn compress(self, _: &mut [[u32; 8]; 16], _: &[&[u8]; 16], _: &Blake3Settings<16>) {
        match self {}
    }
}

impl CompressBlake3<8> for Avx2 {
    fn compress(self, _: &mut [[u32; 8]; 8], _: &[&[u8]; 8], _: &Blake3Settings<8>) {
        match self {}
    }
}
