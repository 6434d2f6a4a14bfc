//! The algorithms, by the names users write.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A way to compute a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SHA-1 (FIPS 180-4). Broken: only to check digests that exist.
    Sha1,
    /// MD5 (RFC 1321). Broken: only to check digests that exist.
    Md5,
    /// BLAKE3 with 32 bytes of output and no key.
    Blake3,
    /// XXH3 with 128 bits and seed 0: very fast, and no protection against an attacker.
    Xxh3_128,
    /// CRC-32C, Castagnoli's polynomial (RFC 3720, appendix B.4): finds accidents, nothing else.
    Crc32c,
    /// BLAKE2b with 64 bytes of output and no key (RFC 7693): what `b2sum` prints.
    Blake2b,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 8] = [
        Algorithm::Sha256,
        Algorithm::Sha512,
        Algorithm::Sha1,
        Algorithm::Md5,
        Algorithm::Blake3,
        Algorithm::Xxh3_128,
        Algorithm::Crc32c,
        Algorithm::Blake2b,
    ];

    /// The name: what `Display` prints and `FromStr` reads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
            Algorithm::Sha1 => "sha1",
            Algorithm::Md5 => "md5",
            Algorithm::Blake3 => "blake3",
            Algorithm::Blake2b => "blake2b",
            Algorithm::Xxh3_128 => "xxh3-128",
            Algorithm::Crc32c => "crc32c",
        }
    }

    /// Bytes in a digest; it has twice as many hexadecimal digits.
    pub const fn digest_length(self) -> usize {
        match self {
            Algorithm::Sha256 | Algorithm::Blake3 => 32,
            Algorithm::Sha512 | Algorithm::Blake2b => 64,
            Algorithm::Sha1 => 20,
            Algorithm::Md5 | Algorithm::Xxh3_128 => 16,
            Algorithm::Crc32c => 4,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::new(ErrorKind::UnknownName, format!("`{text}` is no algorithm: it is one of {names}"))
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_read_from_the_name_it_prints() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn an_unknown_algorithm_is_told_which_there_are() {
        let error = "sha-256".parse::<Algorithm>().expect_err("no such name");
        assert_eq!(error.kind(), ErrorKind::UnknownName);
        assert_eq!(
            error.to_string(),
            "`sha-256` is no algorithm: it is one of sha256, sha512, sha1, md5, blake3, xxh3-128, crc32c, blake2b"
        );
    }
}
