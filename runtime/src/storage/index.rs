//! What the log knows in memory: where each replica's entries lie, its hard state and base, and how much each file is still needed.
//!
//! Here: [`Index`]. It changes in one way only, [`Index::apply`] with a record, both after a write and while opening: so the state after a
//! restart is the state before it by construction.
//! Not here: whether a batch fits (`outline`), reading payloads back (`log`), finding frames (`open`).
//!
//! While opening, records of files that are gone are missing. What they said is superseded by something that follows, so [`Index::apply`]
//! lets the beginning of a replica be unknown for a while, and [`Index::complete`] checks at the end that nothing is.

use std::collections::{BTreeMap, VecDeque};

use synod_consensus::{HardState, LogIndex, ReplicaId, ReplicaKey, SnapshotMeta, Term};

use super::frame::{Record, RecordKind};

/// Where one entry lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryAt {
    pub(crate) term: Term,
    /// Number of the file.
    pub(crate) file: u32,
    /// Where its record starts.
    pub(crate) offset: u32,
    /// Bytes of payload.
    pub(crate) length: u32,
}

/// One replica's log.
#[derive(Debug)]
pub(crate) struct ReplicaIndex {
    pub(crate) hard_state: HardState,
    /// File of the record that says so; `None` while no record did.
    pub(crate) hard_state_file: Option<u32>,
    pub(crate) base: SnapshotMeta,
    /// File of the record that says so; `None` only while opening.
    pub(crate) base_file: Option<u32>,
    /// Index of `entries[0]`; the base's successor, except while opening.
    first: LogIndex,
    pub(crate) entries: VecDeque<EntryAt>,
    /// Whether the end of the log is known: always, except while opening.
    end_known: bool,
}

impl ReplicaIndex {
    fn unknown() -> Self {
        Self {
            hard_state: HardState::default(),
            hard_state_file: None,
            base: SnapshotMeta::default(),
            base_file: None,
            first: LogIndex::ZERO.next(),
            entries: VecDeque::new(),
            end_known: false,
        }
    }

    /// Index of the last entry, or of the base.
    pub(crate) fn last(&self) -> LogIndex {
        self.first.plus(self.entries.len() as u64).previous()
    }

    /// Where `entries` has this index.
    pub(crate) fn place(&self, index: LogIndex) -> Option<usize> {
        let place = usize::try_from(index.get().checked_sub(self.first.get())?).ok()?;
        (place < self.entries.len()).then_some(place)
    }

    /// The oldest file that holds one of its entries.
    pub(crate) fn oldest_entry_file(&self) -> Option<u32> {
        self.entries.front().map(|entry| entry.file) // an entry is written after its predecessor, so files only grow
    }
}

/// Bytes of a hard state's payload: term, vote (0 or 1, then the id), commit.
pub(crate) const HARD_STATE_BYTES: usize = 25;

/// The payload of a hard state's record.
pub(crate) fn encode_hard_state(state: &HardState) -> [u8; HARD_STATE_BYTES] {
    let mut bytes = [0; HARD_STATE_BYTES];
    bytes[0..8].copy_from_slice(&state.term.get().to_le_bytes());
    if let Some(vote) = state.vote {
        bytes[8] = 1;
        bytes[9..17].copy_from_slice(&vote.get().to_le_bytes());
    }
    bytes[17..25].copy_from_slice(&state.commit.get().to_le_bytes());
    bytes
}

fn decode_hard_state(bytes: &[u8]) -> Option<HardState> {
    let bytes: &[u8; HARD_STATE_BYTES] = bytes.try_into().ok()?;
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let vote = match bytes[8] {
        0 => None,
        1 => Some(ReplicaId::new(u64_at(9))),
        _ => return None,
    };
    Some(HardState {
        term: Term::new(u64_at(0)),
        vote,
        commit: LogIndex::new(u64_at(17)),
    })
}

/// Writes a base's payload.
pub(crate) fn encode_base(buffer: &mut Vec<u8>, base: &SnapshotMeta) {
    rmp_serde::encode::write_named(buffer, base)
        .expect("a base is plain data, and memory takes it");
}

/// What lies where.
#[derive(Debug)]
pub(crate) struct Index {
    /// In boxes: keys come in order, and that leaves the nodes of a tree half empty.
    pub(crate) replicas: BTreeMap<ReplicaKey, Box<ReplicaIndex>>,
    /// Per file, from `front` on: how many records in it are still needed.
    live: VecDeque<u64>,
    front: u32,
}

impl Index {
    /// An index over files from `front` on.
    pub(crate) fn new(front: u32) -> Self {
        Self {
            replicas: BTreeMap::new(),
            live: VecDeque::new(),
            front,
        }
    }

    fn need(live: &mut VecDeque<u64>, front: u32, file: u32) {
        let place = (file - front) as usize;
        if live.len() <= place {
            live.resize(place + 1, 0);
        }
        live[place] += 1;
    }

    fn release(live: &mut VecDeque<u64>, front: u32, file: u32) {
        let count = &mut live[(file - front) as usize];
        *count = count
            .checked_sub(1)
            .expect("Live Records: every record is released once");
    }

    /// The first file that is still needed, if any before `current`; else `current`.
    pub(crate) fn oldest_needed(&self, current: u32) -> u32 {
        let dead = self.live.iter().take_while(|live| **live == 0).count();
        current.min(
            self.front
                .saturating_add(u32::try_from(dead).unwrap_or(u32::MAX)),
        )
    }

    /// Forgets the files before `file`, none of which is needed.
    pub(crate) fn forget_before(&mut self, file: u32) {
        while self.front < file {
            let live = self.live.pop_front().unwrap_or_default();
            assert_eq!(live, 0, "Live Records: file {} is still needed", self.front);
            self.front += 1;
        }
    }

    /// Takes in one record of the frame that starts at `frame_at` of `file`. The error says why the record cannot follow those before it:
    /// while opening that is damage; after a write, which was checked, it cannot be.
    pub(crate) fn apply(
        &mut self,
        record: &Record<'_>,
        file: u32,
        frame_at: u64,
    ) -> Result<(), String> {
        let head = &record.head;
        let (live, front) = (&mut self.live, self.front);
        if head.kind == RecordKind::Drop {
            if let Some(replica) = self.replicas.remove(&head.key) {
                let entries = replica.entries.iter().map(|entry| entry.file);
                for file in entries
                    .chain(replica.hard_state_file)
                    .chain(replica.base_file)
                {
                    Self::release(live, front, file);
                }
            }
            return Ok(());
        }
        let replica = self
            .replicas
            .entry(head.key)
            .or_insert_with(|| Box::new(ReplicaIndex::unknown()));
        match head.kind {
            RecordKind::Drop => {}
            RecordKind::HardState => {
                replica.hard_state = decode_hard_state(record.payload)
                    .ok_or_else(|| format!("a hard state of {:?} is not one", head.key))?;
                if let Some(old) = replica.hard_state_file.replace(file) {
                    Self::release(live, front, old);
                }
                Self::need(live, front, file);
            }
            RecordKind::Entry => {
                let offset = u32::try_from(frame_at + record.at as u64)
                    .map_err(|_| format!("an entry of {:?} lies beyond 4 GiB", head.key))?;
                let length = u32::try_from(record.payload.len())
                    .map_err(|_| "a payload beyond 4 GiB".to_owned())?;
                if !replica.end_known {
                    replica.first = head.index;
                    replica.end_known = true;
                }
                if head.index < replica.first {
                    // The entries between were compacted by a record that is still to come.
                    Self::release_all(live, front, replica.entries.drain(..));
                    replica.first = head.index;
                }
                if head.index > replica.last().next() {
                    return Err(format!(
                        "entry {} of {:?} follows entry {}",
                        head.index,
                        head.key,
                        replica.last()
                    ));
                }
                let keep = usize::try_from(head.index.get() - replica.first.get())
                    .expect("within the entries held");
                Self::release_all(live, front, replica.entries.drain(keep..));
                replica.entries.push_back(EntryAt {
                    term: head.term,
                    file,
                    offset,
                    length,
                });
                Self::need(live, front, file);
            }
            RecordKind::Compact | RecordKind::Reset => {
                let base: SnapshotMeta =
                    rmp_serde::from_slice(record.payload).map_err(|error| {
                        format!("the base of {:?} cannot be decoded: {error}", head.key)
                    })?;
                let index = base.position.index;
                if head.kind == RecordKind::Reset {
                    Self::release_all(live, front, replica.entries.drain(..));
                    replica.end_known = true;
                } else if replica.end_known && index > replica.last() {
                    return Err(format!(
                        "{:?} is compacted through {index}, but ends at {}",
                        head.key,
                        replica.last()
                    ));
                } else if index >= replica.first {
                    let gone = usize::try_from(index.get() - replica.first.get() + 1)
                        .unwrap_or(usize::MAX);
                    Self::release_all(
                        live,
                        front,
                        replica.entries.drain(..gone.min(replica.entries.len())),
                    );
                }
                if replica.entries.is_empty() || index >= replica.first {
                    replica.first = index.next();
                }
                replica.base = base;
                if let Some(old) = replica.base_file.replace(file) {
                    Self::release(live, front, old);
                }
                Self::need(live, front, file);
            }
        }
        Ok(())
    }

    fn release_all(live: &mut VecDeque<u64>, front: u32, entries: impl Iterator<Item = EntryAt>) {
        for entry in entries {
            Self::release(live, front, entry.file);
        }
    }

    /// Checks, when all records are taken in, that every replica's log is whole.
    pub(crate) fn complete(&mut self) -> Result<(), String> {
        for (key, replica) in &mut self.replicas {
            if replica.base_file.is_none() {
                return Err(format!("no record says where the log of {key:?} begins"));
            }
            if !replica.entries.is_empty() && replica.first != replica.base.position.index.next() {
                return Err(format!(
                    "the log of {key:?} begins after {}, but its first entry is {}",
                    replica.base.position.index, replica.first
                ));
            }
            replica.end_known = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STYLE 11: formats are proven by old bytes.
    #[test]
    fn v1_hard_state_still_decodes() {
        let bytes = b"\x05\0\0\0\0\0\0\0\x01\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0";
        let state = HardState {
            term: Term::new(5),
            vote: Some(ReplicaId::new(7)),
            commit: LogIndex::new(9),
        };
        assert_eq!(decode_hard_state(bytes), Some(state));
        assert_eq!(encode_hard_state(&state), *bytes);
        assert_eq!(decode_hard_state(&bytes[1..]), None);
    }
}
