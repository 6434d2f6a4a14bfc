//! A stream that is encrypted, and what its server makes of the certificate that it asked for.
//!
//! In TLS 1.3 our side of the handshake is complete before the server has looked at our certificate (RFC 8446, section
//! 4.4.2.4), so that its refusal comes where the answer to a request should. It is still one of the handshake: a server
//! reads no request before it has judged, and asks for no certificate later, since nothing here offers that (section
//! 4.6.2). So an alert of those that only a handshake ends with says that nothing of what was sent was processed, as
//! long as not a byte of application data has come: a server that has begun to speak may mean anything by its alert.
//!
//! The refusal is noted at the socket, where whoever loses a request with this connection looks for it; h2 keeps no
//! more than the text of an error.

use std::{
    io::{self, BufRead, IoSlice, Read},
    pin::Pin,
    task::{Context, Poll},
};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use unisono_core::ErrorKind;

use super::{Socket, Stream};
use crate::{Error, news::Sign};

/// A stream after our side of its handshake.
pub(crate) struct Encrypted {
    stream: TlsStream<Stream>,
    socket: Socket,
    party: Party,
    /// Whether any application data has come.
    has_spoken: bool,
}

/// The two sides of a handshake, as far as an error is about them.
#[derive(Debug, Clone)]
pub(super) struct Party {
    /// Who is at the other end, an origin or a proxy.
    pub(super) named: String,
    /// Whether this side has a certificate to show.
    pub(super) has_identity: bool,
}

impl Encrypted {
    pub(super) fn new(stream: TlsStream<Stream>, socket: Socket, party: Party) -> Self {
        Self { stream, socket, party, has_spoken: false }
    }

    fn note(&mut self, error: &rustls::Error) {
        // What came along with the alert is there to be read, though nobody will.
        let has_more = self.stream.get_mut().1.reader().fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.has_spoken |= has_more;
        if let rustls::Error::AlertReceived(alert) = error
            && ends_a_handshake(*alert)
            && !self.has_spoken
        {
            self.socket.note_refusal(Refusal { party: self.party.clone(), alert: *alert });
        }
    }

    /// A server that refuses closes, and writing may fail before anybody has read why.
    fn look_for_alert(&mut self, cx: &mut Context<'_>) {
        let (below, session) = self.stream.get_mut();
        let mut reader = Reader { below, cx };
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

/// Reads what is there, for a reader that does not wait.
struct Reader<'a, 'b> {
    below: &'a mut Stream,
    cx: &'a mut Context<'b>,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Stream::Plain(socket) = self.below {
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

/// A handshake that the server has ended by an alert.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) party: Party,
    pub(super) alert: AlertDescription,
}

impl Refusal {
    pub(super) fn error(&self) -> Error {
        let Self { party: Party { named, has_identity }, alert } = self;
        let error = Error::new(ErrorKind::Tls, format!("TLS handshake with {named} failed"));
        let error = error.sign(Sign::HandshakeRefused);
        let cause = rustls::Error::AlertReceived(*alert);
        let advice = match (is_of_certificates(*alert), has_identity) {
            (false, _) => return error.with_source(cause),
            (true, false) => "it wants a client certificate (`--cert`, in Python `cert`)",
            (true, true) => "it does not accept the client certificate (`--cert`, in Python `cert`)",
        };
        error.with_source(format!("{advice}: {cause}"))
    }
}

/// Whether an alert is about a certificate that the client has shown, or has not.
fn is_of_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
    )
}

/// Whether a server sends this about a handshake alone (RFC 8446, section 6.2, and RFC 5246, section 7.2.2). Others,
/// such as `internal_error` and `decode_error`, may be about any later record as well.
fn ends_a_handshake(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    let is_of_others = matches!(
        alert,
        Alert::HandshakeFailure
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::ProtocolVersion
            | Alert::InsufficientSecurity
            | Alert::InappropriateFallback
            | Alert::MissingExtension
            | Alert::UnsupportedExtension
            | Alert::CertificateUnobtainable
            | Alert::UnrecognisedName
            | Alert::BadCertificateStatusResponse
            | Alert::BadCertificateHashValue
            | Alert::UnknownPSKIdentity
            | Alert::NoApplicationProtocol
            | Alert::EncryptedClientHelloRequired
    );
    is_of_others || is_of_certificates(alert)
}
