//! Stories told to real groups: who is cut off, who times out, whose disk lags, and what each log then holds.
//!
//! Here: [`Net`], a network and disks of which the script decides everything, and the stories by family. Faults by chance are the
//! simulator's business (crate `tests`). Each test names the bug or the rule it answers; `hazards`, `paper` and `scenarios` hold the
//! tables of what has to be answered.

mod answers;
mod budget_stories;
mod catch_up_stories;
mod configuration_stories;
mod election_stories;
mod follower_read_stories;
mod fuzz;
mod hazards;
mod identity_stories;
mod install_stories;
mod joint_stories;
mod leadership_stories;
mod lease_stories;
mod lease_traces;
mod log_stories;
mod messages;
mod net;
mod node;
mod overtaking_stories;
mod paper;
mod partition_stories;
mod preference_stories;
mod prevote_stories;
mod read_stories;
mod recovery_stories;
mod rest_stories;
mod scenarios;
mod shelf;
mod shipment_stories;
mod snapshot_stories;
mod storage_stories;
mod transfer_stories;

use messages::{at, entries, heartbeat, id, say, whole};
use net::Net;
