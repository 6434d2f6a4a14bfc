//! Certificates made at test time: an authority of the test's own, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An authority.
pub struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// A new authority, which no client trusts yet.
    ///
    /// # Panics
    /// Never, unless the random numbers run out.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be taken for each other.
        let name = format!("test authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority can sign itself") }
    }

    /// The authority's own certificate, in PEM: what a client has to trust.
    pub fn authority(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names and addresses.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.signed(names, |_| {})
    }

    /// One that has expired.
    pub fn sign_expired(&self, names: &[&str]) -> Signed {
        self.signed(names, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    /// One for a client.
    pub fn sign_client(&self) -> Signed {
        self.signed(&["client.test"], |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn signed(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority can sign");
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// How a server with this certificate speaks TLS; it wants a certificate of its clients when `wants_client` is set.
    ///
    /// # Panics
    /// When the certificate is none.
    pub fn server(&self, signed: &Signed, protocols: &[&str], wants_client: bool) -> ServerConfig {
        let chain = vec![CertificateDer::from_pem_slice(signed.certificate.as_bytes()).expect("just made")];
        let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("just made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring knows them");
        let builder = match wants_client {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(CertificateDer::from_pem_slice(self.authority().as_bytes()).expect("just made"))
                    .expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("one root is enough");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).expect("the key belongs to the certificate");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}
