//! The other side of a fetch: requests that arrive as bytes are sent from here, and their ends are bytes again.
//!
//! One client on a thread of its own, which never touches the interpreter. Nothing says when a program has died, so
//! a fetcher that was not asked for so many seconds ends: it closes its connections, and says from then on that
//! it has.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as channel},
    time::{Duration, Instant},
};

use bytes::Bytes;
use pyo3::{prelude::*, types::PyBytes};
use tokio::sync::mpsc;
use unisono_core::{clock, reactor::Reactor};
use unisono_http::{Client, RemoteCommand, RemoteWorker, decode_options};
use unisono_runner::Error;

use crate::{errors, notifier::Notifier};

/// Sends requests for another machine. Its methods never wait, except `wait`.
#[pyclass(frozen, module = "unisono._native")]
pub struct RemoteFetcher {
    commands: Mutex<Option<mpsc::UnboundedSender<RemoteCommand>>>,
    ends: Arc<Ends>,
}

/// What has ended, and when it was asked last.
struct Ends {
    state: Mutex<State>,
    notifier: Notifier,
}

struct State {
    ended: VecDeque<(u64, Vec<u8>)>,
    looked: Instant,
    is_over: bool,
}

impl Ends {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl RemoteFetcher {
    #[new]
    fn new(py: Python<'_>, options: &[u8], longest_unseen: f64) -> PyResult<Self> {
        let longest_unseen = Duration::try_from_secs_f64(longest_unseen).unwrap_or(Duration::MAX);
        let state = State { ended: VecDeque::new(), looked: clock::now(), is_over: false };
        let ends = Arc::new(Ends { state: Mutex::new(state), notifier: Notifier::new()? });
        let (told, options) = (ends.clone(), Bytes::copy_from_slice(options));
        let (sender, begun) = channel::channel();
        let served = ends.clone();
        let run = move || async move { serve(options, longest_unseen, &served, sender).await };
        let over = move |_| {
            told.lock().is_over = true;
            told.notifier.notify();
        };
        let failed = |error: Error| errors::run_failed(py, &error);
        Reactor::thread("unisono-worker")
            .start(run, over)
            .map_err(|error| failed(Error::fault("a remote worker cannot begin").because(error)))?;
        let ended = || Err(Error::fault("the thread to fetch on has ended"));
        let commands = py.detach(move || begun.recv().unwrap_or_else(|_| ended())).map_err(failed)?;
        Ok(Self { commands: Mutex::new(Some(commands)), ends })
    }

    /// Sends requests, each under its number.
    fn send(&self, requests: Vec<(u64, Vec<u8>)>) {
        self.tell(requests.into_iter().map(|(number, request)| RemoteCommand::Send(number, request.into())));
    }

    /// Ends these early.
    fn stop(&self, numbers: Vec<u64>) {
        self.tell(numbers.into_iter().map(RemoteCommand::Stop));
    }

    /// What has ended, up to so many bytes but at least one if there is one; `None` once the fetcher has ended itself.
    fn take<'py>(&self, py: Python<'py>, most_bytes: usize) -> Option<Vec<(u64, Bound<'py, PyBytes>)>> {
        self.ends.notifier.clear();
        let mut state = self.ends.lock();
        state.looked = clock::now();
        if state.is_over {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((_, end)) = state.ended.front() {
            bytes += end.len();
            if bytes > most_bytes && !taken.is_empty() {
                // The next waiter is told of the rest at once.
                self.ends.notifier.notify();
                break;
            }
            taken.extend(state.ended.pop_front());
        }
        drop(state);
        Some(taken.into_iter().map(|(number, end)| (number, PyBytes::new(py, &end))).collect())
    }

    /// Whether the fetcher has ended itself, or was closed.
    #[getter]
    fn is_over(&self) -> bool {
        self.ends.lock().is_over
    }

    /// The descriptor that becomes readable when there is something to take.
    fn fileno(&self) -> i32 {
        self.ends.notifier.fileno()
    }

    /// Waits until there is something to take, or so many seconds.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.ends.notifier.wait(py, seconds)
    }

    /// Stops everything and closes all connections.
    fn close(&self) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl RemoteFetcher {
    fn tell(&self, commands: impl Iterator<Item = RemoteCommand>) {
        self.ends.lock().looked = clock::now();
        if let Some(sender) = &*self.commands.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that has ended itself says so when it is asked for ends.
            commands.for_each(|command| _ = sender.send(command));
        }
    }
}

/// Tells what came of its start, then works until it is closed or forgotten.
async fn serve(
    options: Bytes,
    longest_unseen: Duration,
    ends: &Arc<Ends>,
    begun: channel::Sender<Result<mpsc::UnboundedSender<RemoteCommand>, Error>>,
) {
    let told = ends.clone();
    let ended = move |number, end| {
        told.lock().ended.push_back((number, end));
        told.notifier.notify();
    };
    match decode_options(options).and_then(Client::new) {
        Err(error) => _ = begun.send(Err(error.into())),
        Ok(client) => {
            let (commands, worker) = RemoteWorker::new(client, ended);
            _ = begun.send(Ok(commands));
            tokio::select! {
                () = worker.serve() => {}
                () = forgotten(ends, longest_unseen) => {}
            }
        }
    }
}

/// Returns when it was not asked for too long.
async fn forgotten(ends: &Ends, longest_unseen: Duration) {
    loop {
        let looked = ends.lock().looked;
        let left = longest_unseen.saturating_sub(clock::since(looked));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
