//! The home of an engine: the thread that runs it, and the reactor there.
//!
//! Two kinds: a thread of its own, for engines that serve a program beside what it does, and the thread that asks, for
//! programs that do nothing else. A third, the event loop of a program, has to keep the same rules:
//!
//! 1. An engine is made at home, by a closure that runs there, and never leaves. Only its ends (queues, notifiers,
//!    cancel tokens) are shared, so what is not [`Send`] (connections, timers) needs no lock.
//! 2. What it has brought about is handed over after the reactor has been left, by `over`: what a program does
//!    then may take long, fork, or begin another engine.
//! 3. A home that ends takes its engine along. Threads that still block are left to themselves: a lookup of a name
//!    that hangs holds up no exit.
//! 4. Whatever happens, `over` is called once: those that wait for an engine wait for that.
//! 5. A fork has no thread but the one that forked. What lived at home stays untouched in the child: it is leaked and
//!    never dropped, since dropping it would end connections of the parent. A thread of its own keeps that by itself,
//!    as its engine lies on the stack of a thread that the child does not have; a loop on the thread that forks has to
//!    see to it.
//! 6. Ends that a child has inherited refuse, by the process that made them. That is not kept here but by the face
//!    (`HomeProcess` in `unisono-python`): ends are its own objects, of which a reactor knows nothing; a refusal is its
//!    exception; and its pools, which have no reactor, refuse by the same rule. A program that uses
//!    [`Reactor::run_here`] must not fork but to run another program.
//!
//! A call that waits for its result must not be made at the home that has to bring it about; on the thread of an event
//! loop it needs a reactor with a thread of its own. A run that writes a journal has one in any case: a loop that its
//! program blocks would freeze the deadlines.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the one place that makes runtimes")]

use std::{
    error::Error as StdError,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use tokio::runtime::{Builder, Runtime};

/// Where an engine is to run.
///
/// ```
/// use std::sync::mpsc;
/// use unisono_core::reactor::Reactor;
///
/// let (sender, ends) = mpsc::channel();
/// let work = || async { std::thread::current().name().map(str::to_owned) };
/// Reactor::thread("unisono-run").start(work, move |end| sender.send(end.unwrap()).unwrap())?;
/// assert_eq!(ends.recv().unwrap().as_deref(), Some("unisono-run"));
/// # Ok::<(), unisono_core::reactor::StartError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reactor {
    name: &'static str,
}

impl Reactor {
    /// On a thread of its own, of this name. Linux shows at most 15 bytes of it (pthread_setname_np(3)).
    pub fn thread(name: &'static str) -> Self {
        Self { name }
    }

    /// Makes a future at home and runs it to its end there; this thread goes on. `over` is given what it returned, on
    /// the same thread, once the reactor is gone.
    ///
    /// # Errors
    /// When there is no thread for it or no reactor; nothing of `work` has run then, and `over` is not called.
    pub fn start<F: Future>(
        self,
        work: impl FnOnce() -> F + Send + 'static,
        over: impl FnOnce(Result<F::Output, Panicked>) + Send + 'static,
    ) -> Result<(), StartError> {
        // Made here, where a failure can still be returned.
        let runtime = runtime()?;
        let run = move || over(run(runtime, work).map_err(|_| Panicked));
        thread::Builder::new().name(self.name.into()).spawn(run).map(drop).map_err(StartError::Thread)
    }

    /// Makes a future and runs it to its end on this thread, which is its home meanwhile.
    ///
    /// # Errors
    /// When there is no reactor; nothing of `work` has run then.
    ///
    /// # Panics
    /// When the thread is the home of an engine already, or the work panics.
    ///
    /// ```
    /// use unisono_core::reactor::Reactor;
    /// assert_eq!(Reactor::run_here(|| async { 1 + 1 }).unwrap(), 2);
    /// ```
    pub fn run_here<F: Future>(work: impl FnOnce() -> F) -> Result<F::Output, StartError> {
        Ok(run(runtime()?, work).unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

fn runtime() -> Result<Runtime, StartError> {
    Builder::new_current_thread().enable_all().build().map_err(StartError::Reactor)
}

fn run<F: Future>(runtime: Runtime, work: impl FnOnce() -> F) -> thread::Result<F::Output> {
    // Made within, so that what it makes at once (sockets, timers) finds the reactor.
    let end = catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { work().await })));
    // After a panic as well: a runtime that is merely dropped waits for the threads that still block.
    runtime.shutdown_background();
    end
}

/// Why an engine could not begin.
#[derive(Debug)]
pub enum StartError {
    /// The system gives no thread: `ulimit -u`, or the memory for its stack.
    Thread(io::Error),
    /// The system gives no descriptors for a reactor.
    Reactor(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread(_) => "its thread cannot be started",
            Self::Reactor(_) => "the reactor cannot be started",
        })
    }
}

impl StdError for StartError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Thread(error) | Self::Reactor(error) => Some(error),
        }
    }
}

/// That the work ended by a panic, whose message went to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::runtime::Handle;

    use super::*;
    use crate::reactor::{spawn_blocking, spawn_local, with_local_tasks};

    #[test]
    fn what_has_ended_is_handed_over_once_the_reactor_is_left() {
        let (sender, ends) = mpsc::channel();
        let over = move |end| sender.send((end, Handle::try_current().is_err())).unwrap();
        Reactor::thread("home").start(|| async { Handle::try_current().is_ok() }, over).unwrap();
        assert_eq!(ends.recv().unwrap(), (Ok(true), true));
        assert!(ends.recv().is_err(), "and once only");
    }

    #[test]
    fn a_panic_is_an_end_that_is_handed_over_too() {
        let (sender, ends) = mpsc::channel();
        let work = || async { panic!("on purpose") };
        Reactor::thread("home").start(work, move |end: Result<(), _>| sender.send(end).unwrap()).unwrap();
        assert_eq!(ends.recv().unwrap(), Err(Panicked));
    }

    #[test]
    fn the_work_is_made_at_home() {
        let (sender, ends) = mpsc::channel();
        // Neither the future nor what it holds could be sent there.
        let work = || {
            let local = std::rc::Rc::new(thread::current().id());
            async move { (*local, thread::current().id()) }
        };
        Reactor::thread("home").start(work, move |end| sender.send(end).unwrap()).unwrap();
        let (made, ran) = ends.recv().unwrap().unwrap();
        assert_eq!(made, ran);
        assert_ne!(made, thread::current().id());
    }

    /// Returns while a thread of the reactor still waits.
    async fn leave_a_thread_that_blocks(held: mpsc::Receiver<()>) {
        let (begun, begins) = tokio::sync::oneshot::channel();
        let _left = spawn_blocking(move || {
            begun.send(()).unwrap();
            held.recv()
        });
        begins.await.unwrap();
    }

    #[test]
    fn work_that_blocks_for_ever_holds_up_no_end() {
        let (hold, held) = mpsc::channel::<()>();
        let work = || leave_a_thread_that_blocks(held);
        Reactor::run_here(work).unwrap();
        drop(hold);
    }

    #[test]
    fn a_panic_is_handed_over_even_when_a_thread_still_blocks() {
        let (sender, ends) = mpsc::channel();
        let (hold, held) = mpsc::channel::<()>();
        let work = || async move {
            leave_a_thread_that_blocks(held).await;
            panic!("on purpose")
        };
        Reactor::thread("home").start(work, move |end: Result<(), _>| sender.send(end).unwrap()).unwrap();
        assert_eq!(ends.recv_timeout(Duration::from_secs(10)), Ok(Err(Panicked)));
        drop(hold);
    }

    #[test]
    fn local_tasks_run_beside_the_work_and_end_with_it() {
        let (sender, ends) = mpsc::channel();
        struct Told(mpsc::Sender<&'static str>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send("dropped").unwrap();
            }
        }
        let work = async move {
            let (told, finished) = (Told(sender.clone()), tokio::sync::oneshot::channel());
            spawn_local(async move {
                sender.send("ran").unwrap();
                finished.0.send(()).unwrap();
                tokio::time::sleep(Duration::MAX).await;
                drop(told);
            });
            finished.1.await.unwrap();
        };
        Reactor::run_here(|| with_local_tasks(work)).unwrap();
        assert_eq!(ends.iter().collect::<Vec<_>>(), ["ran", "dropped"]);
    }
}
