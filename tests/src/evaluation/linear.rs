//! Is there an order of one entity's operations, each within its own time, that explains every answer?
//!
//! Here: [`check`], a search after Wing and Gong (1993) with the memory of Lowe (2017): operations are tried in the order
//! of their beginnings, a configuration (set of placed operations, balance) is never tried twice. Operations whose
//! outcome is unknown may take effect at any time after their beginning, or never.
//! Not here: which histories there are (`history`).

use std::collections::HashSet;

use super::account::{Seen, Wish};

/// One operation of one entity. `began` and `ended` are the world's event counter, so no two are equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// What was wanted.
    pub(super) wish: Wish,
    /// What was seen.
    pub(super) seen: Seen,
    /// When the client asked.
    pub(super) began: u64,
    /// When it had its answer; of an unknown outcome this says nothing.
    pub(super) ended: u64,
}

/// The balance after `operation` on `balance`; `None` when it would have answered otherwise.
fn step(balance: u64, operation: &Operation) -> Option<u64> {
    let (answer, after) = match operation.wish {
        Wish::Add { amount, .. } => (Seen::Number(balance + amount), balance + amount),
        Wish::Take { amount } if balance >= amount => {
            (Seen::Number(balance - amount), balance - amount)
        }
        Wish::Take { .. } => (Seen::Overdrawn, balance),
        Wish::Swap { value } => (Seen::Number(balance), value),
        Wish::Touch | Wish::Balance { .. } => (Seen::Number(balance), balance),
        Wish::Close => (Seen::Number(balance), 0),
        Wish::Spoil { .. } => return None, // fails always; never part of a history
    };
    (operation.seen == Seen::Unknown || operation.seen == answer).then_some(after)
}

/// A call or a return in the doubly linked list that the search lifts operations out of.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    is_return: bool,
    /// Of a call: its return.
    partner: Option<usize>,
    before: usize,
    after: usize,
}

const HEAD: usize = 0;
const END: usize = usize::MAX;

struct List(Vec<Event>);

impl List {
    fn new(operations: &[Operation]) -> Self {
        let mut moments: Vec<(u64, usize, bool)> = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            moments.push((operation.began, number, false));
            if operation.seen != Seen::Unknown {
                moments.push((operation.ended, number, true));
            }
        }
        moments.sort_unstable();
        let mut events = vec![Event {
            operation: usize::MAX,
            is_return: false,
            partner: None,
            before: END,
            after: END,
        }];
        let mut calls = vec![END; operations.len()];
        for (_, operation, is_return) in moments {
            let place = events.len();
            if is_return {
                let call: usize = calls[operation];
                events[call].partner = Some(place);
            } else {
                calls[operation] = place;
            }
            events[place - 1].after = place;
            events.push(Event {
                operation,
                is_return,
                partner: None,
                before: place - 1,
                after: END,
            });
        }
        Self(events)
    }

    fn unlink(&mut self, place: usize) {
        let Event { before, after, .. } = self.0[place];
        self.0[before].after = after;
        if after != END {
            self.0[after].before = before;
        }
    }

    fn relink(&mut self, place: usize) {
        let Event { before, after, .. } = self.0[place];
        self.0[before].after = place;
        if after != END {
            self.0[after].before = place;
        }
    }

    fn lift(&mut self, call: usize) {
        self.unlink(call);
        if let Some(partner) = self.0[call].partner {
            self.unlink(partner);
        }
    }

    fn put_back(&mut self, call: usize) {
        if let Some(partner) = self.0[call].partner {
            self.relink(partner);
        }
        self.relink(call);
    }
}

/// Searches an order that explains all operations from a balance of zero. `Err` holds the operations around the place
/// where every attempt got stuck.
pub(super) fn check(operations: &[Operation]) -> Result<(), Vec<Operation>> {
    let mut list = List::new(operations);
    let mut placed = vec![0u64; operations.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, u64)> = HashSet::new();
    let mut stack: Vec<(usize, u64)> = Vec::new();
    let mut balance = 0;
    let mut place = list.0[HEAD].after;
    let mut furthest = (0, HEAD);
    loop {
        if place == END {
            return Ok(()); // no return is left: every answered operation has its place
        }
        let event = list.0[place];
        if event.is_return {
            if stack.len() >= furthest.0 {
                furthest = (stack.len(), place);
            }
            let Some((call, earlier)) = stack.pop() else {
                return Err(around(operations, &list, furthest.1));
            };
            balance = earlier;
            let operation = list.0[call].operation;
            placed[operation / 64] &= !(1 << (operation % 64));
            list.put_back(call);
            place = list.0[call].after;
            continue;
        }
        if let Some(after) = step(balance, &operations[event.operation]) {
            placed[event.operation / 64] |= 1 << (event.operation % 64);
            if tried.insert((placed.clone(), after)) {
                stack.push((place, balance));
                balance = after;
                list.lift(place);
                place = list.0[HEAD].after;
                continue;
            }
            placed[event.operation / 64] &= !(1 << (event.operation % 64));
        }
        place = event.after;
    }
}

/// The operations under way when the stuck one ended, and a few before.
fn around(operations: &[Operation], list: &List, stuck: usize) -> Vec<Operation> {
    let stuck = operations[list.0[stuck].operation];
    let mut near: Vec<Operation> = operations
        .iter()
        .filter(|other| other.began < stuck.ended && other.ended + 200 > stuck.began)
        .copied()
        .collect();
    near.sort_by_key(|operation| operation.ended);
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(wish: Wish, seen: Seen, began: u64, ended: u64) -> Operation {
        Operation {
            wish,
            seen,
            began,
            ended,
        }
    }

    fn add(amount: u64) -> Wish {
        Wish::Add { amount, wait_ms: 0 }
    }

    const READ: Wish = Wish::Balance { wait_ms: 0 };

    #[test]
    fn concurrent_operations_may_be_ordered_either_way() {
        // Herlihy and Wing 1990: any order within the intervals will do.
        let history = [
            operation(add(5), Seen::Number(12), 1, 10),
            operation(add(7), Seen::Number(7), 2, 9),
            operation(READ, Seen::Number(7), 3, 8),
            operation(READ, Seen::Number(12), 4, 7),
        ];
        assert!(check(&history).is_ok());
    }

    #[test]
    fn a_read_from_the_past_is_seen() {
        // E7: a query that was begun after an acknowledged write must see it.
        let history = [
            operation(add(5), Seen::Number(5), 1, 2),
            operation(READ, Seen::Number(0), 3, 4),
        ];
        assert!(check(&history).is_err());
    }

    #[test]
    fn a_lost_and_a_doubled_effect_are_seen() {
        // E1 and E5: the two ways of being wrong about an acknowledged command.
        let lost = [
            operation(add(5), Seen::Number(5), 1, 2),
            operation(add(7), Seen::Number(7), 3, 4),
        ];
        let doubled = [
            operation(add(5), Seen::Number(5), 1, 2),
            operation(READ, Seen::Number(10), 3, 4),
        ];
        assert!(check(&lost).is_err());
        assert!(check(&doubled).is_err());
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never() {
        // Section 7: when it is not known whether it did, the error says so.
        let late = [
            operation(add(5), Seen::Unknown, 1, 2),
            operation(READ, Seen::Number(0), 3, 4),
            operation(READ, Seen::Number(5), 5, 6),
        ];
        let never = [
            operation(add(5), Seen::Unknown, 1, 2),
            operation(add(3), Seen::Number(3), 3, 4),
        ];
        let twice = [
            operation(add(5), Seen::Unknown, 1, 2),
            operation(READ, Seen::Number(10), 3, 4),
        ];
        assert!(check(&late).is_ok());
        assert!(check(&never).is_ok());
        assert!(check(&twice).is_err());
    }

    #[test]
    fn a_failed_take_needs_a_moment_of_poverty() {
        // E6: an Err computed on speculative state is an answer like any other.
        let take = Wish::Take { amount: 5 };
        let fine = [
            operation(add(9), Seen::Number(9), 1, 9),
            operation(take, Seen::Overdrawn, 2, 3),
        ];
        let wrong = [
            operation(add(9), Seen::Number(9), 1, 2),
            operation(take, Seen::Overdrawn, 3, 4),
        ];
        assert!(check(&fine).is_ok());
        assert!(check(&wrong).is_err());
    }
}
