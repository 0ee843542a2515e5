//! One replica's machine: the real log and checkpoints on a virtual disk, and the process that comes and goes.
//!
//! Here: what the disk does, how a process starts and dies, and the invariants of a single disk. Not here: what a running process
//! does (`process`), when any of it happens (`world`).

use core::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use synod::storage::{Checkpoints, LogOptions, Partials, SegmentedLog};
use synod_consensus::{
    CheckedOptions, Configuration, Group, GroupId, LogIndex, LogStore, Persist, PersistToken,
    ReplicaId, ReplicaKey, Restored, Term,
};

use super::clock::Clock;
use super::event::Event;
use super::freight::Freight;
use super::history::History;
use super::machine::Machine;
use super::model::Model;
use super::process::Process;
use crate::coverage::Coverage;
use crate::disk::VirtualDisk;
use crate::violation::{Violation, broken};

/// A replica's machine; the disk outlives the process.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) key: ReplicaKey,
    pub(crate) disk: VirtualDisk,
    pub(crate) process: Option<Process>,
    /// Events of an earlier life are void.
    pub(crate) life: u64,
    /// What the disk acknowledged of the log.
    pub(crate) durable: Model,
    /// What the newest durable checkpoint covers.
    pub(crate) checkpointed: LogIndex,
    /// What checkpoints cover that may be durable and need not be found: the machine died over them, or there was no log yet to say
    /// whose they are, so that the next start forgets them (H70). Older than any that is known to be durable: never found again.
    pub(super) attempted: Vec<LogIndex>,
    pub(super) pause: Option<Pause>,
    /// When it last went on after a pause, and how long that lasted.
    pub(super) resumed: Option<(Duration, Duration)>,
    pub(super) stall: Option<Stall>,
    /// A sync was arranged to fail.
    pub(super) sync_will_fail: bool,
    /// It will not come back: removed, or its disk is gone.
    pub(crate) retired: bool,
    /// The configuration it was born with; a newcomer's is empty.
    birth: Configuration,
    /// How many bytes of a snapshot its last process held.
    left: u64,
    /// How much its clock loses, in millionths.
    slow_ppm: u32,
    /// The last term that its disk acknowledged.
    pub(super) last_term: Term,
    /// A bit of its log or checkpoint was flipped.
    pub(crate) damaged: bool,
}

/// How many messages wait for a paused process; more are lost.
const WAITING_MAX: usize = 80;

/// A process that is stopped and not dead (SIGSTOP, H58).
#[derive(Debug)]
pub(crate) struct Pause {
    since: Duration,
    until: Duration,
    /// What it will find when it goes on, in the order in which it came.
    waiting: Vec<Event>,
    messages: usize,
}

/// A disk that does nothing for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    until: Duration,
    /// Somebody has waited for it.
    is_felt: bool,
}

/// Small files, so that they are rotated, carried and removed within a run; no threads.
fn log_options(salt: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        background: false,
        salt,
        ..LogOptions::default()
    }
}

/// A disk that failed: the process must end.
#[derive(Debug)]
pub(crate) struct DiskFailed;

/// What came of a start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Started {
    Running,
    /// The disk is full: later perhaps.
    NoRoom,
    /// What is on the disk is damaged, and was refused.
    Refused,
}

/// What a disk gave back.
struct Found {
    log: SegmentedLog,
    checkpoints: Checkpoints,
    partials: Partials,
    restored: Restored,
    asked: Model,
    machine: Machine,
}

/// The folder of the log.
const LOG: &str = "log";
/// The folder of checkpoints and of what arrives of snapshots.
pub(super) const STATE: &str = "state";
/// Behind the header, the first batch of a log file.
const FIRST_FRAME: usize = 4096;

impl Replica {
    /// A machine with an empty disk. `founding`: born a voter of a new group; else a newcomer.
    pub(crate) fn new(
        id: ReplicaId,
        disk: VirtualDisk,
        founding: Option<Configuration>,
        slow_ppm: u32,
    ) -> Self {
        Self {
            key: ReplicaKey {
                group: GroupId::new(7),
                replica: id,
            },
            disk,
            process: None,
            life: 0,
            durable: Model::default(),
            checkpointed: LogIndex::ZERO,
            attempted: Vec::new(),
            pause: None,
            resumed: None,
            stall: None,
            sync_will_fail: false,
            retired: false,
            birth: founding.unwrap_or_default(),
            left: 0,
            slow_ppm,
            last_term: Term::ZERO,
            damaged: false,
        }
    }

    pub(crate) fn id(&self) -> ReplicaId {
        self.key.replica
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it is up and not paused.
    pub(crate) fn runs(&self) -> bool {
        self.is_up() && self.pause.is_none()
    }

    /// From now on the machine's clock loses so much.
    pub(super) fn turn_clock(&mut self, now: Duration, slow_ppm: u32) {
        self.slow_ppm = slow_ppm;
        if let Some(process) = &mut self.process {
            process.clock.turn(now, slow_ppm);
        }
    }

    /// Stops the process until then, or for longer than it would have been.
    pub(super) fn pause(&mut self, now: Duration, until: Duration) {
        let pause = self.pause.get_or_insert_with(|| Pause {
            since: now,
            until,
            waiting: Vec::new(),
            messages: 0,
        });
        pause.until = pause.until.max(until);
    }

    /// Ends a pause that is due, or any if `at_once`; returns what waited for it.
    pub(super) fn resume(&mut self, now: Duration, at_once: bool) -> Vec<Event> {
        match self.pause.take_if(|pause| at_once || pause.until <= now) {
            Some(Pause { since, waiting, .. }) => {
                self.resumed = Some((now, now - since));
                waiting
            }
            None => Vec::new(),
        }
    }

    /// The event waits until the process goes on. There is only so much room for messages.
    pub(super) fn waits(&mut self, event: Event, coverage: &mut Coverage) {
        let Some(pause) = &mut self.pause else {
            return;
        };
        if matches!(event, Event::Deliver { .. } | Event::Asked { .. }) {
            if pause.messages == WAITING_MAX {
                coverage.count("lost_before_a_paused_process");
                return;
            }
            pause.messages += 1;
        }
        coverage.count("waited_for_a_paused_process");
        pause.waiting.push(event);
    }

    /// The disk does nothing until then.
    pub(super) fn stall(&mut self, until: Duration) {
        let is_felt = false;
        self.stall = Some(Stall { until, is_felt });
    }

    /// Until when what the disk is to do now has to wait.
    pub(super) fn waits_for_disk(&mut self, now: Duration, coverage: &mut Coverage) -> Duration {
        let stall = self.stall.as_mut().filter(|stall| stall.until > now);
        stall.map_or(now, |stall| {
            if !core::mem::replace(&mut stall.is_felt, true) {
                coverage.count("stalls");
            }
            stall.until
        })
    }

    /// The disk refused something: counts what was arranged, if that was it.
    pub(super) fn refused(&mut self, coverage: &mut Coverage) {
        let name = if self.disk.power_is_off() {
            "power_lost_while_writing"
        } else if self.disk.is_limited() {
            return coverage.count("write_refused_by_a_full_disk");
        } else if core::mem::take(&mut self.sync_will_fail) {
            "syncs_failed"
        } else {
            return;
        };
        coverage.count("faults");
        coverage.count(name);
    }

    /// Starts the process from what the disk holds.
    pub(crate) fn start(
        &mut self,
        options: CheckedOptions,
        seed: u64,
        now: Duration,
        history: &History,
        coverage: &mut Coverage,
    ) -> Result<Started, Violation> {
        let id = self.key.replica;
        let found = match self.recover(seed) {
            Ok(found) => found,
            Err(_) if self.disk.is_limited() => return Ok(Started::NoRoom),
            Err(_) if self.damaged => return Ok(Started::Refused),
            Err(error) => return broken("Recovery", format!("{id}: {error}")),
        };
        let Found {
            log,
            checkpoints,
            partials,
            restored,
            asked,
            machine,
        } = found;
        let is_known =
            machine.applied == self.checkpointed || self.attempted.contains(&machine.applied);
        if self.durable.exists && (asked != self.durable || !is_known) {
            let (before, found) = (self.durable.last(), asked.last());
            let detail = format!(
                "{id}: log {before} acknowledged, {found} found; state {} and {}",
                self.checkpointed, machine.applied
            );
            history.judge(broken("Recovery", detail))?;
        }
        history.applied(id, machine.applied, machine.chain)?;
        if asked.exists {
            self.attempted.clear();
        } else if self.checkpointed > LogIndex::ZERO {
            coverage.count("snapshot_of_a_newcomer_forgotten");
            self.attempted.push(self.checkpointed);
        }
        self.durable = asked.clone();
        self.checkpointed = machine.applied;
        let clock = Clock::new(Duration::from_millis(seed % 1_000_000), self.slow_ppm);
        let shown = clock.shows(now);
        let group = match Group::new(options, self.key.group, id, restored, seed, shown) {
            Ok(group) => group,
            Err(error) => return broken("Recovery", format!("{id}: {error}")),
        };
        self.life += 1;
        if core::mem::take(&mut self.damaged) {
            coverage.count("bit_flipped_where_nothing_lies");
        }
        let freight = Freight::new(partials, 1 + seed as usize % 3);
        let mut process = Process::new(group, clock, log, checkpoints, freight);
        process.asked = asked;
        process.machine = machine;
        let status = &process.status;
        if status.configuration.is_joint() {
            coverage.count("restart_in_a_joint_configuration");
        }
        if status.term < self.last_term {
            let detail = format!(
                "{id} starts in term {} after {}",
                status.term, self.last_term
            );
            history.judge(broken("Monotone", detail))?;
        }
        let left = core::mem::take(&mut self.left);
        match process.freight.partials.held(self.key) {
            Some((meta, id, held)) => {
                if held > 0 {
                    coverage.count("restart_with_a_part_of_a_snapshot");
                }
                process.freight.left_by_a_crash = Some(id);
                process.group.partial_snapshot(shown, meta, id, held);
            }
            None if left > 0 => coverage.count("partial_gone_after_a_crash"),
            None => {}
        }
        self.process = Some(process);
        Ok(Started::Running)
    }

    /// Reads the disk.
    fn recover(&self, salt: u64) -> Result<Found, String> {
        let log = SegmentedLog::open(self.disk.folder(LOG), log_options(salt))
            .map_err(|error| error.to_string())?;
        let mut checkpoints =
            Checkpoints::open(self.disk.folder(STATE)).map_err(|error| error.to_string())?;
        let partials = Partials::open(self.disk.folder(STATE), |key| key == self.key)
            .map_err(|error| error.to_string())?;
        let (restored, asked, machine) =
            match log.recover(self.key).map_err(|error| error.to_string())? {
                None => {
                    checkpoints.retain(|_| false); // as a node does whose log knows nothing of them
                    let founding = self.birth.clone();
                    let restored = if founding.voters.is_empty() {
                        Restored::newcomer()
                    } else {
                        Restored::founding(founding)
                    };
                    (restored, Model::default(), Machine::default())
                }
                Some(recovered) => {
                    let checkpoint = checkpoints
                        .restore(self.key, recovered.base.position.index)
                        .map_err(|error| error.to_string())?;
                    let asked = Model::recovered(&recovered);
                    let machine = checkpoint
                        .as_ref()
                        .and_then(|checkpoint| Machine::decode(&checkpoint.data))
                        .unwrap_or_default();
                    let state = checkpoint.map(|checkpoint| checkpoint.meta);
                    (Restored::after_restart(recovered, state), asked, machine)
                }
            };
        Ok(Found {
            log,
            checkpoints,
            partials,
            restored,
            asked,
            machine,
        })
    }

    /// The process ends; with `power`, the machine loses what was not synced.
    pub(crate) fn stop(&mut self, power: bool) -> Option<Process> {
        let process = self.process.take();
        self.life += 1;
        self.pause = None;
        self.resumed = None;
        self.stall = None;
        self.sync_will_fail = false;
        if let Some(process) = &process {
            let held = process.freight.partials.held(self.key);
            self.left = held.map_or(0, |(_, _, held)| held);
        }
        if power {
            self.disk.crash()
        } else {
            self.disk.kill()
        }
        process
    }

    /// Does everything that waits in one write and one sync, as the log writer does.
    pub(crate) fn write(
        &mut self,
        coverage: &mut Coverage,
    ) -> Result<Vec<PersistToken>, DiskFailed> {
        let Some(process) = &mut self.process else {
            return Ok(Vec::new());
        };
        let mut tokens = Vec::with_capacity(process.queue.len());
        let mut batch = Vec::with_capacity(process.queue.len());
        for Persist { token, writes } in process.queue.drain(..) {
            tokens.push(token);
            batch.push((self.key, writes));
        }
        if batch.is_empty() {
            return Ok(tokens);
        }
        let watched = self.disk.will_lose_power().then(|| self.log_bytes());
        let process = self.process.as_mut().expect("looked at above");
        let written = process.log.0.write(&batch);
        let writes = batch.iter().flat_map(|(_, writes)| writes);
        if written.is_ok() {
            for write in writes {
                self.durable.apply(write);
            }
            return Ok(tokens);
        }
        self.refused(coverage);
        // In doubt: the disk may come back with it or without it, as a whole.
        let mut after = self.durable.clone();
        for write in writes {
            after.apply(write);
        }
        self.stop(true);
        let left = self.log_bytes();
        // A look at a copy: opening tidies up, and needs room that a full disk does not have.
        let copy = self.disk.fork(self.life);
        copy.set_capacity(None);
        if let Ok(log) = SegmentedLog::open(copy.folder(LOG), log_options(self.life))
            && let Ok(recovered) = log.recover(self.key)
        {
            if recovered.as_ref().map(Model::recovered).unwrap_or_default() == after {
                self.durable = after;
            } else if watched.is_some_and(|before| before != left) {
                coverage.count("torn_tail_at_a_restart");
            }
        }
        Err(DiskFailed)
    }

    /// Files of the log and what is written of each.
    fn log_bytes(&self) -> Vec<(String, usize)> {
        let names = self.disk.names(LOG).into_iter();
        names
            .map(|name| {
                let contents = self.disk.contents(LOG, &name);
                let used = contents.iter().rposition(|byte| *byte != 0);
                (name, used.map_or(0, |last| last + 1))
            })
            .collect()
    }

    /// Flips a bit somewhere in the log, but not in the last frame: that may be torn, and nobody could tell. It ends the file that was
    /// written last or, when the first frame of that was torn, the one before; no frame fills half of a file.
    pub(crate) fn damage(&mut self, rng: &mut ChaCha8Rng) -> bool {
        let files = self.log_bytes();
        let is_used = |file: &&(String, usize)| file.1 > FIRST_FRAME && file.0.ends_with(".log");
        let used: Vec<_> = files.iter().filter(is_used).collect();
        let Some((_, older)) = used.split_last().filter(|(_, older)| !older.is_empty()) else {
            return false;
        };
        let (name, length) = older[rng.random_range(0..older.len())];
        let offset = rng.random_range(0..*length / 2);
        self.disk
            .flip_bit(LOG, name, offset, rng.random_range(0..8));
        self.damaged = true;
        true
    }
}
