//! A timer for hyper that fires only when the reactor has nothing that came in time.
//!
//! hyper looks whether a ping has run out before it reads what the peer has sent. After the process stood for a while,
//! the answer to the ping may lie in the socket.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use unisono_core::{clock, reactor};

pub(crate) struct Patience;

struct PatientSleep {
    sleep: Pin<Box<tokio::time::Sleep>>,
    turn: Option<reactor::Turn>,
    turns: u32,
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(clock::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(PatientSleep { sleep, turn: None, turns: 0 })
    }

    fn now(&self) -> Instant {
        clock::now()
    }
}

impl Sleep for PatientSleep {}

impl Future for PatientSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.turns == 0 {
            ready!(self.sleep.as_mut().poll(context));
        }
        loop {
            if let Some(turn) = &mut self.turn {
                ready!(Pin::new(turn).poll(context));
            }
            if self.turns == reactor::TURNS {
                return Poll::Ready(());
            }
            self.turns += 1;
            self.turn = Some(reactor::Turn::ask(context.waker()));
        }
    }
}
