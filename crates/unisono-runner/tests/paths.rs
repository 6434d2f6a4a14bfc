//! Paths that a program gives: walked behind the inlet, on a thread that ends with the run.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use unisono_runner::{
    FileCall, FileTask, GivenPath, Inlet, Notifier, Outputs, Row, RowBatch, RowOrigin,
    file_tools::{Known, WalkOptions},
    hash::Algorithm,
    inlet, path_rows,
};

fn start() -> (Inlet<GivenPath>, tokio::sync::mpsc::Receiver<RowBatch<FileCall>>, mpsc::Receiver<()>) {
    let (sender, notified) = mpsc::channel();
    let sender = Mutex::new(sender);
    // The receiver may have gone when the last notification comes.
    let notifier: Notifier = Arc::new(move || {
        let _ = sender.lock().unwrap().send(());
    });
    let (inlet, intake) = inlet(4, notifier);
    let rows = path_rows(intake, WalkOptions::default(), [Algorithm::Sha256].into(), Outputs::default()).unwrap();
    (inlet, rows, notified)
}

fn row(line: u64, path: Result<PathBuf, String>) -> Row<GivenPath> {
    let call = path.map(|path| GivenPath { path, is_named: true });
    Row { id: None, origin: RowOrigin::of_item(line), call }
}

#[test]
fn a_folder_becomes_the_rows_of_its_files_under_the_line_that_gave_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b", "a"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let (inlet, mut rows, _rung) = start();
    let given = [Ok(folder.path().to_owned()), Err("no path".to_owned()), Ok(folder.path().join("b"))];
    inlet.put(given.into_iter().zip(1..).map(|(path, line)| row(line, path)).collect());
    // Handed over though the input has not ended: a slow producer's paths are run as they come.
    let Some(RowBatch::Rows(first)) = rows.blocking_recv() else { panic!("there are rows") };
    inlet.end(Some("the list is gone".to_owned()));
    assert!(matches!(rows.blocking_recv(), Some(RowBatch::Failed(why)) if why == "the list is gone"));
    assert!(rows.blocking_recv().is_none());
    let shown = first.into_iter().map(|row| match row.call {
        Ok(FileCall { path, shares_line, task: FileTask::Digest { known: Known::Regular }, .. }) => {
            (row.origin.line.get(), path.strip_prefix(folder.path()).unwrap().display().to_string(), shares_line)
        }
        Ok(other) => panic!("{other:?}"),
        Err(why) => (row.origin.line.get(), why, false),
    });
    let expected = [(1, "a", true), (1, "b", true), (2, "no path", false), (3, "b", false)];
    assert_eq!(shown.collect::<Vec<_>>(), expected.map(|(line, name, shares)| (line, name.to_owned(), shares)));
}

#[test]
fn the_thread_that_waits_for_paths_ends_when_nobody_wants_their_rows() {
    let (inlet, rows, notified) = start();
    assert_eq!(inlet.room(), 4);
    drop(rows);
    while inlet.room() > 0 {
        notified.recv_timeout(Duration::from_secs(20)).expect("it says so when it goes");
    }
}
