//! Which connections are kept alive, which are doubted, and which are closed because nobody needs them.
//!
//! Here: [`look_around`], which looks at every connection four times a second, and the rule that picks what is closed. Not here: what
//! a look finds (`link`), dialling (`dial`).
//!
//! A main connection between two nodes is **in use** while something other than gossip goes over it: groups, requests and replies, the
//! beats between nodes that share a group, or a bulk connection beside it. It is kept alive by both ends, and one of them doubts it
//! when the other does not answer. Every other one is there for gossip alone. A node probes two members a second, at random: in a
//! cluster of a thousand it would soon keep a thousand connections alive, for packets on each of them every few minutes. So such a
//! connection rests between packets, which costs nothing on the wire; their number is bounded at both ends
//! ([`Limits::gossip_connections`](super::Limits::gossip_connections)), and nobody keeps one for longer than
//! [`Limits::gossip_idle`](super::Limits::gossip_idle).
//!
//! Two nodes that both have too many do not close and dial in turn: what either closes has not been used for longest, it takes a new
//! probe to dial it again, and whoever is told that a connection is put to rest does not dial. A frame that leaves one end while the other closes is
//! lost, as with any connection that breaks.

use std::{sync::Arc, time::Duration};

use quinn::Endpoint;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Lane, Limits,
    closing::Closing,
    core::Core,
    hello::Purpose,
    link::{Link, Look},
    outbox::lock,
    party::{Party, slot},
};

/// Between looks at all connections.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A bulk connection without frames for so long is closed by whoever dialled it.
const BULK_IDLE: Duration = Duration::from_secs(10);
/// An answer to gossip may be on its way for so long: a probe with its helpers and its second leg is over by then.
const EXCHANGE: Duration = Duration::from_secs(2);

/// Looks at every connection now and then.
pub(super) async fn look_around(core: Arc<Core>, endpoint: Endpoint) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut resting = Vec::new();
        for party in core.stores() {
            resting.extend(look_at(&core, &endpoint, &party));
        }
        for link in spare(resting, &core.limits) {
            link.put_to_rest(&core);
        }
    }
}

/// Looks at the connections to one store. Returns the one that only gossip uses, with the time since it last did.
fn look_at(
    core: &Arc<Core>,
    endpoint: &Endpoint,
    party: &Arc<Party>,
) -> Option<(Duration, Arc<Link>)> {
    let (links, dialling_bulk) = {
        let state = lock(&party.state);
        (state.links.clone(), state.dialling_bulk)
    };
    let bulk = &links[slot(Purpose::Bulk)];
    if let Some(bulk) = bulk {
        let look = bulk.look(&core.counters, LOOK_INTERVAL);
        if bulk.dialled && look.untouched >= BULK_IDLE {
            Closing::Done.close(&bulk.connection, "nothing to send");
        }
    }
    let link = links[slot(Purpose::Main)].clone()?;
    let look = link.look(&core.counters, LOOK_INTERVAL);
    link.note_max_datagram();
    // Two keep-alives may be late or lost.
    let silent = look.silent >= core.limits.keep_alive * 2 + LOOK_INTERVAL / 2;
    lock(&party.state).suspect = silent;
    if silent {
        core.ensure_dial(endpoint, party, Purpose::Main);
    }
    if core.client {
        return None; // QUIC keeps it alive
    }
    if look.silent >= core.limits.idle_timeout {
        Closing::Silent.close(&link.connection, "nothing came from the other end");
        return None;
    }
    let in_use = is_in_use(&look, &core.limits)
        || bulk.is_some()
        || dialling_bulk
        || party.outbox.waits(Lane::ALL.into_iter());
    if !in_use {
        return Some((look.untouched, link));
    }
    if look.unheard >= core.limits.keep_alive {
        link.keep_alive(core);
    }
    None
}

fn is_in_use(look: &Look, limits: &Limits) -> bool {
    look.unused.is_some_and(|unused| unused < limits.in_use_for)
}

/// Which connections to close, of those that only gossip uses, each with the time since it last did.
fn spare<T>(mut resting: Vec<(Duration, T)>, limits: &Limits) -> Vec<T> {
    resting.sort_by_key(|(untouched, _)| std::cmp::Reverse(*untouched));
    let over = resting.len().saturating_sub(limits.gossip_connections);
    let spare = |nth: usize, untouched: Duration| {
        untouched >= limits.gossip_idle || (nth < over && untouched >= EXCHANGE)
    };
    let numbered = resting.into_iter().enumerate();
    numbered
        .filter(|(nth, (untouched, _))| spare(*nth, *untouched))
        .map(|(_, (_, link))| link)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gossip_used_longest_ago_goes_first_and_an_exchange_ends_before() {
        // Issue 4: a bound on open connections.
        let limits = Limits {
            gossip_connections: 2,
            gossip_idle: Duration::from_secs(10),
            ..Limits::default()
        };
        let spare = |ages: &[u64]| {
            let links = ages
                .iter()
                .map(|age| (Duration::from_millis(*age), *age))
                .collect();
            super::spare(links, &limits)
        };
        assert!(spare(&[5_000, 3_000]).is_empty(), "as many as may be");
        assert_eq!(spare(&[3_000, 5_000, 0, 4_000]), [5_000, 4_000]);
        assert_eq!(spare(&[1_999, 2_000, 1_000, 0]), [2_000]);
        assert_eq!(spare(&[10_000, 0]), [10_000], "too old");
    }
}
