//! Runs requests as a batch, as `unisono fetch` does, and tells how each ended.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod server_thread;

use std::{
    cell::RefCell,
    io::Write,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method};
use unisono_batch::{
    Attempt, Batch, Context, Decided, Halt, Job, Monitor, Offer, Pull, Settings, Sink, Source, Verdict, drive,
};
use unisono_core::{CancelToken, Effect, ErrorKind, Limits, OutcomeKind, Peer, RetryPolicy, Times};
use unisono_http::{
    AttemptClassifier, AttemptResult, Client, ClientOptions, HttpVersion, IDEMPOTENCY_KEY, NoProxy, Proxies, Proxy,
    Request, Trail,
};
use unisono_testkit::{Connection, Server, h2};

pub use server_thread::ServerThread;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    pub kind: OutcomeKind,
    pub effect: Effect,
    pub error: Option<ErrorKind>,
    pub message: String,
    pub status: Option<u16>,
    pub body: Bytes,
    pub attempts: u16,
    pub may_resume: bool,
    pub peer: Peer,
}

impl Out {
    pub fn is_ok(&self) -> bool {
        self.kind == OutcomeKind::Ok
    }
}

pub fn get(url: impl AsRef<str>) -> Request {
    Request::get(url.as_ref()).unwrap()
}

pub fn post(url: impl AsRef<str>) -> Request {
    let mut request = get(url);
    request.method = Method::POST;
    request.body = "body".into();
    request
}

/// A POST with a key, which is as repeatable as a GET.
pub fn keyed(url: impl AsRef<str>) -> Request {
    let mut request = post(url);
    request.headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k"));
    request
}

pub fn options() -> ClientOptions {
    ClientOptions { proxies: Proxies::default(), ..ClientOptions::default() }
}

/// Options that go through this proxy.
pub fn through(proxy: &str) -> ClientOptions {
    ClientOptions { proxies: Proxies::all(Proxy::parse(proxy).unwrap(), NoProxy::default()), ..options() }
}

pub fn settings() -> Settings {
    let limits = Limits::new(50.try_into().ok(), None);
    Settings { limits, times: Times::default(), retry: RetryPolicy::default(), ordered_by_key: false }
}

pub fn without_retries() -> Settings {
    Settings { retry: RetryPolicy::never(), ..settings() }
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One request, with everything by default.
pub async fn one(request: Request) -> Out {
    run(vec![request], options(), settings()).await.remove(0)
}

/// One request, never repeated.
pub async fn once(request: Request) -> Out {
    run(vec![request], options(), without_retries()).await.remove(0)
}

/// All requests as one batch; their outcomes in the order of the requests.
pub async fn run(requests: Vec<Request>, options: ClientOptions, settings: Settings) -> Vec<Out> {
    let client = Client::new(options).unwrap();
    run_with(&client, requests, settings).await
}

/// The same, with a client that may have been used before.
pub async fn run_with(client: &Client, requests: Vec<Request>, settings: Settings) -> Vec<Out> {
    run_job(&AttemptClassifier::new(client.clone()), requests, settings).await
}

/// The same, with a job, whose relay is the caller's.
pub async fn run_job(job: &AttemptClassifier, requests: Vec<Request>, settings: Settings) -> Vec<Out> {
    run_calls(Calls { job: job.clone(), is_heard: false }, requests, settings).await
}

/// As [`run`], where the engine is told what each attempt says of its host.
pub async fn run_heard(requests: Vec<Request>, options: ClientOptions, settings: Settings) -> Vec<Out> {
    let job = AttemptClassifier::new(Client::new(options).unwrap());
    run_calls(Calls { job, is_heard: true }, requests, settings).await
}

async fn run_calls(job: Calls, requests: Vec<Request>, settings: Settings) -> Vec<Out> {
    let count = requests.len();
    let outs = Rc::new(RefCell::new(vec![None; count]));
    let source = Given(requests.into_iter().enumerate().collect::<Vec<_>>().into_iter());
    let sink = Collect(outs.clone());
    drive(job, Batch { settings, source, sink, cancel: CancelToken::new(), monitor: Monitor::new() }).await;
    outs.take().into_iter().map(|out| out.expect("every request has an outcome")).collect()
}

struct Calls {
    job: AttemptClassifier,
    is_heard: bool,
}

impl Job for Calls {
    type Item = (usize, Request, Trail);
    type Value = AttemptResult;

    async fn attempt(&self, item: Rc<Self::Item>, context: Context) -> Attempt<Self::Item, AttemptResult> {
        let (verdict, pause_until, reply) = self.job.attempt(&item.1, &item.2, &context).await;
        Attempt { pause_until, ..Attempt::new(verdict, reply) }
    }

    fn halted(&self, item: &Self::Item, halt: Halt, last: Option<AttemptResult>) -> (Verdict, AttemptResult) {
        self.job.halted(&item.1, &item.2, &halt, last)
    }

    fn peer(&self, reply: &AttemptResult) -> Peer {
        if self.is_heard { reply.peer } else { Peer::Unknown }
    }
}

struct Given(std::vec::IntoIter<(usize, Request)>);

impl Source for Given {
    type Item = (usize, Request, Trail);

    fn poll_pull(&mut self, _: &mut TaskContext<'_>, max: usize, into: &mut Vec<Offer<Self::Item>>) -> Poll<Pull> {
        let items = self.0.by_ref().take(max).map(|(number, request)| (number, request, Trail::default()));
        into.extend(items.map(|item| Offer { key: item.1.url.authority().into(), item }));
        Poll::Ready(if into.is_empty() { Pull::End } else { Pull::More })
    }
}

struct Collect(Rc<RefCell<Vec<Option<Out>>>>);

impl Sink<Calls> for Collect {
    fn deliver(&mut self, decided: &mut Vec<Decided<Calls>>) {
        for one in decided.drain(..) {
            let reply = one.value;
            let out = Out {
                kind: one.kind,
                effect: one.effect,
                error: reply.error.as_ref().map(unisono_http::Error::kind),
                message: reply.error.as_ref().map(unisono_http::Error::chain).unwrap_or_default(),
                status: reply.response.as_ref().map(|response| response.status.as_u16()),
                body: reply.response.map(|response| response.body).unwrap_or_default(),
                attempts: one.attempts,
                may_resume: reply.retry_at.is_some(),
                peer: reply.peer,
            };
            let before = self.0.borrow_mut()[one.item.0].replace(out);
            assert!(before.is_none(), "a request has one outcome");
        }
    }

    fn poll_credit(&mut self, _: &mut TaskContext<'_>) -> usize {
        usize::MAX
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The moments at which something happened, by the paused clock.
#[derive(Debug, Clone, Default)]
pub struct Clock(std::sync::Arc<std::sync::Mutex<Vec<Instant>>>);

impl Clock {
    pub fn tick(&self) {
        self.0.lock().unwrap().push(unisono_core::clock::now());
    }

    /// Time from the first to each.
    pub fn since_first(&self) -> Vec<Duration> {
        let ticks = self.0.lock().unwrap();
        ticks.iter().map(|tick| *tick - ticks[0]).collect()
    }
}

/// Options that speak HTTP/2 from the first byte.
pub fn http2() -> ClientOptions {
    ClientOptions { version: HttpVersion::Http2, ..options() }
}

/// Begins each connection of HTTP/2 and does what the script says with it.
pub async fn server_h2<F, R>(settings: &'static [(u16, u32)], script: F) -> Server
where
    F: Fn(Connection) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let script = Arc::new(script);
    Server::start(move |mut connection| {
        let script = script.clone();
        async move {
            h2::begin(&mut connection, settings).await;
            script(connection).await;
        }
    })
    .await
}

/// Reads the greeting of a SOCKS client, asks for a name and a password, and reads them; the reply to them is left to
/// the test. None when the client hung up before (RFC 1928, section 3; RFC 1929, section 2).
pub async fn socks_login(connection: &mut Connection) -> Option<()> {
    let greeting = connection.bytes(2).await?;
    connection.bytes(greeting[1].into()).await?;
    connection.send([5, 2]).await;
    let head = connection.bytes(2).await?;
    connection.bytes(head[1].into()).await?;
    let length = connection.bytes(1).await?;
    connection.bytes(length[0].into()).await?;
    Some(())
}
