//! Every kernel that this machine has gives the digests that the crates for one stream give.
//!
//! The kernels are forced one by one, so a machine with AVX-512 tests all of them. Lengths and splits are those
//! around every edge, and then random ones.

mod blake3;
mod others;
mod sha256;

use unisono_hash::{Algorithm, Digest, Hasher, Kernel, Lanes, Piece};

/// Feeds all streams side by side: first the first piece of each, then the second pieces, and so on.
fn digests(lanes: &mut Lanes, algorithm: Algorithm, streams: &[Vec<&[u8]>]) -> Vec<Digest> {
    let mut hashers: Vec<Hasher> = streams.iter().map(|_| Hasher::new(algorithm)).collect();
    for turn in 0..streams.iter().map(Vec::len).max().unwrap_or(0) {
        let mut pieces: Vec<Piece<'_>> = hashers
            .iter_mut()
            .zip(streams)
            .filter(|(_, stream)| turn < stream.len())
            .map(|(hasher, stream)| Piece { hasher, data: stream[turn], last: turn + 1 == stream.len() })
            .collect();
        lanes.update(&mut pieces);
    }
    hashers.iter().map(|hasher| hasher.digest().expect("every stream has had its last piece")).collect()
}

/// Whole files, each one piece.
fn digests_of_files(lanes: &mut Lanes, algorithm: Algorithm, files: &[&[u8]]) -> Vec<Digest> {
    digests(lanes, algorithm, &files.iter().map(|file| vec![*file]).collect::<Vec<_>>())
}

/// Bytes without a period that a lane could hide behind.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            // xorshift64, so that no generator needs to be seeded.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Cuts a file into pieces; the numbers say where, modulo what is left.
fn split<'a>(file: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = file;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at(cut % (rest.len() + 1));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

fn each_kernel(test: impl Fn(&mut Lanes)) {
    for kernel in Kernel::available() {
        test(&mut Lanes::new(kernel));
    }
}
