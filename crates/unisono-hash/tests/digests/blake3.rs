//! BLAKE3 against the `blake3` crate: trees of every shape, in company of any other.

use proptest::prelude::*;
use unisono_hash::{Algorithm, Digest, Kernel, Lanes};

use crate::{bytes, digests, digests_of_files, each_kernel, split};

/// Around blocks, chunks, small trees that are not balanced, and beyond what counts as a small file.
const LENGTHS: [usize; 31] = [
    0,
    1,
    63,
    64,
    65,
    127,
    128,
    129,
    1023,
    1024,
    1025,
    1087,
    2047,
    2048,
    2049,
    3072,
    3073,
    4095,
    4096,
    4097,
    5120,
    6144,
    7168,
    8192,
    8193,
    15 * 1024,
    16 * 1024,
    16 * 1024 + 1,
    17 * 1024,
    64 * 1024 + 1,
    1024 * 1024,
];

fn assert_all(kernel: Kernel, files: &[&[u8]], digests: &[Digest]) {
    assert_eq!(files.len(), digests.len());
    for (file, digest) in files.iter().zip(digests) {
        assert_eq!(digest.as_bytes(), blake3::hash(file).as_bytes(), "{kernel}, a file of {} bytes", file.len());
    }
}

#[test]
fn every_edge_comes_out_in_company() {
    let data = bytes(1024 * 1024);
    let files = LENGTHS.map(|length| &data[data.len() - length..]);
    each_kernel(|lanes| assert_all(lanes.kernel(), &files, &digests_of_files(lanes, Algorithm::Blake3, &files)));
}

#[test]
fn every_edge_comes_out_alone_and_sixteen_times() {
    let data = bytes(1024 * 1024);
    each_kernel(|lanes| {
        for length in LENGTHS {
            for copies in [1, 16] {
                let files = vec![&data[..length]; copies];
                assert_all(lanes.kernel(), &files, &digests_of_files(lanes, Algorithm::Blake3, &files));
            }
        }
    });
}

#[test]
fn a_file_in_two_pieces_is_the_same_as_in_one() {
    let data = bytes(20_000);
    each_kernel(|lanes| {
        let streams: Vec<Vec<&[u8]>> = (0..=20_000).step_by(512).map(|cut| split(&data, &[cut])).collect();
        let expected = blake3::hash(&data);
        assert!(
            digests(lanes, Algorithm::Blake3, &streams).iter().all(|digest| digest.as_bytes() == expected.as_bytes())
        );
    });
}

#[test]
fn a_stream_that_was_reset_is_a_small_file_again() {
    let data = bytes(4096);
    let mut lanes = Lanes::new(Kernel::best());
    let mut hasher = unisono_hash::Hasher::new(Algorithm::Blake3);
    for last in [false, true] {
        lanes.update(&mut [unisono_hash::Piece { hasher: &mut hasher, data: &data, last }]);
        if !last {
            hasher.reset();
        }
    }
    assert_eq!(hasher.digest().expect("it has ended").as_bytes(), blake3::hash(&data).as_bytes());
}

proptest! {
    #[test]
    fn any_mix_of_files_in_any_pieces_comes_out(
        files in proptest::collection::vec(
            (prop_oneof![6 => 0..2_500_usize, 3 => 0..20_000_usize, 1 => 60_000..70_000_usize], proptest::collection::vec(any::<usize>(), 0..2)),
            0..40,
        ),
        kernel in proptest::sample::select(Kernel::available()),
    ) {
        let data = bytes(70_000);
        let files: Vec<(&[u8], &[usize])> = files.iter().map(|(length, cuts)| (&data[..*length], &cuts[..])).collect();
        let streams: Vec<Vec<&[u8]>> = files.iter().map(|(file, cuts)| split(file, cuts)).collect();
        let digests = digests(&mut Lanes::new(kernel), Algorithm::Blake3, &streams);
        for ((file, _), digest) in files.iter().zip(&digests) {
            let expected = blake3::hash(file);
            prop_assert_eq!(digest.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn parts_of_any_stream_come_to_its_digest(length in 2..200_000_usize, power in 10..18_u32) {
        let data = bytes(length);
        let parts: Vec<&[u8]> = data.chunks(1 << power).collect();
        prop_assume!(parts.len() > 1);
        let mut lanes = Lanes::new(Kernel::best());
        let mut digest = |(number, part): (usize, &&[u8])| {
            let mut hasher = unisono_hash::Hasher::blake3_part((number as u64) << power);
            let (first, second) = part.split_at(part.len() / 3);
            lanes.update(&mut [unisono_hash::Piece { hasher: &mut hasher, data: first, last: false }]);
            lanes.update(&mut [unisono_hash::Piece { hasher: &mut hasher, data: second, last: true }]);
            hasher.digest().expect("it has ended")
        };
        let digests: Vec<Digest> = parts.iter().enumerate().map(&mut digest).collect();
        let (joined, expected) = (unisono_hash::join_blake3(&digests), blake3::hash(&data));
        prop_assert_eq!(joined.as_bytes(), expected.as_bytes());
    }
}
