//! brotli (RFC 7932), without the large windows that some encoders can make beyond it.

use std::io;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::coding_decoder::{CodingDecoder, skip_padding};

pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    /// As a power of two.
    largest_window: u32,
    is_whole: bool,
    has_more: bool,
}

impl Brotli {
    pub(super) fn new(largest_window: u32) -> Self {
        let memory = StandardAlloc::default;
        // "Strict" is what refuses windows of up to 1 GiB.
        Self {
            state: BrotliState::new_strict(memory(), memory(), memory()),
            largest_window,
            is_whole: false,
            has_more: false,
        }
    }
}

impl CodingDecoder for Brotli {
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_whole {
            return skip_padding(input);
        }
        let (mut left, mut taken) = (input.len(), 0);
        output.resize(output.capacity(), 0);
        let (mut room, mut made, mut total) = (output.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut taken,
            input,
            &mut room,
            &mut made,
            output,
            &mut total,
            &mut self.state,
        );
        output.truncate(made);
        if self.state.window_bits > self.largest_window {
            return Err(io::Error::other("its window is larger than 8 MiB, the most for one of so many codings"));
        }
        self.has_more = matches!(result, BrotliResult::NeedsMoreOutput);
        match result {
            BrotliResult::ResultFailure => Err(io::Error::other("no brotli data")),
            BrotliResult::ResultSuccess => {
                self.is_whole = true;
                Ok(taken)
            }
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(taken),
        }
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }
}
