//! Manifests, read: any of the formats, told apart line by line.

use std::{borrow::Cow, collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::value::RawValue;
use unisono_hash::{Algorithm, Digest};

use super::tags;

/// What a manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Where it is, as it is written.
    pub path: PathBuf,
    /// What its digests should be; one at least.
    pub digests: Vec<Digest>,
    /// What its only digest is instead, where its length alone says what it is and fits two algorithms.
    pub alternative: Option<Digest>,
    /// How many bytes it should have.
    pub size: Option<u64>,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestLine {
    /// A file.
    Entry(ManifestEntry),
    /// A comment, a header, an empty line, or a result of ours without digest.
    Nothing,
    /// None of what we know, and why.
    Malformed(String),
}

/// Reads the lines of one manifest.
#[derive(Debug, Default)]
pub struct ManifestReader {
    /// What a bare digest is; by default what its length says.
    algorithm: Option<Algorithm>,
    /// Lines end with a zero byte.
    zero: bool,
    /// A line has been read.
    has_begun: bool,
    /// Whether one byte parts bare digests from names, once it is known. Never both in one manifest, as coreutils has
    /// it: a name that begins with a space must not be taken for another one's.
    is_one_space: Option<bool>,
    /// The columns of hashdeep's header, once it has been read.
    columns: Option<Vec<Column>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Size,
    Digest(Algorithm),
    /// A digest that we do not have.
    Other,
}

impl ManifestReader {
    /// A reader that takes a bare digest for this algorithm's.
    pub fn new(algorithm: Option<Algorithm>, zero: bool) -> Self {
        Self { algorithm, zero, ..Self::default() }
    }

    /// Reads one line, without the byte that ends it. Total: any bytes are an answer.
    pub fn line(&mut self, line: &[u8]) -> ManifestLine {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        // What editors of other systems put there.
        let line = if is_first { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        // Manifests that went through other systems; a name that ends so would have been escaped.
        let line = if self.zero { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        if line.is_empty() || line.starts_with(b"#") {
            return ManifestLine::Nothing;
        }
        if let Some(header) = line.strip_prefix(b"%%%%") {
            return self.header(header);
        }
        if line.starts_with(b"{") {
            return json(line);
        }
        if let Some(columns) = &self.columns {
            return hashdeep(line, columns);
        }
        let (line, is_escaped) = match line.strip_prefix(b"\\") {
            Some(rest) if !self.zero => (rest, true),
            _ => (line, false),
        };
        // White space before a digest is what some mail programs leave.
        let line = line.trim_ascii_start();
        let parsed = match tagged(line) {
            Some(tagged) => tagged.map(|(name, digest)| (name, digest, None)),
            None => self.bare(line),
        };
        let (name, digest, alternative) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => return ManifestLine::Malformed(why),
        };
        let name = if is_escaped { unescaped(name) } else { Some(name.into()) };
        match name {
            Some(name) => entry(name.into_owned(), vec![digest], alternative, None),
            None => ManifestLine::Malformed("its name has an escape that means nothing".to_owned()),
        }
    }

    /// `%%%% HASHDEEP-1.0` and `%%%% size,md5,sha256,filename`.
    fn header(&mut self, header: &[u8]) -> ManifestLine {
        let text = String::from_utf8_lossy(header);
        let text = text.trim();
        if text.starts_with("HASHDEEP-") {
            return ManifestLine::Nothing;
        }
        let mut names: Vec<&str> = text.split(',').collect();
        if names.pop() != Some("filename") {
            return ManifestLine::Malformed("the header's last column is not `filename`".to_owned());
        }
        let column = |name: &str| match name {
            "size" => Column::Size,
            name => name.parse().map_or(Column::Other, Column::Digest),
        };
        self.columns = Some(names.into_iter().map(column).collect());
        ManifestLine::Nothing
    }

    /// `<hex>  <name>`, `<hex> *<name>`, or, where the first line has it so, `<hex> <name>`.
    fn bare<'a>(&mut self, line: &'a [u8]) -> Result<(&'a [u8], Digest, Option<Digest>), String> {
        let no_entry = || "it is no digest with a name behind it".to_owned();
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).filter(|end| *end > 0).ok_or_else(no_entry)?;
        let (digits, rest) = (str::from_utf8(&line[..end]).expect("digits are ASCII"), &line[end..]);
        let Some((b' ' | b'\t', rest)) = rest.split_first() else { return Err(no_entry()) };
        let digests: Vec<Digest> = match self.algorithm {
            Some(algorithm) => vec![Digest::from_hex(algorithm, digits).map_err(|error| error.to_string())?],
            None => BY_LENGTH.iter().filter_map(|algorithm| Digest::from_hex(*algorithm, digits).ok()).collect(),
        };
        let digest = *digests.first().ok_or_else(|| unknown_length(digits.len()))?;
        let has_type = rest.len() > 1 && matches!(rest[0], b' ' | b'*');
        let name = match (has_type, self.is_one_space) {
            (true, None | Some(false)) => &rest[1..],
            (_, None | Some(true)) => rest,
            (false, Some(false)) => {
                return Err("one space parts its digest from its name, other lines have two".to_owned());
            }
        };
        self.is_one_space.get_or_insert(!has_type);
        Ok((name, digest, digests.get(1).copied()))
    }
}

/// Whether the lines of a manifest end with zero bytes, by its first [`HEAD_BYTES`] bytes.
pub fn is_zero_terminated(head: &[u8]) -> bool {
    memchr::memchr(0, head).is_some()
}

/// `SHA256 (<name>) = <hex>` or `SHA256(<name>)= <hex>`; `None` when it is nothing of the kind.
fn tagged(line: &[u8]) -> Option<Result<(&[u8], Digest), String>> {
    let end = line.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_/".contains(byte)))?;
    let (tag, rest) = line.split_at(end);
    let rest = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"(")?;
    // A name may hold the same characters; the digest after the last ones does not.
    let end = memchr::memrchr(b')', rest)?;
    let digits = rest[end + 1..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let digits = str::from_utf8(digits).ok()?;
    let tag = str::from_utf8(tag).expect("it is ASCII");
    let Some(algorithm) = Algorithm::ALL.into_iter().find(|algorithm| tags(*algorithm).contains(&tag)) else {
        return Some(Err(format!("it is a digest of `{tag}`, which unisono does not make")));
    };
    let digest = Digest::from_hex(algorithm, digits).map_err(|error| error.to_string());
    Some(digest.map(|digest| (&rest[..end], digest)))
}

/// Why nothing can be said of a bare digest.
fn unknown_length(digits: usize) -> String {
    let maybe = match digits {
        56 => " (SHA-224 has)",
        96 => " (SHA-384 has)",
        _ => "",
    };
    format!("its digest has {digits} hexadecimal digits, as none that unisono makes{maybe}")
}

fn hashdeep(line: &[u8], columns: &[Column]) -> ManifestLine {
    let fields: Vec<&[u8]> = line.splitn(columns.len() + 1, |byte| *byte == b',').collect();
    if fields.len() != columns.len() + 1 {
        return ManifestLine::Malformed(format!(
            "it has {} columns, the header has {}",
            fields.len(),
            columns.len() + 1
        ));
    }
    let (mut digests, mut size) = (Vec::new(), None);
    for (field, column) in fields.iter().zip(columns) {
        let text = std::str::from_utf8(field).unwrap_or("");
        match column {
            Column::Other => {}
            Column::Size => match text.parse() {
                Ok(number) => size = Some(number),
                Err(_) => return ManifestLine::Malformed("its size is no number".to_owned()),
            },
            Column::Digest(algorithm) => match Digest::from_hex(*algorithm, text) {
                Ok(digest) => digests.push(digest),
                Err(error) => return ManifestLine::Malformed(error.to_string()),
            },
        }
    }
    entry(fields[columns.len()].to_vec(), digests, None, size)
}

/// A line of `unisono sum --format jsonl`; one of a file that had no digest says nothing.
fn json(line: &[u8]) -> ManifestLine {
    // Members of no interest may be anything, even an object that serde_json would take for one of its own.
    let members: HashMap<String, &RawValue> = match serde_json::from_slice(line) {
        Ok(members) => members,
        Err(error) => return ManifestLine::Malformed(format!("it is not a JSON object: {error}")),
    };
    let text = |name: &str| members.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    if text("outcome").is_some_and(|outcome| outcome != "ok") {
        return ManifestLine::Nothing;
    }
    let path = match (text("path"), text("path_base64")) {
        (Some(path), _) => path.into_bytes(),
        (None, Some(coded)) => match BASE64_STANDARD.decode(coded) {
            Ok(path) => path,
            Err(_) => return ManifestLine::Malformed("`path_base64` is not base64".to_owned()),
        },
        (None, None) => return ManifestLine::Malformed("it has no `path`".to_owned()),
    };
    let mut digests = Vec::new();
    for algorithm in Algorithm::ALL {
        match text(algorithm.as_str()).map(|hex| Digest::from_hex(algorithm, &hex)) {
            None => {}
            Some(Ok(digest)) => digests.push(digest),
            Some(Err(error)) => return ManifestLine::Malformed(error.to_string()),
        }
    }
    entry(path, digests, None, members.get("size").and_then(|size| size.get().parse().ok()))
}

fn entry(name: Vec<u8>, digests: Vec<Digest>, alternative: Option<Digest>, size: Option<u64>) -> ManifestLine {
    if name.is_empty() || name.contains(&0) {
        return ManifestLine::Malformed("it has no name that a file can have".to_owned());
    }
    match digests.is_empty() {
        true => ManifestLine::Malformed("it has no digest of a kind that we know".to_owned()),
        false => ManifestLine::Entry(ManifestEntry {
            path: PathBuf::from(OsString::from_vec(name)),
            digests,
            alternative,
            size,
        }),
    }
}

fn unescaped(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut text = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(text.into())
}

/// Which algorithms a bare digest may be of, by its length: the first that fits is likelier than the second.
const BY_LENGTH: [Algorithm; 8] = [
    Algorithm::Sha256,
    Algorithm::Sha512,
    Algorithm::Sha1,
    Algorithm::Md5,
    Algorithm::Crc32c,
    Algorithm::Blake3,
    Algorithm::Blake2b,
    Algorithm::Xxh3_128,
];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// So many tell how lines end: more than the longest path with the longest digest and its name.
pub const HEAD_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStrExt, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Layout, push_entry};

    fn digest(algorithm: Algorithm, seed: u8) -> Digest {
        let hex: String = (0..algorithm.digest_length()).map(|at| format!("{:02x}", at as u8 ^ seed)).collect();
        Digest::from_hex(algorithm, &hex).unwrap()
    }

    fn path(bytes: &[u8]) -> PathBuf {
        PathBuf::from(OsString::from_vec(bytes.to_vec()))
    }

    /// Pieces of lines in any order: near enough to the formats that they get past the first look.
    fn line_like() -> impl Strategy<Value = Vec<u8>> {
        let pieces = [
            "\\",
            " ",
            "  ",
            " *",
            "\t",
            "SHA256",
            "SHA2-256",
            "BLAKE2b-512",
            "XXH128",
            "(",
            " (",
            ")",
            ") = ",
            ")= ",
            "\\n",
            "900150983cd24fb0d6963f7d28e17f72",
            "%%%% size,md5,filename",
            "%%%% HASHDEEP-1.0",
            "3,",
            ",",
            "#",
            "a",
            "\r",
            "{\"path\":\"a\",\"md5\":\"900150983cd24fb0d6963f7d28e17f72\"}",
            "{\"path_base64\":\"/w==\",",
            "\u{feff}",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "deadbeef",
            "\"size\":3}",
        ];
        let piece = prop_oneof![8 => prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
                                1 => prop::collection::vec(any::<u8>(), 0..4)];
        prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_whatever_the_name(
            name in prop::collection::vec(1u8.., 1..40), kind in 0usize..8, seed: u8, tag: bool, zero: bool,
        ) {
            let digest = digest(Algorithm::ALL[kind], seed);
            let mut line = Vec::new();
            push_entry(&path(&name), &digest, Layout { tag, zero }, &mut line);
            prop_assert_eq!(line.pop(), Some(if zero { 0 } else { b'\n' }));
            prop_assert!(zero || !line.contains(&b'\n'));
            let read = ManifestReader::new(Some(digest.algorithm()), zero).line(&line);
            let expected = ManifestEntry { path: path(&name), digests: vec![digest], alternative: None, size: None };
            prop_assert_eq!(read, ManifestLine::Entry(expected));
        }

        #[test]
        fn any_line_is_an_answer_and_an_entry_has_a_digest_and_a_name(
            lines in prop::collection::vec(line_like(), 0..6), zero: bool,
        ) {
            let mut reader = ManifestReader::new(None, zero);
            for line in lines {
                if let ManifestLine::Entry(entry) = reader.line(&line) {
                    let name = entry.path.as_os_str().as_bytes();
                    prop_assert!(!entry.digests.is_empty() && !name.is_empty() && !name.contains(&0));
                }
            }
        }
    }

    #[test]
    fn formats_are_told_apart_line_by_line() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let sha256 = Digest::from_hex(Algorithm::Sha256, hex).unwrap();
        let lines = [
            (format!("{hex}  a b"), "a b"),
            (format!("{hex} *a"), "a"),
            (format!("{hex}  a\r"), "a"),
            (format!("\\{hex}  a\\nb\\\\c\\r"), "a\nb\\c\r"),
            (format!("SHA256 (x) = y) = {hex}"), "x) = y"),
            (format!("\\SHA256 (a\\nb) = {hex}"), "a\nb"),
            (format!("  {}  a", hex.to_uppercase()), "a"),
            (format!("SHA256(a)= {hex}"), "a"),
            (format!("SHA2-256(a (b))= {hex}"), "a (b)"),
            (format!("\u{feff}{hex}  a"), "a"),
            (format!("{hex} a"), "a"),
            (format!("{hex}\ta b"), "a b"),
            (format!("{hex}\t a"), "a"),
            (format!("{{\"path\":\"a\",\"sha256\":\"{hex}\",\"outcome\":\"ok\"}}"), "a"),
            (format!("{{\"x\":{{\"$serde_json::private::RawValue\":[]}},\"path\":\"a\",\"sha256\":\"{hex}\"}}"), "a"),
        ];
        for (line, name) in lines {
            let ManifestLine::Entry(entry) = ManifestReader::default().line(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((entry.path.as_path(), entry.digests), (Path::new(name), vec![sha256]), "{line}");
        }
        let mut reader = ManifestReader::default();
        for line in
            ["%%%% HASHDEEP-1.0", "%%%% size,md5,sha256,whirlpool,filename", "## Invoked from: /", "## $ hashdeep"]
        {
            assert_eq!(reader.line(line.as_bytes()), ManifestLine::Nothing, "{line}");
        }
        let ManifestLine::Entry(entry) = reader.line(format!("3,{md5},{hex},00,/a,b").as_bytes()) else { panic!() };
        assert_eq!((entry.path.as_path(), entry.size, entry.digests.len()), (Path::new("/a,b"), Some(3), 2));
        assert!(matches!(reader.line(b"3,ab,/a"), ManifestLine::Malformed(_)));
    }

    #[test]
    fn one_space_before_a_name_holds_for_a_whole_manifest_or_not_at_all() {
        let hex = "900150983cd24fb0d6963f7d28e17f72";
        let names = |reader: &mut ManifestReader, lines: &[&str]| -> Vec<Option<PathBuf>> {
            let read = lines.iter().map(|rest| reader.line(format!("{hex}{rest}").as_bytes()));
            read.map(|line| if let ManifestLine::Entry(entry) = line { Some(entry.path) } else { None }).collect()
        };
        let some = |name: &str| Some(PathBuf::from(name));
        // As coreutils: what two spaces stand before in such a manifest is a name that begins with one.
        let read = names(&mut ManifestReader::default(), &[" a", "\tb", "  c", " *d"]);
        assert_eq!(read, [some("a"), some("b"), some(" c"), some("*d")]);
        let read = names(&mut ManifestReader::default(), &["  a", " b", " *c", "   d"]);
        assert_eq!(read, [some("a"), None, some("c"), some(" d")]);
    }

    #[test]
    fn a_digest_whose_length_fits_two_algorithms_has_both() {
        for (program, likely, other) in [
            ("sha256sum or b3sum", Algorithm::Sha256, Algorithm::Blake3),
            ("sha512sum or b2sum", Algorithm::Sha512, Algorithm::Blake2b),
            ("md5sum or xxh128sum", Algorithm::Md5, Algorithm::Xxh3_128),
        ] {
            let line = format!("{}  a", digest(likely, 7));
            let ManifestLine::Entry(entry) = ManifestReader::default().line(line.as_bytes()) else {
                panic!("{program}")
            };
            assert_eq!(
                (entry.digests, entry.alternative),
                (vec![digest(likely, 7)], Some(digest(other, 7))),
                "{program}"
            );
            // What is said decides.
            let ManifestLine::Entry(entry) = ManifestReader::new(Some(other), false).line(line.as_bytes()) else {
                panic!("{program}")
            };
            assert_eq!((entry.digests, entry.alternative), (vec![digest(other, 7)], None), "{program}");
        }
    }

    #[test]
    fn a_digest_that_we_do_not_make_is_named() {
        let says = |line: &str| match ManifestReader::default().line(line.as_bytes()) {
            ManifestLine::Malformed(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(
            says(&format!("{}  a", "0".repeat(96)))
                .contains("96 hexadecimal digits, as none that unisono makes (SHA-384")
        );
        assert!(
            says(&format!("SHA384 (a) = {}", "0".repeat(96)))
                .contains("a digest of `SHA384`, which unisono does not make")
        );
        assert!(says(&format!("BLAKE2b-256 (a) = {}", "0".repeat(64))).contains("`BLAKE2b-256`"));
        assert!(says("SHA256 (a) = 00").contains("64 hexadecimal digits, not 2"));
    }

    #[test]
    fn what_is_no_line_of_a_manifest_is_malformed_and_says_why() {
        let hex = "900150983cd24fb0d6963f7d28e17f72";
        for line in [
            "hello",
            "abc  name",
            &format!("{hex}x  a"),
            &format!("\\{hex}  a\\q"),
            hex,
            "{\"path\":1}",
            "MD5 (a) = zz",
        ] {
            assert!(matches!(ManifestReader::default().line(line.as_bytes()), ManifestLine::Malformed(_)), "{line}");
        }
        assert_eq!(ManifestReader::default().line(b"{\"path\":\"a\",\"outcome\":\"failed\"}"), ManifestLine::Nothing);
    }
}
