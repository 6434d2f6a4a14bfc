//! Marks of files that were put in place, for a run that is killed between a file and its line.
//!
//! A mark goes to the log before its file gets its name, with one write and without a sync: what counts is that it
//! outlives the process. After a power failure it may be missing; then the file is taken for a foreign one, and its
//! row says so instead of replacing it.
//!
//! The log lies beside the results, as `NAME.SEED.saves`: the seed, which is in their run file, finds it under whatever
//! name they are resumed, and the name finds those of runs that came to their end and were killed before they could
//! take it away.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::paths::{folder, with_suffix};

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of these results, and reads what a run that was killed has left in it.
    pub(super) fn open(results: &Path, seed: u64, fresh: bool) -> io::Result<(Self, HashSet<u64>)> {
        // Where a link leads to, since that is where the results are.
        let results = std::fs::canonicalize(results)?;
        let path = with_suffix(&results, &format!(".{seed:016x}.saves"));
        tidy(&path, &results, seed)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let mut file = options.open(&path)?;
        if fresh {
            file.set_len(0)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A mark that was cut off belongs to a file that did not get its name; what follows is to be whole again.
        file.set_len((bytes.len() / 8 * 8) as u64)?;
        let marks =
            bytes.chunks_exact(8).map(|mark| u64::from_le_bytes(mark.try_into().expect("eight bytes"))).collect();
        Ok((Self { path, file }, marks))
    }

    pub(super) fn add(&self, mark: u64) -> io::Result<()> {
        (&self.file).write_all(&mark.to_le_bytes())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == 0)
    }

    pub(super) fn remove(&self) {
        // One that stays behind says nothing that is not true.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes over the log of this seed under another name, and takes away logs of other seeds under ours.
fn tidy(path: &Path, results: &Path, seed: u64) -> io::Result<()> {
    let (folder, name) = (folder(results), results.file_name().unwrap_or_default().as_bytes());
    let of_seed = format!(".{seed:016x}.saves");
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.file_name();
        let Some(stem) = found.as_bytes().strip_suffix(b".saves") else { continue };
        let Some((before, digits)) = stem.len().checked_sub(16).map(|at| stem.split_at(at)) else { continue };
        if !digits.iter().all(u8::is_ascii_hexdigit) || !entry.file_type()?.is_file() || entry.path() == path {
            continue;
        }
        if found.as_bytes().ends_with(of_seed.as_bytes()) {
            std::fs::rename(entry.path(), path)?;
        } else if before.strip_suffix(b".") == Some(name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_found_by_its_seed_and_those_of_other_runs_of_the_file_go() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["r.jsonl", "s.jsonl"] {
            std::fs::write(at(name), "").unwrap();
        }
        let (log, marks) = Log::open(&at("r.jsonl"), 7, false).unwrap();
        assert!(marks.is_empty());
        log.add(1).unwrap();
        log.add(2).unwrap();
        drop(log);
        std::fs::OpenOptions::new()
            .append(true)
            .open(at("r.jsonl.0000000000000007.saves"))
            .unwrap()
            .write_all(b"torn")
            .unwrap();
        std::fs::write(at("s.jsonl.0000000000000008.saves"), "").unwrap();
        std::fs::write(at("t.jsonl.0000000000000009.saves"), "another's").unwrap();
        let (log, marks) = Log::open(&at("s.jsonl"), 7, false).unwrap();
        assert_eq!(marks, HashSet::from([1, 2]));
        log.add(3).unwrap();
        drop(log);
        let (log, marks) = Log::open(&at("s.jsonl"), 7, false).unwrap();
        assert_eq!(marks, HashSet::from([1, 2, 3]));
        log.remove();
        let (_, marks) = Log::open(&at("s.jsonl"), 7, true).unwrap();
        assert!(marks.is_empty());
        assert!(at("t.jsonl.0000000000000009.saves").exists() && !at("s.jsonl.0000000000000008.saves").exists());
    }
}
