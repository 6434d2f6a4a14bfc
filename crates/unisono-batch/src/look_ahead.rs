//! How many items a machine has in hand that are to start, and how many more it would take in.
//!
//! Neither a paused key nor one whose peer is away may fill the look-ahead, or nothing of the others would come to its
//! turn: of each key only a share counts, and what waits behind peers that are away has a bound of its own.

/// Items that are queued or wait for their backoff.
#[derive(Debug, Default)]
pub(crate) struct LookAhead {
    /// Items queued in any key.
    queued: usize,
    /// Queued items, but of each key only its share, and none behind a peer that is away.
    counted: usize,
    /// Queued items behind a peer that is away.
    behind: usize,
    /// Items that wait for their backoff.
    delayed: usize,
}

impl LookAhead {
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.queued + self.delayed
    }

    /// How many more fit in, where so many may be in flight.
    pub(crate) fn room(&self, limit: u32) -> usize {
        let normal = (4 * limit as usize).max(LEAST);
        let most = 4 * normal;
        let startable = self.queued - self.behind + self.delayed;
        normal
            .saturating_sub(self.counted + self.delayed)
            .min(most.saturating_sub(startable))
            .min(MOST_BEHIND.saturating_sub(self.behind))
    }

    /// An item joins the queue of a key, where so many are before it.
    pub(crate) fn enqueue(&mut self, before: usize, is_held: bool) {
        self.counted += usize::from(!is_held && before < SHARE);
        self.behind += usize::from(is_held);
        self.queued += 1;
    }

    /// An item leaves the queue of a key, where so many are left.
    pub(crate) fn dequeue(&mut self, left: usize, is_held: bool) {
        self.counted -= usize::from(!is_held && left < SHARE);
        self.behind -= usize::from(is_held);
        self.queued -= 1;
    }

    /// What is queued in a key, so many items, begins to wait for its peer.
    pub(crate) fn hold(&mut self, queued: usize) {
        self.counted -= queued.min(SHARE);
        self.behind += queued;
    }

    /// What is queued in a key, so many items, waits for its peer no more.
    pub(crate) fn let_go(&mut self, queued: usize) {
        self.counted += queued.min(SHARE);
        self.behind -= queued;
    }

    /// An item begins to wait for its backoff.
    pub(crate) fn delay(&mut self) {
        self.delayed += 1;
    }

    /// An item waits for its backoff no more.
    pub(crate) fn undelay(&mut self) {
        self.delayed -= 1;
    }
}

/// Enough rows in hand that one read of the input serves many starts, few enough to cost no memory that counts.
const LEAST: usize = 1024;
/// How much of the look-ahead the items of one key may fill.
const SHARE: usize = LEAST / 4;
/// How many items may wait for peers that are away before no more are taken in: as many rows as fit into some
/// megabytes, so that hundreds of dead hosts keep no item of another waiting.
const MOST_BEHIND: usize = 16 * LEAST;
