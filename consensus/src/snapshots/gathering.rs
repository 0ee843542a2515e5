//! The follower's side: chunks that arrive, what the caller holds of them, and the installation of the whole.

use core::time::Duration;

use bytes::Bytes;

use crate::group::Group;
use crate::message::{Body, ChunkStep};
use crate::options::Sabotage;
use crate::output::{Output, Role};
use crate::snapshot::{ChunkReceived, Refusal, SnapshotId};
use crate::{LogIndex, Position, ReplicaId, SnapshotMeta, Term};

/// How far the caller is with a snapshot.
#[derive(Debug)]
pub(crate) struct Gathering {
    meta: SnapshotMeta,
    id: SnapshotId,
    /// The leadership that last shipped it; zero: an earlier life.
    term: Term,
    /// The newest run of chunks in that term.
    serial: u64,
    /// Handed out to be stored, without a hole.
    received: u64,
    /// Stored, as the caller says.
    stored: u64,
    /// Chunks handed out and not answered.
    storing: u32,
}

impl Gathering {
    /// How many bytes were handed out to be stored.
    #[cfg(test)]
    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}

/// A snapshot that the caller is installing.
#[derive(Debug)]
pub(crate) struct Installing {
    meta: SnapshotMeta,
    id: SnapshotId,
    /// Whose leader sent it: under it, what the snapshot covers is known to be equal.
    term: Term,
    serial: u64,
}

impl Group {
    /// After a start: the caller still holds the first `held` bytes of a snapshot. It goes on from there when a leader ships the same
    /// one; else `Output::DropPartial` says that it is not wanted.
    pub fn partial_snapshot(
        &mut self,
        now: Duration,
        meta: SnapshotMeta,
        id: SnapshotId,
        held: u64,
    ) {
        self.begin(now);
        if self.gathering.is_some() || self.installing.is_some() || held > id.bytes {
            self.outputs.push_back(Output::DropPartial { id });
            return;
        }
        self.gathering = Some(Box::new(Gathering {
            meta,
            id,
            term: Term::ZERO,
            serial: 0,
            received: held,
            stored: held,
            storing: 0,
        }));
        self.look_at_partial();
    }

    /// Drops what the log has caught up with by other means (H66).
    pub(crate) fn look_at_partial(&mut self) {
        let passed = self
            .gathering
            .as_ref()
            .is_some_and(|gathering| gathering.id.position.index <= self.committed);
        if passed {
            self.drop_partial();
        }
    }

    pub(crate) fn drop_partial(&mut self) {
        if let Some(gathering) = self.gathering.take() {
            let id = gathering.id;
            self.outputs.push_back(Output::DropPartial { id });
        }
    }

    fn reply(&mut self, to: ReplicaId, serial: u64, next: u64, step: ChunkStep) {
        let body = Body::ChunkReply {
            serial,
            next,
            step,
            refusal: Refusal::default(),
        };
        self.send(to, body);
    }

    fn refuse(&mut self, to: ReplicaId, serial: u64, refusal: Refusal) {
        let body = Body::ChunkReply {
            serial,
            next: 0,
            step: ChunkStep::Refused,
            refusal,
        };
        self.send(to, body);
    }

    pub(crate) fn handle_chunk(
        &mut self,
        from: ReplicaId,
        serial: u64,
        meta: SnapshotMeta,
        (total, checksum): (u64, u64),
        offset: u64,
        data: Bytes,
    ) {
        let position = meta.position;
        let id = SnapshotId {
            position,
            bytes: total,
            checksum,
        };
        if let Some(installing) = &mut self.installing {
            if installing.id == id {
                installing.serial = serial;
                self.reply(from, serial, total, ChunkStep::Held);
            }
            return;
        }
        // H67, H68: what is committed here already, or stands in this log, needs no snapshot.
        if position.index <= self.committed || self.log.holds(position) {
            self.committed = self.committed.max(position.index);
            self.verified = self.verified.max(position.index);
            self.acknowledge = true;
            self.look_at_partial();
            return;
        }
        self.caught_up_at = LogIndex::MAX;
        if total > self.options.snapshot_bytes as u64 {
            self.refuse(from, serial, Refusal::TooLong);
            return;
        }
        let term = self.term;
        let known = match &self.gathering {
            Some(gathering) if gathering.id == id && gathering.meta == meta => true,
            // Of a run before the one that brought the present one: an overtaken chunk supersedes nothing.
            Some(gathering) if gathering.term == term && serial < gathering.serial => return,
            _ => false,
        };
        if !known {
            self.drop_partial();
        }
        let window = self
            .options
            .chunk_window_bytes
            .max(self.options.chunk_bytes) as u64;
        let gathering = self.gathering.get_or_insert_with(|| {
            Box::new(Gathering {
                meta,
                id,
                term,
                serial,
                received: 0,
                stored: 0,
                storing: 0,
            })
        });
        if gathering.term != term {
            gathering.term = term;
            gathering.serial = serial;
        }
        gathering.serial = gathering.serial.max(serial);
        let end = offset.saturating_add(data.len() as u64).min(total);
        if data.is_empty() {
            let next = gathering.received;
            self.reply(from, serial, next, ChunkStep::Held);
            self.install_when_whole();
        } else if offset > gathering.received {
            let next = gathering.received;
            self.reply(from, serial, next, ChunkStep::Gap);
        } else if end > gathering.received
            && (gathering.storing == 0 || end - gathering.stored <= window)
        {
            let already = usize::try_from(gathering.received - offset).expect("within the chunk");
            let data = data.slice(already..usize::try_from(end - offset).expect("its length"));
            let chunk = ChunkReceived {
                meta: Box::new(gathering.meta.clone()),
                id,
                offset: gathering.received,
                data,
            };
            gathering.received = end;
            gathering.storing += 1;
            self.outputs.push_back(Output::StoreChunk(chunk));
        }
    }

    /// Answers `Output::StoreChunk`, each once and in order: of the snapshot `id` the first `next` bytes are stored. Less than what was
    /// handed out means that there was no room for the chunk at the moment; it is then sent again.
    pub fn chunk_stored(&mut self, now: Duration, id: SnapshotId, next: u64) {
        self.begin(now);
        let Some(gathering) = self
            .gathering
            .as_mut()
            .filter(|gathering| gathering.id == id && gathering.storing > 0)
        else {
            return;
        };
        gathering.storing -= 1;
        gathering.stored = next.min(gathering.received);
        if gathering.storing == 0 {
            gathering.received = gathering.stored;
        }
        let (serial, next) = (gathering.serial, gathering.stored);
        if let Some(leader) = self.leader
            && gathering.term == self.term
        {
            self.reply(leader, serial, next, ChunkStep::Held);
        }
        self.install_when_whole();
    }

    /// Answers `Output::StoreChunk` like `chunk_stored`: it cannot be stored, and nothing of the snapshot `id` is held any more. The
    /// leader is told, so that it neither sends on nor keeps its log for it.
    pub fn chunk_not_kept(&mut self, now: Duration, id: SnapshotId) {
        self.begin(now);
        let Some(gathering) = self
            .gathering
            .take_if(|gathering| gathering.id == id && gathering.storing > 0)
        else {
            return;
        };
        if let Some(leader) = self.leader
            && gathering.term == self.term
        {
            self.refuse(leader, gathering.serial, Refusal::NotKept);
        }
    }

    fn install_when_whole(&mut self) {
        let Some(gathering) = &self.gathering else {
            return;
        };
        if gathering.storing > 0 || gathering.stored < gathering.id.bytes {
            return;
        }
        // H66: while it was stored the log may have got there by appends of another leader. It may hold more than the snapshot by now,
        // and have acknowledged it. (Or what was checked against this leader's log is not what the snapshot says: no leader contradicts
        // itself, and what was checked, and acknowledged, stays.)
        let position = gathering.id.position;
        if self.log.holds(position) || position.index <= self.verified {
            self.drop_partial();
            return;
        }
        // A campaign is run with the log as it is. The next leader's chunk asks again.
        if self.role != Role::Follower {
            return;
        }
        let Some(gathering) = self.gathering.take() else {
            return;
        };
        let Gathering {
            meta,
            id,
            term,
            serial,
            ..
        } = *gathering;
        self.installing = Some(Box::new(Installing {
            meta: meta.clone(),
            id,
            term,
            serial,
        }));
        let meta = Box::new(meta);
        self.outputs.push_back(Output::Install { meta, id });
    }

    /// The snapshot of `Output::Install` at `position` is durable and is the state now.
    pub fn installed(&mut self, now: Duration, position: Position) {
        self.begin(now);
        let Some(installing) = self
            .installing
            .take_if(|installing| installing.meta.position == position)
        else {
            return;
        };
        let Installing { meta, term, .. } = *installing;
        let mut base = meta.clone();
        if self.is_sabotaged(Sabotage::ConfigurationKept) {
            (base.configuration_index, base.configuration) = self.log.configuration().clone();
        }
        self.log = crate::log::Log::empty(&base); // H65: its configuration, too, is all that counts now
        self.committed = self.committed.max(position.index);
        self.applied = position.index;
        self.handed = position.index;
        self.ledger.reset(meta);
        if term == self.term {
            self.verified = self.verified.max(position.index);
            self.acknowledge = true;
        }
        self.unseen_configuration = LogIndex::ZERO;
        self.configuration_changed();
    }

    /// The snapshot of `Output::Install` is not what its name says, and nothing of it is held any more: it begins anew.
    pub fn install_refused(&mut self, now: Duration, id: SnapshotId) {
        self.install_failed(now, id, Refusal::Damaged);
    }

    /// Like `install_refused`, for whatever reason.
    pub fn install_failed(&mut self, now: Duration, id: SnapshotId, refusal: Refusal) {
        self.begin(now);
        let Some(installing) = self.installing.take_if(|installing| installing.id == id) else {
            return;
        };
        if let Some(leader) = self.leader
            && installing.term == self.term
        {
            self.refuse(leader, installing.serial, refusal);
        }
    }
}
