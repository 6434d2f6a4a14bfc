//! What is known of a key's peer: whether it is away, and how much it bears.
//!
//! *Held*: the peer could not be met. One attempt at a time probes it, after pauses that grow; nothing else of the key
//! starts. The probe is a ticket and not "nothing in flight", so that work that cannot be stopped does not block it.
//!
//! *Silent*: the peer takes what it is given and nothing comes back. A slow one leaves some unanswered as well, so that
//! alone only lowers it. When nothing at all has been answered for long enough, it is held, since the silence began: no
//! other state tells apart a peer that will never answer from one that could be met again tomorrow. Any answer ends a
//! silence, whenever it was asked for.
//!
//! *Lowered*: the peer is there and has too much to do, or has just come back. What may be in flight has a window, as
//! TCP has one for what it sends (RFC 5681): halved when the peer is overloaded, and opened by each success; by one up
//! to where it was halved last, by a part of one beyond.
//!
//! An attempt knows the *epoch* in which it started. Each change of state begins a new one, and news of an older epoch
//! is ignored, unless it is an answer: twenty requests that one restart has cut off are one piece of news.

use std::time::{Duration, Instant};

use unisono_core::Peer;

use crate::ticket::Ticket;

#[derive(Debug, Default)]
pub(crate) struct Health {
    epoch: u32,
    held: Option<Held>,
    /// Attempts that nothing came back for, since the last answer.
    silence: Option<Silence>,
    window: Option<Window>,
    /// News of overload since the last success.
    strikes: u32,
    /// Attempts that reached a peer which hung up, since the last success.
    doubts: u32,
    /// Probes that missed the peer, or holds that followed each other quickly: what the next pause grows with.
    misses: u32,
    /// When it was last found to be back.
    back: Option<Instant>,
    /// When the epoch began.
    changed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Since when the peer is away.
    pub(crate) since: Instant,
    pub(crate) next_probe: Instant,
    pub(crate) probe: Option<Ticket>,
    /// It was met last, and answered nothing.
    pub(crate) is_silent: bool,
    /// Probes of this hold that missed the peer.
    misses: u32,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    latest: Instant,
    /// How many attempts have ended like this. Those of older epochs count, as each had its whole time.
    count: u32,
    /// How many of them began after it, and were of items that had not been tried before as far as there were any.
    fresh: u32,
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
    /// From here on the key is held, and has been away since then.
    Held {
        since: Instant,
    },
    /// A probe missed the peer.
    StillAway,
    /// Nothing comes back, but that may be for what is asked for: others are to be tried.
    Doubted,
    /// The key was held since then, and is so no more.
    Back {
        since: Instant,
    },
    /// Less may be in flight from now on.
    Lowered,
    /// Only one is in flight, and that is too much: it must come less often.
    TooOften,
}

/// What an attempt tells of its peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) at: Instant,
    pub(crate) ticket: Ticket,
    /// The epoch in which it started, and when.
    pub(crate) epoch: u32,
    pub(crate) started: Instant,
    pub(crate) peer: Peer,
    /// Nothing of it reached the peer, so that this says nothing of the attempt; otherwise it may be the attempt's own
    /// fault that the peer hung up.
    pub(crate) is_unmet: bool,
    /// Of its key, this one included.
    pub(crate) in_flight: u32,
    pub(crate) per_key: u32,
    /// The item was tried before, and others of its key that were not could be.
    pub(crate) is_repeat: bool,
    /// How long a peer that is away is waited for, if at all.
    pub(crate) host_away: Option<Duration>,
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

    /// Whether a probe is under way.
    pub(crate) fn is_probing(&self) -> bool {
        self.held.is_some_and(|held| held.probe.is_some())
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
        if news.peer.is_answer() {
            // A peer that answers now is not silent, however long ago it was asked.
            self.silence = None;
        }
        match &self.held {
            Some(held) if held.probe == Some(news.ticket) => self.hear_probe(news, pause),
            Some(held) if held.is_silent && news.peer.is_answer() => self.reopen(news),
            None if news.peer == Peer::Silent => self.hear_silence(news, pause),
            None if news.epoch == self.epoch => self.hear_open(news, pause),
            _ => Change::Nothing,
        }
    }

    fn hear_silence(&mut self, news: &News, pause: impl FnOnce(Duration) -> Duration) -> Change {
        let is_old = news.epoch != self.epoch;
        if is_old && self.silence.is_none() {
            return Change::Nothing;
        }
        let since = self.silent_for_long(news);
        if let Some(since) = since.filter(|_| !news.is_repeat) {
            return self.hold(news, since, true, pause);
        }
        let change = if is_old { Change::Nothing } else { self.lower(news) };
        match change {
            _ if since.is_some() => Change::Doubted,
            // That an answer takes for ever says nothing of how often one may ask.
            Change::TooOften => Change::Nothing,
            change => change,
        }
    }

    fn hear_probe(&mut self, news: &News, pause: impl FnOnce(Duration) -> Duration) -> Change {
        let Some(held) = &mut self.held else { return Change::Nothing };
        held.probe = None;
        match news.peer {
            Peer::Away | Peer::Silent => {
                self.misses = self.misses.saturating_add(1);
                held.misses = held.misses.saturating_add(1);
                held.is_silent = news.peer == Peer::Silent;
                held.next_probe = news.at + pause(bound(self.misses));
                Change::StillAway
            }
            // It never came as far as the peer, so another may try in its place.
            Peer::Unknown => {
                held.next_probe = news.at;
                Change::Nothing
            }
            Peer::Fine | Peer::Overloaded => self.reopen(news),
        }
    }

    fn hear_open(&mut self, news: &News, pause: impl FnOnce(Duration) -> Duration) -> Change {
        let News { at: now, peer, is_unmet, per_key, .. } = *news;
        match peer {
            Peer::Unknown | Peer::Silent => Change::Nothing,
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
                // A peer that was there, and has only hung up, is looked for as if for the first time.
                self.hold(news, now, is_unmet, pause)
            }
            Peer::Overloaded => self.lower(news),
        }
    }

    fn hold(
        &mut self,
        news: &News,
        since: Instant,
        is_missed: bool,
        pause: impl FnOnce(Duration) -> Duration,
    ) -> Change {
        // Coming and going counts as being away: what is met in between is no reason to be tried more often.
        self.misses = if self.back.is_some() && is_missed { self.misses.saturating_add(1) } else { 0 };
        let next_probe = news.at + pause(bound(self.misses));
        let is_silent = news.peer == Peer::Silent;
        self.held = Some(Held { since, next_probe, probe: None, is_silent, misses: 0 });
        (self.window, self.silence) = (None, None);
        self.next_epoch(news.at);
        Change::Held { since }
    }

    /// Counts an attempt that nothing came back for. Returns since when nothing has, if that is long enough for the
    /// peer to be taken for away.
    fn silent_for_long(&mut self, news: &News) -> Option<Instant> {
        let now = news.at;
        // While nothing was asked there was nothing to answer.
        let goes_on = self.silence.filter(|silence| news.started <= silence.latest + REMEMBERED);
        let mut silence = goes_on.unwrap_or(Silence { since: now, latest: now, count: 0, fresh: 0 });
        // What was under way when it began has had its time by then, and what was asked for since as well.
        let is_complete = news.started >= silence.since;
        silence.latest = now;
        silence.count += 1;
        silence.fresh += u32::from(is_complete && !news.is_repeat);
        self.silence = Some(silence);
        let is_long = now >= silence.since + news.host_away?;
        let is_widely = silence.count >= SILENCES && (silence.fresh >= FRESH || news.is_repeat);
        (is_complete && (is_long || is_widely)).then_some(silence.since)
    }

    fn lower(&mut self, news: &News) -> Change {
        self.strikes += 1;
        // One alone may have been unlucky; a peer that is known to be overloaded is taken at its word.
        if self.strikes < STRIKES && self.window.is_none() {
            return Change::Nothing;
        }
        let was = self.capacity(news.per_key);
        let size = (f64::from(was.min(news.in_flight.max(1))) / 2.0).max(1.0);
        self.window = Some(Window { size, threshold: size, is_lowered: true });
        self.next_epoch(news.at);
        if was == 1 { Change::TooOften } else { Change::Lowered }
    }

    /// The peer that was away is back: what may be in flight is opened gradually.
    fn reopen(&mut self, news: &News) -> Change {
        let per_key = f64::from(news.per_key);
        let since = self.held.take().map_or(news.at, |held| held.since);
        self.back = Some(news.at);
        let is_lowered = news.peer == Peer::Overloaded;
        let size = if is_lowered { 1.0 } else { 2.0 };
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

impl Held {
    /// Whether it has been away for as long as it is waited for. A silent peer must have left probes unanswered as
    /// well: one may have asked for what it never answers.
    pub(crate) fn is_given_up(&self, now: Instant, host_away: Option<Duration>) -> bool {
        let is_over = host_away.is_some_and(|host_away| now >= self.since + host_away);
        is_over && (!self.is_silent || self.misses >= SILENT_PROBES)
    }
}

impl Window {
    /// After a success; `None` once it bounds nothing any more.
    fn opened(self, per_key: u32) -> Option<Self> {
        let more = if self.size < self.threshold { 1.0 } else { 1.0 / self.size.max(SLOWEST) };
        Some(Self { size: self.size + more, ..self }).filter(|window| window.size < f64::from(per_key))
    }
}

/// The upper end of the pause before a probe, after so many that missed the peer.
fn bound(misses: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << misses.min(16)).min(MOST_PAUSE)
}

/// A small window is opened by one for at least so many successes. Where one at a time is too few and two are too many,
/// every look at what two would do costs a refusal or two, and these are not to be more than the retry budget earns.
const SLOWEST: f64 = 12.0;
/// Two in a row, with no success between them.
const STRIKES: u32 = 2;
/// Some requests make a server hang up each time. That this many come one after the other is a reason to look whether
/// it is there.
const DOUBTS: u32 = 3;
/// A slow peer leaves some in a row unanswered by chance. Where one at a time is asked, the time that a peer which is
/// away is waited for is over before so many have been.
const SILENCES: u32 = 8;
/// It may answer some and never answer others, which then fill what may be in flight.
const FRESH: u32 = 4;
/// Each of them takes as long as an attempt may, and is an item whose fate may be unknown afterwards.
const SILENT_PROBES: u32 = 2;
/// A restart is most often over in less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Five seconds after it is back at the latest a host is met again; a connection attempt in two or three seconds is no
/// load.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// How long an idle key is remembered for the state of its peer alone.
const REMEMBERED: Duration = Duration::from_secs(60);
