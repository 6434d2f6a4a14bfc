//! Manifests, written.

use std::{borrow::Cow, io::Write, os::unix::ffi::OsStrExt, path::Path};

use unisono_hash::{Algorithm, Digest};

use super::tags;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// As the BSDs have it, the algorithm named; XXH3 always is.
    pub tag: bool,
    /// Lines end with a zero byte, and names stand as they are.
    pub zero: bool,
}

/// Appends one line.
///
/// ```
/// use unisono_files::manifest::{Layout, push_entry};
/// use unisono_hash::{Algorithm, Digest};
/// let digest = Digest::from_hex(Algorithm::Md5, "d41d8cd98f00b204e9800998ecf8427e").unwrap();
/// let mut line = Vec::new();
/// push_entry("a\nb".as_ref(), &digest, Layout::default(), &mut line);
/// assert_eq!(line, b"\\d41d8cd98f00b204e9800998ecf8427e  a\\nb\n");
/// ```
pub fn push_entry(path: &Path, digest: &Digest, layout: Layout, into: &mut Vec<u8>) {
    let bytes = path.as_os_str().as_bytes();
    let name = if layout.zero { Cow::Borrowed(bytes) } else { escaped(bytes) };
    if matches!(name, Cow::Owned(_)) {
        into.push(b'\\');
    }
    // Writing to a vector cannot fail.
    // Bare, a digest of XXH3 would be taken for one of MD5, which is harder to forge.
    if layout.tag || digest.algorithm() == Algorithm::Xxh3_128 {
        let _ = write!(into, "{} (", tags(digest.algorithm())[0]);
        into.extend_from_slice(&name);
        let _ = write!(into, ") = {digest}");
    } else {
        let _ = write!(into, "{digest}  ");
        into.extend_from_slice(&name);
    }
    into.push(if layout.zero { 0 } else { b'\n' });
}

/// Appends a name as a check prints it: escaped, with a backslash before it, where that is needed.
pub fn push_name(path: &Path, into: &mut Vec<u8>) {
    let name = escaped(path.as_os_str().as_bytes());
    if matches!(name, Cow::Owned(_)) {
        into.push(b'\\');
    }
    into.extend_from_slice(&name);
}

fn escaped(name: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr3(b'\\', b'\n', b'\r', name).is_none() {
        return name.into();
    }
    let mut text = Vec::with_capacity(name.len() + 8);
    for byte in name {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            other => text.push(*other),
        }
    }
    text.into()
}
