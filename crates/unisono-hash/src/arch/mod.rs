//! What a processor can do, as values: a token exists only where its instructions do.
//!
//! Each architecture is one file or folder that provides three types, [`Avx512`], [`Avx2`] and [`ShaNi`]:
//!
//! - `detect() -> Option<Self>`, the only way to get one. The holder of a token may run its instructions, so the
//!   methods of a token are safe to call, and each argues that once, where it enters the instructions.
//! - SHA-256: [`CompressSha256`] for 16 lanes (`Avx512`), 8 (`Avx2`), and 1, 2 and 4 streams (`ShaNi`).
//! - BLAKE3: [`CompressBlake3`] for 16 lanes (`Avx512`) and 8 (`Avx2`).
//!
//! Where an architecture has none of them, the types have no values and nothing else needs to know.

#[cfg(not(target_arch = "x86_64"))]
#[path = "other.rs"]
mod current;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64/mod.rs"]
mod current;

pub(crate) use current::{Avx2, Avx512, ShaNi};

/// Bytes in one block of SHA-256 (FIPS 180-4, section 5.2.1) and of BLAKE3 (specification, section 2.1).
pub(crate) const BLOCK_BYTES: usize = 64;

/// SHA-256 of `N` independent streams in step.
pub(crate) trait CompressSha256<const N: usize>: Copy {
    /// Runs every lane's blocks through its state.
    ///
    /// # Panics
    ///
    /// When the inputs are not all the same whole number of blocks.
    fn compress(self, states: &mut [[u32; 8]; N], inputs: &[&[u8]; N]);
}

/// BLAKE3's compression function of `N` independent chunks or parents in step.
pub(crate) trait CompressBlake3<const N: usize>: Copy {
    /// Runs every lane's blocks through its chaining value.
    ///
    /// # Panics
    ///
    /// When the inputs are not all the same whole number of blocks, and at least one.
    fn compress(self, chaining_values: &mut [[u32; 8]; N], inputs: &[&[u8]; N], settings: &Blake3Settings<N>);
}

/// What BLAKE3 mixes into a block besides its bytes (specification, section 2.2), for each lane of one call.
///
/// Flags are for the first and the last block of the call; those between have none. If there is only one block,
/// it has both.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only our kernels read it"))]
pub(crate) struct Blake3Settings<const N: usize> {
    /// The chunk's number in its file; 0 for parents.
    pub(crate) counters: [u64; N],
    /// Flags of the call's first block.
    pub(crate) first_flags: [u32; N],
    /// Flags of the call's last block.
    pub(crate) last_flags: [u32; N],
    /// How many bytes of the last block are data; those before it are full.
    pub(crate) last_lengths: [u32; N],
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// That a kernel refuses inputs over which it would otherwise read too far.
    fn refuses_uneven_inputs<const N: usize>(kernel: impl CompressSha256<N>) {
        let data = [0; 2 * BLOCK_BYTES];
        let mut shorter_last = [&data[..]; N];
        shorter_last[N - 1] = &data[..BLOCK_BYTES];
        for inputs in [shorter_last, [&data[..BLOCK_BYTES + 1]; N]] {
            // A lane alone has no other to differ from.
            if inputs[0].len() % BLOCK_BYTES != 0 || N > 1 {
                let run = AssertUnwindSafe(|| kernel.compress(&mut [[0; 8]; N], &inputs));
                assert!(catch_unwind(run).is_err());
            }
        }
    }

    #[test]
    fn lanes_that_are_not_equally_long_in_whole_blocks_are_refused() {
        Avx512::detect().into_iter().for_each(refuses_uneven_inputs::<16>);
        Avx2::detect().into_iter().for_each(refuses_uneven_inputs::<8>);
        ShaNi::detect().into_iter().for_each(refuses_uneven_inputs::<4>);
        ShaNi::detect().into_iter().for_each(refuses_uneven_inputs::<1>);
    }
}
