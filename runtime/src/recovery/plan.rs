//! What is to be done to which group, worked out from the stores of all survivors.
//!
//! Here: [`Plan::draw_up`], from the operator's words to a plan or the one sentence why there is none. Nothing is changed by it.
//! Not here: doing it (`carry_out`), words for it (`report`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use synod_consensus::recovery::{self, Outlook, Recovery, Survivor};
use synod_consensus::{GroupId, ReplicaId};

use super::RecoveryError;
use super::journal::{Mark, Phase};
use super::report::group_name;
use super::survey::Survey;
use crate::storage::{LockedStore, LookOnly};
use crate::system::{GivingUp, ReplicaAddress, SystemCommand, SystemState};

/// Store ids that are skipped: the lost stores may have admitted members that no survivor has heard of.
const STORES_SKIPPED: u64 = 1_000;
/// Serial numbers that are skipped, for the same reason.
const SERIALS_SKIPPED: u32 = 1 << 16;
/// Groups in one command of the system log: far below an entry's limit of 1 MiB.
const REFORM_GROUPS: usize = 2_048;

/// What a plan says of all groups together.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Head {
    /// Random; tells one recovery from another.
    pub(super) id: u64,
    pub(super) cluster: u128,
    /// Seconds since 1970.
    pub(super) at: u64,
    pub(super) stores: BTreeMap<u64, String>,
    pub(super) lost: BTreeMap<u64, String>,
    /// Groups that have their majority.
    pub(super) alone: u32,
    pub(super) next_store: u64,
    pub(super) next_serial: u32,
}

/// What becomes of one group. Groups that are left alone have none.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct GroupPlan {
    pub(super) group: GroupId,
    pub(super) fate: Fate,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Fate {
    /// The survivors go on.
    Reformed {
        recovery: Recovery,
        /// New ids by old ones.
        names: BTreeMap<ReplicaId, ReplicaId>,
        /// False for a group that has its majority: the system group, and those whose copies the system log does not list.
        stuck: bool,
    },
    /// Nothing is left; it begins anew with this replica.
    Emptied { replica: ReplicaId },
}

/// One surviving store, locked.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) lock: LockedStore,
    pub(super) store: u64,
    pub(super) mark: Option<Mark>,
}

/// An unsafe recovery that was worked out and not carried out. As long as it lives, none of the stores' nodes can start.
#[derive(Debug)]
pub struct Plan {
    pub(super) sites: Vec<Site>,
    pub(super) head: Head,
    /// The system group first.
    pub(super) groups: Vec<GroupPlan>,
    /// Begun before; it is only to be finished.
    pub(super) resumed: bool,
    /// What is on the stores and not used; not known of a recovery that is resumed.
    pub(super) unused: Vec<Unused>,
}

/// A copy that lies on a given store and is no part of the plan.
#[derive(Debug)]
pub(super) struct Unused {
    node: String,
    group: GroupId,
    reason: String,
}

impl core::fmt::Display for Unused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            node,
            group,
            reason,
        } = self;
        write!(f, "the copy of {} on {node}: {reason}", group_name(*group))
    }
}

pub(super) fn store_of(replica: ReplicaId) -> u64 {
    ReplicaAddress::of(replica).store
}

impl Plan {
    /// Locks the stores of all surviving nodes and works out what to do without the members named in `lost`. Changes nothing.
    pub fn draw_up(stores: &[PathBuf], lost: &[String]) -> Result<Self, RecoveryError> {
        let locked = lock_all(stores)?;
        if let Some(plan) = Self::begun(&locked, lost)? {
            let sites = locked
                .into_iter()
                .map(|(lock, admission, mark)| Site {
                    lock,
                    store: admission.store,
                    mark,
                })
                .collect();
            return Ok(Self {
                sites,
                head: plan.0,
                groups: plan.1,
                resumed: true,
                unused: Vec::new(),
            });
        }
        let mut surveys = Vec::with_capacity(locked.len());
        let mut marks = Vec::with_capacity(locked.len());
        for (lock, admission, mark) in locked {
            marks.push(mark);
            surveys.push(Survey::of(lock, admission)?);
        }
        let (head, groups, unused) = decide(&mut surveys, &marks, lost)?;
        let sites = surveys
            .into_iter()
            .zip(marks)
            .map(|(survey, mark)| Site {
                store: survey.store(),
                lock: survey.lock,
                mark,
            })
            .collect();
        Ok(Self {
            sites,
            head,
            groups,
            resumed: false,
            unused,
        })
    }

    /// The plan of a recovery that one of the stores has begun, if it may have changed anything. Replicas change only when every store
    /// has begun; so where a given store of that plan has not, nothing has changed, and the plan is made anew.
    fn begun(
        locked: &[Locked],
        lost: &[String],
    ) -> Result<Option<(Head, Vec<GroupPlan>)>, RecoveryError> {
        for (first, _, mark) in locked {
            let Some(mark) = mark.as_ref().filter(|mark| mark.phase == Phase::Begun) else {
                continue;
            };
            let has_begun = |other: &Option<Mark>| {
                let same = other.as_ref().filter(|other| other.head.id == mark.head.id);
                same.is_some_and(|other| other.phase.has_begun())
            };
            let groups = mark.groups(&LookOnly::new(first.path()))?;
            let behind = locked.iter().find(|(_, admission, other)| {
                mark.head.stores.contains_key(&admission.store) && !has_begun(other)
            });
            let foreign = |place: &LockedStore| RecoveryError::Foreign {
                first: first.path().to_path_buf(),
                place: place.path().to_path_buf(),
            };
            if let Some((place, _, _)) = behind {
                // A store that was put back from a copy proves nothing.
                for (other, _, _) in locked.iter().filter(|(_, _, other)| has_begun(other)) {
                    if Survey::knows_one_of(other, &groups)? {
                        return Err(foreign(place));
                    }
                }
                continue;
            }
            if let Some((place, _, _)) = locked.iter().find(|(_, _, other)| !has_begun(other)) {
                return Err(foreign(place));
            }
            let is_given = |store: &u64| locked.iter().any(|(_, a, _)| a.store == *store);
            let missing = mark
                .head
                .stores
                .iter()
                .filter(|(store, _)| !is_given(store));
            let missing: Vec<&str> = missing.map(|(_, name)| name.as_str()).collect();
            // Where one has changed, all have begun: each may finish by itself.
            if !missing.is_empty() && !has_changed(locked, &groups)? {
                return Err(RecoveryError::StoresMissing {
                    first: first.path().to_path_buf(),
                    names: missing.join(", "),
                });
            }
            let planned: BTreeSet<&String> = mark.head.lost.values().collect();
            if planned != lost.iter().collect() {
                let planned: Vec<&str> = planned.into_iter().map(String::as_str).collect();
                return Err(RecoveryError::OtherLost {
                    first: first.path().to_path_buf(),
                    lost: planned.join(","),
                });
            }
            return Ok(Some((mark.head.clone(), groups)));
        }
        Ok(None)
    }

    /// What an operator has to type who has read this plan and none that differs: a digest of what it decides, the same until
    /// something changes in a store.
    pub fn confirmation(&self) -> String {
        let fates: Vec<(GroupId, Option<(&Recovery, bool)>)> = self
            .groups
            .iter()
            .map(|plan| match &plan.fate {
                Fate::Reformed {
                    recovery, stuck, ..
                } => (plan.group, Some((recovery, *stuck))),
                Fate::Emptied { .. } => (plan.group, None),
            })
            .collect();
        let head = &self.head;
        let decided = crate::wire::encode(&(head.cluster, &head.stores, &head.lost, fates));
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&decided))
    }

    /// Groups of which no copy is left.
    pub fn emptied(&self) -> usize {
        let is_emptied = |plan: &&GroupPlan| matches!(plan.fate, Fate::Emptied { .. });
        self.groups.iter().filter(is_emptied).count()
    }
}

/// Whether one of these stores has carried out some of a plan that it has begun, or all of it.
fn has_changed(locked: &[Locked], groups: &[GroupPlan]) -> Result<bool, RecoveryError> {
    for (lock, _, mark) in locked {
        let finished = mark.as_ref().is_some_and(|m| m.phase == Phase::Finished);
        if finished || Survey::knows_one_of(lock, groups)? {
            return Ok(true);
        }
    }
    Ok(false)
}

type Locked = (LockedStore, crate::storage::Admission, Option<Mark>);

/// Locks every store, and sees to it that they are different ones of one cluster.
fn lock_all(stores: &[PathBuf]) -> Result<Vec<Locked>, RecoveryError> {
    if stores.is_empty() {
        return Err(RecoveryError::NoStore);
    }
    let mut paths = BTreeSet::new();
    let mut locked: Vec<Locked> = Vec::new();
    for path in stores {
        let twice = || RecoveryError::Twice {
            place: path.clone(),
        };
        // A path that leads nowhere is told by the lock.
        if let Ok(real) = path.canonicalize()
            && !paths.insert(real)
        {
            return Err(twice());
        }
        let (lock, admission) = Survey::lock(path)?;
        if let Some((first, other, _)) = locked.first()
            && other.cluster != admission.cluster
        {
            return Err(RecoveryError::OtherCluster {
                place: path.clone(),
                found: admission.cluster,
                first: first.path().to_path_buf(),
                expected: other.cluster,
            });
        }
        if locked
            .iter()
            .any(|(_, other, _)| other.store == admission.store)
        {
            return Err(twice());
        }
        let mark = Mark::read(&LookOnly::new(path))?;
        locked.push((lock, admission, mark));
    }
    Ok(locked)
}

/// The plan itself.
fn decide(
    surveys: &mut [Survey],
    marks: &[Option<Mark>],
    lost: &[String],
) -> Result<(Head, Vec<GroupPlan>, Vec<Unused>), RecoveryError> {
    let mut ids = heard_of(surveys, marks);
    let given: BTreeMap<u64, String> = surveys
        .iter()
        .map(|survey| (survey.store(), survey.name().to_owned()))
        .collect();
    let system: Vec<Survivor> = surveys
        .iter_mut()
        .filter_map(|survey| survey.take_survivor(GroupId::ZERO))
        .collect();
    let recovery = recovery::reform(GroupId::ZERO, &system)?.ok_or(RecoveryError::Unfounded)?;
    let state = {
        let chosen = system.iter().zip(surveys.iter());
        let mut states = chosen
            .filter(|(survivor, _)| survivor.replica() == recovery.chosen)
            .map(|(survivor, survey)| survey.system_state(survivor));
        states.next().expect("the chosen one is one of them")?
    };
    let cluster = state
        .founding
        .as_ref()
        .ok_or(RecoveryError::Unfounded)?
        .cluster;
    let lost = account(&state, surveys, lost)?;
    ids.skip(&state)?;

    let system_lives = recovery::heir(&system).is_some();
    let mut groups = vec![GroupPlan {
        group: GroupId::ZERO,
        fate: ids.reformed(recovery, !system_lives)?,
    }];
    let mut alone = 0;
    let mut unused = Vec::new();
    let stores: Vec<u64> = given.keys().copied().collect();
    for (group, entry) in state.groups.range(GroupId::new(1)..) {
        let (survivors, mut rest) = copies(surveys, &state, *group);
        // Copies that an earlier recovery renamed, of which the chosen system log has not heard: it is to list them now.
        let unlisted = |survivor: &Survivor| {
            survivor.holds_anything() && !entry.replicas.contains(&survivor.replica())
        };
        let fate = match recovery::assess(*group, &survivors)? {
            Outlook::Lives { .. } if survivors.iter().any(unlisted) => {
                let recovery = recovery::reform(*group, &survivors)?;
                ids.reformed(recovery.expect("who lives holds something"), false)?
            }
            Outlook::Lives { .. } => {
                alone += 1;
                unused.append(&mut rest);
                continue;
            }
            Outlook::Stuck(recovery) => ids.reformed(recovery, true)?,
            Outlook::Gone if !rest.is_empty() => {
                let copies: Vec<String> = rest.iter().map(Unused::to_string).collect();
                return Err(RecoveryError::OnlyUnused {
                    copies: copies.join("; "),
                });
            }
            Outlook::Gone => Fate::Emptied {
                replica: ids.next(stores[group.get() as usize % stores.len()])?,
            },
        };
        unused.append(&mut rest);
        groups.push(GroupPlan {
            group: *group,
            fate,
        });
    }
    if system_lives && groups.len() == 1 {
        return Err(RecoveryError::NothingLost);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let head = Head {
        id: rand::random(),
        cluster,
        at: now.map_or(0, |time| time.as_secs()),
        stores: given,
        lost,
        alone: alone + u32::from(system_lives),
        next_store: ids.store,
        next_serial: ids.serial,
    };
    Ok((head, groups, unused))
}

/// What the stores hold of a group: copies that count, and those that are not used, with the reason. Takes them out.
fn copies(
    surveys: &mut [Survey],
    state: &SystemState,
    group: GroupId,
) -> (Vec<Survivor>, Vec<Unused>) {
    let (mut survivors, mut unused) = (Vec::new(), Vec::new());
    for survey in surveys {
        let node = survey.name().to_owned();
        let mut leave = |reason: String| {
            unused.push(Unused {
                node: node.clone(),
                group,
                reason,
            });
        };
        if survey.older.contains(&group) {
            leave("a newer copy beside it took its place".to_owned());
        }
        let Some((replica, found)) = survey.replicas.remove(&group) else {
            continue;
        };
        match found {
            // What the log has retired is no part of the group. An id that the log has not heard of is not retired (H78).
            Ok(survivor) if !state.is_retired(group, replica) => survivors.push(survivor),
            Ok(survivor) if survivor.holds_anything() => {
                leave("the system log has retired it".to_owned());
            }
            Ok(_) => {}
            Err(reason) => leave(reason),
        }
    }
    (survivors, unused)
}

/// Sees to it that the operator has said of every member whether it survives.
fn account(
    state: &SystemState,
    surveys: &[Survey],
    lost: &[String],
) -> Result<BTreeMap<u64, String>, RecoveryError> {
    let names: Vec<&str> = state
        .members
        .values()
        .map(|member| member.name.as_str())
        .collect();
    let mut gone = BTreeMap::new();
    for name in lost {
        let member = state.members.iter().find(|(_, m)| m.name == *name);
        let Some((store, _)) = member else {
            return Err(RecoveryError::NoMember {
                name: name.clone(),
                members: names.join(", "),
            });
        };
        if let Some(survey) = surveys.iter().find(|survey| survey.store() == *store) {
            return Err(RecoveryError::LostButGiven {
                name: name.clone(),
                place: survey.place(),
            });
        }
        gone.insert(*store, name.clone());
    }
    let unknown = |survey: &&Survey| !state.members.contains_key(&survey.store());
    if let Some(survey) = surveys.iter().find(unknown) {
        return Err(RecoveryError::GivenUp {
            place: survey.place(),
        });
    }
    let forgotten: Vec<&str> = state
        .members
        .iter()
        .filter(|(store, _)| {
            !gone.contains_key(store) && surveys.iter().all(|survey| survey.store() != **store)
        })
        .map(|(_, member)| member.name.as_str())
        .collect();
    if !forgotten.is_empty() {
        return Err(RecoveryError::Unaccounted {
            names: forgotten.join(", "),
        });
    }
    Ok(gone)
}

/// Ids that nobody has had, not even a lost store.
struct Ids {
    store: u64,
    serial: u32,
}

fn heard_of(surveys: &[Survey], marks: &[Option<Mark>]) -> Ids {
    let mut ids = Ids {
        store: 0,
        serial: 0,
    };
    for survey in surveys {
        ids.store = ids.store.max(survey.store() + 1);
        for replica in survey.heard_of() {
            let ReplicaAddress { store, serial } = ReplicaAddress::of(replica);
            ids.store = ids.store.max(store + 1);
            ids.serial = ids.serial.max(serial.saturating_add(1));
        }
    }
    // What an earlier recovery allotted, though this store's system log may not say so. One that was taken back had heard of those
    // before it.
    for mark in marks.iter().flatten() {
        ids.store = ids.store.max(mark.head.next_store);
        ids.serial = ids.serial.max(mark.head.next_serial);
    }
    ids
}

impl Ids {
    fn skip(&mut self, state: &SystemState) -> Result<(), RecoveryError> {
        let (store, serial) = state.next_ids();
        self.store = self.store.max(store) + STORES_SKIPPED;
        self.serial = self
            .serial
            .max(serial)
            .checked_add(SERIALS_SKIPPED)
            .ok_or(RecoveryError::IdsUsedUp)?;
        Ok(())
    }

    fn next(&mut self, store: u64) -> Result<ReplicaId, RecoveryError> {
        let serial = self.serial;
        self.serial = serial.checked_add(1).ok_or(RecoveryError::IdsUsedUp)?;
        Ok(ReplicaAddress { store, serial }.id())
    }

    fn reformed(&mut self, recovery: Recovery, stuck: bool) -> Result<Fate, RecoveryError> {
        let mut names = BTreeMap::new();
        let others = recovery.others.iter().map(|other| other.replica);
        for old in core::iter::once(recovery.chosen).chain(others) {
            names.insert(old, self.next(store_of(old))?);
        }
        Ok(Fate::Reformed {
            recovery,
            names,
            stuck,
        })
    }
}

/// What the system log shall say at its end.
pub(super) fn commands(head: &Head, groups: &[GroupPlan]) -> Vec<SystemCommand> {
    let remaining = |plan: &GroupPlan| match &plan.fate {
        Fate::Reformed { names, .. } => (plan.group, names.values().copied().collect()),
        Fate::Emptied { replica } => (plan.group, BTreeSet::from([*replica])),
    };
    let is_emptied = |plan: &&GroupPlan| matches!(plan.fate, Fate::Emptied { .. });
    let emptied = groups.iter().filter(is_emptied).count() as u32;
    let mut commands: Vec<SystemCommand> = groups
        .chunks(REFORM_GROUPS)
        .map(|chunk| SystemCommand::Reform {
            groups: chunk.iter().map(remaining).collect(),
        })
        .collect();
    commands.push(SystemCommand::GiveUp(GivingUp {
        at: head.at,
        stores: head.lost.keys().copied().collect(),
        reformed: groups.len() as u32 - emptied,
        emptied,
        next_store: head.next_store,
        next_serial: head.next_serial,
    }));
    commands
}
