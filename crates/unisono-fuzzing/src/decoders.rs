//! Decoders of bodies: any bytes under any codings are decoded or refused, within their cap; what real encoders made
//! comes back.

use std::io::Write;

use flate2::{Compression, write};
use unisono_http::decode_body;

/// The first byte chooses codings, the second how large the pieces are that the body comes in.
pub(crate) fn body(bytes: &[u8]) {
    let [choice, piece, body @ ..] = bytes else { return };
    let piece = usize::from(*piece) + 1;
    let codings: &[&str] = match choice % 8 {
        0 => &["gzip"],
        1 => &["deflate"],
        2 => &["br"],
        3 => &["zstd"],
        4 => &["gzip, br"],
        5 => &["zstd", "deflate"],
        6 => &["identity, x-gzip"],
        _ => &["gzip, gzip, gzip, gzip, gzip, gzip"],
    };
    if let Ok(decoded) = decode_body(codings, body, piece, CAP) {
        assert!(decoded.len() as u64 <= CAP, "{} bytes are over the cap", decoded.len());
    }
    // One of them at a time: to set up an encoder takes longer than everything else.
    let (coding, encoded) = encoded(choice / 8, body);
    let decoded = decode_body(&[coding], &encoded, piece, CAP);
    assert_eq!(decoded.as_deref().ok(), Some(body), "{coding} in pieces of {piece}");
    if !body.is_empty() {
        let cut = usize::from(*choice) % encoded.len();
        assert!(decode_body(&[coding], &encoded[..cut], piece, CAP).is_err() || cut == 0, "{coding} cut at {cut}");
        let over = decode_body(&[coding], &encoded, piece, body.len() as u64 - 1);
        assert!(over.is_err(), "{coding} gives more than its cap");
    }
    if matches!(coding, "gzip" | "zstd") {
        let twice = decode_body(&[coding], &encoded.repeat(2), piece, CAP);
        assert_eq!(twice.ok(), Some(body.repeat(2)), "two streams of {coding} in pieces of {piece}");
    }
}

fn encoded(choice: u8, body: &[u8]) -> (&'static str, Vec<u8>) {
    match choice % 4 {
        0 => {
            ("gzip", written(write::GzEncoder::new(Vec::new(), Compression::fast()), body).finish().expect("as before"))
        }
        1 => (
            "deflate",
            written(write::ZlibEncoder::new(Vec::new(), Compression::fast()), body).finish().expect("as before"),
        ),
        2 => ("br", written(brotli::CompressorWriter::new(Vec::new(), 4096, 2, 18), body).into_inner()),
        _ => ("zstd", zstd::bulk::compress(body, 1).expect("memory is enough")),
    }
}

fn written<W: Write>(mut encoder: W, body: &[u8]) -> W {
    encoder.write_all(body).expect("a vector takes everything");
    encoder
}

const CAP: u64 = 1 << 20;
