//! SHA-256 with the processor's own instructions, for a few streams at once.
//!
//! `sha256rnds2` takes long to give its result but can be started much more often, and one stream needs each result
//! for the next: it leaves the unit idle most of the time. Streams that take turns fill it: four are about twice as
//! fast as one. Beyond four, their states no longer fit into sixteen registers.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BLOCK_BYTES, CompressSha256, ROUND_CONSTANTS, block_count};

/// Proof that this processor has the SHA extensions, and the shuffles that feed them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShaNi(());

impl ShaNi {
    /// The proof, if this processor can give it.
    pub(crate) fn detect() -> Option<Self> {
        // AVX is asked for so that the compiler need not copy registers: its instructions have a separate result.
        (is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("avx"))
        .then_some(ShaNi(()))
    }
}

impl<const N: usize> CompressSha256<N> for ShaNi {
    fn compress(self, states: &mut [[u32; 8]; N], inputs: &[&[u8]; N]) {
        // SAFETY: `self` exists, so the processor has the features the function asks for.
        unsafe { compress(states, inputs) }
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn compress<const N: usize>(states: &mut [[u32; 8]; N], inputs: &[&[u8]; N]) {
    let blocks = block_count(inputs);
    let mut streams = [Stream { abef: _mm_setzero_si128(), cdgh: _mm_setzero_si128() }; N];
    for (stream, state) in streams.iter_mut().zip(&*states) {
        *stream = load(state);
    }
    for index in 0..blocks {
        compress_block(&mut streams, inputs, index);
    }
    for (state, stream) in states.iter_mut().zip(streams) {
        store(state, stream);
    }
}

/// A state in the order that `sha256rnds2` wants it.
#[derive(Clone, Copy)]
struct Stream {
    abef: __m128i,
    cdgh: __m128i,
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn compress_block<const N: usize>(streams: &mut [Stream; N], inputs: &[&[u8]; N], index: usize) {
    // Words are big endian in the message.
    let swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    let before = *streams;
    let mut schedules = [[_mm_setzero_si128(); 4]; N];
    for (schedule, input) in schedules.iter_mut().zip(inputs) {
        let block = &input[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
        for (words, bytes) in schedule.iter_mut().zip(block.as_chunks::<16>().0) {
            // SAFETY: `bytes` is an array of the 16 bytes that are read, and the load needs no alignment.
            *words = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, swap);
        }
    }
    let (constants, _) = ROUND_CONSTANTS.as_chunks::<4>();
    if N <= STREAMS_IN_REGISTERS {
        let (constants, _) = constants.as_chunks::<4>();
        sixteen_rounds::<false, N>(streams, &mut schedules, &constants[0]);
        for constants in &constants[1..] {
            sixteen_rounds::<true, N>(streams, &mut schedules, constants);
        }
    } else {
        for (step, constants) in constants.iter().enumerate() {
            if step < 4 {
                four_rounds::<false, N>(streams, &mut schedules, step, constants);
            } else {
                four_rounds::<true, N>(streams, &mut schedules, step % 4, constants);
            }
        }
    }
    for (stream, before) in streams.iter_mut().zip(before) {
        stream.abef = _mm_add_epi32(stream.abef, before.abef);
        stream.cdgh = _mm_add_epi32(stream.cdgh, before.cdgh);
    }
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn sixteen_rounds<const EXTEND: bool, const N: usize>(
    streams: &mut [Stream; N],
    schedules: &mut [[__m128i; 4]; N],
    constants: &[[u32; 4]; 4],
) {
    four_rounds::<EXTEND, N>(streams, schedules, 0, &constants[0]);
    four_rounds::<EXTEND, N>(streams, schedules, 1, &constants[1]);
    four_rounds::<EXTEND, N>(streams, schedules, 2, &constants[2]);
    four_rounds::<EXTEND, N>(streams, schedules, 3, &constants[3]);
}

/// Four rounds of each stream in turn; `place` is where the schedule has their words. If it is known when this is
/// compiled, the schedules are in registers, else in memory.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn four_rounds<const EXTEND: bool, const N: usize>(
    streams: &mut [Stream; N],
    schedules: &mut [[__m128i; 4]; N],
    place: usize,
    constants: &[u32; 4],
) {
    // SAFETY: `constants` is an array of the 16 bytes that are read, and the load needs no alignment.
    let constants = unsafe { _mm_loadu_si128(constants.as_ptr().cast()) };
    for (stream, schedule) in streams.iter_mut().zip(schedules) {
        if EXTEND {
            extend(schedule, place);
        }
        let words = _mm_add_epi32(schedule[place], constants);
        stream.cdgh = _mm_sha256rnds2_epu32(stream.cdgh, stream.abef, words);
        // The instruction takes its two words from the lower half.
        stream.abef = _mm_sha256rnds2_epu32(stream.abef, stream.cdgh, _mm_shuffle_epi32::<0b1110>(words));
    }
}

/// Replaces the oldest four words of the schedule by the next four.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn extend(schedule: &mut [__m128i; 4], place: usize) {
    let [oldest, second, third, newest] =
        [schedule[place], schedule[(place + 1) % 4], schedule[(place + 2) % 4], schedule[(place + 3) % 4]];
    let partial = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, second), _mm_alignr_epi8::<4>(newest, third));
    schedule[place] = _mm_sha256msg2_epu32(partial, newest);
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn load(state: &[u32; 8]) -> Stream {
    let (quads, _) = state.as_chunks::<4>();
    // SAFETY: each of `quads` is an array of the 16 bytes that are read, and the loads need no alignment.
    let (dcba, hgfe) =
        unsafe { (_mm_loadu_si128(quads[0].as_ptr().cast()), _mm_loadu_si128(quads[1].as_ptr().cast())) };
    let cdab = _mm_shuffle_epi32::<0xb1>(dcba);
    let efgh = _mm_shuffle_epi32::<0x1b>(hgfe);
    Stream { abef: _mm_alignr_epi8::<8>(cdab, efgh), cdgh: _mm_blend_epi16::<0xf0>(efgh, cdab) }
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3,avx")]
fn store(state: &mut [u32; 8], stream: Stream) {
    let feba = _mm_shuffle_epi32::<0x1b>(stream.abef);
    let dchg = _mm_shuffle_epi32::<0xb1>(stream.cdgh);
    let (quads, _) = state.as_chunks_mut::<4>();
    // SAFETY: each of `quads` is an array of the 16 bytes that are written, and the stores need no alignment.
    unsafe {
        _mm_storeu_si128(quads[0].as_mut_ptr().cast(), _mm_blend_epi16::<0xf0>(feba, dchg));
        _mm_storeu_si128(quads[1].as_mut_ptr().cast(), _mm_alignr_epi8::<8>(dchg, feba));
    }
}

/// How many streams have room for their schedules in the sixteen registers. For four streams, the compiler moves
/// words out of registers and back without end if it may; schedules in memory, each word read when it is needed,
/// gave 3.4 GB/s where the unrolled rounds gave 2.6 (Zen 5); for two it was 2.3 to 2.6.
const STREAMS_IN_REGISTERS: usize = 2;
