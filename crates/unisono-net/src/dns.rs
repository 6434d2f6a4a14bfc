//! Names to addresses, looked up once for all callers.
//!
//! The system's resolver blocks, so it runs on threads of its own: a lookup that hangs does not hold up the exit, as
//! one in a runtime's blocking pool would. It tells no lifetime, so an answer is kept for a fixed time. That a name
//! does not exist is kept too, for less; that the resolver had no answer is not.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::Shared};
use tokio::sync::{Semaphore, oneshot};
use unisono_core::{ErrorKind, clock};

use crate::{error::Error, failure::DialFailure};

/// Looks names up.
pub trait Resolve {
    /// All addresses of this name, the preferred ones first.
    fn resolve(&self, host: &str) -> Local<Result<Vec<IpAddr>, LookupError>>;
}

impl fmt::Debug for dyn Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolve")
    }
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupError {
    /// Whether asking again may help.
    pub temporary: bool,
    /// What the resolver said.
    pub message: String,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LookupError {}

/// A future that stays on its thread.
pub type Local<T> = Pin<Box<dyn Future<Output = T>>>;

/// Which addresses to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// IPv6 and IPv4, whichever answers first.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// The address of a host, given instead of looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    /// The name, lower case.
    pub host: String,
    /// Only for this port; `None` for every port.
    pub port: Option<u16>,
    /// Where it is.
    pub addresses: Vec<IpAddr>,
}

type Answer = Result<Rc<[IpAddr]>, LookupError>;

pub(crate) struct CachingResolver {
    resolver: Rc<dyn Resolve>,
    given: Vec<HostAddress>,
    family: Family,
    cache: RefCell<HashMap<Box<str>, CachedAnswer>>,
}

struct CachedAnswer {
    /// Callers that come while the lookup runs wait for the same one.
    answer: Shared<Local<Answer>>,
    /// `None` while the lookup runs.
    good_until: Option<Instant>,
}

impl CachingResolver {
    /// Names looked up by this resolver, or else the system's, except those that are given.
    pub(crate) fn new(resolver: Option<Rc<dyn Resolve>>, given: Vec<HostAddress>, family: Family) -> Self {
        let resolver = resolver.unwrap_or_else(|| Rc::new(SystemResolver::default()));
        Self { resolver, given, family, cache: RefCell::default() }
    }

    /// The addresses to try, in the order of RFC 8305: families take turns.
    pub(crate) async fn lookup(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
        let addresses = self.addresses(host, port).await.map_err(|error| {
            let failure = if error.temporary { DialFailure::NameForNow } else { DialFailure::NoSuchName };
            let temporary = error.temporary;
            let message = format!("`{host}` has no address");
            Error::new(ErrorKind::Dns, message).retryable(temporary).met(failure).with_source(error)
        })?;
        let wanted: Vec<IpAddr> = addresses.iter().copied().filter(|address| self.wants(address)).collect();
        if wanted.is_empty() {
            let family = if self.family == Family::V4 { "IPv4" } else { "IPv6" };
            return Err(Error::new(ErrorKind::Dns, format!("`{host}` has no {family} address")));
        }
        Ok(interleave(&wanted))
    }

    async fn addresses(&self, host: &str, port: u16) -> Answer {
        if let Some(given) = self.given.iter().find(|one| one.host == host && one.port.is_none_or(|only| only == port))
        {
            return Ok(given.addresses.clone().into());
        }
        if let Ok(address) = host.parse() {
            return Ok([address].into());
        }
        let answer = self.cached(host);
        let result = answer.await;
        self.keep(host, &result);
        result
    }

    fn cached(&self, host: &str) -> Shared<Local<Answer>> {
        let now = clock::now();
        let mut cache = self.cache.borrow_mut();
        if let Some(entry) = cache.get(host).filter(|entry| entry.good_until.is_none_or(|until| now < until)) {
            return entry.answer.clone();
        }
        if cache.len() >= MOST_CACHED {
            cache.retain(|_, entry| entry.good_until.is_none_or(|until| now < until));
        }
        let lookup = self.resolver.resolve(host);
        let answer = async move { lookup.await.map(Rc::from) }.boxed_local().shared();
        // Before anything is awaited, so that the next caller finds it.
        cache.insert(host.into(), CachedAnswer { answer: answer.clone(), good_until: None });
        answer
    }

    /// Decides how long an answer lives, once it is there.
    fn keep(&self, host: &str, result: &Answer) {
        let mut cache = self.cache.borrow_mut();
        let Some(entry) = cache.get_mut(host) else { return };
        let lifetime = match result {
            Ok(_) => FOUND_FOR,
            Err(error) if !error.temporary => ABSENT_FOR,
            Err(_) => {
                cache.remove(host);
                return;
            }
        };
        entry.good_until.get_or_insert(clock::now() + lifetime);
    }

    fn wants(&self, address: &IpAddr) -> bool {
        match self.family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// The system's resolver, `getaddrinfo`.
struct SystemResolver {
    threads: Rc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { threads: Rc::new(Semaphore::new(MOST_THREADS)) }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Local<Result<Vec<IpAddr>, LookupError>> {
        let (host, threads) = (host.to_owned(), self.threads.clone());
        Box::pin(async move {
            let failed = |message: String| LookupError { temporary: true, message };
            let _permit = threads.acquire().await.map_err(|error| failed(error.to_string()))?;
            let (sender, receiver) = oneshot::channel();
            // The caller may have gone by the time the answer is there.
            let run = move || drop(sender.send(system_lookup(&host)));
            thread::Builder::new()
                .name("unisono-dns".into())
                .stack_size(256 << 10)
                .spawn(run)
                .map_err(|error| failed(format!("no thread for the lookup: {error}")))?;
            receiver.await.unwrap_or_else(|_| Err(failed("the lookup ended without an answer".to_owned())))
        })
    }
}

fn system_lookup(host: &str) -> Result<Vec<IpAddr>, LookupError> {
    use dns_lookup::LookupErrorKind as Kind;
    let found = dns_lookup::getaddrinfo(Some(host), None, None).map_err(|error| {
        let temporary = matches!(error.kind(), Kind::Again | Kind::Memory | Kind::System);
        let error: std::io::Error = error.into();
        LookupError { temporary, message: error.to_string() }
    })?;
    let mut addresses = Vec::new();
    for info in found.flatten() {
        let address = info.sockaddr.ip();
        // One entry per socket type.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(LookupError { temporary: false, message: "the resolver found none".to_owned() }),
        false => Ok(addresses),
    }
}

fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let leads_with_v6 = addresses[0].is_ipv6();
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == leads_with_v6);
    first.reverse();
    second.reverse();
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(first.pop());
        order.extend(second.pop());
    }
    order
}

/// As long as most names live.
const FOUND_FOR: Duration = Duration::from_secs(60);
/// Long enough that a batch over one mistyped host asks once, short enough to see it mended.
const ABSENT_FOR: Duration = Duration::from_secs(10);
const MOST_CACHED: usize = 4096;
/// A lookup waits on the network; this many at once, then they queue.
const MOST_THREADS: usize = 16;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Scripted {
        asked: Cell<u32>,
        answer: fn(u32) -> Result<Vec<IpAddr>, LookupError>,
    }

    impl Resolve for Scripted {
        fn resolve(&self, _: &str) -> Local<Result<Vec<IpAddr>, LookupError>> {
            self.asked.set(self.asked.get() + 1);
            let answer = (self.answer)(self.asked.get());
            Box::pin(async move {
                tokio::task::yield_now().await;
                answer
            })
        }
    }

    fn names(answer: fn(u32) -> Result<Vec<IpAddr>, LookupError>) -> (CachingResolver, Rc<Scripted>) {
        let scripted = Rc::new(Scripted { asked: Cell::new(0), answer });
        (CachingResolver::new(Some(scripted.clone()), Vec::new(), Family::Any), scripted)
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_lookups_of_one_name_are_one_query() {
        let (names, scripted) = names(|_| Ok(vec![v4(1)]));
        let all = futures_util::future::join_all((0..10_000).map(|_| names.lookup("api", 80))).await;
        assert!(all.into_iter().all(|found| found.unwrap() == [v4(1)]));
        assert_eq!(scripted.asked.get(), 1);
        tokio::time::advance(FOUND_FOR).await;
        names.lookup("api", 80).await.unwrap();
        assert_eq!(scripted.asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn that_the_resolver_had_no_answer_is_not_kept() {
        let (names, scripted) = names(|asked| match asked {
            1 => Err(LookupError { temporary: true, message: "try again".into() }),
            _ => Ok(vec![v4(1)]),
        });
        let error = names.lookup("api", 80).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Dns && error.is_retryable());
        assert_eq!(names.lookup("api", 80).await.unwrap(), [v4(1)]);
        assert_eq!(scripted.asked.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_exist_is_not_asked_for_again_at_once() {
        let (names, scripted) = names(|_| Err(LookupError { temporary: false, message: "no such name".into() }));
        for _ in 0..3 {
            assert!(!names.lookup("nowhere", 80).await.unwrap_err().is_retryable());
        }
        assert_eq!(scripted.asked.get(), 1);
    }

    #[test]
    fn families_take_turns() {
        let v6 = |last: u16| IpAddr::from([0, 0, 0, 0, 0, 0, 0, last]);
        assert_eq!(interleave(&[v6(1), v6(2), v6(3), v4(1)]), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(interleave(&[v4(1), v6(1)]), [v4(1), v6(1)]);
    }
}
