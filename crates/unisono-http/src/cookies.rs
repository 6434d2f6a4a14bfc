//! Cookies of one run or client (RFC 6265): what is kept of what servers set, and what goes back to which server; and
//! cookies that a request brings itself.
//!
//! Reading one, and which path and host it is for, is the `cookie_store` crate's. Here is what keeps a hostile server
//! from harm: no server sets a cookie for a public suffix such as `co.uk`, none without TLS sets or replaces a `Secure`
//! one, a name that begins with `__Host-` or `__Secure-` is what it says (RFC 6265bis, section 4.1.3), and there are
//! only so many, of such a size. Where there are too many, the ones that were set longest ago go first; of one site,
//! those that have expired go before them.
//!
//! A site is a registrable domain and all below it, since its owner can make names below it without end.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cookie_store::{Cookie, CookieDomain, RawCookie};
use http::{HeaderMap, HeaderValue, header};

use unisono_core::ErrorKind;

use crate::{Error, Url};

/// What is kept of what servers set. Clones are the same jar, which may be looked into from any thread.
#[derive(Clone, Default)]
pub struct CookieJar(
    /// Held for one look or one answer, never across a wait.
    Arc<Mutex<Jar>>,
);

/// Values are not shown: they are secrets.
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("cookies", &self.lock().by_age.len()).finish()
    }
}

/// A cookie in a jar.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptCookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The host that it goes to, and all below it where the server said so.
    pub domain: String,
    /// The path below which it goes.
    pub path: String,
    /// Whether it goes over TLS alone.
    pub secure: bool,
}

/// A cookie that a request brings, to its own origin alone.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestCookie {
    name: String,
    value: String,
    /// One of the same name that a server has set since goes in its place.
    yields: bool,
}

/// The value is not shown: it is a secret.
impl fmt::Debug for RequestCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCookie").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RequestCookie {
    /// A cookie with this name and value, which goes before one of the same name that a server has set.
    ///
    /// # Errors
    /// Of kind `input` when they cannot be sent as one (RFC 6265, section 4.1.1).
    pub fn new(name: &str, value: &str) -> Result<Self, Error> {
        let bad = |what: &str| Err(Error::new(ErrorKind::Input, format!("the {what} of a cookie cannot be sent")));
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte))
        {
            return bad("name");
        }
        // Spaces, commas and the like are no part of the grammar, and are sent by every browser.
        if value.bytes().any(|byte| byte == b';' || byte.is_ascii_control()) {
            return bad("value");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned(), yields: false })
    }

    /// The same, for a client to begin with: what servers set goes before it.
    pub fn to_begin_with(self) -> Self {
        Self { yields: true, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value, which is a secret.
    pub fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn yields(&self) -> bool {
        self.yields
    }
}

/// Adds what a request brings and what the jar has for its address, unless it has a `Cookie` header already.
pub(crate) fn add(jar: Option<&CookieJar>, own: &[RequestCookie], url: &Url, headers: &mut HeaderMap) {
    if headers.contains_key(header::COOKIE) {
        return;
    }
    let kept = jar.map_or_else(Vec::new, |jar| jar.lock().pairs_for(url));
    let is_replaced = |name: &str| own.iter().any(|one| !one.yields && one.name == name);
    let is_kept = |name: &str| kept.iter().any(|(kept, _)| kept == name);
    let brought = own.iter().filter(|one| !(one.yields && (is_kept(&one.name) || is_replaced(&one.name))));
    let pairs = kept.iter().filter(|(name, _)| !is_replaced(name)).map(|(name, value)| format!("{name}={value}"));
    let pairs: Vec<String> = pairs.chain(brought.map(|one| format!("{}={}", one.name, one.value))).collect();
    if pairs.is_empty() {
        return;
    }
    if let Ok(mut value) = HeaderValue::from_bytes(pairs.join("; ").as_bytes()) {
        value.set_sensitive(true);
        headers.insert(header::COOKIE, value);
    }
}

#[derive(Default)]
struct Jar {
    sites: HashMap<Arc<str>, Vec<Entry>>,
    /// The site of each, by when it was set last: the first is the next to go.
    by_age: BTreeMap<u64, Arc<str>>,
    /// Counts what is set.
    now: u64,
}

struct Entry {
    cookie: Cookie<'static>,
    /// When it was set first; it keeps its place when it is set again.
    created: u64,
    /// When it was set last.
    set: u64,
}

impl CookieJar {
    fn lock(&self) -> MutexGuard<'_, Jar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that has not expired, in the order in which it was set first.
    pub fn all(&self) -> Vec<KeptCookie> {
        let jar = self.lock();
        let mut entries: Vec<&Entry> =
            jar.sites.values().flatten().filter(|entry| !entry.cookie.is_expired()).collect();
        entries.sort_by_key(|entry| entry.created);
        entries.into_iter().map(Entry::shown).collect()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Jar::default();
    }

    /// Keeps what an answer from this address sets.
    pub(crate) fn keep(&self, url: &Url, headers: &HeaderMap) {
        if !headers.contains_key(header::SET_COOKIE) {
            return;
        }
        let Ok(parsed) = url.parsed() else { return };
        let mut jar = self.lock();
        for value in headers.get_all(header::SET_COOKIE) {
            if let Some(cookie) = acceptable(value.as_bytes(), url, &parsed) {
                jar.set(cookie, url);
            }
        }
    }
}

impl Entry {
    fn shown(&self) -> KeptCookie {
        let domain = match &self.cookie.domain {
            CookieDomain::HostOnly(domain) | CookieDomain::Suffix(domain) => domain.clone(),
            CookieDomain::NotPresent | CookieDomain::Empty => String::new(),
        };
        KeptCookie {
            name: self.cookie.name().to_owned(),
            value: self.cookie.value().to_owned(),
            domain,
            path: self.cookie.path.to_string(),
            secure: self.cookie.secure() == Some(true),
        }
    }
}

impl Jar {
    /// Names and values for this address, in the order in which they are sent.
    fn pairs_for(&self, url: &Url) -> Vec<(String, String)> {
        let (Ok(parsed), Some(kept)) = (url.parsed(), self.sites.get(site_of(url.host()))) else { return Vec::new() };
        let is_for_it = |kept: &&Entry| {
            // The crate takes loopback for safe, but what a server marked is for TLS alone.
            let cookie = &kept.cookie;
            (url.is_https() || cookie.secure() != Some(true)) && !cookie.is_expired() && cookie.matches(&parsed)
        };
        let mut wanted: Vec<&Entry> = kept.iter().filter(is_for_it).collect();
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
        let pair = |entry: &Entry| (entry.cookie.name().to_owned(), entry.cookie.value().to_owned());
        wanted.into_iter().map(pair).collect()
    }

    fn set(&mut self, cookie: Cookie<'static>, url: &Url) {
        let name: Arc<str> = site_of(url.host()).into();
        let site = self.sites.entry(name.clone()).or_default();
        // Without TLS a server does not shadow what was set with it (RFC 6265bis, section 5.7).
        let shadows = |kept: &Entry| {
            let one = &kept.cookie;
            one.secure() == Some(true) && one.name() == cookie.name() && cookie.path.starts_with(&*one.path)
        };
        if !url.is_https() && site.iter().any(shadows) {
            return;
        }
        self.now += 1;
        let same = |kept: &Entry| {
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
        site.push(Entry { cookie, created: before.map_or(self.now, |before| before.created), set: self.now });
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
fn make_room(site: &mut Vec<Entry>, by_age: &mut BTreeMap<u64, Arc<str>>) {
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

    fn set(cookies: &CookieJar, url: &str, values: &[&str]) {
        let mut answer = HeaderMap::new();
        for value in values {
            answer.append(header::SET_COOKIE, HeaderValue::from_str(value).unwrap());
        }
        cookies.keep(&Url::parse(url).unwrap(), &answer);
    }

    fn sent(cookies: &CookieJar, url: &str) -> String {
        let mut headers = HeaderMap::new();
        add(Some(cookies), &[], &Url::parse(url).unwrap(), &mut headers);
        headers.get(header::COOKIE).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_goes_back_where_it_came_from_and_nowhere_else() {
        let cookies = CookieJar::default();
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
            let cookies = CookieJar::default();
            set(&cookies, url, &[&format!("x=1; Domain={domain}")]);
            assert_eq!((sent(&cookies, elsewhere), sent(&cookies, url)), (String::new(), String::new()), "{domain}");
        }
        // A public suffix speaks for itself alone; and a domain below one for all below it.
        let cookies = CookieJar::default();
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
        let cookies = CookieJar::default();
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
        let jar = cookies.lock();
        let counted: usize = jar.sites.values().map(Vec::len).sum();
        assert_eq!((counted, jar.by_age.len(), jar.sites.len()), (MOST, MOST, MOST));
        drop(jar);
        assert_eq!(super::tests::sent(&cookies, "http://site3099.test/"), "a=1");
        assert_eq!(super::tests::sent(&cookies, "http://site99.test/"), "");
    }

    #[test]
    fn what_is_sent_is_bounded_and_the_newest_is_in_it() {
        let cookies = CookieJar::default();
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
            let cookies = CookieJar::default();
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
            let cookies = CookieJar::default();
            set(&cookies, url, &[cookie]);
            assert_eq!(!sent(&cookies, "https://a.test/").is_empty(), kept, "{url} {cookie}");
        }
    }

    #[test]
    fn an_expired_cookie_is_forgotten_and_paths_come_longest_first() {
        let cookies = CookieJar::default();
        set(&cookies, "http://a.test/", &["a=1; Path=/", "b=1; Path=/x", "c=1; Path=/", "d=1"]);
        set(&cookies, "http://a.test/", &["c=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "a=2; Path=/"]);
        assert_eq!(sent(&cookies, "http://a.test/x"), "b=1; a=2; d=1");
        assert_eq!(cookies.lock().by_age.len(), 3);
    }

    #[test]
    fn a_request_brings_its_own_beside_the_jar_s_and_those_to_begin_with_yield_to_what_servers_set() {
        let jar = CookieJar::default();
        set(&jar, "http://a.test/", &["session=new", "theme=dark"]);
        let cookie = |name: &str, value: &str| RequestCookie::new(name, value).unwrap();
        let own =
            [cookie("session", "old").to_begin_with(), cookie("first", "1").to_begin_with(), cookie("theme", "light")];
        let sent_with = |jar: Option<&CookieJar>| {
            let mut headers = HeaderMap::new();
            add(jar, &own, &Url::parse("http://a.test/").unwrap(), &mut headers);
            headers[header::COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!(sent_with(Some(&jar)), "session=new; first=1; theme=light");
        assert_eq!(sent_with(None), "session=old; first=1; theme=light");
        let mut headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static("mine=1"))]);
        add(Some(&jar), &own, &Url::parse("http://a.test/").unwrap(), &mut headers);
        assert_eq!(headers[header::COOKIE], "mine=1", "a header of its own is all that is sent");
    }

    #[test]
    fn what_would_be_more_than_one_cookie_or_none_is_refused() {
        for (name, value) in [("", "1"), ("a=b", "1"), ("a;b", "1"), ("a b", "1"), ("a", "1; b=2"), ("a", "1\r\nX: y")]
        {
            assert_eq!(RequestCookie::new(name, value).unwrap_err().kind(), ErrorKind::Input, "{name}={value}");
        }
        assert!(RequestCookie::new("a", "b c, \"d\"=").is_ok());
    }

    #[test]
    fn the_jar_can_be_read_and_emptied_and_never_shows_values_by_itself() {
        let jar = CookieJar::default();
        set(&jar, "https://a.test/x/y", &["b=secret; Secure", "a=2; Path=/; Domain=a.test"]);
        let all: Vec<_> =
            jar.all().into_iter().map(|one| (one.name, one.value, one.domain, one.path, one.secure)).collect();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            all,
            [
                (text("b"), text("secret"), text("a.test"), text("/x"), true),
                (text("a"), text("2"), text("a.test"), text("/"), false),
            ]
        );
        assert!(!format!("{jar:?}").contains("secret"));
        jar.clone().clear();
        assert!(jar.all().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_a_server_sets_the_jar_is_bounded_and_nothing_else_is_sent_to_others(
            values in prop::collection::vec("[ -~]{0,40}|[a-c]=[a-z]{0,3}(; (Path=/[ab]?|Domain=(one\\.test|test|x)|Secure|Max-Age=[01]))*", 0..80),
        ) {
            let cookies = CookieJar::default();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            set(&cookies, "http://a.one.test/a", &values);
            let jar = cookies.lock();
            let kept: usize = jar.sites.values().map(Vec::len).sum();
            prop_assert_eq!(jar.by_age.len(), kept);
            prop_assert!(kept <= MOST_PER_SITE);
            drop(jar);
            prop_assert_eq!(sent(&cookies, "http://two.test/a"), "");
            prop_assert!(sent(&cookies, "http://a.one.test/a").len() <= LONGEST_HEADER_BYTES);
        }
    }
}
