//! A manifest from results: the lines that went well, sorted by path, in place of whatever was there.
//!
//! It is written beside its place and put there once it is whole and on the disk. A symbolic link stays, and what it
//! leads to is replaced. A manifest is for others to read: a new one has the mode that the umask leaves, one that was
//! there keeps its mode and, where the system lets us, its owner. Left out: access control lists and extended
//! attributes, and hard links, whose other names keep what was there.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Uid, fchown},
    io::Errno,
};
use unisono_files::manifest::{ManifestLine, ManifestReader, push_entry};
use unisono_hash::Digest;

use super::{
    ManifestOut,
    outputs::{Way, part_of, resolved, way_to_write},
};
use crate::Error;

/// Writes it whole or not at all; returns what a user should know. Holds all paths and digests in memory, some 150
/// bytes per file.
pub(super) fn render(manifest: &ManifestOut) -> Result<Option<String>, Error> {
    let fail = |error| Error::fault(format!("cannot write `{}`", manifest.path.display())).because(error);
    let mut entries = read(manifest)?;
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    // It was looked at before the run, and may have become something else since.
    if way_to_write(&manifest.path).map_err(fail)? == Way::Stream {
        return Err(fail(io::Error::other("it is no regular file any more")));
    }
    let path = resolved(&manifest.path).map_err(fail)?;
    let part = part_of(&path);
    let replaced = write_part(manifest, &entries, &part)
        .and_then(|file| {
            let owner = keep_attributes(&path, &file)?;
            // Before the name leads to it, or a crash could leave an empty manifest.
            file.sync_all()?;
            fs::rename(&part, &path)?;
            Ok(owner)
        })
        .map_err(fail);
    if replaced.is_err() {
        // The disk may be full, and half of it is of no use.
        let _ = fs::remove_file(&part);
    }
    Ok(replaced?
        .map(|owner| format!("`{}` had another owner ({owner}), and is now of the one who wrote it", path.display())))
}

fn write_part(manifest: &ManifestOut, entries: &[(PathBuf, Vec<Digest>)], part: &Path) -> io::Result<File> {
    // No other run writes it meanwhile, since the results beside it are locked. What a link of this name leads to is
    // none of ours, so it is neither followed nor opened.
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options().write(true).create_new(true).mode(0o666).open(part)?;
    let mut writer = BufWriter::with_capacity(1 << 17, file);
    let mut line = Vec::new();
    for (path, digests) in entries {
        line.clear();
        digests.iter().for_each(|digest| push_entry(path, digest, manifest.layout, &mut line));
        writer.write_all(&line)?;
    }
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Gives the new file the mode and owner of the one that it replaces; returns the owner that it cannot be given.
fn keep_attributes(path: &Path, file: &File) -> io::Result<Option<u32>> {
    let (old, new) = match fs::metadata(path) {
        Ok(old) => (old, file.metadata()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut kept = true;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        let change = |uid: Option<u32>| fchown(file, uid.map(Uid::from_raw), Some(Gid::from_raw(old.gid())));
        // Only root may give a file away; to a group of their own every user may.
        kept = match change(Some(old.uid())).or_else(|_| change(None)) {
            Ok(()) => old.uid() == file.metadata()?.uid(),
            Err(Errno::PERM) => false,
            Err(error) => return Err(error.into()),
        };
    }
    let mut mode = old.mode() & 0o777;
    if file.metadata()?.gid() != old.gid() {
        // What was granted to one group is not granted to another.
        mode &= !0o070;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok((!kept).then(|| old.uid()))
}

fn read(manifest: &ManifestOut) -> Result<Vec<(PathBuf, Vec<Digest>)>, Error> {
    let fail = |error| Error::fault(format!("cannot read `{}`", manifest.results.display())).because(error);
    let lines = BufReader::with_capacity(1 << 17, File::open(&manifest.results).map_err(fail)?).split(b'\n');
    let mut reader = ManifestReader::default();
    let mut entries = Vec::new();
    for line in lines {
        match reader.line(&line.map_err(fail)?) {
            ManifestLine::Entry(entry) => entries.push((entry.path, entry.digests)),
            ManifestLine::Nothing => {}
            ManifestLine::Malformed(why) => {
                return Err(Error::fault(format!(
                    "`{}` has a line that is not ours: {why}",
                    manifest.results.display()
                )));
            }
        }
    }
    Ok(entries)
}
