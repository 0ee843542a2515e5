//! The start of a seed with an empty store: until it founded with the others, or was let in where others have data.
//!
//! Here: [`seek`], which drives one [`Genesis`]: its file, its messages, its timer. One call at a time goes to each other
//! seed, with everything that waits for it; the pause after a failed one grows up to [`PAUSE_MAX`], and addresses are
//! resolved anew for each (M39). Called by `start`, before anything else of the node runs.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use synod_consensus::genesis::{Card, Genesis, GenesisOptions, Message, Output, Seat, SeedName};
use tokio::sync::mpsc;

use super::charter::{Charter, store_of};
use super::holder::MESSAGES_MAX;
use super::kept::Kept;
use super::seats::Seats;
use super::words::{self, Mention};
use crate::group::Clock;
use crate::node::builder::{StartError, resolve};
use crate::node::enter::ask_to_join;
use crate::node::protocol::{Admission, Answer, Call};
use crate::storage::Disk;
use crate::system::{Founding, MemberEntry};
use crate::transport::{CallAnswer, Peer, Transport};
use crate::wire;

/// One call to a seed: dialling, a handshake on a busy machine, and a sync at the other end.
const CALL_PATIENCE: Duration = Duration::from_secs(2);
/// Pause after the first failed call to a seed, doubled with each further one.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause. A seed that comes up asks all others at once, so this delays nobody.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Asking to be let in where a seed said there is a cluster; then all seeds are asked again, for that one may be gone (M40).
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether something is worth a sentence.
const LOOK: Duration = Duration::from_millis(500);

/// Calls that others make meanwhile.
pub(crate) type Calls = mpsc::Receiver<(Peer, Bytes, CallAnswer)>;

/// What a seed starts with.
pub(crate) struct Seeker<'a> {
    pub(crate) seats: &'a Seats,
    pub(crate) transport: &'a Transport,
    pub(crate) disk: &'a dyn Disk,
    pub(crate) kept: Option<Kept>,
    /// What it is to a cluster that lets it in.
    pub(crate) member: MemberEntry,
    pub(crate) charter: Charter,
    pub(crate) give_up: Option<Duration>,
}

/// How it came to a cluster.
pub(crate) enum Came {
    /// It is a founder, with this store id.
    Founder(Founding, u64),
    /// It was let in.
    Joiner(Admission),
}

/// Seeks until the store has a cluster. Says now and then what is in the way.
pub(crate) async fn seek(seeker: Seeker<'_>, mut calls: Calls) -> Result<Came, StartError> {
    let (mut seeking, mut answers) = Seeking::new(seeker)?;
    loop {
        if let Some(came) = seeking.do_outputs()? {
            return Ok(came);
        }
        seeking.dispatch();
        let pause = seeking.pause();
        tokio::select! {
            Some((from, frame, answer)) = calls.recv() => {
                if let Some(came) = seeking.answer(&from, &frame, answer)? {
                    return Ok(came);
                }
            }
            Some((seed, answer)) = answers.recv() => seeking.heard(&seed, answer),
            joined = entrance(&mut seeking.joining) => {
                if let Some(admission) = seeking.joined(joined)? {
                    return Ok(Came::Joiner(admission));
                }
            }
            () = actix_rt::time::sleep(pause) => seeking.tick(),
        }
        seeking.mention()?;
    }
}

type Joining<'a> = LocalBoxFuture<'a, Result<Admission, StartError>>;

async fn entrance(joining: &mut Option<Joining<'_>>) -> Result<Admission, StartError> {
    match joining {
        Some(joining) => joining.await,
        None => core::future::pending().await,
    }
}

/// The way to one other seed.
#[derive(Debug)]
struct Line {
    address: String,
    waiting: Vec<Message>,
    is_calling: bool,
    failures: u32,
    rests_until: Duration,
    /// What went wrong last.
    problem: Option<String>,
}

/// What came back from a seed, or why nothing did.
type Heard = Result<Vec<Message>, String>;

struct Seeking<'a> {
    seeker: Seeker<'a>,
    me: SeedName,
    clock: Clock,
    genesis: Genesis,
    lines: BTreeMap<SeedName, Line>,
    /// For the one that calls just now, if this start does not list it.
    aside: Vec<Message>,
    answered: mpsc::UnboundedSender<(SeedName, Heard)>,
    joining: Option<Joining<'a>>,
    mention: Mention<String>,
    looks_at: Duration,
}

impl<'a> Seeking<'a> {
    fn new(
        mut seeker: Seeker<'a>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<(SeedName, Heard)>), StartError> {
        let seats = seeker.seats;
        let me = seats.seat_of(&seeker.member.name)?;
        let clock = Clock::start();
        let card = Card::new(seeker.member.key.clone()).map_err(super::SeatsError::from)?;
        // The others know this disk by the key of its word: founding with it, and unable to present it, is a voter that never comes.
        let promised = seeker.kept.as_ref().map(|kept| &kept.durable);
        if promised.is_some_and(|kept| kept.electorate.is_some() && kept.card != card) {
            return Err(other_key());
        }
        let seat = Seat {
            me: me.clone(),
            list: seats.list().clone(),
            card,
            candidate: seeker.charter.record(rand::random()),
            restored: seeker.kept.take().map(|kept| kept.durable),
        };
        let options = GenesisOptions {
            // A call on a busy machine may take its whole patience, and answers must not be old by the time the last comes.
            ask_interval: CALL_PATIENCE / 2,
            fresh: CALL_PATIENCE * 3,
            attempt: CALL_PATIENCE / 2,
            ..GenesisOptions::default()
        };
        let genesis = Genesis::seeking(options, seat, rand::random(), clock.now())
            .map_err(super::SeatsError::from)?;
        let others = seats.list().iter().filter(|seed| **seed != me);
        let lines = others
            .filter_map(|seed| {
                let line = Line {
                    address: seats.address(seed)?.to_owned(),
                    waiting: Vec::new(),
                    is_calling: false,
                    failures: 0,
                    rests_until: Duration::ZERO,
                    problem: None,
                };
                Some((seed.clone(), line))
            })
            .collect();
        // Bounded by its senders: one call at a time per seed.
        let (answered, answers) = mpsc::unbounded_channel();
        let seeking = Self {
            seeker,
            me,
            clock,
            genesis,
            lines,
            aside: Vec::new(),
            answered,
            joining: None,
            mention: Mention::default(),
            looks_at: Duration::ZERO,
        };
        Ok((seeking, answers))
    }

    /// Does what the machine wants done: what is to be kept is durable before anything after it is looked at.
    fn do_outputs(&mut self) -> Result<Option<Came>, StartError> {
        let mut came = None;
        while let Some(output) = self.genesis.poll_output() {
            match output {
                Output::Persist(token, durable) => {
                    let kept = Kept {
                        durable,
                        born: false,
                    };
                    kept.write(self.seeker.disk)?; // the first error ends the process: nothing more is said (H72)
                    self.genesis.persisted(self.clock.now(), token);
                }
                Output::Send(to, message) => self.post(&to, message),
                Output::Chosen(electorate, record) => {
                    let founding = Charter::founding(&electorate, &record)?;
                    let member = &self.seeker.member;
                    let Some(store) = store_of(&founding, &member.name, &member.key) else {
                        return Err(other_key());
                    };
                    came = Some(Came::Founder(founding, store));
                }
                Output::Join { cluster, told_by } => {
                    tracing::info!(%cluster, seed = %told_by, "a seed has data of a cluster: asking to be let in");
                    self.join(&told_by);
                }
                // Said by `mention`, with everything else that stands in the way.
                Output::Obstructed(_) => {}
                other => tracing::warn!(?other, "output of a newer genesis machine is not handled"),
            }
        }
        if came.is_some() {
            self.dispatch(); // the others hear of it too
        }
        Ok(came)
    }

    /// Queues a message; beyond the bound the oldest goes, as any message may be lost.
    fn post(&mut self, to: &SeedName, message: Message) {
        let waiting = match self.lines.get_mut(to) {
            Some(line) => &mut line.waiting,
            None => &mut self.aside,
        };
        if waiting.len() >= MESSAGES_MAX {
            waiting.remove(0);
        }
        waiting.push(message);
    }

    /// Calls every seed for which something waits and that is not being called.
    fn dispatch(&mut self) {
        let now = self.clock.now();
        for (seed, line) in &mut self.lines {
            if line.is_calling || line.waiting.is_empty() || now < line.rests_until {
                continue;
            }
            line.is_calling = true;
            let call = wire::encode(&Call::Founding {
                to: seed.as_str().to_owned(),
                messages: core::mem::take(&mut line.waiting),
            });
            let (seed, address) = (seed.clone(), line.address.clone());
            let (transport, answered) = (self.seeker.transport.clone(), self.answered.clone());
            actix_rt::spawn(async move {
                let heard = ask(&transport, &address, call).await;
                let _over = answered.send((seed, heard));
            });
        }
    }

    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let rests = self.lines.values().filter(|line| !line.waiting.is_empty());
        let rests = rests.filter(|line| !line.is_calling);
        let wakes = rests.map(|line| line.rests_until);
        let wakes = wakes.chain(self.genesis.wake_at()).chain([self.looks_at]);
        let wake = wakes.min().unwrap_or(now);
        wake.saturating_sub(now)
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if self.genesis.wake_at().is_some_and(|at| at <= now) {
            self.genesis.tick(now);
        }
    }

    /// The answer of a seed to a call of ours.
    fn heard(&mut self, seed: &SeedName, heard: Heard) {
        let now = self.clock.now();
        let Some(line) = self.lines.get_mut(seed) else {
            return;
        };
        line.is_calling = false;
        match heard {
            Ok(messages) => {
                (line.failures, line.problem) = (0, None);
                self.receive(seed.as_str(), messages);
            }
            Err(problem) => {
                let pause = PAUSE * (1 << line.failures.min(8));
                line.failures += 1;
                line.rests_until = now + pause.min(PAUSE_MAX);
                line.problem = Some(problem);
            }
        }
    }

    /// A call of somebody else. Its answer leaves after everything that it claims is durable.
    fn answer(
        &mut self,
        from: &Peer,
        frame: &[u8],
        answer: CallAnswer,
    ) -> Result<Option<Came>, StartError> {
        let mut came = None;
        let reply = match wire::decode::<Call>(frame) {
            Ok(Call::Founding { to, messages }) => match misdirected(&to, self.me.as_str()) {
                Some(reason) => Answer::Refused { reason },
                None if from.client => Answer::Refused {
                    reason: "a client cannot found".to_owned(),
                },
                None => {
                    self.aside.clear();
                    self.receive(&from.name, messages);
                    came = self.do_outputs()?;
                    let mut lines = self.lines.iter_mut();
                    let line = lines.find(|(seed, _)| seed.as_str() == &*from.name);
                    let messages = match line {
                        Some((_, line)) => {
                            line.rests_until = Duration::ZERO; // it is there
                            core::mem::take(&mut line.waiting)
                        }
                        // It hears what this seed is, so that it knows whose list differs.
                        None => core::mem::take(&mut self.aside),
                    };
                    Answer::Founding { messages }
                }
            },
            Ok(_) => Answer::NotNow {
                reason: format!("this node is in no cluster yet: {}", self.situation().1),
            },
            Err(error) => Answer::Refused {
                reason: format!("the call does not decode: {error}"),
            },
        };
        answer.send(wire::encode(&reply));
        Ok(came)
    }

    fn receive(&mut self, from: &str, messages: Vec<Message>) {
        let now = self.clock.now();
        let heard = messages.into_iter().take(MESSAGES_MAX);
        for message in heard.filter(|message| message.from.as_str() == from) {
            self.genesis.receive(now, message);
        }
    }

    fn join(&mut self, told_by: &SeedName) {
        let Some(address) = self.seeker.seats.address(told_by) else {
            // Of a list that a former start was given: somebody whom this one lists may know, too.
            return self.genesis.not_let_in(self.clock.now());
        };
        let (transport, member) = (self.seeker.transport, self.seeker.member.clone());
        let addresses = [address.to_owned()];
        let joining =
            async move { ask_to_join(transport, &addresses, member, Some(JOIN_PATIENCE)).await };
        self.joining = Some(Box::pin(joining));
    }

    fn joined(
        &mut self,
        joined: Result<Admission, StartError>,
    ) -> Result<Option<Admission>, StartError> {
        self.joining = None;
        match joined {
            Ok(admission) => Ok(Some(admission)),
            Err(StartError::JoinTimedOut { reason, .. }) => {
                tracing::warn!(reason, "not let in; asking all seeds again");
                self.genesis.not_let_in(self.clock.now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is in the way now: what it is about, and the whole sentence.
    fn situation(&self) -> (String, String) {
        if self.joining.is_some() {
            let joining = "asking a seed to be let in to its cluster".to_owned();
            return (joining.clone(), joining);
        }
        if let Some(obstacle) = self.genesis.obstacle() {
            let sentence = words::obstacle(obstacle, &self.me, self.seeker.seats.list());
            return (sentence.clone(), sentence);
        }
        let unheard = self.genesis.unheard();
        if unheard.is_empty() {
            let founding = "every seed has answered, and the founding is under way".to_owned();
            return (founding.clone(), founding);
        }
        let missing: Vec<_> = unheard
            .into_iter()
            .map(|seed| {
                let line = self.lines.get(&seed);
                let address = line.map(|line| line.address.clone());
                let address = address
                    .unwrap_or_else(|| "an address that this start does not list".to_owned());
                let problem = line.and_then(|line| line.problem.clone());
                (seed, address, problem)
            })
            .collect();
        let subject = missing.iter().map(|(seed, _, _)| seed.as_str());
        (
            subject.collect::<Vec<_>>().join(","),
            words::waiting(&missing),
        )
    }

    /// Says what is in the way, if it is time to, or gives up, if it was told to.
    fn mention(&mut self) -> Result<(), StartError> {
        let now = self.clock.now();
        let gives_up = self.seeker.give_up.filter(|patience| now >= *patience);
        if now < self.looks_at && gives_up.is_none() {
            return Ok(());
        }
        self.looks_at = now + LOOK;
        let (subject, reason) = self.situation();
        if let Some(patience) = gives_up {
            return Err(StartError::FoundingTimedOut { patience, reason });
        }
        if self.mention.is_due(now, subject) {
            tracing::warn!(reason, "in no cluster yet; going on");
        }
        Ok(())
    }
}

fn other_key() -> StartError {
    StartError::NotAdmitted {
        reason: "this node gave its word with the key of another certificate: start it with that certificate"
            .to_owned(),
    }
}

/// Asks whoever is at `address` now.
async fn ask(transport: &Transport, address: &str, call: Bytes) -> Heard {
    let mut problem = "the address does not resolve".to_owned();
    for at in resolve(address).await {
        match transport.call(at, call.clone(), CALL_PATIENCE).await {
            Ok(answer) => {
                return match wire::decode(&answer) {
                    Ok(Answer::Founding { messages }) => Ok(messages),
                    Ok(Answer::NotNow { reason } | Answer::Refused { reason }) => Err(reason),
                    Ok(_) | Err(_) => Err("its answer is none to a seed".to_owned()),
                };
            }
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

/// Why `me` must not hear what was meant for the seed `to`.
pub(crate) fn misdirected(to: &str, me: &str) -> Option<String> {
    (to != me).then(|| format!("here is {me} and not {to}: correct the address of {to} in --seeds"))
}
