//! Other programs as work: one command run well, and nothing of it left behind.
//!
//! [`Commands::run`] starts a [`Command`], reads what it prints, and returns when nothing of it is left: the process,
//! its descendants, and those that changed their group, session or parent. [`guard`] does the same for a whole run,
//! when the process that runs it is killed itself. Needs an ambient tokio runtime with I/O and time; handles no
//! signals, and leaves the children of others alone.
//!
//! No shell, no scheduling: what runs when is the engine's business.

mod child;
mod command;
mod commands;
mod descendants;
pub mod guard;
mod options;
mod output;
mod pipe;
mod pressure;

pub use child::{Captured, Onlookers, OutputWatch, StopConditions, StopLevel, StopReason};
pub use command::{Command, SpawnError, Stdin};
pub use commands::{CommandPermit, Commands, least_descriptors, most_commands};
pub use options::CommandsOptions;
pub use output::{Output, OutputStream};
pub use pressure::Pressure;
pub use unisono_sys::foreground::ControllingTerminal;

/// The variable that marks what belongs to a command, in its environment: run and sequence number.
pub const MARKER: &str = "UNISONO_RUN";
