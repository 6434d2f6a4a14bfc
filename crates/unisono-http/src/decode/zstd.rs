//! zstd (RFC 8878): frames one after the other, some of which are to be skipped.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::coding_decoder::CodingDecoder;

pub(super) struct Zstd {
    decoder: Decoder<'static>,
    /// After a frame, all of which has been given out.
    is_whole: bool,
    has_more: bool,
}

impl Zstd {
    /// `largest_window` is a power of two.
    pub(super) fn new(largest_window: u32) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(largest_window))?;
        Ok(Self { decoder, is_whole: false, has_more: false })
    }
}

impl CodingDecoder for Zstd {
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_whole && input.first().is_none_or(|first| *first == 0) {
            // No frame begins so. To ask without input would begin a frame that never comes.
            let zeros = input.iter().position(|byte| *byte != 0).unwrap_or(input.len());
            return Ok(zeros);
        }
        let mut given = InBuffer::around(input);
        let mut room = OutBuffer::around(output);
        let hint = self.decoder.run(&mut given, &mut room)?;
        self.is_whole = hint == 0;
        self.has_more = hint != 0 && room.pos() == room.capacity();
        Ok(given.pos())
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }
}
