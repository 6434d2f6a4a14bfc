//! Files so large that all threads work on one: the digest is the same, and a change is told wherever it happens.

mod support;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
};

use support::{digested, options, request};
use unisono_core::ErrorKind;
use unisono_files::{Digested, Error, Files, FilesOptions, Known};
use unisono_hash::{Algorithm, Digest, Kernel};

/// Several parts, of which the last is no whole one, and not a whole number of pieces.
const SIZE: usize = (40 << 20) + 12_345;

async fn digest(
    path: &Path,
    algorithms: &[Algorithm],
    options: FilesOptions,
    on_bytes: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Digested, Error> {
    let files = Files::start(options, on_bytes).unwrap();
    digested(&files, request(path, algorithms, Known::Nothing)).await
}

fn file(folder: &tempfile::TempDir) -> (PathBuf, Vec<u8>) {
    let path = folder.path().join("file");
    // No two parts are alike.
    let data: Vec<u8> = (0..SIZE).map(|place| (place ^ (place >> 11) ^ (place >> 21)) as u8).collect();
    fs::write(&path, &data).unwrap();
    (path, data)
}

#[tokio::test]
async fn a_large_file_has_the_same_digest_by_one_thread_and_by_several_and_past_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = file(&folder);
    let expected = blake3::hash(&data);
    for options in
        [options(1), options(2), options(5), FilesOptions { threads: 2, kernel: Kernel::Portable, direct: true }]
    {
        let read = Arc::new(AtomicU64::new(0));
        let counted = read.clone();
        let on_bytes = move |bytes| {
            counted.fetch_add(bytes, Relaxed);
        };
        let digested = digest(&path, &[Algorithm::Blake3], options, on_bytes).await.unwrap();
        assert_eq!(digested.digests[0].as_bytes(), expected.as_bytes(), "{options:?}");
        assert_eq!((read.load(Relaxed), digested.stat.size), (SIZE as u64, SIZE as u64));
    }
}

#[tokio::test]
async fn several_threads_read_one_large_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = file(&folder);
    let mut most = 0;
    // Which thread takes how much is up to the scheduler, so one time may not show it.
    for _ in 0..100 {
        let readers: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
        let seen = readers.clone();
        let on_bytes = move |bytes| {
            if bytes > 0 {
                seen.lock().unwrap().insert(thread::current().id());
            }
        };
        digest(&path, &[Algorithm::Blake3], options(2), on_bytes).await.unwrap();
        most = most.max(readers.lock().unwrap().len());
        if most == 2 {
            break;
        }
    }
    assert_eq!(most, 2);
}

#[tokio::test]
async fn other_digests_of_a_large_file_are_those_of_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = file(&folder);
    let digested = digest(&path, &[Algorithm::Crc32c, Algorithm::Blake3], options(2), |_| {}).await.unwrap();
    let expected = blake3::hash(&data);
    let crc = Digest::from_hex(Algorithm::Crc32c, &format!("{:08x}", crc32c::crc32c(&data))).unwrap();
    assert_eq!((digested.digests[0], digested.digests[1].as_bytes()), (crc, &expected.as_bytes()[..]));
}

async fn changed_by(meanwhile: impl Fn(&Path) + Send + Sync + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = file(&folder);
    let (once, changed) = (Once::new(), path.clone());
    let on_bytes = move |bytes| {
        if bytes > 0 {
            once.call_once(|| meanwhile(&changed));
        }
    };
    let error = digest(&path, &[Algorithm::Blake3], options(2), on_bytes).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Changed, true), "{error}");
}

#[tokio::test]
async fn a_large_file_that_loses_whole_parts_meanwhile_is_told() {
    changed_by(|path| File::options().write(true).open(path).unwrap().set_len(9 << 20).unwrap()).await;
}

#[tokio::test]
async fn a_large_file_that_loses_its_end_meanwhile_is_told() {
    changed_by(|path| File::options().write(true).open(path).unwrap().set_len(SIZE as u64 - 1).unwrap()).await;
}

#[tokio::test]
async fn a_large_file_that_grows_meanwhile_is_told() {
    changed_by(|path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap()).await;
}

#[tokio::test]
async fn a_large_file_that_is_written_to_meanwhile_is_told() {
    changed_by(|path| File::options().write(true).open(path).unwrap().write_all_at(b"x", SIZE as u64 / 2).unwrap())
        .await;
}
