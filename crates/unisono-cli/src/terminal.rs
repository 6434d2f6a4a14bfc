//! Standard error: one line that is rewritten, and lines above it that stay.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clap::ValueEnum;

/// When to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set; elsewhere only if `FORCE_COLOR` is
    Auto,
    Always,
    Never,
}

/// Standard error, shared by all who write to it.
#[derive(Debug, Clone)]
pub struct Terminal {
    state: Arc<Mutex<State>>,
    is_terminal: bool,
    coloured: bool,
}

#[derive(Debug, Default)]
struct State {
    /// A line that will be rewritten stands at the cursor.
    has_status: bool,
}

impl Terminal {
    pub fn new(color: When) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let coloured = match color {
            When::Always => true,
            When::Never => false,
            When::Auto => set("FORCE_COLOR") || (is_terminal && !set("NO_COLOR")),
        };
        Self { state: Arc::default(), is_terminal, coloured }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        let mut state = self.lock();
        let mut line = String::new();
        if std::mem::take(&mut state.has_status) {
            line.push_str(CLEAR);
        }
        let _ = writeln!(line, "{text}");
        print(&line);
    }

    /// Lets others print where the line stands that is rewritten.
    pub fn above<T>(&self, print_there: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        if std::mem::take(&mut state.has_status) {
            print(CLEAR);
        }
        print_there()
    }

    /// The line that is rewritten; an empty one takes it away.
    pub fn status(&self, text: &str) {
        let mut state = self.lock();
        if text.is_empty() && !state.has_status {
            return;
        }
        state.has_status = !text.is_empty();
        let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(20);
        let shown: String = text.chars().take(width - 1).collect();
        print(&format!("{CLEAR}{shown}"));
    }

    pub fn bold(&self, text: &str) -> String {
        self.painted(text, "1")
    }

    pub fn red(&self, text: &str) -> String {
        self.painted(text, "31")
    }

    pub fn green(&self, text: &str) -> String {
        self.painted(text, "32")
    }

    fn painted(&self, text: &str, code: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody is left to tell when standard error is gone.
fn print(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

const CLEAR: &str = "\r\x1b[2K";
