//! A manifest from results: the lines that went well, sorted by path, in place of whatever was there.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::PathBuf,
};

use tempfile::NamedTempFile;
use unisono_files::manifest::{Line, Reader, push_entry};
use unisono_hash::Digest;

use super::ManifestOut;
use crate::Error;

/// Writes it whole or not at all. Holds all paths and digests in memory, some 150 bytes per file.
pub(super) fn render(manifest: &ManifestOut) -> Result<(), Error> {
    let fail = |error| Error::fault(format!("cannot write `{}`", manifest.path.display())).because(error);
    let mut entries = read(manifest)?;
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let folder = manifest.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    let mut writer = BufWriter::with_capacity(1 << 17, NamedTempFile::new_in(folder).map_err(fail)?);
    let mut line = Vec::new();
    for (path, digests) in &entries {
        line.clear();
        digests.iter().for_each(|digest| push_entry(path, digest, manifest.layout, &mut line));
        writer.write_all(&line).map_err(fail)?;
    }
    let file = writer.into_inner().map_err(|error| fail(error.into_error()))?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(&manifest.path).map_err(|error| fail(error.error))?;
    Ok(())
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
