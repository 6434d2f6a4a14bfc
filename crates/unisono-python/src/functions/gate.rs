//! The engine's repeats without a batch: the state machine, asked and told by the program itself. It says when a call
//! may go again; who waits, and how, is the program's business. For limits there is `limiter.rs`.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pyo3::{prelude::*, types::PyDict};
use unisono_batch::{Finish, Machine, Ruling, Ticket};
use unisono_core::{Backoff, Limits, Peer, RetryPolicy, Times, clock};
use unisono_runner::Settings;

use crate::options::Keywords;

/// Repeats. None of its methods waits.
#[pyclass(frozen, module = "unisono._native")]
pub struct Gate(Mutex<State>);

struct State {
    machine: Machine,
    /// What has asked, by its number.
    tickets: HashMap<u64, Ticket>,
    /// By the ticket's slot.
    numbers: HashMap<Ticket, u64>,
    next: u64,
    /// How long after its first start something may go again. It is kept here, since nobody asks the machine what is
    /// late.
    deadline: Option<Duration>,
}

#[pymethods]
impl Gate {
    #[new]
    #[pyo3(signature = (**keywords))]
    fn new(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let limits = Limits::new(Some(NonZeroU32::MAX), None);
        let backoff = Backoff::default();
        let backoff = Backoff {
            base: keywords.span("base")?.flatten().unwrap_or(backoff.base),
            cap: keywords.span("cap")?.flatten().unwrap_or(backoff.cap),
        };
        let retry = RetryPolicy { repeats: keywords.whole("retries")?.unwrap_or(0), backoff, ..RetryPolicy::default() };
        let deadline = keywords.span("deadline")?.flatten();
        let times = Times { timeout: None, deadline: None, ..Times::default() };
        keywords.finish()?;
        let machine = Machine::new(Settings { limits, times, retry, ordered_by_key: false }, fastrand::u64(..));
        Ok(Self(Mutex::new(State { machine, tickets: HashMap::new(), numbers: HashMap::new(), next: 0, deadline })))
    }

    /// Somebody wants to go; the answer is their number.
    fn ask(&self, key: &str) -> u64 {
        let mut state = self.lock();
        let ticket = state.machine.offer(clock::now(), key);
        let number = state.next;
        state.next += 1;
        state.tickets.insert(number, ticket);
        state.numbers.insert(ticket, number);
        number
    }

    /// The numbers of those that go now, and in how many seconds to look again, if time alone lets another one go.
    fn lease(&self) -> (Vec<u64>, Option<f64>) {
        let mut state = self.lock();
        let now = clock::now();
        let mut leased = Vec::new();
        while let Some(lease) = state.machine.lease(now) {
            leased.extend(state.numbers.get(&lease.ticket));
        }
        let until = state.machine.wants(now).until.map(|at| at.saturating_duration_since(now).as_secs_f64());
        (leased, until)
    }

    /// One that went is through, or one that waited does not want to go any more.
    fn done(&self, number: u64) {
        let mut state = self.lock();
        if let Some(ticket) = state.tickets.remove(&number) {
            state.numbers.remove(&ticket);
            state.machine.finish(clock::now(), ticket, Finish::Final, Peer::Unknown);
        }
    }

    /// One that went did not succeed: in how many seconds it may go again; `None` when it may not, and is through.
    fn again(&self, number: u64) -> Option<f64> {
        let mut state = self.lock();
        let now = clock::now();
        let ticket = *state.tickets.get(&number)?;
        let by = state.machine.first_start(ticket).zip(state.deadline).map(|(start, deadline)| start + deadline);
        match state.machine.finish(now, ticket, Finish::Retry { not_before: None }, Peer::Unknown) {
            Ruling::Again { at, .. } if by.is_none_or(|by| at < by) => {
                Some(at.saturating_duration_since(now).as_secs_f64())
            }
            _ => {
                state.machine.finish(now, ticket, Finish::Final, Peer::Unknown);
                state.tickets.remove(&number);
                state.numbers.remove(&ticket);
                None
            }
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
