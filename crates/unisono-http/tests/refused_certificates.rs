//! A server that does not accept what we have shown says so when our side of TLS 1.3's handshake is complete and the
//! request is on its way: nothing of that was processed.

mod support;

use std::{io::Write, net::SocketAddr, sync::Arc};

use rustls::{
    CertificateError, ConnectionTrafficSecrets, ContentType, DigitallySignedStruct, DistinguishedName, ProtocolVersion,
    ServerConfig, SignatureScheme, SupportedCipherSuite,
    client::danger::HandshakeSignatureValid,
    crypto::cipher::{OutboundChunks, OutboundPlainMessage},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use unisono_core::{Effect, ErrorKind, OutcomeKind, Secret};
use unisono_http::{ClientCertificate, ClientOptions, Proxies, Proxy, Tls};
use unisono_testkit::{Certificates, Server, answer};

/// Wants a certificate of every client, and has its own opinion of it.
#[derive(Debug)]
struct Judge(Option<CertificateError>);

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match &self.0 {
            None => Ok(ClientCertVerified::assertion()),
            Some(error) => Err(error.clone().into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// An authority, and both sides' configurations made with it.
struct World {
    certificates: Certificates,
}

impl World {
    fn new() -> Self {
        Self { certificates: Certificates::new() }
    }

    fn server(
        &self,
        judge: Judge,
        protocol: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let signed = self.certificates.sign(&["127.0.0.1"]);
        let known = self.certificates.server(&signed, &[protocol], false);
        let builder = ServerConfig::builder_with_provider(known.crypto_provider().clone());
        let builder = builder.with_protocol_versions(versions).unwrap().with_client_cert_verifier(Arc::new(judge));
        let mut config = builder.with_cert_resolver(known.cert_resolver);
        config.alpn_protocols = known.alpn_protocols;
        config
    }

    fn options(&self, with_certificate: bool) -> ClientOptions {
        let identity = with_certificate.then(|| {
            let client = self.certificates.sign_client();
            ClientCertificate { chain: client.certificate.into_bytes(), key: Secret::new(client.key) }
        });
        let roots = vec![self.certificates.authority().into_bytes()];
        ClientOptions { tls: Tls { roots, identity, insecure: false }, ..options() }
    }
}

/// A server that would answer whatever gets through to it.
async fn answering(config: ServerConfig) -> Server {
    Server::start_tls(config, |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"")).await;
        }
    })
    .await
}

fn is_refused(out: &Out, words: &str) {
    assert_eq!(
        (out.kind, out.effect, out.error, out.attempts),
        (OutcomeKind::Failed, Effect::None, Some(ErrorKind::Tls), 1),
        "{out:?}"
    );
    assert!(out.message.starts_with("TLS handshake with ") && out.message.contains(words), "{}", out.message);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_a_server_does_not_accept_leaves_nothing_in_doubt_over_either_version() {
    let world = World::new();
    let refusals = [
        (CertificateError::Expired, "CertificateExpired"),
        (CertificateError::Revoked, "CertificateRevoked"),
        (CertificateError::UnknownIssuer, "UnknownCA"),
        (CertificateError::BadEncoding, "BadCertificate"),
        (CertificateError::ApplicationVerificationFailure, "AccessDenied"),
        (CertificateError::BadSignature, "DecryptError"),
    ];
    for protocol in ["http/1.1", "h2"] {
        for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
            for (error, words) in &refusals {
                let server = answering(world.server(Judge(Some(error.clone())), protocol, versions)).await;
                let url = server.url("/").replace("http:", "https:");
                let out = run(vec![post(&url)], world.options(true), settings()).await.remove(0);
                is_refused(&out, words);
                let is_about_it = !matches!(*words, "AccessDenied" | "DecryptError");
                assert_eq!(
                    out.message.contains("does not accept the client certificate"),
                    is_about_it,
                    "{}",
                    out.message
                );
            }
            let server = answering(world.server(Judge(None), protocol, versions)).await;
            let url = server.url("/").replace("http:", "https:");
            let outs = run((0..20).map(|_| post(&url)).collect(), world.options(false), settings()).await;
            outs.iter().for_each(|out| is_refused(out, "it wants a client certificate (`--cert`"));
            assert!(server.seen().is_empty());
        }
    }
}

#[tokio::test]
async fn a_refusal_is_found_when_it_comes_while_a_large_request_is_being_written() {
    let world = World::new();
    for protocol in ["http/1.1", "h2"] {
        let server = answering(world.server(Judge(None), protocol, &[&rustls::version::TLS13])).await;
        let mut request = post(server.url("/").replace("http:", "https:"));
        request.body = vec![b'x'; 8 << 20].into();
        for _ in 0..10 {
            let out = run(vec![request.clone()], world.options(false), settings()).await.remove(0);
            is_refused(&out, "it wants a client certificate");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_over_tls_that_refuses_is_named_whether_it_forwards_or_opens_a_tunnel() {
    let world = World::new();
    let proxy = answering(world.server(Judge(None), "http/1.1", &[&rustls::version::TLS13])).await;
    let through = Proxy::parse(&format!("https://{}", proxy.address)).unwrap();
    let proxies = Proxies { http: Some(through.clone()), https: Some(through), ..Proxies::default() };
    for url in ["http://127.0.0.2/", "https://127.0.0.2/"] {
        let options = ClientOptions { proxies: proxies.clone(), ..world.options(false) };
        let out = run(vec![post(url)], options, settings()).await.remove(0);
        is_refused(&out, "it wants a client certificate");
        assert!(out.message.starts_with("TLS handshake with proxy "), "{}", out.message);
    }
    assert!(proxy.seen().is_empty());
}

/// A server that sends these words over TLS 1.3 when a request has come, and right after them an alert that it makes
/// itself: no library lets it choose.
async fn alerting(mut config: ServerConfig, words: &'static [u8], alert: u8) -> SocketAddr {
    config.enable_secret_extraction = true;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.read_u8().await.unwrap();
            let (mut below, mut session) = stream.into_inner();
            session.writer().write_all(words).unwrap();
            let mut records = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut records).unwrap();
            }
            let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else { unreachable!() };
            let (number, secrets) = session.dangerous_extract_secrets().unwrap().tx;
            let (key, iv) = match secrets {
                ConnectionTrafficSecrets::Aes128Gcm { key, iv }
                | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
                | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
                _ => unreachable!("ring has no others"),
            };
            let payload = OutboundChunks::Single(&[2, alert]);
            let message = OutboundPlainMessage { typ: ContentType::Alert, version: ProtocolVersion::TLSv1_2, payload };
            let record = suite.aead_alg.encrypter(key, iv).encrypt(message, number).unwrap();
            records.extend_from_slice(&record.encode());
            below.write_all(&records).await.unwrap();
            // What is still to be read would make the end a reset.
            let _ = tokio::io::copy(&mut below, &mut tokio::io::sink()).await;
        }
    });
    address
}

// On the real clock: the paused one goes on to the timeout while what the server wrote by hand is on its way.
#[tokio::test]
async fn only_an_alert_of_the_handshake_before_the_first_word_of_the_server_says_that_nothing_was_processed() {
    const CERTIFICATE_REQUIRED: u8 = 116;
    const INTERNAL_ERROR: u8 = 80;
    // The frame is an empty SETTINGS, with which every server of HTTP/2 begins.
    let peers: [(&str, &[u8]); 3] = [
        ("http/1.1", b"HTTP/1.1 200 OK\r\n"),
        ("http/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
        ("h2", &[0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ];
    let world = World::new();
    let signed = world.certificates.sign(&["127.0.0.1"]);
    for (protocol, words) in peers {
        for (words, alert) in [(words, CERTIFICATE_REQUIRED), (b"", INTERNAL_ERROR), (b"", CERTIFICATE_REQUIRED)] {
            let config = world.certificates.server(&signed, &[protocol], false);
            let address = alerting(config, words, alert).await;
            let out = run(vec![post(format!("https://{address}/"))], world.options(false), settings()).await.remove(0);
            match words.is_empty() && alert == CERTIFICATE_REQUIRED {
                true => is_refused(&out, "it wants a client certificate"),
                false => assert_eq!(
                    (out.kind, out.effect, out.attempts),
                    (OutcomeKind::Ambiguous, Effect::Maybe, 1),
                    "{protocol} {words:?} {alert}: {out:?}"
                ),
            }
        }
    }
}
