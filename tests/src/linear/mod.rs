//! Is there an order of one thing's operations, each within its own time, that explains every answer?
//!
//! Here: what an operation is ([`Operation`], [`Step`]); [`explains`], which holds one given order against the answers; and
//! [`search()`], which looks for any order (`search.rs`). Linearizability is local (Herlihy and Wing 1990): a world of many things is
//! linearizable when each of them is, so each is checked by itself.
//! Called by the simulators that have clients: `evaluation` (entities), `groups` (keys). Not here: what a client may ask.

mod search;

use core::hash::Hash;

pub use search::{Verdict, search};

/// What was asked and what was answered, held against a state.
pub trait Step: Copy {
    /// The thing that is asked about; its first state is the default.
    type State: Clone + Default + Eq + Hash;

    /// The state afterwards; `None` when `state` would have given another answer.
    fn step(&self, state: &Self::State) -> Option<Self::State>;
}

/// One operation. Its moments are counts of one clock that never shows the same number twice.
#[derive(Clone, Copy, Debug)]
pub struct Operation<S> {
    /// Question and answer.
    pub step: S,
    /// When the client asked.
    pub began: u64,
    /// When it had its answer. `None`: it never had one; the operation may take effect at any time after its beginning, or never.
    pub ended: Option<u64>,
}

/// Whether the operations named by `order`, one after the other, explain every answer: none is placed after one that began only
/// when it had ended, and none that was answered is missing. Takes one pass, where a search may take for ever; a simulator that
/// knows in which order things happened asks here first.
pub fn explains<S: Step>(operations: &[Operation<S>], order: &[usize]) -> bool {
    let mut missing = vec![true; operations.len()];
    let mut state = S::State::default();
    let mut latest_beginning = 0;
    for &number in order {
        let operation = &operations[number];
        let in_time = operation.ended.is_none_or(|ended| ended > latest_beginning);
        if !core::mem::take(&mut missing[number]) || !in_time {
            return false;
        }
        match operation.step.step(&state) {
            Some(after) => state = after,
            None => return false,
        }
        latest_beginning = latest_beginning.max(operation.began);
    }
    !missing
        .iter()
        .zip(operations)
        .any(|(missing, operation)| *missing && operation.ended.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Ask {
        Add(u64),
        Swap(u64),
        Read,
    }

    /// A question about a number, and the answer if there was one.
    #[derive(Clone, Copy, Debug)]
    struct Number(Ask, Option<u64>);

    impl Step for Number {
        type State = u64;

        fn step(&self, state: &u64) -> Option<u64> {
            let (answer, after) = match self.0 {
                Ask::Add(amount) => (state + amount, state + amount),
                Ask::Swap(value) => (*state, value),
                Ask::Read => (*state, *state),
            };
            self.1.is_none_or(|seen| seen == answer).then_some(after)
        }
    }

    fn add(amount: u64, answer: u64, began: u64, ended: u64) -> Operation<Number> {
        let (step, ended) = (Number(Ask::Add(amount), Some(answer)), Some(ended));
        Operation { step, began, ended }
    }

    fn unknown(amount: u64, began: u64) -> Operation<Number> {
        let step = Number(Ask::Add(amount), None);
        Operation {
            step,
            began,
            ended: None,
        }
    }

    fn read(answer: u64, began: u64, ended: u64) -> Operation<Number> {
        let (step, ended) = (Number(Ask::Read, Some(answer)), Some(ended));
        Operation { step, began, ended }
    }

    fn is_explained(operations: &[Operation<Number>]) -> bool {
        matches!(search(operations, usize::MAX), Verdict::Explained)
    }

    #[test]
    fn concurrent_operations_may_be_ordered_either_way() {
        // Herlihy and Wing 1990: any order within the intervals will do.
        let history = [
            add(5, 12, 1, 10),
            add(7, 7, 2, 9),
            read(7, 3, 8),
            read(12, 4, 7),
        ];
        assert!(is_explained(&history));
        assert!(explains(&history, &[1, 2, 0, 3]));
        assert!(!explains(&history, &[0, 1, 2, 3]), "other answers");
        assert!(!explains(&history, &[1, 2, 0]), "one is missing");
        assert!(!explains(&history, &[1, 2, 2, 0, 3]), "one is there twice");
    }

    #[test]
    fn a_read_from_the_past_is_seen() {
        // E7: a query that was begun after an acknowledged write must see it.
        let history = [add(5, 5, 1, 2), read(0, 3, 4)];
        assert!(!is_explained(&history));
        assert!(!explains(&history, &[1, 0]), "not within their times");
    }

    #[test]
    fn a_lost_and_a_doubled_effect_are_seen() {
        // E1 and E5: the two ways of being wrong about an acknowledged command.
        assert!(!is_explained(&[add(5, 5, 1, 2), add(7, 7, 3, 4)]));
        assert!(!is_explained(&[add(5, 5, 1, 2), read(10, 3, 4)]));
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never() {
        // Section 7: when it is not known whether it did, the error says so.
        assert!(is_explained(&[unknown(5, 1), read(0, 3, 4), read(5, 5, 6)]));
        assert!(is_explained(&[unknown(5, 1), add(3, 3, 3, 4)]));
        assert!(!is_explained(&[unknown(5, 1), read(10, 3, 4)]), "twice");
        assert!(!is_explained(&[read(5, 1, 2), unknown(5, 3)]), "too early");
    }

    #[test]
    fn a_search_that_takes_too_long_says_so() {
        let mut history: Vec<_> = (1..40).map(|n| unknown(1 << n, n)).collect();
        history.push(read(1, 100, 101));
        assert!(matches!(search(&history, 10_000), Verdict::GivenUp));
    }

    /// Every order of every subset that holds all that was answered, tried one by one.
    fn is_explained_naively(operations: &[Operation<Number>]) -> bool {
        fn place(operations: &[Operation<Number>], order: &mut Vec<usize>) -> bool {
            let more = (0..operations.len()).any(|next| {
                if order.contains(&next) {
                    return false;
                }
                order.push(next);
                let found = place(operations, order);
                order.pop();
                found
            });
            more || explains(operations, order)
        }
        place(operations, &mut Vec::new())
    }

    fn history() -> impl Strategy<Value = Vec<Operation<Number>>> {
        let ask = prop_oneof![
            (1..3_u64).prop_map(Ask::Add),
            (0..4_u64).prop_map(Ask::Swap),
            Just(Ask::Read),
        ];
        let one = (ask, proptest::option::weighted(0.8, 0..4_u64));
        let moments = Just((0..10_u64).collect::<Vec<_>>()).prop_shuffle();
        (proptest::collection::vec(one, 1..=5), moments).prop_map(|(asked, moments)| {
            let with_moments = asked.into_iter().zip(moments.chunks(2));
            with_moments
                .map(|((ask, answer), ends)| Operation {
                    step: Number(ask, answer),
                    began: ends[0].min(ends[1]),
                    ended: answer.map(|_| ends[0].max(ends[1])),
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_search_finds_an_order_exactly_when_there_is_one(operations in history()) {
            prop_assert_eq!(is_explained(&operations), is_explained_naively(&operations));
        }
    }
}
