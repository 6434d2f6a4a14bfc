//! One connection over HTTP/2, which all requests to an origin share.
//!
//! h2 speaks the protocol, and a task drives it. What waits for a stream waits here and not in a queue of h2's, so that
//! until it has one it is certainly unsent, whatever becomes of the connection:
//!
//! 1. Before the peer's SETTINGS say how many streams it takes, one goes out (RFC 9113, section 5.1.2, has no such
//!    bound and recommends that peers take 100; but there are servers that take 8, and one that gets more may take it
//!    for a violation, which fails streams that must not be sent again). They come within a round trip.
//! 2. After GOAWAY nothing new is given to it and what waits is sent away at once; what runs is waited for.
//! 3. A refused stream (REFUSED_STREAM) is about streams and not about the connection: no more go out at once than were
//!    there beside it, and one more again for each round of answers.
//! 4. While streams are open, a peer that does not answer a ping is given up.
//! 5. So is one that allows no streams at all (RFC 9113, section 5.1.2, has that last for short durations only), once
//!    none is open.
//!
//! What was refused or left out is sent again by `client.rs`, which also says how often.

use std::{
    cell::Cell,
    fmt::Display,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, Reason, RecvStream, SendStream,
    client::{Connection, SendRequest},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use unisono_batch::Context as Attempt;
use unisono_core::{Effect, ErrorKind, clock, reactor};
use unisono_net::{ByteStream, Socket};

use crate::{
    Body, Error,
    connection_limit::ConnectionPermit,
    dialer::Dialed,
    fault::{ExchangePhase, is_refused, stream_failed},
    news::Sign,
    upload::BodyReader,
};

/// A connection that carries many requests at once, and of one of its users: a request, or the pool.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    socket: Socket,
    /// Its number among those of its host.
    number: u64,
    counts: Rc<StreamCounts>,
    /// The stream of this user, until its answer has been read.
    stream: Option<OpenStream>,
    _permit: Rc<ConnectionPermit>,
    /// Last, so that the sender is gone when the driver is told.
    users: Arc<Users>,
}

/// What has become of the streams of a connection.
#[derive(Debug, Default)]
pub(crate) struct StreamCounts {
    sent: Cell<usize>,
    unprocessed: Cell<usize>,
    answered: Cell<usize>,
}

impl StreamCounts {
    /// Whether the peer has taken none of what was sent.
    pub(crate) fn took_nothing(&self) -> bool {
        self.sent.get() == self.unprocessed.get()
    }
}

/// What the driver of a connection and its users have in common. The driver is a task, which may be on any thread as
/// far as tokio knows.
struct Shared {
    /// One permit for each stream that may be opened; closed when the connection takes no more.
    streams: Arc<Semaphore>,
    /// Streams that are open.
    open: AtomicUsize,
    /// The most streams, by the peer's SETTINGS.
    allowed: AtomicUsize,
    /// The most streams, by what it has refused.
    borne: AtomicUsize,
    /// Answers since `borne` was changed.
    answers: AtomicUsize,
    /// How many permits there are, given out or not.
    granted: AtomicUsize,
    /// How many more are given out than there should be; they are taken when they come back.
    excess: AtomicUsize,
    is_unused: AtomicBool,
    is_unresponsive: AtomicBool,
    /// It was given up since it allowed no streams.
    allows_none: AtomicBool,
    /// For the driver: the first stream was opened, or all users are gone.
    changed: Notify,
}

/// All users of a connection together.
struct Users(Arc<Shared>);

impl Drop for Users {
    fn drop(&mut self) {
        // Store before notifying: the driver looks at it as soon as it is woken.
        self.0.is_unused.store(true, Relaxed);
        self.0.changed.notify_one();
    }
}

struct OpenStream {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    permit: Option<OwnedSemaphorePermit>,
}

impl OpenStream {
    fn new(shared: Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        if shared.open.fetch_add(1, Relaxed) == 0 {
            shared.changed.notify_one();
        }
        Self { shared, permit: Some(permit) }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Relaxed);
        let is_excess = self.shared.excess.fetch_update(Relaxed, Relaxed, |excess| excess.checked_sub(1)).is_ok();
        if let (true, Some(permit)) = (is_excess, self.permit.take()) {
            // It was one too many: it must not reach a request that waits.
            permit.forget();
        }
    }
}

impl Clone for Http2 {
    /// Another user, without a stream.
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            socket: self.socket.clone(),
            number: self.number,
            counts: self.counts.clone(),
            stream: None,
            _permit: self._permit.clone(),
            users: self.users.clone(),
        }
    }
}

impl Http2 {
    pub(crate) async fn open(
        dialed: Dialed,
        permit: ConnectionPermit,
        number: u64,
        max_header: usize,
        named: &dyn Display,
    ) -> Result<Self, Error> {
        let Dialed { stream, socket, .. } = dialed;
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(BEFORE_SETTINGS)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(max_header).unwrap_or(u32::MAX))
            .handshake(stream)
            .await
            .map_err(|error| {
                let failed = || closed(stream_failed(error, ExchangePhase::Head, false, named), Sign::NewClosed);
                socket.refused().map_or_else(failed, Error::from)
            })?;
        let shared = Arc::new(Shared {
            streams: Arc::new(Semaphore::new(BEFORE_SETTINGS)),
            open: AtomicUsize::new(0),
            allowed: AtomicUsize::new(BEFORE_SETTINGS),
            borne: AtomicUsize::new(MOST_STREAMS),
            answers: AtomicUsize::new(0),
            granted: AtomicUsize::new(BEFORE_SETTINGS),
            excess: AtomicUsize::new(0),
            is_unused: AtomicBool::new(false),
            is_unresponsive: AtomicBool::new(false),
            allows_none: AtomicBool::new(false),
            changed: Notify::new(),
        });
        drop(reactor::spawn(Http2Driver::new(connection, sender.clone(), shared.clone()).run()));
        let (counts, users) = (Rc::default(), Arc::new(Users(shared)));
        Ok(Self { sender, socket, number, counts, stream: None, _permit: Rc::new(permit), users })
    }

    /// Whether it takes no more requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared().streams.is_closed()
    }

    /// Whether it was given up since its peer did not answer a ping.
    pub(crate) fn is_unresponsive(&self) -> bool {
        self.shared().is_unresponsive.load(Relaxed)
    }

    /// Whether it has no open stream, and something came in that was not read yet: it may well be its end.
    pub(crate) fn may_have_ended(&self) -> bool {
        self.shared().open.load(Relaxed) == 0 && !self.socket.is_quiet()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.counts, &other.counts)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What has become of its streams.
    pub(crate) fn counts(&self) -> Rc<StreamCounts> {
        self.counts.clone()
    }

    /// Sends a request when there is a stream for it, and waits for the answer's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
        attempt: &Attempt,
        named: &dyn Display,
    ) -> Result<Response<Http2Body>, Error> {
        let shared = self.shared().clone();
        let Ok(permit) = shared.streams.clone().acquire_owned().await else {
            // The driver closes the semaphore, so nothing of a request that still waits was given to h2.
            if let Some(refused) = self.socket.refused() {
                return Err(refused.into());
            }
            if shared.allows_none.load(Relaxed) {
                let seconds = WITHOUT_STREAMS.as_secs();
                let message = format!(
                    "{named} allowed no request on its connection for {seconds}s (SETTINGS_MAX_CONCURRENT_STREAMS is 0)"
                );
                // Not at once on another one, which would be the same: that is for the next attempt.
                return Err(closed(Error::new(ErrorKind::Closed, message).unprocessed(true), self.sign_of_close()));
            }
            let message = format!("{named} takes no more requests on a connection");
            return Err(closed(
                Error::new(ErrorKind::Closed, message).unprocessed(true).stale(true),
                self.sign_of_close(),
            ));
        };
        // Open before it is handed over: the driver asks by pings only while a stream is open.
        let stream = OpenStream::new(shared.clone(), permit);
        let is_head = request.method() == Method::HEAD;
        // From here on it may be sent, until it is settled that it was not.
        attempt.begin();
        self.counts.sent.set(self.counts.sent.get() + 1);
        let mut upload;
        let answer = match self.hand_over(request) {
            Ok((mut answer, rest)) => {
                upload = rest;
                let answered = poll_fn(|context| {
                    if let Some(Poll::Ready(sent)) = upload.as_mut().map(|upload| upload.poll(context)) {
                        upload = None;
                        if let Err(error) = sent {
                            return Poll::Ready(Err(error));
                        }
                    }
                    Pin::new(&mut answer).poll(context).map(Ok)
                });
                // What is ours to bring was not there: the peer has no part in it.
                answered.await?
            }
            Err(error) => {
                if let Some(refused) = self.refused(attempt) {
                    return Err(refused);
                }
                let error = stream_failed(error, ExchangePhase::Head, false, named).unprocessed(true).stale(true);
                return Err(self.unprocessed(error, attempt));
            }
        };
        match answer {
            Ok(answer) => {
                self.counts.answered.set(self.counts.answered.get() + 1);
                shared.note_answer();
                self.stream = Some(stream);
                let (head, body) = answer.into_parts();
                // A server that has said no has no use for the rest.
                let upload = upload.filter(|_| head.status.is_success());
                let body = Http2Body { upload, ..Http2Body::new(body, &head, is_head) };
                Ok(Response::from_parts(head, body))
            }
            Err(error) => {
                if let Some(refused) = self.refused(attempt) {
                    return Err(refused);
                }
                let (was_refused, is_of_stream) = (is_refused(&error), error.is_reset());
                let error = stream_failed(error, ExchangePhase::Head, self.is_unresponsive(), named);
                if !error.is_unprocessed() {
                    // It may just have been closed for idling.
                    let was_used = self.counts.answered.get() > 0;
                    return Err(closed(error, self.sign_of_close()).stale(was_used && !is_of_stream));
                }
                if was_refused {
                    // While its permit is still given out, or one of the requests that wait would get it.
                    shared.note_refusal();
                }
                drop(stream);
                Err(self.unprocessed(error, attempt))
            }
        }
    }

    /// How many streams are open beside this user's.
    pub(crate) fn others(&self) -> usize {
        self.shared().open.load(Relaxed) - usize::from(self.stream.is_some())
    }

    /// Returns the answer to come, and what is still to be sent.
    fn hand_over(
        &self,
        request: Request<Body>,
    ) -> Result<(h2::client::ResponseFuture, Option<Box<Http2Upload>>), h2::Error> {
        let (mut head, body) = request.into_parts();
        let has_length = !body.is_empty() || matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        if let (true, Some(length)) = (has_length, body.length()) {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // A sender has at most one stream that is not open yet.
        let (answer, mut stream) = self.sender.clone().send_request(Request::from_parts(head, ()), body.is_empty())?;
        let mut rest = None;
        match body.as_bytes() {
            Some(bytes) if bytes.is_empty() => {}
            // All of it is in memory anyway. What fails here is told by the answer.
            Some(bytes) => _ = stream.send_data(bytes.clone(), true),
            None => {
                rest = Some(Box::new(Http2Upload { reader: BodyReader::new(body), stream, piece: Bytes::new() }));
            }
        }
        Ok((answer, rest))
    }

    /// That TLS was refused, for a request that was sent over it: another connection would be as well.
    fn refused(&self, attempt: &Attempt) -> Option<Error> {
        let refused = self.socket.refused()?;
        attempt.settle(Effect::None);
        Some(refused.into())
    }

    fn unprocessed(&self, error: Error, attempt: &Attempt) -> Error {
        self.counts.unprocessed.set(self.counts.unprocessed.get() + 1);
        attempt.settle(Effect::None);
        closed(error, self.sign_of_close())
    }

    fn sign_of_close(&self) -> Sign {
        if self.counts.answered.get() > 0 { Sign::UsedClosed } else { Sign::NewClosed }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.users.0
    }
}

/// Says what it is a sign of that a connection ended, unless there is something better to say.
fn closed(error: Error, sign: Sign) -> Error {
    let says_nothing = error.peer() == unisono_core::Peer::Unknown && error.kind() == ErrorKind::Closed;
    if says_nothing { error.sign(sign) } else { error }
}

impl Shared {
    /// A stream was refused: those beside it were not.
    fn note_refusal(&self) {
        self.borne.store((self.open.load(Relaxed) - 1).max(1), Relaxed);
        self.answers.store(0, Relaxed);
        self.grant();
    }

    fn note_answer(&self) {
        let borne = self.borne.load(Relaxed);
        if borne < MOST_STREAMS && self.answers.fetch_add(1, Relaxed) >= borne {
            self.answers.store(0, Relaxed);
            self.borne.store(borne + 1, Relaxed);
            self.grant();
        }
    }

    /// Has as many permits in the world as there may be streams.
    fn grant(&self) {
        let most = self.allowed.load(Relaxed).min(self.borne.load(Relaxed)).min(MOST_STREAMS);
        let granted = self.granted.swap(most, Relaxed);
        if most > granted {
            let more = most - granted;
            // Permits that were to be taken back stay out instead.
            let excess = self.excess.load(Relaxed);
            self.excess.store(excess.saturating_sub(more), Relaxed);
            self.streams.add_permits(more.saturating_sub(excess));
        } else if most < granted {
            let fewer = granted - most;
            // What is given out cannot be taken back now; `OpenStream` does it when it ends.
            let forgotten = self.streams.forget_permits(fewer);
            self.excess.fetch_add(fewer - forgotten, Relaxed);
        }
    }
}

/// The next piece of an answer's body; `None` at its end.
pub(crate) fn poll_data(body: &mut Http2Body, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
    if let Some(Poll::Ready(_)) = body.upload.as_mut().map(|upload| upload.poll(context)) {
        // Where it has failed, the stream was reset, which its answer tells.
        body.upload = None;
    }
    let data = ready!(body.stream.poll_data(context));
    Poll::Ready(match data {
        Some(Ok(bytes)) => {
            body.left = body.left.map(|left| left.saturating_sub(bytes.len() as u64));
            // Fails only where the stream is over.
            let _ = body.stream.flow_control().release_capacity(bytes.len());
            Some(Ok(bytes))
        }
        // Only END_STREAM ends an answer, unless its head says that it is there already: then a server may wish for no
        // more of the request (RFC 9113, section 8.1), or be gone. Whatever else ends a stream, be it NO_ERROR, breaks
        // it off.
        Some(Err(error)) if body.left == Some(0) && !is_fault(&error) => None,
        data => data,
    })
}

/// Whether this end of a stream says that something went wrong, and not just that there will be no more.
fn is_fault(error: &h2::Error) -> bool {
    !error.is_io() && error.reason() != Some(Reason::NO_ERROR)
}

/// The body of an answer.
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// What is missing of it by its own head; `None` when only the stream's end will tell.
    left: Option<u64>,
    /// What is still going out of the request.
    upload: Option<Box<Http2Upload>>,
}

impl Http2Body {
    fn new(stream: RecvStream, head: &http::response::Parts, is_head: bool) -> Self {
        // RFC 9110, section 6.4.1: these have none, whatever length they name.
        let is_empty = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        Self { stream, left: if is_empty { Some(0) } else { length() }, upload: None }
    }

    /// What is still to come, as far as it was announced.
    pub(crate) fn left(&self) -> u64 {
        self.left.unwrap_or(0)
    }
}

/// A body on its way out, as much at a time as the peer's window takes.
struct Http2Upload {
    reader: BodyReader,
    stream: SendStream<Bytes>,
    /// What the window had no room for.
    piece: Bytes,
}

impl Http2Upload {
    /// Ready when all of it was given to the connection, or the stream has ended, of which its answer tells.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.piece.is_empty() {
                match ready!(self.reader.poll_piece(context)) {
                    Some(Ok(piece)) => self.piece = piece,
                    Some(Err(error)) => {
                        self.stream.send_reset(Reason::CANCEL);
                        return Poll::Ready(Err(error));
                    }
                    None => {
                        let _ = self.stream.send_data(Bytes::new(), true);
                        return Poll::Ready(Ok(()));
                    }
                }
                self.stream.reserve_capacity(self.piece.len());
            }
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Ok(())),
                }
            }
            let piece = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
            if self.stream.send_data(piece, false).is_err() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Drives a connection until it has ended, or its last user is gone.
struct Http2Driver {
    connection: Connection<ByteStream, Bytes>,
    pings: h2::PingPong,
    /// Asked whether there was a GOAWAY. As long as it is there, the connection does not end by itself.
    scout: Option<SendRequest<Bytes>>,
    shared: Arc<Shared>,
    ping: Pings,
    /// When a peer that allows no streams is given up.
    without_streams: Option<Instant>,
}

/// Whether the peer is asked if it is there.
enum Pings {
    /// There is no stream for which it would matter.
    Idle,
    /// It will be.
    Due(Instant),
    /// It was, and has to answer by then.
    Sent { answer_by: Instant },
}

enum DriverEvent {
    Ended,
    Answered,
    Changed,
}

impl Http2Driver {
    fn new(mut connection: Connection<ByteStream, Bytes>, scout: SendRequest<Bytes>, shared: Arc<Shared>) -> Self {
        let pings = connection.ping_pong().expect("it is taken once");
        Self { connection, pings, scout: Some(scout), shared, ping: Pings::Idle, without_streams: None }
    }

    async fn run(mut self) {
        loop {
            let due = match self.ping {
                Pings::Idle => None,
                Pings::Due(due) | Pings::Sent { answer_by: due } => Some(due),
            };
            let event = match due.into_iter().chain(self.without_streams).min() {
                None => Ok(self.next().await),
                Some(due) => reactor::timeout_at(due, self.next()).await,
            };
            let is_busy = self.shared.open.load(Relaxed) > 0;
            if event.is_err() && self.without_streams.is_some_and(|until| until <= Instant::from_std(clock::now())) {
                if !is_busy {
                    // Before the semaphore is closed: what waits for a stream is told why there is none.
                    self.shared.allows_none.store(true, Relaxed);
                    break;
                }
                self.without_streams = Some(Instant::from_std(clock::now()) + WITHOUT_STREAMS);
                continue;
            }
            match (event, &self.ping) {
                (Ok(DriverEvent::Ended), _) => break,
                (Err(_), Pings::Sent { .. }) => {
                    self.shared.is_unresponsive.store(true, Relaxed);
                    break;
                }
                (Err(_), _) if is_busy => match self.pings.send_ping(Ping::opaque()) {
                    Ok(()) => self.ping = Pings::Sent { answer_by: Instant::from_std(clock::now()) + PING_TIMEOUT },
                    Err(_) => self.ping = Pings::Idle,
                },
                (Err(_), _) => self.ping = Pings::Idle,
                (Ok(DriverEvent::Answered), _) => self.ping = Pings::Due(Instant::from_std(clock::now()) + PING_EVERY),
                (Ok(DriverEvent::Changed), Pings::Idle) if is_busy => {
                    self.ping = Pings::Due(Instant::from_std(clock::now()) + PING_EVERY)
                }
                (Ok(DriverEvent::Changed), _) => {}
            }
        }
        // Before the connection is dropped, which tells those whose streams are open.
        self.shared.streams.close();
    }

    async fn next(&mut self) -> DriverEvent {
        let shared = self.shared.clone();
        // It keeps one notification, so a change between two rounds is not lost.
        let mut changed = pin!(shared.changed.notified());
        poll_fn(|context| self.poll(changed.as_mut(), context)).await
    }

    fn poll(&mut self, changed: Pin<&mut impl Future>, context: &mut Context<'_>) -> Poll<DriverEvent> {
        if self.shared.is_unused.load(Relaxed) {
            self.scout = None;
        }
        if Pin::new(&mut self.connection).poll(context).is_ready() {
            return Poll::Ready(DriverEvent::Ended);
        }
        // After the poll, which may have brought a GOAWAY or SETTINGS.
        self.look_for_go_away();
        self.shared.allowed.store(self.connection.max_concurrent_send_streams(), Relaxed);
        self.shared.grant();
        let allows_none = self.shared.allowed.load(Relaxed) == 0;
        if allows_none != self.without_streams.is_some() {
            self.without_streams = allows_none.then(|| Instant::from_std(clock::now()) + WITHOUT_STREAMS);
            return Poll::Ready(DriverEvent::Changed);
        }
        if matches!(self.ping, Pings::Sent { .. }) && self.pings.poll_pong(context).is_ready() {
            return Poll::Ready(DriverEvent::Answered);
        }
        changed.poll(context).map(|_| DriverEvent::Changed)
    }

    fn look_for_go_away(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if self.scout.as_mut().is_some_and(|scout| matches!(scout.poll_ready(&mut context), Poll::Ready(Err(_)))) {
            self.scout = None;
            self.shared.streams.close();
        }
    }
}

/// See rule 1.
const BEFORE_SETTINGS: usize = 1;
/// More than any client has.
const MOST_STREAMS: usize = 1 << 20;
/// Large enough that a body of some size does not wait for a round trip.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Longer than a server takes to make room, and short beside the deadline of a row.
const WITHOUT_STREAMS: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
