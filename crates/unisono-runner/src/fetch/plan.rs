//! What a run of HTTP requests is to do, parsed and checked.

use unisono_http::ClientOptions;

use super::{EvaluatorCommand, FetchCall, Filter, Paginate, RemoteSender};
use crate::{Frame, Saving};

/// Everything about a run, parsed and checked.
pub struct FetchPlan {
    /// What every run has.
    pub frame: Frame<FetchCall>,
    /// How to speak to servers.
    pub http: ClientOptions,
    /// Where the requests are sent from, unless it is this process.
    pub remote: Option<RemoteSender>,
    /// What to keep of an answer.
    pub select: Option<Filter>,
    /// Whether and how answers have further pages.
    pub paginate: Option<Paginate>,
    /// How to start a process for the expressions of these two that are not plain ([`Filter::is_plain`]).
    pub evaluator: Option<EvaluatorCommand>,
    /// Give each request that is not idempotent a key that makes it so.
    pub idempotency_keys: bool,
    /// What holds for the files that bodies go to, where they do.
    pub saving: Option<Saving>,
}
