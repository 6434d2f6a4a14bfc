//! deflate, which RFC 9110 says is zlib's format (RFC 1950); some servers send the bare data (RFC 1951).

use std::io;

use flate2::{Decompress, FlushDecompress, Status};

use super::coding_decoder::{CodingDecoder, skip_padding};

#[derive(Default)]
pub(super) struct Deflate {
    /// Not known before the first byte.
    inflate: Option<Inflate>,
    /// Bytes after the end that do no harm: servers that send the bare data may still send zlib's checksum. curl
    /// does not mind them either.
    tolerated: usize,
}

impl CodingDecoder for Deflate {
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_whole() {
            let tolerated = input.len().min(self.tolerated);
            self.tolerated -= tolerated;
            return Ok(tolerated + skip_padding(&input[tolerated..])?);
        }
        let inflate = self.inflate.get_or_insert_with(|| {
            // RFC 1950: the low half of the first byte of a zlib stream is 8, its compression method. A raw deflate
            // stream begins so only with a stored block and odd padding, which no encoder writes.
            let is_wrapped = input.first().is_some_and(|first| first & 0x0f == 8);
            self.tolerated = if is_wrapped { 0 } else { CHECKSUM_BYTES };
            Inflate::new(is_wrapped)
        });
        inflate.step(input, output)
    }

    fn has_more(&self) -> bool {
        self.inflate.as_ref().is_some_and(Inflate::has_more)
    }

    fn is_whole(&self) -> bool {
        self.inflate.as_ref().is_some_and(Inflate::is_whole)
    }
}

/// One deflated stream.
pub(super) struct Inflate {
    inflate: Decompress,
    is_whole: bool,
    has_more: bool,
}

impl Inflate {
    pub(super) fn new(is_wrapped: bool) -> Self {
        Self { inflate: Decompress::new(is_wrapped), is_whole: false, has_more: false }
    }

    /// Gets ready for another stream, without zlib's wrapping.
    pub(super) fn begin_again(&mut self) {
        self.inflate.reset(false);
        (self.is_whole, self.has_more) = (false, false);
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress_vec(input, output, FlushDecompress::None).map_err(io::Error::other)?;
        self.is_whole = status == Status::StreamEnd;
        // It gives out what its window holds and returns, with room to spare: only a call that makes nothing says that
        // there is nothing.
        self.has_more = !self.is_whole && self.inflate.total_out() > made;
        Ok((self.inflate.total_in() - taken) as usize)
    }

    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

const CHECKSUM_BYTES: usize = 4;
