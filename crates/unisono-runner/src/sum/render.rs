//! A manifest from results: the lines that went well, sorted by path, in place of whatever was there.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use unisono_files::manifest::{Line, Reader, push_entry};
use unisono_hash::Digest;

use super::ManifestOut;
use crate::Error;

/// Writes it whole or not at all. Holds all paths and digests in memory, some 150 bytes per file.
pub(super) fn render(manifest: &ManifestOut) -> Result<(), Error> {
    let fail = |error| Error::fault(format!("cannot write `{}`", manifest.path.display())).because(error);
    let mut entries = read(manifest)?;
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    // A name of its own, and not a new one each time: what a killed run leaves behind is replaced by the next. Nobody else
    // writes it meanwhile, since the results beside it are locked.
    let mut name = std::ffi::OsString::from(".");
    name.push(manifest.path.file_name().unwrap_or_default());
    name.push(".unisono.part");
    let part = manifest.path.with_file_name(name);
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(fail)?;
    let mut writer = BufWriter::with_capacity(1 << 17, file);
    let mut line = Vec::new();
    for (path, digests) in &entries {
        line.clear();
        digests.iter().for_each(|digest| push_entry(path, digest, manifest.layout, &mut line));
        writer.write_all(&line).map_err(fail)?;
    }
    let file = writer.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&part, &manifest.path).map_err(fail)
}

fn read(manifest: &ManifestOut) -> Result<Vec<(PathBuf, Vec<Digest>)>, Error> {
    let fail = |error| Error::fault(format!("cannot read `{}`", manifest.results.display())).because(error);
    let lines = BufReader::with_capacity(1 << 17, File::open(&manifest.results).map_err(fail)?).split(b'\n');
    let mut reader = Reader::default();
    let mut entries = Vec::new();
    for line in lines {
        match reader.line(&line.map_err(fail)?) {
            Line::Entry(entry) => entries.push((entry.path, entry.digests)),
            Line::Nothing => {}
            Line::Malformed(why) => {
                return Err(Error::fault(format!(
                    "`{}` has a line that is not ours: {why}",
                    manifest.results.display()
                )));
            }
        }
    }
    Ok(entries)
}
