//! A results file with any bytes in it: it is resumed or refused, and what is kept of it is what was there.

use std::{fs, path::Path};

use unisono_journal::{Finish, Journal, Mode, Open};

pub(crate) fn body(bytes: &[u8]) {
    // In memory where that is to be had: each run syncs its files a few times.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(parent).expect("a folder for temporary files");
    let path = folder.path().join("r.jsonl");
    fs::write(&path, bytes).expect("the folder takes a file");
    let open = Open { mode: Mode::Resume, reserve: 0, ..Open::default() };
    match Journal::open(&path, open) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(fs::read(&path).expect("it is still there"), bytes, "what is refused is left as it is");
        }
        Ok((journal, recovered)) => {
            let kept = recovered.counts().total();
            drop(journal.close_blocking(Finish::default()));
            let left = fs::read(&path).expect("it is still there");
            let lines = left.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert!(kept <= lines, "{kept} outcomes in {lines} lines");
            assert!(left.is_empty() || left.ends_with(b"\n"), "no line is left half");
        }
    }
}
