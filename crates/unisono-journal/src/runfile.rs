//! The run file beside the results: lock, and durable notes of what was started and must not be repeated.
//!
//! It is made of fixed records of 32 bytes, each with a checksum; the first is the header. A torn record at the end
//! was never promised to anybody and is ignored. The lock is `flock`'s, so it ends with the process, however it ends.
//! The file goes away when a run ends with nothing in doubt.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{RowKey, error::Error, error::Reason};

/// One request that was started, and must not be repeated by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) key: RowKey,
    pub(crate) fingerprint: u64,
}

#[derive(Debug)]
pub(crate) struct RunFile {
    pub(crate) path: PathBuf,
    file: File,
    /// Where the next record goes.
    end: u64,
    seed: u64,
}

impl RunFile {
    /// Locks the run file of these results, making it if needed, and reads what a run that was killed left in it.
    pub(crate) fn lock(results: &Path) -> Result<(Self, Vec<Started>), Error> {
        let path = run_path(results);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|error| Error::io(&path, "open", error))?;
            if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
                if error != rustix::io::Errno::WOULDBLOCK {
                    return Err(Error::io(&path, "lock", error.into()));
                }
                let pid = read_header(&file).map_or(0, |header| header.pid);
                return Err(Error::new(results, Reason::InUse { pid }));
            }
            // Whoever held the lock before may have removed the file in the meantime.
            if is_at(&file, &path) {
                return Self::take_over(path, file);
            }
        }
    }

    fn take_over(path: PathBuf, mut file: File) -> Result<(Self, Vec<Started>), Error> {
        let fail = |error| Error::io(&path, "read", error);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(fail)?;
        let header = Header::decode(&bytes);
        if header.is_none() && bytes.len() >= RECORD {
            return Err(Error::new(&path, Reason::NotOurs));
        }
        let seed = header.map_or_else(random_seed, |header| header.seed);
        let started: Vec<_> = match header {
            Some(_) => bytes[RECORD..].chunks_exact(RECORD).map_while(decode_started).collect(),
            None => Vec::new(),
        };
        let mut run = Self { path, file, end: 0, seed };
        run.rewrite(&started).map_err(|error| Error::io(&run.path, "write", error))?;
        Ok((run, started))
    }

    /// Makes the file say just this, by a new file that takes its place whole. The new one is locked before it is
    /// there, so that nobody can slip in between.
    pub(crate) fn rewrite(&mut self, started: &[Started]) -> io::Result<()> {
        let mut bytes = Header { pid: std::process::id(), seed: self.seed }.encode().to_vec();
        started.iter().for_each(|one| bytes.extend_from_slice(&encode_started(one)));
        let fresh = self.path.with_extension("run.new");
        let mut file =
            OpenOptions::new().write(true).read(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        sync_folder(&self.path)?;
        self.file = file;
        self.end = bytes.len() as u64;
        Ok(())
    }

    /// Makes these durable, all with one sync.
    pub(crate) fn note(&mut self, started: &[Started]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(started.len() * RECORD);
        started.iter().for_each(|one| bytes.extend_from_slice(&encode_started(one)));
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Sets room aside on the disk, to be given back by [`RunFile::give_back`] when it is needed most.
    pub(crate) fn reserve(&self, bytes: u64) {
        // Not every file system can: then a full disk loses the outcomes in flight, and their rows run again.
        let _ = rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, self.end, bytes);
    }

    pub(crate) fn give_back(&self) -> io::Result<()> {
        self.file.set_len(self.end + 1)?;
        self.file.set_len(self.end)
    }

    /// A number of this run and those that resume it, and of no other.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

pub(crate) fn run_path(results: &Path) -> PathBuf {
    let mut name = results.as_os_str().to_owned();
    name.push(".run");
    name.into()
}

/// Makes a rename or a removal in a file's folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[derive(Debug, Clone, Copy)]
struct Header {
    pid: u32,
    seed: u64,
}

impl Header {
    fn encode(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.pid.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.seed.to_le_bytes());
        seal(bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = unseal(bytes.get(..RECORD)?)?;
        bytes.starts_with(MAGIC).then(|| Self {
            pid: u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")),
            seed: u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes")),
        })
    }
}

fn encode_started(started: &Started) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&started.key.row.to_le_bytes());
    bytes[8..12].copy_from_slice(&started.key.page.to_le_bytes());
    bytes[12..20].copy_from_slice(&started.fingerprint.to_le_bytes());
    seal(bytes)
}

fn decode_started(bytes: &[u8]) -> Option<Started> {
    let bytes = unseal(bytes)?;
    Some(Started {
        key: RowKey {
            row: u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")),
            page: u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")),
        },
        fingerprint: u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes")),
    })
}

fn seal(mut bytes: [u8; RECORD]) -> [u8; RECORD] {
    let checksum = crc32fast::hash(&bytes[..RECORD - 4]);
    bytes[RECORD - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (inside, checksum) = bytes.split_at_checked(RECORD - 4)?;
    (crc32fast::hash(inside).to_le_bytes() == checksum).then_some(inside)
}

fn read_header(mut file: &File) -> Option<Header> {
    let mut bytes = [0; RECORD];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Header::decode(&bytes)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

const RECORD: usize = 32;
const MAGIC: &[u8; 8] = b"unisono1";

#[cfg(test)]
mod tests {
    use super::*;

    fn started(row: u64) -> Started {
        Started { key: RowKey { row, page: 0 }, fingerprint: row * 3 }
    }

    #[test]
    fn what_was_noted_is_found_after_a_cut_at_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("r.jsonl");
        let (mut run, found) = RunFile::lock(&results).unwrap();
        assert!(found.is_empty());
        run.note(&[started(1), started(2)]).unwrap();
        run.note(&[started(3)]).unwrap();
        let seed = run.seed();
        drop(run);
        let whole = std::fs::read(run_path(&results)).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(run_path(&results), &whole[..cut]).unwrap();
            let (run, found) = RunFile::lock(&results).unwrap();
            let rows: Vec<u64> = found.iter().map(|one| one.key.row).collect();
            assert_eq!(rows, (1..=3).take((cut / RECORD).saturating_sub(1)).collect::<Vec<_>>());
            assert!(cut < RECORD || run.seed() == seed);
        }
    }

    #[test]
    fn a_second_run_is_refused_with_the_process_id_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("r.jsonl");
        let (run, _) = RunFile::lock(&results).unwrap();
        let error = RunFile::lock(&results).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        run.remove().unwrap();
        assert!(RunFile::lock(&results).is_ok());
    }
}
