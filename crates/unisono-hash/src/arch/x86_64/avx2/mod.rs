//! Eight lanes: one 256-bit register holds the same word of eight streams.
//!
//! The plan is that of the sixteen lanes of AVX-512; a block of each stream is transposed in two halves. There are
//! no rotations and no three-input logic here, and only sixteen registers.

#![allow(unsafe_code)]

mod blake3;
mod sha256;

use std::arch::x86_64::*;

use super::{
    BLOCK_BYTES, Blake3Settings, CompressBlake3, CompressSha256, MESSAGE_SCHEDULE, ROUND_CONSTANTS, block_count,
};

/// Proof that this processor, and the system on it, have AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, if this processor can give it.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }
}

impl CompressSha256<8> for Avx2 {
    fn compress(self, states: &mut [[u32; 8]; 8], inputs: &[&[u8]; 8]) {
        // SAFETY: `self` exists, so the processor has the feature the function asks for.
        unsafe { sha256::compress(states, inputs) }
    }
}

impl CompressBlake3<8> for Avx2 {
    fn compress(self, chaining_values: &mut [[u32; 8]; 8], inputs: &[&[u8]; 8], settings: &Blake3Settings<8>) {
        // SAFETY: `self` exists, so the processor has the feature the function asks for.
        unsafe { blake3::compress(chaining_values, inputs, settings) }
    }
}

/// Half a block of every lane, one row a lane. Halves are numbered from the start of the input.
///
/// # Panics
///
/// When a lane has no such half.
#[inline]
#[target_feature(enable = "avx2")]
fn load_halves(inputs: &[&[u8]; 8], index: usize) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); 8];
    for (row, input) in rows.iter_mut().zip(inputs) {
        let half = &input[index * (BLOCK_BYTES / 2)..(index + 1) * (BLOCK_BYTES / 2)];
        // SAFETY: `half` is 32 bytes long by its construction, and the load needs no alignment.
        *row = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    }
    rows
}

/// Eight words, one a lane.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32; 8]) -> __m256i {
    // SAFETY: eight words are the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Eight words of every lane, as eight columns.
#[inline]
#[target_feature(enable = "avx2")]
fn load_states(states: &[[u32; 8]; 8]) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); 8];
    for (row, state) in rows.iter_mut().zip(states) {
        *row = load_words(state);
    }
    transpose(rows)
}

/// The opposite of [`load_states`].
#[inline]
#[target_feature(enable = "avx2")]
fn store_states(states: &mut [[u32; 8]; 8], columns: &[__m256i; 8]) {
    for (state, row) in states.iter_mut().zip(transpose(*columns)) {
        // SAFETY: eight words are the 32 bytes that are written, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(state.as_mut_ptr().cast(), row) }
    }
}

/// Rows become columns: word `c` of row `r` goes to word `r` of row `c`.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    // `quads[4 * g + c]` holds, in its half `q`, word `4 * q + c` of the rows `4 * g ..= 4 * g + 3`.
    let mut quads = [_mm256_setzero_si256(); 8];
    for group in 0..2 {
        let [first, second, third, fourth] =
            [rows[4 * group], rows[4 * group + 1], rows[4 * group + 2], rows[4 * group + 3]];
        let low = (_mm256_unpacklo_epi32(first, second), _mm256_unpacklo_epi32(third, fourth));
        let high = (_mm256_unpackhi_epi32(first, second), _mm256_unpackhi_epi32(third, fourth));
        quads[4 * group] = _mm256_unpacklo_epi64(low.0, low.1);
        quads[4 * group + 1] = _mm256_unpackhi_epi64(low.0, low.1);
        quads[4 * group + 2] = _mm256_unpacklo_epi64(high.0, high.1);
        quads[4 * group + 3] = _mm256_unpackhi_epi64(high.0, high.1);
    }
    let mut columns = [_mm256_setzero_si256(); 8];
    for column in 0..4 {
        // 0x20 takes the lower halves of both, 0x31 the upper ones.
        columns[column] = _mm256_permute2x128_si256::<0x20>(quads[column], quads[4 + column]);
        columns[4 + column] = _mm256_permute2x128_si256::<0x31>(quads[column], quads[4 + column]);
    }
    columns
}

/// Rotates every word to the right by `RIGHT` bits; `LEFT` is 32 - `RIGHT`, which a constant cannot compute here.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const RIGHT: i32, const LEFT: i32>(words: __m256i) -> __m256i {
    const { assert!(RIGHT + LEFT == 32) };
    _mm256_or_si256(_mm256_srli_epi32::<RIGHT>(words), _mm256_slli_epi32::<LEFT>(words))
}
