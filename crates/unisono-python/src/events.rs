//! What a run or a client tells of itself while it goes on, for `logging`: kept until its reader takes it.
//!
//! Below the level that the reader asked for nothing is made, so that it costs nothing where it is off. Engines never
//! call Python: the reader, a thread or task of the program, hands on what it takes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use unisono_runner::{OnEvent, RunEvent};

/// The levels of Python's `logging`.
pub const DEBUG: u8 = 10;
pub const INFO: u8 = 20;
pub const WARNING: u8 = 30;
const OFF: u8 = u8::MAX;

/// One event: its level, what is said, and the item, key and attempt that it is about.
pub type LogEvent = (u8, String, Option<String>, Option<String>, Option<u16>);

/// Events that wait to be taken.
pub struct EventLog {
    level: AtomicU8,
    /// Held to put or take; never while code of Python's runs.
    kept: Mutex<VecDeque<LogEvent>>,
    /// Wakes the reader.
    notify: Box<dyn Fn() + Send + Sync>,
}

impl EventLog {
    pub fn new(notify: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { level: AtomicU8::new(OFF), kept: Mutex::default(), notify: Box::new(notify) })
    }

    /// From now on events of this level and above are kept; `None`: none at all.
    pub fn set_level(&self, level: Option<u8>) {
        self.level.store(level.unwrap_or(OFF), Ordering::Relaxed);
    }

    pub fn keeps(&self, level: u8) -> bool {
        level >= self.level.load(Ordering::Relaxed)
    }

    pub fn add(&self, event: LogEvent) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that takes nothing for long gets the latest, as a log that is rotated.
        if kept.len() == MOST_KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
        drop(kept);
        (self.notify)();
    }

    pub fn take(&self) -> Vec<LogEvent> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Keeps what a run tells.
    pub fn on_event(self: &Arc<Self>) -> OnEvent {
        let log = self.clone();
        Box::new(move |event| match event {
            RunEvent::Attempt(subject, attempt) if log.keeps(DEBUG) => {
                let (name, key) = (subject.name(), subject.key());
                log.add((DEBUG, format!("{name}: attempt {attempt}"), Some(name), key, Some(attempt)));
            }
            RunEvent::Retry(retry) if log.keeps(INFO) => {
                let (name, key) = (retry.subject.name(), retry.subject.key());
                log.add((INFO, format!("{name}: {retry}"), Some(name), key, Some(retry.again.attempt)));
            }
            RunEvent::Peer(key, news) => log.add_news(key, news),
            RunEvent::Waits(why) if log.keeps(WARNING) => log.add((WARNING, why.to_owned(), None, None, None)),
            RunEvent::Attempt(..) | RunEvent::Retry(_) | RunEvent::Waits(_) => {}
        })
    }

    /// Keeps news of what a key stands for: it is away or has too much to do, or is back.
    pub fn add_news(&self, key: &str, news: &unisono_batch::KeyNews) {
        let level = if matches!(news, unisono_batch::KeyNews::Back(_)) { INFO } else { WARNING };
        if self.keeps(level) {
            self.add((level, format!("{key}: {news}"), None, Some(key.to_owned()), None));
        }
    }
}

/// What a reader that is not there for a while may find.
const MOST_KEPT: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use unisono_batch::KeyNews;

    use super::*;

    #[test]
    fn what_is_below_the_level_is_not_kept_and_nothing_is_before_there_is_one() {
        let log = EventLog::new(|| {});
        log.add_news("h", &KeyNews::Paced);
        log.set_level(Some(WARNING));
        log.add_news("h", &KeyNews::Back(Duration::from_secs(1)));
        log.add_news("h", &KeyNews::Lowered(2));
        let said: Vec<String> = log.take().into_iter().map(|event| event.1).collect();
        assert_eq!(said, ["h: overloaded; 2 at once from now on"]);
        assert!(log.take().is_empty());
    }

    #[test]
    fn a_reader_that_takes_nothing_finds_the_latest_and_is_woken_for_each() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = woken.clone();
        let log = EventLog::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        log.set_level(Some(INFO));
        for number in 0..MOST_KEPT + 2 {
            log.add((INFO, number.to_string(), None, None, None));
        }
        let taken = log.take();
        assert_eq!((taken.len(), taken[0].1.as_str()), (MOST_KEPT, "2"));
        assert_eq!(woken.load(Ordering::Relaxed), MOST_KEPT + 2);
    }
}
