//! The Python face: types of `unisono._native`, thin over the runner.
//!
//! Engine threads never touch the interpreter. They put outcomes into a queue and use a notifier, which is a file
//! descriptor; an event loop watches it, a thread waits for it. So nothing here can deadlock with the interpreter's
//! lock, and a process can end with a run under way. The one exception is a token callable, which gets a thread.

mod checks;
mod commands;
mod errors;
mod events;
mod ffi;
mod files;
mod forks;
mod functions;
mod http;
mod limiter;
mod notifier;
mod numbers;
mod options;
mod outcomes;
mod pool;
mod queue;
mod run;
mod shown;
mod thread_task;
mod values;
mod watch;

use pyo3::prelude::*;

/// The native half of `unisono`; its Python half is the documented one.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use super::checks::{printable, refuse_same};
    #[pymodule_export]
    use super::commands::{check_commands, commands};
    #[pymodule_export]
    use super::ffi::stop_freeing;
    #[pymodule_export]
    use super::files::walk::{Found, Walk};
    #[pymodule_export]
    use super::files::{check_digest, check_verify, default_threads, digest, verify};
    #[pymodule_export]
    use super::forks::{HomeProcess, after_fork_in_child};
    #[pymodule_export]
    use super::functions::retries::{Retries, RetryTicket};
    #[pymodule_export]
    use super::functions::{CallQueue, check_functions, functions};
    #[pymodule_export]
    use super::http::client::{ClientCall, ClientEngine, CompletionQueue};
    #[pymodule_export]
    use super::http::expressions::serve_expressions;
    #[pymodule_export]
    use super::http::fetch::{check_fetch, fetch, fetch_remote, remote_options};
    #[pymodule_export]
    use super::http::pager::{Pager, PlainExpression};
    #[pymodule_export]
    use super::http::remote_fetcher::RemoteFetcher;
    #[pymodule_export]
    use super::http::remote_requests::RemoteRequests;
    #[pymodule_export]
    use super::http::request::{GivenRequest, restored_request};
    #[pymodule_export]
    use super::limiter::wait::PlaceWait;
    #[pymodule_export]
    use super::limiter::{KeyedLimiter, LimiterCore, Notice, stop_clocks};
    #[pymodule_export]
    use super::notifier::Notifier;
    #[pymodule_export]
    use super::numbers::{seconds_of, span_of, whole_of};
    #[pymodule_export]
    use super::outcomes::{
        CommandOutcome, CommandResult, Digest, FetchOutcome, FileOutcome, FunctionOutcome, Outcome, Response,
        restored_command_outcome, restored_command_result, restored_digest, restored_fetch_outcome,
        restored_file_outcome, restored_function_outcome, restored_response,
    };
    #[pymodule_export]
    use super::pool::is_reading;
    #[pymodule_export]
    use super::pool::work;
    #[pymodule_export]
    use super::pool::{FutureCore, PoolEngine, Results, ZygoteHandle};
    #[pymodule_export]
    use super::queue::QueueCore;
    #[pymodule_export]
    use super::queue::wait::QueueWait;
    #[pymodule_export]
    use super::run::Run;
    #[pymodule_export]
    use super::shown::{redacted, shown_header};
    #[pymodule_export]
    use super::thread_task::ThreadTask;
    #[pymodule_export]
    use super::watch::ping::LoopPing;
    #[pymodule_export]
    use super::watch::tasks::TaskLook;
    #[pymodule_export]
    use super::watch::watchdog::WatchdogThread;

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        forks::watch()?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
