//! What the API really did.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The API's own account, which no client can gloss over.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
    more: Condvar,
}

/// What is in it.
#[derive(Debug, Default, Clone)]
pub struct Entries {
    /// Requests that came in whole.
    pub requests: u64,
    /// How often each order took effect.
    pub orders: HashMap<u64, u32>,
    /// What was done to requests, by name.
    pub deeds: BTreeMap<&'static str, u64>,
    /// How often each path was asked for.
    asked: HashMap<String, u32>,
}

impl Ledger {
    /// A request came in; returns how often this path had come before.
    pub fn request(&self, path: &str) -> u32 {
        let mut entries = self.lock();
        entries.requests += 1;
        let asked = entries.asked.entry(path.to_owned()).or_default();
        let before = *asked;
        *asked += 1;
        drop(entries);
        self.more.notify_all();
        before
    }

    /// An order took effect.
    pub fn order(&self, number: u64) {
        *self.lock().orders.entry(number).or_default() += 1;
    }

    /// Something was done to a request.
    pub fn deed(&self, name: &'static str) {
        *self.lock().deeds.entry(name).or_default() += 1;
    }

    /// Waits until so many requests came in, or so long; returns how many did.
    pub fn wait_for(&self, requests: u64, longest: Duration) -> u64 {
        let entries = self.lock();
        let (entries, _) = self
            .more
            .wait_timeout_while(entries, longest, |entries| entries.requests < requests)
            .unwrap_or_else(PoisonError::into_inner);
        entries.requests
    }

    /// A copy of everything.
    pub fn entries(&self) -> Entries {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
