//! BLAKE3's compression function for eight chunks or parents (specification, section 2.2), of whichever files.
//!
//! Columns and diagonals of the state are sixteen independent vectors here, so a diagonal needs no shuffling: it
//! is a choice of names. The message words are chosen by tables that are known when this is compiled.

use std::arch::x86_64::*;

use super::{
    Blake3Settings, MESSAGE_SCHEDULE, block_count, load_halves, load_states, load_words, rotate, store_states,
    transpose,
};
use crate::small_blake3::KEY;

#[target_feature(enable = "avx2")]
pub(super) fn compress(chaining_values: &mut [[u32; 8]; 8], inputs: &[&[u8]; 8], settings: &Blake3Settings<8>) {
    let blocks = block_count(inputs);
    assert!(blocks > 0, "every call compresses something");
    let mut state = load_states(chaining_values);
    let counters = [
        load_words(&settings.counters.map(|counter| counter as u32)),
        load_words(&settings.counters.map(|counter| (counter >> 32) as u32)),
    ];
    for index in 0..blocks {
        let first = if index == 0 { load_words(&settings.first_flags) } else { _mm256_setzero_si256() };
        let (last, lengths) = if index + 1 == blocks {
            (load_words(&settings.last_flags), load_words(&settings.last_lengths))
        } else {
            (_mm256_setzero_si256(), _mm256_set1_epi32(64))
        };
        let mut message = [_mm256_setzero_si256(); 16];
        message[..8].copy_from_slice(&transpose(load_halves(inputs, 2 * index)));
        message[8..].copy_from_slice(&transpose(load_halves(inputs, 2 * index + 1)));
        compress_block(&mut state, &message, [counters[0], counters[1], lengths, _mm256_or_si256(first, last)]);
    }
    store_states(chaining_values, &state);
}

#[inline]
#[target_feature(enable = "avx2")]
fn compress_block(state: &mut [__m256i; 8], message: &[__m256i; 16], parameters: [__m256i; 4]) {
    let mut v = [_mm256_setzero_si256(); 16];
    v[..8].copy_from_slice(state);
    for (word, key) in v[8..12].iter_mut().zip(KEY) {
        *word = _mm256_set1_epi32(key.cast_signed());
    }
    v[12..].copy_from_slice(&parameters);
    mix_four::<0, 0>(&mut v, message);
    mix_four::<0, 1>(&mut v, message);
    mix_four::<1, 0>(&mut v, message);
    mix_four::<1, 1>(&mut v, message);
    mix_four::<2, 0>(&mut v, message);
    mix_four::<2, 1>(&mut v, message);
    mix_four::<3, 0>(&mut v, message);
    mix_four::<3, 1>(&mut v, message);
    mix_four::<4, 0>(&mut v, message);
    mix_four::<4, 1>(&mut v, message);
    mix_four::<5, 0>(&mut v, message);
    mix_four::<5, 1>(&mut v, message);
    mix_four::<6, 0>(&mut v, message);
    mix_four::<6, 1>(&mut v, message);
    for (index, word) in state.iter_mut().enumerate() {
        *word = _mm256_xor_si256(v[index], v[index + 8]);
    }
}

/// The specification's `G` on the four columns (`TURN` 0) or diagonals (`TURN` 1), which do not depend on each other:
/// step by step, so that none has to wait for itself.
#[inline]
#[target_feature(enable = "avx2")]
fn mix_four<const ROUND: usize, const TURN: usize>(v: &mut [__m256i; 16], message: &[__m256i; 16]) {
    let [first, second] = const { MESSAGE_SCHEDULE[ROUND][TURN] };
    let b = |i: usize| 4 + (i + TURN) % 4;
    let c = |i: usize| 8 + (i + 2 * TURN) % 4;
    let d = |i: usize| 12 + (i + 3 * TURN) % 4;
    for i in 0..4 {
        v[i] = _mm256_add_epi32(_mm256_add_epi32(v[i], message[first[i]]), v[b(i)]);
    }
    for i in 0..4 {
        v[d(i)] = rotate_bytes::<2>(_mm256_xor_si256(v[d(i)], v[i]));
    }
    for i in 0..4 {
        v[c(i)] = _mm256_add_epi32(v[c(i)], v[d(i)]);
    }
    for i in 0..4 {
        v[b(i)] = rotate::<12, 20>(_mm256_xor_si256(v[b(i)], v[c(i)]));
    }
    for i in 0..4 {
        v[i] = _mm256_add_epi32(_mm256_add_epi32(v[i], message[second[i]]), v[b(i)]);
    }
    for i in 0..4 {
        v[d(i)] = rotate_bytes::<1>(_mm256_xor_si256(v[d(i)], v[i]));
    }
    for i in 0..4 {
        v[c(i)] = _mm256_add_epi32(v[c(i)], v[d(i)]);
    }
    for i in 0..4 {
        v[b(i)] = rotate::<7, 25>(_mm256_xor_si256(v[b(i)], v[c(i)]));
    }
}

/// Rotates every word to the right by whole bytes, which one shuffle does instead of three instructions.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate_bytes<const BYTES: usize>(words: __m256i) -> __m256i {
    let order = const {
        let mut order = [0; 32];
        let mut index = 0;
        while index < 32 {
            // A shuffle stays within 16 bytes, and so does a word.
            order[index] = (index % 16 / 4 * 4 + (index + BYTES) % 4) as u8;
            index += 1;
        }
        order
    };
    // SAFETY: `order` is an array of the 32 bytes that are read, and the load needs no alignment.
    _mm256_shuffle_epi8(words, unsafe { _mm256_loadu_si256(order.as_ptr().cast()) })
}
