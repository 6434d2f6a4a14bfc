//! Logging in to a proxy: the first goes alone, and one refusal decides.
//!
//! A wrong password is wrong for every row, and some proxies lock an account after the third try. So until a proxy has
//! let somebody in, one tries at a time; once it has refused, nobody tries again for as long as the client lives, and
//! every further request fails at once for the same reason. That the proxy cannot be reached decides nothing, but those
//! who waited for it meanwhile get the same answer.
//!
//! The servers behind it are not treated like that: a 401 may be about one address of many.

use std::cell::{Cell, RefCell};

use tokio::sync::{Mutex, MutexGuard};
use unisono_core::ErrorKind;

use crate::{Error, Proxy, news::Sign};

/// What is known of one proxy.
pub(super) struct Login {
    proxy: Proxy,
    state: RefCell<State>,
    /// Held by whoever tries.
    trying: Mutex<()>,
    /// How often it could not even be tried, and why not the last time.
    failures: Cell<u64>,
    failure: RefCell<Option<Error>>,
}

enum State {
    Untried,
    Accepted,
    Refused(Error),
}

/// The right to talk to the proxy: alone, as long as it has let nobody in.
pub(crate) struct Turn<'a> {
    login: &'a Login,
    alone: RefCell<Option<MutexGuard<'a, ()>>>,
}

impl Login {
    pub(super) fn new(proxy: Proxy) -> Self {
        Self {
            proxy,
            state: RefCell::new(State::Untried),
            trying: Mutex::new(()),
            failures: Cell::new(0),
            failure: RefCell::default(),
        }
    }

    pub(super) fn is_for(&self, proxy: &Proxy) -> bool {
        self.proxy == *proxy
    }

    /// Waits until somebody was let in, or it is this one's turn to try.
    ///
    /// # Errors
    /// When the proxy has refused, or could not be reached by those who went before.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Error> {
        // Nobody is locked out who has no name.
        if self.is_decided()? || self.proxy.user.is_none() {
            return Ok(Turn { login: self, alone: RefCell::default() });
        }
        let failures = self.failures.get();
        let guard = self.trying.lock().await;
        if self.is_decided()? {
            return Ok(Turn { login: self, alone: RefCell::default() });
        }
        match self.failure.borrow().as_ref().filter(|_| self.failures.get() != failures) {
            Some(failure) => Err(failure.again()),
            None => Ok(Turn { login: self, alone: RefCell::new(Some(guard)) }),
        }
    }

    fn is_decided(&self) -> Result<bool, Error> {
        match &*self.state.borrow() {
            State::Untried => Ok(false),
            State::Accepted => Ok(true),
            State::Refused(error) => Err(error.again()),
        }
    }
}

impl Turn<'_> {
    /// The proxy has let us in: nobody needs to wait any more.
    pub(crate) fn accepted(&self) {
        let mut state = self.login.state.borrow_mut();
        if matches!(*state, State::Untried) {
            *state = State::Accepted;
        }
        self.alone.take();
    }

    /// The proxy has refused, and this is what everybody is told.
    pub(crate) fn refused(&self, why: &str) -> Error {
        let Login { proxy, state, .. } = self.login;
        let error = Error::new(ErrorKind::Proxy, format!("proxy {proxy} does not let us in: {why}"));
        let error = error.retryable(false).sign(Sign::ProxyRefuses);
        *state.borrow_mut() = State::Refused(error.again());
        error
    }

    /// The same, by an HTTP proxy that says 407.
    pub(crate) fn refused_by_status(&self) -> Error {
        self.refused(match self.login.proxy.user {
            Some(_) => "it does not accept the user name and password (HTTP 407)",
            None => "it wants a user name and password (HTTP 407)",
        })
    }

    /// It did not come to a login. Those who wait would wait in turn for the same.
    pub(crate) fn failed(&self, error: &Error) {
        if self.alone.borrow().is_some() {
            self.login.failures.set(self.login.failures.get() + 1);
            *self.login.failure.borrow_mut() = Some(error.again());
        }
    }
}
