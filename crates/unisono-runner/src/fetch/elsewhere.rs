//! A run whose requests are sent by other machines: where it puts them, and who carries them.
//!
//! Whoever carries them says so when it cannot any more. Then the run is stopped, since every further row would fail for
//! a reason that has nothing to do with it; what was not started is left for a later run.

use std::convert::Infallible;

use tokio::sync::watch;
use unisono_batch::DeskBell;
use unisono_core::{CancelReason, CancelToken};
use unisono_http::{Counter, CounterDesk, HttpJob, Remote, StatusSet, counter};

/// Where a run puts its requests.
pub struct Elsewhere {
    counter: Counter,
    broken: watch::Receiver<Option<String>>,
}

/// Where whoever carries requests takes them from. When it is dropped, what is under way counts as lost.
pub struct Carrier {
    /// The requests, as bytes.
    pub desk: CounterDesk,
    broken: watch::Sender<Option<String>>,
}

/// Both ends. The bell is rung when there is something on the desk, or the run is over.
pub fn elsewhere(bell: DeskBell) -> (Elsewhere, Carrier) {
    let (counter, desk) = counter(bell);
    let (sender, broken) = watch::channel(None);
    (Elsewhere { counter, broken }, Carrier { desk, broken: sender })
}

impl Carrier {
    /// Nothing can be carried any more; the run is stopped, and its report says why.
    pub fn give_up(&self, why: String) {
        self.broken.send_if_modified(|known| known.is_none() && known.replace(why).is_none());
    }
}

impl Elsewhere {
    /// What sends requests by way of it, and who says when that is over.
    pub(crate) fn job(self, expect: StatusSet) -> (HttpJob, Option<watch::Receiver<Option<String>>>) {
        (HttpJob::over(Remote::new(self.counter, expect)), Some(self.broken))
    }
}

/// Stops the run when nothing can be carried any more.
pub(crate) async fn stop_when_broken(
    broken: Option<watch::Receiver<Option<String>>>,
    cancel: &CancelToken,
) -> Infallible {
    // A carrier that has just gone has given back what it had.
    if let Some(mut broken) = broken
        && broken.wait_for(Option::is_some).await.is_ok()
    {
        cancel.abort(CancelReason::MachinesLost);
    }
    std::future::pending().await
}
