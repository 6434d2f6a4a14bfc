//! A byte stream, whatever carries it: a socket, or TLS over another such stream.
//!
//! A stream that is encrypted looks for what its server makes of our certificate (`refusal.rs`), and notes it at the
//! socket.

use std::{
    io::{self, BufRead, IoSlice, Read},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::{
    refusal::{HandshakeRefusal, Party, ends_a_handshake},
    socket::Socket,
};

/// Bytes both ways, to the far end or to a proxy.
pub enum ByteStream {
    /// Bytes as they are.
    Plain(Socket),
    /// Encrypted; what is below may be encrypted itself, to a proxy.
    Tls(Box<Encrypted>),
}

/// A stream after our side of its handshake.
pub struct Encrypted {
    stream: TlsStream<ByteStream>,
    socket: Socket,
    party: Party,
    /// Whether any application data has come.
    has_spoken: bool,
}

impl Encrypted {
    pub(crate) fn new(stream: TlsStream<ByteStream>, socket: Socket, party: Party) -> Self {
        Self { stream, socket, party, has_spoken: false }
    }

    fn note(&mut self, error: &rustls::Error) {
        // What came along with the alert is there to be read, though nothing will read it.
        let has_more = self.stream.get_mut().1.reader().fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.has_spoken |= has_more;
        if let rustls::Error::AlertReceived(alert) = error
            && ends_a_handshake(*alert)
            && !self.has_spoken
        {
            self.socket.note_refusal(HandshakeRefusal { party: self.party.clone(), alert: *alert });
        }
    }

    /// A server that refuses closes, and writing may fail before the reason has been read.
    fn look_for_alert(&mut self, cx: &mut Context<'_>) {
        let (below, session) = self.stream.get_mut();
        let mut reader = AvailableBytes { below, cx };
        while session.read_tls(&mut reader).is_ok_and(|read| read > 0) {
            if let Err(error) = session.process_new_packets() {
                return self.note(&error);
            }
        }
    }

    fn note_written<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.has_spoken && matches!(polled, Poll::Ready(Err(_))) {
            self.look_for_alert(cx);
        }
        polled
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.has_spoken |= buffer.filled().len() > before;
        if let Poll::Ready(Err(error)) = &polled
            && let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref())
        {
            self.note(error);
        }
        polled
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_written(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note_written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_written(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Reads what is there, for a reader that does not wait.
struct AvailableBytes<'a, 'b> {
    below: &'a mut ByteStream,
    cx: &'a mut Context<'b>,
}

impl Read for AvailableBytes<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let ByteStream::Plain(socket) = self.below {
            // The kernel, since the reactor may learn only at its next turn that there is something to read.
            return socket.read_now(bytes);
        }
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.below).poll_read(self.cx, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
