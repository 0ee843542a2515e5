//! The load: concurrent clients, each with accounts of its own and one command in flight.
//!
//! An account belongs to exactly one client, so its journal knows the order of its commands. Not here: how a command is
//! asked and settled (`clients`), probing for gaps (`probe`).

use actix_rt::task::JoinHandle;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::clients::{End, Teller};
use super::journal::Journal;

/// Greatest deposit, and greatest withdrawal: a little more, so that some accounts run dry and decline.
const DEPOSIT_MAX: i64 = 100;
const WITHDRAWAL_MAX: i64 = 102;

/// An account and what was done to it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) key: String,
    pub(crate) journal: Journal,
}

/// Starts client number `client` of `clients`; it ends with its journals when the desk stops.
pub(crate) fn start(
    teller: Teller,
    client: u32,
    clients: u32,
    accounts: u32,
    seed: u64,
) -> JoinHandle<Vec<Kept>> {
    let mut kept: Vec<Kept> = (client..accounts)
        .step_by(clients as usize)
        .map(|number| Kept {
            key: format!("a{number}"),
            journal: Journal::default(),
        })
        .collect();
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(u64::from(client) + 1);
    actix_rt::spawn(async move {
        while !teller.desk.stopping() && !kept.is_empty() {
            let chosen = chance.random_range(0..kept.len());
            let amount = amount(&mut chance, kept[chosen].journal.balance());
            let Kept { key, journal } = &mut kept[chosen];
            if !journal.usable() {
                // Contradicted: it stays as it is for the verdict, and this client has nothing left that it can trust.
                actix_rt::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
            if let End::Refused { pause } = teller.command(key, journal, amount).await {
                actix_rt::time::sleep(pause).await;
            }
        }
        kept
    })
}

/// Deposits and withdrawals in equal number; most withdrawals within the balance, a few beyond.
fn amount(chance: &mut ChaCha8Rng, balance: u64) -> i64 {
    if chance.random_bool(0.5) {
        return chance.random_range(1..=DEPOSIT_MAX);
    }
    let most = if chance.random_bool(0.02) {
        i64::MAX
    } else {
        i64::try_from(balance).unwrap_or(i64::MAX)
    };
    match most.min(WITHDRAWAL_MAX) {
        0 => chance.random_range(1..=DEPOSIT_MAX),
        most => -chance.random_range(1..=most),
    }
}
