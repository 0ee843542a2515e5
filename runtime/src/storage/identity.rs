//! Who a store is: its name, its place in a cluster, and how often it was started.
//!
//! Here: [`Identity`] and its rules, over any [`Disk`]. Called by `directory`, which adds the path and the lock.
//! Not here: keys and certificates (`transport`).
//!
//! The start count is the store's *generation* in the gossip: a peer that has seen a higher one refuses a lower one, which is how a
//! restored or cloned disk is found out. So it is durable before anybody hears it.

use serde::{Deserialize, Serialize};
use std::io;

use super::disk::Disk;
use super::sealed::{SealedError, read_sealed, write_sealed};
use crate::wire::Sharding;

/// The file in the store that says who it is.
pub const IDENTITY_FILE: &str = "identity";
/// The newest format this program reads and writes: 2, the state of shards lies in rows (1: in files of checkpoints).
pub const STORE_FORMAT: u32 = 2;
/// The oldest format this program reads.
const STORE_FORMAT_MIN: u32 = 2;

/// What a store is to its cluster; recorded once, when the store is admitted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Admission {
    /// The cluster.
    pub cluster: u128,
    /// The store's id, allotted by the system log.
    pub store: u64,
    /// How keys map to shards in this cluster.
    pub sharding: Sharding,
}

/// Who a store is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    /// Format of everything in the store.
    pub format: u32,
    /// The node's name.
    pub name: String,
    /// How often the store was opened, this time included.
    pub starts: u64,
    /// `None` until the store is admitted to a cluster.
    #[serde(default)]
    pub admission: Option<Admission>,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Give a name at the first start.
    #[error("the store {place} is new and has no name yet: give the node a name")]
    NameMissing {
        /// Where the store is.
        place: String,
    },
    /// Use the recorded name, or another store.
    #[error(
        "the store {place} belongs to the node {recorded}, not to {given}: start it as {recorded}, or give {given} a store of its own"
    )]
    OtherName {
        /// Where the store is.
        place: String,
        /// Whose it is.
        recorded: String,
        /// Who asked.
        given: String,
    },
    /// Use another store, or join the store's own cluster.
    #[error(
        "the store {place} belongs to the cluster {recorded:032x}, not to {given:032x}: use another store, or join its own cluster"
    )]
    OtherCluster {
        /// Where the store is.
        place: String,
        /// Its cluster.
        recorded: u128,
        /// The cluster that was asked for.
        given: u128,
    },
    /// An admitted store never gets another id or another sharding.
    #[error(
        "the store {place} is already admitted as store {recorded}, it cannot become store {given}"
    )]
    OtherStore {
        /// Where the store is.
        place: String,
        /// Its id.
        recorded: u64,
        /// The id that was offered.
        given: u64,
    },
    /// Use a newer program.
    #[error(
        "the store {place} has format {found}, this program reads up to {STORE_FORMAT}: use a newer one"
    )]
    NewerFormat {
        /// Where the store is.
        place: String,
        /// Its format.
        found: u32,
    },
    /// Give the node an empty store: its cluster gives it its state back. Or use the program that wrote it.
    #[error(
        "the store {place} has format {found}, this program reads from {STORE_FORMAT_MIN} on: use the program that wrote it, or an empty store"
    )]
    OlderFormat {
        /// Where the store is.
        place: String,
        /// Its format.
        found: u32,
    },
    /// The record cannot be read.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The record has the right checksum but is not an identity.
    #[error("the identity of the store {place} cannot be understood: {detail}")]
    Undecodable {
        /// Where the store is.
        place: String,
        /// What the decoder said.
        detail: String,
    },
    /// The record cannot be written.
    #[error("cannot record the identity of the store {place}")]
    Write {
        /// Where the store is.
        place: String,
        /// What the disk said.
        source: io::Error,
    },
}

impl Identity {
    /// Reads the identity, or makes one under `name`; counts this start. Durable on return; on an error nothing has changed.
    pub fn start(disk: &dyn Disk, name: Option<&str>) -> Result<Self, IdentityError> {
        let place = disk.place();
        let mut identity = match Self::read(disk)? {
            Some(identity) => identity,
            None => {
                let name = name.ok_or_else(|| IdentityError::NameMissing {
                    place: place.clone(),
                })?;
                Self {
                    format: STORE_FORMAT,
                    name: name.to_owned(),
                    starts: 0,
                    admission: None,
                }
            }
        };
        if let Some(given) = name
            && given != identity.name
        {
            return Err(IdentityError::OtherName {
                place,
                recorded: identity.name,
                given: given.to_owned(),
            });
        }
        identity.starts += 1;
        identity.write(disk)?;
        Ok(identity)
    }

    /// Reads the identity without counting a start; `None` when the store is new.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, IdentityError> {
        let place = disk.place();
        let Some(bytes) = read_sealed(disk, IDENTITY_FILE)? else {
            return Ok(None);
        };
        let undecodable = |error: rmp_serde::decode::Error| IdentityError::Undecodable {
            place: place.clone(),
            detail: error.to_string(),
        };
        // The format first: a newer identity may have changed all the rest.
        let Format { format } = rmp_serde::from_slice(&bytes).map_err(undecodable)?;
        if format > STORE_FORMAT {
            return Err(IdentityError::NewerFormat {
                place,
                found: format,
            });
        }
        if format < STORE_FORMAT_MIN {
            return Err(IdentityError::OlderFormat {
                place,
                found: format,
            });
        }
        rmp_serde::from_slice(&bytes).map(Some).map_err(undecodable)
    }

    /// Records what the cluster has decided about this store. The same again is fine; anything else is refused.
    pub fn admit(&mut self, disk: &dyn Disk, admission: Admission) -> Result<(), IdentityError> {
        let place = disk.place();
        match self.admission {
            Some(recorded) if recorded == admission => return Ok(()),
            Some(recorded) if recorded.cluster != admission.cluster => {
                return Err(IdentityError::OtherCluster {
                    place,
                    recorded: recorded.cluster,
                    given: admission.cluster,
                });
            }
            Some(recorded) => {
                return Err(IdentityError::OtherStore {
                    place,
                    recorded: recorded.store,
                    given: admission.store,
                });
            }
            None => {}
        }
        let admitted = Self {
            admission: Some(admission),
            ..self.clone()
        };
        admitted.write(disk)?;
        *self = admitted;
        Ok(())
    }

    /// Refuses a cluster that is not the store's own; a store that is not admitted yet accepts any.
    pub fn expect_cluster(&self, disk: &dyn Disk, cluster: u128) -> Result<(), IdentityError> {
        match self.admission {
            Some(recorded) if recorded.cluster != cluster => Err(IdentityError::OtherCluster {
                place: disk.place(),
                recorded: recorded.cluster,
                given: cluster,
            }),
            _ => Ok(()),
        }
    }

    fn write(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        let bytes = rmp_serde::to_vec_named(self).expect("an identity is plain data");
        write_sealed(disk, IDENTITY_FILE, &bytes).map_err(|source| IdentityError::Write {
            place: disk.place(),
            source,
        })
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    const ADMISSION: Admission = Admission {
        cluster: 7 << 100,
        store: 3,
        sharding: Sharding {
            seed: u64::MAX,
            shards: 256,
        },
    };

    // DESIGN 13: format version, cluster, name and store id inside; the start count grows at each open.
    #[test]
    fn identity_survives_and_counts_starts() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        let mut first = Identity::start(&disk, Some("n1")).unwrap();
        assert_eq!((first.starts, first.admission), (1, None));
        first.admit(&disk, ADMISSION).unwrap();
        let second = Identity::start(&disk, None).unwrap();
        assert_eq!(
            (second.name.as_str(), second.starts, second.admission),
            ("n1", 2, Some(ADMISSION))
        );
        assert_eq!(Identity::read(&disk).unwrap().unwrap(), second);
    }

    // Issue 2, "what bad input gets": a store of another cluster or node.
    #[test]
    fn other_names_clusters_and_ids_are_refused_in_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        let place = disk.place();
        let text = |result: Result<Identity, IdentityError>| result.unwrap_err().to_string();
        assert_eq!(
            text(Identity::start(&disk, None)),
            format!("the store {place} is new and has no name yet: give the node a name")
        );
        let mut identity = Identity::start(&disk, Some("n1")).unwrap();
        assert_eq!(
            text(Identity::start(&disk, Some("n2"))),
            format!(
                "the store {place} belongs to the node n1, not to n2: start it as n1, or give n2 a store of its own"
            )
        );
        identity.admit(&disk, ADMISSION).unwrap();
        identity.admit(&disk, ADMISSION).unwrap();
        let refused = identity.admit(
            &disk,
            Admission {
                cluster: 8,
                ..ADMISSION
            },
        );
        assert!(
            matches!(refused, Err(IdentityError::OtherCluster { .. })),
            "{refused:?}"
        );
        let refused = identity.admit(
            &disk,
            Admission {
                store: 4,
                ..ADMISSION
            },
        );
        assert!(
            matches!(refused, Err(IdentityError::OtherStore { .. })),
            "{refused:?}"
        );
        assert!(identity.expect_cluster(&disk, 7 << 100).is_ok());
        assert!(identity.expect_cluster(&disk, 8).is_err());
        assert_eq!(
            Identity::start(&disk, Some("n1")).unwrap().starts,
            2,
            "a refused start is not counted"
        );
    }

    // DESIGN 14: disk formats; a newer one, and one of before the first release, is refused before anything of it is read.
    #[test]
    fn newer_and_older_formats_are_refused() {
        #[derive(Serialize)]
        struct Other {
            format: u32,
            who: String,
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        let start = |format| {
            let who = "n1".into();
            let bytes = rmp_serde::to_vec_named(&Other { format, who }).unwrap();
            write_sealed(&disk, IDENTITY_FILE, &bytes).unwrap();
            Identity::start(&disk, Some("n1"))
        };
        assert!(matches!(
            start(STORE_FORMAT + 1),
            Err(IdentityError::NewerFormat { found, .. }) if found == STORE_FORMAT + 1
        ));
        assert!(matches!(
            start(1),
            Err(IdentityError::OlderFormat { found: 1, .. })
        ));
    }
}
