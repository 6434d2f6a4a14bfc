//! The algorithms without lanes: their published check values, and that pieces make no difference.

use proptest::prelude::*;
use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece};

use crate::{bytes, digests, digests_of_files, split};

#[test]
fn the_published_check_values_come_out() {
    let check =
        |algorithm, file: &[u8]| digests_of_files(&mut Lanes::new(Kernel::best()), algorithm, &[file])[0].to_string();
    // FIPS 180-2, appendix C.1.
    assert_eq!(
        check(Algorithm::Sha512, b"abc"),
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    );
    // FIPS 180-2, appendix A.1.
    assert_eq!(check(Algorithm::Sha1, b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    // RFC 1321, appendix A.5.
    assert_eq!(check(Algorithm::Md5, b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    // The empty input of the BLAKE3 team's test vectors.
    assert_eq!(check(Algorithm::Blake3, b""), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    // RFC 7693, appendix A.
    assert_eq!(
        check(Algorithm::Blake2b, b"abc"),
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
         7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
    );
    // What `xxh128sum` prints for an empty file.
    assert_eq!(check(Algorithm::Xxh3_128, b""), "99aa06d3014798d86001c324468d497f");
    // RFC 3720, appendix B.4: 32 zeros. The bytes there are little endian.
    assert_eq!(check(Algorithm::Crc32c, &[0; 32]), "8a9136aa");
    assert_eq!(check(Algorithm::Crc32c, b"123456789"), "e3069283");
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        algorithm in proptest::sample::select(&Algorithm::ALL),
        length in 0..3_000_usize,
        cuts in proptest::collection::vec(any::<usize>(), 0..5),
    ) {
        let file = &bytes(length)[..];
        let mut lanes = Lanes::new(Kernel::best());
        let whole = digests_of_files(&mut lanes, algorithm, &[file]);
        prop_assert_eq!(digests(&mut lanes, algorithm, &[split(file, &cuts)]), whole);
    }
}

#[test]
fn a_stream_has_no_digest_before_its_last_piece_and_none_after_a_reset() {
    let mut lanes = Lanes::new(Kernel::best());
    for algorithm in Algorithm::ALL {
        let mut hasher = Hasher::new(algorithm);
        lanes.update(&mut [Piece { hasher: &mut hasher, data: b"abc", last: false }]);
        assert_eq!(hasher.digest(), None);
        lanes.update(&mut [Piece { hasher: &mut hasher, data: b"", last: true }]);
        let digest = hasher.digest().expect("it has ended");
        assert_eq!(vec![digest], digests_of_files(&mut lanes, algorithm, &[b"abc"]));
        hasher.reset();
        assert_eq!(hasher.digest(), None);
    }
}

#[test]
#[should_panic(expected = "a stream that has ended was fed")]
fn feeding_a_stream_after_its_end_is_refused() {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for data in [b"abc", b"def"] {
        Lanes::new(Kernel::best()).update(&mut [Piece { hasher: &mut hasher, data, last: true }]);
    }
}

#[test]
#[should_panic(expected = "the pieces of an update are of one algorithm")]
fn feeding_two_algorithms_at_once_is_refused() {
    let (mut first, mut second) = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Md5));
    Lanes::new(Kernel::best()).update(&mut [
        Piece { hasher: &mut first, data: b"abc", last: true },
        Piece { hasher: &mut second, data: b"abc", last: true },
    ]);
}
