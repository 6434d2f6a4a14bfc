//! Progress, while a run goes on: on a thread of its own, so that it cannot slow it down.

use std::{
    collections::VecDeque,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use unisono_core::{OutcomeKind, clock, format_duration, format_size};
use unisono_runner::{Absent, Gauge, Monitor};

use crate::{
    args::ProgressMode,
    terminal::{PrintableLine, Terminal},
};

/// Shows progress until it is dropped.
pub struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    pub fn start(mode: ProgressMode, terminal: &Terminal, gauge: &Gauge, monitor: &Monitor) -> Self {
        let (every, show): (Duration, fn(&View) -> String) = match mode {
            ProgressMode::None => return Self { stop: None, thread: None },
            ProgressMode::Bar => (Duration::from_millis(100), bar),
            ProgressMode::Auto if terminal.is_terminal() => (Duration::from_millis(100), bar),
            ProgressMode::Auto | ProgressMode::Plain => (Duration::from_secs(5), plain),
            ProgressMode::Json => (Duration::from_secs(1), json),
        };
        let is_json = mode == ProgressMode::Json;
        let rewritten = every < Duration::from_secs(1);
        let mut view =
            View { gauge: gauge.clone(), monitor: monitor.clone(), begun: clock::now(), recent: Recent::default() };
        let terminal = terminal.clone();
        let (stop, stopped) = channel::<()>();
        let run = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                view.recent.look(view.gauge.done(), view.gauge.bytes());
                let text = show(&view);
                match (rewritten, is_json) {
                    (true, _) => terminal.status(&text),
                    (_, true) => terminal.note(PrintableLine::json(&text)),
                    _ => terminal.note(&text),
                }
            }
            terminal.status("");
        };
        // Without a thread there is no progress to see, but the run itself is not the worse for it.
        let thread = thread::Builder::new().name("unisono-progress".into()).spawn(run).ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct View {
    gauge: Gauge,
    monitor: Monitor,
    begun: Instant,
    recent: Recent,
}

/// The rates of the last few seconds.
#[derive(Default)]
struct Recent {
    /// When, items, bytes.
    looks: VecDeque<(Instant, u64, u64)>,
}

impl Recent {
    fn look(&mut self, done: u64, bytes: u64) {
        let now = clock::now();
        self.looks.push_back((now, done, bytes));
        while self.looks.front().is_some_and(|(at, ..)| now - *at > Duration::from_secs(5)) && self.looks.len() > 2 {
            self.looks.pop_front();
        }
    }

    /// Items and bytes per second.
    fn rates(&self) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else { return (0.0, 0.0) };
        let seconds = (last.0 - first.0).as_secs_f64().max(0.001);
        ((last.1 - first.1) as f64 / seconds, (last.2 - first.2) as f64 / seconds)
    }
}

impl View {
    fn not_ok(&self) -> u64 {
        let kinds = [OutcomeKind::Failed, OutcomeKind::TimedOut, OutcomeKind::Ambiguous];
        kinds.iter().map(|kind| self.gauge.count(*kind)).sum()
    }

    fn left(&self) -> Option<Duration> {
        let (items, bytes) = self.recent.rates();
        // Where files differ in size, bytes tell better; those of files that were kept are not known.
        let (left, rate) = match self.gauge.expected_bytes().filter(|_| self.gauge.kept() == 0) {
            Some(expected) => (expected.saturating_sub(self.gauge.bytes()), bytes),
            None => (self.gauge.expected()?.checked_sub(self.gauge.done())?, items),
        };
        (rate > 0.0).then(|| Duration::from_secs((left as f64 / rate) as u64))
    }
}

fn bar(view: &View) -> String {
    let done = view.gauge.done();
    let mut text = match view.gauge.expected().filter(|total| *total > 0) {
        Some(total) => {
            let filled = (done.min(total) * BAR_WIDTH / total) as usize;
            format!("{}{} {done}/{total}", "█".repeat(filled), "░".repeat(BAR_WIDTH as usize - filled))
        }
        None => format!("{done} done"),
    };
    text.push_str(&details(view));
    text
}

fn plain(view: &View) -> String {
    let of = view.gauge.expected().map_or(String::new(), |total| format!("/{total}"));
    format!(
        "{}: {}{of} done{}",
        format_duration(Duration::from_secs(clock::since(view.begun).as_secs())),
        view.gauge.done(),
        details(view)
    )
}

fn details(view: &View) -> String {
    let numbers = view.monitor.numbers();
    let mut text = format!(
        " · {:.0}/s · {} in flight · {}",
        view.recent.rates().0,
        numbers.in_flight,
        format_size(view.gauge.bytes())
    );
    if let Some(expected) = view.gauge.expected_bytes() {
        text.push_str(&format!(" of {}", format_size(expected)));
    }
    if view.not_ok() > 0 {
        text.push_str(&format!(" · {} not ok", view.not_ok()));
    }
    if view.gauge.waits_for_reader() {
        text.push_str(" · waiting for a reader of the pipe that --out names");
    }
    if view.gauge.waits_for_rows() {
        text.push_str(" · waiting for the rest of the input");
    }
    if let Some((passed, wanted)) = view.gauge.canary() {
        text.push_str(&format!(" · waiting for the canary: {passed} of {wanted} ok"));
    }
    // A host that is overloaded by one at a time is paused as well, which alone would be no reason.
    let paused = numbers.paused.first().map(|(host, _)| host);
    let is_reason = |host: &String| paused.map_or(numbers.held.is_empty(), |paused| paused == host);
    if let Some((host, most)) = numbers.lowered.iter().find(|(host, _)| is_reason(host)) {
        text.push_str(&format!(" · waiting for {host}: overloaded or timing out, {most} at a time"));
    } else if let Some((host, until)) = numbers.paused.first() {
        let wait = until.saturating_duration_since(clock::now());
        text.push_str(&format!(
            " · waiting for {host} for {}",
            format_duration(Duration::from_secs(wait.as_secs().max(1)))
        ));
    } else if let Some(Absent { key, since, is_silent }) = numbers.held.first() {
        let away = format_duration(Duration::from_secs(clock::since(*since).as_secs().max(1)));
        let others = numbers.held.len() - 1;
        let and = if others > 0 { format!(" and {others} more") } else { String::new() };
        let what = if *is_silent { "no answer" } else { "away" };
        text.push_str(&format!(" · waiting for {key}{and}, {what} for {away}"));
    } else if let Some(left) = view.left() {
        text.push_str(&format!(" · {} left", format_duration(left)));
    }
    text
}

fn json(view: &View) -> String {
    let numbers = view.monitor.numbers();
    let mut object = serde_json::Map::new();
    object.insert("seconds".into(), clock::since(view.begun).as_secs_f64().into());
    object.insert("done".into(), view.gauge.done().into());
    object.insert("total".into(), view.gauge.total().into());
    for kind in OutcomeKind::ALL {
        object.insert(kind.as_str().into(), view.gauge.count(kind).into());
    }
    object.insert("kept".into(), view.gauge.kept().into());
    let canary = view.gauge.canary().map(|(passed, wanted)| serde_json::json!({"ok": passed, "of": wanted}));
    object.insert("canary".into(), canary.unwrap_or_default());
    object.insert("in_flight".into(), numbers.in_flight.into());
    object.insert("retries".into(), numbers.retries.into());
    object.insert("bytes".into(), view.gauge.bytes().into());
    object.insert("expected".into(), view.gauge.expected().into());
    object.insert("expected_bytes".into(), view.gauge.expected_bytes().into());
    object.insert("per_second".into(), view.recent.rates().0.into());
    object.insert("away".into(), numbers.held.iter().map(|absent| absent.key.clone()).collect::<Vec<_>>().into());
    object.insert("lowered".into(), numbers.lowered.iter().map(|(host, _)| host.clone()).collect::<Vec<_>>().into());
    object.insert("paused".into(), numbers.paused.iter().map(|(host, _)| host.clone()).collect::<Vec<_>>().into());
    serde_json::Value::Object(object).to_string()
}

const BAR_WIDTH: u64 = 20;
