//! Requests of a run that other machines send: taken from here by what carries them, and their ends given back.
//!
//! They are bytes, which nothing on the way has to understand. The engine decides which are sent and when; nothing here
//! waits for the interpreter.

use std::sync::Arc;

use pyo3::{prelude::*, types::PyBytes};
use unisono_http::RemoteResult;
use unisono_runner::{Assignments, Carrier, RemoteSender, WorkNotifier, remote_requests};

use crate::{forks::HomeProcess, notifier::EndingNotifier};

/// Where requests are taken from, and their ends are given back. Its methods never wait, except `wait`.
#[pyclass(frozen, module = "unisono._native")]
pub struct RemoteRequests {
    carrier: Carrier,
    notifier: EndingNotifier,
    /// Threads do not survive a fork.
    home: HomeProcess,
}

/// Requests to send, each with its number; the numbers of those to stop; and whether the run is over.
type TakenRequests<'py> = (Vec<(usize, Bound<'py, PyBytes>)>, Vec<usize>, bool);

impl RemoteRequests {
    /// The engine's end, and this one.
    pub fn new() -> PyResult<(RemoteSender, Self)> {
        let notifier = EndingNotifier::new()?;
        let weak = notifier.weak();
        let notify: WorkNotifier = Arc::new(move || weak.notify());
        let (remote, carrier) = remote_requests(notify);
        Ok((remote, Self { carrier, notifier, home: HomeProcess::new() }))
    }

    fn settle(&self, ends: impl Iterator<Item = (usize, RemoteResult)>) {
        self.carrier.requests.give_back(ends);
    }
}

#[pymethods]
impl RemoteRequests {
    /// Waits until there is something to look at, or so many seconds.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.home.check()?;
        self.notifier.wait(py, seconds)
    }

    /// Requests to send, the numbers of those to stop, and whether the run is over.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<TakenRequests<'py>> {
        self.home.check()?;
        self.notifier.clear();
        let Assignments { begun, stopped, is_open } = self.carrier.requests.take(std::mem::take);
        if !is_open {
            self.notifier.let_go();
        }
        let requests = begun.into_iter().map(|(number, request)| (number, PyBytes::new(py, &request)));
        Ok((requests.collect(), stopped, !is_open))
    }

    /// Gives back the ends of requests, as the other side wrote them.
    fn give_back(&self, ends: Vec<(usize, Vec<u8>)>) -> PyResult<()> {
        self.home.check()?;
        self.settle(ends.into_iter().map(|(number, end)| (number, RemoteResult::Ended(end))));
        Ok(())
    }

    /// What became of these is not known.
    fn lost(&self, numbers: Vec<usize>, why: &str) -> PyResult<()> {
        self.home.check()?;
        self.settle(numbers.into_iter().map(|number| (number, RemoteResult::Lost(why.to_owned()))));
        Ok(())
    }

    /// These were never sent.
    fn unsent(&self, numbers: Vec<usize>, why: &str) -> PyResult<()> {
        self.home.check()?;
        self.settle(numbers.into_iter().map(|number| (number, RemoteResult::Unsent(why.to_owned()))));
        Ok(())
    }

    /// Nothing can be carried any more; the run is stopped.
    fn give_up(&self, why: String) -> PyResult<()> {
        self.home.check()?;
        self.carrier.give_up(why);
        Ok(())
    }
}
