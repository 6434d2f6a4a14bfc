//! A kind of work that does what its script says, and the ledger of what it did.
//!
//! A row is known by its content. Each attempt at a page of it takes the next step of the row's script, over all runs;
//! when that is at its end, everything goes well. The ledger is the peer's: a run that is dropped takes nothing out of
//! it.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use unisono_batch::{Attempt, Context, Halt, Verdict};
use unisono_core::{Effect, ErrorKind, OutcomeKind, clock};
use unisono_journal::{Members, Repeat};
use unisono_runner::{
    Call, Done,
    testing::{Item, Name, Prepare, Work},
};
use xxhash_rust::xxh3::xxh3_64;

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Ok,
    /// For good.
    Failed,
    /// It may go better another time.
    Retry,
    /// The peer asks to come back in a second.
    Throttled,
    /// Never: it is the engine that ends it.
    Hang,
    Panic,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// An earlier step of the same attempt, as a redirect is, and what it did.
    pub hop: Option<Effect>,
    /// What the last step turns out to have done; `None`: it is not begun at all.
    pub effect: Option<Effect>,
    pub ending: Ending,
    pub takes: Duration,
}

/// A row of the input.
#[derive(Debug, Clone)]
pub struct Script {
    /// By its nature; else by a key, in a run that gives it one.
    pub repeatable: bool,
    /// 1 where there is one answer; more only where the run is paged.
    pub pages: u32,
    pub steps: Vec<Step>,
    pub limit_key: u8,
}

impl Script {
    /// A row that must not be repeated, with these steps.
    pub fn unsafe_row(steps: impl Into<Vec<Step>>) -> Self {
        Self { repeatable: false, pages: 1, steps: steps.into(), limit_key: 0 }
    }
}

/// What was begun, in the order in which it was.
#[derive(Debug, Clone)]
pub struct Begun {
    pub content: u64,
    pub page: u32,
    pub repeat: Repeat,
    pub key: Option<String>,
    /// In which run.
    pub run: u32,
    /// What really came of it so far.
    pub truth: Effect,
    /// How many notes were promised by then.
    pub noted: u64,
    /// The user accepted since then that it may be done twice.
    pub forgiven: Cell<bool>,
}

#[derive(Debug, Default)]
pub struct Peer {
    pub ledger: RefCell<Vec<Begun>>,
    /// What comes before the next step of the script of a page.
    before: RefCell<HashMap<(u64, u32), VecDeque<Step>>>,
    /// Attempts at each page so far.
    tried: RefCell<HashMap<(u64, u32), usize>>,
    pub run: Cell<u32>,
    /// Attempts under way.
    pub active: Cell<u32>,
    /// The run file.
    pub notes: RefCell<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub content: u64,
    pub page: u32,
    pub script: Script,
    /// Of which kind the keys are that its run gives to what is not repeatable.
    pub keys: Option<u8>,
    /// Which it is of those that ask for the same, where its key was made by the run.
    pub twin: Option<u32>,
    pub key: Option<String>,
}

impl Asked {
    pub fn new(content: u64, script: Script, keys: Option<u8>) -> Self {
        Self { content, page: 1, script, keys, twin: None, key: None }.with_key()
    }

    fn with_key(mut self) -> Self {
        self.key = self.key_of_page(self.page);
        self
    }

    fn key_of_page(&self, page: u32) -> Option<String> {
        let Self { content, twin, .. } = self;
        let keys = self.keys.filter(|_| !self.script.repeatable)?;
        Some(match twin {
            Some(twin) => format!("{keys} of {content}, the {twin}., {page}"),
            None => format!("{keys} of {content}, {page}"),
        })
    }

    /// As the run makes keys where it is asked to.
    pub fn prepare() -> Prepare<Self> {
        Box::new(|call, _page, _content, name| {
            let Name::Twin(twin) = name else { panic!("these rows have no ids") };
            call.twin = Some(twin);
            *call = call.clone().with_key();
            call.key.as_deref().map(|key| xxh3_64(key.as_bytes()))
        })
    }
}

#[derive(Debug, Default)]
pub struct Answer {
    error: Option<(ErrorKind, String)>,
    content: u64,
    page: u32,
    pages: u32,
}

impl Call for Asked {
    type Done = Answer;

    fn fingerprint(&self) -> u64 {
        self.content
    }

    fn limit_key(&self) -> Cow<'_, str> {
        self.script.limit_key.to_string().into()
    }

    fn repeat(&self) -> Repeat {
        match &self.key {
            Some(key) => Repeat::by_key_of_twin(key, self.twin.unwrap_or(0)),
            None if self.script.repeatable => Repeat::ByNature,
            None => Repeat::Never,
        }
    }

    const HAS_PAGES: bool = true;

    fn repeat_of_page(&self, page: u32) -> Repeat {
        match self.key_of_page(page) {
            Some(key) => Repeat::by_key_of_twin(&key, self.twin.unwrap_or(0)),
            None => self.repeat(),
        }
    }

    fn idempotency_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn keep_key(&mut self, earlier: &str) {
        if self.twin.is_some() {
            self.key = Some(earlier.to_owned());
        }
    }

    const REPEATABLE_WITH: &'static str = "nothing";

    fn describe(&self, done: &mut Answer) {
        (done.content, done.page, done.pages) = (self.content, self.page, self.script.pages);
    }

    fn continue_at(&mut self, next: &str, _page: u32) -> Result<(), String> {
        self.page = next.strip_prefix("page ").and_then(|page| page.parse().ok()).ok_or("no such page")?;
        *self = self.clone().with_key();
        Ok(())
    }
}

impl Done for Answer {
    type Style = ();

    fn failed(kind: ErrorKind, message: String) -> Self {
        Self { error: Some((kind, message)), ..Self::default() }
    }

    fn error(&self) -> Option<(ErrorKind, String)> {
        self.error.clone()
    }

    fn group(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn bytes(&self) -> u64 {
        1
    }

    fn next(&self) -> Option<Option<String>> {
        self.error.is_none().then(|| self.goes_on().then(|| format!("page {}", self.page + 1)))
    }

    fn goes_on(&self) -> bool {
        self.error.is_none() && self.page < self.pages
    }

    fn push_subject(&self, fields: &mut Members<'_>) {
        fields.number("content", self.content);
    }

    fn push_result(&self, (): (), _fields: &mut Members<'_>, body: &mut Members<'_>) {
        body.text("body", "a \\ and a \" in the \u{1f}body");
    }
}

/// The work: attempts as the scripts say.
pub struct Scripted(pub Rc<Peer>);

/// Counts an attempt as under way, however it ends.
struct Active<'a>(&'a Peer);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

impl Work for Scripted {
    type Call = Asked;

    async fn attempt(&self, item: &Item<Asked>, context: &Context) -> Attempt<Item<Asked>, Answer> {
        let Asked { content, page, script, .. } = &item.call;
        let repeatable = item.call.is_repeatable();
        let peer = &*self.0;
        peer.active.set(peer.active.get() + 1);
        let _active = Active(peer);
        let step = peer.next_step(*content, *page, script);
        let entry = (step.hop.is_some() || step.effect.is_some()).then(|| peer.begin(&item.call));
        if let (Some(effect), Some(entry)) = (step.hop, entry) {
            context.begin();
            tokio::time::sleep(step.takes).await;
            context.settle(effect);
            peer.set_truth(entry, effect);
        }
        if step.effect.is_some() {
            context.begin();
            peer.set_truth(entry.expect("a step was begun"), step.hop.unwrap_or_default().join(Effect::Maybe));
        }
        tokio::time::sleep(step.takes).await;
        match step.ending {
            Ending::Hang => std::future::pending().await,
            // Quiet, and as any other panic to what catches it.
            Ending::Panic => std::panic::resume_unwind(Box::new("as scripted")),
            _ => {}
        }
        if let Some(effect) = step.effect {
            context.settle(effect);
            peer.set_truth(entry.expect("a step was begun"), step.hop.unwrap_or_default().join(effect));
        }
        let effect = context.effect();
        let failed = effect.outcome(OutcomeKind::Failed, repeatable);
        let may_repeat = effect.allows_repeat(repeatable);
        // Some say nothing of their row, and run again in a later run.
        let error_kind = [ErrorKind::Status, ErrorKind::Connect, ErrorKind::RetryBudget][(content % 3) as usize];
        let error = || Answer::failed(error_kind, "as scripted".to_owned());
        match step.ending {
            Ending::Ok => {
                let mut attempt = Attempt::new(Verdict::Final(OutcomeKind::Ok), Answer::default());
                if *page < script.pages {
                    attempt.then = Some(Box::new(next_page(item)));
                }
                attempt
            }
            Ending::Retry if may_repeat => {
                Attempt::new(Verdict::Retry { otherwise: failed, not_before: None }, error())
            }
            Ending::Throttled if may_repeat => {
                let until = Some(clock::now() + Duration::from_secs(1));
                Attempt::new(Verdict::Throttled { until, quota: false }, error())
            }
            _ => Attempt::new(Verdict::Final(failed), error()),
        }
    }

    fn halted(&self, item: &Item<Asked>, halt: Halt, _last: Option<Answer>) -> (Verdict, Answer) {
        let repeatable = item.call.is_repeatable();
        let (kind, error, effect) = match halt {
            Halt::AttemptTimeout { effect, .. } => {
                let otherwise = effect.outcome(OutcomeKind::TimedOut, repeatable);
                let verdict = match effect.allows_repeat(repeatable) {
                    true => Verdict::Retry { otherwise, not_before: None },
                    false => Verdict::Final(otherwise),
                };
                return (verdict, Answer::failed(ErrorKind::Timeout, "too slow".to_owned()));
            }
            Halt::Deadline { effect, .. } => (OutcomeKind::TimedOut, ErrorKind::Deadline, effect),
            Halt::Cancelled { effect, .. } => (OutcomeKind::Cancelled, ErrorKind::Cancelled, effect),
            Halt::RateLimited { effect, .. } => (OutcomeKind::Failed, ErrorKind::RateLimited, effect),
            Halt::Away { effect, .. } => (OutcomeKind::Failed, ErrorKind::Away, effect),
            Halt::RetryBudget { effect } => (OutcomeKind::Failed, ErrorKind::RetryBudget, effect),
            Halt::Panicked { effect, .. } => (OutcomeKind::Failed, ErrorKind::Internal, effect),
        };
        (Verdict::Final(effect.outcome(kind, repeatable)), Answer::failed(error, "halted".to_owned()))
    }
}

impl Peer {
    /// The next attempts at this page take these steps.
    pub fn next_at(&self, content: u64, page: u32, steps: impl IntoIterator<Item = Step>) {
        self.before.borrow_mut().entry((content, page)).or_default().extend(steps);
    }

    fn next_step(&self, content: u64, page: u32, script: &Script) -> Step {
        if let Some(step) = self.before.borrow_mut().get_mut(&(content, page)).and_then(VecDeque::pop_front) {
            return step;
        }
        let mut tried = self.tried.borrow_mut();
        let tried = tried.entry((content, page)).or_default();
        let step = script.steps.get(*tried).copied().unwrap_or(WELL);
        *tried += 1;
        step
    }

    fn begin(&self, call: &Asked) -> usize {
        let mut ledger = self.ledger.borrow_mut();
        let Asked { content, page, .. } = *call;
        let (repeat, key, run) = (call.repeat(), call.key.clone(), self.run.get());
        let forgiven = Cell::new(false);
        let noted = notes_in(&self.notes.borrow());
        ledger.push(Begun { content, page, repeat, key, run, truth: Effect::Maybe, noted, forgiven });
        ledger.len() - 1
    }

    fn set_truth(&self, entry: usize, truth: Effect) {
        self.ledger.borrow_mut()[entry].truth = truth;
    }

    /// How often anything was begun for this content.
    pub fn begun(&self, content: u64) -> usize {
        self.ledger.borrow().iter().filter(|begun| begun.content == content).count()
    }
}

/// How many notes a run file promises: a number behind its header.
fn notes_in(run_file: &Path) -> u64 {
    let bytes = std::fs::read(run_file).unwrap_or_default();
    bytes.get(64..72).map_or(0, |count| u64::from_le_bytes(count.try_into().expect("eight bytes")))
}

fn next_page(item: &Item<Asked>) -> Item<Asked> {
    item.next_page(Asked { page: item.call.page + 1, ..item.call.clone() }.with_key())
}

/// It is done, at once.
pub const WELL: Step =
    Step { hop: None, effect: Some(Effect::Done), ending: Ending::Ok, takes: Duration::from_millis(1) };
