//! Why a command could not be done, for a person to read.

use unisono_core::{error_chain, printable};

use crate::terminal;

/// A message, what to do about it, and the exit status.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    status: u8,
}

impl Failure {
    /// The caller's mistake.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, status: 2 }
    }

    /// A fault of ours or of the machine.
    pub fn fault(message: impl Into<String>) -> Self {
        Self { status: 125, ..Self::usage(message) }
    }

    /// The same, with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it to standard error. Returns the exit status.
    pub fn report(&self) -> u8 {
        let (error, hint) = match terminal::is_coloured() {
            true => ("\x1b[1;31merror\x1b[0m", "\x1b[1mhint\x1b[0m"),
            false => ("error", "hint"),
        };
        terminal::print(&format!("{error}: {}\n", printable(&self.message)));
        if let Some(text) = &self.hint {
            terminal::print(&format!("{hint}: {}\n", printable(text)));
        }
        self.status
    }
}

/// What the system refused, as a fault.
pub fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::fault(format!("cannot {what}: {error}"))
}

impl From<unisono_runner::Error> for Failure {
    fn from(error: unisono_runner::Error) -> Self {
        let message = error_chain(&error);
        Self { message, hint: error.what_to_do().map(str::to_owned), status: if error.is_usage() { 2 } else { 125 } }
    }
}

impl From<unisono_runner::http_client::Error> for Failure {
    fn from(error: unisono_runner::http_client::Error) -> Self {
        Self::usage(error.chain())
    }
}
