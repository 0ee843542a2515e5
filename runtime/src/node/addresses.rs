//! Where the other stores were last seen, for a start without `--join`.
//!
//! Here: [`Addresses`], a file in the store, and [`keep`], which writes it. Not here: who asks there (`lookout`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::sight::{Seen, Sight};

/// The file.
const PEERS: &str = "peers";

/// The addresses of each store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Addresses(BTreeMap<u64, Vec<SocketAddr>>);

/// Writes down where the others are, as soon as gossip says so and for as long as the node runs: who is stopped in the next moment, and
/// comes back at another address, is found by nobody and has to find them.
pub(super) async fn keep(me: u64, sight: Sight, path: PathBuf, mut kept: Addresses) {
    let mut changes = sight.changes();
    loop {
        let mut known = kept.clone();
        known.learn(me, &changes.borrow_and_update());
        if known != kept {
            // A hint for the next start; without it the node needs `--join` again.
            if let Err(error) = known.save(&path) {
                tracing::warn!(%error, "the addresses of the other nodes could not be kept");
            }
            kept = known;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Addresses {
    /// One line per store: its id, then its addresses. What cannot be read is no hint.
    pub(super) fn load(store: &Path) -> Self {
        let text = std::fs::read_to_string(store.join(PEERS)).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let store = words.next()?.parse().ok()?;
            Some((store, words.filter_map(|word| word.parse().ok()).collect()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Whole or not at all; not synced, for it is only a hint.
    fn save(&self, store: &Path) -> std::io::Result<()> {
        let line = |(store, addresses): (&u64, &Vec<SocketAddr>)| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{store} {}", addresses.join(" "))
        };
        let text: Vec<String> = self.0.iter().map(line).collect();
        let new = store.join("peers.new");
        std::fs::write(&new, text.join("\n"))?;
        std::fs::rename(&new, store.join(PEERS))
    }

    /// Of those that are not seen the last addresses stay.
    pub(super) fn learn(&mut self, me: u64, seen: &BTreeMap<u64, Seen>) {
        for (store, member) in seen.iter().filter(|(store, _)| **store != me) {
            self.0.insert(*store, member.addresses.clone());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&u64, &Vec<SocketAddr>)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use synod_membership::MemberState;

    use super::*;
    use crate::system::{BUILD_LEVEL, Description};

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn seen(port: u16) -> Seen {
        Seen {
            state: MemberState::Alive,
            generation: 1,
            addresses: vec![at(port)],
            level: BUILD_LEVEL,
            description: Description {
                zone: None,
                capacity: 1,
            },
            roles: Vec::new(),
        }
    }

    #[test]
    fn addresses_survive_a_restart_and_garbage_is_no_hint() {
        let directory = tempfile::tempdir().unwrap();
        let addresses = Addresses(BTreeMap::from([(2, vec![at(1), at(2)]), (3, vec![at(3)])]));
        addresses.save(directory.path()).unwrap();
        assert_eq!(Addresses::load(directory.path()), addresses);
        std::fs::write(directory.path().join(PEERS), "x y\n7 127.0.0.1:9 z").unwrap();
        assert_eq!(
            Addresses::load(directory.path()).0,
            BTreeMap::from([(7, vec![at(9)])])
        );
        assert_eq!(Addresses::load(Path::new("/nowhere")), Addresses::default());
    }

    #[actix_rt::test]
    async fn who_is_seen_is_written_down_before_any_time_passes() {
        // A node that was stopped within half a second after another had joined came back alone when its address was another one.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let sight = Sight::default();
        let me = 1;
        let keeper = actix_rt::spawn(keep(me, sight.clone(), path, Addresses::default()));
        let turns = async || {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        };
        turns().await;
        sight.publish(BTreeMap::from([(1, seen(1)), (2, seen(2))]));
        turns().await;
        let kept = || Addresses::load(directory.path()).0;
        assert_eq!(kept(), BTreeMap::from([(2, vec![at(2)])]));
        sight.publish(BTreeMap::from([(1, seen(1)), (3, seen(3))]));
        turns().await;
        let both = BTreeMap::from([(2, vec![at(2)]), (3, vec![at(3)])]);
        assert_eq!(kept(), both);
        keeper.abort();
    }
}
