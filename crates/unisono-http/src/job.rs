//! What the end of an attempt means: success, another attempt, a pause for the host, or the end.
//!
//! An error that leaves open whether the request took effect is repeated only when a repetition does no harm: the
//! method is idempotent, it carries an `Idempotency-Key`, or it was certainly not processed. Otherwise the item ends as
//! ambiguous.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use unisono_batch::{Context, Halt, Verdict};
use unisono_core::{ErrorKind, OutcomeKind, clock, format_duration};

use crate::{Client, Error, Remote, Request, Response, Streaming, throttle};

/// Judges calls for the batch engine.
#[derive(Clone)]
pub struct HttpJob {
    sender: Sender,
}

/// Who sends a request, once. What the end means is the same for both.
#[derive(Clone)]
enum Sender {
    Here(Client),
    Elsewhere(Remote),
}

/// What an item has to show at the end of an attempt: an answer, an error, or both.
#[derive(Debug, Default)]
pub struct Reply {
    /// The answer, whatever its status.
    pub response: Option<Response>,
    /// Why it is not a success.
    pub error: Option<Error>,
    /// When the server wants to be asked again, where that is why the item ended.
    pub retry_at: Option<SystemTime>,
}

/// An attempt's end, judged.
#[derive(Debug)]
pub struct Judged {
    /// What it means for the item.
    pub verdict: Verdict,
    /// Nothing of this host starts before then.
    pub pause_until: Option<Instant>,
    /// Why, unless it is a success.
    pub error: Option<Error>,
}

impl HttpJob {
    /// A job that sends its requests with this client.
    pub fn new(client: Client) -> Self {
        Self { sender: Sender::Here(client) }
    }

    /// A job whose requests are sent by other machines. [`HttpJob::relay`] must be polled beside its attempts.
    pub fn over(remote: Remote) -> Self {
        Self { sender: Sender::Elsewhere(remote) }
    }

    /// How many connections there can be, once the process has run out of file descriptors.
    pub fn most_connections(&self) -> Option<usize> {
        match &self.sender {
            Sender::Here(client) => client.most_connections(),
            // Theirs, of which nobody here knows.
            Sender::Elsewhere(_) => None,
        }
    }

    /// What goes on beside the attempts as long as they do. Never ends.
    pub async fn relay(&self) {
        match &self.sender {
            Sender::Here(_) => std::future::pending().await,
            Sender::Elsewhere(remote) => remote.relay().await,
        }
    }

    /// Sends a request once, and judges how it ended.
    pub async fn attempt(&self, request: &Request, context: &Context) -> (Verdict, Option<Instant>, Reply) {
        let (judged, streaming) = match self.open(request, context).await {
            Ok(opened) => opened,
            Err((verdict, error)) => return (verdict, None, Reply::failed(error)),
        };
        let Judged { verdict, pause_until, error } = judged;
        match error {
            None => match streaming.collect().await {
                Ok(response) => (verdict, pause_until, Reply { response: Some(response), ..Reply::default() }),
                Err(error) => (Self::judge_error(request, &error, context), None, Reply::failed(error)),
            },
            Some(error) => (
                verdict,
                pause_until,
                Reply { response: Some(streaming.as_far_as_it_comes().await), error: Some(error), retry_at: None },
            ),
        }
    }

    /// Sends a request once and answers with the head, judged; the body is still to come.
    ///
    /// # Errors
    /// With the verdict on it, when there is no answer.
    pub async fn open(&self, request: &Request, context: &Context) -> Result<(Judged, Streaming), (Verdict, Error)> {
        let opened = match &self.sender {
            Sender::Here(client) => client.open(request, context).await,
            Sender::Elsewhere(remote) => remote.open(request, context).await,
        };
        match opened {
            Ok(streaming) => {
                let judged = self.judge(request, streaming.status, &streaming.headers, context);
                Ok((judged, streaming))
            }
            Err(error) => Err((Self::judge_error(request, &error, context), error)),
        }
    }

    /// What an error means for a request, before an answer or in the middle of its body.
    pub fn judge_error(request: &Request, error: &Error, context: &Context) -> Verdict {
        match error.is_retryable() {
            true => again_if_safe(request, context, OutcomeKind::Failed),
            // A body that cannot be decoded, or a broken protocol: it has been processed, and is not in doubt.
            false => Verdict::Final(OutcomeKind::Failed),
        }
    }

    fn judge(&self, request: &Request, status: StatusCode, headers: &http::HeaderMap, context: &Context) -> Judged {
        let (now, wall) = (clock::now(), clock::wall());
        let renewed = throttle::until_renewed(headers, wall).map(|wait| now + wait);
        let expect = match &self.sender {
            Sender::Here(client) => &client.options().expect,
            Sender::Elsewhere(remote) => remote.expect(),
        };
        if expect.contains(status) {
            return Judged { verdict: Verdict::Final(OutcomeKind::Ok), pause_until: renewed, error: None };
        }
        let asked = throttle::retry_after(headers, wall).map(|wait| now + wait);
        let error = Error::new(ErrorKind::Status, status_line(status)).retryable(false);
        let (verdict, error) = match status.as_u16() {
            429 => {
                context.clear_sent();
                (Verdict::Throttled { until: asked.or(renewed), quota: true }, error)
            }
            503 if asked.is_some() => {
                context.clear_sent();
                (Verdict::Throttled { until: asked, quota: false }, error)
            }
            403 if throttle::is_used_up(headers) => {
                context.clear_sent();
                (Verdict::Throttled { until: asked.or(renewed), quota: true }, error)
            }
            421 | 425 => {
                // The server says that it has not processed it.
                context.clear_sent();
                (again_if_safe(request, context, OutcomeKind::Failed), error.retryable(true))
            }
            408 | 500 | 502 | 503 | 504 => {
                (again_if_safe(request, context, OutcomeKind::Failed), error.retryable(true))
            }
            _ => (Verdict::Final(OutcomeKind::Failed), error),
        };
        Judged { verdict, pause_until: None, error: Some(error) }
    }

    /// What it means that the engine ended an item or stopped its attempt.
    pub fn halted(&self, request: &Request, halt: &Halt, last: Option<Reply>) -> (Verdict, Reply) {
        let safe = |sent: bool| !sent || request.is_repeatable();
        let origin = request.url.origin();
        let (verdict, error) = match halt {
            Halt::AttemptTimeout { after, sent } => {
                let error = Error::new(
                    ErrorKind::Timeout,
                    format!("{origin} did not answer in full within {}", format_duration(*after)),
                );
                let verdict = match safe(*sent) {
                    true => Verdict::Retry { otherwise: OutcomeKind::TimedOut, not_before: None },
                    false => Verdict::Final(OutcomeKind::Ambiguous),
                };
                (verdict, error)
            }
            Halt::Deadline { after, sent } => {
                let kind = if safe(*sent) { OutcomeKind::TimedOut } else { OutcomeKind::Ambiguous };
                (
                    Verdict::Final(kind),
                    Error::new(
                        ErrorKind::Deadline,
                        format!("not done within its deadline of {}", format_duration(*after)),
                    ),
                )
            }
            Halt::Cancelled { started, sent, .. } => {
                let kind = if safe(*sent) { OutcomeKind::Cancelled } else { OutcomeKind::Ambiguous };
                let message = if *started { "stopped before it was done" } else { "stopped before it began" };
                (Verdict::Final(kind), Error::new(ErrorKind::Cancelled, message))
            }
            Halt::RateLimited { retry_at } => return rate_limited(*retry_at, last, &origin.to_string()),
            Halt::Panicked { message, sent } => {
                let kind = if safe(*sent) { OutcomeKind::Failed } else { OutcomeKind::Ambiguous };
                (Verdict::Final(kind), Error::new(ErrorKind::Internal, format!("a fault of unisono: {message}")))
            }
        };
        (verdict, Reply { error: Some(explained(error, last)), ..Reply::default() })
    }
}

impl Reply {
    /// An item that has nothing but an error to show.
    pub fn failed(error: Error) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// Whether it is a success.
    pub fn is_ok(&self) -> bool {
        self.error.is_none()
    }
}

fn again_if_safe(request: &Request, context: &Context, otherwise: OutcomeKind) -> Verdict {
    match request.is_repeatable() || !context.is_sent() {
        true => Verdict::Retry { otherwise, not_before: None },
        false => Verdict::Final(OutcomeKind::Ambiguous),
    }
}

fn rate_limited(retry_at: Instant, last: Option<Reply>, named: &str) -> (Verdict, Reply) {
    let wait = retry_at.saturating_duration_since(clock::now());
    let error = Error::new(ErrorKind::RateLimited, format!("{named} asks to wait longer than allowed"));
    let reply = Reply {
        response: last.and_then(|last| last.response),
        error: Some(error),
        retry_at: clock::wall().checked_add(wait.max(Duration::from_secs(1))),
    };
    (Verdict::Final(OutcomeKind::Failed), reply)
}

/// The reason why the item was still not done says more than that it was stopped.
fn explained(error: Error, last: Option<Reply>) -> Error {
    match last.and_then(|last| last.error) {
        Some(cause) => error.with_source(cause.chain()),
        None => error,
    }
}

fn status_line(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}
