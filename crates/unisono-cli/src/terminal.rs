//! Standard error: one line that is rewritten, and lines above it that stay.
//!
//! What is shown are names, addresses and messages of strangers, so a line is a type: whatever is put into it is made
//! safe ([`unisono_core::printable`]), and only we put colours and line ends around it. That holds wherever standard
//! error leads, since logs are read on terminals too. When it is closed or full that cannot be reported, and the
//! run goes on.

use std::{
    io::{self, IsTerminal, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clap::ValueEnum;
use unisono_core::{printable, printable_json};

/// When to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set; elsewhere only if `FORCE_COLOR` is
    Auto,
    Always,
    Never,
}

/// Standard error, shared by all that writes to it.
#[derive(Debug, Clone)]
pub struct Terminal {
    state: Arc<Mutex<State>>,
    is_terminal: bool,
    coloured: bool,
    is_silent: bool,
}

/// A line that is safe to show.
#[derive(Debug, Clone, Default)]
pub struct PrintableLine(String);

#[derive(Debug, Default)]
struct State {
    /// A line that will be rewritten stands at the cursor.
    has_status: bool,
}

impl Terminal {
    /// Nothing at all is shown where it `is_silent`.
    pub fn new(color: When, is_silent: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let coloured = match color {
            When::Always => true,
            When::Never => false,
            When::Auto => is_coloured(),
        };
        Self { state: Arc::default(), is_terminal, coloured, is_silent }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// A line that stays.
    pub fn note(&self, line: impl Into<PrintableLine>) {
        if self.is_silent {
            return;
        }
        let mut state = self.lock();
        let clear = if std::mem::take(&mut state.has_status) { CLEAR } else { "" };
        print(&format!("{clear}{}\n", line.into().0));
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
        let shown: String = printable(text).chars().take(width - 1).collect();
        print(&format!("{CLEAR}{shown}"));
    }

    pub fn bold(&self, text: &str) -> PrintableLine {
        self.painted(text, "1")
    }

    pub fn red(&self, text: &str) -> PrintableLine {
        self.painted(text, "31")
    }

    pub fn green(&self, text: &str) -> PrintableLine {
        self.painted(text, "32")
    }

    fn painted(&self, text: &str, code: &str) -> PrintableLine {
        let text = printable(text);
        PrintableLine(if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrintableLine {
    /// An object of JSON, which stays one.
    pub fn json(text: &str) -> Self {
        Self(printable_json(text.as_bytes()).into_owned())
    }

    /// The same, with more text behind it.
    #[must_use]
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        self.0.push_str(&more.into().0);
        self
    }
}

impl<T: AsRef<str>> From<T> for PrintableLine {
    fn from(text: T) -> Self {
        Self(printable(text.as_ref()).into_owned())
    }
}

/// Whether standard error is shown in colours, unless that is said otherwise.
pub fn is_coloured() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("FORCE_COLOR") || (io::stderr().is_terminal() && !set("NO_COLOR"))
}

/// That standard error is gone cannot be reported anywhere.
pub fn print(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

const CLEAR: &str = "\r\x1b[2K";
