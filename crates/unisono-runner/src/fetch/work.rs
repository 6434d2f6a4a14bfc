//! How a request is tried: one exchange, what is kept of its answer, and its next page.

use std::time::Instant;

use unisono_batch::{Attempt, Context, Halt, Verdict};
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_http::{AttemptClassifier, Error, Trail};
use unisono_journal::RowKey;

use super::{
    Filter, Paginate,
    call::{FetchCall, Fetched},
    evaluator::{Body, Evaluator},
    saving::{FetchAttempt, save},
};
use crate::{
    pages::Pages,
    work::{Item, Work},
};

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
            return Box::pin(save(&self.http, item, target, context)).await;
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
        let keys = item.call.keys.clone();
        if let Some(keys) = &keys {
            keys.set(&mut request, key.page);
        }
        attempt.value.goes_on = true;
        let call = FetchCall { request, trail: Trail::default(), save: None, keys, visited };
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
