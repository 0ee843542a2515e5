//! The oracle: what was done to one account, and whether the account agrees.
//!
//! Here: [`Journal`], one per account, kept by the one client that uses the account. Every command is written down before
//! it is asked and gets exactly one outcome; a model of the account follows. Each receipt, each look at the account and
//! the final reading must equal the model in balance, count, sum, and in the last ids with their order; what does not is
//! a [`Fault`]. Not here: asking (`load`, `probe`), the account itself (`account`).
//!
//! One uncertainty is granted, and no more: a command whose outcome is unknown may have taken effect already, or may yet
//! do so until the next command to the account is acknowledged, because that one tells the shard that the former was
//! given up. So the looked-at account may hold the effects of doubted commands, each at most once, after those that were
//! certain, and nothing else.

use std::collections::HashSet;

use super::account::{Account, RECENT, Receipt};

/// What came of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// Asked, no answer yet.
    Open,
    /// Took effect.
    Applied,
    /// The account held too little; nothing changed.
    Declined,
    /// Never evaluated.
    Refused,
    /// Unknown, and not seen when the account was looked at.
    Doubted,
    /// Was doubted, did not take effect, and no longer can.
    Void,
}

/// One command; withdrawals are negative.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u64,
    amount: i64,
    outcome: Outcome,
}

/// What the account answered, until a look at it has shown that this can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Claim {
    Acknowledged(Receipt),
    Declined(Receipt),
    Unknown,
}

/// What the client must do before it may use the account again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum Step {
    /// Nothing.
    Settled,
    /// Read the account and tell the journal by [`Journal::saw`].
    Look,
}

/// How an account contradicts its journal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Fault {
    /// Acknowledged commands whose effect is missing.
    pub(crate) lost: u64,
    /// Effects beyond the first of a command.
    pub(crate) doubled: u64,
    /// Anything else: a refused or foreign command that took effect, a wrong order, balance or answer.
    pub(crate) unexplained: u64,
    /// For people.
    pub(crate) text: String,
}

/// Everything that was done to one account.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    /// Positions of the entries that took effect, in the order of their effects.
    applied: Vec<usize>,
    /// What the account must hold.
    model: Account,
    open: Option<usize>,
    claim: Option<Claim>,
    doubts: Vec<usize>,
    fault: Option<Fault>,
}

impl Journal {
    /// Writes a command down before it is asked.
    pub(crate) fn ask(&mut self, id: u64, amount: i64) {
        assert!(
            self.usable(),
            "one command at a time, each settled before the next"
        );
        self.open = Some(self.entries.len());
        self.entries.push(Entry {
            id,
            amount,
            outcome: Outcome::Open,
        });
    }

    /// The command took effect, says the cluster.
    pub(crate) fn acknowledged(&mut self, receipt: Receipt) -> Step {
        let open = self.open();
        let after = after(&self.model, self.entries[open]);
        if after
            .as_ref()
            .is_some_and(|after| after.receipt() == receipt)
        {
            self.take_effect(open);
            self.end_doubts();
            self.open = None;
            Step::Settled
        } else {
            self.claim = Some(Claim::Acknowledged(receipt));
            Step::Look
        }
    }

    /// The account held too little, says the cluster.
    pub(crate) fn declined(&mut self, receipt: Receipt) -> Step {
        let open = self.open();
        if self.model.receipt() == receipt && after(&self.model, self.entries[open]).is_none() {
            self.entries[open].outcome = Outcome::Declined;
            self.open = None;
            Step::Settled
        } else {
            self.claim = Some(Claim::Declined(receipt));
            Step::Look
        }
    }

    /// The command was never evaluated, says the cluster.
    pub(crate) fn refused(&mut self) {
        let open = self.open();
        self.entries[open].outcome = Outcome::Refused;
        self.open = None;
    }

    /// Nobody knows whether the command took effect.
    pub(crate) fn unknown(&mut self) -> Step {
        self.open();
        self.claim = Some(Claim::Unknown);
        Step::Look
    }

    /// The account as a linearizable query read it after [`Step::Look`]. Settles the open command, or finds a fault.
    pub(crate) fn saw(&mut self, seen: &Account) {
        let open = self.open();
        let claim = self.claim.take().expect("a look follows a claim");
        let tail = match self.explain(seen, Some(open)) {
            Some(tail) => tail,
            None => return self.accuse(seen, claim),
        };
        // Every state that the account went through, as far as the journal can tell.
        let mut states = vec![self.model.clone()];
        for &position in &tail {
            let state = after(&states[states.len() - 1], self.entries[position]);
            states.push(state.expect("the explanation went this way"));
        }
        let possible = match claim {
            Claim::Unknown => true,
            // Nothing doubted may take effect after it: its request said that they were given up.
            Claim::Acknowledged(receipt) => tail.last() == Some(&open) && seen.receipt() == receipt,
            Claim::Declined(receipt) => {
                !tail.contains(&open)
                    && states.iter().any(|state| {
                        state.receipt() == receipt && after(state, self.entries[open]).is_none()
                    })
            }
        };
        if !possible {
            return self.accuse(seen, claim);
        }
        for &position in &tail {
            self.take_effect(position);
        }
        self.doubts.retain(|position| !tail.contains(position));
        match claim {
            Claim::Acknowledged(_) => self.end_doubts(),
            Claim::Declined(_) => self.entries[open].outcome = Outcome::Declined,
            Claim::Unknown if !tail.contains(&open) => {
                self.entries[open].outcome = Outcome::Doubted;
                self.doubts.push(open);
            }
            Claim::Unknown => {}
        }
        self.open = None;
    }

    /// Whether the next command may be asked: the last is settled and the account has no fault.
    pub(crate) fn usable(&self) -> bool {
        self.open.is_none() && self.fault.is_none()
    }

    /// The balance that the account must hold, doubts aside.
    pub(crate) fn balance(&self) -> u64 {
        self.model.balance
    }

    /// Number of commands that were asked.
    pub(crate) fn asked(&self) -> usize {
        self.entries.len()
    }

    /// The final reading, after the last command was settled: the account must hold exactly what the journal explains.
    pub(crate) fn verify(&self, seen: &Account) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        match self.explain(seen, None) {
            Some(_) => Ok(()),
            None => Err(self.diagnose(seen, "at the end")),
        }
    }

    fn open(&self) -> usize {
        self.open.expect("an outcome follows a command")
    }

    fn take_effect(&mut self, position: usize) {
        let entry = &mut self.entries[position];
        entry.outcome = Outcome::Applied;
        self.model = after(&self.model, *entry).expect("an effect is possible before it is taken");
        self.applied.push(position);
    }

    fn end_doubts(&mut self) {
        for position in self.doubts.drain(..) {
            self.entries[position].outcome = Outcome::Void;
        }
    }

    /// The doubted commands (and the open one, if given) that lead from the model to exactly what was seen, in order.
    fn explain(&self, seen: &Account, open: Option<usize>) -> Option<Vec<usize>> {
        let more = usize::try_from(seen.count.checked_sub(self.model.count)?).ok()?;
        let first = seen.recent.len().checked_sub(more)?;
        let mut left: Vec<usize> = self.doubts.iter().copied().chain(open).collect();
        let mut state = self.model.clone();
        let mut tail = Vec::new();
        for &id in &seen.recent[first..] {
            let found = left
                .iter()
                .position(|&position| self.entries[position].id == id)?;
            let position = left.remove(found);
            state = after(&state, self.entries[position])?;
            tail.push(position);
        }
        (state == *seen).then_some(tail)
    }

    fn accuse(&mut self, seen: &Account, claim: Claim) {
        if let Claim::Acknowledged(_) = claim {
            let open = self.open();
            self.entries[open].outcome = Outcome::Applied;
            self.applied.push(open);
        }
        let entry = self.entries[self.open()];
        let text = format!(
            "after command {:016x} ({:+}) ended as {claim:?}",
            entry.id, entry.amount
        );
        self.fault = Some(self.diagnose(seen, &text));
        self.open = None;
    }

    /// Counts what is wrong. Within the remembered ids each command is named; beyond them count and sum speak.
    fn diagnose(&self, seen: &Account, when: &str) -> Fault {
        let expected: Vec<u64> = self
            .applied
            .iter()
            .map(|&position| self.entries[position].id)
            .collect();
        let certain: HashSet<u64> = expected.iter().copied().collect();
        let possible: HashSet<u64> = self
            .doubts
            .iter()
            .chain(&self.open)
            .map(|&position| self.entries[position].id)
            .collect();
        let mut fault = Fault::default();
        let mut met = HashSet::new();
        let mut allowed = 0;
        for id in &seen.recent {
            if !met.insert(*id) {
                fault.doubled += 1;
            } else if !certain.contains(id) {
                if possible.contains(id) {
                    allowed += 1;
                } else {
                    fault.unexplained += 1;
                }
            }
        }
        // What does not belong there pushed as many certain ids out of sight.
        let extra = fault.doubled + fault.unexplained + allowed;
        let visible = (RECENT as u64)
            .saturating_sub(extra)
            .min(expected.len() as u64) as usize;
        fault.lost = expected[expected.len() - visible..]
            .iter()
            .filter(|id| !met.contains(id))
            .count() as u64;
        let counted = (expected.len() as u64 + extra).saturating_sub(fault.lost);
        fault.lost += counted.saturating_sub(seen.count);
        fault.doubled += seen.count.saturating_sub(counted);
        if fault.lost + fault.doubled + fault.unexplained == 0 {
            fault.unexplained = 1; // order, sum, balance, or an answer that its state contradicts
        }
        fault.text = format!(
            "{when}: expected balance {}, {} commands, sum {:016x}, last {:016x?}; found balance {}, {} commands, sum {:016x}, last {:016x?}",
            self.model.balance,
            self.model.count,
            self.model.sum,
            last(&self.model.recent),
            seen.balance,
            seen.count,
            seen.sum,
            last(&seen.recent),
        );
        fault
    }
}

/// The account after a command took effect; `None` when it would be overdrawn.
fn after(account: &Account, entry: Entry) -> Option<Account> {
    let balance = account.balance.checked_add_signed(entry.amount)?;
    let mut account = Account {
        balance,
        ..account.clone()
    };
    account.record(entry.id);
    Some(account)
}

fn last(ids: &[u64]) -> &[u64] {
    &ids[ids.len().saturating_sub(3)..]
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A real account and its journal, side by side.
    #[derive(Default)]
    struct Pair {
        account: Account,
        journal: Journal,
        next: u64,
    }

    impl Pair {
        fn id(&mut self) -> u64 {
            self.next += 1;
            self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }

        fn effect(&mut self, id: u64, amount: i64) -> Option<Receipt> {
            self.account.balance = self.account.balance.checked_add_signed(amount)?;
            self.account.record(id);
            Some(self.account.receipt())
        }

        /// Asked, took effect, acknowledged.
        fn deposit(&mut self, amount: i64) -> u64 {
            let id = self.id();
            self.journal.ask(id, amount);
            let receipt = self
                .effect(id, amount)
                .expect("a deposit overdraws nothing");
            if self.journal.acknowledged(receipt) == Step::Look {
                self.journal.saw(&self.account.clone());
            }
            id
        }

        /// Asked, outcome unknown; `effect` says whether it happened before the look.
        fn doubt(&mut self, amount: i64, effect: bool) -> u64 {
            let id = self.id();
            self.journal.ask(id, amount);
            if effect {
                self.effect(id, amount);
            }
            assert_eq!(self.journal.unknown(), Step::Look);
            self.journal.saw(&self.account.clone());
            id
        }

        fn verdict(&self) -> Result<(), Fault> {
            self.journal.verify(&self.account)
        }

        fn fault(&self) -> Fault {
            self.verdict().expect_err("this must be seen")
        }
    }

    /// `count` acknowledged deposits.
    fn pair(count: u64) -> Pair {
        let mut pair = Pair::default();
        for amount in 0..count {
            pair.deposit(amount as i64 + 1);
        }
        pair.verdict().expect("nothing is wrong yet");
        pair
    }

    #[test]
    fn a_lost_command_is_found_and_counted() {
        // Issue 2, item 6: an acknowledged command whose effect is gone, as after a failover to a stale copy.
        for length in [1, 10, 64, 65, 200] {
            let mut pair = pair(length);
            let before = pair.account.clone();
            pair.deposit(5);
            pair.account = before;
            let fault = pair.fault();
            assert_eq!(
                (fault.lost, fault.doubled, fault.unexplained),
                (1, 0, 0),
                "{length}: {fault:?}"
            );
        }
    }

    #[test]
    fn a_command_lost_in_the_middle_is_found_and_counted() {
        // Two images of which one was computed without the other (E1): the later effect stands, the earlier is gone.
        let mut pair = pair(100);
        let before = pair.account.clone();
        pair.deposit(5);
        pair.account = before;
        let id = pair.id();
        pair.journal.ask(id, 7);
        let receipt = pair.effect(id, 7).expect("a deposit");
        assert_eq!(pair.journal.acknowledged(receipt), Step::Look);
        pair.journal.saw(&pair.account.clone());
        let fault = pair.fault();
        assert_eq!(
            (fault.lost, fault.doubled, fault.unexplained),
            (1, 0, 0),
            "{fault:?}"
        );
        assert!(
            !pair.journal.usable(),
            "a contradicted account is not used again"
        );
    }

    #[test]
    fn a_doubled_command_is_found_and_counted() {
        // A retry that was evaluated a second time (E5, E10).
        for length in [1, 10, 64, 65, 200] {
            let mut pair = pair(length);
            let id = pair.deposit(5);
            pair.effect(id, 5);
            let fault = pair.fault();
            assert_eq!(
                (fault.lost, fault.doubled, fault.unexplained),
                (0, 1, 0),
                "{length}: {fault:?}"
            );
        }
    }

    #[test]
    fn a_command_doubled_before_the_next_one_is_found_at_its_receipt() {
        // The retry arrives late, but before the client's next command: the receipt of that one gives it away.
        let mut pair = pair(100);
        let id = pair.deposit(5);
        pair.effect(id, 5);
        pair.deposit(6);
        let fault = pair.fault();
        assert_eq!(
            (fault.lost, fault.doubled, fault.unexplained),
            (0, 1, 0),
            "{fault:?}"
        );
    }

    #[test]
    fn reordered_commands_are_found() {
        // Deposits commute: balance, count and sum are right, only the order of the ids tells.
        let mut pair = pair(100);
        pair.account.recent.swap(62, 63);
        let fault = pair.fault();
        assert_eq!(
            (fault.lost, fault.doubled, fault.unexplained),
            (0, 0, 1),
            "{fault:?}"
        );
    }

    #[test]
    fn losses_and_doubles_beyond_the_remembered_ids_are_found() {
        // Only count and sum still tell.
        let mut lost = pair(200);
        lost.account.count -= 1;
        assert_eq!((lost.fault().lost, lost.fault().doubled), (1, 0));
        let mut doubled = pair(200);
        doubled.account.count += 1;
        assert_eq!((doubled.fault().lost, doubled.fault().doubled), (0, 1));
        let mut replaced = pair(200);
        replaced.account.sum ^= 1;
        assert_eq!(replaced.fault().unexplained, 1);
        let mut balance = pair(200);
        balance.account.balance += 1;
        assert_eq!(balance.fault().unexplained, 1);
    }

    #[test]
    fn an_unknown_outcome_may_be_either() {
        // DESIGN, section 7: `Unknown` promises at most once, not which.
        for effect in [false, true] {
            let mut pair = pair(70);
            pair.doubt(5, effect);
            assert!(pair.journal.usable());
            pair.verdict().expect("either is fine");
            pair.deposit(6);
            pair.verdict().expect("and stays fine");
        }
    }

    #[test]
    fn a_doubted_command_may_take_effect_until_the_next_acknowledgement() {
        // `router::Unknown`: the doubt ends with the next acknowledged command.
        let mut pair = pair(70);
        let first = pair.doubt(5, false);
        let second = pair.doubt(6, false);
        pair.effect(second, 6);
        pair.effect(first, 5);
        pair.deposit(7);
        pair.verdict().expect("both took effect late, each once");
    }

    #[test]
    fn a_doubted_command_that_takes_effect_after_the_next_acknowledgement_is_found() {
        let mut pair = pair(70);
        let id = pair.doubt(5, false);
        pair.deposit(6);
        pair.effect(id, 5);
        assert_eq!(pair.fault().unexplained, 1);
    }

    #[test]
    fn a_doubted_command_that_takes_effect_twice_is_found() {
        let mut pair = pair(70);
        let id = pair.doubt(5, true);
        pair.effect(id, 5);
        assert_eq!(pair.fault().doubled, 1);
    }

    #[test]
    fn a_refused_command_that_took_effect_is_found() {
        // STYLE 5: refused means refused.
        let mut pair = pair(70);
        let id = pair.id();
        pair.journal.ask(id, 5);
        pair.effect(id, 5);
        pair.journal.refused();
        let fault = pair.fault();
        assert_eq!(
            (fault.lost, fault.doubled, fault.unexplained),
            (0, 0, 1),
            "{fault:?}"
        );
    }

    #[test]
    fn a_withdrawal_is_declined_only_when_the_account_holds_too_little() {
        // E6: an `Err` computed on state that never came to be.
        let mut fair = pair(3);
        let id = fair.id();
        fair.journal.ask(id, -7);
        assert_eq!(fair.journal.declined(fair.account.receipt()), Step::Settled);
        fair.verdict().expect("6 is less than 7");
        let mut unfair = pair(3);
        let id = unfair.id();
        unfair.journal.ask(id, -6);
        assert_eq!(
            unfair.journal.declined(unfair.account.receipt()),
            Step::Look
        );
        unfair.journal.saw(&unfair.account.clone());
        assert_eq!(unfair.fault().unexplained, 1);
    }

    #[test]
    fn no_honest_history_is_accused() {
        // The oracle must be sound: random outcomes of an account that keeps every promise.
        for seed in 0..200 {
            let mut chance = ChaCha8Rng::seed_from_u64(seed);
            let mut pair = Pair::default();
            let mut ghosts: Vec<(u64, i64)> = Vec::new();
            for _ in 0..300 {
                let amount = chance.random_range(-60..=60);
                if !ghosts.is_empty() && chance.random_bool(0.3) {
                    let (id, amount) = ghosts.swap_remove(chance.random_range(0..ghosts.len()));
                    pair.effect(id, amount);
                }
                let id = pair.id();
                pair.journal.ask(id, amount);
                let step = match chance.random_range(0..10) {
                    0 => {
                        pair.journal.refused();
                        Step::Settled
                    }
                    1 | 2 => {
                        if chance.random_bool(0.5) {
                            pair.effect(id, amount);
                        } else {
                            ghosts.push((id, amount));
                        }
                        pair.journal.unknown()
                    }
                    _ => match pair.effect(id, amount) {
                        Some(receipt) => {
                            ghosts.clear();
                            pair.journal.acknowledged(receipt)
                        }
                        None => pair.journal.declined(pair.account.receipt()),
                    },
                };
                if step == Step::Look {
                    // A doubted command may also take effect between the answer and the look, but not once it is over.
                    pair.journal.saw(&pair.account.clone());
                }
                assert!(
                    pair.journal.usable(),
                    "seed {seed}: {:?}",
                    pair.journal.fault
                );
            }
            pair.verdict()
                .unwrap_or_else(|fault| panic!("seed {seed}: {fault:?}"));
        }
    }
}
