//! What the seeds choose, and what follows from it.
//!
//! Here: [`Charter`], the payload of the founding record, and the [`Founding`] that it means together with the electorate
//! that chose it. Every founder finds the same by itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::genesis::{ClusterId, Electorate, Record};
use synod_consensus::{Configuration, ReplicaKey, SnapshotMeta, Write};

use crate::node::builder::StartError;
use crate::system::{Founder, Founding, ReplicaAddress};
use crate::wire::{self, Sharding};

/// What is fixed for ever besides the founders. Named MessagePack; fields are only ever added.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Charter {
    /// How keys map to shards.
    pub(crate) sharding: Sharding,
    /// How many stores hold each shard.
    pub(crate) copies: u32,
}

impl Charter {
    /// The record that a seed proposes.
    pub(crate) fn record(&self, cluster: u128) -> Record {
        Record::new(ClusterId(cluster), wire::encode(self)).expect("a charter is a few numbers")
    }

    /// The founding that `electorate` chose with `record`: every disk of the electorate founds, in the order of the names.
    pub(crate) fn founding(
        electorate: &Electorate,
        record: &Record,
    ) -> Result<Founding, StartError> {
        let charter: Self = wire::decode(record.payload()).map_err(|error| {
            let reason = format!(
                "the founding record cannot be understood, perhaps because a newer version proposed it: {error}"
            );
            StartError::Internal { reason }
        })?;
        let mut founders = electorate.list().iter().map(|seed| {
            let key = electorate.card(seed).map(|card| card.bytes().clone());
            (seed.as_str().to_owned(), key.unwrap_or_default())
        });
        let (name, key) = founders.next().expect("a list is never empty");
        Ok(Founding {
            cluster: record.cluster().0,
            sharding: charter.sharding,
            copies: charter.copies,
            name,
            key,
            others: founders.map(|(name, key)| Founder { name, key }).collect(),
        })
    }
}

/// What a founder writes into its log to be born: its replicas of all groups that live on `store`.
pub(crate) fn born_on(founding: &Founding, store: u64) -> Vec<(ReplicaKey, Vec<Write>)> {
    let births = founding.births().into_iter();
    births
        .filter_map(|(group, birth)| {
            let mut mine = birth.replicas().into_iter();
            let replica = mine.find(|id| ReplicaAddress::of(*id).store == store)?;
            let configuration = Configuration {
                voters: birth.voters.into(),
                learners: birth.learners.into(),
                ..Configuration::default()
            };
            let to = SnapshotMeta::founding(configuration);
            Some((ReplicaKey { group, replica }, vec![Write::Reset { to }]))
        })
        .collect()
}

/// The store id of the founder `name`, if it founded with this certificate key.
pub(crate) fn store_of(founding: &Founding, name: &str, key: &Bytes) -> Option<u64> {
    let members = founding.members().into_iter();
    let mut mine = members.filter(|(_, member)| member.name == name && member.key == *key);
    mine.next().map(|(store, _)| store)
}
