//! Files that change while they are read: real ones, changed between two reads by the very thread that reads them,
//! which tells of each round.

mod support;

use std::{
    fs::{self, File, FileTimes},
    io::Write,
    path::{Path, PathBuf},
    sync::Once,
};

use support::{digested, options};
use unisono_core::ErrorKind;
use unisono_files::{DigestRequest, Digested, Error, Files, FilesOptions, Known};
use unisono_hash::{Algorithm, Digest, Kernel};

/// Larger than what is read in one round.
const SIZE: usize = 200_000;

fn request(path: &Path) -> DigestRequest {
    support::request(path, &[Algorithm::Sha256], Known::Nothing)
}

/// Digests one file; `meanwhile` happens after the first round of reads.
async fn digest(path: &Path, meanwhile: impl Fn(&Path) + Send + Sync + 'static) -> Result<Digested, Error> {
    let (once, changed) = (Once::new(), path.to_owned());
    let files = Files::start(options(1), move |_| once.call_once(|| meanwhile(&changed))).unwrap();
    digested(&files, request(path)).await
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("file");
    fs::write(&path, vec![7; SIZE]).unwrap();
    path
}

async fn changed_by(meanwhile: impl Fn(&Path) + Send + Sync + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let error = digest(&file(&folder), meanwhile).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Changed, true), "{error}");
}

#[tokio::test]
async fn a_file_that_stays_as_it_is_has_a_digest() {
    let folder = tempfile::tempdir().unwrap();
    let digested = digest(&file(&folder), |_| {}).await.unwrap();
    // Of 200,000 bytes of 7, by sha256sum.
    let hex = "8cfcba83dcfc81a193bb4e52fd3161efb513906f52cbbe2328fac5f1a79c2b6e";
    assert_eq!(digested.stat.size, SIZE as u64);
    assert_eq!(digested.digests, [Digest::from_hex(Algorithm::Sha256, hex).unwrap()]);
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_is_told() {
    changed_by(|path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap()).await;
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_told_and_ends_nobody() {
    changed_by(|path| File::options().write(true).open(path).unwrap().set_len(10).unwrap()).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_is_told() {
    changed_by(|path| {
        let other = path.with_extension("other");
        fs::write(&other, vec![8; SIZE]).unwrap();
        fs::rename(other, path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_change_in_place_whose_times_were_set_back_is_told_by_its_ctime() {
    changed_by(|path| {
        let times = fs::metadata(path).unwrap();
        let times = FileTimes::new().set_modified(times.modified().unwrap()).set_accessed(times.accessed().unwrap());
        let mut file = File::options().write(true).open(path).unwrap();
        file.write_all(&[9]).unwrap();
        file.set_times(times).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_of_proc_has_content_though_its_size_is_0() {
    let digested = digest(Path::new("/proc/version"), |_| {}).await.unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_ne!(digested.digests, [Digest::from_hex(Algorithm::Sha256, empty).unwrap()]);
}

#[tokio::test]
async fn a_direct_read_gives_the_same_digest_or_falls_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let usual = digest(&path, |_| {}).await.unwrap();
    let options = FilesOptions { threads: 1, kernel: Kernel::Portable, direct: true };
    let files = Files::start(options, |_| {}).unwrap();
    assert_eq!(digested(&files, request(&path)).await.unwrap(), usual);
}
