//! What load and probers have in common: one command to one account, asked, written down, and settled.
//!
//! Here: [`Desk`] (ids, the clock, counters, the stop flag; one per demo, shared on its thread) and [`Teller`] (one
//! gateway connection's way to the accounts). Not here: which command when (`load`, `probe`), what must be true
//! (`journal`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use synod::router::{AskError, Entities, Failed, Refused};

use super::account::{Account, Deposit, Inspect, Overdrawn, Receipt, Withdraw};
use super::journal::{Journal, Step};

/// How long a command may take before its outcome is unknown.
const COMMAND_DEADLINE: Duration = Duration::from_secs(3);
/// The same for a look at the account, which is repeated until it is answered.
const QUERY_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after a refusal that names none.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);
/// Longest latency that the histograms hold; longer ones count as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Numbers of one phase, or of the whole run.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Commands that took effect and were acknowledged.
    pub(crate) acked: u64,
    /// Withdrawals that the account could not pay.
    pub(crate) declined: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Commands that no retry can help; none is expected.
    pub(crate) failed: u64,
    /// Microseconds from asking to acknowledgement.
    pub(crate) latency: Histogram<u64>,
    /// Acknowledgements in each second since counting began.
    seconds: Vec<u32>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX_US, 3)
            .expect("the bounds are those of a histogram");
        Self {
            acked: 0,
            declined: 0,
            refused: 0,
            unknown: 0,
            failed: 0,
            latency,
            seconds: Vec::new(),
        }
    }
}

impl Tally {
    /// Fewest acknowledgements in a whole one of the first `seconds` seconds; `None`: there is no whole one.
    pub(crate) fn slowest_second(&self, seconds: f64) -> Option<u32> {
        let whole = 0..seconds.floor() as usize;
        let counts = whole.map(|second| self.seconds.get(second).copied().unwrap_or(0));
        counts.min()
    }

    /// Counts one that ended `at` after counting began.
    fn add(&mut self, end: &End, took: Duration, at: Duration) {
        match end {
            End::Acknowledged => {
                self.acked += 1;
                let second = at.as_secs() as usize;
                if self.seconds.len() <= second {
                    self.seconds.resize(second + 1, 0);
                }
                self.seconds[second] += 1;
                let us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US);
                self.latency.saturating_record(us);
            }
            End::Declined => self.declined += 1,
            End::Refused { .. } => self.refused += 1,
            End::Unknown => self.unknown += 1,
            End::Failed => self.failed += 1,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Acknowledged,
    Declined,
    Refused { pause: Duration },
    Unknown,
    Failed,
}

/// Shared by all clients of the demo.
#[derive(Debug)]
pub(crate) struct Desk {
    origin: Instant,
    seed: u64,
    serial: Cell<u64>,
    stopping: Cell<bool>,
    /// When the phase that runs began.
    phase_began: Cell<Duration>,
    /// Of the phase that runs, without probes.
    pub(crate) phase: RefCell<Tally>,
    /// Of the whole run, without probes.
    pub(crate) total: RefCell<Tally>,
    /// Of the probers, over the whole run.
    pub(crate) probes: RefCell<Tally>,
    /// First error that should not occur at all.
    pub(crate) failure: RefCell<Option<String>>,
}

impl Desk {
    pub(crate) fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            origin: Instant::now(),
            seed,
            serial: Cell::new(0),
            stopping: Cell::new(false),
            phase_began: Cell::new(Duration::ZERO),
            phase: RefCell::default(),
            total: RefCell::default(),
            probes: RefCell::default(),
            failure: RefCell::default(),
        })
    }

    /// Time since the demo began.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Clients end after their present command.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Starts counting anew and returns what was counted.
    pub(crate) fn begin_phase(&self) -> Tally {
        self.phase_began.set(self.now());
        self.phase.replace(Tally::default())
    }

    /// A command id: unique in the run, and spread over all 64 bits so that a sum of ids tells them apart.
    fn id(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        spread(self.serial.get(), self.seed)
    }

    fn fail(&self, sentence: String) {
        self.failure.borrow_mut().get_or_insert(sentence);
    }
}

/// A bijection of `serial` for each seed (the finaliser of splitmix64).
fn spread(serial: u64, seed: u64) -> u64 {
    let mut x = serial.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Who the commands of a client count for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Load,
    Probe,
}

/// One gateway connection's way to the accounts.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(crate) desk: Rc<Desk>,
    accounts: Entities<Account>,
    purpose: Purpose,
}

impl Teller {
    pub(crate) fn new(desk: Rc<Desk>, accounts: Entities<Account>, purpose: Purpose) -> Self {
        Self {
            desk,
            accounts,
            purpose,
        }
    }

    /// One command, written down before and settled after. The account may be used again when this returns, unless the
    /// journal found a fault.
    pub(crate) async fn command(&self, key: &str, journal: &mut Journal, amount: i64) -> End {
        let id = self.desk.id();
        journal.ask(id, amount);
        let asked = Instant::now();
        let answer = self.ask(key, id, amount).await;
        let took = asked.elapsed();
        let (end, step) = match answer {
            Ok(Ok(receipt)) => (End::Acknowledged, journal.acknowledged(receipt)),
            Ok(Err(Overdrawn(receipt))) => (End::Declined, journal.declined(receipt)),
            Err(AskError::Refused(refused)) => {
                journal.refused();
                let pause = match refused {
                    Refused::Busy { retry_after, .. } => retry_after,
                    _ => REFUSED_PAUSE,
                };
                (End::Refused { pause }, Step::Settled)
            }
            Err(AskError::Failed(Failed(failure))) => {
                journal.refused();
                self.desk.fail(failure.to_string());
                (End::Failed, Step::Settled)
            }
            Err(_) => (End::Unknown, journal.unknown()),
        };
        if step == Step::Look {
            journal.saw(&self.look(key).await);
        }
        let now = self.desk.now();
        match self.purpose {
            Purpose::Load => {
                let at = now.saturating_sub(self.desk.phase_began.get());
                self.desk.phase.borrow_mut().add(&end, took, at);
                self.desk.total.borrow_mut().add(&end, took, now);
            }
            Purpose::Probe => self.desk.probes.borrow_mut().add(&end, took, now),
        }
        end
    }

    async fn ask(
        &self,
        key: &str,
        id: u64,
        amount: i64,
    ) -> Result<Result<Receipt, Overdrawn>, AskError> {
        let account = self.accounts.at(key);
        let size = amount.unsigned_abs();
        if amount < 0 {
            account
                .ask(Withdraw { id, amount: size })
                .deadline(COMMAND_DEADLINE)
                .await
        } else {
            account
                .ask(Deposit { id, amount: size })
                .deadline(COMMAND_DEADLINE)
                .await
                .map(Ok)
        }
    }

    /// Reads an account, as often as it takes.
    pub(crate) async fn look(&self, key: &str) -> Account {
        loop {
            match self
                .accounts
                .at(key)
                .query(Inspect)
                .deadline(QUERY_DEADLINE)
                .await
            {
                Ok(account) => return account,
                Err(AskError::Failed(Failed(failure))) => self.desk.fail(failure.to_string()),
                Err(_) => {}
            }
            actix_rt::time::sleep(REFUSED_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_slowest_second_is_a_whole_one_and_may_be_empty() {
        let mut tally = Tally::default();
        for at in [100, 200, 1_100, 3_200] {
            let at = Duration::from_millis(at);
            tally.add(&End::Acknowledged, Duration::ZERO, at);
        }
        assert_eq!(tally.slowest_second(0.9), None);
        assert_eq!(tally.slowest_second(2.5), Some(1));
        assert_eq!(tally.slowest_second(3.5), Some(0));
        assert_eq!(tally.slowest_second(9.0), Some(0));
    }

    #[test]
    fn ids_are_unique_within_a_run() {
        // The oracle tells commands apart by nothing else.
        for seed in [0, 1, u64::MAX] {
            let ids: HashSet<u64> = (0..100_000).map(|serial| spread(serial, seed)).collect();
            assert_eq!(ids.len(), 100_000);
        }
    }
}
