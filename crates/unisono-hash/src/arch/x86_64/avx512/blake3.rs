//! BLAKE3's compression function for sixteen chunks or parents (specification, section 2.2), of whichever files.
//!
//! Columns and diagonals of the state are sixteen independent registers here, so a diagonal needs no shuffling: it
//! is a choice of names. The message words are chosen by tables that are known when this is compiled.

use std::arch::x86_64::*;

use super::{
    Blake3Settings, MESSAGE_SCHEDULE, block_count, load_blocks, load_states, load_words, store_states, transpose,
};
use crate::small_blake3::KEY;

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress(chaining_values: &mut [[u32; 8]; 16], inputs: &[&[u8]; 16], settings: &Blake3Settings<16>) {
    let blocks = block_count(inputs);
    assert!(blocks > 0, "every call compresses something");
    let mut state = load_states(chaining_values);
    let counters = [
        load_words(&settings.counters.map(|counter| counter as u32)),
        load_words(&settings.counters.map(|counter| (counter >> 32) as u32)),
    ];
    for index in 0..blocks {
        let first = if index == 0 { load_words(&settings.first_flags) } else { _mm512_setzero_si512() };
        let (last, lengths) = if index + 1 == blocks {
            (load_words(&settings.last_flags), load_words(&settings.last_lengths))
        } else {
            (_mm512_setzero_si512(), _mm512_set1_epi32(64))
        };
        let message = transpose(load_blocks(inputs, index));
        compress_block(&mut state, &message, [counters[0], counters[1], lengths, _mm512_or_si512(first, last)]);
    }
    store_states(chaining_values, &state);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_block(state: &mut [__m512i; 8], message: &[__m512i; 16], parameters: [__m512i; 4]) {
    let mut v = [_mm512_setzero_si512(); 16];
    v[..8].copy_from_slice(state);
    for (word, key) in v[8..12].iter_mut().zip(KEY) {
        *word = _mm512_set1_epi32(key.cast_signed());
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
        *word = _mm512_xor_si512(v[index], v[index + 8]);
    }
}

/// The specification's `G` on the four columns (`TURN` 0) or diagonals (`TURN` 1), which do not depend on each other:
/// step by step, so that none has to wait for itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn mix_four<const ROUND: usize, const TURN: usize>(v: &mut [__m512i; 16], message: &[__m512i; 16]) {
    let [first, second] = const { MESSAGE_SCHEDULE[ROUND][TURN] };
    let b = |i: usize| 4 + (i + TURN) % 4;
    let c = |i: usize| 8 + (i + 2 * TURN) % 4;
    let d = |i: usize| 12 + (i + 3 * TURN) % 4;
    for i in 0..4 {
        v[i] = _mm512_add_epi32(_mm512_add_epi32(v[i], message[first[i]]), v[b(i)]);
    }
    for i in 0..4 {
        v[d(i)] = _mm512_ror_epi32::<16>(_mm512_xor_si512(v[d(i)], v[i]));
    }
    for i in 0..4 {
        v[c(i)] = _mm512_add_epi32(v[c(i)], v[d(i)]);
    }
    for i in 0..4 {
        v[b(i)] = _mm512_ror_epi32::<12>(_mm512_xor_si512(v[b(i)], v[c(i)]));
    }
    for i in 0..4 {
        v[i] = _mm512_add_epi32(_mm512_add_epi32(v[i], message[second[i]]), v[b(i)]);
    }
    for i in 0..4 {
        v[d(i)] = _mm512_ror_epi32::<8>(_mm512_xor_si512(v[d(i)], v[i]));
    }
    for i in 0..4 {
        v[c(i)] = _mm512_add_epi32(v[c(i)], v[d(i)]);
    }
    for i in 0..4 {
        v[b(i)] = _mm512_ror_epi32::<7>(_mm512_xor_si512(v[b(i)], v[c(i)]));
    }
}
