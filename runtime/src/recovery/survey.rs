//! What one store holds: whose it is, its replicas as a restart would find them, and the members as its system replica knows them.
//!
//! Here: [`Survey`], and the [`SystemState`] at the end of a system log. Called by `plan` and `carry_out`. Nothing is changed by it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use synod_consensus::recovery::Survivor;
use synod_consensus::{
    EntryKind, GroupId, LogIndex, LogStore, ReplicaId, ReplicaKey, Restored, SnapshotMeta,
};

use super::RecoveryError;
use super::plan::{Fate, GroupPlan};
use crate::evaluation::{BaseError, ExportError, export};
use crate::group::base::ViewBase;
use crate::storage::{
    Admission, CheckpointError, Checkpoints, Disk, LockedStore, LogOptions, LookOnly, OpenError,
    RowHead, RowView, SealedError, SegmentedLog, look_at_rows, reaches, read_sealed,
};
use crate::system::{BUILD_LEVEL, SystemState};

/// A store, locked, and what lies in it.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) lock: LockedStore,
    pub(super) admission: Admission,
    /// By group, the one replica that a start would bring back; in words, why it would not.
    pub(super) replicas: BTreeMap<GroupId, (ReplicaId, Result<Survivor, String>)>,
    /// Groups of which it holds older replicas too.
    pub(super) older: BTreeSet<GroupId>,
    /// The system state of the newest checkpoint.
    checkpoint: SystemState,
}

/// The newest replica of each group: ids grow, and a store gets a second one only once its first is retired.
pub(super) fn newest(keys: impl IntoIterator<Item = ReplicaKey>) -> BTreeMap<GroupId, ReplicaId> {
    let mut newest = BTreeMap::new();
    for key in keys {
        let known = newest.entry(key.group).or_insert(key.replica);
        *known = key.replica.max(*known);
    }
    newest
}

impl Survey {
    /// Locks the store at `path`.
    pub(super) fn lock(path: &Path) -> Result<(LockedStore, Admission), RecoveryError> {
        let place = path.to_path_buf();
        let lock = LockedStore::open(path)?.ok_or(RecoveryError::NotAStore {
            place: place.clone(),
        })?;
        match lock.identity().admission {
            Some(admission) => Ok((lock, admission)),
            // It may have voted: with it, a founding that seems lost goes on.
            None if crate::node::gave_word(&LookOnly::new(path)) => {
                Err(RecoveryError::FounderAsleep { place })
            }
            None => Err(RecoveryError::NotAdmitted { place }),
        }
    }

    /// Whether a store has a replica under one of the ids that a plan gives: whether it was changed by it.
    pub(super) fn knows_one_of(
        lock: &LockedStore,
        groups: &[GroupPlan],
    ) -> Result<bool, RecoveryError> {
        let place = lock.path().to_path_buf();
        let options = LogOptions {
            background: false,
            ..LogOptions::default()
        };
        let log = SegmentedLog::open(Box::new(LookOnly::new(place.join("log"))), options)
            .map_err(|source| RecoveryError::Log { place, source })?;
        let known: BTreeSet<ReplicaKey> = log.replicas().into_iter().collect();
        let knows = |group, replica: &ReplicaId| {
            let replica = *replica;
            known.contains(&ReplicaKey { group, replica })
        };
        Ok(groups.iter().any(|plan| match &plan.fate {
            Fate::Reformed { names, .. } => names.values().any(|new| knows(plan.group, new)),
            Fate::Emptied { replica } => knows(plan.group, replica),
        }))
    }

    /// Reads everything.
    pub(super) fn of(lock: LockedStore, admission: Admission) -> Result<Self, RecoveryError> {
        let place = lock.path().to_path_buf();
        let useless = |reason: String| RecoveryError::Useless {
            place: place.clone(),
            reason,
        };
        // Whoever gives up a store because of these loses what a second try would find.
        let unread = |error: &dyn Error| RecoveryError::Unread {
            place: place.clone(),
            reason: in_full(error),
        };
        let disk = LookOnly::new(&place);
        let lost: BTreeMap<GroupId, ReplicaId> = match read_sealed(&disk, crate::node::LOST)
            .map_err(|error| match error {
                SealedError::Damaged { .. } => useless(error.to_string()),
                SealedError::Io { .. } => unread(&error),
            })? {
            // Sound bytes of another program.
            Some(bytes) => crate::wire::decode(&bytes).map_err(|error| unread(&error))?,
            None => BTreeMap::new(),
        };
        let options = LogOptions {
            background: false,
            ..LogOptions::default()
        };
        let log_disk = LookOnly::new(place.join("log"));
        if log_disk.list().is_ok_and(|files| files.is_empty()) {
            return Err(useless("its log is gone".to_owned()));
        }
        let log = SegmentedLog::open(Box::new(log_disk), options).map_err(|error| match error {
            OpenError::Damaged { .. } => useless(error.to_string()),
            _ => unread(&error),
        })?;
        let checkpoints =
            Checkpoints::open(Box::new(LookOnly::new(place.join("state")))).map_err(|error| {
                match error {
                    CheckpointError::Damaged { .. } | CheckpointError::Missing { .. } => {
                        useless(error.to_string())
                    }
                    _ => unread(&error),
                }
            })?;
        let rows = look_at_rows(&place.join("rows"), sound).map_err(|error| unread(&error))?;
        let mut replicas = BTreeMap::new();
        let mut system = None;
        for (group, replica) in newest(log.replicas()) {
            let key = ReplicaKey { group, replica };
            let found = if lost.get(&group) == Some(&replica) {
                Err("it had stopped for good".to_owned())
            } else {
                read(&log, &checkpoints, &rows, key, &mut system)
                    .map_err(|error| unread(&*error))?
            };
            replicas.insert(group, (replica, found));
        }
        let is_older = |key: &ReplicaKey| replicas[&key.group].0 != key.replica;
        let older = log.replicas().into_iter().filter(is_older);
        let older = older.map(|key| key.group).collect();
        match replicas.get(&GroupId::ZERO) {
            Some((_, Ok(_))) => {}
            Some((_, Err(reason))) => {
                return Err(useless(format!("its system replica is gone: {reason}")));
            }
            None => return Err(useless("it has no system replica".to_owned())),
        }
        Ok(Self {
            lock,
            admission,
            replicas,
            older,
            checkpoint: system.unwrap_or_default(),
        })
    }

    pub(super) fn store(&self) -> u64 {
        self.admission.store
    }

    pub(super) fn name(&self) -> &str {
        &self.lock.identity().name
    }

    pub(super) fn place(&self) -> PathBuf {
        self.lock.path().to_path_buf()
    }

    /// Its sound replica of a group.
    pub(super) fn take_survivor(&mut self, group: GroupId) -> Option<Survivor> {
        self.replicas.remove(&group)?.1.ok()
    }

    /// The system state at the very end of this store's system log: all of it will be committed. Nothing in it is passed over: a plan made
    /// from less than the nodes know would give up what they count on.
    pub(super) fn system_state(&self, system: &Survivor) -> Result<SystemState, RecoveryError> {
        let mut state = self.checkpoint.clone();
        let covered: LogIndex = state.applied;
        for entry in system.entries() {
            if entry.index <= covered {
                continue;
            }
            match entry.kind {
                EntryKind::Normal => {
                    let taken = state.apply(entry.index, &entry.payload, BUILD_LEVEL);
                    taken.map_err(|source| RecoveryError::NewerCommand {
                        place: self.place(),
                        index: entry.index.get(),
                        source,
                    })?;
                }
                EntryKind::Noop | EntryKind::Configuration => state.applied = entry.index,
            }
        }
        Ok(state)
    }

    /// Every replica id that any log of this store has ever heard of, as far as it still tells.
    pub(super) fn heard_of(&self) -> BTreeSet<ReplicaId> {
        let mut heard = BTreeSet::new();
        for (replica, found) in self.replicas.values() {
            heard.insert(*replica);
            let Ok(survivor) = found else { continue };
            heard.extend(survivor.configuration().members());
            let entries = survivor.entries();
            heard.extend(
                entries
                    .iter()
                    .filter_map(synod_consensus::Entry::configuration)
                    .flat_map(|configuration| configuration.members()),
            );
        }
        heard
    }
}

/// An error with what caused it.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether a replica's rows are what their head says.
#[derive(Debug)]
enum Sound {
    /// They are; this is what they cover.
    Rows(SnapshotMeta),
    /// Why they are not.
    Not(String),
}

/// Reads all of a replica's rows: who is chosen to go on with a group must have all of it, for nobody else will. An error says nothing
/// about what lies there.
fn sound(view: RowView) -> Result<Sound, ExportError> {
    let RowHead { meta, head, .. } = view.head().clone();
    match export(&ViewBase::new(view), &head, std::io::sink()) {
        Ok(()) => Ok(Sound::Rows(meta)),
        Err(ExportError::Rows(error @ BaseError::Damaged(_))) => Ok(Sound::Not(error.to_string())),
        Err(error) => Err(error),
    }
}

/// One replica, as [`crate::node`] would bring it back; in words, what is damaged. An error says nothing about what lies there.
fn read(
    log: &SegmentedLog,
    checkpoints: &Checkpoints,
    rows: &BTreeMap<ReplicaKey, Result<Sound, ExportError>>,
    key: ReplicaKey,
    system: &mut Option<SystemState>,
) -> Result<Result<Survivor, String>, Box<dyn Error>> {
    let Some(recovered) = log.recover(key)? else {
        return Ok(Err("the log does not know it".to_owned()));
    };
    let base = recovered.base.position.index;
    let mut meta: Option<SnapshotMeta> = None;
    if key.group == GroupId::ZERO {
        let checkpoint = match checkpoints.restore(key, base) {
            Err(error @ (CheckpointError::Damaged { .. } | CheckpointError::Missing { .. })) => {
                return Ok(Err(error.to_string()));
            }
            restored => restored?,
        };
        if let Some(checkpoint) = checkpoint {
            let mut state = SystemState::decode(&checkpoint.data, BUILD_LEVEL)?;
            state.applied = checkpoint.meta.position.index;
            *system = Some(state);
            meta = Some(checkpoint.meta);
        }
    } else {
        meta = match rows.get(&key) {
            None => None,
            Some(Ok(Sound::Rows(meta))) => Some(meta.clone()),
            Some(Ok(Sound::Not(reason))) => return Ok(Err(reason.clone())),
            Some(Err(error)) => return Err(error.to_string().into()),
        };
        if let Err(missing) = reaches(key, base, meta.as_ref()) {
            return Ok(Err(missing.to_string()));
        }
    }
    let restored = Restored::after_restart(recovered, meta);
    Ok(Survivor::new(key.group, key.replica, restored).map_err(|error| error.to_string()))
}
