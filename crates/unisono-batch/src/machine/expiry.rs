//! What ends by itself at a machine: because of a stop, because its time is over, or because what it waits for comes
//! too late.

use std::{cmp::Reverse, time::Instant};

use super::{Machine, Stop};
use crate::{
    protocol::Expired,
    slots::{Slot, State},
    too_long::{Asker, Bound, TooLong},
};

impl Machine {
    /// The next thing that has to end because of the time or a stop.
    ///
    /// Work under way is late when its time was over at `seen`: until then, all that had arrived was told to what waits
    /// for it. Without I/O, that is now.
    pub fn expire(&mut self, now: Instant, seen: Instant) -> Option<Expired> {
        self.expire_stopped(seen)
            .or_else(|| self.expire_late(now, seen))
            .or_else(|| self.expire_refused(now))
            .or_else(|| self.expire_away(now))
    }

    /// When the time of whatever runs out first is over: an attempt, an item, or the grace period of a stop.
    pub fn due(&self) -> Option<Instant> {
        let grace = match self.stop {
            Stop::Drain(end) => (self.undecided > 0).then_some(end),
            Stop::Run | Stop::Abort => None,
        };
        [self.slots.due(self.settings.times.stopping), grace].into_iter().flatten().min()
    }

    fn expire_stopped(&mut self, seen: Instant) -> Option<Expired> {
        let stop_running = match self.stop {
            Stop::Run => return None,
            Stop::Drain(end) => seen >= end,
            Stop::Abort => true,
        };
        // Rare and once per batch, so a walk over all slots is fine; each answer leaves one fewer.
        let ticket = self.slots.find(|state| match state {
            State::Queued | State::Waiting => true,
            State::Running => stop_running,
            State::Vacant | State::Parked | State::Detached => false,
        })?;
        Some(Expired::Cancelled { ticket, running: self.slots[ticket].state == State::Running })
    }

    fn expire_late(&mut self, now: Instant, seen: Instant) -> Option<Expired> {
        while let Some(ticket) = self.overdue.pop_front() {
            if self.slots.is_current(ticket) {
                return Some(Expired::Item { ticket, running: false });
            }
        }
        let stopping = self.settings.times.stopping;
        while let Some(ticket) = self.slots.first_item() {
            let Slot { state, item_by, .. } = self.slots[ticket];
            let running = state == State::Running;
            // Only what is under way may have an answer that is here already.
            if item_by.is_none_or(|by| by > if running { seen } else { now }) {
                break;
            }
            if !running || stopping.is_zero() {
                return Some(Expired::Item { ticket, running });
            }
            self.slots.grant_overtime(ticket);
        }
        if let Some(ticket) = self.slots.first_overtime()
            && self.slots[ticket].item_by.and_then(|by| by.checked_add(stopping)).is_some_and(|by| by <= seen)
        {
            return Some(Expired::Item { ticket, running: true });
        }
        let ticket = self.slots.first_attempt()?;
        let is_late = self.slots[ticket].attempt_by.is_some_and(|by| by <= seen);
        is_late.then_some(Expired::Attempt(ticket))
    }

    fn expire_refused(&mut self, now: Instant) -> Option<Expired> {
        while let Some(index) = self.refusing.front().copied() {
            // The pause may be over, or the key gone, by the time its turn comes.
            if self.keys.is_known(index)
                && self.is_refusing(index, now)
                && let Some(ticket) = self.front(index)
            {
                let retry_at = self.keys.get(index).paused_until.unwrap_or(now);
                let bound = Bound::MaxWait(self.settings.retry.max_wait);
                return Some(Expired::Refused { ticket, wait: TooLong::new(now, retry_at, Asker::Pause, bound) });
            }
            self.refusing.pop_front();
        }
        None
    }

    fn expire_away(&mut self, now: Instant) -> Option<Expired> {
        let host_away = self.settings.retry.host_away?;
        while let Some(Reverse((at, index))) = self.away.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.away.pop();
            let held = self.keys.is_known(index).then(|| self.keys.get(index).health.held()).flatten();
            if held.is_some_and(|held| held.since + host_away == at && held.is_given_up(now, Some(host_away))) {
                self.giving_up.push_back(index);
            }
        }
        while let Some(index) = self.giving_up.front().copied() {
            if self.keys.is_known(index)
                && let Some((since, is_silent)) =
                    self.keys.get(index).health.held().map(|held| (held.since, held.is_silent))
                && let Some(ticket) = self.front(index)
            {
                return Some(Expired::Away { ticket, since, is_silent });
            }
            self.giving_up.pop_front();
        }
        None
    }
}
