//! One seed, as a pure machine: inputs are method calls with the time, effects come out of `poll_output`.
//!
//! Here: [`Genesis`]: starting, statements, words, what was chosen, and the order in which effects leave. The choice itself is in
//! `proposer` and `acceptor`, what an operator is told in `obstacles`. Called by: the start of a node, and simulators.
//!
//! One gate keeps "persisted before sent": every message waits until the state it was drawn up from, and all before it, is durable.

use core::time::Duration;
use std::collections::VecDeque;

use super::durable::Durable;
use super::electorate::Electorate;
use super::message::{Body, Message};
use super::options::{GenesisOptions, Sabotage};
use super::output::{Obstacle, Output, Token};
use super::proposer::Proposer;
use super::record::{ClusterId, Record};
use super::roster::{Roster, Said};
use super::seed::{Card, Incarnation, SeedList, SeedName, SeedsError};
use crate::election::Draw;

/// Messages that wait for the disk. A dozen questions and answers per seed of the longest list; a disk that is slower than that
/// needs no more of them.
const EFFECTS_MAX: usize = 1_024;

/// What a seed starts with.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its own name.
    pub me: SeedName,
    /// The list it was given; it names `me`.
    pub list: SeedList,
    /// What the others need of it to found with it.
    pub card: Card,
    /// What it proposes if nobody was chosen before. Another start may bring another one.
    pub candidate: Record,
    /// What its disk remembers; `None` on an empty one.
    pub restored: Option<Durable>,
}

/// One seed. After each input, drain [`Genesis::poll_output`].
#[derive(Debug)]
pub struct Genesis {
    pub(super) options: GenesisOptions,
    pub(super) me: SeedName,
    /// As given at this start; `None` for a node that only answers.
    pub(super) given: Option<SeedList>,
    pub(super) candidate: Option<Record>,
    /// The cluster of which this store has data.
    holds: Option<ClusterId>,
    /// The cluster that `Output::Join` named.
    joining: Option<ClusterId>,
    pub(super) durable: Option<Durable>,
    pub(super) roster: Roster,
    pub(super) proposer: Proposer,
    pub(super) obstacle: Option<Obstacle>,
    pub(super) draw: Draw,
    /// The time of the last input.
    pub(super) now: Duration,
    ask_at: Duration,
    /// Counts states of `durable`.
    version: u64,
    /// The last version that was handed out to be written.
    handed: u64,
    /// The last version that is durable.
    on_disk: u64,
    /// In order, each with the version that must be durable before it leaves.
    effects: VecDeque<(u64, Output)>,
}

impl Genesis {
    /// A seed whose store belongs to no cluster. `chance` is random and of this start alone: it draws the incarnation of an empty
    /// disk, and waits.
    pub fn seeking(
        options: GenesisOptions,
        seat: Seat,
        chance: u64,
        now: Duration,
    ) -> Result<Self, SeedsError> {
        let Seat {
            me,
            list,
            card,
            candidate,
            restored,
        } = seat;
        if !list.contains(&me) {
            return Err(SeedsError::NotListed { seed: me, list });
        }
        let mut genesis = Self::new(options, me, chance, now);
        genesis.on_disk = u64::from(restored.is_some());
        genesis.handed = genesis.on_disk;
        genesis.version = 1;
        let mut durable = restored.unwrap_or_else(|| Durable {
            incarnation: Incarnation(genesis.draw.next()),
            list: list.clone(),
            card: card.clone(),
            electorate: None,
            complete: false,
            acceptor: Default::default(),
            chosen: None,
        });
        // A statement without a word binds to nothing: nobody can count this disk in before it gave its word. After that the list
        // of the word stays, whatever this start brings.
        if durable.electorate.is_none() && (durable.list != list || durable.card != card) {
            // The chair may have counted it in with the former card, under which nobody would know it: that disk is gone.
            if durable.card != card {
                durable.incarnation = Incarnation(genesis.draw.next());
            }
            (durable.list, durable.card) = (list.clone(), card);
            genesis.version += 1;
        }
        genesis.durable = Some(durable);
        genesis.given = Some(list);
        genesis.candidate = Some(candidate);
        genesis.announce();
        genesis.go_on();
        Ok(genesis)
    }

    /// A node whose store has data of `cluster`: it founds nothing and answers whoever does not know yet. `restored` is what is
    /// left of its founding, if it took part in one.
    pub fn holding(
        options: GenesisOptions,
        me: SeedName,
        cluster: ClusterId,
        restored: Option<Durable>,
        now: Duration,
    ) -> Self {
        let mut genesis = Self::new(options, me, 0, now);
        genesis.holds = Some(cluster);
        genesis.durable = restored;
        genesis
    }

    fn new(options: GenesisOptions, me: SeedName, chance: u64, now: Duration) -> Self {
        Self {
            options,
            me,
            given: None,
            candidate: None,
            holds: None,
            joining: None,
            durable: None,
            roster: Roster::default(),
            proposer: Proposer::default(),
            obstacle: None,
            draw: Draw::new(chance),
            now,
            ask_at: now,
            version: 0,
            handed: 0,
            on_disk: 0,
            effects: VecDeque::new(),
        }
    }

    /// A message arrived. Anything that makes no sense here changes nothing.
    pub fn receive(&mut self, now: Duration, message: Message) {
        self.now = self.now.max(now);
        if message.from != self.me {
            self.handle(message);
            self.go_on();
        }
    }

    /// The write that `token` names is durable, and all before it.
    pub fn persisted(&mut self, now: Duration, token: Token) {
        self.now = self.now.max(now);
        self.on_disk = self.on_disk.max(token.0);
        self.go_on();
    }

    /// This store was let in after `Output::Join`: it has data of `cluster` from now on, durably.
    pub fn held(&mut self, now: Duration, cluster: ClusterId) {
        self.now = self.now.max(now);
        self.holds = Some(cluster);
        self.obstacle = None;
    }

    /// Nobody lets this store in after `Output::Join`, perhaps because that cluster went with its last disk: it asks all seeds
    /// again, as after a restart.
    pub fn not_let_in(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.joining.take().is_some() {
            self.ask_at = self.now;
        }
    }

    /// Time passed; call it when `now >= wake_at()`.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.is_asking() && self.now >= self.ask_at {
            self.ask_at = self.now + self.options.ask_interval;
            let question = self.draw.next();
            let question = self.roster.ask(question);
            for seed in self.others() {
                self.state_to(&seed, question, 0);
            }
        }
        self.go_on();
        self.tick_proposer();
        self.go_on();
    }

    /// When to call `tick` next; `None`: not before another input. Ask again after each input.
    pub fn wake_at(&self) -> Option<Duration> {
        let ask = self.is_asking().then_some(self.ask_at);
        ask.into_iter().chain(self.proposer_wakes_at()).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if self.version > self.handed {
                self.handed = self.version;
                let durable = self.as_written()?;
                return Some(Output::Persist(Token(self.version), durable));
            }
            let early = self.options.sabotage == Some(Sabotage::SaidEarly);
            let (version, _) = self.effects.front()?;
            if *version > self.on_disk && !early {
                return None;
            }
            match self.effects.pop_front()?.1 {
                // What a seed says to itself takes the same way: it counts once it is durable.
                Output::Send(to, message) if to == self.me => {
                    self.handle(message);
                    self.go_on();
                }
                output => return Some(output),
            }
        }
    }

    pub(super) fn electorate(&self) -> Option<&Electorate> {
        self.durable.as_ref()?.electorate.as_ref()
    }

    /// Looks for a cluster, or for others to found one with.
    pub(super) fn is_asking(&self) -> bool {
        let chosen = |durable: &Durable| durable.chosen.is_some();
        self.holds.is_none()
            && self.joining.is_none()
            && self
                .durable
                .as_ref()
                .is_some_and(|durable| !chosen(durable))
    }

    /// The list that counts: once a word is given, that of the electorate.
    pub(super) fn list(&self) -> Option<&SeedList> {
        let durable = self.durable.as_ref()?;
        let begun = durable.electorate.as_ref().map(Electorate::list);
        Some(begun.unwrap_or(&durable.list))
    }

    /// All other seeds of the list that counts.
    pub(super) fn others(&self) -> Vec<SeedName> {
        let others = self
            .list()
            .into_iter()
            .flat_map(SeedList::iter)
            .filter(|seed| **seed != self.me);
        others.cloned().collect()
    }

    /// This disk votes in `electorate`. A disk that replaced the one named there does not: it cannot know what that one promised.
    pub(super) fn votes_in(&self, electorate: &Electorate) -> bool {
        let Some(durable) = &self.durable else {
            return false;
        };
        durable.electorate.as_ref() == Some(electorate)
            && (electorate.incarnation(&self.me) == Some(durable.incarnation)
                || self.options.sabotage == Some(Sabotage::WipedVotes))
    }

    /// This disk answers proposers of `electorate`. One that joined another cluster since it gave its word has data: it helps
    /// nobody to found (E25).
    pub(super) fn answers_in(&self, electorate: &Electorate) -> bool {
        let chosen = self
            .durable
            .as_ref()
            .is_some_and(|durable| durable.chosen.is_some());
        let elsewhere = self.holds.is_some() || self.joining.is_some();
        self.votes_in(electorate) && (chosen || !elsewhere)
    }

    /// The seed may take steps of its own in its founding.
    pub(super) fn is_deciding(&self) -> bool {
        let complete = self
            .durable
            .as_ref()
            .is_some_and(|durable| durable.complete);
        let votes = self
            .electorate()
            .is_some_and(|electorate| self.votes_in(electorate));
        self.is_asking() && complete && votes
    }

    /// Draws up an effect. Messages beyond the bound are lost, as they may be anywhere.
    pub(super) fn effect(&mut self, effect: Output) {
        let is_message = matches!(effect, Output::Send(..));
        if is_message && self.effects.len() >= EFFECTS_MAX {
            return;
        }
        self.effects.push_back((self.version, effect));
    }

    /// Draws up a message that leaves once the present state is durable.
    pub(super) fn send(&mut self, to: SeedName, body: Body) {
        let message = Message {
            from: self.me.clone(),
            body,
        };
        self.effect(Output::Send(to, message));
    }

    /// Changes what is on disk; everything drawn up from now on waits for it.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Durable)) {
        if let Some(durable) = &mut self.durable {
            change(durable);
            self.version += 1;
        }
    }

    fn as_written(&self) -> Option<Durable> {
        let mut durable = self.durable.clone()?;
        match self.options.sabotage {
            Some(Sabotage::AcceptorForgotten) => durable.acceptor = Default::default(),
            Some(Sabotage::WordForgotten) => {
                (durable.electorate, durable.complete) = (None, false);
                durable.acceptor = Default::default();
            }
            _ => {}
        }
        Some(durable)
    }

    /// Says what this seed is, with a question or an answer in it.
    fn state_to(&mut self, to: &SeedName, ask: u64, echo: u64) {
        let chosen = self
            .durable
            .as_ref()
            .and_then(|durable| durable.chosen.as_ref());
        let cluster = self.holds.or(chosen.map(Record::cluster));
        if let Some(cluster) = cluster {
            let electorate = self.electorate().cloned();
            let holds = Body::Holds {
                cluster,
                electorate,
                echo,
            };
            self.send(to.clone(), holds);
        } else if let Some(durable) = &self.durable {
            let statement = Body::Statement {
                incarnation: durable.incarnation,
                list: self.list().unwrap_or(&durable.list).clone(),
                card: durable.card.clone(),
                electorate: durable.electorate.clone(),
                complete: durable.complete,
                ask,
                echo,
            };
            self.send(to.clone(), statement);
        }
    }

    fn handle(&mut self, message: Message) {
        let Message { from, body } = message;
        match body {
            Body::Statement {
                incarnation,
                list,
                card,
                electorate,
                complete,
                ask,
                echo,
            } => {
                if self.is_asking() && self.is_listed(&from) {
                    let said = Said {
                        incarnation,
                        list,
                        card,
                        electorate: electorate.clone(),
                    };
                    self.roster.note(self.now, &from, said, echo);
                }
                if ask != 0 {
                    self.answer(&from, incarnation, electorate.as_ref(), ask);
                }
                if let Some(electorate) = electorate {
                    self.note_word(&from, &electorate, complete);
                }
            }
            Body::Holds {
                cluster,
                electorate,
                echo,
            } => self.hear_of_cluster(from, cluster, electorate.as_ref(), echo),
            Body::Chosen { electorate, record } => self.learn(&electorate, record),
            body => self.handle_choice(&from, body),
        }
    }

    fn is_listed(&self, seed: &SeedName) -> bool {
        self.list().is_some_and(|list| list.contains(seed))
    }

    /// Answers a question. To a disk of the electorate that chose: with the record, so that it starts as one of the founders.
    fn answer(
        &mut self,
        to: &SeedName,
        incarnation: Incarnation,
        word: Option<&Electorate>,
        echo: u64,
    ) {
        let record = self
            .durable
            .as_ref()
            .and_then(|durable| durable.chosen.clone());
        if let (Some(record), Some(electorate)) = (record, self.electorate().cloned())
            && word == Some(&electorate)
            && electorate.incarnation(to) == Some(incarnation)
        {
            self.send(to.clone(), Body::Chosen { electorate, record });
            return;
        }
        let now = self.now;
        let is_news = self.is_asking()
            && self.is_listed(to)
            && self.roster.fresh(now, self.options.fresh, to).is_none();
        let ask = if is_news { self.roster.question() } else { 0 };
        self.state_to(to, ask, echo);
    }

    /// `from` gave its word to `electorate`.
    fn note_word(&mut self, from: &SeedName, electorate: &Electorate, complete: bool) {
        if !self.is_asking() || self.electorate() != Some(electorate) {
            return;
        }
        self.roster.words.insert(from.clone());
        if complete
            && self
                .durable
                .as_ref()
                .is_some_and(|durable| !durable.complete)
        {
            self.change(|durable| durable.complete = true);
        }
    }

    /// E25: any seed with data ends the founding. Only a disk that votes in a founding that may be over waits for the record
    /// instead, because it may be one of the first voters: if `from` gave its word to the same founding, or everybody did (all were
    /// empty then, so this is the cluster that they founded). When too few votes are left for a record, it joins all the same.
    fn hear_of_cluster(
        &mut self,
        from: SeedName,
        cluster: ClusterId,
        electorate: Option<&Electorate>,
        echo: u64,
    ) {
        // One that is late may come from a disk that is lost, and its cluster with it.
        if !self.is_asking() || !self.is_listed(&from) || !self.roster.is_present(echo) {
            return;
        }
        if let Some(mine) = self.electorate()
            && self.votes_in(mine)
        {
            let same = electorate == Some(mine);
            if same {
                self.roster.words.insert(from.clone());
            }
            if same
                || self
                    .durable
                    .as_ref()
                    .is_some_and(|durable| durable.complete)
            {
                self.roster.note_stranger(self.now, &from, cluster);
                return;
            }
        }
        self.join(from, cluster);
    }

    pub(super) fn join(&mut self, told_by: SeedName, cluster: ClusterId) {
        self.joining = Some(cluster);
        self.obstacle = None;
        self.effect(Output::Join { cluster, told_by });
    }

    /// The electorate chose `record`.
    pub(super) fn learn(&mut self, electorate: &Electorate, record: Record) {
        if !self.is_asking() || !self.votes_in(electorate) {
            return;
        }
        self.obstacle = None;
        self.change(|durable| {
            durable.complete = true;
            durable.chosen = Some(record);
        });
        self.announce();
        for seed in self.others() {
            self.state_chosen(seed);
        }
    }

    fn state_chosen(&mut self, to: SeedName) {
        let Some(durable) = &self.durable else { return };
        if let (Some(electorate), Some(record)) = (&durable.electorate, &durable.chosen) {
            let chosen = Body::Chosen {
                electorate: electorate.clone(),
                record: record.clone(),
            };
            self.send(to, chosen);
        }
    }

    /// Hands out what was chosen, once it is durable.
    fn announce(&mut self) {
        let Some(durable) = &self.durable else { return };
        if let (Some(electorate), Some(record)) = (&durable.electorate, &durable.chosen) {
            let chosen = Output::Chosen(electorate.clone(), record.clone());
            self.effect(chosen);
        }
    }

    /// Draws the conclusions from what is known by now.
    fn go_on(&mut self) {
        if !self.is_asking() {
            return;
        }
        if self.electorate().is_none()
            && let Some(electorate) = self.electorate_to_join()
        {
            self.change(|durable| durable.electorate = Some(electorate));
            self.roster.words.clear();
            for seed in self.others() {
                if self.gave_word(&seed) {
                    self.roster.words.insert(seed.clone());
                }
                self.state_to(&seed, 0, 0); // the others wait for this word
            }
        }
        self.complete();
        self.start_proposer();
        self.look_for_obstacles();
    }

    fn gave_word(&self, seed: &SeedName) -> bool {
        let word = self
            .roster
            .get(seed)
            .and_then(|heard| heard.electorate.as_ref());
        word.is_some() && word == self.electorate()
    }

    /// The electorate to give the word to, if there is one by now: drawn up by the chair from present answers of all, otherwise
    /// the one that the chair gave its own word to. A chair on a new disk takes up what its former self began.
    fn electorate_to_join(&self) -> Option<Electorate> {
        let durable = self.durable.as_ref()?;
        let list = &durable.list;
        let (now, fresh) = (self.now, self.options.fresh);
        let of_my_list = |seed: &SeedName| {
            let word = self.roster.fresh(now, fresh, seed)?.electorate.as_ref()?;
            (word.list() == list).then(|| word.clone())
        };
        if *list.chair() != self.me {
            return of_my_list(list.chair());
        }
        let begun = list.iter().find_map(of_my_list);
        begun.or_else(|| {
            let stated = |seed: &SeedName| {
                if *seed == self.me {
                    return Some((durable.incarnation, durable.card.clone()));
                }
                let heard = self.roster.fresh(now, fresh, seed)?;
                let agrees = heard.list == *list && heard.electorate.is_none();
                agrees.then(|| (heard.incarnation, heard.card.clone()))
            };
            if self.options.sabotage == Some(Sabotage::MajoritySuffices) {
                let answered = list.iter().filter(|seed| stated(seed).is_some()).count();
                let enough = answered > list.len() / 2;
                return Electorate::draw(list, |seed| {
                    stated(seed).or_else(|| Some((Incarnation(0), Card::default())))
                })
                .filter(|_| enough);
            }
            Electorate::draw(list, stated)
        })
    }

    /// Notes that every listed seed gave its word. The chair did by drawing up the electorate: its word was durable before anybody
    /// heard of it.
    fn complete(&mut self) {
        let Some(durable) = &self.durable else { return };
        let Some(electorate) = &durable.electorate else {
            return;
        };
        if durable.complete {
            return;
        }
        let list = electorate.list();
        let words = list
            .iter()
            .filter(|seed| {
                **seed == self.me || *seed == list.chair() || self.roster.words.contains(*seed)
            })
            .count();
        let majority = self.options.sabotage == Some(Sabotage::MajoritySuffices);
        if words == list.len() || (majority && words >= electorate.majority()) {
            self.change(|durable| durable.complete = true);
        }
    }
}
