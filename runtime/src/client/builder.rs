//! What a user says before a client connects, and why it may not.

use core::time::Duration;
use std::path::{Path, PathBuf};

use super::Client;
use super::courier::ClientCourier;
use crate::node::Answer;
use crate::transport::{BindError, CaError, CallError, DevelopmentCa, Identity, IdentityError};

/// Where the certificate comes from.
#[derive(Clone, Debug)]
enum Source {
    Development(PathBuf),
    Files {
        ca: PathBuf,
        certificate: PathBuf,
        key: PathBuf,
    },
}

/// Describes a client; [`connect`](ClientBuilder::connect) makes it.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    source: Source,
    patience: Duration,
    drop_replies: Option<(f64, u64)>,
}

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            source: Source::Development(PathBuf::from("data")),
            patience: Duration::from_secs(10),
            drop_replies: None,
        }
    }

    /// The directory of the development CA: the parent of the stores. By default `data`.
    pub fn development(mut self, directory: impl AsRef<Path>) -> Self {
        self.source = Source::Development(directory.as_ref().to_owned());
        self
    }

    /// PEM files of the cluster's CA, a client certificate and its key.
    pub fn certificates(
        mut self,
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.source = Source::Files {
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
        };
        self
    }

    /// How long to look for a node that answers; by default 10 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Loses this share of the replies after they arrived, so that retries are real. For demos and tests.
    #[doc(hidden)]
    pub fn drop_replies(mut self, ratio: f64, seed: u64) -> Self {
        self.drop_replies = Some((ratio, seed));
        self
    }

    /// Connects through the first of these nodes (`host:port`) that answers.
    pub async fn connect<A: Into<String>>(
        self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Client, ConnectError> {
        let addresses: Vec<String> = addresses.into_iter().map(Into::into).collect();
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let identity = match &self.source {
            Source::Development(directory) => {
                DevelopmentCa::open(directory)?.client_identity("client")?
            }
            Source::Files {
                ca,
                certificate,
                key,
            } => Identity::load(ca, certificate, key)?,
        };
        let courier =
            ClientCourier::connect(identity, addresses, self.patience, self.drop_replies).await?;
        Ok(Client { courier })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing to connect to.
    #[error("no address of a node was given: pass at least one, as HOST:PORT")]
    NoAddress,
    /// The development CA cannot be used.
    #[error(transparent)]
    DevelopmentCa(#[from] CaError),
    /// Certificate files cannot be used.
    #[error(transparent)]
    Certificates(#[from] IdentityError),
    /// The endpoint could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Every address refused for good: the certificates do not fit, or there is another cluster.
    #[error(transparent)]
    Refused(CallError),
    /// Nobody answered.
    #[error("no node at {addresses} answers: {reason}")]
    Unreachable {
        /// Where.
        addresses: String,
        /// The last error.
        reason: String,
    },
}

impl ConnectError {
    pub(super) fn unexpected(address: &str, answer: &Answer) -> Self {
        let reason = match answer {
            Answer::NotNow { reason } | Answer::Refused { reason } => reason.clone(),
            _ => "it answered another question".to_owned(),
        };
        Self::Unreachable {
            addresses: address.to_owned(),
            reason,
        }
    }
}
