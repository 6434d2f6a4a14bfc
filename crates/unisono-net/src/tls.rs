//! TLS, by rustls.
//!
//! The configuration is made when the first https address is met: reading the platform's roots takes milliseconds
//! that a run over plain http need not spend.

use std::{
    cell::{OnceCell, RefCell},
    fmt, io,
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio_rustls::TlsConnector;
use unisono_core::{ErrorKind, Secret};

use crate::{
    endpoint::Endpoint,
    error::Error,
    failure::DialFailure,
    refusal::{HandshakeRefusal, Party},
    socket::Socket,
    stream::{ByteStream, Encrypted},
};

/// Which certificates to trust, and the one to show.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Trust these certificates (PEM) and no others; empty: those that the platform trusts.
    pub roots: Vec<Vec<u8>>,
    /// Our certificate chain and its key (PEM).
    pub identity: Option<ClientCertificate>,
    /// Trust any certificate. For tests only: it gives up what TLS is for.
    pub insecure: bool,
}

/// What a peer's certificate is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: any certificate is trusted.
    Any,
    /// The certificates that were given, so many.
    Given(usize),
    /// What the platform trusts: its store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    Platform,
    /// The roots of the web that are built in, since the platform has none of use, and why.
    BuiltIn(String),
}

impl Tls {
    /// What handshakes would trust now.
    ///
    /// # Errors
    /// When a certificate that was given is none.
    pub fn trust(&self) -> Result<Trust, Error> {
        if self.insecure {
            return Ok(Trust::Any);
        }
        if let Some(roots) = roots(&self.roots)? {
            return Ok(Trust::Given(roots.len()));
        }
        Ok(match platform_verifier(Arc::new(ring::default_provider())) {
            Ok(_) => Trust::Platform,
            Err(error) => Trust::BuiltIn(error.to_string()),
        })
    }
}

/// A client certificate.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The chain, in PEM.
    pub chain: Vec<u8>,
    /// The private key, in PEM.
    pub key: Secret,
}

/// The protocols to offer in a handshake (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alpn {
    /// Their ids, the preferred one first.
    pub offered: &'static [&'static [u8]],
    /// What errors call them, where a peer that takes none of them is of no use.
    pub required: Option<&'static str>,
}

/// What handshakes are made with.
pub(crate) struct TlsContext {
    roots: Option<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    insecure: bool,
    /// Without protocols to offer.
    config: OnceCell<Result<Arc<ClientConfig>, String>>,
    /// The same for each offer that was made: an endpoint and a proxy on the way to it may speak different protocols.
    offers: RefCell<Vec<(Alpn, Arc<ClientConfig>)>>,
}

impl TlsContext {
    /// Reads certificates and key, so that a mistake in them is known before anything is sent.
    pub(crate) fn new(tls: &Tls) -> Result<Self, Error> {
        let identity = match &tls.identity {
            None => None,
            Some(identity) => {
                let chain = certificates(&identity.chain)?;
                let key = PrivateKeyDer::from_pem_slice(identity.key.reveal().as_bytes()).map_err(|error| {
                    Error::new(ErrorKind::Input, "the client key is not a private key in PEM").with_source(error)
                })?;
                Some((chain, key))
            }
        };
        let (roots, insecure) = (roots(&tls.roots)?, tls.insecure);
        let setup = Self { roots, identity, insecure, config: OnceCell::new(), offers: RefCell::default() };
        if setup.identity.is_some() {
            // Whether the key belongs to the certificate.
            setup.config()?;
        }
        Ok(setup)
    }

    /// Shakes hands; returns the id of the protocol that both sides want.
    pub(crate) async fn handshake(
        &self,
        stream: ByteStream,
        socket: &Socket,
        to: Endpoint<'_>,
        alpn: Alpn,
    ) -> Result<(ByteStream, Option<&'static [u8]>), Error> {
        let Endpoint { host, named, .. } = to;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            Error::new(ErrorKind::Tls, format!("`{host}` is not a name that a certificate can have")).with_source(error)
        })?;
        let party = Party { named: named.to_string(), has_identity: self.identity.is_some() };
        let connected = TlsConnector::from(self.offering(alpn)?).connect(name, stream).await;
        let stream = connected.map_err(|error| failed(error, &party))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        let protocol = alpn.offered.iter().copied().find(|offered| agreed == Some(*offered));
        if let (Some(required), None) = (alpn.required, protocol) {
            return Err(Error::new(ErrorKind::Protocol, format!("{named} does not speak {required}")));
        }
        Ok((ByteStream::Tls(Box::new(Encrypted::new(stream, socket.clone(), party))), protocol))
    }

    fn offering(&self, alpn: Alpn) -> Result<Arc<ClientConfig>, Error> {
        let known = self.offers.borrow().iter().find(|(offer, _)| *offer == alpn).map(|(_, config)| config.clone());
        if let Some(config) = known {
            return Ok(config);
        }
        let mut config = (*self.config()?).clone();
        config.alpn_protocols = alpn.offered.iter().map(|id| id.to_vec()).collect();
        let config = Arc::new(config);
        self.offers.borrow_mut().push((alpn, config.clone()));
        Ok(config)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let config = self.config.get_or_init(|| self.make().map(Arc::new).map_err(|error| error.to_string()));
        config.clone().map_err(|why| Error::new(ErrorKind::Tls, "TLS cannot be set up").with_source(why))
    }

    fn make(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.roots {
            _ if self.insecure => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&provider)))
            }
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => match platform_verifier(provider) {
                Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
                // A container without certificates of its own: those of the web.
                Err(_) => {
                    builder.with_root_certificates(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() })
                }
            },
        };
        Ok(match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        })
    }
}

fn platform_verifier(provider: Arc<CryptoProvider>) -> Result<rustls_platform_verifier::Verifier, rustls::Error> {
    rustls_platform_verifier::Verifier::new(provider)
}

fn failed(error: io::Error, party: &Party) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::AlertReceived(alert)) = inner {
        return HandshakeRefusal { party: party.clone(), alert: *alert }.error();
    }
    // What rustls objects to stays objectionable; a connection that breaks may hold the next time.
    let (kind, failure) = match inner.is_some() {
        true => (ErrorKind::Tls, DialFailure::HandshakeRefused),
        false => (ErrorKind::Connect, DialFailure::HandshakeCut),
    };
    Error::new(kind, format!("TLS handshake with {} failed", party.named)).met(failure).with_source(error)
}

fn roots(pems: &[Vec<u8>]) -> Result<Option<RootCertStore>, Error> {
    if pems.is_empty() {
        return Ok(None);
    }
    let mut store = RootCertStore::empty();
    for certificate in pems.iter().map(|pem| certificates(pem)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        store
            .add(certificate)
            .map_err(|error| Error::new(ErrorKind::Input, "a root certificate cannot be used").with_source(error))?;
    }
    Ok(Some(store))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = || Error::new(ErrorKind::Input, "not a certificate in PEM");
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| bad().with_source(error))?;
    if found.is_empty() { Err(bad().with_source("it holds none")) } else { Ok(found) }
}

/// Trusts any certificate, but still checks that the peer holds its key.
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl fmt::Debug for AnyCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyCertificate")
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
