//! Cookies of one run (RFC 6265): what is kept of what servers set, and what goes back to which server.
//!
//! Reading one, and which path and host it is for, is the `cookie_store` crate's. Here is what keeps a hostile server
//! from harm: no server sets a cookie for a public suffix such as `co.uk`, none without TLS sets or replaces a `Secure`
//! one, a name that begins with `__Host-` or `__Secure-` is what it says (RFC 6265bis, section 4.1.3), and there are
//! only so many, of such a size. Where there are too many, the ones that were set longest ago go first; of one site,
//! those that have expired go before them.
//!
//! A site is a registrable domain and all below it, since its owner can make names below it without end.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    rc::Rc,
};

use cookie_store::{Cookie, CookieDomain, RawCookie};
use http::{HeaderMap, HeaderValue, header};

use crate::Url;

#[derive(Default)]
pub(crate) struct Cookies(RefCell<Jar>);

#[derive(Default)]
struct Jar {
    sites: HashMap<Rc<str>, Vec<KeptCookie>>,
    /// The site of each, by when it was set last: the first is the next to go.
    by_age: BTreeMap<u64, Rc<str>>,
    /// Counts what is set.
    now: u64,
}

struct KeptCookie {
    cookie: Cookie<'static>,
    /// When it was set first; it keeps its place when it is set again.
    created: u64,
    /// When it was set last.
    set: u64,
}

impl Cookies {
    /// Adds what belongs to this address, unless the request brings its own.
    pub(crate) fn add(&self, url: &Url, headers: &mut HeaderMap) {
        if headers.contains_key(header::COOKIE) {
            return;
        }
        if let Some(mut value) = self.0.borrow().value_for(url) {
            value.set_sensitive(true);
            headers.insert(header::COOKIE, value);
        }
    }

    /// Keeps what an answer from this address sets.
    pub(crate) fn keep(&self, url: &Url, headers: &HeaderMap) {
        if !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let Ok(parsed) = url.parsed() else { return };
        let mut jar = self.0.borrow_mut();
        for value in headers.get_all(header::SET_COOKIE) {
            if let Some(cookie) = acceptable(value.as_bytes(), url, &parsed) {
                jar.set(cookie, url);
            }
        }
    }
}

impl Jar {
    fn value_for(&self, url: &Url) -> Option<HeaderValue> {
        let parsed = url.parsed().ok()?;
        let kept = self.sites.get(site_of(url.host()))?;
        let is_for_it = |kept: &&KeptCookie| {
            // The crate takes loopback for safe, but what a server marked is for TLS alone.
            let cookie = &kept.cookie;
            (url.is_https() || cookie.secure() != Some(true)) && !cookie.is_expired() && cookie.matches(&parsed)
        };
        let mut wanted: Vec<&KeptCookie> = kept.iter().filter(is_for_it).collect();
        wanted.sort_by_key(|kept| std::cmp::Reverse(kept.set));
        let mut left = LONGEST_HEADER_BYTES;
        wanted.retain(|kept| {
            let length = kept.cookie.name().len() + kept.cookie.value().len() + "=; ".len();
            let fits = length <= left;
            left -= if fits { length } else { 0 };
            fits
        });
        // RFC 6265, section 5.4: longer paths first, then those that were set first.
        wanted.sort_by_key(|kept| (std::cmp::Reverse(kept.cookie.path.len()), kept.created));
        let pairs: Vec<String> =
            wanted.iter().map(|kept| format!("{}={}", kept.cookie.name(), kept.cookie.value())).collect();
        if pairs.is_empty() { None } else { HeaderValue::from_bytes(pairs.join("; ").as_bytes()).ok() }
    }

    fn set(&mut self, cookie: Cookie<'static>, url: &Url) {
        let name: Rc<str> = site_of(url.host()).into();
        let site = self.sites.entry(name.clone()).or_default();
        // Without TLS a server does not shadow what was set with it (RFC 6265bis, section 5.7).
        let shadows = |kept: &KeptCookie| {
            let one = &kept.cookie;
            one.secure() == Some(true) && one.name() == cookie.name() && cookie.path.starts_with(&*one.path)
        };
        if !url.is_https() && site.iter().any(shadows) {
            return;
        }
        self.now += 1;
        let same = |kept: &KeptCookie| {
            let (one, other) = (&kept.cookie, &cookie);
            one.name() == other.name() && one.domain == other.domain && *one.path == *other.path
        };
        let before = site.iter().position(same).map(|at| site.swap_remove(at));
        if let Some(before) = &before {
            self.by_age.remove(&before.set);
        }
        if cookie.is_expired() {
            if site.is_empty() {
                self.sites.remove(&name);
            }
            return;
        }
        site.push(KeptCookie { cookie, created: before.map_or(self.now, |before| before.created), set: self.now });
        self.by_age.insert(self.now, name);
        if site.len() > MOST_PER_SITE {
            make_room(site, &mut self.by_age);
        }
        if self.by_age.len() > MOST {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((age, name)) = self.by_age.pop_first() else { return };
        let site = self.sites.get_mut(&name).expect("a site is there as long as it has a cookie");
        site.retain(|kept| kept.set != age);
        if site.is_empty() {
            self.sites.remove(&name);
        }
    }
}

/// Removes what has expired of a site, or else what was set longest ago.
fn make_room(site: &mut Vec<KeptCookie>, by_age: &mut BTreeMap<u64, Rc<str>>) {
    let oldest = site.iter().map(|kept| kept.set).min();
    let any_expired = site.iter().any(|kept| kept.cookie.is_expired());
    site.retain(|kept| {
        let goes = if any_expired { kept.cookie.is_expired() } else { Some(kept.set) == oldest };
        if goes {
            by_age.remove(&kept.set);
        }
        !goes
    });
}

/// A cookie as this server may set it; `None` when it may not.
fn acceptable(text: &[u8], url: &Url, parsed: &url::Url) -> Option<Cookie<'static>> {
    let raw = RawCookie::parse(std::str::from_utf8(text).ok()?.to_owned()).ok()?;
    let is_long = |text: Option<&str>| text.is_some_and(|text| text.len() > LONGEST_ATTRIBUTE_BYTES);
    if raw.name().len() + raw.value().len() > LARGEST_BYTES || is_long(raw.path()) || is_long(raw.domain()) {
        return None;
    }
    let is_secure = raw.secure() == Some(true);
    let mut cookie = Cookie::try_from_raw_cookie(&raw, parsed).ok()?;
    if let CookieDomain::Suffix(domain) = &cookie.domain
        && is_public_suffix(domain)
    {
        let host = parsed.host_str()?;
        cookie.domain = (domain == host).then(|| CookieDomain::HostOnly(host.to_owned()))?;
    }
    let begins = |prefix: &str| raw.name().get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    let is_host_only = matches!(cookie.domain, CookieDomain::HostOnly(_)) && raw.domain().is_none_or(str::is_empty);
    let wants_secure = is_secure || begins("__Secure-") || begins("__Host-");
    let is_as_named = !begins("__Host-") || (is_host_only && raw.path() == Some("/"));
    (is_as_named && (!wants_secure || (is_secure && url.is_https()))).then(|| cookie.into_owned())
}

/// Whether names below it belong to different people. A name without a dot is one, whether or not it is known.
fn is_public_suffix(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.');
    domain.parse::<IpAddr>().is_err() && psl::domain_str(domain).is_none()
}

fn site_of(host: &str) -> &str {
    match host.parse::<IpAddr>() {
        Ok(_) => host,
        Err(_) => psl::domain_str(host).unwrap_or(host),
    }
}

// RFC 6265, section 6.1: what every client keeps at least, and no server relies on more.
const LARGEST_BYTES: usize = 4096;
const MOST_PER_SITE: usize = 50;
const MOST: usize = 3000;
/// RFC 6265bis, section 5.6.
const LONGEST_ATTRIBUTE_BYTES: usize = 1024;
/// What curl sends at most; servers refuse a head much larger.
const LONGEST_HEADER_BYTES: usize = 8190;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(cookies: &Cookies, url: &str, values: &[&str]) {
        let mut answer = HeaderMap::new();
        for value in values {
            answer.append(header::SET_COOKIE, HeaderValue::from_str(value).unwrap());
        }
        cookies.keep(&Url::parse(url).unwrap(), &answer);
    }

    fn sent(cookies: &Cookies, url: &str) -> String {
        let mut headers = HeaderMap::new();
        cookies.add(&Url::parse(url).unwrap(), &mut headers);
        headers.get(header::COOKIE).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_goes_back_where_it_came_from_and_nowhere_else() {
        let cookies = Cookies::default();
        set(&cookies, "http://one.test/api/login", &["session=abc; Path=/api; HttpOnly"]);
        assert_eq!(sent(&cookies, "http://one.test/api/items"), "session=abc");
        assert_eq!(sent(&cookies, "http://one.test/other"), "");
        assert_eq!(sent(&cookies, "http://two.test/api/items"), "");
    }

    #[test]
    fn no_cookie_is_set_for_a_public_suffix() {
        for (url, domain, elsewhere) in [
            ("http://a.co.uk/", "co.uk", "http://b.co.uk/"),
            ("http://a.com/", "com", "http://b.com/"),
            ("http://a.com/", ".com.", "http://b.com/"),
            ("http://a.github.io/", "GitHub.io", "http://b.github.io/"),
            ("http://a.test/", "test", "http://b.test/"),
            ("http://a.unheard-of/", ".unheard-of", "http://b.unheard-of/"),
            ("http://127.0.0.1/", "0.0.1", "http://126.0.0.1/"),
            ("http://a.com./", "com.", "http://b.com./"),
        ] {
            let cookies = Cookies::default();
            set(&cookies, url, &[&format!("x=1; Domain={domain}")]);
            assert_eq!((sent(&cookies, elsewhere), sent(&cookies, url)), (String::new(), String::new()), "{domain}");
        }
        // A public suffix speaks for itself alone; and a domain below one for all below it.
        let cookies = Cookies::default();
        set(&cookies, "http://github.io/", &["own=1; Domain=github.io"]);
        set(&cookies, "http://a.shop.co.uk/", &["all=1; Domain=shop.co.uk"]);
        assert_eq!(
            (sent(&cookies, "http://github.io/"), sent(&cookies, "http://a.github.io/")),
            ("own=1".into(), "".into())
        );
        assert_eq!(sent(&cookies, "http://b.shop.co.uk/"), "all=1");
    }

    #[test]
    fn a_site_has_fifty_cookies_and_the_ones_set_longest_ago_go_first() {
        let cookies = Cookies::default();
        for number in 0..60 {
            // Names below a domain do not make more of them.
            set(&cookies, &format!("http://h{number}.one.test/"), &[&format!("c{number}=1; Domain=one.test")]);
            set(&cookies, "http://one.test/", &["first=1; Domain=one.test"]);
        }
        let sent = sent(&cookies, "http://one.test/");
        assert_eq!(sent.split("; ").count(), 50);
        assert!(sent.contains("c59=1") && sent.contains("first=1") && !sent.contains("c10=1"), "{sent}");
        for host in 0..MOST + 100 {
            set(&cookies, &format!("http://site{host}.test/"), &["a=1"]);
        }
        let jar = cookies.0.borrow();
        let counted: usize = jar.sites.values().map(Vec::len).sum();
        assert_eq!((counted, jar.by_age.len(), jar.sites.len()), (MOST, MOST, MOST));
        drop(jar);
        assert_eq!(super::tests::sent(&cookies, "http://site3099.test/"), "a=1");
        assert_eq!(super::tests::sent(&cookies, "http://site99.test/"), "");
    }

    #[test]
    fn what_is_sent_is_bounded_and_the_newest_is_in_it() {
        let cookies = Cookies::default();
        for number in 0..300 {
            set(&cookies, "http://one.test/", &[&format!("c{number}={}", "x".repeat(3000))]);
        }
        let value = sent(&cookies, "http://one.test/");
        assert!(
            value.len() <= LONGEST_HEADER_BYTES && value.contains("c299=") && value.contains("c298="),
            "{}",
            value.len()
        );
        set(&cookies, "http://two.test/", &[&format!("large={}", "x".repeat(LARGEST_BYTES))]);
        set(&cookies, "http://two.test/", &[&format!("p=1; Path=/{}", "x".repeat(LONGEST_ATTRIBUTE_BYTES))]);
        assert_eq!(sent(&cookies, "http://two.test/"), "");
    }

    #[test]
    fn secure_is_for_tls_alone_both_ways() {
        for host in ["one.test", "127.0.0.1", "localhost"] {
            let (http, https) = (format!("http://{host}/"), format!("https://{host}/"));
            let cookies = Cookies::default();
            set(&cookies, &http, &["a=forged; Secure"]);
            assert_eq!((sent(&cookies, &http), sent(&cookies, &https)), (String::new(), String::new()));
            set(&cookies, &https, &["a=1; Secure"]);
            set(&cookies, &http, &["a=forged", "a=forged; Path=/x", "a=; Max-Age=0"]);
            assert_eq!((sent(&cookies, &http), sent(&cookies, &https)), (String::new(), "a=1".into()), "{host}");
        }
    }

    #[test]
    fn a_prefix_is_what_it_says() {
        for (url, cookie, kept) in [
            ("https://a.test/", "__Host-x=1; Secure; Path=/", true),
            ("https://a.test/", "__host-x=1; Secure; Path=/; Domain=a.test", false),
            ("https://a.test/", "__Host-x=1; Secure", false),
            ("https://a.test/", "__Host-x=1; Path=/", false),
            ("http://a.test/", "__Host-x=1; Secure; Path=/", false),
            ("https://a.test/", "__Secure-x=1; Secure", true),
            ("https://a.test/", "__SECURE-x=1", false),
            ("http://a.test/", "__Secure-x=1; Secure", false),
            ("http://a.test/", "__Secure-x=1", false),
            ("https://a.test/", "__Secured=1", true),
        ] {
            let cookies = Cookies::default();
            set(&cookies, url, &[cookie]);
            assert_eq!(!sent(&cookies, "https://a.test/").is_empty(), kept, "{url} {cookie}");
        }
    }

    #[test]
    fn an_expired_cookie_is_forgotten_and_paths_come_longest_first() {
        let cookies = Cookies::default();
        set(&cookies, "http://a.test/", &["a=1; Path=/", "b=1; Path=/x", "c=1; Path=/", "d=1"]);
        set(&cookies, "http://a.test/", &["c=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "a=2; Path=/"]);
        assert_eq!(sent(&cookies, "http://a.test/x"), "b=1; a=2; d=1");
        assert_eq!(cookies.0.borrow().by_age.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_a_server_sets_the_jar_is_bounded_and_nothing_else_is_sent_to_others(
            values in prop::collection::vec("[ -~]{0,40}|[a-c]=[a-z]{0,3}(; (Path=/[ab]?|Domain=(one\\.test|test|x)|Secure|Max-Age=[01]))*", 0..80),
        ) {
            let cookies = Cookies::default();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            set(&cookies, "http://a.one.test/a", &values);
            let jar = cookies.0.borrow();
            let kept: usize = jar.sites.values().map(Vec::len).sum();
            prop_assert_eq!(jar.by_age.len(), kept);
            prop_assert!(kept <= MOST_PER_SITE);
            drop(jar);
            prop_assert_eq!(sent(&cookies, "http://two.test/a"), "");
            prop_assert!(sent(&cookies, "http://a.one.test/a").len() <= LONGEST_HEADER_BYTES);
        }
    }
}
