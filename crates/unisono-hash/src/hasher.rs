//! One stream: what is kept between its pieces, and its digest after the last.
//!
//! SHA-256 and BLAKE3 are fed by [`Lanes`](crate::Lanes), which knows what else there is to do; every other
//! algorithm is fed here, one stream at a time.

use std::fmt;

use blake2::Blake2b512;
use blake3::hazmat::HasherExt;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha512};
use xxhash_rust::xxh3::Xxh3;

use crate::algorithm::Algorithm;
use crate::digest::Digest;
use crate::sha256;

/// One stream of one algorithm. It is fed by [`Lanes::update`](crate::Lanes::update).
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
    digest: Option<Digest>,
}

impl Hasher {
    /// A stream of which nothing is known yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(sha256::Stream::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Blake3 => State::Blake3(None),
            Algorithm::Blake2b => State::Blake2b(Box::default()),
            Algorithm::Xxh3_128 => State::Xxh3(Box::default()),
            Algorithm::Crc32c => State::Crc32c(0),
        };
        Hasher { algorithm, state, digest: None }
    }

    /// A part of a stream of BLAKE3, whose digest is of use to [`join_blake3`](crate::join_blake3) alone.
    ///
    /// It begins so many bytes after the stream does: a multiple of its length, which is a power of two and at least
    /// 1,024 bytes. The last part of a stream may be shorter, but not empty.
    ///
    /// # Panics
    ///
    /// When the offset is no multiple of 1,024.
    pub fn blake3_part(offset: u64) -> Self {
        let mut part = Box::<blake3::Hasher>::default();
        part.set_input_offset(offset);
        Hasher { algorithm: Algorithm::Blake3, state: State::Blake3Part(part), digest: None }
    }

    /// Forgets everything: a whole stream of its algorithm, as good as new.
    pub fn reset(&mut self) {
        *self = Hasher::new(self.algorithm);
    }

    /// What it computes.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest, once the last piece was fed.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Ends the stream with the digest that its lanes have computed.
    pub(crate) fn finish(&mut self, digest: &[u8]) {
        self.digest = Some(Digest::new(self.algorithm, digest));
    }

    /// Feeds a piece without the help of any lanes.
    ///
    /// # Panics
    ///
    /// If this is SHA-256, which has no other way than the lanes.
    pub(crate) fn update_alone(&mut self, data: &[u8], last: bool) {
        match &mut self.state {
            State::Sha256(_) => unreachable!("SHA-256 always goes through the lanes"),
            State::Sha512(state) => state.update(data),
            State::Sha1(state) => state.update(data),
            State::Md5(state) => state.update(data),
            State::Blake3(state) => {
                state.get_or_insert_default().update(data);
            }
            State::Blake3Part(state) => {
                state.update(data);
            }
            State::Blake2b(state) => state.update(data),
            State::Xxh3(state) => state.update(data),
            State::Crc32c(state) => *state = crc32c::crc32c_append(*state, data),
        }
        if last {
            self.finish_alone();
        }
    }

    /// The stream of SHA-256 that this is; the lanes have checked the algorithm.
    pub(crate) fn sha256(&mut self) -> &mut sha256::Stream {
        match &mut self.state {
            State::Sha256(stream) => stream,
            _ => unreachable!("the lanes of SHA-256 are for its streams"),
        }
    }

    /// Whether this is a stream of BLAKE3 of which no piece has been seen.
    pub(crate) fn is_untouched_blake3(&self) -> bool {
        matches!(self.state, State::Blake3(None))
    }

    fn finish_alone(&mut self) {
        let new = |bytes: &[u8]| Digest::new(self.algorithm, bytes);
        self.digest = Some(match &mut self.state {
            State::Sha256(state) => new(&state.digest()),
            State::Sha512(state) => new(&state.finalize_reset()),
            State::Sha1(state) => new(&state.finalize_reset()),
            State::Md5(state) => new(&state.finalize_reset()),
            State::Blake3(state) => new(state.get_or_insert_default().finalize().as_bytes()),
            State::Blake3Part(state) => new(&state.finalize_non_root()),
            State::Blake2b(state) => new(&state.finalize_reset()),
            State::Xxh3(state) => new(&state.digest128().to_be_bytes()),
            State::Crc32c(state) => new(&state.to_be_bytes()),
        });
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("algorithm", &self.algorithm)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What the algorithms keep between pieces. The large ones are boxed, since most users have many streams at hand.
enum State {
    Sha256(sha256::Stream),
    Sha512(Sha512),
    Sha1(Sha1),
    Md5(Md5),
    /// None until a piece comes that is not a whole small file; those never need the 2 KiB of state.
    Blake3(Option<Box<blake3::Hasher>>),
    Blake3Part(Box<blake3::Hasher>),
    Blake2b(Box<Blake2b512>),
    Xxh3(Box<Xxh3>),
    Crc32c(u32),
}
