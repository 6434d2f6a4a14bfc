use std::io::Write;

use proptest::prelude::*;

use super::*;

const CODINGS: [&str; 5] = ["gzip", "zlib", "raw", "br", "zstd"];

/// The name under which a body of this kind is sent.
fn name(kind: &str) -> &str {
    if matches!(kind, "zlib" | "raw") { "deflate" } else { kind }
}

fn encoded(kind: &str, level: u32, bytes: &[u8]) -> Vec<u8> {
    use flate2::{Compression, write};
    let level = Compression::new(level.min(9));
    match kind {
        "gzip" => finish(write::GzEncoder::new(Vec::new(), level), bytes, write::GzEncoder::finish),
        "zlib" => finish(write::ZlibEncoder::new(Vec::new(), level), bytes, write::ZlibEncoder::finish),
        "raw" => finish(write::DeflateEncoder::new(Vec::new(), level), bytes, write::DeflateEncoder::finish),
        "zstd" => zstd_encoded(bytes, level.level() as i32 * 2 + 1, 0),
        "br" => brotli_encoded(bytes, level.level(), 22, false),
        other => panic!("{other}"),
    }
}

fn finish<E: Write>(mut encoder: E, bytes: &[u8], end: impl Fn(E) -> io::Result<Vec<u8>>) -> Vec<u8> {
    encoder.write_all(bytes).unwrap();
    end(encoder).unwrap()
}

/// A stream, whose head says nothing of its length; `window` is a power of two, 0 for the level's own.
fn zstd_encoded(bytes: &[u8], level: i32, window: u32) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
    if window > 0 {
        encoder.window_log(window).unwrap();
    }
    encoder.include_checksum(level % 2 == 0).unwrap();
    finish(encoder, bytes, |encoder| encoder.finish())
}

fn brotli_encoded(bytes: &[u8], quality: u32, window: i32, large: bool) -> Vec<u8> {
    let parameters = ::brotli::enc::BrotliEncoderParams {
        quality: quality as i32,
        lgwin: window,
        large_window: large,
        ..Default::default()
    };
    let mut output = Vec::new();
    ::brotli::BrotliCompress(&mut &bytes[..], &mut output, &parameters).unwrap();
    output
}

fn decode(coding: &str, body: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
    decode_body(&[coding], body, piece, 1 << 30)
}

fn kind(result: Result<Vec<u8>, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// One decoder by itself, given so much at once and so much room at once.
fn decoded(kind: &str, body: &[u8], piece: usize, room: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut decoder: Box<dyn CodingDecoder> = match name(kind) {
        "gzip" => Box::new(gzip::Gzip::default()),
        "deflate" => Box::new(deflate::Deflate::default()),
        "br" => Box::new(brotli::Brotli::new(24)),
        _ => Box::new(zstd::Zstd::new(23).unwrap()),
    };
    let mut whole = Vec::new();
    for mut piece in body.chunks(piece) {
        while decoder.has_more() || !piece.is_empty() {
            let mut output = Vec::with_capacity(room);
            piece = &piece[decoder.step(piece, &mut output)?..];
            whole.extend_from_slice(&output);
        }
    }
    Ok((whole, decoder.is_whole()))
}

/// Compressible and not, so that blocks of all kinds come up.
fn texture(length: usize, kind: usize) -> Vec<u8> {
    let mut random = 0x9e37_79b9_u32;
    (0..length)
        .map(|at| match kind {
            0 => 0,
            1 => b"{\"name\": \"unisono\", \"n\": 1},\n"[at % 29],
            _ => {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            }
        })
        .collect()
}

#[test]
fn a_body_that_ends_at_the_border_of_a_block_is_whole_and_so_are_its_neighbours() {
    // Blocks of zstd, windows of deflate and brotli, stored blocks of deflate, our own pieces.
    let borders = [1usize << 10, 1 << 14, 1 << 15, 1 << 16, 65_535, 1 << 17, 3 << 17, 1 << 18, 1 << 20];
    let lengths = borders.iter().flat_map(|border| [border - 1, *border, border + 1]).chain([0, 1, 2]);
    for length in lengths {
        for content in 0..3 {
            let bytes = texture(length, content);
            for coding in CODINGS {
                let body = encoded(coding, 1, &bytes);
                for piece in [1460, 1 << 14, usize::MAX] {
                    let back = decode(name(coding), &body, piece).unwrap_or_else(|error| {
                        panic!("{coding} of {length} bytes, kind {content}, by {piece}: {}", error.chain())
                    });
                    assert!(back == bytes, "{coding} of {length} bytes, kind {content}, by {piece}");
                }
            }
        }
    }
}

#[test]
fn a_body_is_whole_however_input_and_output_are_cut() {
    for (length, content) in [(300, 1), (400, 2), (40_000, 0), (0, 0)] {
        let bytes = texture(length, content);
        for coding in CODINGS {
            let body = encoded(coding, 6, &bytes);
            for piece in (1..20).chain([31, 64, 100, body.len() - 1, body.len()]) {
                let piece = piece.max(1);
                for room in (1..20).chain([31, 64, length.max(2) - 1, length.max(1), length + 1]) {
                    let (back, is_whole) = decoded(coding, &body, piece, room).unwrap();
                    assert!(is_whole && back == bytes, "{coding} of {length}: {piece} in, {room} out");
                }
            }
        }
    }
}

#[test]
fn a_body_that_is_cut_anywhere_is_incomplete() {
    for content in 1..3 {
        let bytes = texture(700, content);
        for coding in CODINGS {
            let body = encoded(coding, 6, &bytes);
            for end in 1..body.len() {
                for piece in [1, usize::MAX] {
                    let got = kind(decode(name(coding), &body[..end], piece));
                    assert_eq!(got, Some(ErrorKind::IncompleteBody), "{coding}, {end} of {}", body.len());
                }
            }
        }
    }
    // A frame with a known length and a checksum, and a gzip head with everything in it.
    let mut frame = ::zstd::bulk::Compressor::new(3).unwrap();
    frame.include_checksum(true).unwrap();
    let frame = frame.compress(&texture(700, 1)).unwrap();
    for (coding, body) in [("zstd", frame), ("gzip", decorated(b"all of it"))] {
        assert!(decode(coding, &body, 3).is_ok());
        for end in 1..body.len() {
            assert_eq!(kind(decode(coding, &body[..end], 3)), Some(ErrorKind::IncompleteBody), "{coding} {end}");
        }
    }
}

/// A member with every optional part, its checksum of the head included.
fn decorated(bytes: &[u8]) -> Vec<u8> {
    let builder = flate2::GzBuilder::new().extra([7; 9]).filename("name").comment("comment").mtime(1);
    let mut member = finish(builder.write(Vec::new(), flate2::Compression::fast()), bytes, |encoder| encoder.finish());
    member[3] |= 2;
    let head = 10 + 2 + 9 + "name\0comment\0".len();
    let mut crc = flate2::Crc::new();
    crc.update(&member[..head]);
    member.splice(head..head, (crc.sum() as u16).to_le_bytes());
    member
}

#[test]
fn members_and_frames_one_after_the_other_are_one_body() {
    let skipped = [&0x184d_2a53_u32.to_le_bytes()[..], &5u32.to_le_bytes(), b"12345"].concat();
    let empty_skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &0u32.to_le_bytes()].concat();
    let zstd = |bytes: &[u8]| ::zstd::bulk::compress(bytes, 1).unwrap();
    let bodies = [
        ("gzip", [encoded("gzip", 1, b"one "), decorated(b""), decorated(b"two")].concat()),
        ("zstd", [zstd(b"one "), zstd(b""), zstd_encoded(b"two", 2, 0)].concat()),
        ("zstd", [skipped.clone(), zstd(b"one "), empty_skipped.clone(), zstd(b"two"), skipped].concat()),
    ];
    for (coding, body) in bodies {
        for piece in 1..=body.len() {
            assert_eq!(decode(coding, &body, piece).unwrap(), b"one two", "{coding} by {piece}");
        }
    }
    assert_eq!(decode("zstd", &empty_skipped, 3).unwrap(), b"", "a frame that is skipped is whole");
}

#[test]
fn zeros_after_the_end_are_padding_and_anything_else_is_an_error() {
    for coding in CODINGS {
        let body = encoded(coding, 1, b"the body");
        for piece in [1, 7, usize::MAX] {
            for zeros in [1, 7, 512, 70_000] {
                let padded = [&body[..], &vec![0; zeros]].concat();
                assert_eq!(decode(name(coding), &padded, piece).unwrap(), b"the body", "{coding} and {zeros} zeros");
            }
            for rest in [&b"garbage"[..], b"\0\0\0\0\0garbage", b"<html>"] {
                let followed = [&body[..], rest].concat();
                assert_eq!(kind(decode(name(coding), &followed, piece)), Some(ErrorKind::Decode), "{coding} {rest:?}");
            }
        }
    }
    let again = [encoded("gzip", 1, b"one "), vec![0; 9], encoded("gzip", 1, b"two")].concat();
    assert_eq!(decode("gzip", &again, 5).unwrap(), b"one two");
    let with_checksum = [encoded("raw", 1, b"bare"), vec![1, 2, 3, 4]].concat();
    assert_eq!(decode("deflate", &with_checksum, 3).unwrap(), b"bare", "as some servers send it");
}

#[test]
fn a_wrong_checksum_or_length_is_damage_and_not_a_missing_end() {
    let gzip = encoded("gzip", 1, b"the body");
    for at in gzip.len() - 8..gzip.len() {
        let mut damaged = gzip.clone();
        damaged[at] ^= 1;
        assert_eq!(kind(decode("gzip", &damaged, 5)), Some(ErrorKind::Decode), "{at}");
    }
    let mut head = decorated(b"the body");
    head[12] ^= 1;
    assert_eq!(kind(decode("gzip", &head, 5)), Some(ErrorKind::Decode));
    let mut zlib = encoded("zlib", 1, b"the body");
    *zlib.last_mut().unwrap() ^= 1;
    assert_eq!(kind(decode("deflate", &zlib, 5)), Some(ErrorKind::Decode));
}

#[test]
fn codings_are_decoded_in_the_opposite_order_of_their_making() {
    let text = texture(300_000, 1);
    let mut body = text.clone();
    for coding in ["gzip", "br", "zstd", "deflate", "gzip"] {
        body = encoded(if coding == "deflate" { "zlib" } else { coding }, 3, &body);
    }
    for lines in [&["gzip, br, zstd, deflate, gzip"][..], &["gzip", "br, zstd", "", "deflate,gzip"]] {
        assert!(decode_body(lines, &body, 1000, 1 << 30).unwrap() == text);
    }
    for end in [1, body.len() / 2, body.len() - 1] {
        let got = kind(decode_body(&["gzip, br, zstd, deflate, gzip"], &body[..end], 1000, 1 << 30));
        assert_eq!(got, Some(ErrorKind::IncompleteBody));
    }
}

#[test]
fn more_than_five_codings_are_refused_before_anything_is_made_of_the_body() {
    let long = "gzip,".repeat(12_000);
    for lines in [&[&*long][..], &["gzip"; 6], &["identity, x, y", "gzip, br", "zstd"], &["identity"; 6]] {
        let error = decode_body(lines, b"\x1f\x8b\x08", 3, 100).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Decode, "the body has more than 5 content codings".into())
        );
        assert_eq!(decode_body(lines, b"", 1, 100).unwrap(), b"", "there is nothing to decode");
    }
}

#[test]
fn nothing_is_made_before_the_first_byte() {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("zstd, br, gzip"));
    let mut decoder = Decoder::new(&headers, true, 100);
    assert!(decoder.stages().is_empty() && !decoder.is_identity());
    decoder.feed(Bytes::from_static(b"\x1f")).unwrap();
    assert_eq!(decoder.stages().len(), 3);
}

#[test]
fn a_bomb_is_cut_at_the_cap_wherever_it_goes_off() {
    let zeros = vec![0; 1 << 20];
    for coding in CODINGS {
        let body = encoded(coding, 6, &zeros);
        assert_eq!(kind(decode_body(&[name(coding)], &body, 100, 1 << 16)), Some(ErrorKind::TooLarge), "{coding}");
        // What lies within comes to nothing, but there is a lot of it.
        let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &(1u32 << 20).to_le_bytes(), &zeros].concat();
        let body = encoded(coding, 6, &skipped);
        let lines = format!("zstd, {}", name(coding));
        assert_eq!(kind(decode_body(&[&lines], &body, 100, 1 << 16)), Some(ErrorKind::TooLarge), "{coding}");
    }
    assert_eq!(kind(decode_body(&["foo"], &[0; 20], 100, 10)), Some(ErrorKind::TooLarge));
    assert_eq!(decode_body(&["foo"], b"as is", 2, 100).unwrap(), b"as is");
}

#[test]
fn a_step_takes_and_makes_no_more_than_a_piece() {
    let body = encoded("gzip", 9, &vec![0; 64 << 20]);
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    let mut decoder = Decoder::new(&headers, true, u64::MAX);
    decoder.feed(body.into()).unwrap();
    let (mut steps, mut total) = (0, 0);
    loop {
        match decoder.step().unwrap() {
            Decoded::Output(bytes) => {
                assert!(bytes.len() <= PIECE_BYTES);
                total += bytes.len();
            }
            Decoded::Nothing => {}
            Decoded::NeedsInput => break,
        }
        steps += 1;
    }
    assert!(total == 64 << 20 && steps >= total / PIECE_BYTES);
}

#[test]
fn windows_are_as_large_as_http_allows_and_smaller_where_there_are_many() {
    let text = texture(9 << 20, 1);
    let zstd = |window| zstd_encoded(&text, 1, window);
    let brotli = |window| brotli_encoded(&text, 2, window, window > 24);
    assert!(decode("zstd", &zstd(23), 1 << 16).unwrap() == text);
    assert_eq!(kind(decode("zstd", &zstd(24), 1 << 16)), Some(ErrorKind::Decode));
    assert!(decode("br", &brotli(24), 1 << 16).unwrap() == text);
    assert_eq!(kind(decode("br", &brotli(26), 1 << 16)), Some(ErrorKind::Decode));
    for (window, is_fine) in [(23, true), (24, false)] {
        let body = encoded("gzip", 1, &encoded("gzip", 1, &brotli(window)));
        assert_eq!(kind(decode("br, gzip, gzip", &body, 1 << 16)), (!is_fine).then_some(ErrorKind::Decode), "{window}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_an_encoder_makes_comes_back_however_it_is_cut(
        seeds in prop::collection::vec((any::<u8>(), 1usize..3000), 0..40),
        noise in prop::collection::vec(any::<u8>(), 0..300),
        kinds in prop::collection::vec(prop::sample::select(CODINGS.to_vec()), 1..4),
        level in 0u32..10, piece in 1usize..5000, cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes: Vec<u8> = seeds.iter().flat_map(|(byte, times)| std::iter::repeat_n(*byte, *times)).collect();
        bytes.extend(noise);
        let body = kinds.iter().fold(bytes.clone(), |body, kind| encoded(kind, level, &body));
        let names: Vec<&str> = kinds.iter().map(|kind| name(kind)).collect();
        prop_assert!(decode_body(&names, &body, piece, 1 << 24).unwrap() == bytes);
        let end = cut.index(body.len());
        if end > 0 {
            let got = kind(decode_body(&names, &body[..end], piece, 1 << 24));
            prop_assert_eq!(got, Some(ErrorKind::IncompleteBody), "{} of {}", end, body.len());
        }
    }

    #[test]
    fn any_bytes_are_a_body_or_an_error(
        start in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08\x1f", b"\x28\xb5\x2f\xfd", b"\x78\x9c", b"\x0b"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50,
        lines in prop::collection::vec("(gzip|br|zstd|deflate|identity|x|, ?){0,4}", 0..3),
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let body = [start, &bytes].concat();
        if let Ok(decoded) = decode_body(&lines, &body, piece, 1 << 16) {
            prop_assert!(decoded.len() <= 1 << 16);
        }
    }
}
