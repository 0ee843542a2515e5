//! How a shard's state lies in rows.
//!
//! Here: keys and values of entities and sessions, and the [`Head`] that goes with them into one write.
//! Not here: the rows' owner and place (`storage::rows`), which of them change (`overlay`).
//!
//! ```text
//! entity   'e' | kind, escaped | 0 1 | key      ->  version u64 | image
//! session  's' | number u64, big endian        ->  named MessagePack
//! ```
//! Keys are in the order of (kind, key): a zero byte within a kind is written as 0 255, so that no kind begins another one's rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::LogIndex;

use super::base::{BaseError, BaseRow};
use super::state::{Image, Session};
use crate::wire::{Outcome, SessionId};

const ENTITY: u8 = b'e';
const SESSION: u8 = b's';
/// Of [`Head`] and the rows that go with it.
const ROWS_VERSION: u16 = 1;
const VERSION_BYTES: usize = 8;

/// What is written beside the rows, with every change of them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Head {
    version: u16,
    /// The last entry that is in the rows.
    pub(super) applied: u64,
    /// Log time, milliseconds.
    pub(super) clock_ms: u64,
    /// Entities that exist.
    pub(super) entities: u64,
    /// Bytes of their kinds, keys and images.
    pub(super) bytes: u64,
}

impl Head {
    pub(super) fn new(applied: LogIndex, clock_ms: u64, entities: u64, bytes: u64) -> Self {
        Self {
            version: ROWS_VERSION,
            applied: applied.get(),
            clock_ms,
            entities,
            bytes,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        crate::wire::encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BaseError> {
        let head: Self = crate::wire::decode(bytes).map_err(|error| {
            BaseError::Damaged(format!("the head of its rows does not decode: {error}"))
        })?;
        if head.version > ROWS_VERSION {
            return Err(BaseError::Unread(format!(
                "its rows have format {}, this build reads up to {ROWS_VERSION}; upgrade this node",
                head.version
            )));
        }
        Ok(head)
    }
}

/// What all entities' keys begin with.
pub(super) const ENTITIES: &[u8] = &[ENTITY];
/// What all sessions' keys begin with.
pub(super) const SESSIONS: &[u8] = &[SESSION];

pub(super) fn entity_key(kind: &str, key: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(kind.len() + key.len() + 3);
    row.push(ENTITY);
    for byte in kind.bytes() {
        row.push(byte);
        if byte == 0 {
            row.push(255);
        }
    }
    row.extend_from_slice(&[0, 1]);
    row.extend_from_slice(key.as_bytes());
    row
}

pub(super) fn entity_value(image: &Image) -> Vec<u8> {
    let mut value = Vec::with_capacity(VERSION_BYTES + image.bytes.len());
    value.extend_from_slice(&image.version.get().to_le_bytes());
    value.extend_from_slice(&image.bytes);
    value
}

/// The image shares the row's bytes.
pub(super) fn image_of(value: &Bytes) -> Result<Image, BaseError> {
    let (version, _) = value
        .split_first_chunk::<VERSION_BYTES>()
        .ok_or_else(|| BaseError::Damaged("an entity's row is cut short".into()))?;
    Ok(Image {
        version: LogIndex::new(u64::from_le_bytes(*version)),
        bytes: value.slice(VERSION_BYTES..),
    })
}

/// Version and image length of a row.
pub(super) fn found_in(value: &Bytes) -> Result<(LogIndex, usize), BaseError> {
    let image = image_of(value)?;
    Ok((image.version, image.bytes.len()))
}

/// An entity's row: kind, key, image.
pub(super) fn entity_of(row: &BaseRow) -> Result<(Box<str>, Box<str>, Image), BaseError> {
    let (key, value) = row;
    let wrong = || BaseError::Damaged("an entity's row has a key that is none".into());
    let mut kind = Vec::new();
    let mut rest = key.strip_prefix(ENTITIES).ok_or_else(wrong)?;
    loop {
        match rest {
            [0, 255, behind @ ..] => {
                kind.push(0);
                rest = behind;
            }
            [0, 1, behind @ ..] => {
                rest = behind;
                break;
            }
            [0, ..] | [] => return Err(wrong()),
            [byte, behind @ ..] => {
                kind.push(*byte);
                rest = behind;
            }
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| wrong());
    Ok((
        text(kind)?.into_boxed_str(),
        text(rest.to_vec())?.into_boxed_str(),
        image_of(value)?,
    ))
}

pub(super) fn session_key(id: SessionId) -> Vec<u8> {
    let mut row = Vec::with_capacity(9);
    row.push(SESSION);
    row.extend_from_slice(&id.0.to_be_bytes());
    row
}

#[derive(Serialize)]
struct SessionValueRef<'a> {
    router: u128,
    used_ms: u64,
    lowest: u64,
    replies: &'a BTreeMap<u64, Outcome>,
}

#[derive(Deserialize)]
struct SessionValue {
    router: u128,
    used_ms: u64,
    lowest: u64,
    replies: BTreeMap<u64, Outcome>,
}

pub(super) fn session_value(session: &Session) -> Vec<u8> {
    crate::wire::encode(&SessionValueRef {
        router: session.router,
        used_ms: session.used_ms,
        lowest: session.lowest,
        replies: &session.replies,
    })
    .to_vec()
}

pub(super) fn session_of(row: &BaseRow) -> Result<(SessionId, Session), BaseError> {
    let (key, value) = row;
    let number = key
        .strip_prefix(SESSIONS)
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| BaseError::Damaged("a session's row has a key that is none".into()))?;
    let value: SessionValue = crate::wire::decode(value)
        .map_err(|error| BaseError::Damaged(format!("a session's row does not decode: {error}")))?;
    let session = Session::kept(value.router, value.used_ms, value.lowest, value.replies);
    Ok((SessionId(u64::from_be_bytes(number)), session))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_in_the_order_of_kind_and_key_and_read_back(
            mut places in prop::collection::vec(("[\\x00a-c\u{e9}]{0,3}", "[\\x00\\x01a-b]{0,3}"), 1..20),
        ) {
            let mut keys: Vec<Vec<u8>> = places.iter().map(|(kind, key)| entity_key(kind, key)).collect();
            keys.sort();
            places.sort();
            for (row, (kind, key)) in keys.into_iter().zip(places) {
                let image = Image { bytes: Bytes::from_static(b"state"), version: LogIndex::new(7) };
                let row = (Bytes::from(row), Bytes::from(entity_value(&image)));
                prop_assert_eq!(entity_of(&row).unwrap(), (kind.into(), key.into(), image));
            }
        }
    }

    #[test]
    fn rows_of_a_newer_build_are_refused() {
        let newer = Head {
            version: ROWS_VERSION + 1,
            ..Head::new(LogIndex::new(1), 0, 0, 0)
        };
        let refused = Head::decode(&newer.encode()).unwrap_err();
        assert!(refused.to_string().contains("upgrade this node"));
    }

    #[test]
    fn a_row_that_is_cut_short_is_an_error() {
        assert!(image_of(&Bytes::from_static(b"1234567")).is_err());
        assert!(entity_of(&(Bytes::from_static(b"ekind"), Bytes::from_static(&[0; 8]))).is_err());
        assert!(session_of(&(Bytes::from_static(b"s1"), Bytes::new())).is_err());
    }
}
