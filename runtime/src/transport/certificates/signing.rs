//! Signatures by the key of a certificate: Ed25519, so the same bytes always give the same signature.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _};

/// What stands before the 32 key bytes in the SubjectPublicKeyInfo of every Ed25519 key (RFC 8410, 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The Ed25519 public key of a certificate. The system log knows it by store.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes. Whether they are a point of the curve shows at the first [`verify`](Self::verify).
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the holder of this key signed `bytes`.
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, &self.0)
            .verify(bytes, signature)
            .is_ok()
    }

    pub(super) fn from_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Signs with the key of a certificate. Cheap to clone; deterministic.
#[derive(Clone)]
pub struct Signer(Arc<Ed25519KeyPair>);

impl Signer {
    /// Reads a PKCS #8 key, with or without the public half (openssl writes it without).
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .ok()
            .map(|pair| Self(Arc::new(pair)))
    }

    /// The signature of `bytes`, 64 bytes long.
    pub fn sign(&self, bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(self.0.sign(bytes).as_ref())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(
            self.0
                .public_key()
                .as_ref()
                .try_into()
                .expect("an Ed25519 public key has 32 bytes"),
        )
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key())
    }
}
