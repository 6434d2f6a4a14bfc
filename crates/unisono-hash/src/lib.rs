//! Digests of many independent files at once, on one core.
//!
//! A digest such as SHA-256 is a long chain in which each step waits for the one before, so a core that computes one
//! of them is idle most of the time. Here a core computes up to sixteen at once: each is a *lane* of a vector
//! register, or takes turns with others in the pipeline.
//!
//! ```
//! use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece};
//!
//! let mut lanes = Lanes::new(Kernel::best());
//! let mut hashers = [(); 2].map(|()| Hasher::new(Algorithm::Sha256));
//! let [first, second] = &mut hashers;
//! lanes.update(&mut [
//!     Piece { hasher: first, data: b"abc", last: true },
//!     Piece { hasher: second, data: b"the first bytes of a long file", last: false },
//! ]);
//! let digest = hashers[0].digest().expect("its last piece was fed");
//! assert!(digest.to_string().starts_with("ba7816bf"));
//! assert_eq!(hashers[1].digest(), None);
//! ```
//!
//! There are no threads here and no I/O: the reader of the files decides how many threads have [`Lanes`] of their own.
//!
//! **Soundness.** Unsafe code is in `arch/x86_64` alone, and of two kinds. Instructions that a processor may lack are
//! entered only by the methods of a token, and a token comes only from asking the processor. Raw loads and stores
//! are of slices and arrays whose length is checked, or part of their type, in the same function; no pointer is kept
//! or computed with. Miri cannot run these instructions, so the tests run every kernel that the machine has against
//! the `sha2` and `blake3` crates, and a fuzz target does so with lengths and splits of its choice.

mod algorithm;
mod arch;
mod blake3_tree;
mod digest;
mod error;
mod hasher;
mod kernel;
mod lanes;
mod schedule;
mod sha256;
mod small_blake3;

pub use algorithm::Algorithm;
pub use blake3_tree::join_blake3;
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use hasher::Hasher;
pub use kernel::Kernel;
pub use lanes::{Lanes, Piece};
