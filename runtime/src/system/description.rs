//! What a member says of itself that the placement goes by.
//!
//! Here: [`Description`] and the bounds of its words; the commands that tell the system log what changed since; their effect on the
//! state. A member says it at each start, in its signed gossip record; the leader of the system group compares that with the log. Not
//! here: gossip itself (`node`), where shards go then (`plan`).
//!
//! Source: DESIGN sections 10 (metadata, the ring) and 11 (zone change goes the one path of every change).

use std::collections::BTreeMap;

use super::command::{SystemCommand, SystemOutcome};
use super::state::{SystemState, refused};

/// Most that a node may be worth; the ring knows no more (`synod_membership::Ring`).
pub const CAPACITY_MAX: u32 = 64;
/// Longest name of a zone, in bytes; as long as a gossip record carries.
const ZONE_BYTES_MAX: usize = 64;
/// Longest role, in bytes; as above.
const ROLE_BYTES_MAX: usize = 32;
/// Most roles of one node; as above.
const ROLES_MAX: usize = 8;
/// Descriptions told at once: they are planned with together, and one batch stays far below an entry's limit.
const TOLD_AT_ONCE: usize = 64;

/// What a node's placement goes by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// What fails together with it: a rack, a building. Copies of a shard lie in as many zones as there are.
    pub zone: Option<String>,
    /// Its share of the load relative to others, from 1 to [`CAPACITY_MAX`].
    pub capacity: u32,
}

impl Description {
    /// Whether it is within its bounds.
    pub fn check(&self) -> Result<(), DescriptionError> {
        if let Some(zone) = self
            .zone
            .as_deref()
            .filter(|zone| !is_word(zone, ZONE_BYTES_MAX))
        {
            return Err(DescriptionError::Zone {
                zone: zone.to_owned(),
            });
        }
        if !(1..=CAPACITY_MAX).contains(&self.capacity) {
            return Err(DescriptionError::Capacity {
                capacity: self.capacity,
            });
        }
        Ok(())
    }
}

/// Whether a node may tell these roles. They are told and shown; nothing is decided by them.
pub fn check_roles(roles: &[String]) -> Result<(), DescriptionError> {
    if let Some(role) = roles.iter().find(|role| !is_word(role, ROLE_BYTES_MAX)) {
        return Err(DescriptionError::Role { role: role.clone() });
    }
    match roles.len() {
        0..=ROLES_MAX => Ok(()),
        count => Err(DescriptionError::Roles { count }),
    }
}

/// Letters, digits, '-', '_' and '.': what stands in a table, a flag and a log line as it is.
fn is_word(text: &str, bytes_max: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(fits)
}

/// Why a node cannot be described like this.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DescriptionError {
    /// Empty, too long, or with other signs.
    #[error(
        "`{zone}` is no name for a zone: use 1 to 64 of letters, digits, '-', '_' and '.' (--zone ZONE)"
    )]
    Zone {
        /// As given.
        zone: String,
    },
    /// Out of range.
    #[error("a node's capacity is from 1 to {CAPACITY_MAX}, not {capacity} (--capacity N)")]
    Capacity {
        /// As given.
        capacity: u32,
    },
    /// Empty, too long, or with other signs.
    #[error("`{role}` is no role: use 1 to 32 of letters, digits, '-', '_' and '.' (--role ROLE)")]
    Role {
        /// As given.
        role: String,
    },
    /// Too many.
    #[error("a node has at most {ROLES_MAX} roles, not {count} (--role ROLE)")]
    Roles {
        /// As given.
        count: usize,
    },
}

/// What a member said of itself at one start of its store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// Start count of the store.
    pub generation: u64,
    /// What it said.
    pub description: Description,
}

impl SystemState {
    /// What the log is to be told: of each member that describes itself otherwise than the log does, at a start that is no earlier than
    /// the one that the log heard of last.
    pub fn descriptions(&self, said: &BTreeMap<u64, Said>) -> Vec<SystemCommand> {
        let news = self.members.iter().filter_map(|(store, member)| {
            let said = said.get(store)?;
            let Description { zone, capacity } = &said.description;
            let known = member.zone == *zone && member.capacity == *capacity;
            let sound = said.description.check().is_ok();
            (!known && sound && said.generation >= member.described).then(|| {
                SystemCommand::Describe {
                    store: *store,
                    generation: said.generation,
                    zone: zone.clone(),
                    capacity: *capacity,
                }
            })
        });
        news.take(TOLD_AT_ONCE).collect()
    }

    /// Takes over what a member says of itself. What it said at an earlier start is refused: a leader that hears old gossip must not
    /// undo what another has heard since.
    pub(super) fn describe(
        &mut self,
        store: u64,
        generation: u64,
        zone: Option<String>,
        capacity: u32,
    ) -> SystemOutcome {
        let Some(member) = self.members.get_mut(&store) else {
            return refused(&format!("store {store} is no member"));
        };
        if generation < member.described {
            return refused(&format!(
                "`{}` said something else at a later start",
                member.name
            ));
        }
        member.described = generation;
        if member.zone != zone || member.capacity != capacity {
            member.zone = zone;
            member.capacity = capacity;
            self.epoch += 1;
        }
        SystemOutcome::Done
    }
}

#[cfg(test)]
mod tests;
