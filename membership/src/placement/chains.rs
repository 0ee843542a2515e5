//! Chains of single moves, by which a site that has one too many helps one that has room, through third ones if need be.

use std::collections::VecDeque;

/// One replica or one leadership goes to another site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) shard: u32,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// The shortest chain from one of `starts` to a site that `ends` it, its steps in order. `leads` says of a site which shards could go
/// where, `may` whether one really may: only asked for sites that were not reached before.
pub(super) fn shortest<I: Iterator<Item = (u32, u32)>>(
    sites: usize,
    starts: &[u32],
    leads: impl Fn(u32) -> I,
    may: impl Fn(Step) -> bool,
    ends: impl Fn(u32) -> bool,
) -> Option<Vec<Step>> {
    let mut came: Vec<Option<Step>> = vec![None; sites];
    let mut seen = vec![false; sites];
    starts.iter().for_each(|site| seen[*site as usize] = true);
    let mut next: VecDeque<u32> = starts.iter().copied().collect();
    while let Some(from) = next.pop_front() {
        for (shard, to) in leads(from) {
            let step = Step { shard, from, to };
            if seen[to as usize] || !may(step) {
                continue;
            }
            seen[to as usize] = true;
            came[to as usize] = Some(step);
            if ends(to) {
                let back = core::iter::successors(Some(step), |step| came[step.from as usize]);
                let mut steps: Vec<Step> = back.collect();
                steps.reverse();
                return Some(steps);
            }
            next.push_back(to);
        }
    }
    None
}
