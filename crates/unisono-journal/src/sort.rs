//! A results file in the order of its input.
//!
//! Lines are written as outcomes come, since that is what survives a crash; when a run is over they can be put in
//! order. The file is read once for where its lines are (24 bytes a line), and rewritten under another name that then
//! takes its place.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::{
    RowKey,
    error::{Error, Reason},
    line::scan,
    runfile::{RunFile, run_path, sync_folder},
};

/// Puts the lines of a results file in the order of rows and pages.
///
/// # Errors
/// When the file is in use, cannot be read, or cannot be rewritten; it is then as it was.
pub fn sort(path: &Path) -> Result<(), Error> {
    // One that was there before keeps what it knows.
    let had_run_file = run_path(path).exists();
    let (run, _) = RunFile::lock(path)?;
    let sorted = read_places(path).and_then(|mut places| {
        if places.is_sorted() {
            return Ok(());
        }
        places.sort_unstable();
        rewrite(path, &places).map_err(|error| Error::io(path, "sort", error))
    });
    if !had_run_file {
        run.remove().map_err(|error| Error::io(path, "sort", error))?;
    }
    sorted
}

/// A line's row and page, and where it is.
type Place = (RowKey, u64, u32);

fn read_places(path: &Path) -> Result<Vec<Place>, Error> {
    let fail = |error| Error::io(path, "read", error);
    let mut reader = BufReader::with_capacity(1 << 17, File::open(path).map_err(fail)?);
    let (mut places, mut offset, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(fail)?;
        if length == 0 {
            return Ok(places);
        }
        let head = line.strip_suffix(b"\n").and_then(scan);
        let head =
            head.ok_or_else(|| Error::new(path, Reason::Corrupt { offset, why: "a line that cannot be read" }))?;
        let length = u32::try_from(length)
            .map_err(|_| Error::new(path, Reason::Corrupt { offset, why: "a line that is too long to sort" }))?;
        places.push((head.key, offset, length));
        offset += u64::from(length);
    }
}

fn rewrite(path: &Path, places: &[Place]) -> std::io::Result<()> {
    let old = File::open(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".sorted");
    let fresh = Path::new(&name);
    let mode = old.metadata()?.permissions().mode();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(fresh)?;
    let mut writer = BufWriter::with_capacity(1 << 17, file);
    let mut line = Vec::new();
    let copied = places
        .iter()
        .try_for_each(|(_, offset, length)| {
            line.resize(*length as usize, 0);
            old.read_exact_at(&mut line, *offset)?;
            writer.write_all(&line)
        })
        .and_then(|()| writer.flush())
        .and_then(|()| writer.get_ref().sync_all())
        .and_then(|()| std::fs::rename(fresh, path))
        .and_then(|()| sync_folder(path));
    if copied.is_err() {
        // The old file is untouched; the half-made one is of no use.
        let _ = std::fs::remove_file(fresh);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: u64, page: u32) -> String {
        let page = if page > 0 { format!("\"page\":{page},") } else { String::new() };
        format!(
            "{{\"row\":{row},\"id\":\"r{row}\",\"fp\":\"00000000000000ff\",\"outcome\":\"ok\",\
             \"effect\":\"done\",\"repeatable\":true,{page}\"url\":\"u\"}}\n"
        )
    }

    #[test]
    fn lines_come_in_the_order_of_rows_and_pages_and_none_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let lines = [line(2, 1), line(0, 0), line(2, 2), line(1, 0)];
        std::fs::write(&path, lines.concat()).unwrap();
        sort(&path).unwrap();
        let expected = [&lines[1], &lines[3], &lines[0], &lines[2]].map(String::as_str).concat();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        std::fs::write(&path, "hello\n").unwrap();
        assert!(sort(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
