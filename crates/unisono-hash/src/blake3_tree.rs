//! BLAKE3 of one long stream by several threads: its parts become subtrees, and these the digest.
//!
//! BLAKE3 is a tree (section 2.1 of its paper, <https://github.com/BLAKE3-team/BLAKE3-specs>): below every node the
//! left side is the largest whole power of two of chunks that leaves something for the right side. So parts that are
//! all as long as one power of two of chunks are subtrees of it, wherever they are computed, and only the last may be
//! shorter.

use blake3::hazmat::{ChainingValue, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::{Algorithm, Digest};

/// The digest of a stream of BLAKE3, from those of all its parts in their order, each by a
/// [`Hasher::blake3_part`](crate::Hasher::blake3_part).
///
/// # Panics
///
/// With fewer than two parts, since a stream of one is no part of anything; or with a digest of another algorithm.
///
/// ```
/// use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece, join_blake3};
///
/// let data = [7; 5000];
/// let mut lanes = Lanes::new(Kernel::best());
/// let mut digest = |mut hasher: Hasher, data: &[u8]| {
///     lanes.update(&mut [Piece { hasher: &mut hasher, data, last: true }]);
///     hasher.digest().expect("its last piece was fed")
/// };
/// let whole = digest(Hasher::new(Algorithm::Blake3), &data);
/// let left = digest(Hasher::blake3_part(0), &data[..4096]);
/// let right = digest(Hasher::blake3_part(4096), &data[4096..]);
/// assert_eq!(join_blake3(&[left, right]), whole);
/// ```
pub fn join_blake3(parts: &[Digest]) -> Digest {
    assert!(parts.len() >= 2, "there are two parts or more");
    let (left, right) = parts.split_at(left_of(parts.len()));
    let root = merge_subtrees_root(&value(left), &value(right), Mode::Hash);
    Digest::new(Algorithm::Blake3, root.as_bytes())
}

/// The chaining value of what lies above these parts.
fn value(parts: &[Digest]) -> ChainingValue {
    if let [part] = parts {
        assert_eq!(part.algorithm(), Algorithm::Blake3, "parts are of BLAKE3");
        return part.as_bytes().try_into().expect("a digest of BLAKE3 has 32 bytes");
    }
    let (left, right) = parts.split_at(left_of(parts.len()));
    merge_subtrees_non_root(&value(left), &value(right), Mode::Hash)
}

/// The largest power of two below this number of parts.
fn left_of(parts: usize) -> usize {
    1 << (parts - 1).ilog2()
}
