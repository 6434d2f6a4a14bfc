//! SHA-256 of eight streams (FIPS 180-4, section 6.2.2), one round of all of them at a time.
//!
//! The plan is that of the sixteen lanes: the working variables are passed around the ring instead of being moved
//! along it, and the schedule is extended inside the rounds that use it.

use std::arch::x86_64::*;

use super::{ROUND_CONSTANTS, block_count, load_halves, load_states, rotate, store_states, transpose};

#[target_feature(enable = "avx2")]
pub(super) fn compress(states: &mut [[u32; 8]; 8], inputs: &[&[u8]; 8]) {
    let blocks = block_count(inputs);
    let mut state = load_states(states);
    for index in 0..blocks {
        compress_block(&mut state, load_halves(inputs, 2 * index), load_halves(inputs, 2 * index + 1));
    }
    store_states(states, &state);
}

#[inline]
#[target_feature(enable = "avx2")]
fn compress_block(state: &mut [__m256i; 8], lower: [__m256i; 8], upper: [__m256i; 8]) {
    // Words are big endian in the message.
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    let mut schedule = [_mm256_setzero_si256(); 16];
    schedule[..8].copy_from_slice(&transpose(lower));
    schedule[8..].copy_from_slice(&transpose(upper));
    for words in &mut schedule {
        *words = _mm256_shuffle_epi8(*words, swap);
    }
    let mut working = *state;
    let (constants, _) = ROUND_CONSTANTS.as_chunks::<16>();
    sixteen_rounds::<false>(&mut working, &mut schedule, &constants[0]);
    for constants in &constants[1..] {
        sixteen_rounds::<true>(&mut working, &mut schedule, constants);
    }
    for (before, after) in state.iter_mut().zip(working) {
        *before = _mm256_add_epi32(*before, after);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sixteen_rounds<const EXTEND: bool>(working: &mut [__m256i; 8], schedule: &mut [__m256i; 16], constants: &[u32; 16]) {
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
#[target_feature(enable = "avx2")]
fn round(
    a: &__m256i,
    b: &__m256i,
    c: &__m256i,
    d: &mut __m256i,
    e: &__m256i,
    f: &__m256i,
    g: &__m256i,
    h: &mut __m256i,
    word: __m256i,
    constant: u32,
) {
    let sum_e = xor3(rotate::<6, 26>(*e), rotate::<11, 21>(*e), rotate::<25, 7>(*e));
    let choice = _mm256_xor_si256(*g, _mm256_and_si256(*e, _mm256_xor_si256(*f, *g)));
    // What does not depend on the round before is added first.
    let fixed = _mm256_add_epi32(*h, _mm256_add_epi32(word, _mm256_set1_epi32(constant.cast_signed())));
    let first = _mm256_add_epi32(_mm256_add_epi32(fixed, choice), sum_e);
    let sum_a = xor3(rotate::<2, 30>(*a), rotate::<13, 19>(*a), rotate::<22, 10>(*a));
    let majority = _mm256_or_si256(_mm256_and_si256(*a, *b), _mm256_and_si256(*c, _mm256_or_si256(*a, *b)));
    *d = _mm256_add_epi32(*d, first);
    *h = _mm256_add_epi32(first, _mm256_add_epi32(sum_a, majority));
}

/// The word of the schedule that round `INDEX` of these sixteen needs, computed from the sixteen before it.
#[inline]
#[target_feature(enable = "avx2")]
fn word<const EXTEND: bool, const INDEX: usize>(schedule: &mut [__m256i; 16]) -> __m256i {
    if EXTEND {
        let near = schedule[(INDEX + 14) % 16];
        let far = schedule[(INDEX + 1) % 16];
        let sigma_near = xor3(rotate::<17, 15>(near), rotate::<19, 13>(near), _mm256_srli_epi32::<10>(near));
        let sigma_far = xor3(rotate::<7, 25>(far), rotate::<18, 14>(far), _mm256_srli_epi32::<3>(far));
        schedule[INDEX] = _mm256_add_epi32(
            _mm256_add_epi32(schedule[INDEX], sigma_far),
            _mm256_add_epi32(schedule[(INDEX + 9) % 16], sigma_near),
        );
    }
    schedule[INDEX]
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(first: __m256i, second: __m256i, third: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(first, second), third)
}
