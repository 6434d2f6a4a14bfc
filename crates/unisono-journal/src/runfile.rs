//! The run file beside the results: durable notes of what was started and may have taken effect.
//!
//! A note says in which way its work may be repeated as well, since the next run may start it otherwise.
//!
//! It belongs to a results file and not to a name: its header holds the id of the run, which the results file's first
//! line holds as well, and which file that is (device and inode; two inodes while the results file is being replaced by
//! a new one, since a kill may come before or after the rename). So it is found again when the results file has another
//! name, and a copy of the results file is told from the file itself.
//!
//! A header of 64 bytes, the count of the notes that were promised (16 bytes), and records of 48 bytes and the row's
//! id, each with a checksum that holds for its run and its place alone. A note is promised when it is synced and
//! counted; only then does what it is of start. So a file that does not have all that it counts was cut or damaged, and
//! is not believed; what follows them is the torn write of a killed run, of which nothing had started. The count is not
//! synced by itself: after a power cut it may be that of the sync before, and what it does not count is taken as far as
//! it can be read.
//!
//! A row that could be repeated may stand elsewhere in the next input. Its note is adrift then: whose it is now a
//! further record says, by the number of that note, before there is a line for it. So no line of another row in the old
//! place decides it.
//!
//! The file is locked (`flock`) as long as its run lives. It goes away when a run ends with nothing in doubt.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    Repeat, RowKey,
    error::{Damage, Error, Reason},
    line::hash_of,
    place::{self, Inode, Locked},
    steps::step,
};

/// One piece of work that was started and may have taken effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) key: RowKey,
    pub(crate) fingerprint: u64,
    /// The hash of its id, if it has one of its own.
    pub(crate) own_id: Option<u64>,
    /// Its id, if it has one of its own that is no longer than [`MOST_ID_BYTES`].
    pub(crate) id_text: Option<Box<str>>,
    /// It has a line of an earlier run: only a second one says how it ended this time.
    pub(crate) has_line: bool,
    /// In which way it may be repeated: only what starts in the same way may follow it.
    pub(crate) repeat: Repeat,
    /// Where it stands.
    pub(crate) standing: Standing,
}

/// What the number of a note's row is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is that of the row: a line with it decides the note.
    Firm,
    /// It is that of an earlier input. The row may stand anywhere now.
    Adrift,
    /// It is that of the row which the adrift note with this number, from 0, was of.
    Found(u32),
}

impl Started {
    /// Of a row with this id, or with none of its own.
    pub(crate) fn new(key: RowKey, id: Option<&str>, fingerprint: u64, repeat: Repeat) -> Self {
        Self {
            key,
            fingerprint,
            own_id: id.map(hash_of),
            id_text: id.filter(|id| id.len() <= MOST_ID_BYTES).map(Into::into),
            has_line: false,
            repeat,
            standing: Standing::Firm,
        }
    }

    /// The hash of what it is called.
    pub(crate) fn id(&self) -> u64 {
        self.own_id.unwrap_or_else(|| hash_of(&self.number()))
    }

    /// What it is called, where the note says so.
    pub(crate) fn name(&self) -> Option<String> {
        // A row without an id may have been given its number for one since.
        let by_number = || Some(self.number()).filter(|name| hash_of(name) == self.id());
        self.id_text.as_deref().map(str::to_owned).or_else(by_number)
    }

    fn number(&self) -> String {
        format!("r{}", self.key.row)
    }

    /// In the order of rows, and those of one row and what it asks for side by side, in the order of their pages.
    pub(crate) fn order(&self) -> impl Ord + use<> {
        (self.key.row, self.fingerprint, self.standing == Standing::Adrift, self.repeat.twin(), self.key.page)
    }

    /// Whether the other, which is the next in that order, is the note of a later page of the same row: the line of
    /// this page is lost, and a run that does it again does those after it.
    pub(crate) fn goes_on_with(&self, next: &Self) -> bool {
        let of = |one: &Self| (one.key.row, one.fingerprint, one.standing == Standing::Adrift, one.repeat.twin());
        of(self) == of(next) && self.key.page < next.key.page
    }

    /// Takes in another note of the same: what was killed twice may follow neither attempt where they differ.
    pub(crate) fn join(&mut self, other: &Self) {
        self.has_line |= other.has_line;
        self.repeat = self.repeat.join(other.repeat);
    }
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
    /// The results are at least this long: there are no notes any more of what has a line up to here.
    pub(crate) length: u64,
    /// By which rule the fingerprints are made, as the first line of the results says, which may be cut; 0 where an
    /// older version has not said it.
    pub(crate) version: u8,
}

/// A run file whose lock is ours.
#[derive(Debug)]
pub(crate) struct RunFile {
    pub(crate) path: PathBuf,
    file: Locked,
    /// How many notes it promises.
    count: u64,
    /// Where the next one goes.
    end: u64,
    /// Up to where the disk has room for this file that is set aside.
    room_to: u64,
    pub(crate) header: Header,
}

/// What is found where a run file may be.
#[derive(Debug)]
pub(crate) enum RunFileState {
    Nothing,
    /// Made by a run that was killed before it had said anything.
    Empty(Locked),
    /// A run that goes on with it makes it anew, without what is torn.
    Ours(RunFile, Vec<Started>),
    /// Something of what it has promised is gone.
    Damaged(Locked, Damage),
    /// Its run lives.
    Locked {
        pid: Option<u32>,
    },
}

impl RunFile {
    /// Looks at what has this name, and locks it if it is a run file.
    pub(crate) fn find(path: &Path) -> Result<RunFileState, Error> {
        let fail = |error| Error::io(path, "open", error);
        loop {
            let mut file = match place::open(path, false) {
                Ok(file) => Locked(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RunFileState::Nothing),
                Err(error) => return Err(fail(error)),
            };
            if !file.metadata().map_err(fail)?.is_file() {
                return Err(Error::new(path, Reason::NotOurs));
            }
            if !place::try_lock(&file).map_err(|error| Error::io(path, "lock", error))? {
                return Ok(RunFileState::Locked { pid: Header::read(&file).map(|(_, pid)| pid) });
            }
            // The holder of the lock before us may have removed or replaced the file in the meantime.
            if !place::is_at(&file, path) {
                continue;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|error| Error::io(path, "read", error))?;
            return match read(&bytes) {
                Ok(Contents { header, count, end, started }) => Ok(RunFileState::Ours(
                    Self { path: path.to_owned(), file, count, end, room_to: end, header },
                    started,
                )),
                // One write makes the beginning: a kill leaves nothing of it, and a power cut may leave a hole.
                Err(_) if bytes.len() <= RECORDS && bytes.iter().all(|byte| *byte == 0) => {
                    Ok(RunFileState::Empty(file))
                }
                Err(damage) if MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) => {
                    Ok(RunFileState::Damaged(file, damage))
                }
                Err(_) if bytes.starts_with(&MAGIC[..MAGIC.len() - 1]) => {
                    Ok(RunFileState::Damaged(file, Damage::Version))
                }
                Err(_) => Err(Error::new(path, Reason::NoRunFile)),
            };
        }
    }

    /// Makes one where there is none.
    pub(crate) fn create(path: &Path, header: Header) -> io::Result<Self> {
        step("run file: make")?;
        let file = Locked(place::open(path, true)?);
        // Locked before it says anything: another run that opens it meanwhile finds it locked, or empty.
        if !place::try_lock(&file)? {
            return Err(Errno::WOULDBLOCK.into());
        }
        Self::fill(path, file, header)
    }

    /// Says in a file that was made by a killed run, and that is locked, what that had not come to say.
    pub(crate) fn fill(path: &Path, file: Locked, header: Header) -> io::Result<Self> {
        let fill = || {
            step("run file: say whose it is")?;
            file.set_len(0)?;
            file.write_all_at(&contents(header, &[]), 0)?;
            step("run file: sync")?;
            file.sync_all()?;
            place::sync_folder(path)
        };
        if let Err(error) = fill() {
            // Half of what it says would be taken for damage, and there is nothing in it yet.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        let end = RECORDS as u64;
        Ok(Self { path: path.to_owned(), file, count: 0, end, room_to: end, header })
    }

    /// Puts a new one in the place of what is there, whole. It is locked before it is there, so that no other run can
    /// slip in between.
    pub(crate) fn put(path: &Path, header: Header, started: &[Started]) -> io::Result<Self> {
        let bytes = contents(header, started);
        let file = put(path, header.run, &bytes)?;
        let (count, end) = (started.len() as u64, bytes.len() as u64);
        Ok(Self { path: path.to_owned(), file, count, end, room_to: end, header })
    }

    /// Makes the file say just this, by a new file that takes its place whole.
    pub(crate) fn rewrite(&mut self, header: Header, started: &[Started]) -> io::Result<()> {
        // Under the id that the file has now: by that the next run knows what a killed one has left.
        let bytes = contents(header, started);
        // The old file is unlocked by this, when its name leads to the new one, which is locked.
        self.file = put(&self.path, self.header.run, &bytes)?;
        (self.end, self.room_to) = (bytes.len() as u64, bytes.len() as u64);
        self.count = started.len() as u64;
        self.header = header;
        Ok(())
    }

    /// Changes the header in place. It lies within one sector, so half of it is never found.
    pub(crate) fn set_header(&mut self, header: Header) -> io::Result<()> {
        if header != self.header {
            step("run file: change its header")?;
            self.file.write_all_at(&header.encode(), 0)?;
            step("run file: sync its header")?;
            self.file.sync_data()?;
            // Only once it is durable: one that failed is written again.
            self.header = header;
        }
        Ok(())
    }

    /// Makes these durable, all with one sync.
    pub(crate) fn note(&mut self, started: &[Started]) -> io::Result<()> {
        let run = self.header.run;
        let mut bytes = Vec::with_capacity(started.len() * 2 * RECORD_BYTES);
        (self.count..).zip(started).for_each(|(number, one)| encode_started(one, run, number, &mut bytes));
        step("run file: note")?;
        self.file.write_all_at(&bytes, self.end)?;
        step("run file: sync the notes")?;
        self.file.sync_data()?;
        // Once they are durable, and before the callers are told: whatever starts is counted, and whatever is counted
        // is there.
        step("run file: count the notes")?;
        let count = self.count + started.len() as u64;
        self.file.write_all_at(&encode_count(count, run), HEADER_BYTES as u64)?;
        self.count = count;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Sees to it that these are noted with so much room on the disk left behind them, to be given back by
    /// [`RunFile::give_back`] when it is needed most.
    pub(crate) fn keep_room(&mut self, started: &[Started], behind: u64) -> io::Result<()> {
        let least = behind + started.iter().map(|one| length_of(one) as u64).sum::<u64>();
        if self.end + least <= self.room_to {
            return Ok(());
        }
        step("run file: set room aside")?;
        // As much in addition as the disk may have, so that most notes need not ask for any.
        for bytes in [least + MORE_ROOM_BYTES, least] {
            let set_aside = rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::KEEP_SIZE, self.end, bytes);
            match set_aside {
                Err(Errno::NOSPC | Errno::DQUOT) => {}
                // Not every file system can: then a full disk loses outcomes that are in flight, and their rows are
                // ambiguous.
                Ok(()) | Err(_) => {
                    self.room_to = self.end + bytes;
                    return Ok(());
                }
            }
        }
        Err(Errno::NOSPC.into())
    }

    pub(crate) fn give_back(&mut self) -> io::Result<()> {
        step("run file: give its room back")?;
        self.room_to = self.end;
        // A length that stays as it is may free nothing.
        self.file.set_len(self.end + 1)?;
        self.file.set_len(self.end)
    }

    /// Gives it another name, if that is free.
    pub(crate) fn move_to(&mut self, path: &Path) -> io::Result<()> {
        step("run file: move")?;
        place::move_to(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// Removes it, unless something else was put in its place.
    pub(crate) fn remove(self) -> io::Result<()> {
        match place::is_at(&self.file, &self.path) {
            true => std::fs::remove_file(&self.path),
            false => Ok(()),
        }
    }
}

impl Header {
    /// Whether it is that of the results file which is this inode and whose first line, if there is one, names this
    /// run.
    pub(crate) fn is_of(&self, inode: Inode, run: Option<u64>) -> bool {
        if inode.number != self.results.number && inode.number != self.successor {
            return false;
        }
        match run {
            // The number of a device changes when the machine starts anew, with logical volumes for example; the id and
            // the inode do not.
            Some(run) => run == self.run,
            None => inode.device == self.results.device,
        }
    }

    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.run.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.results.device.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.results.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.successor.to_le_bytes());
        bytes[40..44].copy_from_slice(&std::process::id().to_le_bytes());
        bytes[44] = u8::from(self.is_unsure);
        bytes[45] = u8::from(self.may_replace);
        bytes[46] = self.version;
        bytes[48..56].copy_from_slice(&self.length.to_le_bytes());
        seal(bytes, &[])
    }

    /// Also the process that wrote it.
    fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let bytes = unseal(bytes.get(..HEADER_BYTES)?, &[])?;
        bytes.starts_with(MAGIC).then_some(())?;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let header = Self {
            run: number(8),
            results: Inode { device: number(16), number: number(24) },
            successor: number(32),
            is_unsure: bytes[44] != 0,
            may_replace: bytes[45] != 0,
            length: number(48),
            version: bytes[46],
        };
        Some((header, u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes"))))
    }

    /// That of a file which may be locked by another process.
    pub(crate) fn read(file: &File) -> Option<(Self, u32)> {
        let mut bytes = [0; HEADER_BYTES];
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

/// A whole run file.
fn contents(header: Header, started: &[Started]) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    bytes.extend(encode_count(started.len() as u64, header.run));
    (0..).zip(started).for_each(|(number, one)| encode_started(one, header.run, number, &mut bytes));
    bytes
}

/// Puts a new file with these bytes in the place of what is there.
fn put(path: &Path, run: u64, bytes: &[u8]) -> io::Result<Locked> {
    step("run file: make a new one")?;
    let mut fresh = place::beside(path, run, 0o600)?;
    fresh.write_all(bytes)?;
    // Before it has its name: after a power cut that may not lead to fewer notes than there were.
    step("run file: sync the new one")?;
    fresh.as_file().sync_all()?;
    step("run file: rename")?;
    place::put(fresh, path)
}

/// All of a run file.
struct Contents {
    header: Header,
    /// How many notes it promises.
    count: u64,
    /// Where the last of those ends.
    end: u64,
    /// Those that are there.
    started: Vec<Started>,
}

fn read(bytes: &[u8]) -> Result<Contents, Damage> {
    let (header, _) = Header::decode(bytes).ok_or(Damage::Header)?;
    let count =
        bytes.get(HEADER_BYTES..RECORDS).and_then(|bytes| decode_count(bytes, header.run)).ok_or(Damage::Header)?;
    let (mut started, mut end) = (Vec::new(), RECORDS);
    let mut rest = &bytes[RECORDS..];
    for number in 0.. {
        let record = record_length(rest).and_then(|length| rest.split_at_checked(length));
        let one = record.and_then(|(record, _)| decode_started(record, header.run, number));
        match (record, one) {
            (Some((_, behind)), Some(one)) => {
                started.push(one);
                rest = behind;
            }
            (None, _) if number < count => return Err(Damage::Short { has: number, counts: count }),
            (Some(_), None) if number < count => return Err(Damage::Note(number + 1)),
            // A sync that did not come to its end: nothing behind it was ever durable.
            _ => break,
        }
        if number < count {
            end = bytes.len() - rest.len();
        }
    }
    Ok(Contents { header, count, end: end as u64, started })
}

fn encode_count(count: u64, run: u64) -> [u8; RECORDS - HEADER_BYTES] {
    let mut bytes = [0; RECORDS - HEADER_BYTES];
    bytes[..8].copy_from_slice(&count.to_le_bytes());
    seal(bytes, &[run])
}

fn decode_count(bytes: &[u8], run: u64) -> Option<u64> {
    let bytes = unseal(bytes, &[run])?;
    Some(u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")))
}

fn encode_started(started: &Started, run: u64, number: u64, into: &mut Vec<u8>) {
    let text = started.id_text.as_deref().unwrap_or_default();
    let mut bytes = [0; RECORD_BYTES - SUM_BYTES];
    bytes[..8].copy_from_slice(&started.key.row.to_le_bytes());
    bytes[8..12].copy_from_slice(&started.key.page.to_le_bytes());
    bytes[12..20].copy_from_slice(&started.fingerprint.to_le_bytes());
    let has = [started.has_line, started.id_text.is_some(), started.own_id.is_some()];
    bytes[20] = has.into_iter().rev().fold(0, |bits, has| bits << 1 | u8::from(has));
    let (kind, hash, twin) = match started.repeat {
        Repeat::Never => (0, 0, 0),
        Repeat::ByNature => (1, 0, 0),
        Repeat::ByKey { hash, twin } => (2, hash, twin),
    };
    let (standing, found) = match started.standing {
        Standing::Firm => (0, 0),
        Standing::Adrift => (1, 0),
        Standing::Found(number) => (2, number),
    };
    bytes[21] = kind | standing << 4;
    let length = u16::try_from(text.len()).expect("an id that is noted is no longer than a note can be");
    bytes[22..24].copy_from_slice(&length.to_le_bytes());
    bytes[24..32].copy_from_slice(&started.own_id.unwrap_or(0).to_le_bytes());
    bytes[32..36].copy_from_slice(&hash.to_le_bytes());
    bytes[36..40].copy_from_slice(&found.to_le_bytes());
    bytes[40..44].copy_from_slice(&twin.to_le_bytes());
    let start = into.len();
    into.extend_from_slice(&bytes);
    into.extend_from_slice(text.as_bytes());
    let sum = checksum(&into[start..], &[run, number]);
    into.extend_from_slice(&sum.to_le_bytes());
}

/// How long the record of this is.
fn length_of(started: &Started) -> usize {
    RECORD_BYTES + started.id_text.as_deref().map_or(0, str::len)
}

/// How long the record is that these bytes begin with, if they are long enough to say it.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(22..24)?.try_into().expect("two bytes");
    Some(RECORD_BYTES + usize::from(u16::from_le_bytes(length)))
}

fn decode_started(bytes: &[u8], run: u64, number: u64) -> Option<Started> {
    let bytes = unseal(bytes, &[run, number])?;
    let four = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let eight = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let text = std::str::from_utf8(&bytes[RECORD_BYTES - SUM_BYTES..]).ok()?;
    Some(Started {
        key: RowKey { row: eight(0), page: four(8) },
        fingerprint: eight(12),
        own_id: (bytes[20] & 4 != 0).then(|| eight(24)),
        id_text: (bytes[20] & 2 != 0).then(|| text.into()),
        has_line: bytes[20] & 1 != 0,
        repeat: match bytes[21] & 0xf {
            1 => Repeat::ByNature,
            2 => Repeat::ByKey { hash: four(32), twin: four(40) },
            _ => Repeat::Never,
        },
        standing: match bytes[21] >> 4 {
            1 => Standing::Adrift,
            2 => Standing::Found(four(36)),
            _ => Standing::Firm,
        },
    })
}

/// Ends them with a checksum over them and over where they stand, so that nothing passes for what it is not.
fn seal<const LENGTH: usize>(mut bytes: [u8; LENGTH], place: &[u64]) -> [u8; LENGTH] {
    let sum = checksum(&bytes[..LENGTH - 4], place);
    bytes[LENGTH - 4..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn unseal<'a>(bytes: &'a [u8], place: &[u64]) -> Option<&'a [u8]> {
    let (inside, sum) = bytes.split_at_checked(bytes.len() - 4)?;
    (checksum(inside, place).to_le_bytes() == sum).then_some(inside)
}

fn checksum(bytes: &[u8], place: &[u64]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    place.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    hasher.update(bytes);
    hasher.finalize()
}

/// What the name of a run file ends with.
pub(crate) const SUFFIX: &str = ".run";
const HEADER_BYTES: usize = 64;
/// Where the records begin, behind the count.
const RECORDS: usize = HEADER_BYTES + 16;
/// How long a record is without an id.
const RECORD_BYTES: usize = 44 + SUM_BYTES;
/// Set aside beyond what is needed: some thousand notes have room in it.
const MORE_ROOM_BYTES: u64 = 256 << 10;
const SUM_BYTES: usize = 4;
/// A longer id is known by its hash alone, and its row has no line before the input has it again.
pub(crate) const MOST_ID_BYTES: usize = 1024;
const MAGIC: &[u8; 8] = b"unisono6";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER_OF_TEST: Header = Header {
        run: 7,
        results: Inode { device: 1, number: 2 },
        successor: 0,
        is_unsure: false,
        may_replace: true,
        length: 9,
        version: 2,
    };

    fn started(row: u64) -> Started {
        let repeat = match row % 3 {
            0 => Repeat::Never,
            1 => Repeat::ByNature,
            _ => Repeat::by_key_of_twin("k", row as u32),
        };
        let standing = match row % 5 {
            3 => Standing::Adrift,
            4 => Standing::Found(row as u32 - 1),
            _ => Standing::Firm,
        };
        let id = (!row.is_multiple_of(4)).then(|| "ü".repeat(row as usize % 4 - 1));
        let has_line = row.is_multiple_of(2);
        Started { has_line, standing, ..Started::new(RowKey { row, page: 0 }, id.as_deref(), row * 3, repeat) }
    }

    fn encoded(rows: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        rows.for_each(|row| encode_started(&started(row), 7, row, &mut bytes));
        bytes
    }

    /// One with so many notes, and what it holds.
    fn with_notes(folder: &tempfile::TempDir, batches: &[u64]) -> (PathBuf, Vec<u8>) {
        let path = folder.path().join("r.jsonl.run");
        let mut run = RunFile::create(&path, HEADER_OF_TEST).unwrap();
        let mut row = 0;
        for count in batches {
            let batch: Vec<_> = (row..row + count).map(started).collect();
            run.note(&batch).unwrap();
            row += count;
        }
        drop(run);
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    }

    #[test]
    fn a_run_file_that_was_cut_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, whole) = with_notes(&folder, &[2, 1]);
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            match RunFile::find(&path).unwrap() {
                RunFileState::Empty(_) => assert_eq!(cut, 0),
                RunFileState::Damaged(_, Damage::Header) => assert!(cut < RECORDS),
                RunFileState::Damaged(_, damage) => {
                    let has = (0..3).filter(|row| RECORDS + encoded(0..row + 1).len() <= cut).count() as u64;
                    assert_eq!(damage, Damage::Short { has, counts: 3 });
                }
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_a_kill_tore_while_it_was_written_is_no_note_and_those_before_it_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, whole) = with_notes(&folder, &[2, 1]);
        let torn = encoded(3..5);
        for cut in 0..=torn.len() {
            std::fs::write(&path, [&whole[..], &torn[..cut]].concat()).unwrap();
            let RunFileState::Ours(run, found) = RunFile::find(&path).unwrap() else { panic!("cut at {cut}") };
            let more = (3..5).filter(|row| encoded(3..row + 1).len() <= cut).count() as u64;
            assert_eq!(found, (0..3 + more).map(started).collect::<Vec<_>>());
            assert_eq!(run.header, HEADER_OF_TEST);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_done_to_a_run_file_no_note_that_was_promised_is_forgotten(
            batches in prop::collection::vec(1u64..5, 0..5), rewritten: bool, torn in 0usize..90,
            harms in prop::collection::vec(harm(), 0..3),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (path, mut bytes) = with_notes(&folder, &batches);
            let promised: u64 = batches.iter().sum();
            if rewritten {
                // As the next run does it, which was killed while it noted one more.
                let RunFileState::Ours(mut run, notes) = RunFile::find(&path).unwrap() else { panic!("it is whole") };
                run.rewrite(HEADER_OF_TEST, &notes).unwrap();
                bytes = std::fs::read(&path).unwrap();
            }
            let next = encoded(promised..promised + 3);
            bytes.extend_from_slice(&next[..torn]);
            let whole = bytes.clone();
            harms.iter().for_each(|harm| harm.strike(&mut bytes));
            std::fs::write(&path, &bytes).unwrap();
            match RunFile::find(&path) {
                Ok(RunFileState::Ours(run, found)) => {
                    prop_assert_eq!(run.header, HEADER_OF_TEST);
                    let all: Vec<_> = (0..promised).map(started).collect();
                    prop_assert_eq!(&found[..all.len()], &all[..]);
                }
                Ok(RunFileState::Empty(_)) => prop_assert!(bytes.len() <= RECORDS && bytes.iter().all(|byte| *byte == 0)),
                refused => prop_assert_ne!(bytes, whole, "{:?}", refused),
            }
        }
    }

    /// What may be done to a file.
    #[derive(Debug, Clone)]
    enum Harm {
        Cut(prop::sample::Index),
        Change(prop::sample::Index, Vec<u8>),
        /// These many bytes from one place stand at another as well.
        Repeat(prop::sample::Index, prop::sample::Index, usize),
        TakeOut(prop::sample::Index, usize),
    }

    impl Harm {
        fn strike(&self, bytes: &mut Vec<u8>) {
            if bytes.is_empty() {
                return;
            }
            let length = bytes.len();
            match self {
                Self::Cut(at) => bytes.truncate(at.index(length)),
                Self::Change(at, with) => {
                    bytes[at.index(length)..].iter_mut().zip(with).for_each(|(old, new)| *old = *new);
                }
                Self::Repeat(from, to, most) => {
                    let (from, to) = (from.index(length), to.index(length));
                    let some = (*most).min(length - from).min(length - to);
                    bytes.copy_within(from..from + some, to);
                }
                Self::TakeOut(at, most) => {
                    let at = at.index(length);
                    bytes.drain(at..(at + most).min(length));
                }
            }
        }
    }

    fn harm() -> impl Strategy<Value = Harm> {
        let place = any::<prop::sample::Index>;
        // Whole records as well as any number of bytes.
        let some = prop_oneof![1usize..100, (1usize..4).prop_map(|records| records * RECORD_BYTES)];
        prop_oneof![
            place().prop_map(Harm::Cut),
            (place(), prop::collection::vec(any::<u8>(), 1..50)).prop_map(|(at, with)| Harm::Change(at, with)),
            (place(), 1usize..200).prop_map(|(at, zeros)| Harm::Change(at, vec![0; zeros])),
            (place(), place(), some.clone()).prop_map(|(from, to, most)| Harm::Repeat(from, to, most)),
            (place(), some).prop_map(|(at, most)| Harm::TakeOut(at, most)),
        ]
    }

    #[test]
    fn a_run_file_of_another_version_is_told_from_what_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut bytes) = with_notes(&folder, &[2]);
        bytes[7] = b'4';
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(RunFile::find(&path).unwrap(), RunFileState::Damaged(_, Damage::Version)));
    }

    #[test]
    fn an_id_is_noted_whole_or_by_its_hash_alone() {
        for (length, is_noted) in [(0, true), (MOST_ID_BYTES, true), (MOST_ID_BYTES + 1, false)] {
            let id = "i".repeat(length);
            let one = Started::new(RowKey { row: 1, page: 2 }, Some(&id), 3, Repeat::Never);
            assert_eq!(one.id_text.as_deref(), is_noted.then_some(&*id));
            let mut bytes = Vec::new();
            encode_started(&one, 7, 0, &mut bytes);
            assert_eq!(decode_started(&bytes, 7, 0), Some(one));
        }
    }

    #[test]
    fn a_second_run_is_told_the_process_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl.run");
        let run = RunFile::create(&path, HEADER_OF_TEST).unwrap();
        let found = RunFile::find(&path).unwrap();
        assert!(matches!(found, RunFileState::Locked { pid: Some(pid) } if pid == std::process::id()), "{found:?}");
        run.remove().unwrap();
        assert!(matches!(RunFile::find(&path).unwrap(), RunFileState::Nothing));
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
        assert!(RunFile::find(&path).unwrap_err().to_string().contains("is not a run file"));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 100);
    }
}
