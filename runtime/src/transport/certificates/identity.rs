//! What a process shows of itself and whom it trusts: certificate, key, CA.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::{Facts, PublicKey, Signer, is_development};

/// What both ends must name in TLS before anything is said.
const ALPN: &[u8] = b"synod";

/// A certificate chain with its key, and the CA that signs everybody's. Checked: they fit together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    facts: Facts,
    signer: Signer,
    development: bool,
}

/// Why files are no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file holds something else than expected.
    #[error("{path} does not hold {expected} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// The certificate is not one of ours.
    #[error("the certificate {reason}: make one with `synod certs`")]
    Certificate {
        /// What it lacks.
        reason: &'static str,
    },
    /// Signed by somebody else, or expired.
    #[error(
        "the certificate of '{name}' is not good under this CA ({reason}): pass the CA that signed it"
    )]
    NotOfThisCa {
        /// The name in the certificate.
        name: String,
        /// What verification said.
        reason: String,
    },
    /// Another certificate's key.
    #[error("the key is not the one of the certificate of '{name}'")]
    KeyOfAnother {
        /// The name in the certificate.
        name: String,
    },
    /// Only Ed25519 keys can sign gossip records.
    #[error("the key is not an Ed25519 key in PKCS #8")]
    NotEd25519,
}

impl Identity {
    /// Reads the cluster's CA (one or more certificates), this process's certificate chain and its key from PEM files.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| IdentityError::Read {
                path: path.into(),
                source,
            })
        };
        Self::from_pem(
            (ca, &read(ca)?),
            (certificate, &read(certificate)?),
            (key, &read(key)?),
        )
    }

    /// Each part is a path to name in errors, and PEM text.
    pub(super) fn from_pem(
        ca: (&Path, &[u8]),
        certificate: (&Path, &[u8]),
        key: (&Path, &[u8]),
    ) -> Result<Self, IdentityError> {
        let certificates = |(path, pem): (&Path, &[u8])| {
            let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .unwrap_or_default();
            let expected = "a certificate";
            if all.is_empty() {
                Err(IdentityError::Pem {
                    path: path.into(),
                    expected,
                })
            } else {
                Ok(all)
            }
        };
        let authorities = certificates(ca)?;
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.1).map_err(|_| IdentityError::Pem {
            path: key.0.into(),
            expected: "a private key",
        })?;

        let facts =
            Facts::read(&chain[0]).map_err(|reason| IdentityError::Certificate { reason })?;
        let signer = match &key {
            PrivateKeyDer::Pkcs8(der) => {
                Signer::from_pkcs8(der.secret_pkcs8_der()).ok_or(IdentityError::NotEd25519)?
            }
            _ => return Err(IdentityError::NotEd25519),
        };
        if signer.public_key() != facts.key {
            return Err(IdentityError::KeyOfAnother { name: facts.name });
        }
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|_| IdentityError::Pem {
                    path: ca.0.into(),
                    expected: "a CA certificate",
                })?;
        }
        let roots = Arc::new(roots);
        let not_of_this_ca = |error: String| IdentityError::NotOfThisCa {
            name: facts.name.clone(),
            reason: error,
        };
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| not_of_this_ca(error.to_string()))?
            .verify_client_cert(&chain[0], &chain[1..], UnixTime::now())
            .map_err(|error| not_of_this_ca(error.to_string()))?;
        let development = authorities.iter().any(|ca| is_development(ca));
        Ok(Self(Arc::new(Inner {
            chain,
            key,
            roots,
            facts,
            signer,
            development,
        })))
    }

    /// The name in the certificate.
    pub fn name(&self) -> &str {
        &self.0.facts.name
    }

    /// Whether the certificate is a client's, which can never act as a node.
    pub fn is_client(&self) -> bool {
        self.0.facts.client
    }

    /// Whether a development CA is trusted, so that only loopback addresses may be listened on.
    pub fn is_development(&self) -> bool {
        self.0.development
    }

    /// The certificate's public key.
    pub fn public_key(&self) -> PublicKey {
        self.0.facts.key
    }

    /// Signs with the certificate's key.
    pub fn signer(&self) -> Signer {
        self.0.signer.clone()
    }

    /// TLS for accepting: everybody must show a certificate of our CA.
    pub(in super::super) fn server_tls(&self) -> Result<rustls::ServerConfig, String> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.0.roots.clone(), provider())
                .build()
                .map_err(|error| error.to_string())?;
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|tls| {
                tls.with_client_cert_verifier(verifier)
                    .with_single_cert(self.0.chain.clone(), self.0.key.clone_key())
            })
            .map_err(|error| error.to_string())?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0; // every connection proves itself anew
        Ok(tls)
    }

    /// TLS for dialling.
    pub(in super::super) fn client_tls(&self) -> Result<rustls::ClientConfig, String> {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(self.0.roots.clone(), provider())
                .build()
                .map_err(|error| error.to_string())?;
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|tls| {
                tls.with_webpki_verifier(verifier)
                    .with_client_auth_cert(self.0.chain.clone(), self.0.key.clone_key())
            })
            .map_err(|error| error.to_string())?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(tls)
    }
}

/// ring, with AES-128 first: the fastest here, and QUIC's own initial packets use it anyway.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::ring::{cipher_suite, default_provider};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    })
}
