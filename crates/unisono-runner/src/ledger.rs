//! The account of a run: every outcome passes through here once, is counted, and goes where it belongs.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    io,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use unisono_core::{CancelReason, CancelToken, Effect, ErrorKind, OutcomeKind};
use unisono_journal::{Fields, Journal, LeftOver, Members, OldLines, Record, Repeat, RerunMode, RowKey};

use crate::{
    Error, Outlet, Report, RowOutcome,
    canary::{Canary, Step},
    gauge::Gauge,
    row::RowIndex,
    saves::SavedBefore,
    work::{Done, next_of},
};

/// Called with each outcome, in the order in which they are written; an error ends the run. What it holds back at the
/// end is written by the face that made it.
pub type Listing<D> = Box<dyn FnMut(&RowOutcome<D>) -> io::Result<()>>;

pub(crate) struct Ledger<D: Done> {
    pub(crate) report: Report,
    pub(crate) journal: Option<Rc<Journal>>,
    /// The journal is a file: it gets outcomes as they come, whatever the order of the rest.
    pub(crate) keeps_at_once: bool,
    pub(crate) outlet: Option<Outlet<D>>,
    pub(crate) listing: Option<Listing<D>>,
    /// Rows that ended in this run.
    pub(crate) rows_ended: u64,
    /// Rows of the input that were kept.
    pub(crate) rows_kept: u64,
    pub(crate) style: D::Style,
    pub(crate) order: Option<ReorderBuffer<D>>,
    pub(crate) cancel: CancelToken,
    pub(crate) max_failures: Option<u64>,
    pub(crate) canary: Canary,
    /// The source waits for the canary.
    pub(crate) canary_waker: Option<Waker>,
    pub(crate) gauge: Gauge,
    /// The gauge learns of bytes as they are read, not with the outcome.
    pub(crate) bytes_are_live: bool,
    /// What makes the run itself fail: the input is another one than before.
    pub(crate) refused: Option<Error>,
    /// Every row of the input was taken in.
    pub(crate) input_ended: bool,
    /// Lines of earlier runs that belong to no row of the input, once that has been read.
    pub(crate) left_over: LeftOver,
    /// How many of these would have run again, had the input had a row for them.
    pub(crate) again_unseen: u64,
    /// Where the rows stand whose lines are to be put in the order of the input.
    pub(crate) order_of_lines: Option<unisono_journal::InputOrder>,
    /// How many rows of earlier runs the input has no more, where rows are known by their ids, and some of these.
    pub(crate) gone: Result<(u64, Vec<String>), unisono_journal::Error>,
    /// What was on its way when a run was killed and is not in the input any more: how many rows, and some of these.
    pub(crate) gone_in_doubt: (u64, Vec<String>),
    /// Rows that would have run again in another way than before.
    pub(crate) otherwise_repeated: u64,
    /// What runs now and may have been started before, and in which way that could be repeated.
    pub(crate) doubts: HashMap<RowKey, Repeat>,
    /// Of rows that run from a page behind which others may have been started before.
    pub(crate) begun_behind: HashMap<u64, BegunBehind>,
    /// The lines of rows that run again.
    pub(crate) old: Arc<OldLines>,
    /// Those of rows that change nothing, whichever run has done them.
    pub(crate) safe: HashSet<RowKey>,
    /// What these say to have saved.
    pub(crate) saved_before: SavedBefore,
    /// Buffers for one line, kept for the next one.
    pub(crate) fields: Fields,
    pub(crate) body: Fields,
}

/// Pages that may have been started before one that has no line any more, or none that is good: their row comes to
/// them again, and whatever becomes of them then, they may have been carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BegunBehind {
    /// Those behind this one.
    pub(crate) after: u32,
    /// Up to this one.
    pub(crate) until: u32,
    /// They could be repeated in the way in which they will be.
    pub(crate) is_same: bool,
}

/// Holds outcomes back until all rows before them are out.
pub(crate) struct ReorderBuffer<D> {
    next: RowIndex,
    /// By row: the outcomes of its pages so far, and whether it has ended.
    waiting: BTreeMap<RowIndex, (Vec<RowOutcome<D>>, bool)>,
    /// Rows that may come in after `next`.
    window: u64,
    /// The source waits for room in the window.
    pub(crate) waker: Option<Waker>,
}

impl<D: Done> Ledger<D> {
    /// How many more outcomes there is room for.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> usize {
        if self.journal.as_ref().is_some_and(|journal| journal.poll_ready(context).is_pending()) {
            return 0;
        }
        self.outlet.as_ref().map_or(usize::MAX, |outlet| outlet.poll_room(context))
    }

    /// Takes outcomes of items that have ended. `ended` of each says that nothing more of its row will follow.
    pub(crate) fn record(&mut self, outcomes: impl Iterator<Item = (RowOutcome<D>, bool)>) {
        let mut ready = Vec::with_capacity(outcomes.size_hint().0);
        for (mut outcome, ended) in outcomes {
            // First, since what earlier attempts may have done can change how it is counted.
            self.remember(&mut outcome);
            let again = self.count(&outcome);
            self.watch_canary(outcome.index, again, ended);
            self.rows_ended += u64::from(ended);
            // What is in a file survives a crash, so nothing waits for its turn there.
            if self.keeps_at_once {
                self.write(&outcome);
            }
            match &mut self.order {
                Some(order) => order.add(outcome, ended, &mut ready),
                None => ready.push(outcome),
            }
        }
        self.put(ready);
        // After the lines: what stops the run is among its results.
        self.look_after();
    }

    /// What earlier attempts may have done is not undone by one that did nothing.
    fn remember(&mut self, outcome: &mut RowOutcome<D>) {
        let old = self.old.get(&outcome.key).map(|old| (old.effect, old.repeat, old.idempotency_key.as_deref()));
        let doubt = take(&mut self.doubts, &outcome.key).map(|repeat| (Effect::Maybe, repeat, None));
        let behind = if self.begun_behind.is_empty() { None } else { self.begun_behind.get(&outcome.key.row).copied() };
        let behind = behind.and_then(|behind| {
            let page = outcome.key.page.max(1);
            let is_over = outcome.kind == OutcomeKind::Ok && !matches!(outcome.done.next(), Some(Some(_)));
            if is_over {
                self.begun_behind.remove(&outcome.key.row);
            } else if page < behind.until {
                outcome.begun_to = behind.until;
            }
            let repeat = if behind.is_same { outcome.repeat } else { Repeat::Never };
            (behind.after < page && page <= behind.until).then_some((Effect::Maybe, repeat, None))
        });
        for (effect, repeat, key) in old.into_iter().chain(doubt).chain(behind) {
            outcome.effect = outcome.effect.join(effect);
            if effect != Effect::None && !outcome.repeat.agrees_with(repeat) {
                // A repeat of this attempt would be one of the earlier as well, and in another way.
                outcome.repeat = Repeat::Never;
                outcome.idempotency_key = outcome.idempotency_key.take().or_else(|| key.map(Into::into));
            }
            outcome.kind = outcome.effect.outcome(outcome.kind, outcome.repeat.is_allowed());
        }
        // What it has saved stays its own, under whatever names or none this run saves: its line goes, and this one
        // says so.
        if let Some(files) = take(&mut self.saved_before, &outcome.key)
            && outcome.kind != OutcomeKind::Ok
        {
            for (place, name) in files {
                if let Some(there) = std::fs::metadata(&name).ok().filter(std::fs::Metadata::is_file) {
                    outcome.done.has_saved(place, name, there.len());
                }
            }
        }
    }

    /// A row that needs no outcome: an earlier run had it. `again` is what it takes for it to run again, unless it went
    /// well.
    pub(crate) fn kept(&mut self, row: RowIndex, again: Option<RerunMode>) {
        self.rows_kept += 1;
        self.stays(row, again);
    }

    /// The same of a row whose line is one of [`Ledger::old`], which are counted at the end.
    pub(crate) fn stays(&mut self, row: RowIndex, again: Option<RerunMode>) {
        self.gauge.add_kept();
        self.watch_canary(row, again, true);
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

    /// Counts an outcome. Returns what it takes for its row to run again.
    fn count(&mut self, outcome: &RowOutcome<D>) -> Option<RerunMode> {
        let report = &mut self.report;
        let bytes = outcome.done.bytes();
        report.counts.add(outcome.kind);
        report.bytes += bytes;
        self.gauge.add(outcome.kind);
        if !self.bytes_are_live {
            self.gauge.add_bytes(bytes);
        }
        if outcome.attempts > 0 {
            report.latency.record(outcome.elapsed);
        } else if outcome.kind == OutcomeKind::Cancelled {
            report.never_started += 1;
        }
        if let Some(group) = outcome.done.group() {
            report.add_group(&group, outcome.kind);
        }
        let error = outcome.done.error();
        let passing = error.as_ref().map(|(kind, _)| *kind).filter(|kind| kind.is_passing());
        let again = RerunMode::of(outcome.kind, outcome.effect, outcome.repeat.is_allowed(), passing.is_some());
        report.again.add(again);
        if let Some(kind) = passing
            && (outcome.kind, again) == (OutcomeKind::Failed, Some(RerunMode::Resume))
        {
            *report.passing.entry(kind).or_default() += 1;
        }
        if let Some((kind, message)) = error.filter(|(kind, _)| *kind != ErrorKind::Cancelled) {
            let label = outcome.done.label().unwrap_or(Cow::Borrowed(&outcome.id));
            match &outcome.location {
                Some(location) => report.errors.record(kind, &message, &format!("{label}, {location}")),
                None => report.errors.record(kind, &message, &label),
            }
        }
        again
    }

    fn put(&mut self, outcomes: Vec<RowOutcome<D>>) {
        if let Some(listing) = &mut self.listing
            && let Err(error) = outcomes.iter().try_for_each(listing)
        {
            self.listing = None;
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.cancel.drain(CancelReason::OutputClosed);
            } else {
                self.report.failures.push(format!("cannot write to standard output: {error}"));
                self.cancel.drain(CancelReason::OutputFailed);
            }
        }
        if !self.keeps_at_once {
            outcomes.iter().for_each(|outcome| self.write(outcome));
        }
        if let Some(outlet) = &self.outlet
            && !outcomes.is_empty()
        {
            outlet.put(outcomes);
        }
    }

    /// Tells the canary how a row ended: well, if nothing runs it again.
    fn watch_canary(&mut self, index: RowIndex, again: Option<RerunMode>, is_last: bool) {
        if self.canary.is_of(index) {
            self.report.canary = self.report.canary.max(again);
        }
        let step = self.canary.ended(index, again.is_none(), is_last);
        if step == Step::Failed {
            self.cancel.drain(CancelReason::Canary);
        }
        // The canary has its new state by now, so a source that is woken sees it.
        if step != Step::Same {
            self.gauge.set_canary(self.canary.waited_for().filter(|_| step != Step::Failed));
            self.canary_waker.take().into_iter().for_each(Waker::wake);
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
            // The program that abandons it also says how what runs is to end. An abort from here would reach the engine
            // past the stages of a stop, and how calls and commands ended would not be known.
            self.cancel.drain(CancelReason::Requested);
        }
        if let Some(error) = self.journal.as_ref().and_then(|journal| journal.failure()) {
            let reason = if error.is_closed_pipe() { CancelReason::OutputClosed } else { CancelReason::OutputFailed };
            self.cancel.drain(reason);
        }
    }

    fn write(&mut self, outcome: &RowOutcome<D>) {
        let Some(journal) = self.journal.clone() else { return };
        self.fields.clear();
        self.body.clear();
        let next = outcome.done.next();
        push_fields(outcome, self.style, &mut self.fields.members(), &mut self.body.members());
        journal.append(&Record {
            key: outcome.key,
            id: &outcome.id,
            fingerprint: outcome.fingerprint,
            outcome: outcome.kind,
            effect: outcome.effect,
            repeatable: outcome.repeat.is_allowed(),
            idempotency_key: outcome.idempotency_key.as_deref().filter(|_| outcome.effect != Effect::None),
            next: next_of(&next),
            begun_to: outcome.begun_to,
            fields: &self.fields,
            body: &self.body,
        });
    }
}

/// Takes what is known of a row. Of most runs nothing is, and a removal hashes its key even where there is nothing.
fn take<T>(known: &mut HashMap<RowKey, T>, key: &RowKey) -> Option<T> {
    if known.is_empty() { None } else { known.remove(key) }
}

/// The members of a line after its prefix; the body apart.
fn push_fields<D: Done>(outcome: &RowOutcome<D>, style: D::Style, fields: &mut Members<'_>, body: &mut Members<'_>) {
    if let Some((kind, message)) = outcome.done.error() {
        fields.object("error", |error| {
            error.display("kind", kind);
            error.text("message", &message);
            if let Some(location) = &outcome.location {
                error.text("where", location);
            }
            outcome.done.push_error(error);
        });
    }
    outcome.done.push_subject(fields);
    fields.number("attempts", outcome.attempts);
    fields.seconds("seconds", outcome.elapsed);
    outcome.done.push_result(style, fields, body);
}

impl<D> ReorderBuffer<D> {
    pub(crate) fn new(window: u64) -> Self {
        Self { next: RowIndex::new(0), waiting: BTreeMap::new(), window, waker: None }
    }

    /// Whether this row is too far ahead of the first that is missing.
    pub(crate) fn is_beyond(&self, row: RowIndex) -> bool {
        row.get() >= self.next.get() + self.window
    }

    fn add(&mut self, outcome: RowOutcome<D>, ended: bool, ready: &mut Vec<RowOutcome<D>>) {
        let row = outcome.index;
        let (outcomes, has_ended) = self.waiting.entry(row).or_default();
        outcomes.push(outcome);
        *has_ended |= ended;
        self.advance(ready);
    }

    fn pass(&mut self, row: RowIndex, ready: &mut Vec<RowOutcome<D>>) {
        self.waiting.entry(row).or_default().1 = true;
        self.advance(ready);
    }

    fn advance(&mut self, ready: &mut Vec<RowOutcome<D>>) {
        while let Some((outcomes, ended)) = self.waiting.get_mut(&self.next) {
            ready.append(outcomes);
            if !*ended {
                return;
            }
            self.waiting.remove(&self.next);
            self.next = self.next.next();
            // After `next` has moved, so that a source that is woken finds room.
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf, time::Duration};

    use proptest::prelude::*;
    use serde_json::Value;
    use unisono_journal::{Identity, Mode, Recovered, scan};

    use super::*;
    use crate::{each::CommandResult, fetch::Fetched, functions::Returned, sum::DigestResult};

    fn line<D: Done>(done: D, style: D::Style, id: &str, place: &str, kind: OutcomeKind) -> Vec<u8> {
        let mut outcome = RowOutcome::of_call(0, kind, Effect::Done, done, 1, Duration::from_micros(1_000_001));
        (outcome.id, outcome.location) = (id.into(), Some(place.into()));
        let (mut fields, mut body) = (Fields::default(), Fields::default());
        push_fields(&outcome, style, &mut fields.members(), &mut body.members());
        let next = outcome.done.next();
        let record = Record {
            key: outcome.key,
            id: &outcome.id,
            fingerprint: 7,
            outcome: outcome.kind,
            effect: outcome.effect,
            repeatable: false,
            idempotency_key: None,
            next: next_of(&next),
            begun_to: 0,
            fields: &fields,
            body: &body,
        };
        record.line()
    }

    proptest! {
        #[test]
        fn an_outcome_of_any_kind_of_work_with_any_bytes_in_it_is_a_line_that_is_read_back(
            text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 1..40), place in any::<String>(),
            has_failed: bool, kind in 0usize..6,
        ) {
            let kind = OutcomeKind::ALL[kind];
            let path = PathBuf::from(OsString::from_vec(bytes.clone()));
            let error = has_failed.then(|| (ErrorKind::Save, text.clone()));
            let ran = CommandResult {
                item: bytes.clone(),
                argv: vec![OsString::from_vec(bytes.clone())],
                saved: Some(path.clone()),
                error: error.clone(),
                ..CommandResult::default()
            };
            let hashed = DigestResult { path: Some(path.clone().into()), error: error.clone().map(Box::new), ..DigestResult::default() };
            let returned = Returned::<()> {
                item: Some(bytes.clone().into()), json: Some(bytes.clone().into()), error, ..Returned::default()
            };
            let mut fetched = if has_failed { Fetched::failed(ErrorKind::Save, text.clone()) } else { Fetched::default() };
            fetched.saved = Some((path, 7));
            let lines = [
                line(ran, Default::default(), &text, &place, kind),
                line(hashed, (), &text, &place, kind),
                line(returned, (), &text, &place, kind),
                line(fetched, Default::default(), &text, &place, kind),
            ];
            for line in lines {
                let inside = line.strip_suffix(b"\n").unwrap();
                prop_assert!(!inside.contains(&b'\n') && !inside.contains(&b'\r'));
                let value: Value = serde_json::from_slice(inside).unwrap();
                prop_assert_eq!(value["id"].as_str(), Some(text.as_str()));
                if has_failed {
                    prop_assert_eq!(value["error"]["message"].as_str().is_some(), true);
                    prop_assert_eq!(value["error"]["where"].as_str(), Some(place.as_str()));
                }
                prop_assert_eq!(scan(inside).unwrap().outcome, kind);
                // Its effect is done, so whatever its outcome, it is kept.
                let recovered = Recovered::of_bytes(&line, Mode::Resume, Identity::Row).unwrap();
                prop_assert_eq!(recovered.counts().get(kind), 1);
            }
        }
    }
}
