//! Decoders of bodies: any bytes under any codings are decoded or refused, within their cap; what real encoders made comes back.

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
    for (coding, encoded) in encoded(body) {
        let decoded = decode_body(&[coding], &encoded, piece, CAP);
        assert_eq!(decoded.as_deref().ok(), Some(body), "{coding} in pieces of {piece}");
        if !body.is_empty() {
            let cut = usize::from(*choice) % encoded.len();
            assert!(decode_body(&[coding], &encoded[..cut], piece, CAP).is_err() || cut == 0, "{coding} cut at {cut}");
        }
    }
}

fn encoded(body: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let mut gzip = write::GzEncoder::new(Vec::new(), Compression::fast());
    let mut deflate = write::ZlibEncoder::new(Vec::new(), Compression::fast());
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 2, 18);
    let written = gzip.write_all(body).and_then(|()| deflate.write_all(body)).and_then(|()| brotli.write_all(body));
    written.expect("a vector takes everything");
    [
        ("gzip", gzip.finish().expect("as before")),
        ("deflate", deflate.finish().expect("as before")),
        ("br", brotli.into_inner()),
        ("zstd", zstd::bulk::compress(body, 1).expect("memory is enough")),
    ]
}

const CAP: u64 = 1 << 20;
