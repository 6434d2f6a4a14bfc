//! What a machine does about the peers that its keys stand for: what an attempt tells of one is heard, and what is
//! queued waits for one that is away, goes slower to one that is overloaded, or goes on.
//!
//! What is known of a peer, and when it changes, is `health.rs`.

use std::{cmp::Reverse, time::Instant};

use unisono_core::Peer;

use super::{Machine, jitter};
use crate::{
    health::{Change, News},
    protocol::KeyNews,
    slots::{Slot, State},
    ticket::Ticket,
};

impl Machine {
    /// Takes in what a running attempt tells of its peer; `is_unmet` says that nothing of it arrived there.
    pub(super) fn hear(&mut self, now: Instant, ticket: Ticket, peer: Peer, is_unmet: bool) {
        let Slot { key: index, epoch, started, .. } = self.slots[ticket];
        let started = started.unwrap_or(now);
        let was_probing = self.keys.get(index).health.is_probing();
        let host_away = self.settings.retry.host_away;
        if peer != Peer::Away || host_away.is_some() {
            let per_key = self.settings.limits.per_key.get();
            let is_repeat = peer == Peer::Silent && self.slots[ticket].attempts > 1 && self.has_untried(index);
            let key = self.keys.get_mut(index);
            let in_flight = key.in_flight;
            let news =
                News { at: now, ticket, epoch, started, peer, is_unmet, in_flight, per_key, is_repeat, host_away };
            let rng = &mut self.rng;
            let change = key.health.hear(&news, |most| jitter(rng, most));
            self.follow(now, index, change);
        }
        // A key that is paced already is so because of its rate: that is too high, whatever else it is.
        if peer == Peer::Overloaded && !self.keys.get(index).pace.is_idle() {
            self.slow_down(now, index, started);
        }
        // By its end, or by an answer to another: then it is a probe no more.
        if was_probing && !self.keys.get(index).health.is_probing() {
            self.probes -= 1;
            self.keys.enlist(index, &self.settings.limits);
            self.keys.admit_next_probe(&self.settings.limits);
        }
    }

    /// Does what follows from a change of a peer's state.
    fn follow(&mut self, now: Instant, index: usize, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Held { since } => {
                let is_silent = self.keys.get(index).health.held().is_some_and(|held| held.is_silent);
                self.hold(now, index, is_silent);
                self.away.push(Reverse((since + self.settings.retry.host_away.unwrap_or_default(), index)));
                self.news.push((index, KeyNews::Away { since, is_silent }));
            }
            Change::StillAway => {
                let held = self.keys.get(index).health.held();
                if held.is_some_and(|held| held.is_given_up(now, self.settings.retry.host_away)) {
                    self.giving_up.push_back(index);
                }
                if held.is_some_and(|held| held.is_silent) {
                    self.put_untried_first(index);
                }
            }
            Change::Doubted => self.put_untried_first(index),
            Change::Back { since } => {
                self.let_go(index);
                self.news.push((index, KeyNews::Back(now.saturating_duration_since(since))));
            }
            Change::Lowered => {
                let capacity = self.keys.get(index).health.capacity(self.settings.limits.per_key.get());
                self.news.push((index, KeyNews::Lowered(capacity)));
            }
            Change::TooOften => {
                self.slow_down(now, index, now);
                self.news.push((index, KeyNews::Paced));
            }
        }
    }

    /// Paces a key, as after a refusal that names no time; but each costs a repeat, so nothing starts as soon as then.
    fn slow_down(&mut self, now: Instant, index: usize, started: Instant) {
        let least = now + self.jitter(self.settings.retry.backoff.base);
        let until = self.keys.get_mut(index).pace.overload(now, started);
        self.pause_key(now, index, until.max(least));
        self.keys.rouse(index, &self.settings.limits);
    }

    /// What is queued begins to wait for a peer that is away.
    fn hold(&mut self, now: Instant, index: usize, is_silent: bool) {
        let queued = self.keys.get(index).queued;
        self.look_ahead.hold(queued);
        for ticket in self.queue_of(index) {
            self.begin_to_wait(now, ticket);
        }
        if is_silent {
            self.put_untried_first(index);
        }
    }

    /// Whether others can be tried in place of what was tried in vain.
    fn has_untried(&self, index: usize) -> bool {
        let is_untried =
            |ticket: &Ticket| self.slots.is_in(*ticket, State::Queued) && self.slots[*ticket].first_start.is_none();
        !self.settings.ordered_by_key && self.keys.get(index).queue.iter().any(is_untried)
    }

    /// What was tried may ask for what its peer never answers, and waits in front: others are to see whether it is
    /// there. The first of them is any one, for neighbours often ask for the same.
    fn put_untried_first(&mut self, index: usize) {
        if self.settings.ordered_by_key {
            return;
        }
        let queued = self.queue_of(index).into_iter();
        let (mut untried, tried): (Vec<_>, Vec<_>) =
            queued.partition(|ticket| self.slots[*ticket].first_start.is_none());
        if !untried.is_empty() {
            let first = untried.remove(self.rng.usize(..untried.len()));
            self.keys.get_mut(index).queue = [first].into_iter().chain(untried).chain(tried).collect();
        }
    }

    /// What is queued waits no more for its peer, and begins anew to be what the limits wait for.
    fn let_go(&mut self, index: usize) {
        let queued = self.keys.get(index).queued;
        self.look_ahead.let_go(queued);
        for ticket in self.queue_of(index) {
            if self.slots[ticket].first_start.is_none() {
                self.slots.untime_item(ticket);
            }
        }
        self.keys.enlist(index, &self.settings.limits);
    }

    /// An item waits for a peer that is away: its time runs, and it needs no room in the sink for now.
    pub(super) fn begin_to_wait(&mut self, now: Instant, ticket: Ticket) {
        let deadline = self.deadline_of(ticket).map(|deadline| now + deadline);
        self.slots.time_item(ticket, deadline);
        self.owed -= usize::from(std::mem::take(&mut self.slots[ticket].owes));
    }

    /// Probes of peers that are away may take seconds each, and are not to take all there is from those that are not.
    pub(super) fn most_probes(&self) -> u32 {
        (self.settings.limits.limit.get() / 4).max(1)
    }
}
