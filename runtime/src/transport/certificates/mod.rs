//! Who may talk to whom: certificates, the keys in them, and the development CA.
//!
//! Here: [`Identity`] (what a process shows and whom it trusts), [`DevelopmentCa`] (certificates without any set-up, for
//! one machine), [`PublicKey`] and [`Signer`] (the certificate's key also signs gossip records), and the rule that turns
//! a certificate into a name. Called by the endpoint, by the node at its start, by `synod certs`. Not here: connections.
//!
//! **The names.** A node's certificate carries two DNS names: `node.synod`, the same for all and verified by whoever
//! dials (a joiner does not know whom it dials), and `<name>.node.synod`, which must equal the name in the hello. It is
//! good for serverAuth and clientAuth. A client's carries `<name>.client.synod` and is good for clientAuth only, so it
//! can neither be dialled nor pass as a node when it dials.

mod development;
mod identity;
mod signing;

pub use development::{CaError, DevelopmentCa, Issued};
pub use identity::{Identity, IdentityError};
pub use signing::{PublicKey, Signer};

use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

/// The DNS name that every node's certificate carries.
pub(super) const NODE_DNS_NAME: &str = "node.synod";
const NODE_SUFFIX: &str = ".node.synod";
const CLIENT_SUFFIX: &str = ".client.synod";
/// Organisation in the subject of a development CA: by it a node knows that it must stay on loopback.
const DEVELOPMENT_ORGANISATION: &str = "synod development CA, loopback only";

/// What a certificate says of its holder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) client: bool,
    pub(super) key: PublicKey,
}

impl Facts {
    /// Reads a certificate whose signature was verified already. The error completes "the certificate ...".
    pub(super) fn read(der: &[u8]) -> Result<Self, &'static str> {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
            .map_err(|_| "cannot be read as X.509")?;
        let names = match certificate.subject_alternative_name() {
            Ok(Some(names)) => &names.value.general_names,
            _ => return Err("has no DNS names"),
        };
        let dns = || {
            names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            })
        };
        let usage = match certificate.extended_key_usage() {
            Ok(Some(usage)) => usage.value,
            _ => return Err("does not say what it is for (extended key usage)"),
        };
        let own = |suffix: &str| {
            let mut found = dns()
                .filter_map(|name| name.strip_suffix(suffix))
                .filter(|name| is_name(name));
            let first = found.next();
            if found.next().is_some() {
                None
            } else {
                first.map(str::to_owned)
            }
        };
        let key = PublicKey::from_spki(certificate.public_key().raw)
            .ok_or("has a key that is not Ed25519")?;
        if usage.server_auth && usage.client_auth && dns().any(|name| name == NODE_DNS_NAME) {
            let name = own(NODE_SUFFIX)
                .ok_or("is a node's but lacks exactly one DNS name '<name>.node.synod'")?;
            return Ok(Self {
                name,
                client: false,
                key,
            });
        }
        if usage.client_auth && !usage.server_auth {
            let name = own(CLIENT_SUFFIX)
                .ok_or("is a client's but lacks exactly one DNS name '<name>.client.synod'")?;
            return Ok(Self {
                name,
                client: true,
                key,
            });
        }
        Err(
            "is neither a node's ('node.synod', serverAuth and clientAuth) nor a client's (clientAuth only)",
        )
    }
}

/// Whether `name` fits into a DNS name as one label: 1 to 63 of a-z, 0-9 and '-', no '-' at the ends.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether the certificate is of a development CA.
fn is_development(ca: &[u8]) -> bool {
    x509_parser::certificate::X509Certificate::from_der(ca).is_ok_and(|(_, ca)| {
        ca.subject()
            .iter_organization()
            .any(|o| o.as_str().is_ok_and(|o| o == DEVELOPMENT_ORGANISATION))
    })
}
