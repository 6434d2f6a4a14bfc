//! The x86-64 kernels, and the tables that they share.
//!
//! Vectors pass through plain loops and through functions with the same features, never through closures, adapters or
//! `array::map`: those are compiled without the features, and unless everything is inlined after all (it is with LTO)
//! each vector goes through memory and each instruction becomes a call.

mod avx2;
mod avx512;
mod sha_ni;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use sha_ni::ShaNi;

use super::{BLOCK_BYTES, Blake3Settings, CompressBlake3, CompressSha256};

/// How many blocks each of the inputs has; what every kernel checks before its raw loads.
///
/// # Panics
///
/// When the inputs differ in length or end inside a block.
fn block_count<const N: usize>(inputs: &[&[u8]; N]) -> usize {
    let length = inputs[0].len();
    assert!(length.is_multiple_of(BLOCK_BYTES), "lanes are fed whole blocks");
    assert!(inputs.iter().all(|input| input.len() == length), "lanes run in step");
    length / BLOCK_BYTES
}

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, section 4.2.2).
#[rustfmt::skip]
const ROUND_CONSTANTS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Which words of the message each round takes: the permutation of section 2.2, applied once more in each round. For
/// the columns and for the diagonals, these are the first words of the four, and the second ones.
const MESSAGE_SCHEDULE: [[[[usize; 4]; 2]; 2]; 7] = {
    let permutation = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut schedule = [[[[0; 4]; 2]; 2]; 7];
    let mut round = 0;
    while round < 7 {
        let before = order;
        let mut place = 0;
        while place < 16 {
            schedule[round][place / 8][place % 2][place % 8 / 2] = before[place];
            order[place] = before[permutation[place]];
            place += 1;
        }
        round += 1;
    }
    schedule
};
