//! What the store keeps of its part in a founding.
//!
//! Here: [`Kept`], one sealed file, replaced as a whole before anything of it is said. It stays for ever: a node with data
//! answers from it those founders that have not learned the record yet.

use serde::{Deserialize, Serialize};
use synod_consensus::genesis::Durable;

use super::super::builder::StartError;
use super::charter::Charter;
use crate::storage::{Disk, read_sealed, write_sealed};
use crate::system::Founding;
use crate::wire;

/// File in the store.
const FOUNDING: &str = "founding";

/// What the file holds. Named MessagePack; fields are only ever added.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Kept {
    /// All that the machine must not forget.
    pub(crate) durable: Durable,
    /// This store was admitted as one of the founders. A store that has lost its identity since may have voted and
    /// acknowledged: born again, it would forget that (E26).
    #[serde(default)]
    pub(crate) born: bool,
}

impl Kept {
    /// `None` in a store that was never started as a seed.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, StartError> {
        let Some(bytes) = read_sealed(disk, FOUNDING)? else {
            return Ok(None);
        };
        let kept = wire::decode(&bytes).map_err(|error| StartError::Internal {
            reason: format!("{}/{FOUNDING} cannot be understood: {error}", disk.place()),
        })?;
        Ok(Some(kept))
    }

    /// The founding that this store is a founder of, if there is one.
    pub(crate) fn founding(&self) -> Option<Result<Founding, StartError>> {
        let durable = &self.durable;
        let (electorate, record) = (durable.electorate.as_ref()?, durable.chosen.as_ref()?);
        Some(Charter::founding(electorate, record))
    }

    /// Durable on return.
    pub(crate) fn write(&self, disk: &dyn Disk) -> std::io::Result<()> {
        write_sealed(disk, FOUNDING, &wire::encode(self))
    }
}

/// Whether the store on this disk promised to found a cluster. What cannot be read promised for all anybody knows.
pub(crate) fn gave_word(disk: &dyn Disk) -> bool {
    Kept::read(disk).map_or(true, |kept| {
        kept.is_some_and(|kept| kept.durable.electorate.is_some())
    })
}
