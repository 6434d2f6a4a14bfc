//! What is asked for.

use std::fmt;

use http::{HeaderMap, HeaderName, Method, header};
use unisono_core::Overrides;
use xxhash_rust::xxh3::Xxh3;

use crate::{Body, RequestCookie, StatusSet, Url, options::DEFAULT_MAX_REDIRECTS};

/// One request, before any attempt to send it.
#[derive(Clone)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers of the user, without those that the client adds itself.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Body,
    /// What it has of its own; boxed, since most have nothing.
    pub options: Option<Box<RequestOptions>>,
    /// A server sent us to another origin: what is ours stays behind.
    pub(crate) is_cross_origin: bool,
}

/// What a request has of its own, in place of what holds for its client. None of it says what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// How long it may take, and how often it is tried.
    pub overrides: Overrides,
    /// The statuses that are a success.
    pub expect: Option<StatusSet>,
    /// Whether redirects are followed: as many as the client follows, or 20 where that follows none.
    pub follow_redirects: Option<bool>,
    /// Cookies that go along, to its own origin.
    pub cookies: Vec<RequestCookie>,
}

/// Values of headers and the body are not shown: a password may be in any of them.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.length())
            .finish_non_exhaustive()
    }
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Body::default(), options: None, is_cross_origin: false }
    }

    /// A GET.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn get(url: &str) -> Result<Self, crate::Error> {
        Ok(Self::new(Method::GET, Url::parse(url)?))
    }

    /// How long it may take and how often it is tried, where that is its own.
    pub fn overrides(&self) -> Overrides {
        self.options.as_ref().map_or_else(Overrides::default, |options| options.overrides)
    }

    /// The statuses that are a success, where they are its own.
    pub fn expect(&self) -> Option<&StatusSet> {
        self.options.as_ref()?.expect.as_ref()
    }

    pub(crate) fn cookies(&self) -> &[RequestCookie] {
        self.options.as_ref().map_or(&[], |options| &options.cookies)
    }

    /// How many redirects are followed, by a client that follows so many.
    pub(crate) fn max_redirects(&self, of_client: u8) -> u8 {
        match self.options.as_ref().and_then(|options| options.follow_redirects) {
            None => of_client,
            Some(false) => 0,
            Some(true) if of_client == 0 => DEFAULT_MAX_REDIRECTS,
            Some(true) => of_client,
        }
    }

    /// Whether sending it twice is as good as once: its method is idempotent (RFC 9110, section 9.2.2), or it carries
    /// an `Idempotency-Key`; and its body can be sent again.
    pub fn is_repeatable(&self) -> bool {
        (self.method.is_idempotent() || self.headers.contains_key(IDEMPOTENCY_KEY)) && !self.body.is_once()
    }

    /// The same request to an address that a server named. To another origin only headers of an allow-list go along: a
    /// header that the user set may be a credential, whatever its name.
    ///
    /// # Errors
    /// Of kind `redirect` when it leads from https to plain http.
    pub fn moved_to(&self, url: Url) -> Result<Self, crate::Error> {
        if self.url.is_https() && !url.is_https() {
            let from = self.url.origin();
            let message = format!("{from} redirects to plain http, which would give away what was encrypted");
            return Err(crate::Error::new(unisono_core::ErrorKind::Redirect, message));
        }
        let mut moved = Self { url, ..self.clone() };
        if moved.url.user().is_some() && moved.url.user() != self.url.user() {
            // A server that names a user means that one, whichever asked before.
            moved.headers.remove(header::AUTHORIZATION);
        }
        if !moved.url.is_same_origin(&self.url) {
            moved.is_cross_origin = true;
            if let Some(options) = &mut moved.options {
                options.cookies.clear();
            }
            moved.headers = self
                .headers
                .iter()
                .filter(|(name, _)| ALLOWED_ELSEWHERE.contains(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
        }
        Ok(moved)
    }

    /// A fingerprint of what is asked for: method, address, body and headers, without credentials, dates and keys,
    /// which may differ from run to run. Its version is part of it.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::with_seed(FINGERPRINT_VERSION);
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(self.method.as_str().as_bytes());
        add(&[u8::from(self.url.is_https())]);
        add(self.url.host().as_bytes());
        add(&self.url.port().to_le_bytes());
        add(self.url.target().as_str().as_bytes());
        let mut headers: Vec<_> = self.headers.iter().filter(|(name, _)| !is_ephemeral(name)).collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in headers {
            add(name.as_str().as_bytes());
            add(value.as_bytes());
        }
        self.body.add_to(&mut add);
        hash.digest()
    }
}

/// See draft-ietf-httpapi-idempotency-key-header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What says nothing about the user.
const ALLOWED_ELSEWHERE: [HeaderName; 11] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    // The second is what the first is bound to: without it, the part may be of another body.
    header::RANGE,
    header::IF_RANGE,
    header::USER_AGENT,
    // Without it the same request could be sent there twice.
    IDEMPOTENCY_KEY,
];

fn is_ephemeral(name: &HeaderName) -> bool {
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::DATE, IDEMPOTENCY_KEY].contains(name)
}

/// Changes when the same request would get another fingerprint.
const FINGERPRINT_VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn credentials_and_dates_do_not_change_what_is_asked_for() {
        let plain = Request::get("http://host/a").unwrap();
        let mut signed = Request::get("http://me:secret@host/a").unwrap();
        signed.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        signed.headers.insert(header::DATE, HeaderValue::from_static("today"));
        assert_eq!(plain.fingerprint(), signed.fingerprint());
        signed.headers.insert(header::ACCEPT, HeaderValue::from_static("text/csv"));
        assert_ne!(plain.fingerprint(), signed.fingerprint());
    }

    #[test]
    fn what_lies_next_to_each_other_is_told_apart() {
        let with = |target: &str, body: &'static str| {
            let mut request = Request::get(&format!("http://host/{target}")).unwrap();
            request.body = body.into();
            request.fingerprint()
        };
        assert_ne!(with("ab", "c"), with("a", "bc"));
    }

    #[test]
    fn a_post_is_repeatable_only_with_a_key() {
        let mut request = Request::get("http://host/").unwrap();
        assert!(request.is_repeatable());
        request.method = Method::POST;
        assert!(!request.is_repeatable());
        request.headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("1"));
        assert!(request.is_repeatable());
    }
}
