//! A plan carried out on the stores.
//!
//! Here: the order of the marks over all stores, and the writes of one store. See the room's own page for why a crash anywhere leaves
//! something that the same command finishes.

use std::path::Path;

use bytes::Bytes;
use synod_consensus::recovery::Survivor;
use synod_consensus::{
    Configuration, Entry, GroupId, LogStore, ReplicaId, ReplicaKey, Restored, SnapshotMeta, Write,
};

use super::RecoveryError;
use super::journal::{Mark, Phase};
use super::plan::{Fate, GroupPlan, Plan, Site, commands, store_of};
use crate::storage::{
    Checkpoint, Checkpoints, LogOptions, RealDisk, SegmentedLog, StateRows, reaches,
};

/// Replicas of one store are changed together up to this many bytes, to save syncs.
const BATCH_BYTES: usize = 4 << 20;
/// And up to this many; few in tests, so that a crash can come between.
const BATCH_REPLICAS: usize = if cfg!(test) { 2 } else { 256 };

impl Plan {
    /// Does it. `confirmation` is [`Plan::confirmation`] as the operator typed it; `accept_empty` says that shards of which nothing is left
    /// may begin anew. On an error of the disks, give the same command again.
    pub fn carry_out(
        &mut self,
        confirmation: &str,
        accept_empty: bool,
    ) -> Result<(), RecoveryError> {
        if confirmation.trim() != self.confirmation() {
            return Err(RecoveryError::Unconfirmed {
                given: confirmation.to_owned(),
            });
        }
        if self.emptied() > 0 && !accept_empty {
            return Err(RecoveryError::EmptyUnconfirmed {
                groups: self.emptied(),
            });
        }
        self.carry_out_until(None).map(drop)
    }

    /// Does it, or only the first so many of the steps that a crash can come between. Returns how many were done.
    pub(super) fn carry_out_until(&mut self, limit: Option<usize>) -> Result<usize, RecoveryError> {
        let mut steps = Steps { done: 0, limit };
        if !self.resumed {
            // First the marks of a recovery that was begun and has changed nothing.
            for site in &mut self.sites {
                let is_begun = |mark: &mut Mark| mark.phase == Phase::Begun;
                if let Some(mark) = site.mark.take_if(is_begun) {
                    if steps.over() {
                        return Ok(steps.done);
                    }
                    mark.call_off(&disk(site.lock.path())?)?;
                }
            }
            for site in &mut self.sites {
                if steps.over() {
                    return Ok(steps.done);
                }
                let disk = disk(site.lock.path())?;
                site.mark = Some(Mark::prepare(&disk, &self.head, &self.groups)?);
            }
        }
        for site in &mut self.sites {
            let Some(mark) = site
                .mark
                .as_mut()
                .filter(|mark| mark.phase == Phase::Prepared)
            else {
                continue;
            };
            if steps.over() {
                return Ok(steps.done);
            }
            mark.phase = Phase::Begun;
            mark.write(&disk(site.lock.path())?)?;
        }
        let payloads: Vec<Bytes> = commands(&self.head, &self.groups)
            .iter()
            .map(crate::wire::encode)
            .collect();
        for site in &self.sites {
            let is_begun = |mark: &Mark| mark.phase == Phase::Begun;
            if site.mark.as_ref().is_some_and(is_begun)
                && !change(site, &self.groups, &payloads, &mut steps)?
            {
                return Ok(steps.done);
            }
        }
        for site in &mut self.sites {
            let is_begun = |mark: &mut Mark| mark.phase == Phase::Begun;
            let Some(mark) = site.mark.take_if(is_begun) else {
                continue;
            };
            if steps.over() {
                return Ok(steps.done);
            }
            mark.finish(&disk(site.lock.path())?)?;
        }
        Ok(steps.done)
    }
}

/// Counts what is done.
struct Steps {
    done: usize,
    limit: Option<usize>,
}

impl Steps {
    /// Whether it is time to stop; counts the next step if not.
    fn over(&mut self) -> bool {
        let over = self.limit == Some(self.done);
        self.done += usize::from(!over);
        over
    }
}

fn disk(path: &Path) -> Result<RealDisk, RecoveryError> {
    RealDisk::new(path).map_err(|source| RecoveryError::Io {
        place: path.to_path_buf(),
        source,
    })
}

/// Gives the replicas of one store their new ids. What was done before is not done again. False: stopped on the way.
fn change(
    site: &Site,
    groups: &[GroupPlan],
    payloads: &[Bytes],
    steps: &mut Steps,
) -> Result<bool, RecoveryError> {
    let place = site.lock.path().to_path_buf();
    let options = LogOptions {
        background: false,
        ..LogOptions::default()
    };
    let log =
        SegmentedLog::open(Box::new(disk(&place.join("log"))?), options).map_err(|source| {
            RecoveryError::Log {
                place: place.clone(),
                source,
            }
        })?;
    let checkpoints =
        Checkpoints::open(Box::new(disk(&place.join("state"))?)).map_err(|source| {
            RecoveryError::Checkpoints {
                place: place.clone(),
                source,
            }
        })?;
    let rows = StateRows::open(place.join("rows")).map_err(|source| RecoveryError::Rows {
        place: place.clone(),
        source,
    })?;
    let mut hand = Hand {
        place: &place,
        log,
        checkpoints,
        rows,
        states: Vec::new(),
        writes: Vec::new(),
        bytes: 0,
    };
    for plan in groups {
        match &plan.fate {
            Fate::Reformed { names, .. } => {
                let mine = names.iter().find(|(old, _)| store_of(**old) == site.store);
                if let Some((old, new)) = mine {
                    hand.rename(plan, *old, *new, payloads)?;
                }
            }
            Fate::Emptied { replica } if store_of(*replica) == site.store => {
                hand.give_birth(plan.group, *replica);
            }
            Fate::Emptied { .. } => {}
        }
        if hand.is_full() {
            if steps.over() {
                return Ok(false);
            }
            hand.flush()?;
        }
    }
    if steps.over() {
        return Ok(false);
    }
    hand.flush()?;
    Ok(true)
}

/// One store at work.
struct Hand<'a> {
    place: &'a Path,
    log: SegmentedLog,
    checkpoints: Checkpoints,
    rows: StateRows,
    states: Vec<Checkpoint>,
    writes: Vec<(ReplicaKey, Vec<Write>)>,
    bytes: usize,
}

impl Hand<'_> {
    fn knows(&self, key: ReplicaKey) -> bool {
        self.log.replicas().binary_search(&key).is_ok()
    }

    fn log_failed(&self, source: synod_consensus::StoreError) -> RecoveryError {
        RecoveryError::Store {
            place: self.place.to_path_buf(),
            source,
        }
    }

    fn checkpoints_failed(&self, source: crate::storage::CheckpointError) -> RecoveryError {
        RecoveryError::Checkpoints {
            place: self.place.to_path_buf(),
            source,
        }
    }

    fn rename(
        &mut self,
        plan: &GroupPlan,
        old: ReplicaId,
        new: ReplicaId,
        payloads: &[Bytes],
    ) -> Result<(), RecoveryError> {
        let Fate::Reformed {
            recovery, names, ..
        } = &plan.fate
        else {
            return Ok(());
        };
        let key = |replica| ReplicaKey {
            group: plan.group,
            replica,
        };
        if self.knows(key(new)) {
            return Ok(());
        }
        let changed = |reason: String| RecoveryError::Changed {
            place: self.place.to_path_buf(),
            reason,
        };
        let recovered = self
            .log
            .recover(key(old))
            .map_err(|error| self.log_failed(error))?
            .ok_or_else(|| changed(format!("group {} is not there", plan.group)))?;
        let base = recovered.base.position.index;
        let (state, meta) = match plan.group {
            GroupId::ZERO => {
                let state = self
                    .checkpoints
                    .restore(key(old), base)
                    .map_err(|error| self.checkpoints_failed(error))?;
                let meta = state.as_ref().map(|state| state.meta.clone());
                (state, meta)
            }
            _ => (None, self.rows.head(key(old)).map(|head| head.meta)),
        };
        reaches(key(old), base, meta.as_ref()).map_err(|missing| changed(missing.to_string()))?;
        let survivor = Survivor::new(plan.group, old, Restored::after_restart(recovered, meta))
            .map_err(|error| changed(error.to_string()))?;
        let planned = recovery
            .others
            .iter()
            .find(|other| other.replica == old)
            .map_or(recovery.last, |other| other.last);
        if survivor.last() != planned {
            return Err(changed(format!(
                "the log of group {} ends at {}, not at {planned}",
                plan.group,
                survivor.last()
            )));
        }
        let payloads = match plan.group {
            GroupId::ZERO => payloads,
            _ => &[],
        };
        let renamed = |old: ReplicaId| *names.get(&old).expect("every survivor has a new name");
        let writes = recovery.writes(&survivor, renamed, payloads.iter().cloned());
        let entries = survivor.entries();
        self.bytes += entries.iter().map(Entry::charge).sum::<usize>();
        if let Some(state) = state {
            self.bytes += state.data.len();
            self.states.push(Checkpoint {
                key: key(new),
                ..state
            });
        }
        // Durable before the log of the new name is written (E28). The rows are both names' until the former is forgotten.
        self.rows
            .also_as(key(old), new)
            .map_err(|source| RecoveryError::Rows {
                place: self.place.to_path_buf(),
                source,
            })?;
        self.writes.push((key(new), writes));
        self.writes.push((key(old), vec![Write::Drop]));
        Ok(())
    }

    /// A group begins anew, as at its founding.
    fn give_birth(&mut self, group: GroupId, replica: ReplicaId) {
        let key = ReplicaKey { group, replica };
        if !self.knows(key) {
            let to = SnapshotMeta::founding(Configuration::of_voters([replica]));
            self.writes.push((key, vec![Write::Reset { to }]));
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.writes.len() >= 2 * BATCH_REPLICAS
    }

    /// The states first: a log never begins after a state that is not durable (E28). Then all replicas in one atomic write.
    fn flush(&mut self) -> Result<(), RecoveryError> {
        self.bytes = 0;
        let states = std::mem::take(&mut self.states);
        let writes = std::mem::take(&mut self.writes);
        self.checkpoints
            .put(&states)
            .map_err(|error| self.checkpoints_failed(error))?;
        self.log
            .write(&writes)
            .map_err(|error| self.log_failed(error))
    }
}
