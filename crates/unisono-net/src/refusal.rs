//! What a server makes of the certificate that it asked for.
//!
//! In TLS 1.3 our side of the handshake is complete before the server has looked at our certificate (RFC 8446, section
//! 4.4.2.4), so that its refusal comes where the answer to a request should. It is still one of the handshake: a server
//! reads no request before it has judged, and asks for no certificate later, since nothing here offers that (section
//! 4.6.2). So an alert of those that only a handshake ends with says that nothing of what was sent was processed, as
//! long as not a byte of application data has come: a server that has begun to speak may mean anything by its alert.
//!
//! The refusal is noted at the socket, where the request that is lost with this connection looks for it; h2
//! keeps no more than the text of an error.

use rustls::AlertDescription;
use unisono_core::ErrorKind;

use crate::{error::Error, failure::DialFailure};

/// A handshake that the server has ended by an alert.
#[derive(Debug, Clone)]
pub(crate) struct HandshakeRefusal {
    pub(crate) party: Party,
    pub(crate) alert: AlertDescription,
}

impl HandshakeRefusal {
    pub(crate) fn error(&self) -> Error {
        let Self { party: Party { named, has_identity }, alert } = self;
        let error = Error::new(ErrorKind::Tls, format!("TLS handshake with {named} failed"));
        let error = error.met(DialFailure::HandshakeRefused);
        let cause = rustls::Error::AlertReceived(*alert);
        let advice = match (is_of_certificates(*alert), has_identity) {
            (false, _) => return error.with_source(cause),
            (true, false) => "it wants a client certificate (`--cert`, in Python `cert`)",
            (true, true) => "it does not accept the client certificate (`--cert`, in Python `cert`)",
        };
        error.with_source(format!("{advice}: {cause}"))
    }
}

/// The two sides of a handshake, as far as an error is about them.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    /// What errors call the other end, an origin or a proxy.
    pub(crate) named: String,
    /// Whether this side has a certificate to show.
    pub(crate) has_identity: bool,
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
pub(crate) fn ends_a_handshake(alert: AlertDescription) -> bool {
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
