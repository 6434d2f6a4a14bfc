//! What the decoder of each coding does, whatever the coding.

use std::io;

/// Decodes one coding.
pub(super) trait CodingDecoder {
    /// Takes some of the input, and adds to the output what it becomes, within the output's capacity. Returns how much
    /// was taken.
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize>;

    /// Whether another step may make something without any input.
    fn has_more(&self) -> bool;

    /// Whether what was taken so far is something whole.
    fn is_whole(&self) -> bool;
}

/// What follows the end of a stream: zeros are padding. Returns how much was taken.
pub(super) fn skip_padding(input: &[u8]) -> io::Result<usize> {
    match input.iter().all(|byte| *byte == 0) {
        true => Ok(input.len()),
        false => Err(io::Error::other("something follows the end of the compressed data")),
    }
}
