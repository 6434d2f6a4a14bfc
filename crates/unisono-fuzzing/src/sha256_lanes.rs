//! SHA-256 in lanes against the `sha2` crate, with files and pieces of the fuzzer's choice.
//!
//! The input is a plan followed by contents. First a byte for the kernel, then one byte a piece, up to a zero: its
//! low seven bits are the length in steps that reach every edge of a block, its high bit ends the stream. All
//! streams take their contents from the same bytes that follow, each from its own place on.

use std::cell::RefCell;

use sha2::Digest as _;
use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece};

pub(crate) fn body(input: &[u8]) {
    let Some((&choice, plan)) = input.split_first() else { return };
    let end = plan.iter().position(|&byte| byte == 0).unwrap_or(plan.len());
    let (plan, contents) = plan.split_at(end);
    let streams: Vec<Vec<&[u8]>> = plan
        .split_inclusive(|byte| byte & 0x80 != 0)
        .enumerate()
        .map(|(number, lengths)| cut(contents.get(number..).unwrap_or(&[]), lengths))
        .collect();

    let mut hashers: Vec<Hasher> = streams.iter().map(|_| Hasher::new(Algorithm::Sha256)).collect();
    LANES.with_borrow_mut(|all| {
        let lanes = usize::from(choice) % all.len();
        for turn in 0..streams.iter().map(Vec::len).max().unwrap_or(0) {
            let mut pieces: Vec<Piece<'_>> = hashers
                .iter_mut()
                .zip(&streams)
                .filter(|(_, stream)| turn < stream.len())
                .map(|(hasher, stream)| Piece { hasher, data: stream[turn], last: turn + 1 == stream.len() })
                .collect();
            all[lanes].update(&mut pieces);
        }
    });
    for (hasher, stream) in hashers.iter().zip(&streams) {
        let digest = hasher.digest().expect("every stream has had its last piece");
        assert_eq!(digest.as_bytes(), &sha2::Sha256::digest(stream.concat())[..]);
    }
}

thread_local! {
    static LANES: RefCell<Vec<Lanes>> = RefCell::new(Kernel::available().into_iter().map(Lanes::new).collect());
}

/// The pieces of one stream: as many as there are lengths, each as long as asked for while the contents last.
fn cut<'a>(contents: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut rest = contents;
    lengths
        .iter()
        .map(|length| {
            // 1 to 63 as they are, then blocks with one byte more or less.
            let step = usize::from(length & 0x7f);
            let wanted = if step < 64 { step } else { (step - 64) / 3 * 64 + step % 3 };
            let (piece, after) = rest.split_at(wanted.min(rest.len()));
            rest = after;
            piece
        })
        .collect()
}
