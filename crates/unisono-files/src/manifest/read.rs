//! Manifests, read: any of the formats, told apart line by line.

use std::{borrow::Cow, ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use unisono_hash::{Algorithm, Digest};

use super::tag;

/// What a manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, as it is written.
    pub path: PathBuf,
    /// What its digests should be; one at least.
    pub digests: Vec<Digest>,
    /// How many bytes it should have.
    pub size: Option<u64>,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A file.
    Entry(Entry),
    /// A comment, a header, an empty line, or a result of ours without digest.
    Nothing,
    /// None of what we know, and why.
    Malformed(String),
}

/// Reads the lines of one manifest.
#[derive(Debug, Default)]
pub struct Reader {
    /// What a bare digest is; by default what its length says, SHA-256 before BLAKE3.
    algorithm: Option<Algorithm>,
    /// Lines end with a zero byte.
    zero: bool,
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

impl Reader {
    /// A reader that takes a bare digest for this algorithm's.
    pub fn new(algorithm: Option<Algorithm>, zero: bool) -> Self {
        Self { algorithm, zero, columns: None }
    }

    /// Reads one line, without the byte that ends it. Total: any bytes are an answer.
    pub fn line(&mut self, line: &[u8]) -> Line {
        // Manifests that went through other systems; a name that ends so would have been escaped.
        let line = if self.zero { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        if line.is_empty() || line.starts_with(b"#") {
            return Line::Nothing;
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
        let parsed = tagged(line).or_else(|| self.bare(line));
        let Some((name, digest)) = parsed else {
            return Line::Malformed("it is no digest with a name behind it".to_owned());
        };
        let name = if is_escaped { unescaped(name) } else { Some(name.into()) };
        match name {
            Some(name) => entry(name.into_owned(), vec![digest], None),
            None => Line::Malformed("its name has an escape that means nothing".to_owned()),
        }
    }

    /// `%%%% HASHDEEP-1.0` and `%%%% size,md5,sha256,filename`.
    fn header(&mut self, header: &[u8]) -> Line {
        let text = String::from_utf8_lossy(header);
        let text = text.trim();
        if text.starts_with("HASHDEEP-") {
            return Line::Nothing;
        }
        let mut names: Vec<&str> = text.split(',').collect();
        if names.pop() != Some("filename") {
            return Line::Malformed("the header's last column is not `filename`".to_owned());
        }
        let column = |name: &str| match name {
            "size" => Column::Size,
            name => name.parse().map_or(Column::Other, Column::Digest),
        };
        self.columns = Some(names.into_iter().map(column).collect());
        Line::Nothing
    }

    /// `<hex>  <name>` or `<hex> *<name>`.
    fn bare<'a>(&self, line: &'a [u8]) -> Option<(&'a [u8], Digest)> {
        let space = memchr::memchr(b' ', line)?;
        let (hex, name) = (std::str::from_utf8(&line[..space]).ok()?, &line[space + 1..]);
        let name = name.strip_prefix(b" ").or_else(|| name.strip_prefix(b"*"))?;
        let algorithms = self.algorithm.as_ref().map_or(BY_LENGTH, std::slice::from_ref);
        let digest = algorithms.iter().find_map(|algorithm| Digest::from_hex(*algorithm, hex).ok())?;
        Some((name, digest))
    }
}

/// `SHA256 (<name>) = <hex>`.
fn tagged(line: &[u8]) -> Option<(&[u8], Digest)> {
    let named = |algorithm: &Algorithm| line.strip_prefix(tag(*algorithm).as_bytes())?.strip_prefix(b" (");
    let (algorithm, rest) = Algorithm::ALL.iter().find_map(|algorithm| Some((*algorithm, named(algorithm)?)))?;
    // A name may hold the same characters; the digest after the last ones does not.
    let end = memchr::memmem::rfind(rest, b") = ")?;
    let hex = std::str::from_utf8(&rest[end + 4..]).ok()?;
    Some((&rest[..end], Digest::from_hex(algorithm, hex).ok()?))
}

fn hashdeep(line: &[u8], columns: &[Column]) -> Line {
    let fields: Vec<&[u8]> = line.splitn(columns.len() + 1, |byte| *byte == b',').collect();
    if fields.len() != columns.len() + 1 {
        return Line::Malformed(format!("it has {} columns, the header has {}", fields.len(), columns.len() + 1));
    }
    let (mut digests, mut size) = (Vec::new(), None);
    for (field, column) in fields.iter().zip(columns) {
        let text = std::str::from_utf8(field).unwrap_or("");
        match column {
            Column::Other => {}
            Column::Size => match text.parse() {
                Ok(number) => size = Some(number),
                Err(_) => return Line::Malformed("its size is no number".to_owned()),
            },
            Column::Digest(algorithm) => match Digest::from_hex(*algorithm, text) {
                Ok(digest) => digests.push(digest),
                Err(error) => return Line::Malformed(error.to_string()),
            },
        }
    }
    entry(fields[columns.len()].to_vec(), digests, size)
}

/// A line of `unisono sum --format jsonl`; one of a file that had no digest says nothing.
fn json(line: &[u8]) -> Line {
    let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(line) {
        Ok(object) => object,
        Err(error) => return Line::Malformed(format!("it is not a JSON object: {error}")),
    };
    let text = |name: &str| object.get(name).and_then(serde_json::Value::as_str);
    if text("outcome").is_some_and(|outcome| outcome != "ok") {
        return Line::Nothing;
    }
    let path = match (text("path"), text("path_base64")) {
        (Some(path), _) => path.as_bytes().to_vec(),
        (None, Some(coded)) => match BASE64_STANDARD.decode(coded) {
            Ok(path) => path,
            Err(_) => return Line::Malformed("`path_base64` is not base64".to_owned()),
        },
        (None, None) => return Line::Malformed("it has no `path`".to_owned()),
    };
    let mut digests = Vec::new();
    for algorithm in Algorithm::ALL {
        match text(algorithm.as_str()).map(|hex| Digest::from_hex(algorithm, hex)) {
            None => {}
            Some(Ok(digest)) => digests.push(digest),
            Some(Err(error)) => return Line::Malformed(error.to_string()),
        }
    }
    entry(path, digests, object.get("size").and_then(serde_json::Value::as_u64))
}

fn entry(name: Vec<u8>, digests: Vec<Digest>, size: Option<u64>) -> Line {
    if name.is_empty() || name.contains(&0) {
        return Line::Malformed("it has no name that a file can have".to_owned());
    }
    match digests.is_empty() {
        true => Line::Malformed("it has no digest of a kind that we know".to_owned()),
        false => Line::Entry(Entry { path: PathBuf::from(OsString::from_vec(name)), digests, size }),
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

/// Which algorithm a bare digest is taken for, by its length: the first that fits.
const BY_LENGTH: &[Algorithm] =
    &[Algorithm::Sha256, Algorithm::Sha512, Algorithm::Sha1, Algorithm::Md5, Algorithm::Crc32c];

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

    proptest! {
        #[test]
        fn what_is_written_is_read_back_whatever_the_name(
            name in prop::collection::vec(1u8.., 1..40), kind in 0usize..7, seed: u8, tag: bool, zero: bool,
        ) {
            let digest = digest(Algorithm::ALL[kind], seed);
            let mut line = Vec::new();
            push_entry(&path(&name), &digest, Layout { tag, zero }, &mut line);
            prop_assert_eq!(line.pop(), Some(if zero { 0 } else { b'\n' }));
            prop_assert!(zero || !line.contains(&b'\n'));
            let read = Reader::new(Some(digest.algorithm()), zero).line(&line);
            prop_assert_eq!(read, Line::Entry(Entry { path: path(&name), digests: vec![digest], size: None }));
        }

        #[test]
        fn any_bytes_are_an_answer(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let mut reader = Reader::default();
            for line in lines {
                if let Line::Entry(entry) = reader.line(&line) {
                    prop_assert!(!entry.digests.is_empty() && !entry.path.as_os_str().as_bytes().contains(&0));
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
            (format!("{{\"path\":\"a\",\"sha256\":\"{hex}\",\"outcome\":\"ok\"}}"), "a"),
        ];
        for (line, name) in lines {
            let Line::Entry(entry) = Reader::default().line(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((entry.path.as_path(), entry.digests), (Path::new(name), vec![sha256]), "{line}");
        }
        let mut reader = Reader::default();
        for line in
            ["%%%% HASHDEEP-1.0", "%%%% size,md5,sha256,whirlpool,filename", "## Invoked from: /", "## $ hashdeep"]
        {
            assert_eq!(reader.line(line.as_bytes()), Line::Nothing, "{line}");
        }
        let Line::Entry(entry) = reader.line(format!("3,{md5},{hex},00,/a,b").as_bytes()) else { panic!() };
        assert_eq!((entry.path.as_path(), entry.size, entry.digests.len()), (Path::new("/a,b"), Some(3), 2));
        assert!(matches!(reader.line(b"3,ab,/a"), Line::Malformed(_)));
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
            assert!(matches!(Reader::default().line(line.as_bytes()), Line::Malformed(_)), "{line}");
        }
        assert_eq!(Reader::default().line(b"{\"path\":\"a\",\"outcome\":\"failed\"}"), Line::Nothing);
    }
}
