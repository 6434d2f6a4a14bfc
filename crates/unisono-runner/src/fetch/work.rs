//! How a request is tried: one exchange, what is kept of its answer, and its next page.

use std::{
    io,
    time::{Duration, Instant},
};

use unisono_batch::{Attempt, Context, Halt, Verdict};
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_http::{AttemptClassifier, Error, Streaming, Trail};
use unisono_journal::RowKey;

use super::{
    Filter, Paginate,
    call::{FetchCall, Fetched},
    evaluator::{Body, Evaluator},
};
use crate::{
    pages::Pages,
    saves::{Filled, Part, Target},
    work::{Item, Work},
};

/// An HTTP attempt's end.
type FetchAttempt = Attempt<Item<FetchCall>, Fetched>;

pub(crate) struct FetchWork {
    pub(crate) http: AttemptClassifier,
    pub(crate) select: Option<Filter>,
    pub(crate) paginate: Option<Paginate>,
    pub(crate) evaluator: Evaluator,
    /// Tells of rows that have more pages than they may.
    pub(crate) pages: Pages,
}

impl Work for FetchWork {
    type Call = FetchCall;

    async fn attempt(&self, item: &Item<FetchCall>, context: &Context) -> FetchAttempt {
        if let Some(target) = item.targets.first() {
            // Boxed: most attempts do without, and their futures would be as large.
            return Box::pin(self.save(item, target, context)).await;
        }
        let (verdict, pause_until, reply) = self.http.attempt(&item.call.request, &item.call.trail, context).await;
        let mut attempt = Attempt::new(verdict, Fetched { reply, ..Fetched::default() });
        attempt.pause_until = pause_until;
        if verdict == Verdict::Final(OutcomeKind::Ok) {
            // Boxed, as most attempts do without.
            if self.paginate.is_some() || self.select.is_some() {
                Box::pin(self.digest(item, &mut attempt, context)).await;
            }
        }
        attempt
    }

    async fn background(&self) {
        self.http.deliver().await
    }

    fn halted(&self, item: &Item<FetchCall>, halt: Halt, last: Option<Fetched>) -> (Verdict, Fetched) {
        let (verdict, reply) =
            self.http.halted(&item.call.request, &item.call.trail, &halt, last.map(|last| last.reply));
        (verdict, Fetched { reply, ..Fetched::default() })
    }
}

impl FetchWork {
    async fn save(&self, item: &Item<FetchCall>, target: &Target, context: &Context) -> FetchAttempt {
        let FetchCall { request, trail, .. } = &item.call;
        let (judged, mut streaming) = match self.http.open(request, trail, context).await {
            Ok(opened) => opened,
            Err((verdict, error)) => return Attempt::new(verdict, Fetched::error(error)),
        };
        let mut done = Fetched::default();
        done.reply.peer = judged.peer;
        let mut verdict = judged.verdict;
        if judged.error.is_none() {
            let filled = match store(&mut streaming, target).await {
                Ok(part) => {
                    // The answer is here in full: what is left is a matter between us and the file.
                    streaming.body_ended(context, None);
                    let by = context.attempt_by().into_iter().chain(context.item_by()).min();
                    finished(part, target, by).await
                }
                Err(error) => Err(error),
            };
            // From here to the end nothing is waited for, so a file that has its name has its outcome as well.
            let saved = filled.and_then(|filled| filled.place().map_err(|error| not_saved(target, error)));
            streaming.body_ended(context, saved.as_ref().err());
            match saved {
                Ok(bytes) => done.saved = Some((target.name().to_owned(), bytes)),
                Err(error) => {
                    verdict = AttemptClassifier::judge_error(request, trail, &error, context);
                    if error.kind() != ErrorKind::Save {
                        done.reply.peer = error.peer();
                    }
                    done.reply.error = Some(error);
                }
            }
            done.reply.response = Some(streaming.without_body());
        } else {
            done.reply.response = Some(streaming.as_far_as_it_comes().await);
            done.reply.error = judged.error;
        }
        Attempt { pause_until: judged.pause_until, ..Attempt::new(verdict, done) }
    }

    /// Takes from a success what is wanted of it.
    async fn digest(&self, item: &Item<FetchCall>, attempt: &mut FetchAttempt, context: &Context) {
        let bytes = attempt.value.reply.response.as_ref().map(|response| response.body.clone()).unwrap_or_default();
        let body = Body::new(&bytes);
        let by = context.attempt_by().into_iter().chain(context.item_by()).min();
        let result = async {
            self.follow(item, attempt, &body, by).await.map_err(|why| (ErrorKind::Pages, why))?;
            self.select(&mut attempt.value, &body, by).await.map_err(|why| (ErrorKind::Select, why))
        };
        if let Err((kind, why)) = result.await {
            attempt.verdict = Verdict::Final(OutcomeKind::Failed);
            attempt.then = None;
            attempt.value.next = None;
            attempt.value.goes_on = false;
            attempt.value.reply.error = Some(Error::new(kind, why));
        }
    }

    async fn follow(
        &self,
        item: &Item<FetchCall>,
        attempt: &mut FetchAttempt,
        body: &Body<'_>,
        by: Option<Instant>,
    ) -> Result<(), String> {
        let (Some(paginate), Some(response)) = (&self.paginate, &attempt.value.reply.response) else { return Ok(()) };
        let next = paginate.next(&self.evaluator, &item.call.request, response, body, by).await?;
        attempt.value.next = Some(next.as_ref().map(|request| request.url.clone()));
        let Some(mut request) = next else { return Ok(()) };
        let visited = item.call.visited.and_next(item.key.page, &item.call.request.url, &request.url)?;
        if item.key.page >= self.pages.most {
            self.pages.cut_off(item.name());
            return Ok(());
        }
        let key = RowKey { page: item.key.page + 1, ..item.key };
        if let Some(keys) = item.call.key {
            keys.set(&mut request, key.page);
        }
        attempt.value.goes_on = true;
        let call = FetchCall { request, trail: Trail::default(), save: None, key: item.call.key, visited };
        attempt.then = Some(Box::new(item.next_page(call)));
        Ok(())
    }

    async fn select(&self, done: &mut Fetched, body: &Body<'_>, by: Option<Instant>) -> Result<(), String> {
        let (Some(filter), Some(response)) = (&self.select, &done.reply.response) else { return Ok(()) };
        if response.body.is_empty() {
            return Ok(());
        }
        done.selected = Some(filter.json(self.evaluator.run(filter, body, by).await?).into());
        Ok(())
    }
}

/// Streams a body into a file that has yet to get its name, a quarter of a mebibyte at a time.
async fn store(streaming: &mut Streaming, target: &Target) -> Result<Part, Error> {
    let failed = |error| not_saved(target, error);
    let (mut part, mut buffer) = (None, Vec::new());
    while let Some(chunk) = streaming.chunk().await? {
        buffer.extend_from_slice(&chunk);
        if buffer.len() >= PIECE_BYTES {
            let piece = std::mem::take(&mut buffer);
            part = Some(target.fill(part.take(), move |part| part.push(&piece)).await.map_err(failed)?);
        }
    }
    target.fill(part, move |part| part.push(&buffer)).await.map_err(failed)
}

/// Gets a part ready to have its name, or into its pipe. A pipe may have no reader: then the row ends as one that could
/// not be saved, just before it would end as one whose server has not answered.
async fn finished(part: Part, target: &Target, by: Option<Instant>) -> Result<Filled, Error> {
    let by = by.and_then(|by| by.checked_sub(BEFORE_THE_END)).map(tokio::time::Instant::from_std);
    let finish = target.finish(part);
    let finished = match by {
        Some(by) => tokio::time::timeout_at(by, finish).await,
        None => Ok(finish.await),
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "nothing has read it by the end of the row's time");
    finished.unwrap_or_else(|_| Err(late())).map_err(|error| not_saved(target, error))
}

fn not_saved(target: &Target, error: io::Error) -> Error {
    let message = format!("cannot write `{}`", target.name().display());
    Error::new(ErrorKind::Save, message).retryable(false).with_source(error)
}

const PIECE_BYTES: usize = 256 << 10;

/// Enough for the row to be told before its time is over.
const BEFORE_THE_END: Duration = Duration::from_millis(20);
