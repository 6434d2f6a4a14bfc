//! A row as a job of the engine: one call, what is kept of its answer, and its next page.

use std::{cell::RefCell, path::PathBuf, rc::Rc};

use bytes::Bytes;
use unisono_batch::{Again, Attempt, Context, Halt, Job, Verdict};
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_http::{Error, HttpJob, Reply, Request};
use unisono_journal::{Journal, RowKey};

use crate::{Filter, Outcome, Paginate, save::Saver};

/// What the engine carries for a row or page.
pub(crate) struct Item {
    pub(crate) key: RowKey,
    pub(crate) id: Option<Box<str>>,
    pub(crate) fingerprint: u64,
    pub(crate) request: Request,
    pub(crate) save: Option<PathBuf>,
}

/// What an attempt has to show.
#[derive(Default)]
pub(crate) struct Done {
    reply: Reply,
    selected: Option<Bytes>,
    saved: Option<(PathBuf, u64)>,
    /// As in [`Outcome::next`].
    next: Option<Option<unisono_http::Url>>,
    /// The next page is under way.
    goes_on: bool,
}

/// Why an item is tried again.
#[derive(Debug)]
pub struct Retry<'a> {
    /// The row's name.
    pub id: &'a str,
    /// What went wrong.
    pub reason: &'a str,
    /// Which attempt this was, and when the next one comes.
    pub again: Again,
}

/// Called for each retry.
pub type OnRetry = Box<dyn Fn(Retry<'_>)>;

pub(crate) struct FetchJob {
    pub(crate) http: HttpJob,
    pub(crate) journal: Option<Rc<Journal>>,
    pub(crate) select: Option<Filter>,
    pub(crate) paginate: Option<Paginate>,
    pub(crate) saver: Saver,
    pub(crate) on_retry: Option<OnRetry>,
    /// Rows whose pages were cut off at the cap.
    pub(crate) cut_off: RefCell<Vec<String>>,
}

impl Job for FetchJob {
    type Item = Item;
    type Value = Done;

    async fn attempt(&self, item: Rc<Item>, context: Context) -> Attempt<Item, Done> {
        // Boxed, as is saving: most attempts do without, and their futures would be as large.
        if context.attempt() == 1
            && !item.request.is_repeatable()
            && let Err(error) = Box::pin(self.note_start(&item)).await
        {
            return Attempt::new(Verdict::Final(OutcomeKind::Failed), Done::failed(error));
        }
        if let Some(path) = &item.save {
            return Box::pin(self.save(&item, path, &context)).await;
        }
        let (verdict, pause_until, reply) = self.http.attempt(&item.request, &context).await;
        let mut attempt = Attempt::new(verdict, Done { reply, ..Done::default() });
        attempt.pause_until = pause_until;
        if verdict == Verdict::Final(OutcomeKind::Ok) {
            self.digest(&item, &mut attempt);
        }
        attempt
    }

    fn halted(&self, item: &Item, halt: Halt, last: Option<Done>) -> (Verdict, Done) {
        let (verdict, reply) = self.http.halted(&item.request, &halt, last.map(|last| last.reply));
        (verdict, Done { reply, ..Done::default() })
    }

    fn again(&self, item: &Item, last: &Done, again: Again) {
        if let Some(on_retry) = &self.on_retry {
            let reason = last.reply.error.as_ref().map(Error::chain).unwrap_or_default();
            on_retry(Retry { id: &item.name(), reason: &reason, again });
        }
    }
}

impl FetchJob {
    /// What must not be repeated is noted before it starts, durably.
    async fn note_start(&self, item: &Item) -> Result<(), Error> {
        let Some(journal) = &self.journal else { return Ok(()) };
        journal.started(item.key, item.fingerprint).await.map_err(|error| {
            let message = "not sent: it could not be noted that it was about to be";
            Error::new(ErrorKind::Save, message).retryable(false).with_source(error.to_string())
        })
    }

    async fn save(&self, item: &Item, path: &std::path::Path, context: &Context) -> Attempt<Item, Done> {
        let (judged, mut streaming) = match self.http.open(&item.request, context).await {
            Ok(opened) => opened,
            Err((verdict, error)) => return Attempt::new(verdict, Done::failed(error)),
        };
        let mut done = Done::default();
        let mut verdict = judged.verdict;
        if judged.error.is_none() {
            match self.saver.save(&mut streaming, path).await {
                Ok(bytes) => done.saved = Some((path.to_owned(), bytes)),
                Err(error) => {
                    verdict = HttpJob::judge_error(&item.request, &error, context);
                    done.reply.error = Some(error);
                }
            }
            done.reply.response = Some(streaming.without_body());
        } else {
            done.reply.response = Some(streaming.as_far_as_it_comes().await);
            done.reply.error = judged.error;
        }
        Attempt { verdict, value: done, pause_until: judged.pause_until, then: None }
    }

    /// Takes from a success what is wanted of it.
    fn digest(&self, item: &Item, attempt: &mut Attempt<Item, Done>) {
        let result = self.follow(item, attempt).and_then(|()| self.select(&mut attempt.value));
        if let Err(why) = result {
            attempt.verdict = Verdict::Final(OutcomeKind::Failed);
            attempt.then = None;
            attempt.value.next = None;
            attempt.value.goes_on = false;
            attempt.value.reply.error = Some(Error::new(ErrorKind::Select, why));
        }
    }

    fn follow(&self, item: &Item, attempt: &mut Attempt<Item, Done>) -> Result<(), String> {
        let (Some(paginate), Some(response)) = (&self.paginate, &attempt.value.reply.response) else { return Ok(()) };
        let next = paginate.next(&item.request, response)?;
        attempt.value.next = Some(next.as_ref().map(|request| request.url.clone()));
        let Some(request) = next else { return Ok(()) };
        if request.url == item.request.url {
            return Err("the next page is this page again".to_owned());
        }
        if item.key.page >= paginate.most {
            self.cut_off.borrow_mut().push(item.name());
            return Ok(());
        }
        let key = RowKey { page: item.key.page + 1, ..item.key };
        attempt.value.goes_on = true;
        attempt.then = Some(Item { key, id: item.id.clone(), fingerprint: item.fingerprint, request, save: None });
        Ok(())
    }

    fn select(&self, done: &mut Done) -> Result<(), String> {
        let (Some(filter), Some(response)) = (&self.select, &done.reply.response) else { return Ok(()) };
        if response.body.is_empty() {
            return Ok(());
        }
        let mut outputs = filter.run(&response.body)?;
        done.selected = match outputs.len() {
            0 => Some(Bytes::new()),
            1 => Some(outputs.remove(0).into()),
            _ => Some(format!("[{}]", outputs.join(",")).into()),
        };
        Ok(())
    }
}

impl Item {
    pub(crate) fn name(&self) -> String {
        self.id.as_deref().map_or_else(|| format!("r{}", self.key.row), str::to_owned)
    }
}

impl Done {
    fn failed(error: Error) -> Self {
        Self { reply: Reply::failed(error), ..Self::default() }
    }
}

/// The outcome of an item, and whether nothing more of its row will follow.
pub(crate) fn outcome(decided: unisono_batch::Decided<FetchJob>) -> (Outcome, bool) {
    let item = decided.item;
    let done = decided.value;
    let outcome = Outcome {
        key: item.key,
        id: item.name().into(),
        kind: decided.kind,
        asked: Some((item.request.method.clone(), item.request.url.clone())),
        place: None,
        reply: done.reply,
        selected: done.selected,
        saved: done.saved,
        next: done.next,
        attempts: decided.attempts,
        elapsed: decided.elapsed,
        fingerprint: item.fingerprint,
        repeatable: item.request.is_repeatable(),
    };
    (outcome, !done.goes_on)
}
