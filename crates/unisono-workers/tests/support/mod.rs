//! A pool over real processes: the test's own program, started again as the pool's zygote and as its workers.
//!
//! A function is a word (`echo`, `meet`, ...) that `worker.rs` knows. A worker that *meets* comes to a socket of the
//! test's and does what it is told there, so a test knows what a worker is at without waiting for time to pass.
//!
//! `zygote` and `worker` are tests by name alone, so that the harness of the test's program starts them; only a
//! pool runs them, so they are ignored.

// Each of the tests' programs needs its own part of it.
#![allow(dead_code)]

mod worker;
mod zygote;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::Arc,
    time::Duration,
};

use unisono_workers::{
    Awaited, Function, Pool, PoolDescriptors, PoolOptions, Task, TaskOutcome, Terms, Zygote,
    blob::{Blob, LONGEST_INLINE_BYTES, Received},
};

/// A pool, and where its workers come when they are to meet.
pub struct Workshop {
    pub pool: Arc<Pool>,
    listener: UnixListener,
    folder: tempfile::TempDir,
}

/// No test waits for longer than this for what is certain to come, so that a fault fails it instead of hanging it.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub const PLAIN: Terms = Terms { timeout: None, retries: 0, key: None };

impl Workshop {
    pub fn new(workers: usize) -> Self {
        Self::with(PoolOptions { workers, method: 0, tasks_per_worker: None, pending: None, per_key: 1 }, devnull())
    }

    pub fn with(options: PoolOptions, output: OwnedFd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("meeting")).unwrap();
        let given = PoolDescriptors { settings: devnull(), output, inherited: Vec::new() };
        let pool = Pool::new(options, Arc::new(Zygote::new(zygote::command())), given).unwrap();
        Self { pool: Arc::new(pool), listener, folder }
    }

    pub fn submit(&self, word: &str, arguments: &[u8], terms: Terms) -> Arc<Task> {
        let function =
            Arc::new(Function { number: 0, name: word.to_owned(), definition: Blob::Inline(word.as_bytes().to_vec()) });
        self.pool.submit(function, self.blob(arguments), terms, false).unwrap()
    }

    /// As the Python package does: long ones go into a slot.
    pub fn blob(&self, bytes: &[u8]) -> Blob {
        if bytes.len() <= LONGEST_INLINE_BYTES {
            return Blob::Inline(bytes.to_vec());
        }
        let lease = self.pool.arena().lease(bytes.len()).unwrap();
        lease.memory().write(0, bytes);
        Blob::Slot(lease)
    }

    /// Submits a task whose worker comes to meet us.
    pub fn submit_meeting(&self, terms: Terms) -> Arc<Task> {
        self.submit("meet", self.folder.path().join("meeting").to_str().unwrap().as_bytes(), terms)
    }

    /// The next worker that comes. The pool is driven by this meanwhile, as by any thread that waits.
    pub fn meet(&self, task: &Task) -> Meeting {
        std::thread::scope(|scope| {
            let come = scope.spawn(|| self.listener.accept().unwrap().0);
            self.drive_until(task, || come.is_finished());
            Meeting(come.join().unwrap())
        })
    }

    fn drive_until(&self, task: &Task, has_come: impl Fn() -> bool) {
        let since = std::time::Instant::now();
        while !has_come() {
            assert!(since.elapsed() < LONGEST_WAIT, "what is waited for does not come");
            self.pool.wait(Awaited::End(task), Some(Duration::from_millis(1)));
        }
    }

    pub fn outcome(&self, task: &Task) -> TaskOutcome {
        let since = std::time::Instant::now();
        while !self.pool.wait(Awaited::End(task), None) {
            assert!(since.elapsed() < LONGEST_WAIT, "a task does not end");
        }
        task.take_outcome().expect("an outcome that was not taken before")
    }

    /// What a task returned.
    pub fn returned(&self, task: &Task) -> Vec<u8> {
        match self.outcome(task) {
            TaskOutcome::Returned(received) => read(&received),
            other => panic!("not a result: {other:?}"),
        }
    }

    pub fn run(&self, word: &str, arguments: &[u8]) -> Vec<u8> {
        self.returned(&self.submit(word, arguments, PLAIN))
    }

    /// The sizes of the slots that a worker has open.
    pub fn slots(&self) -> Vec<usize> {
        let files = String::from_utf8(self.run("files", b"")).unwrap();
        let slots = files.lines().filter(|file| file.contains("unisono-slot"));
        slots.map(|file| file.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    /// Waits until nothing is left of the pool.
    pub fn close(self) {
        self.pool.close(false, false);
        let since = std::time::Instant::now();
        while !self.pool.wait(Awaited::Over, None) {
            assert!(since.elapsed() < LONGEST_WAIT, "the pool does not end");
        }
        assert_eq!(self.pool.counts(), (0, 0));
    }
}

/// A worker in the middle of a task.
pub struct Meeting(UnixStream);

impl Meeting {
    /// Tells it how to go on.
    pub fn say(mut self, order: &str) {
        writeln!(self.0, "{order}").unwrap();
    }

    /// Waits until it is gone, for which the pool has to be driven.
    pub fn wait_for_its_end(mut self, shop: &Workshop, beside: &Task) {
        std::thread::scope(|scope| {
            let gone = scope.spawn(move || {
                let mut rest = Vec::new();
                match self.0.read_to_end(&mut rest) {
                    Ok(_) => assert_eq!(rest, b""),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
                }
            });
            shop.drive_until(beside, || gone.is_finished());
            gone.join().unwrap();
        });
    }
}

pub fn read(received: &Received) -> Vec<u8> {
    match received {
        Received::Inline(bytes) => bytes.clone(),
        Received::Slot(view) => {
            let mut bytes = Vec::new();
            view.memory.read(0, view.length, &mut bytes);
            bytes
        }
    }
}

pub fn devnull() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}
