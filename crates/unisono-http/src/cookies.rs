//! Cookies of one run (RFC 6265), by the `cookie_store` crate.

use std::cell::RefCell;

use cookie_store::{CookieStore, RawCookie};
use http::{HeaderMap, HeaderValue, header};

use crate::Url;

#[derive(Default)]
pub(crate) struct Cookies(RefCell<CookieStore>);

impl Cookies {
    /// Adds what belongs to this address, unless the request brings its own.
    pub(crate) fn add(&self, url: &Url, headers: &mut HeaderMap) {
        if headers.contains_key(header::COOKIE) {
            return;
        }
        let Ok(url) = url.parsed() else { return };
        let store = self.0.borrow();
        let pairs: Vec<String> =
            store.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect();
        if let (false, Ok(mut value)) = (pairs.is_empty(), HeaderValue::from_str(&pairs.join("; "))) {
            value.set_sensitive(true);
            headers.insert(header::COOKIE, value);
        }
    }

    /// Keeps what an answer from this address sets.
    pub(crate) fn keep(&self, url: &Url, headers: &HeaderMap) {
        if !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let Ok(url) = url.parsed() else { return };
        let values = headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies = values.filter_map(|value| RawCookie::parse(value.to_owned()).ok());
        self.0.borrow_mut().store_response_cookies(cookies, &url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_goes_back_where_it_came_from_and_nowhere_else() {
        let cookies = Cookies::default();
        let mut answer = HeaderMap::new();
        answer.insert(header::SET_COOKIE, HeaderValue::from_static("session=abc; Path=/api; HttpOnly"));
        cookies.keep(&Url::parse("http://one.test/api/login").unwrap(), &answer);
        let sent = |url: &str| {
            let mut headers = HeaderMap::new();
            cookies.add(&Url::parse(url).unwrap(), &mut headers);
            headers.get(header::COOKIE).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(sent("http://one.test/api/items").as_deref(), Some("session=abc"));
        assert_eq!(sent("http://one.test/other"), None);
        assert_eq!(sent("http://two.test/api/items"), None);
    }
}
