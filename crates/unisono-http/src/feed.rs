//! A body that comes in as it is sent: the place where a program puts its pieces, one at a time.
//!
//! The connection says that it wants a piece, and takes none before: so no more than one lies here, whatever the
//! program has. It is begun once. What the program cannot bring ends the request with that reason, and never as a body
//! that is merely shorter.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use unisono_core::ErrorKind;

use crate::Error;

/// See the module's documentation.
pub struct BodyFeed {
    length: Option<u64>,
    /// Held to put or take one thing; never across a wait.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_begun: bool,
    wants: bool,
    piece: Option<Bytes>,
    end: Option<Result<(), String>>,
    reader: Option<Waker>,
    /// Tells the program that a piece is wanted.
    on_want: Option<Box<dyn Fn() + Send>>,
}

impl BodyFeed {
    /// A feed of so many bytes; `None` when only its end will tell.
    pub fn new(length: Option<u64>) -> Self {
        Self { length, state: Mutex::default() }
    }

    /// How many bytes there will be, where that is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether anything of it was asked for.
    pub fn is_begun(&self) -> bool {
        self.lock().is_begun
    }

    /// What is called when a piece is wanted, from the thread of the connection; it must not block.
    pub fn on_want(&self, call: impl Fn() + Send + 'static) {
        self.lock().on_want = Some(Box::new(call));
    }

    /// Whether a piece is wanted. Then the caller is to bring it, or to end the body.
    pub fn take_want(&self) -> bool {
        std::mem::take(&mut self.lock().wants)
    }

    /// Puts the piece that was wanted.
    pub fn put(&self, piece: Bytes) {
        self.change(|state| state.piece = Some(piece));
    }

    /// Ends the body; with an error when its program cannot bring the rest.
    pub fn end(&self, how: Result<(), String>) {
        self.change(|state| state.end = Some(how));
    }

    pub(crate) fn begin(&self) -> Result<(), Error> {
        match std::mem::replace(&mut self.lock().is_begun, true) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Input, SENT_ONCE).retryable(false)),
        }
    }

    pub(crate) fn poll_piece(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut state = self.lock();
        if let Some(piece) = state.piece.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match &state.end {
            Some(Ok(())) => return Poll::Ready(None),
            Some(Err(why)) => {
                let error = Error::new(ErrorKind::Raised, "what was to be sent could not be brought");
                return Poll::Ready(Some(Err(error.retryable(false).with_source(why.clone()))));
            }
            None => {}
        }
        let is_asked = state.reader.replace(context.waker().clone()).is_some();
        if !is_asked {
            state.wants = true;
            state.on_want.iter().for_each(|call| call());
        }
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for BodyFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyFeed").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Why a body is not sent.
pub(crate) const SENT_ONCE: &str = "the body comes in once, and was begun to be sent already: give bytes, a path or an open file, which \
                                    can be sent again";
