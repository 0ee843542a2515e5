//! Who is asked to found: names, lists of them, which disk a name has, and its card.
//!
//! Here: [`SeedName`], [`SeedList`], [`Incarnation`], [`Card`], with their bounds, checked at decode too. Not here: what seeds say
//! (`message`), addresses (crate `synod`).

use core::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest name, in bytes: that of a DNS name, because a certificate carries it.
pub const NAME_BYTES_MAX: usize = 253;
/// Most seeds of one list. Founding waits for every one of them, so more only make it harder.
pub const SEEDS_MAX: usize = 15;

/// Longest card, in bytes: a public key and a little more.
pub const CARD_BYTES_MAX: usize = 256;

/// A seed, as its certificate names it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SeedName(Arc<str>);

impl SeedName {
    /// 1 to [`NAME_BYTES_MAX`] bytes.
    pub fn new(name: impl Into<String>) -> Result<Self, SeedsError> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(SeedsError::NameLength { bytes: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for SeedName {
    type Error = SeedsError;

    fn try_from(name: String) -> Result<Self, SeedsError> {
        Self::new(name)
    }
}

impl From<SeedName> for String {
    fn from(name: SeedName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// The seeds that found together. A set: in which order an operator wrote them makes no difference.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "Vec<SeedName>", into = "Vec<SeedName>")]
pub struct SeedList(Arc<[SeedName]>);

impl SeedList {
    /// 1 to [`SEEDS_MAX`] different names.
    pub fn new(names: impl IntoIterator<Item = SeedName>) -> Result<Self, SeedsError> {
        let mut names: Vec<_> = names.into_iter().take(SEEDS_MAX + 1).collect();
        if names.is_empty() {
            return Err(SeedsError::Empty);
        }
        if names.len() > SEEDS_MAX {
            return Err(SeedsError::TooMany);
        }
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SeedsError::Twice {
                seed: pair[0].clone(),
            });
        }
        Ok(Self(names.into()))
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SeedName> {
        self.0.iter()
    }

    /// Whether `seed` is listed.
    pub fn contains(&self, seed: &SeedName) -> bool {
        self.place(seed).is_some()
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "a list is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The seed that draws up the electorate: the first by name, so that all who have the same list know it.
    pub fn chair(&self) -> &SeedName {
        &self.0[0]
    }

    pub(crate) fn place(&self, seed: &SeedName) -> Option<usize> {
        self.0.binary_search(seed).ok()
    }
}

impl fmt::Display for SeedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, seed) in self.iter().enumerate() {
            write!(f, "{}{seed}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl TryFrom<Vec<SeedName>> for SeedList {
    type Error = SeedsError;

    fn try_from(names: Vec<SeedName>) -> Result<Self, SeedsError> {
        Self::new(names)
    }
}

impl From<SeedList> for Vec<SeedName> {
    fn from(list: SeedList) -> Self {
        list.0.to_vec()
    }
}

/// Which disk a seed has: drawn at random when it first states, and persisted with the statement. A wiped disk draws another.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Incarnation(pub(crate) u64);

impl Incarnation {
    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What the others need of a seed to found with it; opaque here (crate `synod`: its certificate's key). It is stated with the list
/// and stays as it was drawn into the electorate.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Card(Bytes);

impl Card {
    /// At most [`CARD_BYTES_MAX`] bytes.
    pub fn new(card: Bytes) -> Result<Self, SeedsError> {
        if card.len() > CARD_BYTES_MAX {
            return Err(SeedsError::CardLength { bytes: card.len() });
        }
        Ok(Self(card))
    }

    /// What is on it.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl TryFrom<Bytes> for Card {
    type Error = SeedsError;

    fn try_from(card: Bytes) -> Result<Self, SeedsError> {
        Self::new(card)
    }
}

impl From<Card> for Bytes {
    fn from(card: Card) -> Self {
        card.0
    }
}

/// What is wrong with a list of seeds.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedsError {
    /// Name 1 to [`NAME_BYTES_MAX`] bytes.
    #[error("a seed's name has 1 to {NAME_BYTES_MAX} bytes, not {bytes}")]
    NameLength {
        /// As given.
        bytes: usize,
    },
    /// Put less on it.
    #[error("a seed's card has at most {CARD_BYTES_MAX} bytes, not {bytes}")]
    CardLength {
        /// As given.
        bytes: usize,
    },
    /// Name at least the node itself.
    #[error("a list of seeds names at least one")]
    Empty,
    /// A few suffice: others join.
    #[error("a list of seeds names at most {SEEDS_MAX}")]
    TooMany,
    /// Name each once.
    #[error("seed {seed} is listed twice")]
    Twice {
        /// Which.
        seed: SeedName,
    },
    /// A node that founds is itself a seed.
    #[error("seed {seed} is not in its own list {list}")]
    NotListed {
        /// The node.
        seed: SeedName,
        /// What it was given.
        list: SeedList,
    },
}
