//! Connections kept for the next request: idle ones per origin over HTTP/1.1, one shared over HTTP/2.
//!
//! The newest idle connection is taken first, so that the rest may grow old and go. Before it is used again the
//! kernel is asked whether the peer has closed it or said something unasked; such a connection is dropped, and what it
//! said answers no request. Between that and the request's arrival a server may close it all the same, which no client
//! can see; from a host that was caught at it, what must not be sent twice gets a new connection for itself. When the
//! process has no file descriptors left, the pool settles for the connections it has, and requests wait for one
//! another; it keeps a note of it for the report.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    future::poll_fn,
    io,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use unisono_core::{clock, reactor};

use crate::{
    ClientOptions, Error, HttpVersion,
    connection_limit::{ConnectionLimit, ConnectionPermit},
    dialer::{Dialed, Dialer},
    fault::find,
    http1::Http1,
    http2::{Http2, StreamCounts},
    trail::HopStage,
    url::Origin,
};

pub(crate) struct ConnectionPool {
    dialer: Dialer,
    origins: RefCell<HashMap<Origin, Rc<Host>>>,
    limit: Rc<ConnectionLimit>,
    idle_timeout: Duration,
    max_header: usize,
    swept: Cell<Instant>,
    /// Requests that are in doubt since a kept connection was closed under them, by origin.
    in_doubt: RefCell<BTreeMap<String, u64>>,
}

/// What is known of one origin.
struct Host {
    /// The newest last.
    idle: RefCell<Vec<Http1>>,
    shared: RefCell<Option<Http2>>,
    /// Whether the last connection spoke HTTP/1.1: then no request needs to wait for the connection of another.
    is_http1: Cell<bool>,
    /// Held while the first connection is made, or the one that all share: the others wait for it.
    connecting: Mutex<()>,
    /// Whether it has closed a connection under a request, or before the time that it had named.
    breaks_promises: Cell<bool>,
    /// How often that has failed, and how it did last.
    failures: Cell<u64>,
    failure: RefCell<Option<Error>>,
    /// How many connections over HTTP/2 there were, and what has become of the streams of the last ones.
    made: Cell<u64>,
    recent_counts: RefCell<VecDeque<(u64, Rc<StreamCounts>)>>,
}

/// A connection that is ready for a request.
pub(crate) enum PooledConnection {
    Http1(Http1),
    /// Boxed, as it is larger, and a response of either version has one.
    Http2(Box<Http2>),
}

impl ConnectionPool {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, Error> {
        Ok(Self {
            dialer: Dialer::new(options)?,
            origins: RefCell::default(),
            limit: Rc::default(),
            idle_timeout: options.idle_timeout,
            max_header: options.max_header,
            swept: Cell::new(clock::now()),
            in_doubt: RefCell::default(),
        })
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// How many connections the process can afford, once it has run out of file descriptors.
    pub(crate) fn most_connections(&self) -> Option<usize> {
        self.limit.most()
    }

    /// A connection to this origin: one that is idle or shared, unless a fresh one is asked for. `reached` is told
    /// while the peer is what is waited for.
    pub(crate) async fn acquire(
        &self,
        origin: &Origin,
        fresh: bool,
        reached: &dyn Fn(HopStage),
    ) -> Result<PooledConnection, Error> {
        let host = self.host(origin);
        if !fresh && let Some(connection) = host.checkout(self.idle_timeout) {
            match connection {
                // Boxed, as it is rare: what came in may be the end of a connection that its driver has yet to see.
                PooledConnection::Http2(connection) if connection.may_have_ended() => {
                    for _ in 0..reactor::TURNS {
                        Box::pin(poll_fn(|context| Poll::Ready(reactor::Turn::ask(context.waker())))).await.await;
                    }
                    if !connection.is_closed() {
                        return Ok(PooledConnection::Http2(connection));
                    }
                }
                connection => return Ok(connection),
            }
        }
        // Boxed: connecting is rare, and its future would make that of every request as large.
        Box::pin(self.connect_in_turn(origin, &host, fresh, reached)).await
    }

    async fn connect_in_turn(
        &self,
        origin: &Origin,
        host: &Host,
        fresh: bool,
        reached: &dyn Fn(HopStage),
    ) -> Result<PooledConnection, Error> {
        if host.is_http1.get() {
            return self.connect(origin, host, reached).await;
        }
        // Counted before the wait: a failure during it is one of this request as well.
        let failures = host.failures.get();
        // The first request waits for the peer, unless there is no room for connections.
        reached(if self.limit.has_waiters() { HopStage::Apart } else { HopStage::Connecting });
        let first = host.connecting.lock().await;
        // Look again under the lock: the request before may have made the connection that all share.
        if !fresh && let Some(connection) = host.checkout(self.idle_timeout) {
            return Ok(connection);
        }
        if host.failures.get() != failures
            && let Some(failure) = host.failure.borrow().as_ref()
        {
            // The request that this one waited for has failed; trying in turn would take each of them as long.
            return Err(failure.again());
        }
        // The request before may have found out that connections are not shared.
        let _first = (!host.is_http1.get()).then_some(first);
        let result = self.connect(origin, host, reached).await;
        if let Err(error) = &result {
            host.note_failure(error);
        }
        result
    }

    /// Tells the requests that wait for a connection that none is of use.
    pub(crate) fn note_failure(&self, origin: &Origin, error: &Error) {
        self.host(origin).note_failure(error);
    }

    /// Takes back a connection that is ready for the next request.
    pub(crate) fn give_back(&self, origin: &Origin, mut connection: Http1) {
        let now = clock::now();
        connection.idle_since = now;
        if self.limit.has_waiters() {
            // A request waits for a connection, perhaps to another origin, and this one can be had.
            self.limit.note_idle();
        }
        self.host(origin).idle.borrow_mut().push(connection);
        self.sweep(now);
    }

    /// This host has closed a connection that it had promised to keep, when a request was on its way there.
    pub(crate) fn note_broken_promise(&self, origin: &Origin) {
        let host = self.host(origin);
        host.breaks_promises.set(true);
        // What it keeps, it keeps from others.
        host.idle.borrow_mut().clear();
    }

    /// The same, and the request must not be sent again.
    pub(crate) fn note_in_doubt(&self, origin: &Origin) {
        let mut in_doubt = self.in_doubt.borrow_mut();
        let name = origin.to_string();
        if in_doubt.len() < HOSTS_NAMED || in_doubt.contains_key(&name) {
            *in_doubt.entry(name).or_default() += 1;
        }
    }

    /// How many requests each of these origins has left in doubt like that.
    pub(crate) fn in_doubt(&self) -> Vec<(String, u64)> {
        self.in_doubt.borrow().iter().map(|(name, count)| (name.clone(), *count)).collect()
    }

    /// Whether it ever did.
    pub(crate) fn breaks_promises(&self, origin: &Origin) -> bool {
        self.host(origin).breaks_promises.get()
    }

    /// Makes sure that no further request goes over this connection; another one that has taken its place meanwhile
    /// stays.
    pub(crate) fn retire(&self, origin: &Origin, retired: &Http2) {
        self.host(origin).shared.borrow_mut().take_if(|shared| shared.is_same(retired));
    }

    /// How many connections over HTTP/2, from the one with this number on, have taken no request at all.
    pub(crate) fn in_vain_since(&self, origin: &Origin, first: u64) -> usize {
        let host = self.host(origin);
        let recent_counts = host.recent_counts.borrow();
        recent_counts.iter().filter(|(number, counts)| *number >= first && counts.took_nothing()).count()
    }

    async fn connect(
        &self,
        origin: &Origin,
        host: &Host,
        reached: &dyn Fn(HopStage),
    ) -> Result<PooledConnection, Error> {
        reached(HopStage::Apart);
        let permit = loop {
            if let Some(permit) = self.limit.try_acquire() {
                break permit;
            }
            if !self.drop_an_idle_one() {
                self.limit.changed().await;
            }
            // Look before trying again: what came back may be a connection to this very origin.
            if let Some(connection) = host.checkout(self.idle_timeout) {
                return Ok(connection);
            }
        };
        reached(HopStage::Connecting);
        match self.dialer.connect(origin).await {
            Ok(dialed) => self.set_up(dialed, host, permit, origin).await,
            Err(error) if is_out_of_files(&error) && self.limit.open() > 1 => {
                // Given back first: the connection that failed is none of those that can be afforded.
                drop(permit);
                self.limit.settle();
                Box::pin(self.connect(origin, host, reached)).await
            }
            Err(error) => Err(error),
        }
    }

    async fn set_up(
        &self,
        dialed: Dialed,
        host: &Host,
        permit: ConnectionPermit,
        named: &Origin,
    ) -> Result<PooledConnection, Error> {
        // Before anything is awaited: requests that come from now on need not wait for this one to be set up.
        host.is_http1.set(!dialed.http2);
        if dialed.http2 {
            let number = host.made.get() + 1;
            host.made.set(number);
            let connection = Http2::open(dialed, permit, number, self.max_header, named).await?;
            let mut recent_counts = host.recent_counts.borrow_mut();
            recent_counts.truncate(COUNTS_KEPT - 1);
            recent_counts.push_front((number, connection.counts()));
            // While the caller still holds the lock: the requests behind it find this connection and make none.
            *host.shared.borrow_mut() = Some(connection.clone());
            return Ok(PooledConnection::Http2(Box::new(connection)));
        }
        Ok(PooledConnection::Http1(Http1::open(dialed, permit, self.max_header, named).await?))
    }

    fn host(&self, origin: &Origin) -> Rc<Host> {
        let mut origins = self.origins.borrow_mut();
        match origins.get(origin) {
            Some(host) => host.clone(),
            None => {
                let is_http1 = !origin.https && self.dialer.version() != HttpVersion::Http2;
                let host = Rc::new(Host::new(is_http1));
                origins.insert(origin.clone(), host.clone());
                host
            }
        }
    }

    /// Closes what has idled too long, now and then, and forgets origins that have nothing.
    fn sweep(&self, now: Instant) {
        if now.saturating_duration_since(self.swept.get()) < SWEEP_EVERY {
            return;
        }
        self.swept.set(now);
        self.origins.borrow_mut().retain(|_, host| {
            host.idle
                .borrow_mut()
                .retain(|connection| now.saturating_duration_since(connection.idle_since) < self.idle_timeout);
            host.shared.borrow_mut().take_if(|connection| connection.is_closed());
            let is_known = Rc::strong_count(host) > 1 || host.breaks_promises.get();
            is_known || !host.idle.borrow().is_empty() || host.shared.borrow().is_some()
        });
    }

    fn drop_an_idle_one(&self) -> bool {
        let origins = self.origins.borrow();
        origins.values().any(|host| {
            let mut idle = host.idle.borrow_mut();
            let had_one = !idle.is_empty();
            if had_one {
                idle.remove(0);
            }
            had_one
        })
    }
}

impl Host {
    fn new(is_http1: bool) -> Self {
        Self {
            idle: RefCell::default(),
            shared: RefCell::default(),
            is_http1: Cell::new(is_http1),
            connecting: Mutex::new(()),
            breaks_promises: Cell::new(false),
            failures: Cell::new(0),
            failure: RefCell::default(),
            made: Cell::new(0),
            recent_counts: RefCell::default(),
        }
    }

    fn note_failure(&self, error: &Error) {
        self.failures.set(self.failures.get() + 1);
        *self.failure.borrow_mut() = Some(error.again());
    }

    fn checkout(&self, idle_timeout: Duration) -> Option<PooledConnection> {
        if let Some(connection) = self.shared.borrow().as_ref().filter(|connection| !connection.is_closed()) {
            return Some(PooledConnection::Http2(Box::new(connection.clone())));
        }
        let now = clock::now();
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            let idle = now.saturating_duration_since(connection.idle_since);
            if idle >= idle_timeout.min(connection.usable_for.unwrap_or(idle_timeout)) {
                continue;
            }
            // Asked as late as can be: between this and the request's first byte there is no await.
            if connection.is_usable() {
                return Some(PooledConnection::Http1(connection));
            }
            if connection.usable_for.is_some() {
                // It was luck that no request was on its way.
                self.breaks_promises.set(true);
            }
        }
        None
    }
}

fn is_out_of_files(error: &Error) -> bool {
    let full = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    find::<io::Error>(error).is_some_and(|error| full.contains(&error.raw_os_error()))
}

/// More than it takes to call it a day.
const COUNTS_KEPT: usize = 16;
/// In a report; more say nothing more.
const HOSTS_NAMED: usize = 5;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
