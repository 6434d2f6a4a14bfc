//! Manifests of anybody: any bytes are an answer, and what is read, written again in any layout, is read back the same.

use unisono_files::manifest::{HEAD, Layout, Line, Reader, is_zero_terminated, push_entry};

pub(crate) fn body(bytes: &[u8]) {
    let is_zero = is_zero_terminated(&bytes[..bytes.len().min(HEAD)]);
    let mut reader = Reader::new(None, is_zero);
    for line in bytes.split(|byte| *byte == if is_zero { 0 } else { b'\n' }) {
        let Line::Entry(entry) = reader.line(line) else { continue };
        assert!(!entry.digests.is_empty(), "an entry has a digest");
        for digest in entry.digests.iter().chain(&entry.alternative) {
            for (tag, zero) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut written = Vec::new();
                push_entry(&entry.path, digest, Layout { tag, zero }, &mut written);
                assert_eq!(written.pop(), Some(if zero { 0 } else { b'\n' }), "a line has its end");
                assert!(zero || !written.contains(&b'\n'), "and no other");
                let Line::Entry(again) = Reader::new(None, zero).line(&written) else {
                    panic!("{:?} is no entry", String::from_utf8_lossy(&written))
                };
                assert_eq!(again.path, entry.path);
                let is_there = again.digests.iter().chain(&again.alternative).any(|one| one == digest);
                assert!(is_there, "{:?} has another digest", String::from_utf8_lossy(&written));
            }
        }
    }
}
