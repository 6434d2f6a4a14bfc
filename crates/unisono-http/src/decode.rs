//! Content codings undone, chunk by chunk, with a cap on what comes out.
//!
//! A decoder is pushed the bytes as they arrive; what it makes of them is taken out after each push. At the end of the
//! body it must be at an end of its own, or the body is not whole. A coding that nobody knows is left as it is.

use std::io::{self, Write};

use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};
use http::{HeaderMap, header};
use unisono_core::{ErrorKind, format_size};
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};

use crate::Error;

/// What a client that decodes asks for.
pub(crate) const ACCEPT_ENCODING: &str = "gzip, br, zstd, deflate";

/// Undoes the codings of one body.
pub(crate) struct Decoder {
    /// Outermost first: the order in which they are undone.
    layers: Vec<Layer>,
    cap: u64,
    total: u64,
}

enum Layer {
    Gzip(Box<MultiGzDecoder<Capped>>),
    /// Not known yet whether with or without zlib's wrapping: RFC 9110 says with, some servers say without.
    Deflate,
    Inflate(Box<Inflate>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Capped>>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// A decoder for a body with these headers, which may come to `cap` bytes.
    pub(crate) fn new(headers: &HeaderMap, decompress: bool, cap: u64) -> Self {
        let mut layers = Vec::new();
        if decompress && headers.contains_key(header::CONTENT_ENCODING) {
            let codings = headers.get_all(header::CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
            let known: Option<Vec<Layer>> = codings
                .flat_map(|list| list.split(','))
                .map(str::trim)
                .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
                .map(|coding| layer(coding, cap))
                .collect();
            layers = known.unwrap_or_default();
            layers.reverse();
        }
        Self { layers, cap, total: 0 }
    }

    /// Whether bytes come out as they went in.
    pub(crate) fn is_identity(&self) -> bool {
        self.layers.is_empty()
    }

    /// Counts bytes that come out as they went in.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.total += bytes as u64;
        if self.total > self.cap { Err(too_large(self.cap)) } else { Ok(()) }
    }

    /// Decodes some more.
    pub(crate) fn push(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Error> {
        let cap = self.cap;
        let Some((first, others)) = self.layers.split_first_mut() else {
            into.extend_from_slice(bytes);
            return self.count(bytes.len());
        };
        let mut output = Vec::new();
        first.push(bytes, &mut output, cap)?;
        for layer in others {
            let input = std::mem::take(&mut output);
            layer.push(&input, &mut output, cap)?;
        }
        let made = output.len();
        if into.is_empty() {
            *into = output;
        } else {
            into.append(&mut output);
        }
        self.count(made)
    }

    /// The body is over: gives out what is left, if it was whole. `empty` says that not one byte came, which is a whole
    /// body in any coding.
    pub(crate) fn finish(&mut self, empty: bool, into: &mut Vec<u8>) -> Result<(), Error> {
        if empty {
            return Ok(());
        }
        let mut output = Vec::new();
        for layer in &mut self.layers {
            let input = std::mem::take(&mut output);
            if !input.is_empty() {
                layer.push(&input, &mut output, self.cap)?;
            }
            layer.finish(&mut output, self.cap)?;
        }
        self.count(output.len())?;
        into.append(&mut output);
        Ok(())
    }
}

impl Layer {
    fn push(&mut self, bytes: &[u8], into: &mut Vec<u8>, cap: u64) -> Result<(), Error> {
        if let (Self::Deflate, Some(first)) = (&*self, bytes.first()) {
            // RFC 1950: the low half of the first byte of a zlib stream is 8, its compression method. A raw deflate
            // stream begins so only with a stored block and odd padding, which no encoder writes.
            *self = Self::Inflate(Box::new(Inflate::new(first & 0x0f == 8, Capped::new(cap))));
        }
        let written = match self {
            Self::Gzip(decoder) => decoder.write_all(bytes).map(|()| decoder.get_mut()),
            Self::Inflate(decoder) => decoder.write_all(bytes).map(|()| &mut decoder.output),
            Self::Brotli(decoder) => decoder.write_all(bytes).map(|()| decoder.get_mut()),
            Self::Zstd(decoder) => decoder.write_all(bytes).map(|()| &mut decoder.output),
            Self::Deflate => return Ok(()),
        };
        match written {
            Ok(output) => output.take(into),
            Err(error) => return Err(failed(error, cap)),
        }
        Ok(())
    }

    fn finish(&mut self, into: &mut Vec<u8>, cap: u64) -> Result<(), Error> {
        let ended = match self {
            Self::Gzip(decoder) => decoder.try_finish().map(|()| decoder.get_mut()),
            Self::Inflate(decoder) if decoder.at_end => Ok(&mut decoder.output),
            Self::Brotli(decoder) => decoder.close().map(|()| decoder.get_mut()),
            Self::Zstd(decoder) if decoder.at_end => Ok(&mut decoder.output),
            Self::Inflate(_) | Self::Zstd(_) | Self::Deflate => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        match ended {
            Ok(output) => output.take(into),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(too_large(cap)),
            Err(error) => return Err(truncated().with_source(error)),
        }
        Ok(())
    }
}

fn layer(coding: &str, cap: u64) -> Option<Layer> {
    let output = Capped::new(cap);
    Some(match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Layer::Gzip(Box::new(MultiGzDecoder::new(output))),
        "deflate" => Layer::Deflate,
        "br" => Layer::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(output, 4096))),
        "zstd" => Layer::Zstd(Box::new(Zstd::new(output).ok()?)),
        _ => return None,
    })
}

/// flate2's own writers do not say whether they stopped at the end of a stream.
struct Inflate {
    decoder: Decompress,
    output: Capped,
    at_end: bool,
}

impl Inflate {
    fn new(with_zlib_wrapping: bool, output: Capped) -> Self {
        Self { decoder: Decompress::new(with_zlib_wrapping), output, at_end: false }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut block = [0; 8192];
        // What follows the end is no part of the body, as browsers see it.
        while !self.at_end {
            let (read, made) = (self.decoder.total_in(), self.decoder.total_out());
            let status = self.decoder.decompress(bytes, &mut block, FlushDecompress::None).map_err(io::Error::other)?;
            let (read, made) = (self.decoder.total_in() - read, self.decoder.total_out() - made);
            self.output.write_all(&block[..made as usize])?;
            bytes = &bytes[read as usize..];
            self.at_end = status == Status::StreamEnd;
            if bytes.is_empty() && (made as usize) < block.len() {
                break;
            }
        }
        Ok(())
    }
}

/// zstd's own writer does not say whether it stopped at the end of a frame.
struct Zstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    output: Capped,
    at_end: bool,
}

impl Zstd {
    fn new(output: Capped) -> io::Result<Self> {
        Ok(Self { decoder: zstd::stream::raw::Decoder::new()?, output, at_end: false })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        let mut block = vec![0; zstd::zstd_safe::DCtx::out_size()];
        loop {
            let mut output = OutBuffer::around(&mut block[..]);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (made, full) = (output.pos(), output.pos() == output.capacity());
            self.output.write_all(&block[..made])?;
            self.at_end = hint == 0;
            if input.pos() == bytes.len() && !full {
                return Ok(());
            }
        }
    }
}

/// Output that refuses to grow beyond a cap.
struct Capped {
    bytes: Vec<u8>,
    left: u64,
}

impl Capped {
    fn new(cap: u64) -> Self {
        Self { bytes: Vec::new(), left: cap }
    }

    fn take(&mut self, into: &mut Vec<u8>) {
        if into.is_empty() {
            std::mem::swap(into, &mut self.bytes);
        } else {
            into.append(&mut self.bytes);
        }
    }
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: io::Error, cap: u64) -> Error {
    match error.kind() {
        io::ErrorKind::FileTooLarge => too_large(cap),
        _ => Error::new(ErrorKind::Decode, "the body is not what its content coding says").with_source(error),
    }
}

fn too_large(cap: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the body is larger than {}, the cap for one body", format_size(cap)))
}

fn truncated() -> Error {
    Error::new(ErrorKind::IncompleteBody, "the compressed body ends before its end")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(codings: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(codings).unwrap());
        headers
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
        match coding {
            "gzip" => gzip(bytes),
            "zstd" => zstd::bulk::compress(bytes, 1).unwrap(),
            "deflate" => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "raw" => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            other => panic!("{other}"),
        }
    }

    fn decode(codings: &str, bytes: &[u8], piece: usize, cap: u64) -> Result<Vec<u8>, Error> {
        let mut decoder = Decoder::new(&headers(codings), true, cap);
        let mut output = Vec::new();
        for chunk in bytes.chunks(piece.max(1)) {
            decoder.push(chunk, &mut output)?;
        }
        decoder.finish(bytes.is_empty(), &mut output)?;
        Ok(output)
    }

    /// "unisono " eight times, by a brotli encoder.
    const BROTLI: &[u8] = &[
        0x1b, 0x3f, 0x00, 0xf8, 0x8d, 0x54, 0xb5, 0xbf, 0x06, 0x71, 0x9b, 0xab, 0x53, 0x69, 0x6f, 0xf1, 0x4f, 0x38,
        0x40, 0x56, 0x0d,
    ];

    proptest! {
        #[test]
        fn every_coding_is_undone_however_it_is_cut_and_never_when_it_is_not_whole(
            bytes in prop::collection::vec(any::<u8>(), 1..400), piece in 1usize..50, cut in 1usize..10,
            coding in prop::sample::select(vec!["gzip", "zstd", "deflate", "raw"]),
        ) {
            let body = encoded(coding, &bytes);
            let name = if coding == "raw" { "deflate" } else { coding };
            prop_assert_eq!(decode(name, &body, piece, 1 << 20).unwrap(), bytes);
            let torn = &body[..body.len() - cut.min(body.len() - 1)];
            let error = decode(name, torn, piece, 1 << 20).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::IncompleteBody);
        }

        #[test]
        fn any_bytes_are_a_body_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100), coding in prop::sample::select(vec!["gzip", "br", "zstd", "deflate"])) {
            let _ = decode(coding, &bytes, 7, 1 << 16);
        }
    }

    #[test]
    fn codings_are_undone_in_the_opposite_order_of_their_making() {
        let body = zstd::bulk::compress(&gzip(b"twice"), 1).unwrap();
        assert_eq!(decode("gzip, zstd", &body, 5, 100).unwrap(), b"twice");
    }

    #[test]
    fn a_gzip_body_of_several_members_is_one_body() {
        let body = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode("gzip", &body, 9, 100).unwrap(), b"one two");
    }

    #[test]
    fn a_bomb_is_cut_at_the_cap() {
        let body = gzip(&vec![0; 1 << 20]);
        assert_eq!(decode("gzip", &body, 100, 1 << 16).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(decode("foo", &[0; 20], 100, 10).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_brotli_body_is_whole_or_incomplete() {
        assert_eq!(decode("br", BROTLI, 3, 100).unwrap(), b"unisono ".repeat(8));
        for end in 1..BROTLI.len() {
            assert_eq!(decode("br", &BROTLI[..end], 4, 100).unwrap_err().kind(), ErrorKind::IncompleteBody, "{end}");
        }
    }

    #[test]
    fn an_unknown_coding_is_left_as_it_is() {
        assert_eq!(decode("aws-chunked", b"as is", 2, 100).unwrap(), b"as is");
    }

    #[test]
    fn an_empty_body_is_whole_in_any_coding() {
        assert_eq!(decode("gzip", b"", 1, 100).unwrap(), b"");
    }
}
