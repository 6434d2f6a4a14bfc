//! The rows of an input as items of the engine: numbered, named, checked against an earlier run.
//!
//! What an earlier run has decided is passed over. Until the input has reached the last row that the earlier run knew
//! (where rows are known by their ids: all of them, or its end), nothing is handed out, since the input may yet turn
//! out to be another one; only what would take too much memory is let go before.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet, VecDeque},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Sleep, sleep};
use unisono_batch::{Offer, Pull, Source};
use unisono_core::{Effect, ErrorKind, OutcomeKind};
use unisono_journal::{ANY_PAGE, Disposition, Fields, Gone, Identity, Later, OldLine, Recovered, Repeat, RowKey};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Error, OnEvent, RowOutcome, RunEvent,
    input::{Feed, RowBatch},
    ledger::{BegunBehind, Ledger},
    notes::Notes,
    pages::Pages,
    row::{LineNumber, Row, RowIndex},
    saves::{Claimant, Earlier, NameRefusal, SavedFile, Saves, Target},
    twins::{Name, Prepare, Twins},
    work::{Call, Done, Item},
};

pub(crate) struct RowSource<C: Call> {
    /// `None` once nothing more is wanted of it.
    pub(crate) feed: Option<Box<dyn Feed<C>>>,
    pub(crate) ledger: Rc<RefCell<Ledger<C::Done>>>,
    pub(crate) recovered: Recovered,
    /// What else the lines of earlier runs say.
    earlier: Earlier,
    /// A row that does not end well may stop the run: what an earlier run left in doubt is told before any starts.
    pub(crate) looks_first: bool,
    /// Runs while rows wait for what the input has yet to come to, and it gives nothing.
    silence: Option<Pin<Box<Sleep>>>,
    /// How many pages rows may have.
    pub(crate) pages: Pages,
    /// Which row has which of the names that rows write to.
    pub(crate) saves: Option<Rc<RefCell<Saves>>>,
    pub(crate) prepare: Option<Prepare<C>>,
    pub(crate) on_event: Option<Rc<OnEvent>>,
    notes: Option<Rc<Notes>>,
    batch: std::vec::IntoIter<Row<C>>,
    /// RowSource that were taken in.
    number: u64,
    /// The number of the first of them.
    first_row: u64,
    /// RowSource are known again by their ids.
    is_by_id: bool,
    held: VecDeque<HeldRow<C>>,
    /// Outcomes of what an earlier run left in doubt: they wait for nothing but the check of the input.
    in_doubt: Vec<RowOutcome<C::Done>>,
    /// Where the input has what an earlier run had started and may have had elsewhere, by the numbers of its notes.
    found: Vec<(u32, RowKey)>,
    /// Hashes of names; 64 bits tell ten million apart with a doubt of one in a hundred thousand.
    names: HashSet<u64>,
    twins: Twins,
    /// The limit key of the row before.
    limit_key: Rc<str>,
    ended: bool,
}

/// Something that may go on once the input is known to be the same.
enum HeldRow<C: Call> {
    Item(Offer<Item<C>>),
    Outcome(Box<RowOutcome<C::Done>>),
}

/// What an earlier run may have started of a row that has no line of it.
#[derive(Debug)]
enum Doubt {
    /// It had, and could repeat it in this way; and pages behind it, which come again when it does.
    Started(Repeat, Vec<Later>),
    /// That is not known.
    NotesLost,
    /// It had, as the line of a page before it says.
    Behind,
}

impl Doubt {
    /// In which way that could be repeated: where that is not known, only what can be repeated by its nature follows
    /// it.
    fn repeat(&self) -> Repeat {
        match self {
            Self::Started(repeat, _) => *repeat,
            Self::NotesLost | Self::Behind => Repeat::ByNature,
        }
    }

    fn later(&self) -> &[Later] {
        match self {
            Self::Started(_, later) => later,
            Self::NotesLost | Self::Behind => &[],
        }
    }
}

/// A row without its call.
struct RowMetadata {
    key: RowKey,
    index: RowIndex,
    line: LineNumber,
    id: Option<Box<str>>,
    fingerprint: u64,
    /// The id is its own.
    has_id: bool,
}

impl RowMetadata {
    fn claimant(&self, is_precious: bool) -> Claimant<'_> {
        let Self { key, line, id, fingerprint, .. } = self;
        Claimant { row: key.row, line: *line, id: id.as_deref(), fingerprint: *fingerprint, is_precious }
    }

    fn name(&self) -> Box<str> {
        self.id.clone().unwrap_or_else(|| format!("r{}", self.key.row).into())
    }

    /// The outcome of a row that is not run.
    fn undone<D>(self, kind: OutcomeKind, done: D) -> RowOutcome<D> {
        RowOutcome {
            key: self.key,
            index: self.index,
            line: self.line,
            id: self.name(),
            kind,
            effect: Effect::None,
            location: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            done,
            fingerprint: self.fingerprint,
            repeat: Repeat::ByNature,
            idempotency_key: None,
            begun_to: 0,
        }
    }
}

/// Whether the line of a row has, or will have, the number that an earlier run gave it.
fn has_earlier_line(disposition: &Disposition) -> bool {
    matches!(disposition, Disposition::Kept | Disposition::Interrupted { .. } | Disposition::Continue { .. })
}

impl<C: Call> RowSource<C> {
    pub(crate) fn new(
        feed: Box<dyn Feed<C>>,
        ledger: Rc<RefCell<Ledger<C::Done>>>,
        recovered: Recovered,
        earlier: Earlier,
        prepare: Option<Prepare<C>>,
        sent_keys: HashSet<u64>,
        notes: Option<Rc<Notes>>,
    ) -> Self {
        let (first_row, is_by_id) = (recovered.first_row(), recovered.identity() == Identity::Id);
        let twins = Twins::new(recovered.twins(), sent_keys);
        Self {
            feed: Some(feed),
            ledger,
            recovered,
            earlier,
            looks_first: false,
            silence: None,
            pages: Pages::default(),
            saves: None,
            prepare,
            on_event: None,
            notes,
            batch: Vec::new().into_iter(),
            number: 0,
            first_row,
            is_by_id,
            held: VecDeque::new(),
            in_doubt: Vec::new(),
            found: Vec::new(),
            names: HashSet::new(),
            twins,
            limit_key: "".into(),
            ended: false,
        }
    }

    /// Takes in one row. Returns false when the input is refused.
    fn take(&mut self, row: Row<C>) -> bool {
        let index = RowIndex::new(self.number);
        self.number += 1;
        let Row { id, origin, call } = row;
        let call = self.checked(id.as_deref(), call);
        let fingerprint = match &call {
            Ok(call) => call.fingerprint(),
            // A bad row is the same while it is bad in the same way.
            Err(why) => xxh3_64(why.as_bytes()),
        };
        let number = self.first_row + index.get();
        let (number, disposition) = match self.recovered.dispose(number, id.as_deref(), fingerprint) {
            Ok(disposed) => disposed,
            Err(error) => {
                let differs = error.earlier_line().and_then(|line| what_differs(line, &call));
                let error = differs.into_iter().fold(Error::from(error), Error::because);
                self.ledger.borrow_mut().refuse(error);
                return false;
            }
        };
        let disposition = match disposition {
            Disposition::Displaced { repeat, otherwise } => {
                if let Ok(call) = &call
                    && !self.may_displace(repeat, call)
                {
                    let shown = id.clone().unwrap_or_else(|| format!("r{}", index.get()).into());
                    let error = self.recovered.displaced(number, Some(&shown));
                    self.ledger.borrow_mut().refuse(error.into());
                    return false;
                }
                *otherwise
            }
            disposition => disposition,
        };
        if let Some(order) = &mut self.ledger.borrow_mut().order_of_lines
            && (number < self.first_row || has_earlier_line(&disposition))
        {
            order.has_line(index.get(), number, fingerprint);
        }
        let key = RowKey { row: number, page: u32::from(self.pages.most > 0) };
        let has_id = id.is_some();
        // Its number is not its place, so what it is called after that must be said.
        let id = id.or_else(|| self.is_by_id.then(|| format!("r{}", index.get()).into()));
        let row = RowMetadata { key, index, line: origin.line, id, fingerprint, has_id };
        match call {
            call if disposition == Disposition::Kept => {
                self.take_kept(&row, call.as_ref().ok());
            }
            Ok(call) => self.take_call(row, disposition, call),
            Err(why) => {
                let mut outcome = row.undone(OutcomeKind::Failed, C::Done::failed(ErrorKind::Input, why));
                outcome.location = Some(origin.to_string().into());
                self.held.push_back(HeldRow::Outcome(Box::new(outcome)));
            }
        }
        true
    }

    /// Whether a row may take the place of one that was started, and could be repeated in this way: it may be another
    /// one, but not the same that is asked for in another way.
    fn may_displace(&self, earlier: Repeat, call: &C) -> bool {
        match call.repeat() {
            Repeat::Never => self.prepare.is_some() && matches!(earlier, Repeat::ByKey { .. }),
            now => std::mem::discriminant(&now) == std::mem::discriminant(&earlier),
        }
    }

    /// A row that has its outcome. It has its names as well, and counts as it ended.
    fn take_kept(&mut self, row: &RowMetadata, call: Option<&C>) {
        if let Some(call) = call {
            self.keep_names(row, call);
        }
        let again = self.earlier.take_unwell(row.key.row, row.fingerprint);
        self.ledger.borrow_mut().kept(row.index, again);
    }

    /// A row that has ended by its line, which says no more than that: it may have been done since. The line stays.
    fn take_ended(&mut self, row: &RowMetadata, call: &C) {
        self.keep_names(row, call);
        let mut ledger = self.ledger.borrow_mut();
        if call.is_safe() {
            ledger.safe.insert(row.key);
        }
        let again = ledger.old.get(&row.key).and_then(|old| old.again);
        ledger.stays(row.index, again);
    }

    fn take_call(&mut self, row: RowMetadata, disposition: Disposition, call: C) {
        match disposition {
            Disposition::Interrupted { key, repeat, found, later, otherwise } => {
                // Whether the first page has a number is for this run to say: the next one is counted from it.
                let key = RowKey { page: if key.page > 1 { key.page } else { row.key.page }, ..key };
                self.found.extend(found.map(|number| (number, key)));
                let found = later.iter().filter_map(|one| Some((one.found?, RowKey { page: one.page, ..key })));
                self.found.extend(found);
                self.go_on(RowMetadata { key, ..row }, *otherwise, call, Some(Doubt::Started(repeat, later)));
            }
            Disposition::Unsure { otherwise, has_ended: true } if call.repeat() == Repeat::ByNature => {
                let page = if let Disposition::Continue { page, .. } = *otherwise { page + 1 } else { row.key.page };
                self.take_ended(&RowMetadata { key: RowKey { page, ..row.key }, ..row }, &call);
            }
            Disposition::Unsure { otherwise, .. } => self.go_on(row, *otherwise, call, Some(Doubt::NotesLost)),
            known => self.go_on(row, known, call, None),
        }
    }

    /// Takes in a row that is to run, if what an earlier run may have started of it allows that.
    fn go_on(&mut self, row: RowMetadata, disposition: Disposition, mut call: C, doubt: Option<Doubt>) {
        match disposition {
            Disposition::Continue { page, .. } if page >= self.pages.most => {
                self.pages.cut_off(row.name().into());
                self.take_kept(&row, Some(&call));
            }
            Disposition::Continue { page, next, begun_to } => {
                let row = RowMetadata { key: RowKey { page: page + 1, ..row.key }, ..row };
                let has_line = self.ledger.borrow().old.contains_key(&row.key);
                let begun_to = if has_line { 0 } else { begun_to };
                let is_doubtful = begun_to > page && doubt.is_none() && !self.recovered.accepts_doubles();
                let doubt = if is_doubtful { Some(Doubt::Behind) } else { doubt };
                match call.continue_at(&next, page + 1) {
                    Ok(()) => self.hold_item(row, call, doubt, begun_to),
                    Err(why) => {
                        if begun_to > page {
                            let behind = BegunBehind { after: page, until: begun_to, is_same: false };
                            self.ledger.borrow_mut().begun_behind.insert(row.key.row, behind);
                        }
                        let outcome = row.undone(OutcomeKind::Failed, C::Done::failed(ErrorKind::Input, why));
                        self.held.push_back(HeldRow::Outcome(Box::new(outcome)));
                    }
                }
            }
            Disposition::Kept => self.take_kept(&row, Some(&call)),
            _ => self.hold_item(row, call, doubt, 0),
        }
    }

    /// What an earlier attempt may have done that this one must not do again, and why not. `begun_to` is said by the
    /// line of the page before it.
    fn done_before(
        &self,
        row: &RowMetadata,
        call: &mut C,
        doubt: Option<Doubt>,
        begun_to: u32,
    ) -> Option<(Effect, &'static str)> {
        let mut ledger = self.ledger.borrow_mut();
        let has_line = ledger.old.contains_key(&row.key);
        let old = ledger.old.get(&row.key).filter(|old| old.effect != Effect::None);
        // To the server that knows that key, it stands for what was asked for then.
        let same = old.filter(|old| old.fingerprint == row.fingerprint);
        if let Some(key) = same.and_then(|old| old.idempotency_key.as_deref()) {
            call.keep_key(key);
        }
        let now = call.repeat();
        let behind =
            begun_behind(row.key, call, ledger.old.get(&row.key), doubt.as_ref(), begun_to, self.recovered.is_unsure());
        let doubted = match &doubt {
            Some(Doubt::Started(earlier, later)) => {
                let others = later.iter().map(|one| (one.repeat, call.repeat_of_page(one.page)));
                let mut all = std::iter::once((*earlier, now)).chain(others);
                all.find(|(earlier, now)| !now.agrees_with(*earlier)).map(|(earlier, _)| (Effect::Maybe, Some(earlier)))
            }
            // Asked for: its line is what the user has looked at, and what came after that is in doubt whatever becomes
            // of this attempt.
            Some(Doubt::NotesLost) if has_line && self.recovered.accepts_doubles() => None,
            // A key says nothing of an attempt that may have gone without it.
            Some(Doubt::NotesLost) if now != Repeat::ByNature => Some((Effect::Maybe, None)),
            Some(Doubt::Behind) if now != Repeat::ByNature => Some((Effect::Maybe, Some(Repeat::Never))),
            _ => None,
        };
        let old = old.filter(|old| !now.agrees_with(old.repeat) && !self.recovered.accepts_doubles());
        let decided = doubted.or_else(|| old.map(|old| (old.effect, Some(old.repeat))));
        if let Some(behind) = behind {
            ledger.begun_behind.insert(row.key.row, behind);
        }
        let Some((effect, earlier)) = decided else {
            // It runs; and its outcome says what the attempt before it may have done, whatever becomes of this one.
            if let Some(doubt) = doubt.filter(|_| !call.is_safe()) {
                let later = doubt.later().iter().map(|one| (RowKey { page: one.page, ..row.key }, one.repeat));
                ledger.doubts.extend(later.chain([(row.key, doubt.repeat())]));
            }
            return None;
        };
        ledger.otherwise_repeated += u64::from(earlier.is_some_and(Repeat::is_allowed));
        Some((effect, why_not_again(earlier, now)))
    }

    /// Holds the outcome of what may have taken effect, and so does not start.
    fn hold_doubtful(&mut self, row: RowMetadata, call: &C, effect: Effect, message: &str) {
        let mut done = C::Done::failed(ErrorKind::Interrupted, message.to_owned());
        call.describe(&mut done);
        say_saved(&mut done, self.keep_names(&row, call));
        let mut outcome = row.undone(effect.outcome(OutcomeKind::Failed, false), done);
        (outcome.effect, outcome.repeat) = (effect, Repeat::Never);
        self.in_doubt.push(outcome);
    }

    /// Holds the outcome of what an earlier run had started, or may have, and the input does not have any more.
    fn hold_gone(&mut self, gone: Gone, message: &str) {
        let Gone { key, id, fingerprint, begun_to } = gone;
        let index = RowIndex::new(self.number);
        self.number += 1;
        let row = RowMetadata { key, index, line: LineNumber::NONE, id: Some(id.into()), fingerprint, has_id: true };
        let mut outcome =
            row.undone(OutcomeKind::Ambiguous, C::Done::failed(ErrorKind::Interrupted, message.to_owned()));
        (outcome.effect, outcome.repeat) = (Effect::Maybe, Repeat::Never);
        outcome.begun_to = begun_to;
        self.in_doubt.push(outcome);
    }

    fn checked(&mut self, id: Option<&str>, call: Result<C, String>) -> Result<C, String> {
        match id {
            Some(id) if !self.names.insert(xxh3_64(id.as_bytes())) => {
                Err(format!("the id `{id}` is that of an earlier row"))
            }
            _ => call,
        }
    }

    fn hold_item(&mut self, row: RowMetadata, mut call: C, doubt: Option<Doubt>, begun_to: u32) {
        // A key is no reason to forget what was put in place.
        let is_precious = !call.is_repeatable();
        self.prepare_call(&row, &mut call, doubt.as_ref());
        if let Some((effect, message)) = self.done_before(&row, &mut call, doubt, begun_to) {
            return self.hold_doubtful(row, &call, effect, message);
        }
        // Claimed when it is taken in and not when it runs, so that the order of the input says which row has a name.
        let targets = match self.claim_names(&row, &call, is_precious) {
            Ok(targets) => targets,
            Err(NameRefusal { why, own }) => {
                let mut done = C::Done::failed(ErrorKind::Save, why);
                call.describe(&mut done);
                say_saved(&mut done, own);
                let mut outcome = row.undone(OutcomeKind::Failed, done);
                outcome.repeat = call.repeat();
                self.held.push_back(HeldRow::Outcome(Box::new(outcome)));
                return;
            }
        };
        let RowMetadata { key, index, line, id, fingerprint, .. } = row;
        let limit_key = self.limit_key(&call);
        let item = Item { key, index, line, id, fingerprint, call, targets, is_noted: Cell::default() };
        self.held.push_back(HeldRow::Item(Offer { key: limit_key, item }));
    }

    fn prepare_call(&mut self, row: &RowMetadata, call: &mut C, doubt: Option<&Doubt>) {
        let Some(prepare) = &self.prepare else { return };
        let mut prepare = |name: Name<'_>| prepare(call, row.key.page, row.fingerprint, name);
        let name = match (row.id.as_deref().filter(|_| row.has_id), doubt) {
            (Some(id), _) => Name::Id(id),
            // It goes on as the one that was started, whichever of those that ask for the same it was then.
            (None, Some(Doubt::Started(earlier @ Repeat::ByKey { .. }, _))) => Name::Twin(earlier.twin()),
            (None, _) => {
                let ledger = self.ledger.borrow();
                let old = ledger.old.get(&row.key).filter(|old| old.fingerprint == row.fingerprint);
                let kept = old.and_then(|old| old.idempotency_key.as_deref()).map(|key| xxh3_64(key.as_bytes()));
                return self.twins.give(row.fingerprint, kept, |twin| prepare(Name::Twin(twin)));
            }
        };
        prepare(name);
    }

    /// Takes the names that a row writes to, while its turn in the input is now.
    fn claim_names(&self, row: &RowMetadata, call: &C, is_precious: bool) -> Result<Vec<Target>, NameRefusal> {
        let Some(saves) = &self.saves else { return Ok(Vec::new()) };
        let names = call.save_names(row.index.sequence()).map_err(|why| NameRefusal { why, own: Vec::new() })?;
        saves.borrow_mut().claim(row.claimant(is_precious), &names)
    }

    /// The same for a row that does not run, as in [`Saves::keep`].
    fn keep_names(&self, row: &RowMetadata, call: &C) -> Vec<SavedFile> {
        let Some(saves) = &self.saves else { return Vec::new() };
        let Ok(names) = call.save_names(row.index.sequence()) else { return Vec::new() };
        saves.borrow_mut().keep(row.claimant(false), names)
    }

    /// The key of a row's limits. Most rows have that of the one before.
    fn limit_key(&mut self, call: &C) -> Rc<str> {
        let key = call.limit_key();
        if *self.limit_key != *key {
            self.limit_key = key.into();
        }
        self.limit_key.clone()
    }

    /// Hands out what may go on.
    fn release(&mut self, max: usize, into: &mut Vec<Offer<Item<C>>>) {
        let checked = self.is_checked();
        if (checked || self.held.len() > MOST_HELD) && !self.found.is_empty() {
            // Before there is an outcome of any of them.
            let found = std::mem::take(&mut self.found);
            if let Some(journal) = &self.ledger.borrow().journal {
                found.into_iter().for_each(|(number, key)| journal.found(number, key));
            }
        }
        if (checked || self.held.len() > MOST_HELD) && !self.in_doubt.is_empty() {
            let in_doubt = std::mem::take(&mut self.in_doubt);
            self.ledger.borrow_mut().record(in_doubt.into_iter().map(|outcome| (outcome, true)));
        }
        while into.len() < max && (checked || self.held.len() > MOST_HELD) && !self.waits_for_canary() {
            match self.held.pop_front() {
                None => return,
                Some(HeldRow::Item(offer)) => {
                    if let Some(notes) = self.notes.as_ref().filter(|_| !offer.item.call.is_safe()) {
                        let Item { key, id, fingerprint, call, .. } = &offer.item;
                        // Before it is handed out, since its start looks for it among the upcoming.
                        notes.add(*key, id.as_deref(), *fingerprint, call.repeat());
                    }
                    into.push(offer);
                }
                Some(HeldRow::Outcome(outcome)) => self.ledger.borrow_mut().record(std::iter::once((*outcome, true))),
            }
        }
    }

    /// Takes in rows that have been read already. Returns whether the end has come.
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
                Poll::Ready(Some(RowBatch::Rows(rows))) => self.batch = rows.into_iter(),
                Poll::Ready(Some(RowBatch::Failed(why))) => {
                    self.ledger.borrow_mut().input_failed(why);
                    self.ended = true;
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    let mut ledger = self.ledger.borrow_mut();
                    // Counted now, whatever a look at the input had made of it: empty lines, comments, values with
                    // lines.
                    let gone = self.recovered.ambiguous_and_gone();
                    let unsure = match self.recovered.end_of_input() {
                        Ok(()) => self.recovered.unsure_and_gone(),
                        Err(error) => Err(error),
                    };
                    let all = || gone.iter().chain(unsure.iter().flatten());
                    let have_line = all().filter(|gone| ledger.old.contains_key(&gone.key)).count() as u64;
                    ledger.gauge.set_total(self.number + all().count() as u64);
                    ledger.left_over = self.recovered.left_over();
                    // Those have other lines from now on.
                    ledger.again_unseen = self.recovered.again_unseen().saturating_sub(have_line);
                    ledger.gone = self.recovered.gone(MOST_NAMED);
                    ledger.gone_in_doubt = self.recovered.gone_in_doubt(MOST_NAMED);
                    ledger.input_ended = true;
                    drop(ledger);
                    match unsure {
                        Ok(unsure) => {
                            gone.into_iter().for_each(|gone| self.hold_gone(gone, GONE));
                            unsure.into_iter().for_each(|gone| self.hold_gone(gone, GONE_UNSURE));
                        }
                        Err(error) => {
                            self.ledger.borrow_mut().refuse(error.into());
                            self.stop();
                        }
                    }
                }
            }
            if !self.is_checked() && self.held.len() > MOST_HELD {
                return Poll::Ready(());
            }
        }
    }

    /// Whether what comes next has to wait until the first rows have ended well.
    fn waits_for_canary(&self) -> bool {
        let index = match self.held.front() {
            None => return false,
            Some(HeldRow::Item(offer)) => offer.item.index,
            Some(HeldRow::Outcome(outcome)) => outcome.index,
        };
        !self.ledger.borrow().canary.admits(index)
    }

    fn is_checked(&self) -> bool {
        self.ended || self.recovered.is_checked(self.number) && !self.looks_for_doubts()
    }

    /// Whether nothing starts since the input may come to what an earlier run left in doubt.
    fn looks_for_doubts(&self) -> bool {
        self.looks_first && !self.ended && self.recovered.has_doubts_left()
    }

    /// Whether rows wait since the input may yet turn out to be another one.
    fn waits_for_rows(&self) -> bool {
        !self.ended && self.number > 0 && self.held.len() <= MOST_HELD && !self.recovered.is_checked(self.number)
    }

    /// Where the input has given nothing for long: says what it is waited for, or, if that is no more than a look at
    /// what is in doubt, waits no longer. An open queue may give nothing else before what it gave has begun.
    fn heed_silence(&mut self, took_some: bool, context: &mut Context<'_>) {
        let waits_for_rows = self.waits_for_rows();
        if took_some || !waits_for_rows {
            self.ledger.borrow().gauge.set_waits_for_rows(false);
        }
        let holds_up = waits_for_rows || self.looks_for_doubts() && !self.held.is_empty();
        if took_some || !holds_up {
            self.silence = None;
        }
        if !holds_up || self.ledger.borrow().gauge.waits_for_rows() {
            return;
        }
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(LONGEST_SILENCE)));
        if silence.as_mut().poll(context).is_ready() {
            self.silence = None;
            let seconds = LONGEST_SILENCE.as_secs();
            if waits_for_rows {
                self.ledger.borrow().gauge.set_waits_for_rows(true);
                if let Some(on_event) = &self.on_event {
                    let missing = self.recovered.missing(self.number);
                    on_event(RunEvent::Waits(&format!(
                        "nothing begins before the input is known to be that of the earlier run: {missing}, and nothing \
                         more has come for {seconds}s; bring the rest, or close the input"
                    )));
                }
                return;
            }
            self.looks_first = false;
            let told = format!(
                "the input gave nothing for {seconds}s and had not come to all that an earlier run left in doubt, so the \
                 others began before that was known"
            );
            self.ledger.borrow_mut().report.warnings.push(told);
        }
    }

    /// Nothing more comes out of this input.
    fn stop(&mut self) {
        self.held.clear();
        self.in_doubt.clear();
        self.found.clear();
        self.batch = Vec::new().into_iter();
        self.feed = None;
        self.ended = true;
    }
}

impl<C: Call> Source for RowSource<C> {
    type Item = Item<C>;

    fn poll_pull(&mut self, context: &mut Context<'_>, max: usize, into: &mut Vec<Offer<Item<C>>>) -> Poll<Pull> {
        // Outcomes wait for an earlier row; more of them would only take memory. What was taken in already is let go
        // all the same, and all is taken in that must be before anything may start: that earlier row may be among it.
        let is_full = self.is_checked()
            && self
                .ledger
                .borrow_mut()
                .order
                .as_mut()
                .filter(|order| order.is_beyond(RowIndex::new(self.number)))
                .is_some_and(|order| {
                    order.waker = Some(context.waker().clone());
                    true
                });
        let before = self.number;
        let more = if is_full { Poll::Pending } else { self.poll_rows(context) };
        self.heed_silence(self.number > before, context);
        self.ledger.borrow().gauge.set_looks_for_doubts(self.looks_for_doubts());
        self.release(max, into);
        if into.is_empty() && self.waits_for_canary() {
            // It cannot have opened since that look: this thread tells it how rows ended.
            self.ledger.borrow_mut().canary_waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        match (into.is_empty(), more) {
            (false, _) => Poll::Ready(Pull::More),
            (true, _) if self.ended && self.held.is_empty() && self.in_doubt.is_empty() => Poll::Ready(Pull::End),
            (true, Poll::Ready(())) => {
                // Only outcomes were released: there may be more rows.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (true, Poll::Pending) => Poll::Pending,
        }
    }
}

/// Which pages behind the one from which a row runs may have been started before: as the line says that this one has,
/// or the one before it (`begun_to`), or notes that go when this one has another line, or as is unknown
/// (`is_unsure`).
fn begun_behind<C: Call>(
    key: RowKey,
    call: &C,
    old: Option<&OldLine>,
    doubt: Option<&Doubt>,
    begun_to: u32,
    is_unsure: bool,
) -> Option<BegunBehind> {
    if call.is_safe() {
        return None;
    }
    let now = call.repeat();
    let page = key.page.max(1);
    let is_natural = now == Repeat::ByNature;
    let later = doubt.map_or(&[][..], Doubt::later);
    let is_same = |one: &Later| call.repeat_of_page(one.page).agrees_with(one.repeat);
    let sources = [
        old.map(|old| (old.begun_to, now.agrees_with(old.repeat))),
        Some((begun_to, is_natural)),
        later.last().map(|last| (last.page, later.iter().all(is_same))),
        (C::HAS_PAGES && is_unsure).then_some((ANY_PAGE, is_natural)),
    ];
    let sources = sources.into_iter().flatten().filter(|(until, _)| *until >= page);
    let (until, is_same) =
        sources.reduce(|(until, is_same), (other, is_other_same)| (until.max(other), is_same && is_other_same))?;
    // What the page before it says holds for this one as well.
    let after = if begun_to >= page { page - 1 } else { page };
    Some(BegunBehind { after, until, is_same })
}

/// Why what may have been done is not done again, where the earlier attempt could be repeated in one way, as far as
/// that is known, and this one can in another.
fn why_not_again(earlier: Option<Repeat>, now: Repeat) -> &'static str {
    match (earlier, now) {
        (None, Repeat::ByKey { .. }) => {
            "an earlier run may have started it, and its notes of what it had started, and with which key, are lost"
        }
        (None, _) => "an earlier run may have started it: its notes of what it had started are lost",
        (Some(Repeat::Never), _) => "an earlier run had started it and did not live to see its end",
        (Some(Repeat::ByKey { .. }), Repeat::ByKey { .. }) => {
            "an earlier run had started it with an Idempotency-Key, and this one would send another"
        }
        (Some(Repeat::ByKey { .. }), _) => {
            "an earlier run had started it with an Idempotency-Key, and this one has none"
        }
        (Some(Repeat::ByNature), Repeat::ByKey { .. }) => {
            "an earlier run had started it, with no Idempotency-Key that is known, and this one would send one"
        }
        (Some(Repeat::ByNature), _) => "an earlier run had started it when it could be repeated, and now it cannot be",
    }
}

/// Says of a row that does not run what it has put in place before.
fn say_saved<D: Done>(done: &mut D, files: Vec<SavedFile>) {
    for SavedFile { place, name, length } in files {
        done.has_saved(place, name, length);
    }
}

/// How a row that has its outcome differs from what it was, as far as its line tells.
fn what_differs<C: Call>(line: &[u8], call: &Result<C, String>) -> Option<String> {
    let call = match call {
        Ok(call) => call,
        Err(why) => return Some(why.clone()),
    };
    let mut done = C::Done::failed(ErrorKind::Input, String::new());
    call.describe(&mut done);
    let mut fields = Fields::default();
    done.push_subject(&mut fields.members());
    let now: BTreeMap<String, Value> = serde_json::from_str(&format!("{{{}}}", fields.as_str())).ok()?;
    let was: BTreeMap<String, Value> = serde_json::from_slice(line).ok()?;
    let differing = now.iter().filter(|(name, _)| was.get(*name) != now.get(*name));
    let mut differing = differing.map(|(name, now)| match was.get(name) {
        Some(was) => format!("its {name} was {was} and is {now}"),
        None => format!("it had no {name}, which is {now}"),
    });
    let otherwise = || "what it brings along is another, as its body or a header that counts".to_owned();
    Some(differing.next().unwrap_or_else(otherwise))
}

const GONE: &str = "an earlier run had started it and did not live to see its end, and it is not in the input any more";
const GONE_UNSURE: &str = "an earlier run may have started it: its notes of what it had started are lost, and it is not in the input \
                           any more";
/// How many rows that are gone are told by their names.
const MOST_NAMED: usize = 3;
/// RowSource that may wait until the input is known to be the same; their memory is some megabytes.
const MOST_HELD: usize = 10_000;
/// How long rows that can begin wait for an input to come to what is in doubt, while it gives nothing: longer than a
/// producer that works takes for its next row, and no more than a user would wait before asking why nothing happens.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// Taken in at once, so that the first can start before all are read.
const ROWS_AT_ONCE: usize = 256;
