//! How often a request goes out again within one attempt, since its peer has certainly not processed it.
//!
//! Such a sending counts for nothing: it is no attempt, costs no budget and has no effect, be it of a POST. What ends
//! it is that nothing comes of it:
//!
//! 1. A connection that takes some of what it is given and then no more (GOAWAY) does its work, however many of them it
//!    takes; one that takes nothing at all does not, and after a few of those, whichever request made them, the attempt
//!    has failed.
//! 2. A refused stream waits until one of the streams beside it has ended. Where there is none, it waits longer each
//!    time, and after some of those the attempt has failed.
//! 3. A peer that asks for calm is not asked again at once.

use std::time::Duration;

use crate::{
    Error,
    fault::{find, is_refused},
    http2::Http2,
    pool::ConnectionPool,
    url::Origin,
};

/// What has come of a request's sendings in one attempt.
#[derive(Default)]
pub(crate) struct Resends {
    /// The first connection that did not process it, by its number at its host.
    first: Option<u64>,
    refused_alone: u32,
    all: u32,
}

impl Resends {
    /// After how long it is to go out again; `None`: not at once.
    pub(crate) fn again(
        &mut self,
        error: &Error,
        connection: &Http2,
        pool: &ConnectionPool,
        origin: &Origin,
    ) -> Option<Duration> {
        self.all += 1;
        if self.all > MOST || !error.is_unprocessed() || !error.is_stale() {
            return None;
        }
        if find(error).is_some_and(is_refused) {
            if connection.others() > 0 {
                return Some(Duration::ZERO);
            }
            self.refused_alone += 1;
            return (self.refused_alone <= MOST_REFUSED_ALONE)
                .then(|| FIRST_PAUSE.saturating_mul(1 << (self.refused_alone - 1)));
        }
        // Connections before the first of this request say nothing of it, whatever they took.
        let first = *self.first.get_or_insert(connection.number());
        (pool.in_vain_since(origin, first) <= MOST_IN_VAIN).then_some(Duration::ZERO)
    }
}

/// A restart behind a load balancer may hand out a few connections that are on their way out.
const MOST_IN_VAIN: usize = 4;
/// About a second and a quarter of pauses in all.
const MOST_REFUSED_ALONE: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// A thousand streams at once on connections that take one each.
const MOST: u32 = 1000;
