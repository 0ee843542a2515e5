//! The seeds, their disks, the wires between them and one virtual clock.
//!
//! Here: [`World`]: one seed makes the number of seeds, their lists, old data, delays and faults; a safety phase in which anything
//! goes, then a healing phase after which everybody must be in a cluster or say why not. Not here: which faults (`faults`), what is
//! judged (`history`, `verdict`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod_consensus::genesis::{
    Body, Card, ClusterId, Durable, Genesis, GenesisOptions, Message, Obstacle, Output, Record,
    Sabotage, Seat, SeedList, SeedName, Token,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::history::{Disk, History};
use crate::coverage::Coverage;
use crate::violation::{Violation, broken};

/// After the faults everybody is in the cluster, or says why not, within this virtual time. Asking takes half a second, an answer
/// of everybody two at most, then a few attempts of at most 0.5 s plus 1.6 s of back-off each.
pub const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// Steps of one run; more are a loop.
const STEPS_MAX: u64 = 1_000_000;

#[derive(Debug)]
pub(super) enum Event {
    Arrive {
        to: usize,
        bytes: Vec<u8>,
    },
    Wake {
        who: usize,
        process: u64,
    },
    Written {
        who: usize,
        process: u64,
    },
    Admitted {
        who: usize,
        process: u64,
        cluster: ClusterId,
    },
    Start {
        who: usize,
    },
    Fault,
    /// What an ambush does.
    Strike {
        at: usize,
    },
    Mend {
        one: usize,
        other: usize,
    },
    Calm,
    Judge,
}

/// One seed with its disk.
#[derive(Debug)]
pub(super) struct Seed {
    pub(super) name: SeedName,
    /// What its operator passes at a start.
    pub(super) list: SeedList,
    pub(super) disk: Disk,
    pub(super) genesis: Option<Genesis>,
    /// Counts its processes, so that nothing of a former one reaches the next.
    pub(super) process: u64,
    /// Writes that the disk has not done yet.
    pub(super) writing: VecDeque<(Token, Vec<u8>)>,
    wakes: Option<Duration>,
}

/// What a run without violation leaves.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it has seen.
    pub coverage: Coverage,
    /// Of every message's time, way and bytes.
    pub trace: u64,
    /// From calm until everybody was in the cluster or said why not.
    pub healed_in: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Duration,
    agenda: BTreeMap<(Duration, u64), Event>,
    appointments: u64,
    pub(super) seeds: Vec<Seed>,
    pub(super) everybody: SeedList,
    pub(super) puts_lists_right: bool,
    pub(super) wipes: bool,
    pub(super) cuts: BTreeSet<(usize, usize)>,
    /// Until then nothing arrives anywhere.
    pub(super) silent_until: Duration,
    loss: f64,
    doubling: f64,
    lateness: f64,
    delay: Duration,
    write: Duration,
    pub(super) calm: bool,
    calm_at: Duration,
    pub(super) history: History,
    pub(super) coverage: Coverage,
    clusters: u128,
    /// An ambush waits for a moment that matters: a kind of message, whose first sending brings a fault.
    pub(super) ambush: Option<&'static str>,
    options: GenesisOptions,
    trace: u64,
}

impl World {
    /// 1 to 7 seeds.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = if rng.random_bool(0.3) {
            3
        } else {
            rng.random_range(1..=7)
        };
        let names: Vec<_> = (0..size).map(name).collect();
        let everybody = list_of(names.iter().cloned());
        let differ = size > 1 && rng.random_bool(0.35);
        let mut coverage = Coverage::default();
        let mut history = History::default();
        let mut seeds: Vec<_> = names
            .iter()
            .map(|name| Seed {
                name: name.clone(),
                list: everybody.clone(),
                disk: Disk::default(),
                genesis: None,
                process: 0,
                writing: VecDeque::new(),
                wakes: None,
            })
            .collect();
        if differ {
            coverage.count("lists_differ");
            let odd = rng.random_range(1..=size);
            for _ in 0..odd {
                let who = rng.random_range(0..size);
                let share = rng.random_range(0.2..0.9);
                let listed =
                    |place: &usize, rng: &mut ChaCha8Rng| *place == who || rng.random_bool(share);
                let places: Vec<_> = (0..size).filter(|place| listed(place, &mut rng)).collect();
                seeds[who].list = list_of(places.into_iter().map(name));
            }
        }
        if rng.random_bool(0.15) {
            coverage.count("old_data");
            let cluster = ClusterId(u128::MAX);
            let holder = rng.random_range(0..size);
            seeds[holder].disk.holds = Some(cluster);
            history.existed(cluster, list_of([name(holder)]));
        }
        let ambush = rng.random_bool(0.9).then(|| moment(&mut rng));
        let mut world = Self {
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            appointments: 0,
            seeds,
            everybody,
            puts_lists_right: rng.random_bool(0.7),
            wipes: rng.random_bool(0.6),
            cuts: BTreeSet::new(),
            silent_until: Duration::ZERO,
            loss: [0.0, 0.02, 0.1, 0.3][rng.random_range(0..4)],
            doubling: rng.random_range(0.0..0.2),
            lateness: rng.random_range(0.0..0.1),
            delay: Duration::from_micros(rng.random_range(100..20_000)),
            write: Duration::from_micros(rng.random_range(50..20_000)),
            calm: false,
            calm_at: Duration::ZERO,
            history,
            coverage,
            clusters: 0,
            ambush,
            options: GenesisOptions::default(),
            trace: 0,
            rng,
        };
        for who in 0..size {
            let soon = world.below(Duration::from_millis(1_500));
            world.push(soon, Event::Start { who });
        }
        world.push(Duration::from_millis(200), Event::Fault);
        let rage = Duration::from_millis(world.rng.random_range(4_000..15_000));
        world.push(rage, Event::Calm);
        world
    }

    /// With a bug put back.
    pub fn sabotaged(mut self, sabotage: Sabotage) -> Self {
        self.options.sabotage = Some(sabotage);
        self
    }

    /// Judged by what is founded alone, not by what is on whose disk: `One Cluster` and `Agreement`.
    pub fn judged_by_outcome(mut self) -> Self {
        self.history.outcome_only = true;
        self
    }

    /// Until everybody has healed.
    pub fn run(mut self) -> Result<Report, Violation> {
        for _ in 0..STEPS_MAX {
            let Some(((at, _), event)) = self.agenda.pop_first() else {
                return broken("Liveness", "nothing happens any more".to_owned());
            };
            self.now = at;
            if let Event::Judge = event {
                if let Some(report) = self.judge()? {
                    return Ok(report);
                }
            } else {
                self.happen(event)?;
            }
        }
        broken("Liveness", "too many steps".to_owned())
    }

    fn judge(&mut self) -> Result<Option<Report>, Violation> {
        let healed_in = self.now - self.calm_at;
        match self.verdict() {
            Ok(()) => {
                self.count_the_end();
                Ok(Some(Report {
                    coverage: self.coverage.clone(),
                    trace: self.trace,
                    healed_in,
                }))
            }
            Err(violation) if healed_in >= HEALED_WITHIN => Err(violation),
            Err(_) => {
                self.push(Duration::from_millis(100), Event::Judge);
                Ok(None)
            }
        }
    }

    pub(super) fn push(&mut self, after: Duration, event: Event) {
        self.appointments += 1;
        self.agenda
            .insert((self.now + after, self.appointments), event);
    }

    pub(super) fn below(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.rng.random())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Arrive { to, bytes } => {
                let Ok(message) = rmp_serde::from_slice::<Message>(&bytes) else {
                    return broken("Codec", format!("{bytes:?} does not decode"));
                };
                let now = self.now;
                if let Some(genesis) = &mut self.seeds[to].genesis {
                    genesis.receive(now, message);
                }
                self.flush(to)
            }
            Event::Wake { who, process } => {
                let now = self.now;
                let seed = &mut self.seeds[who];
                if seed.process == process
                    && let Some(genesis) = &mut seed.genesis
                {
                    seed.wakes = None;
                    genesis.tick(now);
                }
                self.flush(who)
            }
            Event::Written { who, process } => self.write_done(who, process),
            Event::Admitted {
                who,
                process,
                cluster,
            } => {
                let now = self.now;
                let seed = &mut self.seeds[who];
                if seed.process == process
                    && let Some(genesis) = &mut seed.genesis
                {
                    seed.disk.holds = Some(cluster);
                    genesis.held(now, cluster);
                }
                self.flush(who)
            }
            Event::Start { who } => self.start(who),
            Event::Fault => self.fault(),
            Event::Strike { at } => self.strike(at),
            Event::Mend { one, other } => {
                self.cuts.remove(&(one, other));
                self.cuts.remove(&(other, one));
                Ok(())
            }
            Event::Calm => self.become_calm(),
            Event::Judge => Ok(()),
        }
    }

    fn become_calm(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.calm_at = self.now;
        (self.loss, self.doubling, self.lateness) = (0.0, 0.0, 0.0);
        self.silent_until = self.now;
        self.cuts.clear();
        for who in 0..self.seeds.len() {
            if self.puts_lists_right && self.seeds[who].list != self.everybody {
                self.coverage.count("lists_put_right");
                self.seeds[who].list = self.everybody.clone();
                self.stop(who)?;
            }
            self.start(who)?;
        }
        self.push(Duration::from_millis(100), Event::Judge);
        Ok(())
    }

    /// Starts it unless it runs.
    pub(super) fn start(&mut self, who: usize) -> Result<(), Violation> {
        if self.seeds[who].genesis.is_some() {
            return Ok(());
        }
        self.coverage.count("starts");
        self.clusters += 1;
        let candidate = Record::new(
            ClusterId(self.clusters),
            Bytes::from(vec![7; self.rng.random_range(0..100)]),
        );
        let Ok(candidate) = candidate else {
            unreachable!("a hundred bytes are few")
        };
        let (now, chance, options) = (self.now, self.rng.random(), self.options.clone());
        let seed = &mut self.seeds[who];
        let restored = seed.disk.durable.clone();
        let genesis = match seed.disk.holds {
            Some(cluster) => Genesis::holding(options, seed.name.clone(), cluster, restored, now),
            None => {
                if restored
                    .as_ref()
                    .is_some_and(|durable| durable.list != seed.list)
                {
                    self.coverage.count("lists_changed_at_a_restart");
                }
                let seat = Seat {
                    me: seed.name.clone(),
                    list: seed.list.clone(),
                    card: Card::default(),
                    candidate,
                    restored,
                };
                match Genesis::seeking(options, seat, chance, now) {
                    Ok(genesis) => genesis,
                    Err(error) => return broken("Start", error.to_string()),
                }
            }
        };
        seed.genesis = Some(genesis);
        seed.process += 1;
        seed.wakes = None;
        self.flush(who)
    }

    fn write_done(&mut self, who: usize, process: u64) -> Result<(), Violation> {
        let now = self.now;
        if self.seeds[who].process != process {
            return Ok(());
        }
        let Some((token, bytes)) = self.seeds[who].writing.pop_front() else {
            return Ok(());
        };
        self.reach_disk(who, &bytes)?;
        if let Some(genesis) = &mut self.seeds[who].genesis {
            genesis.persisted(now, token);
        }
        self.flush(who)
    }

    pub(super) fn reach_disk(&mut self, who: usize, bytes: &[u8]) -> Result<(), Violation> {
        let Ok(durable) = rmp_serde::from_slice::<Durable>(bytes) else {
            return broken("Codec", format!("{bytes:?} does not decode"));
        };
        let seed = &mut self.seeds[who];
        self.history.written(&seed.name, &seed.disk, &durable)?;
        let word = |durable: &Durable| durable.electorate.is_some();
        let before = seed.disk.durable.as_ref();
        if word(&durable) && !before.is_some_and(word) {
            self.coverage.count("words");
            let electorate = durable.electorate.as_ref();
            let votes = electorate.and_then(|electorate| electorate.incarnation(&seed.name));
            if votes != Some(durable.incarnation) {
                self.coverage.count("words_of_witnesses");
            }
        }
        if durable.chosen.is_some() && before.is_none_or(|before| before.chosen.is_none()) {
            self.coverage.count("chosen");
            if seed.process > 1 {
                self.coverage.count("learned_after_a_restart");
            }
        }
        seed.disk.durable = Some(durable);
        Ok(())
    }

    /// Does what a machine wants done.
    pub(super) fn flush(&mut self, who: usize) -> Result<(), Violation> {
        while let Some(output) = self.seeds[who]
            .genesis
            .as_mut()
            .and_then(Genesis::poll_output)
        {
            self.perform(who, output)?;
        }
        let seed = &mut self.seeds[who];
        let wakes = seed.genesis.as_ref().and_then(Genesis::wake_at);
        if let Some(at) = wakes
            && seed.wakes.is_none_or(|before| at < before)
        {
            seed.wakes = Some(at);
            let process = seed.process;
            let after = at.saturating_sub(self.now);
            self.push(after, Event::Wake { who, process });
        }
        Ok(())
    }

    fn perform(&mut self, who: usize, output: Output) -> Result<(), Violation> {
        let process = self.seeds[who].process;
        match output {
            Output::Persist(token, durable) => {
                let Ok(bytes) = rmp_serde::to_vec_named(&durable) else {
                    return broken("Codec", "a state does not encode".to_owned());
                };
                self.seeds[who].writing.push_back((token, bytes));
                let after = self.below(self.write * 2);
                self.push(after, Event::Written { who, process });
            }
            Output::Send(to, message) => self.post(who, &to, &message)?,
            Output::Chosen(electorate, record) => {
                self.history.choose(&electorate, &record)?;
                self.admit_later(who, record.cluster());
            }
            Output::Join { cluster, .. } => {
                self.coverage.count("joins");
                self.history.joins(&self.seeds[who].name, cluster)?;
                self.admit_later(who, cluster);
            }
            Output::Obstructed(obstacle) => self.coverage.count(match obstacle {
                Obstacle::Differs { .. } => "obstructed_by_lists",
                Obstacle::Bound { .. } => "obstructed_by_an_earlier_list",
                Obstacle::Lost { .. } => "obstructed_by_lost_disks",
                _ => "obstructed_by_two_electorates",
            }),
            _ => {}
        }
        Ok(())
    }

    fn admit_later(&mut self, who: usize, cluster: ClusterId) {
        let process = self.seeds[who].process;
        let after = self.below(Duration::from_millis(500));
        let admitted = Event::Admitted {
            who,
            process,
            cluster,
        };
        self.push(after, admitted);
    }

    fn post(&mut self, who: usize, to: &SeedName, message: &Message) -> Result<(), Violation> {
        self.coverage.count("messages");
        self.history.sent(&self.seeds[who].disk, message)?;
        match &message.body {
            Body::Refused { .. } => self.coverage.count("refused"),
            Body::Promise {
                accepted: Some(_), ..
            } => self.coverage.count("promises_with_a_value"),
            _ => {}
        }
        let moment = match &message.body {
            Body::Statement {
                electorate: Some(_),
                ..
            } => "word",
            body => body.name(),
        };
        if self.ambush == Some(moment) && !self.calm {
            self.ambush = None;
            self.spring_ambush(who);
        }
        let Some(receiver) = self.seeds.iter().position(|seed| seed.name == *to) else {
            return broken("Known Names", format!("a message to {to}"));
        };
        let Ok(bytes) = rmp_serde::to_vec_named(message) else {
            return broken("Codec", "a message does not encode".to_owned());
        };
        self.trace = xxh3_64_with_seed(&bytes, self.trace ^ self.now.as_nanos() as u64);
        let silent = self.now < self.silent_until;
        if silent || self.cuts.contains(&(who, receiver)) || self.rng.random_bool(self.loss) {
            self.coverage.count("messages_lost");
            return Ok(());
        }
        let copies = 1 + u32::from(self.rng.random_bool(self.doubling));
        for copy in 0..copies {
            if copy > 0 {
                self.coverage.count("messages_doubled");
            }
            let mut after = self.below(self.delay * 2);
            if self.rng.random_bool(self.lateness) {
                self.coverage.count("messages_late");
                after += self.below(Duration::from_secs(4));
            }
            let bytes = bytes.clone();
            self.push(
                after,
                Event::Arrive {
                    to: receiver,
                    bytes,
                },
            );
        }
        Ok(())
    }
}

/// Kinds of messages whose first sending may be the worst time for a fault.
pub(super) fn moment(rng: &mut ChaCha8Rng) -> &'static str {
    let moments = [
        "word", "promise", "accept", "accepted", "accepted", "accepted", "chosen",
    ];
    moments[rng.random_range(0..moments.len())]
}

fn name(place: usize) -> SeedName {
    match SeedName::new(format!("n{place}")) {
        Ok(name) => name,
        Err(error) => unreachable!("{error}"),
    }
}

fn list_of(names: impl IntoIterator<Item = SeedName>) -> SeedList {
    match SeedList::new(names) {
        Ok(list) => list,
        Err(error) => unreachable!("{error}"),
    }
}
