//! When the storm is over: what everybody must agree about.
//!
//! Here: the end of the world's run, invariant *Convergence*.

use std::collections::BTreeSet;

use synod_membership::{MemberState, StoreId};

use super::process::Process;
use super::world::World;

impl World {
    /// What is not settled yet: everybody up must be alive at its own position for everybody, whoever is down must not be
    /// present for anybody, and all hashes must be equal.
    pub(super) fn disagreement(&self) -> Option<String> {
        let up: Vec<&Process> = self
            .processes
            .iter()
            .filter(|process| process.up && !process.is_copy)
            .collect();
        let first = up.first()?;
        // Every pair is compared, up to 80 times in a run: nothing of one pair may be looked for among all.
        let stores: BTreeSet<StoreId> = up.iter().map(|process| process.store).collect();
        for observer in &up {
            if observer.swim.hash() != first.swim.hash() {
                let view = |process: &Process| -> Vec<String> {
                    let tell = |member: &synod_membership::Member| {
                        format!(
                            "{}:{}{:?}",
                            member.store(),
                            member.position(),
                            member.state()
                        )
                    };
                    process.swim.members().map(tell).collect()
                };
                return Some(format!(
                    "{} has {:?}, {} has {:?}",
                    first.store,
                    view(first),
                    observer.store,
                    view(observer)
                ));
            }
            for subject in &up {
                let held = observer.swim.member(subject.store);
                let right = |held: &&synod_membership::Member| {
                    held.position() == subject.swim.position()
                        && (held.state() == MemberState::Alive || subject.leaving)
                };
                if held.filter(right).is_none() {
                    let held = held.map(|held| (held.position(), held.state()));
                    let now = subject.swim.position();
                    return Some(format!(
                        "{} (joined {}) holds {held:?} of {} (joined {}), which is at {now}",
                        observer.store, observer.joined, subject.store, subject.joined
                    ));
                }
            }
            for member in observer.swim.members().filter(|member| member.is_present()) {
                if !stores.contains(&member.store()) {
                    return Some(format!(
                        "{} holds {}, which is down, for {:?}",
                        observer.store,
                        member.store(),
                        member.state()
                    ));
                }
            }
        }
        None
    }
}
