//! Manifests of any origin: any bytes are an answer, and what is read, or any name, written in any layout, is read back
//! the same.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use unisono_files::manifest::{HEAD_BYTES, Layout, ManifestLine, ManifestReader, is_zero_terminated, push_entry};
use unisono_hash::{Algorithm, Digest};

pub(crate) fn body(bytes: &[u8]) {
    let is_zero = is_zero_terminated(&bytes[..bytes.len().min(HEAD_BYTES)]);
    let mut reader = ManifestReader::new(None, is_zero);
    for line in bytes.split(|byte| *byte == if is_zero { 0 } else { b'\n' }) {
        let ManifestLine::Entry(entry) = reader.line(line) else { continue };
        assert!(!entry.digests.is_empty(), "an entry has a digest");
        for digest in entry.digests.iter().chain(&entry.alternative) {
            reads_back(&entry.path, digest);
        }
    }
    let name: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    if !name.is_empty() {
        let algorithm = Algorithm::ALL[bytes.len() % Algorithm::ALL.len()];
        let digest = Digest::from_hex(algorithm, &"5a".repeat(algorithm.digest_length()));
        reads_back(Path::new(OsStr::from_bytes(&name)), &digest.expect("it has as many digits as it should"));
    }
}

fn reads_back(path: &Path, digest: &Digest) {
    for (tag, zero) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut written = Vec::new();
        push_entry(path, digest, Layout { tag, zero }, &mut written);
        assert_eq!(written.pop(), Some(if zero { 0 } else { b'\n' }), "a line has its end");
        assert!(zero || !written.contains(&b'\n'), "and no other");
        let ManifestLine::Entry(again) = ManifestReader::new(None, zero).line(&written) else {
            panic!("{:?} is no entry", String::from_utf8_lossy(&written))
        };
        assert_eq!(again.path, path);
        let is_there = again.digests.iter().chain(&again.alternative).any(|one| one == digest);
        assert!(is_there, "{:?} has another digest", String::from_utf8_lossy(&written));
    }
}
