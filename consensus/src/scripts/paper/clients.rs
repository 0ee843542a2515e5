//! Section 8: what a client meets.

use super::*;
use crate::{GroupId, ProposeError, ReadError};

#[test]
fn a_follower_names_the_leader() {
    // Raft paper 8: both for a command and for a read; a replica that hears nobody names nobody.
    let mut net = Net::led(3, 2);
    let (now, group) = (net.now, GroupId::ZERO);
    let leader = Some(id(2));
    let refused = net.group(1).propose(now, bytes::Bytes::new());
    assert_eq!(refused, Err(ProposeError::NotLeader { group, leader }));
    let mut alone = Net::new(3);
    let leader = None;
    let refused = alone.group(1).read(now);
    assert_eq!(refused, Err(ReadError::NotLeader { group, leader }));
}
