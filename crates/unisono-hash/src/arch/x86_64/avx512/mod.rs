//! Sixteen lanes: one 512-bit register holds the same word of sixteen streams.
//!
//! A lane is a stream, so the blocks are transposed on the way in: sixteen rows (a block of each stream) become
//! sixteen columns (a word of each stream). The same transposition turns states around, in and out.

#![allow(unsafe_code)]

mod blake3;
mod sha256;

use std::arch::x86_64::*;

use super::{
    BLOCK_BYTES, Blake3Settings, CompressBlake3, CompressSha256, MESSAGE_SCHEDULE, ROUND_CONSTANTS, block_count,
};

/// Proof that this processor, and the system on it, have AVX-512 F and BW.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, if this processor can give it.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")).then_some(Avx512(()))
    }
}

impl CompressSha256<16> for Avx512 {
    fn compress(self, states: &mut [[u32; 8]; 16], inputs: &[&[u8]; 16]) {
        // SAFETY: `self` exists, so the processor has the features the function asks for.
        unsafe { sha256::compress(states, inputs) }
    }
}

impl CompressBlake3<16> for Avx512 {
    fn compress(self, chaining_values: &mut [[u32; 8]; 16], inputs: &[&[u8]; 16], settings: &Blake3Settings<16>) {
        // SAFETY: `self` exists, so the processor has the features the function asks for.
        unsafe { blake3::compress(chaining_values, inputs, settings) }
    }
}

/// Block `index` of every lane, one row a lane.
///
/// # Panics
///
/// When a lane has no such block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_blocks(inputs: &[&[u8]; 16], index: usize) -> [__m512i; 16] {
    let mut rows = [_mm512_setzero_si512(); 16];
    for (row, input) in rows.iter_mut().zip(inputs) {
        let block = &input[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
        // SAFETY: `block` is 64 bytes long by its construction, and the load needs no alignment.
        *row = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    }
    rows
}

/// Sixteen words, one a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: sixteen words are the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Eight words of every lane, as eight columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_states(states: &[[u32; 8]; 16]) -> [__m512i; 8] {
    let mut rows = [_mm512_setzero_si512(); 16];
    for (row, state) in rows.iter_mut().zip(states) {
        // SAFETY: eight words are the 32 bytes that are read, and the load needs no alignment.
        let half = unsafe { _mm256_loadu_si256(state.as_ptr().cast()) };
        *row = _mm512_castsi256_si512(half);
    }
    let columns = transpose(rows);
    [columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], columns[6], columns[7]]
}

/// The opposite of [`load_states`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_states(states: &mut [[u32; 8]; 16], columns: &[__m512i; 8]) {
    let mut padded = [_mm512_setzero_si512(); 16];
    padded[..8].copy_from_slice(columns);
    for (state, row) in states.iter_mut().zip(transpose(padded)) {
        let half = _mm512_castsi512_si256(row);
        // SAFETY: eight words are the 32 bytes that are written, and the store needs no alignment.
        unsafe { _mm256_storeu_si256(state.as_mut_ptr().cast(), half) }
    }
}

/// Rows become columns: word `c` of row `r` goes to word `r` of row `c`.
///
/// Four words of four rows are exchanged by two rounds of unpacking inside the 128-bit quarters; then the quarters
/// themselves are exchanged as a 4 x 4 square.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    // `quads[4 * g + c]` holds, in its quarter `q`, word `4 * q + c` of the rows `4 * g ..= 4 * g + 3`.
    let mut quads = [zero; 16];
    for group in 0..4 {
        let [first, second, third, fourth] =
            [rows[4 * group], rows[4 * group + 1], rows[4 * group + 2], rows[4 * group + 3]];
        let low = (_mm512_unpacklo_epi32(first, second), _mm512_unpacklo_epi32(third, fourth));
        let high = (_mm512_unpackhi_epi32(first, second), _mm512_unpackhi_epi32(third, fourth));
        quads[4 * group] = _mm512_unpacklo_epi64(low.0, low.1);
        quads[4 * group + 1] = _mm512_unpackhi_epi64(low.0, low.1);
        quads[4 * group + 2] = _mm512_unpacklo_epi64(high.0, high.1);
        quads[4 * group + 3] = _mm512_unpackhi_epi64(high.0, high.1);
    }
    let mut columns = [zero; 16];
    for column in 0..4 {
        let [first, second, third, fourth] = [quads[column], quads[4 + column], quads[8 + column], quads[12 + column]];
        // 0x88 takes the even quarters of both, 0xdd the odd ones.
        let even = (_mm512_shuffle_i32x4::<0x88>(first, second), _mm512_shuffle_i32x4::<0x88>(third, fourth));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(first, second), _mm512_shuffle_i32x4::<0xdd>(third, fourth));
        columns[column] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
        columns[4 + column] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
        columns[8 + column] = _mm512_shuffle_i32x4::<0xdd>(even.0, even.1);
        columns[12 + column] = _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1);
    }
    columns
}
