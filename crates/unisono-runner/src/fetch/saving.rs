//! How a body becomes a file: what is asked for, and what becomes of each answer.
//!
//! A body that has broken off goes on where it ended (RFC 9110, section 14), in the next attempt or in a later run,
//! where the server still has that version and says so. Otherwise it begins anew. What may be gone on with is
//! `ranges.rs` of `unisono-http`; where it waits is `saves/growing.rs`.

use std::{
    io,
    time::{Duration, Instant},
};

use unisono_batch::{Attempt, Context, Verdict};
use unisono_core::ErrorKind;
use unisono_http::{AttemptClassifier, BodyVersion, Error, Judged, Request, RestOfBody, Streaming, Trail, may_go_on};

use super::call::{FetchCall, Fetched};
use crate::{
    saves::{Filled, Growing, Part, Target},
    work::Item,
};

/// An HTTP attempt's end.
pub(super) type FetchAttempt = Attempt<Item<FetchCall>, Fetched>;

/// A body that is about to come.
struct ComingBody {
    /// What is there of it.
    growing: Growing,
    brings: RestOfBody,
}

/// One attempt of a row whose body goes to a file.
pub(super) async fn save(
    http: &AttemptClassifier,
    item: &Item<FetchCall>,
    target: &Target,
    context: &Context,
) -> FetchAttempt {
    let FetchCall { request, trail, .. } = &item.call;
    let (judged, mut streaming, body) = match open(http, request, trail, target, context).await {
        Ok(opened) => opened,
        Err((verdict, error)) => return Attempt::new(verdict, Fetched::error(error)),
    };
    let mut done = Fetched::default();
    done.reply.peer = judged.peer;
    let mut verdict = judged.verdict;
    if let Some(body) = body {
        let filled = match body.store(&mut streaming, target).await {
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

/// Asks for a body, or for the rest of one, and returns the head of the answer with what is to become of its body;
/// nothing of that where it is no success.
async fn open(
    http: &AttemptClassifier,
    request: &Request,
    trail: &Trail,
    target: &Target,
    context: &Context,
) -> Result<(Judged, Streaming, Option<ComingBody>), (Verdict, Error)> {
    let failed = |error| {
        let error = not_saved(target, error);
        (AttemptClassifier::judge_error(request, trail, &error, context), error)
    };
    // What another machine asks for comes whole or not at all.
    let goes_on = http.is_here() && target.is_file() && may_go_on(request);
    let mut begun = if goes_on { target.begun().await.map_err(failed)? } else { None };
    loop {
        let rest = begun
            .as_ref()
            .and_then(|begun| Some(begun.version()?.request_rest(request, begun.length(), http.expect(request))));
        // Where it fails or is refused, what is there waits for the next attempt.
        let (judged, streaming) = http.open(rest.as_ref().unwrap_or(request), trail, context).await?;
        if judged.error.is_some() {
            return Ok((judged, streaming, None));
        }
        let brings = begun
            .as_ref()
            .and_then(|begun| Some(begun.version()?.rest(begun.length(), streaming.status, &streaming.headers)));
        let growing = match (begun.take(), brings) {
            (Some(growing), Some(RestOfBody::Rest { .. } | RestOfBody::Nothing)) => growing,
            (before, brings) => {
                if let Some(before) = before {
                    before.discard().await.map_err(failed)?;
                }
                if brings == Some(RestOfBody::Useless) {
                    streaming.body_ended(context, None);
                    streaming.discard().await;
                    continue;
                }
                let version = goes_on.then(|| BodyVersion::of(streaming.status, &streaming.headers));
                target.begin(version.flatten())
            }
        };
        return Ok((judged, streaming, Some(ComingBody { growing, brings: brings.unwrap_or(RestOfBody::Whole) })));
    }
}

impl ComingBody {
    /// Streams a body into a file that has yet to get its name, a quarter of a mebibyte at a time.
    async fn store(self, streaming: &mut Streaming, target: &Target) -> Result<Part, Error> {
        let failed = |error| not_saved(target, error);
        let Self { mut growing, brings } = self;
        if brings == RestOfBody::Nothing {
            // The body of that answer is about that, and no part of the file.
            return growing.whole().await.map_err(failed);
        }
        let (mut buffer, mut ended) = (Vec::new(), streaming.continues(growing.length()));
        while ended.is_ok() {
            match streaming.chunk().await {
                Ok(Some(chunk)) => buffer.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => ended = Err(error),
            }
            if buffer.len() >= PIECE_BYTES {
                growing = growing.push(std::mem::take(&mut buffer)).await.map_err(failed)?;
            }
        }
        if let Err(error) = ended {
            match error.kind() {
                // It has come, and is not wanted as it is.
                ErrorKind::Decode | ErrorKind::TooLarge => growing.discard().await.map_err(failed)?,
                _ if growing.version().is_none() => {}
                _ => drop(growing.push(buffer).await.map_err(failed)?),
            }
            return Err(error);
        }
        growing = growing.push(buffer).await.map_err(failed)?;
        if let RestOfBody::Rest { until, is_last } = brings {
            let (length, origin) = (growing.length(), streaming.url.origin());
            let incomplete = |what: String| Error::new(ErrorKind::IncompleteBody, format!("{origin} {what}"));
            if length != until {
                growing.discard().await.map_err(failed)?;
                return Err(incomplete(format!("has sent a part up to byte {length} and called it one up to {until}")));
            }
            if !is_last {
                return Err(incomplete(format!(
                    "has sent the body up to byte {until} and not to its end, as was asked"
                )));
            }
        }
        growing.whole().await.map_err(failed)
    }
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
