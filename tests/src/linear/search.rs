//! The search for an order, after Wing and Gong (1993) with the memory of Lowe (2017): operations are tried in the order of their
//! beginnings, a configuration (set of placed operations, state) is never tried twice.

use std::collections::HashSet;

use super::{Operation, Step};

/// What a search came to.
#[derive(Clone, Debug)]
pub enum Verdict<S> {
    /// There is an order.
    Explained,
    /// There is none; here are the operations around the place where every attempt got stuck.
    Unexplained(Vec<Operation<S>>),
    /// Nobody knows: the search took more steps than it was given.
    GivenUp,
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
    fn new<S>(operations: &[Operation<S>]) -> Self {
        let mut moments: Vec<(u64, usize, bool)> = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            moments.push((operation.began, number, false));
            moments.extend(operation.ended.map(|ended| (ended, number, true)));
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

/// Searches an order that explains all answers from the default state, in at most `steps_max` attempts to place an operation.
pub fn search<S: Step>(operations: &[Operation<S>], steps_max: usize) -> Verdict<S> {
    let mut list = List::new(operations);
    let mut placed = vec![0u64; operations.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, S::State)> = HashSet::new();
    let mut stack: Vec<(usize, S::State)> = Vec::new();
    let mut state = S::State::default();
    let mut place = list.0[HEAD].after;
    let mut furthest = (0, HEAD);
    let mut steps = 0;
    loop {
        if place == END {
            return Verdict::Explained; // no return is left: every answered operation has its place
        }
        let event = list.0[place];
        if event.is_return {
            if stack.len() >= furthest.0 {
                furthest = (stack.len(), place);
            }
            let Some((call, earlier)) = stack.pop() else {
                return Verdict::Unexplained(around(operations, &list, furthest.1));
            };
            state = earlier;
            let operation = list.0[call].operation;
            placed[operation / 64] &= !(1 << (operation % 64));
            list.put_back(call);
            place = list.0[call].after;
            continue;
        }
        steps += 1;
        if steps > steps_max {
            return Verdict::GivenUp;
        }
        if let Some(after) = operations[event.operation].step.step(&state) {
            placed[event.operation / 64] |= 1 << (event.operation % 64);
            if tried.insert((placed.clone(), after.clone())) {
                stack.push((place, state));
                state = after;
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
fn around<S: Step>(operations: &[Operation<S>], list: &List, stuck: usize) -> Vec<Operation<S>> {
    let stuck = operations[list.0[stuck].operation];
    let began_before = stuck.ended.unwrap_or(u64::MAX);
    let mut near: Vec<Operation<S>> = operations
        .iter()
        .filter(|other| {
            let ended = other.ended.unwrap_or(u64::MAX);
            other.began < began_before && ended.saturating_add(200) > stuck.began
        })
        .copied()
        .collect();
    near.sort_by_key(|operation| operation.ended.unwrap_or(u64::MAX));
    near
}
