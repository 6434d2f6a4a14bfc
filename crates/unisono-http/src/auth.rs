//! Tokens that expire: one refresh for all requests that were refused.
//!
//! A token that has never been accepted is not refreshed again when it is refused: a request that is refused
//! with a brand-new token lacks the rights, and a thousand such items would ask for a thousand tokens.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
};

use futures_util::{FutureExt, future::Shared};
use http::{HeaderMap, HeaderValue, header};
use unisono_core::{ErrorKind, Secret};
use unisono_net::{Local, basic_credentials};

use crate::Error;

/// Where bearer tokens come from.
pub trait TokenSource {
    /// A token that is good now. Called again only when the one before was refused (401).
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>>>>;
}

/// The token in use.
pub(crate) struct Tokens {
    source: Rc<dyn TokenSource>,
    current: RefCell<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    generation: u32,
    value: Shared<Local<Result<Secret, Rc<str>>>>,
    /// Whether it has ever been accepted.
    proven: Rc<Cell<bool>>,
}

/// Which token a request was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Tokens {
    pub(crate) fn new(source: Rc<dyn TokenSource>) -> Self {
        Self { source, current: RefCell::new(None) }
    }

    /// Adds the token to a request's headers.
    pub(crate) async fn sign(&self, headers: &mut HeaderMap) -> Result<Generation, Error> {
        let token = self.current.borrow_mut().get_or_insert_with(|| self.fetch(0)).clone();
        let secret =
            token.value.await.map_err(|why| Error::new(ErrorKind::Auth, "no token could be had").with_source(&*why))?;
        let value = bearer_authorization(secret.reveal())
            .ok_or_else(|| Error::new(ErrorKind::Auth, "the token has characters that cannot be sent"))?;
        headers.insert(header::AUTHORIZATION, value);
        Ok(Generation(token.generation))
    }

    /// A request with this token was accepted.
    pub(crate) fn accepted(&self, used: Generation) {
        if let Some(token) = self.current.borrow().as_ref().filter(|token| token.generation == used.0) {
            token.proven.set(true);
        }
    }

    /// A request with this token was refused: whether there is another one to try.
    pub(crate) fn refused(&self, used: Generation) -> bool {
        let mut current = self.current.borrow_mut();
        let Some(token) = current.as_ref() else { return false };
        if token.generation != used.0 {
            return true;
        }
        // The first token may come from a cache and be old.
        if !token.proven.get() && token.generation > 0 {
            return false;
        }
        let next = self.fetch(token.generation + 1);
        *current = Some(next);
        true
    }

    fn fetch(&self, generation: u32) -> Token {
        let source = self.source.clone();
        let value = async move { source.token().await.map_err(Rc::from) }.boxed_local().shared();
        Token { generation, value, proven: Rc::default() }
    }
}

/// The value of `Authorization` for a bearer token (RFC 6750); it is never shown. `None` when it cannot be sent.
pub fn bearer_authorization(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The value of `Authorization` for a user name and password (RFC 7617); it is never shown.
pub fn basic_authorization(name: &str, password: &Secret) -> HeaderValue {
    let mut value = HeaderValue::try_from(basic_credentials(name, password).reveal()).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(Cell<u32>);

    impl TokenSource for Counting {
        fn token(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>>>> {
            self.0.set(self.0.get() + 1);
            let number = self.0.get();
            Box::pin(async move { Ok(Secret::new(format!("t{number}"))) })
        }
    }

    fn signed(tokens: &Tokens) -> (Generation, HeaderMap) {
        let mut headers = HeaderMap::new();
        let generation = tokens.sign(&mut headers).now_or_never().expect("the source answers at once").unwrap();
        (generation, headers)
    }

    #[test]
    fn all_requests_that_were_refused_share_one_refresh() {
        let source = Rc::new(Counting(Cell::new(0)));
        let tokens = Tokens::new(source.clone());
        let used: Vec<Generation> = (0..100).map(|_| signed(&tokens).0).collect();
        assert!(used.into_iter().all(|used| tokens.refused(used)));
        assert_eq!(signed(&tokens).1[header::AUTHORIZATION], "Bearer t2");
        assert_eq!(source.0.get(), 2);
    }

    #[test]
    fn a_new_token_that_is_refused_is_not_replaced_for_ever() {
        let tokens = Tokens::new(Rc::new(Counting(Cell::new(0))));
        assert!(tokens.refused(signed(&tokens).0));
        let second = signed(&tokens).0;
        assert!(!tokens.refused(second));
        tokens.accepted(second);
        assert!(tokens.refused(second));
    }
}
