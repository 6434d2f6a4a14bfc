//! The note beside a part: of which version of its body it is.
//!
//! It lies there under the part's name with `.json`, and says nothing of where the body comes from: the part's own name
//! is made of that. A note of before the machine was last started is not believed, since the bytes of which it tells
//! may have been in memory alone when that ended.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use unisono_http::BodyVersion;

use super::paths::{is_there, with_suffix};

#[derive(Serialize, Deserialize)]
struct Note {
    /// A strong `ETag`, or when the body was last changed.
    validator: String,
    /// The length of the whole body in bytes, where the server has said it.
    total: Option<u64>,
    /// When the machine was started, as the kernel tells it: a number that is never used again.
    boot: String,
}

/// What comes behind the name of a part.
pub(super) const SUFFIX: &str = ".json";

/// Writes the note of a part, where there must be none.
pub(super) fn write(part: &Path, version: &BodyVersion) -> io::Result<()> {
    let note = Note { validator: version.validator().to_owned(), total: version.total(), boot: boot()? };
    let path = path_of(part);
    // With `O_EXCL`, which follows no link; what is left there is of a part that is gone.
    remove(part);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(&note)?)
}

/// What is noted of a part, if that can be relied on.
pub(super) fn read(part: &Path) -> Option<BodyVersion> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path_of(part)).ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    let note: Note = serde_json::from_slice(&text).ok()?;
    (note.boot == boot().ok()?).then(|| BodyVersion::noted(&note.validator, note.total))?
}

/// Takes away the note of a part. What cannot be taken away does no harm.
pub(super) fn remove(part: &Path) {
    let _ = std::fs::remove_file(path_of(part));
}

/// Whether there is a note of a part.
pub(super) fn is_beside(part: &Path) -> bool {
    is_there(&path_of(part)).is_ok_and(|is_there| is_there)
}

fn path_of(part: &Path) -> PathBuf {
    with_suffix(part, SUFFIX)
}

fn boot() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

/// More than the head of any answer may be.
const MOST_BYTES: u64 = 1 << 20;
