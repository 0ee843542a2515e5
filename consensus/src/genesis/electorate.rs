//! Which disks decide on the founding record.
//!
//! Here: [`Electorate`]: a list of seeds with the incarnation and the card that each had when the chair drew it up. Two electorates are the same
//! only if every disk in them is. Not here: who draws it up and who gives its word to it (`machine`).

use serde::{Deserialize, Serialize};

use super::seed::{Card, Incarnation, SeedList, SeedName};

/// The disks that decide: one per listed seed. A majority of them chooses.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "Drawn", into = "Drawn")]
pub struct Electorate {
    list: SeedList,
    /// In the order of the list.
    incarnations: Vec<Incarnation>,
    /// The same.
    cards: Vec<Card>,
}

/// As it travels and rests.
#[derive(Deserialize, Serialize)]
struct Drawn {
    list: SeedList,
    incarnations: Vec<Incarnation>,
    cards: Vec<Card>,
}

impl TryFrom<Drawn> for Electorate {
    type Error = String;

    fn try_from(drawn: Drawn) -> Result<Self, String> {
        let Drawn {
            list,
            incarnations,
            cards,
        } = drawn;
        if list.len() != incarnations.len() || list.len() != cards.len() {
            return Err(format!(
                "an electorate of {} seeds has {} incarnations and {} cards",
                list.len(),
                incarnations.len(),
                cards.len()
            ));
        }
        Ok(Self {
            list,
            incarnations,
            cards,
        })
    }
}

impl From<Electorate> for Drawn {
    fn from(electorate: Electorate) -> Self {
        let Electorate {
            list,
            incarnations,
            cards,
        } = electorate;
        Self {
            list,
            incarnations,
            cards,
        }
    }
}

impl Electorate {
    /// `None` as soon as one seed's disk is not known.
    pub(crate) fn draw(
        list: &SeedList,
        disk: impl Fn(&SeedName) -> Option<(Incarnation, Card)>,
    ) -> Option<Self> {
        let disks: Option<Vec<_>> = list.iter().map(disk).collect();
        let (incarnations, cards) = disks?.into_iter().unzip();
        Some(Self {
            list: list.clone(),
            incarnations,
            cards,
        })
    }

    /// Whose founding this is.
    pub fn list(&self) -> &SeedList {
        &self.list
    }

    /// Which disk of `seed` decides.
    pub fn incarnation(&self, seed: &SeedName) -> Option<Incarnation> {
        Some(self.incarnations[self.list.place(seed)?])
    }

    /// What `seed` stated of itself.
    pub fn card(&self, seed: &SeedName) -> Option<&Card> {
        self.cards.get(self.list.place(seed)?)
    }

    /// How many of its disks choose.
    pub fn majority(&self) -> usize {
        self.list.len() / 2 + 1
    }
}
