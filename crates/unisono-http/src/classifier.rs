//! What the end of an attempt means: success, another attempt, a pause for the host, or the end.
//!
//! What may be repeated is decided by the rule in `verdict.rs`; here is what each end is by itself.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use unisono_batch::{Context, Halt, Verdict};
use unisono_core::{Effect, ErrorKind, OutcomeKind, Peer, clock, format_duration};

use crate::{
    Client, Error, Remote, Request, Response, StatusSet, Streaming, Trail, throttle,
    verdict::{AttemptEnd, is_worth_a_repeat, verdict},
};

/// Judges calls for the batch engine.
#[derive(Clone)]
pub struct AttemptClassifier {
    sender: Sender,
}

/// What sends a request, once. What the end means is the same for both.
#[derive(Clone)]
enum Sender {
    Here(Client),
    Remote(Remote),
}

/// What an item has to show at the end of an attempt: an answer, an error, or both.
#[derive(Debug, Default)]
pub struct AttemptResult {
    /// The answer, whatever its status.
    pub response: Option<Response>,
    /// Why it is not a success.
    pub error: Option<Error>,
    /// When the server wants to be asked again, where that is why the item ended.
    pub retry_at: Option<SystemTime>,
    /// What the attempt says of the host.
    pub peer: Peer,
}

/// An attempt's end, judged.
#[derive(Debug)]
pub struct Judged {
    /// What it means for the item.
    pub verdict: Verdict,
    /// Nothing of this host starts before then.
    pub pause_until: Option<Instant>,
    /// What the head says of the host.
    pub peer: Peer,
    /// Why, unless it is a success.
    pub error: Option<Error>,
}

impl AttemptClassifier {
    /// A job that sends its requests with this client.
    pub fn new(client: Client) -> Self {
        Self { sender: Sender::Here(client) }
    }

    /// A job whose requests are sent by other machines. [`AttemptClassifier::deliver`] must be polled beside its
    /// attempts.
    pub fn over(remote: Remote) -> Self {
        Self { sender: Sender::Remote(remote) }
    }

    /// How many connections there can be, once the process has run out of file descriptors.
    pub fn most_connections(&self) -> Option<usize> {
        match &self.sender {
            Sender::Here(client) => client.most_connections(),
            // Theirs, which are not known here.
            Sender::Remote(_) => None,
        }
    }

    /// How many requests were left in doubt by origins that closed a connection which they had promised to keep.
    pub fn in_doubt(&self) -> Vec<(String, u64)> {
        match &self.sender {
            Sender::Here(client) => client.in_doubt(),
            // Their connections are theirs.
            Sender::Remote(_) => Vec::new(),
        }
    }

    /// Whether the bodies of answers come in here, and not whole from another machine.
    pub fn is_here(&self) -> bool {
        matches!(&self.sender, Sender::Here(_))
    }

    /// The statuses that are a success of this request.
    pub fn expect<'a>(&'a self, request: &'a Request) -> &'a StatusSet {
        request.expect().unwrap_or_else(|| match &self.sender {
            Sender::Here(client) => &client.options().expect,
            Sender::Remote(remote) => remote.expect(),
        })
    }

    /// What goes on beside the attempts as long as they do. Never ends.
    pub async fn deliver(&self) {
        match &self.sender {
            Sender::Here(_) => std::future::pending().await,
            Sender::Remote(remote) => remote.deliver().await,
        }
    }

    /// Sends a request once, from where its trail ends, and judges how it ended.
    pub async fn attempt(
        &self,
        request: &Request,
        trail: &Trail,
        context: &Context,
    ) -> (Verdict, Option<Instant>, AttemptResult) {
        let (judged, streaming) = match self.open(request, trail, context).await {
            Ok(opened) => opened,
            Err((verdict, error)) => return (verdict, None, AttemptResult::failed(error)),
        };
        let Judged { verdict, pause_until, peer, error } = judged;
        match error {
            None => match streaming.collect_for(context).await {
                Ok(response) => {
                    (verdict, pause_until, AttemptResult { response: Some(response), peer, ..AttemptResult::default() })
                }
                Err(error) => (Self::judge_error(request, trail, &error, context), None, AttemptResult::failed(error)),
            },
            Some(error) => {
                let response = Some(streaming.as_far_as_it_comes().await);
                (verdict, pause_until, AttemptResult { response, error: Some(error), retry_at: None, peer })
            }
        }
    }

    /// Sends a request once and returns the head of the answer, judged; the body is still to come. The taker of
    /// that of a success says how it ended, by [`Streaming::body_ended`].
    ///
    /// # Errors
    /// With the verdict on it, when there is no answer.
    pub async fn open(
        &self,
        request: &Request,
        trail: &Trail,
        context: &Context,
    ) -> Result<(Judged, Streaming), (Verdict, Error)> {
        let opened = match &self.sender {
            Sender::Here(client) => client.open(request, trail, context).await,
            Sender::Remote(remote) => remote.open(request, trail, context).await,
        };
        match opened {
            Ok(streaming) => {
                let judged = self.judge(request, trail, &streaming, context);
                if judged.error.is_none() {
                    streaming.expect_body(context);
                }
                Ok((judged, streaming))
            }
            Err(error) => Err((Self::judge_error(request, trail, &error, context), error)),
        }
    }

    /// What an error means for a request, before an answer or in the middle of its body.
    pub fn judge_error(request: &Request, trail: &Trail, error: &Error, context: &Context) -> Verdict {
        let end = match error.is_retryable() && can_be_sent(request, trail) {
            // Nothing of it has left this side, for there was no peer to take it.
            true if error.peer() == Peer::Away && context.effect() == Effect::None => AttemptEnd::Unmet,
            true => AttemptEnd::Again { not_before: None },
            false => AttemptEnd::Wrong,
        };
        verdict(end, context.effect(), request.is_repeatable(), trail.has_hop())
    }

    fn judge(&self, request: &Request, trail: &Trail, answer: &Streaming, context: &Context) -> Judged {
        let Streaming { status, ref headers, peer, .. } = *answer;
        let from_now = |wait| clock::now() + wait;
        let renewed = throttle::until_renewed(headers, clock::wall).map(from_now);
        if self.expect(request).contains(status) {
            return Judged { verdict: Verdict::Final(OutcomeKind::Ok), pause_until: renewed, peer, error: None };
        }
        let asked = throttle::retry_after(headers, clock::wall).map(from_now);
        let end = match status.as_u16() {
            429 => AttemptEnd::Throttled { until: asked.or(renewed), quota: true },
            503 if throttle::comes_back(headers) => AttemptEnd::Throttled { until: asked, quota: false },
            403 if throttle::is_used_up(headers) => AttemptEnd::Throttled { until: asked.or(renewed), quota: true },
            _ if is_worth_a_repeat(status) => AttemptEnd::Again { not_before: asked },
            _ => AttemptEnd::Wrong,
        };
        let end = if can_be_sent(request, trail) { end } else { AttemptEnd::Wrong };
        let verdict = verdict(end, context.effect(), request.is_repeatable(), trail.has_hop());
        let error =
            Error::new(ErrorKind::Status, status_line(status)).retryable(matches!(end, AttemptEnd::Again { .. }));
        Judged { verdict, pause_until: None, peer, error: Some(error) }
    }

    /// What it means that the engine ended an item or stopped its attempt: what [`Halt`] says, but for a timeout, which
    /// is the peer's and may be of a later hop that can be sent again.
    pub fn halted(
        &self,
        request: &Request,
        trail: &Trail,
        halt: &Halt,
        last: Option<AttemptResult>,
    ) -> (Verdict, AttemptResult) {
        let origin = request.url.origin();
        let message = match halt {
            Halt::AttemptTimeout { after, .. } => {
                format!("{origin} did not answer in full within {}", format_duration(*after))
            }
            _ => halt.message(Some(&origin)),
        };
        let mut error = Error::new(halt.error_kind(), message);
        if let Halt::AttemptTimeout { .. } | Halt::Deadline { .. } = halt {
            error = error.sign(trail.sign_of_timeout());
        }
        let repeatable = request.is_repeatable();
        let verdict = match halt {
            Halt::AttemptTimeout { effect, .. }
                if (effect.allows_repeat(repeatable) || trail.has_hop()) && can_be_sent(request, trail) =>
            {
                let otherwise = halt.outcome(repeatable);
                match error.peer() == Peer::Away && *effect == Effect::None {
                    true => Verdict::Unmet { otherwise },
                    false => Verdict::Retry { otherwise, not_before: None },
                }
            }
            _ => halt.verdict(repeatable),
        };
        let (response, cause) = last.map_or((None, None), |last| (last.response, last.error));
        // The reason why the item was still not done says more than that it was stopped.
        if let Some(cause) = cause {
            error = error.with_source(cause.chain());
        }
        let mut result = AttemptResult::failed(error);
        match halt {
            Halt::RateLimited { wait, .. } => {
                let from_now = wait.retry_at.saturating_duration_since(clock::now());
                result.retry_at = clock::wall().checked_add(from_now.max(Duration::from_secs(1)));
                result.response = response;
            }
            Halt::RetryBudget { .. } => result.response = response,
            _ => {}
        }
        (verdict, result)
    }
}

impl AttemptResult {
    /// An item that has nothing but an error to show.
    pub fn failed(error: Error) -> Self {
        Self { peer: error.peer(), error: Some(error), ..Self::default() }
    }

    /// The same for another reader; causes of its error become text.
    pub fn duplicate(&self) -> Self {
        let Self { response, error, retry_at, peer } = self;
        Self { response: response.clone(), error: error.as_ref().map(Error::again), retry_at: *retry_at, peer: *peer }
    }

    /// Whether it is a success.
    pub fn is_ok(&self) -> bool {
        self.error.is_none()
    }
}

/// Whether there is something that another attempt could send.
fn can_be_sent(request: &Request, trail: &Trail) -> bool {
    trail.has_hop() || !request.body.is_spent()
}

fn status_line(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}
