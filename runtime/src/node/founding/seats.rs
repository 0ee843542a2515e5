//! The seeds as an operator lists them: `NAME=HOST:PORT` each.
//!
//! A seed is known by the name in its certificate, so that its address may change and two addresses are never taken for two
//! seeds. Here: [`Seats`], checked once. Not here: whether somebody answers there.

use std::collections::BTreeMap;

use synod_consensus::genesis::{SeedList, SeedName, SeedsError};

use crate::node::builder::is_label;

/// The listed seeds and where they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seats {
    list: SeedList,
    addresses: BTreeMap<SeedName, String>,
}

/// What is wrong with a list of seeds, as an operator wrote it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SeatsError {
    /// Not `NAME=HOST:PORT`.
    #[error("`{seed}` is no seed: write NAME=HOST:PORT, with the name of that node (--seeds)")]
    NoSeat {
        /// As given.
        seed: String,
    },
    /// Two seeds cannot be reached at one address.
    #[error("--seeds gives {one} and {other} the same address {address}: give each its own")]
    AddressTwice {
        /// A seed.
        one: String,
        /// Another.
        other: String,
        /// Where.
        address: String,
    },
    /// A node that founds is one of those who found.
    #[error(
        "--seeds lists {list} and not this node, {name}: add {name}=HOST:PORT to the list of every seed, or pass --join to enter the cluster that they found"
    )]
    NotListed {
        /// This node.
        name: String,
        /// The names.
        list: SeedList,
    },
    /// None, too many, or one twice.
    #[error("--seeds: {0}")]
    List(#[from] SeedsError),
}

impl Seats {
    pub(crate) fn parse(seeds: &[String]) -> Result<Self, SeatsError> {
        let mut names = Vec::new();
        let mut addresses = BTreeMap::<SeedName, String>::new();
        for seed in seeds {
            let parts = seed.split_once('=');
            let parts = parts.filter(|(name, address)| is_label(name) && is_address(address));
            let Some((name, address)) = parts else {
                return Err(SeatsError::NoSeat { seed: seed.clone() });
            };
            let name = SeedName::new(name)?;
            let mut others = addresses.iter().filter(|(other, _)| **other != name);
            if let Some((other, _)) = others.find(|(_, known)| *known == address) {
                return Err(SeatsError::AddressTwice {
                    one: other.to_string(),
                    other: name.to_string(),
                    address: address.to_owned(),
                });
            }
            names.push(name.clone());
            addresses.insert(name, address.to_owned());
        }
        let list = SeedList::new(names)?;
        Ok(Self { list, addresses })
    }

    /// The names, which all seeds must agree on.
    pub(crate) fn list(&self) -> &SeedList {
        &self.list
    }

    /// Where a seed is, as written.
    pub(crate) fn address(&self, seed: &SeedName) -> Option<&str> {
        self.addresses.get(seed).map(String::as_str)
    }

    /// This node's place in the list.
    pub(crate) fn seat_of(&self, name: &str) -> Result<SeedName, SeatsError> {
        let mut seeds = self.list.iter();
        let me = seeds.find(|seed| seed.as_str() == name).cloned();
        me.ok_or_else(|| SeatsError::NotListed {
            name: name.to_owned(),
            list: self.list.clone(),
        })
    }

    /// Where all seeds but `name` are.
    pub(crate) fn addresses_of_others(&self, name: &str) -> Vec<String> {
        let others = self
            .addresses
            .iter()
            .filter(|(seed, _)| seed.as_str() != name);
        others.map(|(_, address)| address.clone()).collect()
    }
}

fn is_address(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Seats, String> {
        let seeds: Vec<String> = list.split(',').map(str::to_owned).collect();
        Seats::parse(&seeds).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_of_seeds_is_read_in_any_order() {
        let seats = parse("b=h2:7002,a=[::1]:7001").unwrap();
        assert_eq!(seats.list().to_string(), "a,b");
        let me = seats.seat_of("a").unwrap();
        assert_eq!(seats.address(&me), Some("[::1]:7001"));
        assert_eq!(seats.addresses_of_others("a"), ["h2:7002"]);
    }

    #[test]
    fn a_list_that_cannot_be_is_refused_in_one_sentence() {
        // Issue 2, bad input: the sentence names the thing and the fix.
        let no_seat = |seed: &str| {
            format!(
                "`{seed}` is no seed: write NAME=HOST:PORT, with the name of that node (--seeds)"
            )
        };
        for seed in [
            "127.0.0.1:7001",
            "a=h",
            "a=:7001",
            "a=h:x",
            "a=h:0",
            "A=h:1",
            "=h:1",
            "",
        ] {
            assert_eq!(parse(seed), Err(no_seat(seed)), "{seed}");
        }
        assert_eq!(
            parse("a=h:1,b=h:1"),
            Err("--seeds gives a and b the same address h:1: give each its own".to_owned())
        );
        assert_eq!(
            parse("a=h:1,a=h:2"),
            Err("--seeds: seed a is listed twice".to_owned())
        );
        assert!(Seats::parse(&[]).is_err());
        let not_listed = parse("a=h:1,b=h:2").unwrap().seat_of("c").unwrap_err();
        assert_eq!(
            not_listed.to_string(),
            "--seeds lists a,b and not this node, c: add c=HOST:PORT to the list of every seed, or pass --join to enter the \
             cluster that they found"
        );
    }
}
