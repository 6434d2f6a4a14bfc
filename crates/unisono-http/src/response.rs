//! What came back.

use std::{fmt, future::poll_fn, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use hyper::body::Body as _;
use tokio::time::Instant;
use unisono_batch::Context;
use unisono_core::{Effect, ErrorKind, Peer, clock, format_size, reactor};

use crate::{
    Error, SLOW_WINDOW, Url,
    decode::{Decoded, Decoder},
    fault::{ExchangePhase, body_failed, exchange_failed},
    http2,
    pool::{ConnectionPool, PooledConnection},
    url::Origin,
    verdict::effect_of_broken_body,
};

/// A whole response, decoded.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// The protocol over which it came.
    pub version: Version,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    /// The body without its content coding.
    pub body: Bytes,
    /// Bytes of the body as they came over the wire.
    pub wire_bytes: u64,
    /// How many redirects were followed.
    pub redirects: u8,
}

/// Values of headers and the body are not shown: a cookie or a token may be in any of them.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("version", &self.version)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("url", &self.url)
            .field("body_bytes", &self.body.len())
            .field("wire_bytes", &self.wire_bytes)
            .field("redirects", &self.redirects)
            .finish()
    }
}

/// A response whose body is still to come.
///
/// Dropping it before the end closes an HTTP/1.1 connection, and resets a stream of HTTP/2.
pub struct Streaming {
    /// Its status.
    pub status: StatusCode,
    /// The protocol over which it came.
    pub version: Version,
    /// Its headers, as they came.
    pub headers: HeaderMap,
    /// Where it comes from, after redirects.
    pub url: Url,
    /// How many redirects were followed.
    pub redirects: u8,
    pub(crate) body: ResponseBody,
    /// What it says of the last request that led to it, once it is there in full.
    pub(crate) effect: Effect,
    /// What it says of the row's host.
    pub(crate) peer: Peer,
}

impl Streaming {
    /// The next piece of the body, decoded; `None` at its end.
    ///
    /// # Errors
    /// When the body does not come whole, cannot be decoded or is too large.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.body.chunk().await
    }

    /// Bytes of the body as they have come over the wire so far.
    pub fn wire_bytes(&self) -> u64 {
        self.body.wire_bytes()
    }

    /// So many bytes of the same body have come before, and count like those that are still to come.
    ///
    /// # Errors
    /// When these alone are more than a body may have.
    pub fn continues(&mut self, before: u64) -> Result<(), Error> {
        match &mut self.body {
            ResponseBody::Incoming(body) => body.decoder.count(before),
            // It came in whole elsewhere, where it was counted.
            ResponseBody::Whole { .. } => Ok(()),
        }
    }

    /// As [`Streaming::collect`], of an answer that is a success, telling the context what becomes of it.
    pub(crate) async fn collect_for(mut self, attempt: &Context) -> Result<Response, Error> {
        self.expect_body(attempt);
        let body = self.body.rest().await;
        self.body_ended(attempt, body.as_ref().err());
        Ok(self.with_body(body?))
    }

    /// The body of a success is still to come: what breaks off here leaves open whether its server has done its part.
    pub(crate) fn expect_body(&self, attempt: &Context) {
        attempt.settle(self.effect.min(Effect::Maybe));
    }

    /// The body of a success has ended, as it should or by an error.
    pub fn body_ended(&self, attempt: &Context, error: Option<&Error>) {
        attempt.settle(error.map_or(self.effect, |error| effect_of_broken_body(self.effect, error.kind())));
    }

    /// An answer that is all there already.
    pub(crate) fn whole(response: Response, effect: Effect, peer: Peer) -> Self {
        let Response { status, version, headers, url, body, wire_bytes, redirects } = response;
        let body = ResponseBody::Whole { bytes: Some(body).filter(|body| !body.is_empty()), wire_bytes };
        Self { status, version, headers, url, redirects, body, effect, peer }
    }

    /// Waits for the whole body.
    ///
    /// # Errors
    /// As [`Streaming::chunk`].
    pub async fn collect(mut self) -> Result<Response, Error> {
        let body = self.body.rest().await?;
        Ok(self.with_body(body))
    }

    /// The head alone, as a response without a body.
    pub fn head(&self) -> Response {
        Response {
            status: self.status,
            version: self.version,
            headers: self.headers.clone(),
            url: self.url.clone(),
            body: Bytes::new(),
            wire_bytes: 0,
            redirects: self.redirects,
        }
    }

    /// The answer without a body: it was taken before, or is not wanted.
    pub fn without_body(self) -> Response {
        self.with_body(Bytes::new())
    }

    /// The body of an answer that is no success: whether it comes whole changes nothing.
    pub async fn as_far_as_it_comes(mut self) -> Response {
        let body = self.body.rest().await.unwrap_or_default();
        self.with_body(body)
    }

    fn with_body(self, body: Bytes) -> Response {
        let Self { status, version, headers, url, redirects, body: incoming, .. } = self;
        Response { status, version, headers, url, body, wire_bytes: incoming.wire_bytes(), redirects }
    }

    /// Reads a short rest of the body, so that the connection can be used again.
    pub async fn discard(mut self) {
        while self.body.wire_bytes() < WORTH_READING_BYTES && matches!(self.body.chunk().await, Ok(Some(_))) {}
    }
}

/// A body: on its way, or here already.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and a box would be one more for each")]
pub(crate) enum ResponseBody {
    Incoming(IncomingBody),
    /// What has not been taken of it. It was decoded where it came in.
    Whole {
        bytes: Option<Bytes>,
        wire_bytes: u64,
    },
}

impl ResponseBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Incoming(body) => body.chunk().await,
            Self::Whole { bytes, .. } => Ok(bytes.take()),
        }
    }

    async fn rest(&mut self) -> Result<Bytes, Error> {
        match self {
            Self::Incoming(body) => body.rest().await,
            Self::Whole { bytes, .. } => Ok(bytes.take().unwrap_or_default()),
        }
    }

    fn wire_bytes(&self) -> u64 {
        match self {
            Self::Incoming(body) => body.wire_bytes,
            Self::Whole { wire_bytes, .. } => *wire_bytes,
        }
    }
}

/// What brings a body.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(http2::Http2Body),
}

impl Incoming {
    /// What is still to come, as far as it was announced.
    fn left(&self) -> u64 {
        match self {
            Self::Http1(incoming) => incoming.size_hint().lower(),
            Self::Http2(incoming) => incoming.left(),
        }
    }
}

/// A body on its way.
pub(crate) struct IncomingBody {
    pub(crate) incoming: Incoming,
    pub(crate) decoder: Decoder,
    /// `None` once the body has ended.
    pub(crate) connection: Option<PooledConnection>,
    /// The connection must not be used again.
    pub(crate) condemned: bool,
    pub(crate) pool: Rc<ConnectionPool>,
    pub(crate) origin: Origin,
    pub(crate) wire_bytes: u64,
    /// Boxed, as is all that most requests do without.
    pub(crate) min_throughput: Option<Box<MinThroughput>>,
    pub(crate) budget: ReadBudget,
}

impl IncomingBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.decoder.is_identity() {
            let Some(bytes) = self.data().await? else { return Ok(None) };
            self.decoder.count(bytes.len() as u64)?;
            return Ok(Some(bytes));
        }
        loop {
            self.budget.ready().await;
            match self.decoder.step()? {
                Decoded::Output(bytes) => {
                    self.budget.spend(bytes.len());
                    return Ok(Some(bytes));
                }
                Decoded::Nothing => self.budget.spend(0),
                Decoded::NeedsInput => match self.data().await? {
                    Some(bytes) => self.decoder.feed(bytes)?,
                    None => {
                        self.decoder.end()?;
                        return Ok(None);
                    }
                },
            }
        }
    }

    /// The body as one piece: the first chunk itself when it is the only one.
    async fn rest(&mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let expected = usize::try_from(self.incoming.left()).unwrap_or(0).min(MOST_AHEAD_BYTES);
        let mut whole = Vec::with_capacity(first.len() + second.len() + expected);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }

    /// What came next, as it came; `None` at the end, and from then on.
    async fn data(&mut self) -> Result<Option<Bytes>, Error> {
        while self.connection.is_some() {
            self.budget.ready().await;
            let frame = match self.min_throughput.as_ref().map(|min_throughput| min_throughput.until) {
                None => self.frame().await?,
                Some(until) => match reactor::timeout_at(until, self.frame()).await {
                    Ok(frame) => frame?,
                    Err(_) => {
                        self.next_window()?;
                        continue;
                    }
                },
            };
            match frame {
                None => self.end(),
                Some(bytes) if !bytes.is_empty() => {
                    self.wire_bytes += bytes.len() as u64;
                    self.budget.spend(bytes.len());
                    return Ok(Some(bytes));
                }
                // It costs a turn like any other.
                Some(_) => self.budget.spend(0),
            }
        }
        Ok(None)
    }

    fn next_window(&mut self) -> Result<(), Error> {
        match &mut self.min_throughput {
            Some(min_throughput) => min_throughput.next_window(self.wire_bytes, &self.origin),
            None => Ok(()),
        }
    }

    /// What the next frame brings: nothing, if it is of trailers, which say nothing that was asked for.
    async fn frame(&mut self) -> Result<Option<Bytes>, Error> {
        let Self { incoming, budget, connection, origin, .. } = self;
        let connection = connection.as_mut().expect("the body has not ended");
        poll_fn(|context| {
            let polled = match (&mut *incoming, &mut *connection) {
                (Incoming::Http1(body), PooledConnection::Http1(connection)) => {
                    connection.poll_frame(body, context).map(|frame| {
                        let frame = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
                        frame.transpose().map_err(|error| exchange_failed(error, ExchangePhase::Body, origin))
                    })
                }
                (Incoming::Http2(body), PooledConnection::Http2(connection)) => {
                    http2::poll_data(body, context).map(|data| {
                        data.transpose()
                            .map_err(|error| body_failed(error, body.left(), connection.is_unresponsive(), origin))
                    })
                }
                _ => unreachable!("a body comes over the connection that it was asked for on"),
            };
            if polled.is_pending() {
                budget.begin();
            }
            polled
        })
        .await
    }

    /// Gives back the connection.
    fn end(&mut self) {
        let connection = self.connection.take().expect("a body ends once");
        if let (PooledConnection::Http1(mut connection), false) = (connection, self.condemned)
            && connection.settle()
        {
            self.pool.give_back(&self.origin, connection);
        }
    }
}

/// What a reader may still do before others have their turn. A peer that is quick enough always has something more to
/// read, and a body that expands always something more to give out.
#[derive(Debug)]
pub(crate) struct ReadBudget {
    frames: u16,
    most_frames: u16,
    bytes: u32,
}

impl ReadBudget {
    pub(crate) fn over(connection: &PooledConnection) -> Self {
        let most_frames = match connection {
            PooledConnection::Http1(_) => FRAMES_A_TURN,
            PooledConnection::Http2(_) => HTTP2_FRAMES_A_TURN,
        };
        Self { frames: most_frames, most_frames, bytes: BYTES_A_TURN }
    }

    /// A reader that had to wait begins anew.
    fn begin(&mut self) {
        (self.frames, self.bytes) = (self.most_frames, BYTES_A_TURN);
    }

    /// Notes a frame, or a step of decoding.
    fn spend(&mut self, bytes: usize) {
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Once all is spent, waits for the reactor and all others to have their turn.
    async fn ready(&mut self) {
        if self.frames == 0 || self.bytes == 0 {
            self.begin();
            tokio::task::yield_now().await;
        }
    }
}

/// The slowest that a body may come.
#[derive(Debug)]
pub(crate) struct MinThroughput {
    bytes_per_second: u64,
    until: Instant,
    bytes_before: u64,
}

impl MinThroughput {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, until: Instant::from_std(clock::now() + SLOW_WINDOW), bytes_before: 0 }
    }

    fn next_window(&mut self, bytes: u64, origin: &Origin) -> Result<(), Error> {
        let now = Instant::from_std(clock::now());
        // When this end stood, how fast the other one is was not measured.
        let was_measured = reactor::grace(self.until.into_std(), now.into_std()).is_zero();
        let wanted = self.bytes_per_second.saturating_mul(SLOW_WINDOW.as_secs());
        if was_measured && bytes - self.bytes_before < wanted {
            let slow = format_size(self.bytes_per_second);
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("the body from {origin} comes in slower than {slow} per second"),
            ));
        }
        self.until = self.until.max(now) + SLOW_WINDOW;
        self.bytes_before = bytes;
        Ok(())
    }
}

/// A longer rest costs more than a new connection.
const WORTH_READING_BYTES: u64 = 64 << 10;
/// Memory is set aside for what was announced, but not for more than this before it comes.
const MOST_AHEAD_BYTES: usize = 1 << 20;
/// Some ten microseconds for small frames, and some tens for large ones.
const FRAMES_A_TURN: u16 = 64;
/// These have been taken apart by the connection already, as many in one turn as it reads then; h2 closes a connection
/// when they pile up.
const HTTP2_FRAMES_A_TURN: u16 = 8192;
const BYTES_A_TURN: u32 = 256 << 10;
