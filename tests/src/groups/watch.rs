//! What a bystander sees of one process: which features of the group a step showed.
//!
//! Everything is derived from statuses before and after a step, from what caused the step, and from the messages: the group itself
//! counts nothing. Called by `process` and `settle`; the names are those of `coverage`.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use synod_consensus::{Configuration, GroupOptions, PeerState, ReplicaId, Role, Status, Term};

use crate::coverage::Coverage;

/// Why a replica took a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    Message {
        name: &'static str,
        term: Term,
    },
    /// So long after it was due.
    Tick(Duration),
    Installed,
    Other,
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// A proposal was refused as too much.
    pub(crate) was_busy: bool,
    /// Serials of the writes under way, and when they were asked for.
    writes: VecDeque<(u64, Duration)>,
    /// The term in which somebody was told to campaign.
    gave_up: Option<Term>,
    /// What stage of a transfer is under way, and since when.
    transfer_since: Option<(Handing, Duration)>,
    arriving: Option<Arriving>,
    departing: BTreeMap<ReplicaId, Departing>,
}

/// For whom a transfer is prepared, and to whom one goes.
type Handing = (Option<ReplicaId>, Option<ReplicaId>);

/// A snapshot of which chunks came.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    checksum: u64,
    next: u64,
    total: u64,
}

/// A snapshot of which chunks were sent.
#[derive(Clone, Copy, Debug)]
struct Departing {
    term: Term,
    /// The run of chunks.
    serial: u64,
    /// The furthest beginning of a chunk.
    offset: u64,
}

/// The few fields of messages that tell something, read from their bytes as another program would.
#[derive(Deserialize)]
struct Peek {
    term: Term,
    to: ReplicaId,
    body: Body,
}

#[derive(Deserialize)]
enum Body {
    PreVoteReply {
        granted: bool,
    },
    Chunk {
        serial: u64,
        checksum: u64,
        offset: u64,
        total: u64,
        data: serde_bytes_len::Length,
    },
}

/// Only the length of a byte string.
mod serde_bytes_len {
    use core::fmt;

    use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

    pub(super) struct Length(pub(super) u64);

    struct Count;

    impl<'de> Visitor<'de> for Count {
        type Value = Length;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Length, E> {
            Ok(Length(bytes.len() as u64))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Length, A::Error> {
            let mut length = 0;
            while items.next_element::<u8>()?.is_some() {
                length += 1;
            }
            Ok(Length(length))
        }
    }

    impl<'de> Deserialize<'de> for Length {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_bytes(Count)
        }
    }
}

fn peek(name: &str, bytes: &[u8]) -> Option<Peek> {
    matches!(name, "pre_vote_reply" | "chunk")
        .then(|| rmp_serde::from_slice(bytes).expect("the fields are there"))
}

impl Watch {
    pub(crate) fn write_asked(&mut self, serial: u64, now: Duration) {
        self.writes.push_back((serial, now));
    }

    pub(crate) fn write_told(&mut self, serial: u64) {
        self.writes.retain(|(waiting, _)| *waiting != serial);
    }

    /// Whether, in this term, somebody was told to campaign.
    pub(crate) fn has_given_up(&self, term: Term) -> bool {
        self.gave_up == Some(term)
    }

    /// How long a transfer, or what comes before it, has lasted that should have ended with this step.
    pub(crate) fn transfer_lasts(
        &mut self,
        cause: Cause,
        status: &Status,
        now: Duration,
        limit: Duration,
    ) -> Option<Duration> {
        let stage = (status.prepares, status.transfer);
        if stage == (None, None) {
            self.transfer_since = None;
            return None;
        }
        let known = self.transfer_since.filter(|(of, _)| *of == stage);
        let (_, since) = *self.transfer_since.insert(known.unwrap_or((stage, now)));
        let lasts = now - since;
        (matches!(cause, Cause::Tick(_)) && lasts > limit).then_some(lasts)
    }

    /// A message leaves.
    pub(crate) fn sends(
        &mut self,
        name: &'static str,
        term: Term,
        bytes: &[u8],
        coverage: &mut Coverage,
    ) {
        if name == "campaign_now" {
            self.gave_up = Some(term);
        }
        match peek(name, bytes) {
            Some(Peek {
                body: Body::PreVoteReply { granted: false },
                ..
            }) => coverage.count("pre_vote_refused"),
            Some(Peek {
                term,
                to,
                body:
                    Body::Chunk {
                        serial,
                        offset,
                        data,
                        ..
                    },
            }) if data.0 > 0 => {
                let run = Departing {
                    term,
                    serial,
                    offset,
                };
                match self.departing.insert(to, run) {
                    Some(sent) if (sent.term, sent.serial) == (term, serial) => {}
                    _ if offset > 0 => coverage.count("snapshot_resumed"),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// A message arrives, before the group sees it.
    pub(crate) fn receives(
        &mut self,
        name: &'static str,
        bytes: &[u8],
        role: Role,
        coverage: &mut Coverage,
    ) {
        let Some(Peek {
            body:
                Body::Chunk {
                    checksum,
                    offset,
                    total,
                    data,
                    ..
                },
            ..
        }) = peek(name, bytes)
        else {
            return;
        };
        if matches!(role, Role::PreCandidate | Role::Candidate) {
            coverage.count("snapshot_met_a_candidate");
        }
        let other = self.arriving.filter(|other| other.checksum != checksum);
        if other.is_some_and(|other| other.next > 0 && other.next < other.total) {
            coverage.count("snapshot_superseded");
        }
        let mut arriving = match (self.arriving, other) {
            (Some(same), None) => same,
            _ => Arriving {
                checksum,
                next: 0,
                total,
            },
        };
        if arriving.next == offset {
            arriving.next += data.0;
        }
        self.arriving = Some(arriving);
    }

    /// The process dies.
    pub(crate) fn crashes(&self, status: &Status, is_installing: bool, coverage: &mut Coverage) {
        let is_half_way = |arriving: &Arriving| arriving.next > 0 && arriving.next < arriving.total;
        if self.arriving.as_ref().is_some_and(is_half_way) {
            coverage.count("snapshot_cut_by_a_crash_of_its_receiver");
        }
        if is_installing {
            coverage.count("snapshot_cut_by_a_crash_while_installed");
        }
        let ships = |peer: &synod_consensus::PeerStatus| {
            let sent = self.departing.get(&peer.replica);
            let half_way = sent.is_some_and(|sent| sent.term == status.term && sent.offset > 0);
            peer.state == PeerState::Snapshot && half_way
        };
        if status.peers.iter().any(ships) {
            coverage.count("snapshot_cut_by_a_crash_of_its_sender");
        }
    }

    /// A step is done.
    pub(crate) fn stepped(
        &mut self,
        cause: Cause,
        before: &Status,
        after: &Status,
        now: Duration,
        options: &GroupOptions,
        coverage: &mut Coverage,
    ) {
        match cause {
            Cause::Message { name: "vote", term } if term > before.term && after.term < term => {
                coverage.count("vote_refused_by_stickiness");
            }
            Cause::Message {
                name: "conflict", ..
            } if after.role == Role::Leader => coverage.count("conflict_backed_off"),
            Cause::Tick(late) if late > options.heartbeat_interval => coverage.count("tick_late"),
            _ => {}
        }
        if before.role == Role::Leader && after.role == Role::Follower && after.term == before.term
        {
            self.stepped_down(cause, before, after, now, options, coverage);
        }
        self.changed(cause, before, after, coverage);
        if after.role == Role::Leader {
            self.leads(before, after, coverage);
        } else {
            self.was_busy = false;
        }
    }

    fn stepped_down(
        &self,
        cause: Cause,
        before: &Status,
        after: &Status,
        now: Duration,
        options: &GroupOptions,
        coverage: &mut Coverage,
    ) {
        let disk_stalls = self
            .writes
            .front()
            .is_some_and(|(_, since)| now >= *since + options.disk_stall);
        let horizon = now.saturating_sub(options.election_timeout + options.heartbeat_interval);
        let heard = |voter: ReplicaId| {
            let mut peers = before.peers.iter();
            voter == before.replica
                || peers.any(|peer| peer.replica == voter && peer.active_at >= horizon)
        };
        let configuration = &before.configuration;
        let is_heard = [&configuration.voters, &configuration.outgoing]
            .iter()
            .all(|half| {
                2 * half.iter().filter(|voter| heard(**voter)).count() > half.len()
                    || half.is_empty()
            });
        match cause {
            Cause::Tick(_) if !is_heard => coverage.count("check_quorum_step_down"),
            Cause::Tick(_) if disk_stalls => coverage.count("disk_stall_step_down"),
            _ if !after.configuration.is_voter(after.replica) => {
                coverage.count("leader_removed_itself");
            }
            _ => {}
        }
    }

    /// Configurations come and go.
    fn changed(&self, cause: Cause, before: &Status, after: &Status, coverage: &mut Coverage) {
        let (old, new) = (&before.configuration, &after.configuration);
        if after.configuration_index < before.configuration_index
            && !matches!(cause, Cause::Installed)
        {
            coverage.count("configuration_reverted_by_truncation");
        }
        let stays_leader =
            before.role == Role::Leader && after.role == Role::Leader && after.term == before.term;
        if !stays_leader || after.configuration_index <= before.configuration_index {
            return;
        }
        if old.is_joint() && !new.is_joint() {
            coverage.count("joint_left");
        }
        if new.is_joint() {
            coverage.count("joint_entered");
            entered(old, new, coverage);
        }
    }

    fn leads(&mut self, before: &Status, after: &Status, coverage: &mut Coverage) {
        for peer in &after.peers {
            let earlier = before.peers.iter().find(|old| old.replica == peer.replica);
            if peer.state == PeerState::Replicate {
                if earlier.is_some_and(|old| old.state == PeerState::Probe) {
                    coverage.count("probe_to_replicate");
                }
                let was_full = earlier.is_some_and(|old| old.next <= before.last.index);
                if peer.next <= after.last.index && !was_full {
                    coverage.count("window_full");
                }
            }
        }
        let own_term = before.role == Role::Leader && before.term == after.term;
        if own_term && after.commit > before.commit && after.persisted < after.commit {
            coverage.count("committed_by_followers_alone");
        }
        if self.was_busy && after.pending_bytes == 0 {
            self.was_busy = false;
            coverage.count("busy_and_empty_again");
        }
    }
}

fn entered(old: &Configuration, new: &Configuration, coverage: &mut Coverage) {
    let gone = new.outgoing.difference(&new.voters).count();
    let come = new.voters.difference(&new.outgoing).count();
    if new.voters.len() >= 3 && gone > 0 && gone == come && 2 * gone < new.voters.len() {
        coverage.count("minority_replaced_at_once");
        if gone > 1 {
            coverage.count("several_replaced_at_once");
        }
    }
    if new.voters.iter().any(|voter| old.learners.contains(voter)) {
        coverage.count("learner_promoted");
    }
    if !new.learners_next.is_empty() {
        coverage.count("voter_demoted");
    }
}
