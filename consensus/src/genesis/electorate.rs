//! Which disks decide on the founding record.
//!
//! Here: [`Electorate`]: a list of seeds with the incarnation that each had when the chair drew it up. Two electorates are the same
//! only if every disk in them is. Not here: who draws it up and who gives its word to it (`machine`).

use serde::{Deserialize, Serialize};

use super::seed::{Incarnation, SeedList, SeedName};

/// The disks that decide: one per listed seed. A majority of them chooses.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "Drawn", into = "Drawn")]
pub struct Electorate {
    list: SeedList,
    /// In the order of the list.
    incarnations: Vec<Incarnation>,
}

/// As it travels and rests.
#[derive(Deserialize, Serialize)]
struct Drawn {
    list: SeedList,
    incarnations: Vec<Incarnation>,
}

impl TryFrom<Drawn> for Electorate {
    type Error = String;

    fn try_from(Drawn { list, incarnations }: Drawn) -> Result<Self, String> {
        if list.len() != incarnations.len() {
            return Err(format!(
                "an electorate of {} seeds has {} incarnations",
                list.len(),
                incarnations.len()
            ));
        }
        Ok(Self { list, incarnations })
    }
}

impl From<Electorate> for Drawn {
    fn from(Electorate { list, incarnations }: Electorate) -> Self {
        Self { list, incarnations }
    }
}

impl Electorate {
    /// `None` as soon as one seed's incarnation is not known.
    pub(crate) fn draw(
        list: &SeedList,
        incarnation: impl Fn(&SeedName) -> Option<Incarnation>,
    ) -> Option<Self> {
        let incarnations = list.iter().map(incarnation).collect::<Option<_>>()?;
        Some(Self {
            list: list.clone(),
            incarnations,
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

    /// How many of its disks choose.
    pub fn majority(&self) -> usize {
        self.list.len() / 2 + 1
    }
}
