//! The seam between a run and the kind of work that it does.
//!
//! A kind of work is a [`Call`] (what a row asks for), a [`Done`] (what became of it) and a [`Work`] (how one is
//! tried). Everything else — numbering, resume, notes of what must not be repeated, limits, order, results, the report
//! — is the run's, and there once.

use std::{borrow::Cow, cell::Cell, fmt, path::PathBuf, rc::Rc};

use unisono_batch::{Again, Attempt, Context, Decided, Halt, Job, KeyNews, Verdict};
use unisono_core::{Effect, ErrorKind, OutcomeKind, Overrides, Peer};
use unisono_journal::{Members, Next, Repeat, RowKey};

use crate::{
    Gauge, RowOutcome,
    notes::Notes,
    row::{LineNumber, RowIndex},
    saves::Target,
};

/// What a row asks for.
pub trait Call: Send + 'static {
    /// What becomes of it.
    type Done: Done;

    /// What it asks for, in short: the same as long as it asks for the same.
    fn fingerprint(&self) -> u64;

    /// What it is limited by beside the whole: for HTTP the host; empty where there is nothing to tell apart.
    fn limit_key(&self) -> Cow<'_, str>;

    /// What it has of its own of what bounds the run.
    fn overrides(&self) -> Overrides {
        Overrides::default()
    }

    /// Whether, and by what, doing it twice does no more than doing it once.
    fn repeat(&self) -> Repeat;

    /// Rows of its kind may have pages.
    const HAS_PAGES: bool = false;

    /// The same of a later page of its row.
    fn repeat_of_page(&self, _page: u32) -> Repeat {
        self.repeat()
    }

    /// Whether doing it changes nothing, so that a later run need not know whether it was begun.
    fn is_safe(&self) -> bool {
        false
    }

    /// The key by which the server knows it again, if that is what makes it repeatable.
    fn idempotency_key(&self) -> Option<&str> {
        None
    }

    /// Gives it the key that an earlier attempt went out with, if it was given one of ours.
    fn keep_key(&mut self, _earlier: &str) {}

    /// What the user adds so that it is repeatable.
    const REPEATABLE_WITH: &'static str;

    /// Whether doing it twice does no more than doing it once.
    fn is_repeatable(&self) -> bool {
        self.repeat().is_allowed()
    }

    /// Says in an outcome what was asked for.
    fn describe(&self, done: &mut Self::Done);

    /// The files that what comes of it goes to, as the user has named them; `sequence` is its number in the input, from
    /// 1.
    ///
    /// # Errors
    /// When something of it cannot be part of a name.
    fn save_names(&self, _sequence: u64) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    /// Makes it the call for a later page of its row, which has this number.
    ///
    /// # Errors
    /// When that is no address, or this kind of work has no pages.
    fn continue_at(&mut self, _next: &str, _page: u32) -> Result<(), String> {
        Err("this kind of work has no pages".to_owned())
    }
}

/// What became of a call.
pub trait Done: Send + 'static {
    /// How it is written to results.
    type Style: Copy + 'static;

    /// It was not done, or did not work.
    fn failed(kind: ErrorKind, message: String) -> Self;

    /// Why it did not go well, on one line.
    fn error(&self) -> Option<(ErrorKind, String)>;

    /// What it is listed under in the report.
    fn group(&self) -> Option<Cow<'_, str>>;

    /// What names it to a person better than the number of its row.
    fn label(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// How many bytes it brought.
    fn bytes(&self) -> u64;

    /// What the row turned out to ask for, where that is known only afterwards.
    fn fingerprint(&self) -> Option<u64> {
        None
    }

    /// The page after this one.
    fn next(&self) -> Option<Option<String>> {
        None
    }

    /// Whether the row goes on with another page.
    fn goes_on(&self) -> bool {
        false
    }

    /// What a call that did not end well has put in place before, of what it does not say itself: a file of this length
    /// under this name. `place` tells which of [`Call::save_names`] that is.
    fn has_saved(&mut self, _place: usize, _name: PathBuf, _length: u64) {}

    /// What it says of whatever it is limited by, beside what became of it.
    fn peer(&self) -> Peer {
        Peer::Unknown
    }

    /// Further members of the error's object.
    fn push_error(&self, _error: &mut Members<'_>) {}

    /// What was asked for.
    fn push_subject(&self, fields: &mut Members<'_>);

    /// What came of it; what may be large goes into `body`.
    fn push_result(&self, style: Self::Style, fields: &mut Members<'_>, body: &mut Members<'_>);
}

/// How a call is tried.
pub trait Work {
    /// What is tried.
    type Call: Call;

    /// As [`Job::attempt`].
    fn attempt(
        &self,
        item: &Item<Self::Call>,
        context: &Context,
    ) -> impl Future<Output = Attempt<Item<Self::Call>, <Self::Call as Call>::Done>>;

    /// As [`Job::background`].
    fn background(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// As [`Job::halted`].
    fn halted(
        &self,
        item: &Item<Self::Call>,
        halt: Halt,
        last: Option<<Self::Call as Call>::Done>,
    ) -> (Verdict, <Self::Call as Call>::Done);
}

/// What the engine carries for a row or page.
#[derive(Debug)]
pub struct Item<C> {
    /// Which row, and which page of it.
    pub key: RowKey,
    /// As in [`RowOutcome::index`].
    pub index: RowIndex,
    /// As in [`RowOutcome::line`].
    pub line: LineNumber,
    /// The row's name, where it has one of its own.
    pub id: Option<Box<str>>,
    /// What it asks for, in short.
    pub fingerprint: u64,
    /// What it asks for.
    pub call: C,
    /// Where what comes of it goes, in the order of [`Call::save_names`].
    pub(crate) targets: Vec<Target>,
    /// It is durable that it starts: one attempt has waited for that, and no other needs to.
    pub(crate) is_noted: Cell<bool>,
}

/// What an event is about. Its names are made only where they are wanted.
pub trait Subject {
    /// The row's name.
    fn name(&self) -> String;

    /// What it is limited by beside the whole, where there is something to tell apart.
    fn key(&self) -> Option<String>;
}

impl<C: Call> Subject for Item<C> {
    fn name(&self) -> String {
        self.name()
    }

    fn key(&self) -> Option<String> {
        Some(self.call.limit_key().into_owned()).filter(|key| !key.is_empty())
    }
}

/// Why an item is tried again.
pub struct Retry<'a> {
    /// The item.
    pub subject: &'a dyn Subject,
    /// What went wrong.
    pub reason: &'a str,
    /// Which attempt this was, and when the next one comes.
    pub again: Again,
}

/// To be read behind the name of the item.
impl fmt::Display for Retry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.again, self.reason)
    }
}

/// What happens while a run goes on, for the face that shows it.
pub enum RunEvent<'a> {
    /// This attempt of an item begins.
    Attempt(&'a dyn Subject, u16),
    /// An item is tried again.
    Retry(Retry<'a>),
    /// There is something new about what this key stands for: a host.
    Peer(&'a str, &'a KeyNews),
    /// Nothing can begin, for the reason that this says to people, together with what to do.
    Waits(&'a str),
}

/// Called for each event.
pub type OnEvent = Box<dyn Fn(RunEvent<'_>)>;

/// Work as a job of the engine: what may take effect is noted before it starts, and retries are told.
pub(crate) struct WorkJob<W> {
    pub(crate) work: W,
    pub(crate) notes: Option<Rc<Notes>>,
    pub(crate) on_event: Option<Rc<OnEvent>>,
    pub(crate) gauge: Gauge,
}

impl<W: Work> Job for WorkJob<W> {
    type Item = Item<W::Call>;
    type Value = <W::Call as Call>::Done;

    async fn attempt(&self, item: Rc<Self::Item>, context: Context) -> Attempt<Self::Item, Self::Value> {
        // Durable before it begins: after a crash, what has no note has not begun.
        if !item.is_noted.get()
            && !item.call.is_safe()
            && let Some(notes) = &self.notes
        {
            if !notes.is_noted(item.key, item.call.repeat()) {
                context.set_prepares(true);
                // Boxed: most attempts do without, and their futures would be as large.
                let noted = notes.started(item.key, item.id.as_deref(), item.fingerprint, item.call.repeat());
                if let Err(why) = Box::pin(noted).await {
                    let message = format!("not started: it could not be noted that it was about to be: {why}");
                    // Nothing is wrong with the row: it is for a later run, which has somewhere to note it.
                    let value = Done::failed(ErrorKind::Cancelled, message);
                    return Attempt::unbegun(Verdict::Final(OutcomeKind::Cancelled), value);
                }
                context.set_prepares(false);
            }
            // Not before: an attempt whose time is over while it waits for this leaves it to the next one.
            item.is_noted.set(true);
        }
        self.gauge.begin(item.line);
        if let Some(on_event) = &self.on_event {
            on_event(RunEvent::Attempt(&*item, context.attempt()));
        }
        self.work.attempt(&item, &context).await
    }

    async fn background(&self) {
        self.work.background().await;
    }

    fn halted(&self, item: &Self::Item, halt: Halt, last: Option<Self::Value>) -> (Verdict, Self::Value) {
        self.work.halted(item, halt, last)
    }

    fn overrides(&self, item: &Self::Item) -> Overrides {
        item.call.overrides()
    }

    fn peer(&self, value: &Self::Value) -> Peer {
        value.peer()
    }

    fn peer_news(&self, key: &str, news: &KeyNews) {
        if let Some(on_event) = &self.on_event {
            on_event(RunEvent::Peer(key, news));
        }
    }

    fn again(&self, item: &Self::Item, last: &Self::Value, again: Again) {
        if let Some(on_event) = &self.on_event {
            let reason = last.error().map_or_else(String::new, |(_, message)| message);
            on_event(RunEvent::Retry(Retry { subject: item, reason: &reason, again }));
        }
    }
}

impl<C> Item<C> {
    /// The item of the page after this one.
    pub fn next_page(&self, call: C) -> Self {
        Self {
            key: RowKey { page: self.key.page + 1, ..self.key },
            index: self.index,
            line: self.line,
            id: self.id.clone(),
            fingerprint: self.fingerprint,
            call,
            targets: Vec::new(),
            is_noted: Cell::default(),
        }
    }

    pub(crate) fn name(&self) -> String {
        self.id.as_deref().map_or_else(|| format!("r{}", self.key.row), str::to_owned)
    }
}

/// The outcome of an item, and whether nothing more of its row will follow.
pub(crate) fn outcome<W: Work>(decided: Decided<WorkJob<W>>) -> (RowOutcome<<W::Call as Call>::Done>, bool) {
    let item = decided.item;
    let mut done = decided.value;
    item.call.describe(&mut done);
    if decided.kind != OutcomeKind::Ok {
        // The next attempt may replace only what a line says is its own.
        for file in item.targets.iter().enumerate().filter_map(|(place, target)| target.own(place)) {
            done.has_saved(file.place, file.name, file.length);
        }
    }
    let ended = !done.goes_on();
    let outcome = RowOutcome {
        key: item.key,
        index: item.index,
        line: item.line,
        id: item.name().into(),
        kind: decided.kind,
        // Whatever was begun for it, it is done now.
        effect: if decided.kind == OutcomeKind::Ok { Effect::Done } else { decided.effect },
        location: None,
        attempts: decided.attempts,
        elapsed: decided.elapsed,
        fingerprint: done.fingerprint().unwrap_or(item.fingerprint),
        repeat: item.call.repeat(),
        idempotency_key: item.call.idempotency_key().map(Into::into),
        begun_to: 0,
        done,
    };
    (outcome, ended)
}

/// As the journal has it.
pub(crate) fn next_of(next: &Option<Option<String>>) -> Next<'_> {
    match next {
        None => Next::Unknown,
        Some(None) => Next::Last,
        Some(Some(next)) => Next::Page(next),
    }
}
