//! A CA that needs no set-up, for nodes and clients on one machine.
//!
//! Its key lies in the stores' parent directory, so that all nodes started there trust each other at once. Whoever reads
//! that directory can be any node; therefore only loopback addresses may be listened on with it.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};

use super::{
    CLIENT_SUFFIX, DEVELOPMENT_ORGANISATION, Identity, IdentityError, NODE_DNS_NAME, NODE_SUFFIX,
    is_name,
};

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const LOCK: &str = "ca.lock";
/// The node's key in its store directory. It stays when certificates are issued anew: the system log knows it.
const NODE_KEY: &str = "node.key";

/// The CA of one directory.
#[derive(Debug)]
pub struct DevelopmentCa {
    directory: PathBuf,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, not yet written anywhere.
pub struct Issued {
    ca: String,
    certificate: String,
    key: String,
}

/// Why the development CA did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file of the CA or of the certificate.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A key or certificate that is there is not one.
    #[error("{path} is damaged ({reason}): restore it, or remove it to have a new one made")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The name does not fit into a certificate.
    #[error("the name '{name}' cannot stand in a certificate: use 1 to 63 of a-z, 0-9 and '-'")]
    Name {
        /// The name.
        name: String,
    },
    /// Beyond loopback this CA would protect nothing.
    #[error(
        "the development CA is for loopback addresses only and {address} is not one: make real certificates"
    )]
    BeyondLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Issue(String),
    /// What was made is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl DevelopmentCa {
    /// The CA in `directory` (the stores' parent), made there when there is none. Several processes may do this at once.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let _lock = lock(directory)?;
        let key_path = directory.join(CA_KEY);
        let certificate_path = directory.join(CA_CERTIFICATE);
        let key = load_or_create_key(&key_path)?;
        let certificate_pem = match fs::read_to_string(&certificate_path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = ca_params(&key).self_signed(&key).map_err(issue)?.pem();
                write_secret(&certificate_path, pem.as_bytes())?;
                pem
            }
            Err(source) => {
                return Err(CaError::File {
                    path: certificate_path,
                    source,
                });
            }
        };
        let issuer =
            Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(|error| CaError::Damaged {
                path: certificate_path,
                reason: error.to_string(),
            })?;
        Ok(Self {
            directory: directory.into(),
            certificate_pem,
            issuer,
        })
    }

    /// The file with the CA's certificate, for [`Identity::load`].
    pub fn certificate_path(&self) -> PathBuf {
        self.directory.join(CA_CERTIFICATE)
    }

    /// Whether a node with a certificate of this CA may listen there. [`Transport::bind`](super::super::Transport::bind)
    /// asks the same of every identity that trusts a development CA.
    pub fn check_listener(&self, address: SocketAddr) -> Result<(), CaError> {
        if address.ip().is_loopback() {
            Ok(())
        } else {
            Err(CaError::BeyondLoopback { address })
        }
    }

    /// A certificate for the node `name`, with a new key.
    pub fn issue_node(&self, name: &str) -> Result<Issued, CaError> {
        self.issue(name, false, &new_key()?)
    }

    /// Whether a certificate can carry this name: refuses what no host label can be.
    pub fn check_name(name: &str) -> Result<(), CaError> {
        if !is_name(name) {
            return Err(CaError::Name {
                name: name.to_owned(),
            });
        }
        Ok(())
    }

    /// A certificate for the client `name`, with a new key. It can never act as a node.
    pub fn issue_client(&self, name: &str) -> Result<Issued, CaError> {
        self.issue(name, true, &new_key()?)
    }

    /// The identity of the node `name` whose key lies in `store` (made there when there is none, 0600): the key stays
    /// the same over restarts, the certificate is issued anew each time.
    pub fn node_identity(&self, name: &str, store: &Path) -> Result<Identity, CaError> {
        self.issue(name, false, &load_or_create_key(&store.join(NODE_KEY))?)?
            .identity()
    }

    /// The identity of a client that lasts as long as its process.
    pub fn client_identity(&self, name: &str) -> Result<Identity, CaError> {
        self.issue_client(name)?.identity()
    }

    fn issue(&self, name: &str, client: bool, key: &KeyPair) -> Result<Issued, CaError> {
        Self::check_name(name)?;
        let (names, usages) = if client {
            (
                vec![format!("{name}{CLIENT_SUFFIX}")],
                vec![ExtendedKeyUsagePurpose::ClientAuth],
            )
        } else {
            (
                vec![NODE_DNS_NAME.to_owned(), format!("{name}{NODE_SUFFIX}")],
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ],
            )
        };
        let mut params = CertificateParams::new(names).map_err(issue)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(issue)?;
        Ok(Issued {
            ca: self.certificate_pem.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The key in PEM: a secret.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// For use in this process, without files.
    pub fn identity(&self) -> Result<Identity, CaError> {
        let part = |name, pem| (Path::new(name), str::as_bytes(pem));
        let (ca, certificate) = (
            part("the CA", &self.ca),
            part("the certificate", &self.certificate),
        );
        Ok(Identity::from_pem(
            ca,
            certificate,
            part("the key", &self.key),
        )?)
    }

    /// Writes `<stem>.crt` and `<stem>.key` (0600) into `directory` and returns the two paths.
    pub fn write(&self, directory: &Path, stem: &str) -> Result<(PathBuf, PathBuf), CaError> {
        let (certificate, key) = (
            directory.join(format!("{stem}.crt")),
            directory.join(format!("{stem}.key")),
        );
        write_secret(&key, self.key.as_bytes())?;
        write_secret(&certificate, self.certificate.as_bytes())?;
        Ok((certificate, key))
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive() // the key is secret
    }
}

/// The name holds part of the key, so that two of these CAs have two names and a stranger's certificate is called unknown
/// and not badly signed.
fn ca_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mark: String = key
        .public_key_raw()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("synod development CA {mark}"));
    params
        .distinguished_name
        .push(DnType::OrganizationName, DEVELOPMENT_ORGANISATION);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

fn new_key() -> Result<KeyPair, CaError> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(issue)
}

fn load_or_create_key(path: &Path) -> Result<KeyPair, CaError> {
    match fs::read_to_string(path) {
        Ok(pem) => KeyPair::from_pem(&pem)
            .ok()
            .filter(|key| key.algorithm() == &PKCS_ED25519)
            .ok_or_else(|| CaError::Damaged {
                path: path.into(),
                reason: "no Ed25519 key in PEM".to_owned(),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = new_key()?;
            write_secret(path, key.serialize_pem().as_bytes())?;
            Ok(key)
        }
        Err(source) => Err(CaError::File {
            path: path.into(),
            source,
        }),
    }
}

/// Appears whole or not at all, readable by its owner only.
fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), CaError> {
    let temporary = path.with_extension(format!("new{}", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(at(path))
}

/// Held until dropped. Only the making of the CA is under it; the lock file itself stays.
fn lock(directory: &Path) -> Result<fs::File, CaError> {
    let path = directory.join(LOCK);
    let open = || {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(at(&path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> CaError {
    move |source| CaError::File {
        path: path.into(),
        source,
    }
}

fn issue(error: rcgen::Error) -> CaError {
    CaError::Issue(error.to_string())
}
