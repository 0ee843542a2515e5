//! memberlist's queue of broadcasts: one per node, the least often sent first.
//!
//! Here: [`Queue`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Claim, PART_BYTES};

/// How often it was sent, longest first, newest first.
type Order = (u32, Reverse<usize>, Reverse<u64>, usize);

#[derive(Debug, Default)]
pub(super) struct Queue {
    claims: BTreeMap<usize, (Claim, Order)>,
    order: BTreeSet<Order>,
    added: u64,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Replaces what was to be said about the same node.
    pub(super) fn add(&mut self, claim: Claim) {
        if let Some((_, order)) = self.claims.remove(&claim.node()) {
            self.order.remove(&order);
        }
        self.added += 1;
        self.put(
            claim,
            (0, Reverse(claim.bytes()), Reverse(self.added), claim.node()),
        );
    }

    fn put(&mut self, claim: Claim, order: Order) {
        self.claims.insert(claim.node(), (claim, order));
        self.order.insert(order);
    }

    /// What fits into `room` bytes; each counts as sent once more, and is forgotten at `limit`.
    pub(super) fn take(&mut self, mut room: usize, limit: u32) -> Vec<Claim> {
        let mut taken = Vec::new();
        for order in &self.order {
            let (_, Reverse(bytes), _, node) = *order;
            if room < PART_BYTES + 40 {
                break;
            }
            if bytes + PART_BYTES <= room {
                room -= bytes + PART_BYTES;
                taken.push((node, *order));
            }
        }
        let mut claims = Vec::with_capacity(taken.len());
        for (node, order) in taken {
            self.order.remove(&order);
            if let Some((claim, (sent, bytes, added, _))) = self.claims.remove(&node) {
                claims.push(claim);
                if sent + 1 < limit {
                    self.put(claim, (sent + 1, bytes, added, node));
                }
            }
        }
        claims
    }
}
