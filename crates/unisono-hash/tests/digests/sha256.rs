//! SHA-256 against the `sha2` crate and NIST's vectors.

use proptest::prelude::*;
use sha2::Digest as _;
use unisono_hash::{Algorithm, Digest, Kernel, Lanes};

use crate::{bytes, digests, digests_of_files, each_kernel, split};

fn reference(file: &[u8]) -> Vec<u8> {
    sha2::Sha256::digest(file).to_vec()
}

fn assert_all(kernel: Kernel, files: &[&[u8]], digests: &[Digest]) {
    assert_eq!(files.len(), digests.len());
    for (file, digest) in files.iter().zip(digests) {
        assert_eq!(digest.as_bytes(), reference(file), "{kernel}, a file of {} bytes", file.len());
    }
}

#[test]
fn the_vectors_of_nist_come_out() {
    let million = vec![b'a'; 1_000_000];
    // FIPS 180-2, appendix B, and the empty message of NIST's CAVP.
    let vectors: [(&[u8], &str); 4] = [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ];
    each_kernel(|lanes| {
        // Alone, and so many at once that the widest lanes have work.
        for copies in [1, 10] {
            let files: Vec<&[u8]> = vectors.iter().flat_map(|(file, _)| vec![*file; copies]).collect();
            let expected = vectors.iter().flat_map(|(_, digest)| vec![*digest; copies]);
            let digests = digests_of_files(lanes, Algorithm::Sha256, &files);
            assert!(digests.iter().map(Digest::to_string).eq(expected), "{}", lanes.kernel());
        }
    });
}

#[test]
fn every_length_to_300_and_around_every_block_to_the_ninth_comes_out() {
    let data = bytes(1024);
    let edges = (5..=9).flat_map(|blocks| [55, 56, 63, 64, 65].map(|offset| 64 * (blocks - 1) + offset));
    let files: Vec<&[u8]> = (0..=300).chain(edges).map(|length| &data[data.len() - length..]).collect();
    each_kernel(|lanes| {
        assert_all(lanes.kernel(), &files, &digests_of_files(lanes, Algorithm::Sha256, &files));
        for file in &files {
            assert_all(lanes.kernel(), &[file], &digests_of_files(lanes, Algorithm::Sha256, &[file]));
        }
    });
}

#[test]
fn every_number_of_files_of_one_length_comes_out() {
    let data = bytes(40 * 4096);
    each_kernel(|lanes| {
        for count in 0..=40 {
            let files: Vec<&[u8]> = data.chunks_exact(4096).take(count).collect();
            assert_all(lanes.kernel(), &files, &digests_of_files(lanes, Algorithm::Sha256, &files));
        }
    });
}

#[test]
fn every_split_of_a_short_stream_comes_out() {
    let data = bytes(200);
    each_kernel(|lanes| {
        let streams: Vec<Vec<&[u8]>> = (0..=200).map(|cut| split(&data, &[cut])).collect();
        let expected = reference(&data);
        assert!(digests(lanes, Algorithm::Sha256, &streams).iter().all(|digest| digest.as_bytes() == expected));
    });
}

proptest! {
    // Half the usual number: unoptimised kernels are a hundred times slower.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_mix_of_files_in_any_pieces_comes_out(
        files in proptest::collection::vec(
            (prop_oneof![6 => 0..300_usize, 3 => 0..5_000_usize, 1 => 60_000..70_000_usize], proptest::collection::vec(any::<usize>(), 0..5)),
            0..40,
        ),
        kernel in proptest::sample::select(Kernel::available()),
    ) {
        let data = bytes(70_000);
        let files: Vec<(&[u8], &[usize])> = files.iter().map(|(length, cuts)| (&data[..*length], &cuts[..])).collect();
        let streams: Vec<Vec<&[u8]>> = files.iter().map(|(file, cuts)| split(file, cuts)).collect();
        let digests = digests(&mut Lanes::new(kernel), Algorithm::Sha256, &streams);
        for ((file, _), digest) in files.iter().zip(&digests) {
            prop_assert_eq!(digest.as_bytes(), reference(file));
        }
    }
}
