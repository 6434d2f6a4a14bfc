//! SHA-256 of sixteen streams (FIPS 180-4, section 6.2.2), one round of all of them at a time.
//!
//! The working variables are passed around the ring instead of being moved along it, so a round is 22 instructions:
//! six rotations, four three-input logic operations, and additions. The schedule is extended inside the rounds that
//! use it, because its instructions fill the gaps that the chain from round to round leaves.

use std::arch::x86_64::*;

use super::{ROUND_CONSTANTS, block_count, load_blocks, load_states, store_states, transpose};

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress(states: &mut [[u32; 8]; 16], inputs: &[&[u8]; 16]) {
    let blocks = block_count(inputs);
    let mut state = load_states(states);
    for index in 0..blocks {
        compress_block(&mut state, load_blocks(inputs, index));
    }
    store_states(states, &state);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_block(state: &mut [__m512i; 8], rows: [__m512i; 16]) {
    // Words are big endian in the message.
    let swap = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    let mut rows = rows;
    for row in &mut rows {
        *row = _mm512_shuffle_epi8(*row, swap);
    }
    let mut schedule = transpose(rows);
    let mut working = *state;
    let (constants, _) = ROUND_CONSTANTS.as_chunks::<16>();
    sixteen_rounds::<false>(&mut working, &mut schedule, &constants[0]);
    for constants in &constants[1..] {
        sixteen_rounds::<true>(&mut working, &mut schedule, constants);
    }
    for (before, after) in state.iter_mut().zip(working) {
        *before = _mm512_add_epi32(*before, after);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sixteen_rounds<const EXTEND: bool>(working: &mut [__m512i; 8], schedule: &mut [__m512i; 16], constants: &[u32; 16]) {
    let [a, b, c, d, e, f, g, h] = working;
    round(a, b, c, d, e, f, g, h, word::<EXTEND, 0>(schedule), constants[0]);
    round(h, a, b, c, d, e, f, g, word::<EXTEND, 1>(schedule), constants[1]);
    round(g, h, a, b, c, d, e, f, word::<EXTEND, 2>(schedule), constants[2]);
    round(f, g, h, a, b, c, d, e, word::<EXTEND, 3>(schedule), constants[3]);
    round(e, f, g, h, a, b, c, d, word::<EXTEND, 4>(schedule), constants[4]);
    round(d, e, f, g, h, a, b, c, word::<EXTEND, 5>(schedule), constants[5]);
    round(c, d, e, f, g, h, a, b, word::<EXTEND, 6>(schedule), constants[6]);
    round(b, c, d, e, f, g, h, a, word::<EXTEND, 7>(schedule), constants[7]);
    round(a, b, c, d, e, f, g, h, word::<EXTEND, 8>(schedule), constants[8]);
    round(h, a, b, c, d, e, f, g, word::<EXTEND, 9>(schedule), constants[9]);
    round(g, h, a, b, c, d, e, f, word::<EXTEND, 10>(schedule), constants[10]);
    round(f, g, h, a, b, c, d, e, word::<EXTEND, 11>(schedule), constants[11]);
    round(e, f, g, h, a, b, c, d, word::<EXTEND, 12>(schedule), constants[12]);
    round(d, e, f, g, h, a, b, c, word::<EXTEND, 13>(schedule), constants[13]);
    round(c, d, e, f, g, h, a, b, word::<EXTEND, 14>(schedule), constants[14]);
    round(b, c, d, e, f, g, h, a, word::<EXTEND, 15>(schedule), constants[15]);
}

/// One round: `h` becomes the next `a`, and `d` the next `e`; all others only change their names.
#[expect(clippy::too_many_arguments, reason = "the names of FIPS 180-4")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn round(
    a: &__m512i,
    b: &__m512i,
    c: &__m512i,
    d: &mut __m512i,
    e: &__m512i,
    f: &__m512i,
    g: &__m512i,
    h: &mut __m512i,
    word: __m512i,
    constant: u32,
) {
    let sum_e = xor3(_mm512_ror_epi32::<6>(*e), _mm512_ror_epi32::<11>(*e), _mm512_ror_epi32::<25>(*e));
    let choice = _mm512_ternarylogic_epi32::<CHOICE>(*e, *f, *g);
    // What does not depend on the round before is added first.
    let fixed = _mm512_add_epi32(*h, _mm512_add_epi32(word, _mm512_set1_epi32(constant.cast_signed())));
    let first = _mm512_add_epi32(_mm512_add_epi32(fixed, choice), sum_e);
    let sum_a = xor3(_mm512_ror_epi32::<2>(*a), _mm512_ror_epi32::<13>(*a), _mm512_ror_epi32::<22>(*a));
    let majority = _mm512_ternarylogic_epi32::<MAJORITY>(*a, *b, *c);
    *d = _mm512_add_epi32(*d, first);
    *h = _mm512_add_epi32(first, _mm512_add_epi32(sum_a, majority));
}

/// The word of the schedule that round `INDEX` of these sixteen needs, computed from the sixteen before it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn word<const EXTEND: bool, const INDEX: usize>(schedule: &mut [__m512i; 16]) -> __m512i {
    if EXTEND {
        let near = schedule[(INDEX + 14) % 16];
        let far = schedule[(INDEX + 1) % 16];
        let sigma_near =
            xor3(_mm512_ror_epi32::<17>(near), _mm512_ror_epi32::<19>(near), _mm512_srli_epi32::<10>(near));
        let sigma_far = xor3(_mm512_ror_epi32::<7>(far), _mm512_ror_epi32::<18>(far), _mm512_srli_epi32::<3>(far));
        schedule[INDEX] = _mm512_add_epi32(
            _mm512_add_epi32(schedule[INDEX], sigma_far),
            _mm512_add_epi32(schedule[(INDEX + 9) % 16], sigma_near),
        );
    }
    schedule[INDEX]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor3(first: __m512i, second: __m512i, third: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<XOR>(first, second, third)
}

/// Truth tables for `vpternlogd`: bit `4 x + 2 y + z` is the result for the input bits x, y and z.
const XOR: i32 = 0x96;
/// `x ? y : z`.
const CHOICE: i32 = 0xca;
/// At least two of three.
const MAJORITY: i32 = 0xe8;
