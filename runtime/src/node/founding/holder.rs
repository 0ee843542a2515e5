//! The answers of a node that has data to seeds that do not know yet.
//!
//! Here: [`Holder`]. It founds nothing and writes nothing: founders get the record that they missed, all others hear which
//! cluster to join (E25).

use core::time::Duration;

use synod_consensus::genesis::{ClusterId, Genesis, GenesisOptions, Message, Output, SeedName};

use super::kept::Kept;

/// Messages of one call that are looked at; a seed never has more to say at once.
pub(super) const MESSAGES_MAX: usize = 64;

/// The machine of a node with data.
#[derive(Debug)]
pub(crate) struct Holder(Option<Genesis>);

impl Holder {
    /// `kept` is what is left of its own founding, if it took part in one.
    pub(crate) fn new(name: &str, cluster: u128, kept: Option<Kept>) -> Self {
        let durable = kept.map(|kept| kept.durable);
        // A name that is none for a seed is known to no seed.
        let genesis = SeedName::new(name).ok().map(|me| {
            let options = GenesisOptions::default();
            Genesis::holding(options, me, ClusterId(cluster), durable, Duration::ZERO)
        });
        Self(genesis)
    }

    /// What to answer `from`, whose name its certificate proved.
    pub(crate) fn answer(&mut self, from: &str, messages: Vec<Message>) -> Vec<Message> {
        let Some(genesis) = &mut self.0 else {
            return Vec::new();
        };
        let heard = messages.into_iter().take(MESSAGES_MAX);
        for message in heard.filter(|message| message.from.as_str() == from) {
            genesis.receive(Duration::ZERO, message);
        }
        let mut answer = Vec::new();
        while let Some(output) = genesis.poll_output() {
            if let Output::Send(to, message) = output
                && to.as_str() == from
            {
                answer.push(message);
            }
        }
        answer
    }
}
