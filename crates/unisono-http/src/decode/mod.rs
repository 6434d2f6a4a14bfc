//! Content codings undone, piece by piece, with a bound on everything that a peer can make this cost.
//!
//! A decoder is fed the bytes as they arrive and asked for one step at a time. It takes at most [`MOST_TAKEN_BYTES`]
//! and makes at most [`PIECE_BYTES`], so that the reader of a body can let others have their turn in the middle of a
//! bomb. At the end of the body each coding must be at an end of its own, or the body is not whole.
//!
//! Beyond the end of what a coding encodes, zero bytes are padding, as most clients see it; another member of gzip
//! and another frame of zstd go on; anything else is an error, as curl has it.
//!
//! An unknown coding is left as it is, with all that stands beside it. More than [`MOST_CODINGS`] are refused.
//! Nothing is set aside before the first byte of a body is there.

mod brotli;
mod coding_decoder;
mod codings;
mod deflate;
mod gzip;
mod zstd;

use std::io;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use unisono_core::{ErrorKind, format_size};

use coding_decoder::CodingDecoder;
pub(crate) use codings::{ACCEPT_ENCODING, MOST_CODINGS};
use codings::{Coding, Codings};

use crate::Error;

/// Undoes the codings of one body.
pub(crate) struct Decoder {
    state: State,
    cap: u64,
    total: u64,
}

enum State {
    /// No byte has come.
    Named(Codings),
    /// Outermost first: the order in which codings are undone.
    Begun(Vec<DecodeStage>),
}

/// What a step came to.
pub(crate) enum Decoded {
    /// A piece of the body.
    Output(Bytes),
    /// Nothing yet; another step may help.
    Nothing,
    /// All that was fed has been used up.
    NeedsInput,
}

/// One coding, and what it has been given.
struct DecodeStage {
    decoder: Box<dyn CodingDecoder>,
    /// What it has not taken yet.
    input: Bytes,
    made: u64,
}

impl Decoder {
    /// A decoder for a body with these headers, which may come to `cap` bytes.
    pub(crate) fn new(headers: &HeaderMap, decompress: bool, cap: u64) -> Self {
        let codings = if decompress { Codings::of(headers) } else { Codings::default() };
        Self { state: State::Named(codings), cap, total: 0 }
    }

    /// Whether bytes come out as they went in.
    pub(crate) fn is_identity(&self) -> bool {
        matches!(self.state, State::Named(Codings::None))
    }

    /// Counts bytes that come out as they went in.
    pub(crate) fn count(&mut self, bytes: u64) -> Result<(), Error> {
        self.total = self.total.saturating_add(bytes);
        if self.total > self.cap { Err(too_large(self.cap)) } else { Ok(()) }
    }

    /// Takes in what came next. Only for one that needs input.
    ///
    /// # Errors
    /// When its codings are more than there is any use for.
    pub(crate) fn feed(&mut self, bytes: Bytes) -> Result<(), Error> {
        if let State::Named(codings) = &self.state {
            self.state = State::Begun(stages(codings)?);
        }
        let first = self.stages().first_mut().expect("a body without codings is not decoded");
        debug_assert!(first.input.is_empty());
        first.input = bytes;
        Ok(())
    }

    /// Does a bounded piece of the work.
    ///
    /// # Errors
    /// When the body is not what its codings say, or too large.
    pub(crate) fn step(&mut self) -> Result<Decoded, Error> {
        let cap = self.cap;
        let stages = self.stages();
        // The innermost first, so that a stage is given something only when it has nothing.
        let Some(at) = stages.iter().rposition(|stage| stage.decoder.has_more() || !stage.input.is_empty()) else {
            return Ok(Decoded::NeedsInput);
        };
        let output = stages[at].step(cap)?;
        match stages.get_mut(at + 1) {
            Some(next) => {
                next.input = output;
                Ok(Decoded::Nothing)
            }
            None if output.is_empty() => Ok(Decoded::Nothing),
            None => Ok(Decoded::Output(output)),
        }
    }

    /// The body is over, and every step was done.
    ///
    /// # Errors
    /// When something is missing. That not one byte came is a whole body in any coding.
    pub(crate) fn end(&self) -> Result<(), Error> {
        match &self.state {
            State::Begun(stages) if !stages.iter().all(|stage| stage.decoder.is_whole()) => {
                Err(Error::new(ErrorKind::IncompleteBody, "the compressed body ends before its end"))
            }
            State::Begun(_) | State::Named(_) => Ok(()),
        }
    }

    fn stages(&mut self) -> &mut [DecodeStage] {
        match &mut self.state {
            State::Begun(stages) => stages,
            State::Named(_) => &mut [],
        }
    }
}

impl DecodeStage {
    fn step(&mut self, cap: u64) -> Result<Bytes, Error> {
        let some = &self.input[..self.input.len().min(MOST_TAKEN_BYTES)];
        let had_more = self.decoder.has_more();
        let room =
            if had_more { PIECE_BYTES } else { (some.len() * USUAL_RATIO).clamp(LEAST_PIECE_BYTES, PIECE_BYTES) };
        let mut output = Vec::with_capacity(room);
        let taken = self.decoder.step(some, &mut output).map_err(corrupt)?;
        if taken == 0 && output.is_empty() && !had_more {
            return Err(corrupt(io::Error::other("the decoder does not get on")));
        }
        self.input.advance(taken);
        self.made += output.len() as u64;
        if self.made > cap {
            return Err(too_large(cap));
        }
        if output.len() < output.capacity() / 2 {
            // A short body may be kept for long.
            output.shrink_to_fit();
        }
        Ok(output.into())
    }
}

fn stages(codings: &Codings) -> Result<Vec<DecodeStage>, Error> {
    let codings = match codings {
        Codings::None => &[][..],
        Codings::Known(known) => known,
        Codings::TooMany => {
            let message = format!("the body has more than {MOST_CODINGS} content codings");
            return Err(Error::new(ErrorKind::Decode, message));
        }
    };
    // Windows are what a decoder's memory goes into: together they come to no more than 40 MiB, when so much is
    // decoded.
    let brotli_window = if codings.len() <= 2 { 24 } else { LARGEST_ZSTD_WINDOW_LOG };
    let stage = |coding: &Coding| {
        let decoder: Box<dyn CodingDecoder> = match coding {
            Coding::Gzip => Box::new(gzip::Gzip::default()),
            Coding::Deflate => Box::new(deflate::Deflate::default()),
            Coding::Brotli => Box::new(brotli::Brotli::new(brotli_window)),
            Coding::Zstd => Box::new(zstd::Zstd::new(LARGEST_ZSTD_WINDOW_LOG).map_err(corrupt)?),
        };
        Ok(DecodeStage { decoder, input: Bytes::new(), made: 0 })
    };
    codings.iter().rev().map(stage).collect()
}

/// Decodes a body that comes in pieces of this size: the body of a fuzz target, and of the tests against real encoders.
///
/// # Errors
/// As a body that came over the wire.
#[doc(hidden)]
pub fn decode_body(codings: &[&str], body: &[u8], piece: usize, cap: u64) -> Result<Vec<u8>, Error> {
    let mut headers = HeaderMap::new();
    for line in codings {
        if let Ok(value) = http::HeaderValue::from_str(line) {
            headers.append(http::header::CONTENT_ENCODING, value);
        }
    }
    let mut decoder = Decoder::new(&headers, true, cap);
    let mut output = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        if decoder.is_identity() {
            decoder.count(piece.len() as u64)?;
            output.extend_from_slice(piece);
            continue;
        }
        decoder.feed(Bytes::copy_from_slice(piece))?;
        loop {
            match decoder.step()? {
                Decoded::Output(bytes) => output.extend_from_slice(&bytes),
                Decoded::Nothing => {}
                Decoded::NeedsInput => break,
            }
        }
    }
    decoder.end()?;
    Ok(output)
}

fn corrupt(error: io::Error) -> Error {
    Error::new(ErrorKind::Decode, "the body is not what its content coding says").with_source(error)
}

fn too_large(cap: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the body is larger than {}, the cap for one body", format_size(cap)))
}

/// As a power of two. RFC 9659: 8 MiB is the most that a zstd body may ask for.
pub(crate) const LARGEST_ZSTD_WINDOW_LOG: u32 = 23;
/// Input for one step. A decoder's tables can cost more than its output.
const MOST_TAKEN_BYTES: usize = 16 << 10;
/// Output of one step: half of what fits into a second-level cache.
const PIECE_BYTES: usize = 64 << 10;
const LEAST_PIECE_BYTES: usize = 512;
/// What JSON and text come to, about.
const USUAL_RATIO: usize = 6;

#[cfg(test)]
mod tests;
