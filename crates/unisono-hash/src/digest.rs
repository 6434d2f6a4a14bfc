//! A digest: its bytes, and the hexadecimal digits that manifests hold.

use std::fmt;

use crate::algorithm::Algorithm;
use crate::error::{Error, ErrorKind};

/// The result of one algorithm over one stream.
///
/// Numbers (`xxh3-128`, `crc32c`) are big endian, so their digits are those that `xxh128sum` and others print.
///
/// Comparing takes a time that depends on the contents: these are checksums of files, not secrets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// Bytes past `digest_length()` are zero, so that equal digests are equal as a whole.
    bytes: [u8; LONGEST_BYTES],
}

impl Digest {
    /// A digest from an engine of `algorithm`, which gives as many bytes as its digests have.
    pub(crate) fn new(algorithm: Algorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; LONGEST_BYTES];
        bytes[..algorithm.digest_length()].copy_from_slice(digest);
        Digest { algorithm, bytes }
    }

    /// Reads the digits that `Display` prints; capital letters are understood as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongLength`] unless there are exactly two digits a byte; [`ErrorKind::NotHexadecimal`] if
    /// anything is no digit.
    pub fn from_hex(algorithm: Algorithm, digits: &str) -> Result<Self, Error> {
        if let Some((place, other)) = digits.chars().enumerate().find(|(_, digit)| !digit.is_ascii_hexdigit()) {
            let message = format!("a digest has hexadecimal digits only, but character {} is {other:?}", place + 1);
            return Err(Error::new(ErrorKind::NotHexadecimal, message));
        }
        let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != algorithm.digest_length() || !odd.is_empty() {
            let message = format!(
                "a digest of {algorithm} has {} hexadecimal digits, not {}",
                2 * algorithm.digest_length(),
                digits.len()
            );
            return Err(Error::new(ErrorKind::WrongLength, message));
        }
        let mut bytes = [0; LONGEST_BYTES];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit_value(*high) << 4 | digit_value(*low);
        }
        Ok(Digest { algorithm, bytes })
    }

    /// What computed it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its [`Algorithm::digest_length`] bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_length()]
    }
}

/// Lower-case hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 2 * LONGEST_BYTES];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.as_bytes()) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        let digits = &digits[..2 * self.algorithm.digest_length()];
        f.pad(str::from_utf8(digits).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}:{self})", self.algorithm)
    }
}

/// The value of a byte that is a hexadecimal digit.
fn digit_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes of the longest digest, that of SHA-512.
const LONGEST_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn algorithms() -> impl Strategy<Value = Algorithm> {
        proptest::sample::select(&Algorithm::ALL)
    }

    proptest! {
        #[test]
        fn a_digest_is_read_from_the_digits_it_prints(
            algorithm in algorithms(),
            bytes in proptest::collection::vec(any::<u8>(), LONGEST_BYTES),
        ) {
            let digest = Digest::new(algorithm, &bytes[..algorithm.digest_length()]);
            let digits = digest.to_string();
            prop_assert_eq!(digits.len(), 2 * algorithm.digest_length());
            prop_assert_eq!(Digest::from_hex(algorithm, &digits), Ok(digest));
            prop_assert_eq!(Digest::from_hex(algorithm, &digits.to_uppercase()), Ok(digest));
        }

        #[test]
        fn what_is_read_as_a_digest_prints_as_what_was_read(algorithm in algorithms(), text in "[0-9a-fA-Fg é]{0,130}") {
            match Digest::from_hex(algorithm, &text) {
                Ok(digest) => prop_assert_eq!(digest.to_string(), text.to_lowercase()),
                Err(error) => {
                    let all_digits = text.chars().all(|character| character.is_ascii_hexdigit());
                    let expected = if all_digits { ErrorKind::WrongLength } else { ErrorKind::NotHexadecimal };
                    prop_assert_eq!(error.kind(), expected);
                    prop_assert!(!all_digits || text.len() != 2 * algorithm.digest_length());
                }
            }
        }
    }

    #[test]
    fn a_wrong_digest_says_what_is_wrong() {
        let message = |digits| Digest::from_hex(Algorithm::Crc32c, digits).expect_err("wrong").to_string();
        assert_eq!(message("e306928"), "a digest of crc32c has 8 hexadecimal digits, not 7");
        assert_eq!(message("e306928g"), "a digest has hexadecimal digits only, but character 8 is 'g'");
    }
}
