//! What really happened, seen from outside, and what must hold of it.
//!
//! Here: [`History`], which is told every write, message and outcome, and refuses what may not follow. The claims are
//! listed in [`super`]. It counts disks, not names: a wipe begins another life.

use std::collections::{BTreeMap, BTreeSet};

use synod_consensus::genesis::{
    Ballot, Body, ClusterId, Durable, Electorate, Message, Record, SeedList, SeedName,
};

use crate::violation::{Violation, broken};

/// What is on one disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) durable: Option<Durable>,
    /// The cluster of which the store has data.
    pub(super) holds: Option<ClusterId>,
}

/// A cluster that came to be.
#[derive(Debug)]
struct Founding {
    cluster: ClusterId,
    list: SeedList,
    /// `None`: it was there before the run.
    electorate: Option<Electorate>,
    at: u64,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// Counts what it was told.
    clock: u64,
    /// Judges only what was founded, not how: shows what a safeguard is good for.
    pub(super) outcome_only: bool,
    /// When a name's disk was last lost.
    wiped: BTreeMap<SeedName, u64>,
    /// When a name's disk first gave its word to an electorate.
    words: BTreeMap<(SeedName, Electorate), u64>,
    values: BTreeMap<(Electorate, Ballot), Record>,
    accepted: BTreeMap<(Electorate, Ballot), BTreeSet<SeedName>>,
    chosen: BTreeMap<Electorate, Record>,
    foundings: Vec<Founding>,
    /// Two clusters that a lost set of disks excuses.
    pub(super) excused: bool,
}

impl History {
    /// A cluster that `holders` have data of from the beginning.
    pub(super) fn existed(&mut self, cluster: ClusterId, holders: SeedList) {
        self.foundings.push(Founding {
            cluster,
            list: holders,
            electorate: None,
            at: 0,
        });
    }

    pub(super) fn wiped(&mut self, seed: &SeedName) {
        self.clock += 1;
        self.wiped.insert(seed.clone(), self.clock);
    }

    pub(super) fn is_chosen(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// A write reached the disk.
    pub(super) fn written(
        &mut self,
        seed: &SeedName,
        disk: &Disk,
        next: &Durable,
    ) -> Result<(), Violation> {
        self.clock += 1;
        if let Some(electorate) = &next.electorate {
            let word = (seed.clone(), electorate.clone());
            self.words.entry(word).or_insert(self.clock);
        }
        if let (Some((ballot, record)), Some(electorate)) =
            (&next.acceptor.accepted, &next.electorate)
        {
            let value = (electorate.clone(), *ballot);
            self.values.entry(value).or_insert_with(|| record.clone());
            self.accepted(seed, electorate, *ballot)?;
        }
        if let (Some(record), Some(electorate)) = (&next.chosen, &next.electorate) {
            self.choose(electorate, record)?;
        }
        let is_word = |durable: &Durable| durable.electorate.is_some();
        if disk.holds.is_some()
            && is_word(next)
            && !disk.durable.as_ref().is_some_and(is_word)
            && !self.outcome_only
        {
            return broken("Empty Disk", format!("{seed} has data and gives its word"));
        }
        match &disk.durable {
            Some(before) if !self.outcome_only => unlearned(seed, before, next),
            _ => Ok(()),
        }
    }

    /// `from` sends `message`, with `disk` as it is.
    pub(super) fn sent(&mut self, disk: &Disk, message: &Message) -> Result<(), Violation> {
        self.clock += 1;
        let from = &message.from;
        match &message.body {
            Body::Accept {
                electorate,
                ballot,
                record,
            } => {
                let value = (electorate.clone(), *ballot);
                let known = self.values.entry(value).or_insert_with(|| record.clone());
                if known != record && !self.outcome_only {
                    let detail = format!("{from} sends two values with {ballot:?}");
                    return broken("Ballots Are Unique", detail);
                }
            }
            Body::Accepted { electorate, ballot } => {
                self.accepted(from, electorate, *ballot)?;
            }
            _ => {}
        }
        let votes = matches!(message.body, Body::Promise { .. } | Body::Accepted { .. });
        let chosen = disk
            .durable
            .as_ref()
            .and_then(|durable| durable.chosen.as_ref());
        if votes && chosen.is_none() && disk.holds.is_some() && !self.outcome_only {
            let detail = format!("{from} has data of {:?} and votes", disk.holds);
            return broken("Empty Disk", detail);
        }
        if !self.outcome_only && !is_on_disk(disk, &message.body) {
            let detail = format!("{from} says {:?}, its disk {disk:?}", message.body);
            return broken("Durable Promise", detail);
        }
        Ok(())
    }

    /// "Paxos Made Simple" 2.2: chosen is what a majority accepted with one ballot, whether anybody learns it or not.
    fn accepted(
        &mut self,
        seed: &SeedName,
        electorate: &Electorate,
        ballot: Ballot,
    ) -> Result<(), Violation> {
        let key = (electorate.clone(), ballot);
        let voters = self.accepted.entry(key.clone()).or_default();
        voters.insert(seed.clone());
        if voters.len() < electorate.majority() {
            return Ok(());
        }
        match self.values.get(&key).cloned() {
            Some(record) => self.choose(electorate, &record),
            None => Ok(()),
        }
    }

    /// A seed was told to join.
    pub(super) fn joins(&self, seed: &SeedName, cluster: ClusterId) -> Result<(), Violation> {
        if self
            .foundings
            .iter()
            .any(|founding| founding.cluster == cluster)
        {
            return Ok(());
        }
        broken("Join What Exists", format!("{seed} joins {cluster}"))
    }

    /// `electorate` has chosen `record`, as a majority's answers or a seed's own word say.
    pub(super) fn choose(
        &mut self,
        electorate: &Electorate,
        record: &Record,
    ) -> Result<(), Violation> {
        if let Some(known) = self.chosen.get(electorate) {
            if known != record {
                let (one, other) = (known.cluster(), record.cluster());
                return broken("Agreement", format!("{one} and {other} of {electorate:?}"));
            }
            return Ok(());
        }
        self.chosen.insert(electorate.clone(), record.clone());
        let founding = Founding {
            cluster: record.cluster(),
            list: electorate.list().clone(),
            electorate: Some(electorate.clone()),
            at: self.clock,
        };
        for earlier in &self.foundings {
            let kept = earlier
                .list
                .iter()
                .find(|seed| founding.list.contains(seed) && self.kept(seed, earlier, &founding));
            if earlier.cluster == founding.cluster {
                continue;
            }
            if let Some(seed) = kept {
                let detail = format!("{earlier:?} and {founding:?}, and {seed} kept its disk");
                return broken("One Cluster", detail);
            }
            self.excused = true;
        }
        let word = |seed: &SeedName| (seed.clone(), electorate.clone());
        let missing = electorate
            .list()
            .iter()
            .find(|seed| !self.words.contains_key(&word(seed)));
        if let (Some(seed), false) = (missing, self.outcome_only) {
            return broken(
                "Words Of All",
                format!("{seed} gave no word to {electorate:?}"),
            );
        }
        self.foundings.push(founding);
        Ok(())
    }

    /// Whether the disk of `seed` outlived the time from its first word in one of two foundings to the second choice.
    fn kept(&self, seed: &SeedName, earlier: &Founding, later: &Founding) -> bool {
        let word = |founding: &Founding| {
            let electorate = founding.electorate.clone()?;
            self.words.get(&(seed.clone(), electorate)).copied()
        };
        let since = [word(earlier), word(later), Some(earlier.at)];
        let since = since.into_iter().flatten().min().unwrap_or(earlier.at);
        self.wiped.get(seed).is_none_or(|wiped| *wiped < since)
    }
}

/// A seed never unlearns: what its disk says next contains what it said before.
fn unlearned(seed: &SeedName, before: &Durable, next: &Durable) -> Result<(), Violation> {
    let word = before.electorate.is_none() || before.electorate == next.electorate;
    let chosen = before.chosen.is_none() || before.chosen == next.chosen;
    let at = |durable: &Durable| {
        let accepted = durable
            .acceptor
            .accepted
            .as_ref()
            .map(|(ballot, _)| *ballot);
        (durable.acceptor.promised, accepted)
    };
    let forward = at(before).0 <= at(next).0 && at(before).1 <= at(next).1;
    let same = before.incarnation == next.incarnation && before.complete <= next.complete;
    if word && chosen && forward && same {
        return Ok(());
    }
    broken(
        "Never Unlearn",
        format!("{seed}: {before:?}, then {next:?}"),
    )
}

/// Everything that a sender claims of itself is on its disk.
fn is_on_disk(disk: &Disk, body: &Body) -> bool {
    if let Body::Holds { cluster, .. } = body
        && disk.holds == Some(*cluster)
    {
        return true;
    }
    let Some(durable) = &disk.durable else {
        return false;
    };
    let acceptor = &durable.acceptor;
    let accepted = acceptor.accepted.as_ref().map(|(ballot, _)| *ballot);
    match body {
        Body::Statement {
            incarnation,
            list,
            electorate,
            complete,
            ..
        } => {
            let begun = durable.electorate.as_ref().map(Electorate::list);
            durable.incarnation == *incarnation
                && begun.unwrap_or(&durable.list) == list
                && durable.electorate == *electorate
                && durable.complete >= *complete
        }
        Body::Holds { cluster, .. } => {
            let chosen = durable.chosen.as_ref().map(Record::cluster);
            chosen == Some(*cluster)
        }
        Body::Chosen { electorate, record } => {
            durable.chosen.as_ref() == Some(record)
                && durable.electorate.as_ref() == Some(electorate)
        }
        Body::Prepare { ballot, .. } | Body::Accept { ballot, .. } => {
            acceptor.promised >= Some(*ballot)
        }
        Body::Promise {
            ballot,
            accepted: claimed,
            ..
        } => {
            let claimed = claimed.as_ref().map(|(ballot, _)| *ballot);
            acceptor.promised >= Some(*ballot) && accepted >= claimed
        }
        Body::Accepted { ballot, .. } => accepted >= Some(*ballot),
        Body::Refused { promised, .. } => acceptor.promised >= Some(*promised),
        _ => true,
    }
}
