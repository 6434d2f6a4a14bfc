//! Bulk HTTP, from a plan to a report.

mod call;
mod evaluating;
mod evaluator;
mod filter;
mod jq;
mod links;
mod maker;
mod netrc;
mod paginate;
mod plan;
mod remote;
mod row_body;
mod row_options;
mod row_request;
mod saving;
mod shape;
mod work;

use unisono_batch::Monitor;
use unisono_core::CancelToken;
use unisono_http::{AttemptClassifier, Client};

use crate::{
    Error, Gauge, Report,
    pages::Pages,
    run::{Extras, run},
    twins::Prepare,
};
use call::PageKeys;
use evaluator::Evaluator;
use work::FetchWork;

pub use call::{FetchCall, FetchStyle, Fetched};
pub use evaluating::serve_expressions;
pub use evaluator::EvaluatorCommand;
pub use filter::Filter;
#[doc(hidden)]
pub use links::next_targets;
pub use maker::{Defaults, header, method};
pub use netrc::{BadNetrc, Login, Netrc};
pub use paginate::Paginate;
pub use plan::FetchPlan;
pub use remote::{Carrier, RemoteSender, remote_requests};
pub use row_body::{ROW_BODIES, RowBody, body_of_words};
pub use row_options::{ROW_OPTIONS, RowOptions};
pub use row_request::RowRequest;

/// Runs a plan to its end, or until the token says stop, and accounts for every row.
///
/// # Errors
/// When it cannot begin: a file in the way, a changed input, a certificate that is none. What happens to rows is in
/// the report.
///
/// ```
/// # use unisono_core::CancelToken;
/// # use unisono_runner::{
/// #     Defaults, Destination, FetchPlan, FetchStyle, Frame, Gauge, Input, Monitor, Settings, Template, fetch,
/// #     http_client,
/// # };
/// # use unisono_testkit::{Server, answer};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::answering(|_| answer(200, &[], b"{}")).await;
/// let address = Template::address(&server.url("/items/{1..3}"))?;
/// let rows = Input::arguments(vec![Defaults { address: Some(address), ..Defaults::default() }]).start()?;
/// let frame = Frame {
///     rows: Box::new(rows),
///     settings: Settings::default(),
///     output: Destination::Nothing,
///     outlet: None,
///     style: FetchStyle::default(),
///     keep_order: false,
///     max_failures: None,
///     canary: None,
///     on_event: None,
/// };
/// let plan = FetchPlan {
///     frame,
///     http: http_client::ClientOptions::default(),
///     remote: None,
///     select: None,
///     paginate: None,
///     evaluator: None,
///     idempotency_keys: false,
///     saving: None,
/// };
/// let report = fetch(plan, CancelToken::new(), Monitor::new(), Gauge::default()).await?;
/// assert_eq!((report.rows(), report.exit_code()), (3, 0));
/// # Ok(()) }
/// ```
pub async fn fetch(plan: FetchPlan, cancel: CancelToken, monitor: Monitor, gauge: Gauge) -> Result<Report, Error> {
    let filters = plan.select.iter().chain(plan.paginate.as_ref().and_then(Paginate::filter));
    if plan.evaluator.is_none()
        && let Some(filter) = filters.into_iter().find(|filter| !filter.is_plain())
    {
        let why = format!("`{}` needs a process of its own, and nobody says how to start one", filter.text());
        return Err(Error::usage(why));
    }
    let expect = plan.http.expect.clone();
    // Also where other machines send: a certificate that is of no use is found before anything is sent.
    let client = Client::new(plan.http)?;
    let (http, broken) = match plan.remote {
        None => (AttemptClassifier::new(client), None),
        Some(remote) => remote.attempts(expect),
    };
    let pages = Pages::up_to(plan.paginate.as_ref().map_or(0, |paginate| paginate.most));
    let extras = Extras {
        pages: pages.clone(),
        saving: plan.saving,
        prepare: plan.idempotency_keys.then_some(Box::new(idempotency_keys)),
        ..Extras::default()
    };
    let work = FetchWork {
        http: http.clone(),
        select: plan.select,
        paginate: plan.paginate,
        evaluator: Evaluator::new(plan.evaluator),
        pages: pages.clone(),
    };
    let (mut report, work) = tokio::select! {
        biased;
        // Before what is lost by it is told, so that nothing is begun in its place.
        never = remote::stop_when_broken(broken.clone(), &cancel) => match never {},
        ended = run(work, plan.frame, extras, cancel.clone(), monitor, gauge) => ended?,
    };
    work.evaluator.close().await;
    if let Some(why) = broken.and_then(|broken| broken.borrow().clone()) {
        report.failures.push(why);
    }
    if let Some(most) = http.most_connections() {
        report.warnings.push(format!(
            "the process ran out of file descriptors, so at most {most} connections were open at once (raise `ulimit -n` for more)"
        ));
    }
    report.warnings.extend(http.in_doubt().into_iter().map(|(origin, count)| {
        let plural = if count == 1 { "request was" } else { "requests were" };
        format!(
            "{count} {plural} on the way when {origin} closed a connection that it had kept, and must not be sent twice: \
             since the first of them, such requests get connections of their own; where the API honours it, \
             --idempotency-key lets them be sent again"
        )
    }));
    report.warnings.extend(pages.warning());
    Ok(report)
}

/// Gives what is not idempotent a key that stays the same for its row and page in each attempt and run, wherever the
/// row stands.
fn idempotency_keys(seed: u64) -> Prepare<FetchCall> {
    Box::new(move |call, page, fingerprint, name| {
        // It may have been given another one already.
        if !matches!(call.keys, Some(PageKeys::Made { .. })) && call.request.is_repeatable() {
            return None;
        }
        let keys = PageKeys::new(seed, fingerprint, name);
        Some(call.keys.insert(keys).set(&mut call.request, page))
    })
}
