//! Logging in to a proxy: the first connection goes alone, and one refusal decides.
//!
//! A wrong password is wrong for every row, and some proxies lock an account after the third try. So until a proxy has
//! let a connection in, one tries at a time; once it has refused, there is no further try for as long as the client
//! lives, and every further connection fails at once for the same reason. That the proxy cannot be reached decides
//! nothing, but those that waited for it meanwhile get the same answer.
//!
//! The servers behind it are not treated like that: a 401 may be about one address of many.

use std::cell::{Cell, RefCell};

use tokio::sync::{Mutex, MutexGuard};
use unisono_core::ErrorKind;

use crate::{error::Error, failure::DialFailure, proxy::Proxy};

/// One proxy, and what is known of logging in to it.
pub struct ProxyLogin {
    proxy: Proxy,
    state: RefCell<State>,
    /// Held by the one connection that tries, over its awaits.
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

/// The right to talk to the proxy: alone, as long as it has let no connection in.
pub struct LoginPermit<'a> {
    login: &'a ProxyLogin,
    alone: RefCell<Option<MutexGuard<'a, ()>>>,
}

impl ProxyLogin {
    /// A proxy that has not been tried.
    pub fn new(proxy: Proxy) -> Self {
        Self {
            proxy,
            state: RefCell::new(State::Untried),
            trying: Mutex::new(()),
            failures: Cell::new(0),
            failure: RefCell::default(),
        }
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Waits until another connection was let in, or it is this one's turn to try.
    ///
    /// # Errors
    /// When the proxy has refused, or could not be reached by those that went before.
    pub async fn acquire(&self) -> Result<LoginPermit<'_>, Error> {
        // Without a name there is no account that could be locked.
        if self.is_decided()? || self.proxy.user.is_none() {
            return Ok(LoginPermit { login: self, alone: RefCell::default() });
        }
        let failures = self.failures.get();
        let guard = self.trying.lock().await;
        // Look again: the connection that held the lock may have decided it.
        if self.is_decided()? {
            return Ok(LoginPermit { login: self, alone: RefCell::default() });
        }
        match self.failure.borrow().as_ref().filter(|_| self.failures.get() != failures) {
            Some(failure) => Err(failure.again()),
            None => Ok(LoginPermit { login: self, alone: RefCell::new(Some(guard)) }),
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

impl LoginPermit<'_> {
    /// The proxy that it is for.
    pub fn proxy(&self) -> &Proxy {
        &self.login.proxy
    }

    /// The proxy has let us in: nothing needs to wait any more.
    pub fn accepted(&self) {
        let mut state = self.login.state.borrow_mut();
        if matches!(*state, State::Untried) {
            *state = State::Accepted;
        }
        // After the state is set: the next in the queue looks at it as soon as it has the lock.
        self.alone.take();
    }

    /// The proxy has refused, and this is what every connection is told.
    pub fn refused(&self, why: &str) -> Error {
        let ProxyLogin { proxy, state, .. } = self.login;
        let error = Error::new(ErrorKind::Proxy, format!("proxy {proxy} does not let us in: {why}"));
        let error = error.retryable(false).met(DialFailure::ProxyRefuses);
        *state.borrow_mut() = State::Refused(error.again());
        error
    }

    /// The same, by an HTTP proxy that says 407.
    pub fn refused_by_status(&self) -> Error {
        self.refused(match self.login.proxy.user {
            Some(_) => "it does not accept the user name and password (HTTP 407)",
            None => "it wants a user name and password (HTTP 407)",
        })
    }

    /// It did not come to a login. Those that wait would wait in turn for the same.
    pub fn failed(&self, error: &Error) {
        if self.alone.borrow().is_some() {
            // Before the lock goes with this permit: the next in the queue looks at the count.
            self.login.failures.set(self.login.failures.get() + 1);
            *self.login.failure.borrow_mut() = Some(error.again());
        }
    }
}
