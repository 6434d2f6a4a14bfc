//! The x86-64 kernels. Every raw load in them is of a slice whose length [`super::block_count`] has checked.

mod avx2;
mod avx512;
mod sha_ni;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use sha_ni::ShaNi;

use super::{BLOCK, Blake3Settings, CompressBlake3, CompressSha256, block_count};
