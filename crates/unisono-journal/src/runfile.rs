//! The run file beside the results: durable notes of what was started and must not be repeated.
//!
//! It belongs to a results file and not to a name: its header holds the id of the run, which the results file's first line
//! holds as well, and which file that is (device and inode; two inodes while the results file is being replaced by a new
//! one, since a kill may come before or after the rename). So it is found again when the results file has another name,
//! and a copy of the results file is told from the file itself.
//!
//! A header of 64 bytes is followed by fixed records of 40 bytes, each with a checksum. A torn record at the end was never
//! promised to anybody and is ignored. The file is locked (`flock`) as long as its run lives. It goes away when a run ends
//! with nothing in doubt.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    RowKey,
    error::{Error, Reason},
    place::{self, Inode, Locked},
    steps::step,
};

/// One request that was started, and must not be repeated by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) key: RowKey,
    pub(crate) fingerprint: u64,
    /// The hash of its id.
    pub(crate) id: u64,
    /// It has a line of an earlier run: only a second one says how it ended this time.
    pub(crate) has_line: bool,
}

/// What a run file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The id of its run, and of those that resume it.
    pub(crate) run: u64,
    /// The results file.
    pub(crate) results: Inode,
    /// The number of the inode that is about to take its place; 0 for none.
    pub(crate) successor: u64,
    /// Notes were lost: what has no line may have been started.
    pub(crate) is_unsure: bool,
    /// Rows that had a line were to run again: the results may have two lines of them, of which the later counts.
    pub(crate) may_replace: bool,
}

/// A run file whose lock is ours.
#[derive(Debug)]
pub(crate) struct RunFile {
    pub(crate) path: PathBuf,
    file: Locked,
    /// Where the next record goes.
    end: u64,
    pub(crate) header: Header,
}

/// What is found where a run file may be.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// Made by a run that was killed before it had said anything.
    Empty(Locked),
    Ours(RunFile, Vec<Started>),
    /// Its run lives.
    Locked {
        pid: Option<u32>,
    },
}

impl RunFile {
    /// Looks at what has this name, and locks it if it is a run file.
    pub(crate) fn find(path: &Path) -> Result<Found, Error> {
        let fail = |error| Error::io(path, "open", error);
        loop {
            let mut file = match place::open(path, false) {
                Ok(file) => Locked(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
                Err(error) => return Err(fail(error)),
            };
            if !file.metadata().map_err(fail)?.is_file() {
                return Err(Error::new(path, Reason::NotOurs));
            }
            if !place::try_lock(&file).map_err(|error| Error::io(path, "lock", error))? {
                return Ok(Found::Locked { pid: Header::read(&file).map(|(_, pid)| pid) });
            }
            // Whoever held the lock before may have removed or replaced the file in the meantime.
            if !place::is_at(&file, path) {
                continue;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|error| Error::io(path, "read", error))?;
            let Some((header, _)) = Header::decode(&bytes) else {
                return match bytes.len() < HEADER {
                    true => Ok(Found::Empty(file)),
                    false => Err(Error::new(path, Reason::NotOurs)),
                };
            };
            let started: Vec<_> = bytes[HEADER..].chunks_exact(RECORD).map_while(decode_started).collect();
            // A note that was cut short was never promised; one that cannot be read before others was, and would be forgotten.
            if bytes[HEADER..].chunks_exact(RECORD).skip(started.len()).any(|record| decode_started(record).is_some()) {
                return Err(Error::new(path, Reason::Notes { number: started.len() as u64 + 1 }));
            }
            let end = (HEADER + started.len() * RECORD) as u64;
            return Ok(Found::Ours(Self { path: path.to_owned(), file, end, header }, started));
        }
    }

    /// Makes one where there is none.
    pub(crate) fn create(path: &Path, header: Header) -> io::Result<Self> {
        step("run file: make");
        let file = Locked(place::open(path, true)?);
        // Locked before it says anything: whoever opens it meanwhile finds it locked, or empty.
        if !place::try_lock(&file)? {
            return Err(rustix::io::Errno::WOULDBLOCK.into());
        }
        Self::fill(path, file, header)
    }

    /// Says in a file that was made by a killed run, and that is locked, what that had not come to say.
    pub(crate) fn fill(path: &Path, mut file: Locked, header: Header) -> io::Result<Self> {
        step("run file: say whose it is");
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.encode())?;
        step("run file: sync");
        file.sync_all()?;
        place::sync_folder(path)?;
        Ok(Self { path: path.to_owned(), file, end: HEADER as u64, header })
    }

    /// Makes the file say just this, by a new file that takes its place whole. The new one is locked before it is
    /// there, so that nobody can slip in between.
    pub(crate) fn rewrite(&mut self, header: Header, started: &[Started]) -> io::Result<()> {
        step("run file: make a new one");
        // Under the id that the file has now: by that the next run knows what a killed one has left.
        let mut fresh = place::beside(&self.path, self.header.run, 0o600)?;
        let mut bytes = header.encode().to_vec();
        started.iter().for_each(|one| bytes.extend_from_slice(&encode_started(one)));
        fresh.write_all(&bytes)?;
        fresh.as_file().sync_all()?;
        step("run file: rename");
        self.file = place::put(fresh, &self.path)?;
        self.end = bytes.len() as u64;
        self.header = header;
        Ok(())
    }

    /// Changes the header in place. It lies within one sector, so nobody finds half of it.
    pub(crate) fn set_header(&mut self, header: Header) -> io::Result<()> {
        if header != self.header {
            step("run file: change its header");
            self.file.write_all_at(&header.encode(), 0)?;
            self.file.sync_data()?;
            self.header = header;
        }
        Ok(())
    }

    /// Makes these durable, all with one sync.
    pub(crate) fn note(&mut self, started: &[Started]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(started.len() * RECORD);
        started.iter().for_each(|one| bytes.extend_from_slice(&encode_started(one)));
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Sets room aside on the disk, to be given back by [`RunFile::give_back`] when it is needed most.
    pub(crate) fn reserve(&self, bytes: u64) {
        // Not every file system can: then a full disk loses the outcomes in flight, and their rows run again.
        let _ = rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::KEEP_SIZE, self.end, bytes);
    }

    pub(crate) fn give_back(&self) -> io::Result<()> {
        self.file.set_len(self.end + 1)?;
        self.file.set_len(self.end)
    }

    /// Gives it another name, if that is free.
    pub(crate) fn move_to(&mut self, path: &Path) -> io::Result<()> {
        step("run file: move");
        place::move_to(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// Removes it, unless somebody has put something else in its place.
    pub(crate) fn remove(self) -> io::Result<()> {
        match place::is_at(&self.file, &self.path) {
            true => std::fs::remove_file(&self.path),
            false => Ok(()),
        }
    }
}

impl Header {
    /// Whether it is that of the results file which is this inode and whose first line, if there is one, names this run.
    pub(crate) fn is_of(&self, inode: Inode, run: Option<u64>) -> bool {
        if inode.number != self.results.number && inode.number != self.successor {
            return false;
        }
        match run {
            // The number of a device changes when the machine starts anew, with logical volumes for example; the id and the
            // inode do not.
            Some(run) => run == self.run,
            None => inode.device == self.results.device,
        }
    }

    fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.run.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.results.device.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.results.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.successor.to_le_bytes());
        bytes[40..44].copy_from_slice(&std::process::id().to_le_bytes());
        bytes[44] = u8::from(self.is_unsure);
        bytes[45] = u8::from(self.may_replace);
        seal(bytes)
    }

    /// Also the process that wrote it.
    fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let bytes = unseal(bytes.get(..HEADER)?)?;
        bytes.starts_with(MAGIC).then_some(())?;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let header = Self {
            run: number(8),
            results: Inode { device: number(16), number: number(24) },
            successor: number(32),
            is_unsure: bytes[44] != 0,
            may_replace: bytes[45] != 0,
        };
        Some((header, u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes"))))
    }

    /// That of a file which may be locked by another process.
    pub(crate) fn read(file: &File) -> Option<(Self, u32)> {
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::decode(&bytes)
    }
}

pub(crate) fn run_path(results: &Path) -> PathBuf {
    let mut name = results.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// The id of a new run.
pub(crate) fn random_run() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn encode_started(started: &Started) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&started.key.row.to_le_bytes());
    bytes[8..12].copy_from_slice(&started.key.page.to_le_bytes());
    bytes[12..20].copy_from_slice(&started.fingerprint.to_le_bytes());
    bytes[20] = u8::from(started.has_line);
    bytes[24..32].copy_from_slice(&started.id.to_le_bytes());
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
        id: u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes")),
        has_line: bytes[20] != 0,
    })
}

fn seal<const LENGTH: usize>(mut bytes: [u8; LENGTH]) -> [u8; LENGTH] {
    let checksum = crc32fast::hash(&bytes[..LENGTH - 4]);
    bytes[LENGTH - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (inside, checksum) = bytes.split_at_checked(bytes.len() - 4)?;
    (crc32fast::hash(inside).to_le_bytes() == checksum).then_some(inside)
}

/// What the name of a run file ends with.
pub(crate) const SUFFIX: &str = ".run";
const HEADER: usize = 64;
const RECORD: usize = 40;
const MAGIC: &[u8; 8] = b"unisono3";

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_OF_TEST: Header =
        Header { run: 7, results: Inode { device: 1, number: 2 }, successor: 0, is_unsure: false, may_replace: true };

    fn started(row: u64) -> Started {
        Started { key: RowKey { row, page: 0 }, fingerprint: row * 3, id: row * 5, has_line: row.is_multiple_of(2) }
    }

    #[test]
    fn what_was_noted_is_found_after_a_cut_at_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl.run");
        let mut run = RunFile::create(&path, HEADER_OF_TEST).unwrap();
        run.note(&[started(1), started(2)]).unwrap();
        run.note(&[started(3)]).unwrap();
        drop(run);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            match RunFile::find(&path).unwrap() {
                Found::Empty(_) => assert!(cut < HEADER),
                Found::Ours(run, found) => {
                    assert_eq!(found, (1..=3).map(started).take((cut - HEADER) / RECORD).collect::<Vec<_>>());
                    assert_eq!(run.header, HEADER_OF_TEST);
                }
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_second_run_is_told_the_process_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl.run");
        let run = RunFile::create(&path, HEADER_OF_TEST).unwrap();
        let found = RunFile::find(&path).unwrap();
        assert!(matches!(found, Found::Locked { pid: Some(pid) } if pid == std::process::id()), "{found:?}");
        run.remove().unwrap();
        assert!(matches!(RunFile::find(&path).unwrap(), Found::Nothing));
    }

    #[test]
    fn what_is_no_run_file_is_neither_followed_nor_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl.run");
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(RunFile::find(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x".repeat(100)).unwrap();
        assert!(RunFile::find(&path).unwrap_err().to_string().contains("is not"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 100);
    }
}
