//! What an operator is told while a founding waits: one sentence, with who and what to do.
//!
//! Here: the sentences, and when they are said ([`Mention`]): once something has stood for a moment, and then rarely.

use core::time::Duration;

use synod_consensus::genesis::{Obstacle, SeedList, SeedName};

/// What stands for so long is worth a sentence; a founding whose seeds start together is over by then.
const STANDS: Duration = Duration::from_secs(2);
/// It is said again this often.
const AGAIN: Duration = Duration::from_secs(30);

/// Seeds that did not answer, each with where it should be and what went wrong last.
pub(super) fn waiting(missing: &[(SeedName, String, Option<String>)]) -> String {
    let one = |(seed, address, problem): &(SeedName, String, Option<String>)| match problem {
        Some(problem) => format!("{seed} at {address} ({problem})"),
        None => format!("{seed} at {address}"),
    };
    let missing: Vec<_> = missing.iter().map(one).collect();
    format!(
        "a cluster is founded only when every seed has answered; missing: {}",
        missing.join("; ")
    )
}

/// Why nothing can be founded as things are.
pub(super) fn obstacle(obstacle: &Obstacle, me: &SeedName, list: &SeedList) -> String {
    match obstacle {
        Obstacle::Differs { mine, others } => {
            let others: Vec<_> = others
                .iter()
                .map(|(seed, theirs)| format!("{seed} was given {theirs}"))
                .collect();
            format!(
                "the seeds were given different lists: {me} was given {mine}, {}: start them all with the same --seeds",
                others.join(", ")
            )
        }
        Obstacle::Bound { begun, given } => format!(
            "this store began to found a cluster with the seeds {begun} and was now given {given}: start it with the former \
             --seeds again, or remove its directory to let it begin anew"
        ),
        Obstacle::Lost { wiped } => format!(
            "the disks of {} were lost while the cluster was being founded, and too few are left to tell whether it was: bring \
             one of them back, or, if none of them held data, stop all of {list}, remove their store directories, and start \
             them again with the same --seeds",
            names(wiped)
        ),
        Obstacle::Torn { others } => format!(
            "the founding is torn, because the disk of {} was lost just as it began: {me} and {} promised themselves to \
             different attempts, of which neither can end; no cluster was founded, so nothing is lost: stop all of {list}, \
             remove their store directories, and start them again with the same --seeds",
            list.chair(),
            names(others)
        ),
        // A newer machine's.
        other => format!("nothing can be founded: {other:?}"),
    }
}

fn names(seeds: &[SeedName]) -> String {
    let names: Vec<_> = seeds.iter().map(SeedName::as_str).collect();
    names.join(", ")
}

/// When something that goes on and on is said.
#[derive(Debug, Default)]
pub(super) struct Mention<T> {
    stands: Option<(T, Duration)>,
    said: Option<(T, Duration)>,
}

impl<T: Clone + PartialEq> Mention<T> {
    /// `subject` is so now: is it time to say so? Details of the sentence may differ while the subject is the same.
    pub(super) fn is_due(&mut self, now: Duration, subject: T) -> bool {
        let since = match &self.stands {
            Some((known, since)) if *known == subject => *since,
            _ => now,
        };
        self.stands = Some((subject.clone(), since));
        let fresh = match &self.said {
            Some((said, at)) => *said != subject || now.saturating_sub(*at) >= AGAIN,
            None => true,
        };
        let due = fresh && now.saturating_sub(since) >= STANDS;
        if due {
            self.said = Some((subject, now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> SeedName {
        SeedName::new(name).unwrap()
    }

    fn list(names: &str) -> SeedList {
        SeedList::new(names.split(',').map(name)).unwrap()
    }

    #[test]
    fn a_torn_founding_tells_the_operator_exactly_what_to_do() {
        // E25: only an operator can end it, and need not fear for data.
        let torn = Obstacle::Torn {
            others: vec![name("a"), name("c")],
        };
        assert_eq!(
            obstacle(&torn, &name("b"), &list("a,b,c")),
            "the founding is torn, because the disk of a was lost just as it began: b and a, c promised themselves to different \
             attempts, of which neither can end; no cluster was founded, so nothing is lost: stop all of a,b,c, remove their \
             store directories, and start them again with the same --seeds"
        );
    }

    #[test]
    fn every_obstacle_names_who_and_what_to_do() {
        let (me, all) = (name("a"), list("a,b,c"));
        let say = |which| obstacle(&which, &me, &all);
        let differs = say(Obstacle::Differs {
            mine: all.clone(),
            others: vec![(name("b"), list("a,b")), (name("c"), list("c"))],
        });
        assert!(
            differs.contains("a was given a,b,c, b was given a,b, c was given c: start them all")
        );
        let bound = say(Obstacle::Bound {
            begun: list("a,b"),
            given: list("a,c"),
        });
        assert!(bound.contains("seeds a,b and was now given a,c"));
        let lost = say(Obstacle::Lost {
            wiped: vec![name("b"), name("c")],
        });
        assert!(lost.contains("disks of b, c were lost") && lost.contains("stop all of a,b,c"));
        let waits = waiting(&[
            (name("b"), "h:1".into(), Some("h:1 does not resolve".into())),
            (name("c"), "h:2".into(), None),
        ]);
        assert!(waits.ends_with("missing: b at h:1 (h:1 does not resolve); c at h:2"));
    }

    #[test]
    fn what_passes_by_is_not_said_and_what_stays_is_said_rarely() {
        // Issue 2, bad input: says so once and then rarely.
        let mut mention = Mention::default();
        let mut said = Vec::new();
        for second in 0..100 {
            let missing = match second {
                0..=1 => "b and c",
                2..=70 => "c",
                71 => "b and c",
                _ => "d",
            };
            if mention.is_due(Duration::from_secs(second), missing) {
                said.push((second, missing));
            }
        }
        assert_eq!(said, [(4, "c"), (34, "c"), (64, "c"), (74, "d")]);
    }
}
