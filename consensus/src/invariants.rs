//! What must hold of one replica whatever happens, by name and reason.
//!
//! Called at the end of every drawing up of effects. Cheap ones stay on in release builds: a broken one means that data is about
//! to be lost, and a stopped replica loses none.

use crate::group::Group;

/// State Ordering: purged <= applied <= handed <= min(committed, persisted), committed <= last. Broken, a client could see an
/// effect that is lost later, or a restart could find a hole.
pub(crate) fn order(group: &Group) {
    let (base, last) = (group.log.base().index, group.log.last_index());
    let persisted = group.ledger.persisted;
    assert!(
        base <= group.applied
            && group.applied <= group.handed
            && group.handed <= group.committed
            && group.handed <= persisted
            && group.committed <= last
            && persisted <= last,
        "State Ordering: purged {base}, applied {}, handed {}, committed {}, persisted {persisted}, last {last} in group {} at {}",
        group.applied,
        group.handed,
        group.committed,
        group.id,
        group.me,
    );
    assert_eq!(
        group.leadership.is_some(),
        group.role == crate::Role::Leader,
        "Leadership exists exactly while its replica leads"
    );
    let claims = group
        .leadership
        .as_ref()
        .map(|leadership| leadership.claimed);
    assert!(
        !group.resting || claims.unwrap_or(group.leader.is_some()),
        "Rest: a leader rests under its own claim, a follower under its leader's"
    );
}
