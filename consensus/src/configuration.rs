//! Who belongs to a group, and who of them decides.
//!
//! Here: [`Configuration`], simple and joint, and [`Change`], the wish for another one. Not here: counting (`quorum`), when a
//! change may start (`reconfiguration`). Source: Raft paper 6 (joint consensus); Ongaro's thesis, 4.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{LogIndex, Members, ReplicaId};

/// The members of a group. Joint while `outgoing` is not empty: then a majority of `voters` *and* of `outgoing` decides.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Configuration {
    /// Replicas that decide (in a joint configuration: the new half).
    pub voters: Members,
    /// The old half of a joint configuration; empty otherwise.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub outgoing: Members,
    /// Replicas that receive the log and decide nothing.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub learners: Members,
    /// Voters of the old half that become learners when the joint configuration is left.
    #[serde(default, skip_serializing_if = "Members::is_empty")]
    pub learners_next: Members,
}

impl Configuration {
    /// How many replicas a configuration may name at most, in all its lists: four times the nodes that a cluster is made for.
    pub const MEMBERS_MAX: usize = 4_096;

    /// A simple configuration of these voters.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `replica` decides, in either half.
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters.contains(&replica) || self.outgoing.contains(&replica)
    }

    /// Whether `replica` is named at all.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.is_voter(replica)
            || self.learners.contains(&replica)
            || self.learners_next.contains(&replica)
    }

    /// Its lists, in the order of the entry's bytes.
    fn lists(&self) -> [&Members; 4] {
        [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ]
    }

    /// Everybody named, once each, in order.
    pub fn members(&self) -> Members {
        self.lists().into_iter().flatten().copied().collect()
    }

    /// What a joint configuration becomes when it is left; a simple one stays as it is.
    pub fn left(&self) -> Self {
        let mut learners = self.learners.clone();
        learners.extend(&self.learners_next);
        Self {
            voters: self.voters.clone(),
            outgoing: Members::new(),
            learners,
            learners_next: Members::new(),
        }
    }

    /// The bytes of a configuration entry.
    pub fn encode(&self) -> Bytes {
        // Written by hand so that this crate needs no serializer: four lists, each a count and its ids, little-endian.
        let lists = self.lists();
        let mut bytes =
            Vec::with_capacity(1 + lists.iter().map(|l| 4 + l.len() * 8).sum::<usize>());
        bytes.push(Self::FORMAT);
        for list in lists {
            let count =
                u32::try_from(list.len()).expect("a configuration names fewer than 2^32 replicas");
            bytes.extend_from_slice(&count.to_le_bytes());
            for replica in list {
                bytes.extend_from_slice(&replica.get().to_le_bytes());
            }
        }
        bytes.into()
    }

    const FORMAT: u8 = 1;

    /// Reads the bytes of a configuration entry; `None` when they are not exactly one configuration of a known format, of at most
    /// [`Self::MEMBERS_MAX`] replicas.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[Self::FORMAT])?;
        let mut list = || -> Option<Members> {
            let (count, tail) = rest.split_first_chunk::<4>()?;
            let ids = tail.get(..(u32::from_le_bytes(*count) as usize).checked_mul(8)?)?;
            rest = &tail[ids.len()..];
            Some(
                ids.as_chunks::<8>()
                    .0
                    .iter()
                    .map(|id| ReplicaId::new(u64::from_le_bytes(*id)))
                    .collect(),
            )
        };
        let configuration = Self {
            voters: list()?,
            outgoing: list()?,
            learners: list()?,
            learners_next: list()?,
        };
        // Who is in two lists counts twice.
        let names: usize = configuration.lists().map(|list| list.len()).iter().sum();
        (rest.is_empty() && names <= Self::MEMBERS_MAX).then_some(configuration)
    }
}

/// The wish for another configuration. Adding and removing learners is one entry; anything that touches voters goes through a
/// joint configuration, which the leader leaves by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Index of the configuration that the wish was formed on; refused when another is effective by now.
    pub expected: LogIndex,
    /// Who shall decide. Newcomers must be caught-up learners.
    pub voters: Members,
    /// Who shall only receive.
    pub learners: Members,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = Members> {
        proptest::collection::vec(any::<u64>().prop_map(ReplicaId::new), 0..8)
            .prop_map(Members::from)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(voters in ids(), outgoing in ids(), learners in ids(), learners_next in ids()) {
            let configuration = Configuration { voters, outgoing, learners, learners_next };
            let bytes = configuration.encode();
            prop_assert_eq!(Configuration::decode(&bytes), Some(configuration));
            prop_assert_eq!(Configuration::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Configuration::decode(&bytes);
        }
    }

    #[test]
    fn more_than_may_be_named_are_not_decoded() {
        let most = Configuration {
            voters: [ReplicaId::new(1)].into(),
            learners: (2..=Configuration::MEMBERS_MAX as u64)
                .map(ReplicaId::new)
                .collect(),
            ..Configuration::default()
        };
        assert_eq!(Configuration::decode(&most.encode()), Some(most.clone()));
        let more = Configuration {
            outgoing: [ReplicaId::new(1)].into(),
            ..most
        };
        assert_eq!(Configuration::decode(&more.encode()), None);
    }

    #[test]
    fn format_1_still_decodes() {
        // Bytes as the first format wrote them: voters {1, 2}, learners {3}.
        let bytes = b"\x01\x02\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0";
        let configuration = Configuration::decode(bytes).unwrap();
        assert_eq!(configuration.voters, [1, 2].map(ReplicaId::new).into());
        assert_eq!(configuration.learners, [ReplicaId::new(3)].into());
        assert_eq!(configuration.encode()[..], bytes[..]);
    }
}
