//! A socket, TCP's or Unix's, that its connection reads and writes while others look at it.
//!
//! The pool asks whether the peer has closed it, an HTTP connection whether the kernel took anything of a request, and
//! TLS notes here that the server refused the handshake (`refusal.rs`).

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::{error::Error, refusal::HandshakeRefusal};

/// A socket that a connection reads and writes while a pool may still ask whether the peer has closed it. Clones are of
/// one socket.
#[derive(Clone)]
pub struct Socket(Arc<Mutex<Inner>>);

struct Inner {
    transport: Transport,
    /// What was read since nothing was there, or since others had their turn.
    in_a_row: usize,
    /// Bytes that the kernel has taken.
    written: u64,
    /// Boxed, as nearly no connection has one.
    refusal: Option<Box<HandshakeRefusal>>,
}

enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::over(Transport::Tcp(stream))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::over(Transport::Unix(stream))
    }
}

impl Socket {
    fn over(transport: Transport) -> Self {
        Self(Arc::new(Mutex::new(Inner { transport, in_a_row: 0, written: 0, refusal: None })))
    }

    /// Whether there is nothing to read, not even an end: the state of a connection that waits for a request. Asked
    /// of the kernel, since the reactor learns of a close only when it next polls.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = match &self.lock().transport {
            Transport::Tcp(stream) => rustix::net::recv(stream, &mut byte, flags),
            Transport::Unix(stream) => rustix::net::recv(stream, &mut byte, flags),
        };
        matches!(received, Err(rustix::io::Errno::AGAIN))
    }

    /// Reads what the kernel has, without waiting for it.
    pub(crate) fn read_now(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = match &self.lock().transport {
            Transport::Tcp(stream) => rustix::io::read(stream, bytes),
            Transport::Unix(stream) => rustix::io::read(stream, bytes),
        };
        Ok(read?)
    }

    /// How many bytes the kernel has ever taken: none of a request means that it was not sent.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    pub(crate) fn note_refusal(&self, refusal: HandshakeRefusal) {
        self.lock().refusal = Some(Box::new(refusal));
    }

    /// That a server has ended the handshake after our side of it, and with it everything that was sent on this
    /// connection: it has processed nothing of that.
    pub fn refused(&self) -> Option<Error> {
        self.lock().refusal.as_ref().map(|refusal| refusal.error())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note_written(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.written += *count as u64;
        }
        polled
    }
}

impl AsyncRead for Socket {
    /// A peer that is quick enough never lets a reader wait, and what reads here (hyper, rustls, a proxy's handshake)
    /// reads on as long as it need not wait. So this says now and then that nothing is there, which the kernel still
    /// knows better, and wakes the reader when the reactor and all others have had their turn.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.lock();
        if inner.in_a_row >= READ_IN_A_ROW_BYTES {
            inner.in_a_row = 0;
            // Only puts the waker where tokio keeps the tasks that yield.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = match &mut inner.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        inner.in_a_row = match polled.is_ready() {
            true => inner.in_a_row + READ_COSTS_BYTES + buffer.filled().len() - before,
            false => 0,
        };
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let inner = &mut *self.lock();
        let polled = match &mut inner.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        inner.note_written(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.lock();
        let polled = match &mut inner.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        };
        inner.note_written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Sockets have nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// As much as some thousands of the smallest frames, or a few microseconds of copying.
const READ_IN_A_ROW_BYTES: usize = 64 << 10;
/// A call of the kernel is worth some copying.
const READ_COSTS_BYTES: usize = 1 << 10;
