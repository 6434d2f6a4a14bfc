//! What is no regular file and was named, and files that are not as long as they say.

mod support;

use std::{fs, io::Write, path::Path, thread};

use support::{digested, options, request};
use unisono_core::ErrorKind;
use unisono_files::{Digested, Error, Files, Known, Special};
use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece};

async fn digest(path: &Path, known: Known) -> Result<Digested, Error> {
    let files = Files::start(options(1), |_| {}).unwrap();
    digested(&files, request(path, &[Algorithm::Sha256, Algorithm::Md5], known)).await
}

fn expected(data: &[u8]) -> Vec<unisono_hash::Digest> {
    let mut lanes = Lanes::new(Kernel::Portable);
    let of = |algorithm| {
        let mut hasher = Hasher::new(algorithm);
        lanes.update(&mut [Piece { hasher: &mut hasher, data, last: true }]);
        hasher.digest().unwrap()
    };
    [Algorithm::Sha256, Algorithm::Md5].map(of).to_vec()
}

fn fifo() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    (folder, path)
}

#[tokio::test]
async fn what_is_no_regular_file_is_named_and_not_opened() {
    let (folder, fifo) = fifo();
    for (path, special) in [
        (fifo.as_path(), Special::Fifo),
        (Path::new("/dev/zero"), Special::CharacterDevice),
        (folder.path(), Special::Folder),
    ] {
        // The second: if it took a file's place after that was looked at, nothing hangs either.
        for known in [Known::Nothing, Known::Regular] {
            assert_eq!(digest(path, known).await.unwrap_err().as_special(), Some(special));
        }
    }
}

#[tokio::test]
async fn a_fifo_that_was_named_is_read_to_the_end_that_its_writer_leaves() {
    for length in [0, 1, 65_536, 1_000_003] {
        let (_folder, path) = fifo();
        let data: Vec<u8> = (0..length).map(|at: usize| at as u8).collect();
        let (there, sent) = (path.clone(), data.clone());
        let writer =
            thread::spawn(move || fs::File::options().write(true).open(there).unwrap().write_all(&sent).unwrap());
        let digested = digest(&path, Known::Fifo).await.unwrap();
        writer.join().unwrap();
        assert_eq!((digested.stat.size, digested.digests), (length as u64, expected(&data)));
    }
}

#[tokio::test]
async fn a_fifo_without_a_writer_is_waited_for_and_can_be_given_up() {
    let (_folder, path) = fifo();
    let reading = digest(&path, Known::Fifo);
    tokio::pin!(reading);
    // It has been opened by then, so that a writer does not wait.
    let writer = tokio::select! {
        biased;
        done = &mut reading => panic!("nothing was written, and yet: {done:?}"),
        writer = async { fs::File::options().write(true).open(&path).unwrap() } => writer,
    };
    // Nor is there an end as long as there is one.
    tokio::select! {
        biased;
        done = &mut reading => panic!("nothing was written, and yet: {done:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop(writer);
    assert_eq!(reading.await.unwrap().stat.size, 0);
}

#[tokio::test]
async fn what_is_a_fifo_no_more_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    assert_eq!(digest(&path, Known::Fifo).await.unwrap_err().kind(), ErrorKind::Changed);
}

#[tokio::test]
async fn files_of_the_kernel_have_the_digest_of_what_is_in_them_whatever_their_size_says() {
    let mut seen = 0;
    // The first says that it has a page, the second that it has nothing.
    for path in ["/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_seqnum", "/proc/version"] {
        let Ok(data) = fs::read(path) else { continue };
        let digested = digest(Path::new(path), Known::Regular).await.unwrap();
        assert_eq!((digested.stat.size, digested.digests), (data.len() as u64, expected(&data)), "{path}");
        seen += 1;
    }
    assert!(seen > 0, "there is neither /sys nor /proc here");
}
