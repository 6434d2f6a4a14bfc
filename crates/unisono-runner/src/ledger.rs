//! The account of a run: every outcome passes through here once, is counted, and goes where it belongs.

use std::{
    collections::BTreeMap,
    io::Write,
    rc::Rc,
    task::Context,
    time::{Duration, SystemTime},
};

use unisono_core::{CancelReason, CancelToken, ErrorKind, OutcomeKind};
use unisono_journal::{Journal, Next, Record, push_json_string};

use crate::{Error, Outcome, Outlet, Report, body, body::BodyMode, gauge::Gauge};

pub(crate) struct Ledger {
    pub(crate) report: Report,
    pub(crate) journal: Option<Rc<Journal>>,
    pub(crate) outlet: Option<Outlet>,
    pub(crate) style: Style,
    pub(crate) order: Option<Order>,
    pub(crate) cancel: CancelToken,
    pub(crate) max_failures: Option<u64>,
    pub(crate) gauge: Gauge,
    /// What makes the run itself fail: the input is another one than before.
    pub(crate) refused: Option<Error>,
    /// Buffers for one line, kept for the next one.
    pub(crate) fields: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// How outcomes are written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) body: BodyMode,
    pub(crate) headers: bool,
}

/// Holds outcomes back until all rows before them are out.
#[derive(Default)]
pub(crate) struct Order {
    next: u64,
    /// By row: the outcomes of its pages so far, and whether it has ended.
    waiting: BTreeMap<u64, (Vec<Outcome>, bool)>,
    /// Rows that came in after `next`.
    window: u64,
    /// The source waits for room in the window.
    pub(crate) waker: Option<std::task::Waker>,
}

impl Ledger {
    /// How many more outcomes there is room for.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> usize {
        if self.journal.as_ref().is_some_and(|journal| journal.poll_ready(context).is_pending()) {
            return 0;
        }
        self.outlet.as_ref().map_or(usize::MAX, |outlet| outlet.poll_room(context))
    }

    /// Takes outcomes of items that have ended. `ended` of each says that nothing more of its row will follow.
    pub(crate) fn record(&mut self, outcomes: impl Iterator<Item = (Outcome, bool)>) {
        let mut ready = Vec::new();
        for (outcome, ended) in outcomes {
            self.count(&outcome);
            match &mut self.order {
                Some(order) => order.add(outcome, ended, &mut ready),
                None => ready.push(outcome),
            }
        }
        self.put(ready);
        self.look_after();
    }

    /// A row that needs no outcome: an earlier run had it.
    pub(crate) fn kept(&mut self, row: u64) {
        self.gauge.add_kept();
        if let Some(order) = &mut self.order {
            let mut ready = Vec::new();
            order.pass(row, &mut ready);
            self.put(ready);
        }
    }

    /// The input cannot be read any further. What was read is run all the same; the run as a whole has failed.
    pub(crate) fn input_failed(&mut self, why: String) {
        self.report.failures.push(why);
    }

    /// The input is not what it was; nothing of it may run.
    pub(crate) fn refuse(&mut self, error: Error) {
        self.refused.get_or_insert(error);
        self.cancel.abort(CancelReason::InputFailed);
    }

    /// What is still held back at the end goes out as it is.
    pub(crate) fn flush(&mut self) {
        if let Some(order) = &mut self.order {
            let waiting = std::mem::take(&mut order.waiting);
            let ready = waiting.into_values().flat_map(|(outcomes, _)| outcomes).collect();
            self.put(ready);
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        let report = &mut self.report;
        let bytes = outcome.reply.response.as_ref().map_or(0, |response| response.wire_bytes);
        report.counts.add(outcome.kind);
        report.bytes += bytes;
        self.gauge.add(outcome.kind, bytes);
        if outcome.attempts > 0 {
            report.latency.record(outcome.elapsed);
        } else if outcome.kind == OutcomeKind::Cancelled {
            report.never_started += 1;
        }
        if let Some((_, url)) = &outcome.asked {
            report.add_host(url, outcome.kind);
        }
        if let Some(error) = outcome.reply.error.as_ref().filter(|error| error.kind() != ErrorKind::Cancelled) {
            match &outcome.place {
                Some(place) => report.errors.record(error.kind(), &error.chain(), &format!("{}, {place}", outcome.id)),
                None => report.errors.record(error.kind(), &error.chain(), &outcome.id),
            }
        }
    }

    fn put(&mut self, outcomes: Vec<Outcome>) {
        if let Some(journal) = self.journal.clone() {
            for outcome in &outcomes {
                self.write(&journal, outcome);
            }
        }
        if let Some(outlet) = &self.outlet
            && !outcomes.is_empty()
        {
            outlet.put(outcomes.into_iter());
        }
    }

    /// Whether the run has a reason to stop.
    fn look_after(&mut self) {
        if self.max_failures.is_some_and(|most| {
            self.report.counts.not_ok() - self.report.counts.get(OutcomeKind::Cancelled) >= most.max(1)
        }) {
            self.cancel.drain(CancelReason::MaxFailures);
        }
        if self.outlet.as_ref().is_some_and(Outlet::is_abandoned) {
            self.cancel.abort(CancelReason::Requested);
        }
        if let Some(error) = self.journal.as_ref().and_then(|journal| journal.failure()) {
            let reason = if error.is_closed_pipe() { CancelReason::OutputClosed } else { CancelReason::OutputFailed };
            self.cancel.drain(reason);
        }
    }

    fn write(&mut self, journal: &Journal, outcome: &Outcome) {
        self.fields.clear();
        self.body.clear();
        let next_url = outcome.next.as_ref().and_then(Option::as_ref).map(ToString::to_string);
        push_fields(outcome, self.style, &mut self.fields, &mut self.body);
        journal.append(&Record {
            key: outcome.key,
            id: &outcome.id,
            fingerprint: outcome.fingerprint,
            outcome: outcome.kind,
            next: match (&outcome.next, &next_url) {
                (None, _) => Next::Unknown,
                (Some(_), None) => Next::Last,
                (Some(_), Some(url)) => Next::Page(url),
            },
            fields: &self.fields,
            body: &self.body,
            repeatable: outcome.repeatable,
        });
    }
}

/// The members of a line after its prefix; the body apart.
fn push_fields(outcome: &Outcome, style: Style, fields: &mut Vec<u8>, body: &mut Vec<u8>) {
    // Writing to a vector cannot fail, so the results are of no interest.
    if let Some(error) = &outcome.reply.error {
        let _ = write!(fields, "\"error\":{{\"kind\":\"{}\",\"message\":", error.kind());
        push_json_string(&error.chain(), fields);
        if let Some(place) = &outcome.place {
            fields.extend_from_slice(b",\"where\":");
            push_json_string(place, fields);
        }
        if let Some(at) = outcome.reply.retry_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            let _ = write!(fields, ",\"retry_at\":{}", at.as_secs());
        }
        fields.extend_from_slice(b"},");
    }
    match &outcome.asked {
        Some((method, url)) => {
            let _ = write!(fields, "\"url\":\"{url}\",\"method\":\"{method}\",");
        }
        None => fields.extend_from_slice(b"\"url\":null,"),
    }
    if let Some(response) = &outcome.reply.response {
        let _ = write!(fields, "\"status\":{},", response.status.as_u16());
    }
    let _ = write!(fields, "\"attempts\":{},\"seconds\":", outcome.attempts);
    push_seconds(outcome.elapsed, fields);
    if let Some(response) = &outcome.reply.response {
        let _ = write!(fields, ",\"bytes\":{}", response.wire_bytes);
        if response.redirects > 0 {
            let _ = write!(fields, ",\"final_url\":\"{}\"", response.url);
        }
        if style.headers {
            push_headers(&response.headers, fields);
        }
        push_body(outcome, &response.body, style.body, fields, body);
    }
    if let Some((path, bytes)) = &outcome.saved {
        fields.extend_from_slice(b",\"saved\":");
        push_json_string(&path.to_string_lossy(), fields);
        let _ = write!(fields, ",\"saved_bytes\":{bytes}");
    }
}

fn push_body(outcome: &Outcome, bytes: &[u8], mode: BodyMode, fields: &mut Vec<u8>, body: &mut Vec<u8>) {
    if let Some(selected) = &outcome.selected {
        return body::push_member(selected, mode, true, body);
    }
    if mode != BodyMode::Json || bytes.is_empty() {
        return body::push_member(bytes, mode, false, body);
    }
    let error = body::json_error(bytes);
    if let Some(why) = &error {
        fields.extend_from_slice(b",\"json_error\":");
        push_json_string(why, fields);
    }
    body::push_member(bytes, mode, error.is_none(), body);
}

fn push_headers(headers: &http::HeaderMap, fields: &mut Vec<u8>) {
    fields.extend_from_slice(b",\"headers\":{");
    for (at, name) in headers.keys().enumerate() {
        if at > 0 {
            fields.push(b',');
        }
        push_json_string(name.as_str(), fields);
        fields.push(b':');
        // Several of one name are one list (RFC 9110, section 5.3); a cookie is a secret.
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let text = if *name == http::header::SET_COOKIE { "***".to_owned() } else { values.join(", ") };
        push_json_string(&text, fields);
    }
    fields.push(b'}');
}

/// Seconds with microseconds, without a float's noise.
fn push_seconds(duration: Duration, into: &mut Vec<u8>) {
    let _ = write!(into, "{}.{:06}", duration.as_secs(), duration.subsec_micros());
}

impl Order {
    pub(crate) fn new(window: u64) -> Self {
        Self { window, ..Self::default() }
    }

    /// Whether this row is too far ahead of the first that is missing.
    pub(crate) fn is_beyond(&self, row: u64) -> bool {
        row >= self.next + self.window
    }

    fn add(&mut self, outcome: Outcome, ended: bool, ready: &mut Vec<Outcome>) {
        let row = outcome.key.row;
        let (outcomes, has_ended) = self.waiting.entry(row).or_default();
        outcomes.push(outcome);
        *has_ended |= ended;
        self.advance(ready);
    }

    fn pass(&mut self, row: u64, ready: &mut Vec<Outcome>) {
        self.waiting.entry(row).or_default().1 = true;
        self.advance(ready);
    }

    fn advance(&mut self, ready: &mut Vec<Outcome>) {
        while let Some((outcomes, ended)) = self.waiting.get_mut(&self.next) {
            ready.append(outcomes);
            if !*ended {
                return;
            }
            self.waiting.remove(&self.next);
            self.next += 1;
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}
