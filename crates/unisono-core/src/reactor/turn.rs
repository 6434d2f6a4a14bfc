//! Turns of the reactor: what has arrived is never late.
//!
//! A timer says that a time has passed, not that nothing came before. When a thread stood for a while (a signal, a
//! suspended machine, a long computation), timers and answers are both there when it goes on, and code that looks at
//! the timers first declares late what lies in a socket. So the reactor is asked once more before anything is late.
//!
//! A runtime polls its reactor when it sees fit: a task that wakes itself may well be polled again before. [`Turn`] is
//! certain, since tokio wakes a task that yields only after it has polled the reactor.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock;

/// A turn of the reactor that was asked for. It will come even when nothing happens.
#[derive(Debug)]
pub struct Turn(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    is_over: AtomicBool,
    waker: Mutex<Waker>,
}

impl Turn {
    /// Asks for a turn. This waker is woken when it is over.
    pub fn ask(waker: &Waker) -> Self {
        let asked = Arc::new(Asked { is_over: AtomicBool::new(false), waker: Mutex::new(waker.clone()) });
        let deferred = Waker::from(asked.clone());
        // Polled for one effect: tokio puts the waker among those of the tasks that yield.
        let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&deferred));
        Self(asked)
    }

    /// Whether it is over: all that had arrived before it was asked for has been told to what waits for it.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Has this waker woken instead.
    pub fn wake_instead(&self, waker: &Waker) {
        let mut known = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.will_wake(waker) {
            known.clone_from(waker);
        }
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.wake_instead(context.waker());
        // Only once the waker is known: the other way round, a turn that ends in between wakes the one before it, and
        // this future never.
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Asked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waker.wake();
    }
}

/// That a time has passed, and the reactor had nothing that came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

/// How much longer a future gets that was late because the reactor stood: as long as that, up to a second.
pub fn grace(due: std::time::Instant, now: std::time::Instant) -> Duration {
    let stood = now.saturating_duration_since(due);
    if stood < STOOD { Duration::ZERO } else { stood.min(MOST_GRACE) }
}

/// Waits for a future until a time; what has arrived by then still counts.
///
/// # Errors
/// [`Late`], once the time has passed, the reactor has had its turns, and the future is still not done. When the
/// reactor stood meanwhile, the future gets some more time, since what it waits for may take several steps.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use unisono_core::reactor::{Late, timeout_at};
/// let soon = tokio::time::Instant::now() + Duration::from_millis(1);
/// assert_eq!(timeout_at(soon, async { 1 }).await, Ok(1));
/// assert_eq!(timeout_at(soon, std::future::pending::<()>()).await, Err(Late));
/// # });
/// ```
pub async fn timeout_at<F: Future>(due: Instant, future: F) -> Result<F::Output, Late> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = late(due) => Err(Late),
    }
}

/// Waits until a time has passed and the reactor has had its turns since; when it stood, for some more time. What
/// may be late must be polled before this.
pub async fn late(due: Instant) {
    tokio::time::sleep_until(due).await;
    let grace = grace(due.into_std(), clock::now());
    if !grace.is_zero() {
        tokio::time::sleep(grace).await;
    }
    for _ in 0..TURNS {
        std::future::poll_fn(|context| Poll::Ready(Turn::ask(context.waker()))).await.await;
    }
}

/// Turns that it takes until what came is where it is waited for: over HTTP/2 a task reads the socket, and the requests
/// are told by that task.
pub const TURNS: u32 = 2;
/// A reactor that runs is a few milliseconds late at most.
const STOOD: Duration = Duration::from_millis(100);
/// After a night of being suspended, nothing waits for another one.
const MOST_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::{io::AsyncReadExt, net::UnixStream, sync::oneshot, time::advance};

    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[tokio::test]
    async fn what_had_arrived_is_told_before_a_turn_is_over() {
        for _ in 0..200 {
            let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            let mut near = UnixStream::from_std(near).unwrap();
            let mut byte = [0];
            let told = Arc::new(Flag::default());
            let waker = Waker::from(told.clone());
            let mut read = pin!(near.read(&mut byte));
            assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            // A task that wakes itself is polled many times between two turns.
            let busy = tokio::spawn(async {
                loop {
                    let mut again = false;
                    std::future::poll_fn(|context| {
                        context.waker().wake_by_ref();
                        if std::mem::replace(&mut again, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
            });
            far.write_all(b"x").unwrap();
            let turn = std::future::poll_fn(|context| Poll::Ready(Turn::ask(context.waker()))).await;
            assert!(!turn.is_over());
            turn.await;
            assert!(told.0.load(Ordering::Acquire));
            busy.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_limit_is_exact_where_the_reactor_runs() {
        let begun = Instant::now();
        let due = begun + Duration::from_secs(3);
        assert_eq!(timeout_at(due, std::future::pending::<()>()).await, Err(Late));
        assert!(begun.elapsed() <= Duration::from_millis(3002));
        assert_eq!(timeout_at(due, std::future::ready(1)).await, Ok(1), "what is there is never late");
    }

    #[tokio::test(start_paused = true)]
    async fn what_needs_steps_gets_them_after_a_standstill_and_not_for_ever() {
        let due = Instant::now() + Duration::from_secs(1);
        advance(Duration::from_secs(60)).await;
        let (sender, receiver) = oneshot::channel();
        let steps = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            sender.send(1).unwrap();
        });
        assert_eq!(timeout_at(due, receiver).await, Ok(Ok(1)));
        steps.await.unwrap();
        let resumed = Instant::now();
        assert_eq!(timeout_at(due, std::future::pending::<()>()).await, Err(Late));
        assert!(resumed.elapsed() <= MOST_GRACE + Duration::from_millis(2));
    }
}
