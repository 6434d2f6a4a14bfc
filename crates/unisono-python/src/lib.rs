//! The Python face: types of `unisono._native`, thin over the runner.
//!
//! Engine threads never touch the interpreter. They put outcomes into a queue and ring a bell, which is a file
//! descriptor; an event loop watches it, a thread waits for it. So nothing here can deadlock with the interpreter's
//! lock, and a process can end with a run under way. The one exception is a token callable, which gets a thread.

mod bell;
mod client;
mod command_outcome;
mod commands;
mod ended;
mod errors;
mod fetch;
mod ffi;
mod files;
mod options;
mod outcome;
mod pool;
mod request;
mod run;
mod walk;

use pyo3::prelude::*;

/// The native half of `unisono`; its Python half is the documented one.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use super::client::{Call, Engine, Mailbox};
    #[pymodule_export]
    use super::command_outcome::CommandOutcome;
    #[pymodule_export]
    use super::commands::commands;
    #[pymodule_export]
    use super::ended::Ended;
    #[pymodule_export]
    use super::fetch::fetch;
    #[pymodule_export]
    use super::files::{FileOutcome, default_threads, digest, verify};
    #[pymodule_export]
    use super::outcome::{Outcome, Response};
    #[pymodule_export]
    use super::pool::work;
    #[pymodule_export]
    use super::pool::{Engine as PoolEngine, FutureCore, Nursery, Results};
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::run::Run;
    #[pymodule_export]
    use super::walk::{Found, Walk};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
