//! What is known of a key's peer: whether it is away, and how much it bears.
//!
//! *Held*: the peer could not be met. One attempt at a time probes it, after pauses that grow; nothing else of the key
//! starts. The probe is a ticket and not "nothing in flight", so that work that cannot be stopped does not block it.
//!
//! *Lowered*: the peer is there and has too much to do, or has just come back. What may be in flight has a window, as
//! TCP has one for what it sends (RFC 5681): halved when the peer is overloaded, and opened by each success; by one up
//! to where it was halved last, by a part of one beyond.
//!
//! An attempt knows the *epoch* in which it started. Each change of state begins a new one, and news of an older epoch
//! is ignored: twenty requests that one restart has cut off are one piece of news.

use std::time::{Duration, Instant};

use unisono_core::Peer;

use crate::machine::Ticket;

#[derive(Debug, Default)]
pub(crate) struct Health {
    epoch: u32,
    held: Option<Held>,
    window: Option<Window>,
    /// News of overload since the last success.
    strikes: u32,
    /// Attempts that reached somebody who hung up, since the last success.
    doubts: u32,
    /// Probes that found nobody, or holds that followed each other quickly: what the next pause grows with.
    misses: u32,
    /// When it was last found to be back.
    back: Option<Instant>,
    /// When the epoch began.
    changed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Since when nobody is there.
    pub(crate) since: Instant,
    pub(crate) next_probe: Instant,
    pub(crate) probe: Option<Ticket>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    size: f64,
    /// Up to here each success adds one.
    threshold: f64,
    /// The peer is overloaded, and not only met again after it was away.
    is_lowered: bool,
}

/// What news of a peer changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Nothing,
    /// From here on the key is held.
    Held,
    /// A probe found nobody.
    StillAway,
    /// The key was held since then, and is so no more.
    Back {
        since: Instant,
    },
    /// Less may be in flight from now on.
    Lowered,
    /// Only one is in flight, and that is too much: it must come less often.
    TooOften,
}

/// What an attempt of the present epoch tells of its peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) at: Instant,
    pub(crate) ticket: Ticket,
    pub(crate) peer: Peer,
    /// Nothing of it reached anybody, so that it says nothing of the attempt; otherwise it may be the attempt's own
    /// fault that the peer hung up.
    pub(crate) is_unmet: bool,
    /// Of its key, this one included.
    pub(crate) in_flight: u32,
    pub(crate) per_key: u32,
}

impl Health {
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn is_probe(&self, ticket: Ticket) -> bool {
        self.held.is_some_and(|held| held.probe == Some(ticket))
    }

    /// How many may be in flight.
    pub(crate) fn capacity(&self, per_key: u32) -> u32 {
        self.window.map_or(per_key, |window| per_key.min((window.size as u32).max(1)))
    }

    /// How many may be in flight where that is because the peer is overloaded.
    pub(crate) fn lowered(&self, per_key: u32) -> Option<u32> {
        self.window.filter(|window| window.is_lowered).map(|_| self.capacity(per_key))
    }

    /// Whether an attempt may start but for how much is in flight: a held key has one probe at a time.
    pub(crate) fn is_open(&self) -> bool {
        self.held.is_none_or(|held| held.probe.is_none())
    }

    /// When an attempt may start.
    pub(crate) fn next_start(&self, now: Instant) -> Instant {
        self.held.map_or(now, |held| held.next_probe)
    }

    /// Counts a start.
    pub(crate) fn start(&mut self, ticket: Ticket) {
        if let Some(held) = &mut self.held {
            held.probe = Some(ticket);
        }
    }

    /// Takes in news. `pause` is asked how long the next probe waits, given a bound.
    pub(crate) fn hear(&mut self, news: &News, pause: impl FnOnce(Duration) -> Duration) -> Change {
        let Some(held) = &mut self.held else { return self.hear_open(news, pause) };
        if held.probe != Some(news.ticket) {
            return Change::Nothing;
        }
        held.probe = None;
        match news.peer {
            Peer::Away => {
                self.misses = self.misses.saturating_add(1);
                held.next_probe = news.at + pause(bound(self.misses));
                Change::StillAway
            }
            // It never came as far as the peer, so another may try in its place.
            Peer::Unknown => {
                held.next_probe = news.at;
                Change::Nothing
            }
            Peer::Fine => self.reopen(news, 2.0),
            Peer::Overloaded => self.reopen(news, 1.0),
        }
    }

    fn hear_open(&mut self, news: &News, pause: impl FnOnce(Duration) -> Duration) -> Change {
        let News { at: now, peer, is_unmet, in_flight, per_key, .. } = *news;
        match peer {
            Peer::Unknown => Change::Nothing,
            Peer::Fine => {
                (self.strikes, self.doubts) = (0, 0);
                self.window = self.window.and_then(|window| window.opened(per_key));
                if self.back.is_some_and(|back| now.saturating_duration_since(back) > bound(self.misses)) {
                    (self.misses, self.back) = (0, None);
                }
                Change::Nothing
            }
            Peer::Away => {
                self.doubts += 1;
                if !is_unmet && self.doubts < DOUBTS {
                    return Change::Nothing;
                }
                // Coming and going counts as being away: what is met in between is no reason to be tried more often.
                // Unless somebody was there, and has only hung up.
                self.misses = if self.back.is_some() && is_unmet { self.misses.saturating_add(1) } else { 0 };
                self.held = Some(Held { since: now, next_probe: now + pause(bound(self.misses)), probe: None });
                self.window = None;
                self.next_epoch(now);
                Change::Held
            }
            Peer::Overloaded => {
                self.strikes += 1;
                // One alone may have been unlucky; a peer that is known to be overloaded is taken at its word.
                if self.strikes < STRIKES && self.window.is_none() {
                    return Change::Nothing;
                }
                let was = self.capacity(per_key);
                let size = (f64::from(was.min(in_flight.max(1))) / 2.0).max(1.0);
                self.window = Some(Window { size, threshold: size, is_lowered: true });
                self.next_epoch(now);
                if was == 1 { Change::TooOften } else { Change::Lowered }
            }
        }
    }

    /// The peer that was away is back, and so much may be in flight at first.
    fn reopen(&mut self, news: &News, size: f64) -> Change {
        let per_key = f64::from(news.per_key);
        let since = self.held.take().map_or(news.at, |held| held.since);
        self.back = Some(news.at);
        let is_lowered = news.peer == Peer::Overloaded;
        self.window = Some(Window { size, threshold: per_key, is_lowered }).filter(|_| size < per_key);
        self.next_epoch(news.at);
        Change::Back { since }
    }

    fn next_epoch(&mut self, now: Instant) {
        (self.strikes, self.doubts) = (0, 0);
        self.changed = Some(now);
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether it may be forgotten: nothing new was learnt of the peer for so long that it may be as before.
    pub(crate) fn is_idle(&self, now: Instant, host_away: Option<Duration>) -> bool {
        let known_for = host_away.unwrap_or_default().max(REMEMBERED);
        self.changed.is_none_or(|changed| now >= changed + known_for)
    }
}

impl Window {
    /// After a success; `None` once it bounds nothing any more.
    fn opened(self, per_key: u32) -> Option<Self> {
        let more = if self.size < self.threshold { 1.0 } else { 1.0 / self.size.max(SLOWEST) };
        Some(Self { size: self.size + more, ..self }).filter(|window| window.size < f64::from(per_key))
    }
}

/// The upper end of the pause before a probe, after so many that found nobody.
fn bound(misses: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << misses.min(16)).min(MOST_PAUSE)
}

/// A small window is opened by one for at least so many successes. Where one at a time is too few and two are too many,
/// every look at what two would do costs a refusal or two, and these are not to be more than the retry budget earns.
const SLOWEST: f64 = 12.0;
/// Two in a row, with no success between them.
const STRIKES: u32 = 2;
/// Some requests make a server hang up each time. That this many come one after the other is a reason to look who is
/// there.
const DOUBTS: u32 = 3;
/// A restart is most often over in less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Five seconds after it is back at the latest a host is met again; a connection attempt in two or three bothers
/// nobody.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// How long an idle key is remembered for the state of its peer alone.
const REMEMBERED: Duration = Duration::from_secs(60);
