//! What an engine runs beside itself. Each of these takes the reactor that runs the caller, and panics where there is
//! none.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the one place that spawns tasks")]

use std::io;

use tokio::task::{JoinHandle, LocalSet};

/// Runs a future as a task of its own, which ends with the reactor. The handle may be dropped.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

/// The same for a future that stays on its thread. It ends with the [`with_local_tasks`] around it.
///
/// # Panics
/// Outside of [`with_local_tasks`].
pub fn spawn_local<F: Future<Output: 'static> + 'static>(future: F) -> JoinHandle<F::Output> {
    tokio::task::spawn_local(future)
}

/// The future, which may use [`spawn_local`]. What is left of its tasks is dropped when it has ended.
pub async fn with_local_tasks<F: Future>(future: F) -> F::Output {
    LocalSet::new().run_until(future).await
}

/// Does what may wait, such as for a disk, on a thread beside the reactor. It cannot be stopped: when the future is
/// dropped, what it has begun goes on.
///
/// # Errors
/// When the work panicked, or the reactor ended before it had begun.
///
/// ```
/// # use unisono_core::reactor::{Reactor, spawn_blocking};
/// # Reactor::run_here(|| async {
/// let length = spawn_blocking(|| std::fs::metadata("/proc/self/exe").map(|found| found.len())).await.flatten();
/// assert!(length.unwrap() > 0);
/// # }).unwrap();
/// ```
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    // Begun at once, and not when it is first waited for.
    let begun = tokio::task::spawn_blocking(work);
    async { begun.await.map_err(io::Error::other) }
}
