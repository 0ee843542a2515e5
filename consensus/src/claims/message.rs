//! What two nodes say to each other about groups that rest.
//!
//! A beat is a datagram: it may be lost, late or doubled. News goes by a stream, which keeps the order but may break between two pieces;
//! what is missing then shows in the beats.

use serde::{Deserialize, Serialize};

use crate::{Claim, GroupId, ReplicaId};

/// "I am there": the regular word of one node to another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Beat {
    /// Counts the starts of the sender.
    pub life: u64,
    /// Grows with every beat of this life, so that an earlier one that comes later says nothing.
    pub serial: u64,
    /// Version of the list of claims that the sender has on the receiver.
    pub issued: u64,
    /// The life of the receiver whose claims the sender holds.
    pub of: u64,
    /// Version of the receiver's list that the sender holds.
    pub held: u64,
    /// Of the groups in that list whose replica rests at the sender; see `digest`.
    pub digest: u64,
}

impl Beat {
    /// Encoded length, in bytes.
    pub const BYTES: usize = 48;

    /// Six numbers, little-endian.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let numbers = [
            self.life,
            self.serial,
            self.issued,
            self.of,
            self.held,
            self.digest,
        ];
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None`: no beat. What a newer build may have put behind it is passed over.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_at_checked(Self::BYTES)?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let numbers: &[[u8; 8]; 6] = numbers.try_into().ok()?;
        let [life, serial, issued, of, held, digest] = numbers.map(u64::from_le_bytes);
        Some(Self {
            life,
            serial,
            issued,
            of,
            held,
            digest,
        })
    }
}

/// A change of the sender's claims on the receiver, or the answer to one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct News {
    /// The life of the sender.
    #[serde(rename = "l")]
    pub life: u64,
    /// The life of the receiver that it is meant for.
    #[serde(rename = "y")]
    pub your_life: u64,
    /// What it is.
    #[serde(rename = "b")]
    pub(crate) body: NewsBody,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum NewsBody {
    /// Turns version `from` of the list into version `upto`.
    #[serde(rename = "d")]
    Delta {
        #[serde(rename = "f")]
        from: u64,
        #[serde(rename = "u")]
        upto: u64,
        /// Whether the list begins anew with this page, whatever the receiver holds.
        #[serde(rename = "w", default)]
        whole: bool,
        /// Whether this is not the last page of a list that begins anew.
        #[serde(rename = "m", default)]
        more: bool,
        #[serde(rename = "a", default)]
        add: Vec<Added>,
        #[serde(rename = "r", default)]
        remove: Vec<Removed>,
    },
    /// What became of claims.
    #[serde(rename = "a")]
    Answers(Vec<Answer>),
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Added {
    #[serde(rename = "c")]
    pub(crate) claim: Claim,
    /// The replica that is to hold it.
    #[serde(rename = "t")]
    pub(crate) to: ReplicaId,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Removed {
    #[serde(rename = "g")]
    pub(crate) group: GroupId,
    /// The leader's replica is no more: another leader is needed at once.
    #[serde(rename = "l", default)]
    pub(crate) lost: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Answer {
    #[serde(rename = "g")]
    pub(crate) group: GroupId,
    /// The version of the list that this claim came with.
    #[serde(rename = "s")]
    pub(crate) since: u64,
    /// Whether its replica rests.
    #[serde(rename = "r")]
    pub(crate) rests: bool,
}

/// What a claim adds to the digest of a set of claims, which is the exclusive or over all of them.
pub(crate) fn digest(claim: &Claim) -> u64 {
    let mut mixed = claim.group.get() ^ claim.term.get().rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15;
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_read_as_it_was_written_and_nothing_else_is_one() {
        let beat = Beat {
            life: 1,
            serial: u64::MAX,
            issued: 3,
            of: 4,
            held: 5,
            digest: 6,
        };
        let bytes = beat.encode();
        assert_eq!(Beat::decode(&bytes), Some(beat));
        assert_eq!(Beat::decode(&bytes[..47]), None);
        assert_eq!(Beat::decode(&[0; 56]), Some(Beat::default()));
        assert_eq!(Beat::decode(&[]), None);
    }
}
