//! One connection over HTTP/1.1, which carries one request at a time.
//!
//! It is polled by the request that uses it, not by a task of its own, which saves two wake-ups per request. A request
//! of which the kernel took no byte was certainly not sent, whatever hyper made of it.

use std::{
    fmt::Display,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body as _, Frame, Incoming},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use unisono_batch::Context as Attempt;
use unisono_core::{Effect, ErrorKind, Peer, clock};
use unisono_net::{ByteStream, Socket};

use crate::{
    Body, Error,
    connection_limit::ConnectionPermit,
    dialer::Dialed,
    fault::{ExchangePhase, exchange_failed},
    framing::MOST_HEADERS,
    keep_alive,
    news::Sign,
    upload::{Outgoing, UploadState},
};

type Http1Driver = http1::Connection<TokioIo<ByteStream>, Outgoing>;

/// A connection that carries one request at a time.
pub(crate) struct Http1 {
    sender: http1::SendRequest<Outgoing>,
    /// `None` once it has ended.
    driver: Option<Pin<Box<Http1Driver>>>,
    socket: Socket,
    is_tls: bool,
    pub(crate) was_used: bool,
    pub(crate) idle_since: Instant,
    /// For how long its server says that it can be used after that, with time for the way; `None` when it does not say.
    pub(crate) usable_for: Option<Duration>,
    /// The body that was still going out when its answer began.
    upload: Option<Rc<UploadState>>,
    _permit: ConnectionPermit,
}

impl Http1 {
    pub(crate) async fn open(
        dialed: Dialed,
        permit: ConnectionPermit,
        max_header: usize,
        named: &dyn Display,
    ) -> Result<Self, Error> {
        let Dialed { stream, socket, .. } = dialed;
        let is_tls = matches!(stream, ByteStream::Tls(_));
        let (sender, driver) = http1::Builder::new()
            .max_headers(MOST_HEADERS)
            .max_buf_size(max_header.max(SMALLEST_BUFFER_BYTES))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| exchange_failed(error, ExchangePhase::Head, named))?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(driver)),
            socket,
            is_tls,
            was_used: false,
            idle_since: clock::now(),
            usable_for: None,
            upload: None,
            _permit: permit,
        })
    }

    /// Whether it can take a request now.
    pub(crate) fn is_usable(&mut self) -> bool {
        if self.driver.is_none() || !self.sender.is_ready() {
            return false;
        }
        // Over TLS what waits may be a session ticket; only the driver can tell.
        self.socket.is_quiet()
            || (self.is_tls
                && self.poll_driver(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
                && self.sender.is_ready())
    }

    /// Sends a request and waits for the answer's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
        attempt: &Attempt,
        named: &dyn Display,
    ) -> Result<Response<Incoming>, Error> {
        let was_used = std::mem::replace(&mut self.was_used, true);
        // Read before the request is given to hyper, which writes at the first poll of the driver.
        let written = self.socket.written();
        attempt.begin();
        let (head, body) = request.into_parts();
        let (body, upload) = Outgoing::new(body);
        let mut answer = pin!(self.sender.try_send_request(Request::from_parts(head, body)));
        let driver = &mut self.driver;
        let result = poll_fn(|context| {
            // The request is taken up by the first poll of the driver, and the answer is there after its last.
            let _ = poll_and_drop(driver, context);
            answer.as_mut().poll(context)
        })
        .await;
        let taken = self.socket.written() != written;
        match result {
            Ok(answer) => {
                self.usable_for = keep_alive::usable_for(answer.headers());
                if let Some(upload) = upload.filter(|upload| !upload.is_done()) {
                    if !answer.status().is_success() {
                        upload.stop();
                    }
                    self.upload = Some(upload);
                }
                Ok(answer)
            }
            Err(error) => Err(match self.socket.refused() {
                Some(refused) => {
                    attempt.settle(Effect::None);
                    refused.into()
                }
                None => send_failed(error, was_used, taken, attempt, named),
            }),
        }
    }

    /// The next frame of an answer's body.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let _ = self.poll_driver(context);
        Pin::new(body).poll_frame(context)
    }

    /// After an answer's end: whether the connection can be kept.
    pub(crate) fn settle(&mut self) -> bool {
        // One more poll lets the driver see what follows the answer: an end, or bytes that no request asked for.
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.poll_driver(&mut context).is_pending()
            && self.sender.is_ready()
            && self.upload.take().is_none_or(|upload| upload.is_done())
    }

    fn poll_driver(&mut self, context: &mut Context<'_>) -> Poll<()> {
        poll_and_drop(&mut self.driver, context)
    }
}

/// Polls a driver and drops it when it has ended, so that the request that waits for its answer learns of it.
fn poll_and_drop(driver: &mut Option<Pin<Box<Http1Driver>>>, context: &mut Context<'_>) -> Poll<()> {
    let Some(running) = driver else { return Poll::Ready(()) };
    match running.as_mut().poll(context) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => {
            // Its error went to the request that it was for; without one, it is of no interest.
            *driver = None;
            Poll::Ready(())
        }
    }
}

/// `taken` says whether the kernel has taken anything of the request.
fn send_failed(
    mut error: TrySendError<Request<Outgoing>>,
    was_used: bool,
    taken: bool,
    attempt: &Attempt,
    named: &dyn Display,
) -> Error {
    let never_sent = error.take_message().is_some() || !taken;
    if never_sent {
        attempt.settle(Effect::None);
    }
    let error = exchange_failed(error.into_error(), ExchangePhase::Head, named).unprocessed(never_sent);
    // Not sent, or perhaps just closed for idling: another connection may do better at once.
    let error = error.stale(never_sent || was_used);
    match error.peer() == Peer::Unknown && error.kind() == ErrorKind::Closed {
        true => error.sign(if was_used { Sign::UsedClosed } else { Sign::NewClosed }),
        false => error,
    }
}

/// The least that hyper takes.
const SMALLEST_BUFFER_BYTES: usize = 8192;
