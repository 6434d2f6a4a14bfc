//! A run whose requests are sent by other machines: where it puts them, and what carries them.
//!
//! The carrier says so when it cannot carry them any more. Then the run is stopped, since every further row would fail
//! for a reason that has nothing to do with it; what was not started is left for a later run.

use std::convert::Infallible;

use tokio::sync::watch;
use unisono_batch::{Outstanding, WorkNotifier};
use unisono_core::{CancelReason, CancelToken};
use unisono_http::{AttemptClassifier, Remote, RemoteChannel, RemoteResult, StatusSet, remote_queue};

/// Where a run puts its requests.
pub struct RemoteSender {
    channel: RemoteChannel,
    broken: watch::Receiver<Option<String>>,
}

/// Where requests are taken from to be carried. When it is dropped, what is under way counts as lost.
pub struct Carrier {
    /// The requests, as bytes.
    pub requests: Outstanding<Vec<u8>, RemoteResult>,
    broken: watch::Sender<Option<String>>,
}

/// Both ends. The notifier is called when there is something in the queue, or the run is over.
pub fn remote_requests(notifier: WorkNotifier) -> (RemoteSender, Carrier) {
    let (channel, queue) = remote_queue(notifier);
    let (sender, broken) = watch::channel(None);
    (RemoteSender { channel, broken }, Carrier { requests: Outstanding::new(queue), broken: sender })
}

impl Carrier {
    /// Nothing can be carried any more; the run is stopped, and its report says why.
    pub fn give_up(&self, why: String) {
        self.broken.send_if_modified(|known| known.is_none() && known.replace(why).is_none());
    }
}

impl RemoteSender {
    /// What sends requests by way of it, and what says when that is over.
    pub(crate) fn attempts(self, expect: StatusSet) -> (AttemptClassifier, Option<watch::Receiver<Option<String>>>) {
        (AttemptClassifier::over(Remote::new(self.channel, expect)), Some(self.broken))
    }
}

/// Stops the run when nothing can be carried any more.
pub(crate) async fn stop_when_broken(
    broken: Option<watch::Receiver<Option<String>>>,
    cancel: &CancelToken,
) -> Infallible {
    // A carrier that has just gone has given back what it had: that is no reason to stop.
    if let Some(mut broken) = broken
        && broken.wait_for(Option::is_some).await.is_ok()
    {
        cancel.abort(CancelReason::MachinesLost);
    }
    std::future::pending().await
}
