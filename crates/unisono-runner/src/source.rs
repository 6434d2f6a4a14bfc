//! The rows of an input as items of the engine: numbered, named, checked against an earlier run.
//!
//! What an earlier run has decided is passed over. Until the input has reached the last row that the earlier run knew,
//! nothing is handed out, since the input may yet turn out to be another one; only what would take too much memory is
//! let go before.

use std::{
    cell::RefCell,
    collections::{HashSet, VecDeque},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderValue;
use unisono_batch::{Offer, Pull, Source};
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_http::{Error, IDEMPOTENCY_KEY, Reply, Url};
use unisono_journal::{Disposition, Recovered, RowKey};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{
    Outcome,
    input::{Batch, Feed},
    job::Item,
    ledger::Ledger,
    row::{Call, Row},
};

pub(crate) struct Rows {
    /// `None` once nothing more is wanted of it.
    pub(crate) feed: Option<Box<dyn Feed>>,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) recovered: Recovered,
    /// Rows have pages.
    pub(crate) paged: bool,
    /// Seed of the keys that make a request repeatable; `None` when they are not wanted.
    pub(crate) keys: Option<u64>,
    batch: std::vec::IntoIter<Row>,
    number: u64,
    held: VecDeque<Held>,
    /// Hashes of names; 64 bits tell ten million apart with a doubt of one in a hundred thousand.
    names: HashSet<u64>,
    host: (Option<Url>, Rc<str>),
    ended: bool,
}

/// Something that may go on once the input is known to be the same.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are items, which move on at once; a box each would be an allocation per row"
)]
enum Held {
    Item(Offer<Item>),
    Outcome(Box<Outcome>),
}

impl Rows {
    pub(crate) fn new(
        feed: Box<dyn Feed>,
        ledger: Rc<RefCell<Ledger>>,
        recovered: Recovered,
        paged: bool,
        keys: Option<u64>,
    ) -> Self {
        Self {
            feed: Some(feed),
            ledger,
            recovered,
            paged,
            keys,
            batch: Vec::new().into_iter(),
            number: 0,
            held: VecDeque::new(),
            names: HashSet::new(),
            host: (None, "".into()),
            ended: false,
        }
    }

    /// Takes in one row. Answers false when the input is refused.
    fn take(&mut self, row: Row) -> bool {
        let number = self.number;
        self.number += 1;
        let Row { id, origin, call } = row;
        let call = self.checked(id.as_deref(), call);
        let fingerprint = match &call {
            Ok(call) => call.request.fingerprint(),
            // A bad row is the same while it is bad in the same way.
            Err(why) => xxh3_64(why.as_bytes()),
        };
        let disposition = match self.recovered.dispose(number, fingerprint) {
            Ok(disposition) => disposition,
            Err(error) => {
                self.ledger.borrow_mut().refuse(error.into());
                return false;
            }
        };
        let key = RowKey { row: number, page: u32::from(self.paged) };
        match (disposition, call) {
            (Disposition::Kept, _) => self.ledger.borrow_mut().kept(number),
            (_, Err(why)) => {
                let mut outcome = failed(key, id, fingerprint, OutcomeKind::Failed, Error::new(ErrorKind::Input, why));
                outcome.place = Some(origin.to_string().into());
                self.hold(Held::Outcome(Box::new(outcome)));
            }
            (Disposition::Run, Ok(call)) => self.hold_item(key, id, fingerprint, call),
            (Disposition::Interrupted { page }, Ok(call)) => {
                let error =
                    Error::new(ErrorKind::Interrupted, "an earlier run had started it and did not live to see its end");
                let mut outcome = failed(RowKey { page, ..key }, id, fingerprint, OutcomeKind::Ambiguous, error);
                outcome.asked = Some((call.request.method, call.request.url));
                self.hold(Held::Outcome(Box::new(outcome)));
            }
            (Disposition::Continue { page, next }, Ok(mut call)) => {
                let key = RowKey { page: page + 1, ..key };
                match Url::parse(&next).and_then(|url| call.request.moved_to(url)) {
                    Ok(request) => {
                        call.request = request;
                        self.hold_item(key, id, fingerprint, call);
                    }
                    Err(error) => {
                        self.hold(Held::Outcome(Box::new(failed(key, id, fingerprint, OutcomeKind::Failed, error))))
                    }
                }
            }
        }
        true
    }

    fn checked(&mut self, id: Option<&str>, call: Result<Call, String>) -> Result<Call, String> {
        match id {
            Some(id) if !self.names.insert(xxh3_64(id.as_bytes())) => {
                Err(format!("the id `{id}` is that of an earlier row"))
            }
            _ => call,
        }
    }

    fn hold_item(&mut self, key: RowKey, id: Option<Box<str>>, fingerprint: u64, call: Call) {
        let Call { mut request, save } = call;
        if let Some(seed) =
            self.keys.filter(|_| !request.method.is_idempotent() && !request.headers.contains_key(IDEMPOTENCY_KEY))
        {
            let text = format!(
                "{:032x}",
                xxh3_128_with_seed(&key.row.to_le_bytes(), xxh3_64_with_seed(&fingerprint.to_le_bytes(), seed))
            );
            request
                .headers
                .insert(IDEMPOTENCY_KEY, HeaderValue::try_from(text).expect("hexadecimal digits can be sent"));
        }
        let host = self.host(&request.url);
        self.hold(Held::Item(Offer { key: host, item: Item { key, id, fingerprint, request, save } }));
    }

    fn hold(&mut self, held: Held) {
        self.held.push_back(held);
    }

    /// The key of a row's limits. Most rows go where the one before went.
    fn host(&mut self, url: &Url) -> Rc<str> {
        if !self.host.0.as_ref().is_some_and(|known| known.is_same_origin(url)) {
            self.host = (Some(url.clone()), url.authority().into());
        }
        self.host.1.clone()
    }

    /// Hands out what may go on.
    fn release(&mut self, max: usize, into: &mut Vec<Offer<Item>>) {
        let checked = self.ended || self.recovered.last_row().is_none_or(|last| self.number > last);
        while into.len() < max && (checked || self.held.len() > MOST_HELD) {
            match self.held.pop_front() {
                None => return,
                Some(Held::Item(offer)) => into.push(offer),
                Some(Held::Outcome(outcome)) => self.ledger.borrow_mut().record(std::iter::once((*outcome, true))),
            }
        }
    }

    /// Takes in rows that have been read already. Answers whether the end has come.
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.held.len() < ROWS_AT_ONCE || !self.is_checked() {
                let Some(row) = self.batch.next() else { break };
                if !self.take(row) {
                    self.stop();
                    return Poll::Ready(());
                }
            }
            if self.ended || self.held.len() >= ROWS_AT_ONCE && self.is_checked() {
                return Poll::Ready(());
            }
            let Some(feed) = &mut self.feed else { return Poll::Ready(()) };
            match feed.poll_rows(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Batch::Rows(rows))) => self.batch = rows.into_iter(),
                Poll::Ready(Some(Batch::Failed(why))) => {
                    self.ledger.borrow_mut().input_failed(why);
                    self.ended = true;
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    if let Err(error) = self.recovered.end_of_input() {
                        self.ledger.borrow_mut().refuse(error.into());
                        self.stop();
                    }
                }
            }
            if !self.is_checked() && self.held.len() > MOST_HELD {
                return Poll::Ready(());
            }
        }
    }

    fn is_checked(&self) -> bool {
        self.ended || self.recovered.last_row().is_none_or(|last| self.number > last)
    }

    /// Nothing more comes out of this input.
    fn stop(&mut self) {
        self.held.clear();
        self.batch = Vec::new().into_iter();
        self.feed = None;
        self.ended = true;
    }
}

impl Source for Rows {
    type Item = Item;

    fn poll_pull(&mut self, context: &mut Context<'_>, max: usize, into: &mut Vec<Offer<Item>>) -> Poll<Pull> {
        if let Some(order) = &mut self.ledger.borrow_mut().order
            && order.is_beyond(self.number)
        {
            // Outcomes wait for an earlier row; more of them would only take memory.
            order.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let more = self.poll_rows(context);
        self.release(max, into);
        match (into.is_empty(), more) {
            (false, _) => Poll::Ready(Pull::More),
            (true, _) if self.ended && self.held.is_empty() => Poll::Ready(Pull::End),
            (true, Poll::Ready(())) => {
                // Only outcomes were released: there may be more rows.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (true, Poll::Pending) => Poll::Pending,
        }
    }
}

/// The outcome of a row that is not run.
fn failed(key: RowKey, id: Option<Box<str>>, fingerprint: u64, kind: OutcomeKind, error: Error) -> Outcome {
    Outcome {
        key,
        id: id.unwrap_or_else(|| format!("r{}", key.row).into()),
        kind,
        asked: None,
        place: None,
        reply: Reply::failed(error),
        selected: None,
        saved: None,
        next: None,
        attempts: 0,
        elapsed: Duration::ZERO,
        fingerprint,
        repeatable: true,
    }
}

/// Rows that may wait until the input is known to be the same; their memory is some megabytes.
const MOST_HELD: usize = 10_000;
/// Taken in at once, so that the first can start before all are read.
const ROWS_AT_ONCE: usize = 256;
