//! Stories told to real groups: who is cut off, who times out, whose disk lags, and what each log then holds.
//!
//! Here: [`Net`], a network and disks of which the script decides everything, and the stories by family. Faults by chance are the
//! simulator's business (crate `tests`). Each test names the bug it answers.

mod configuration_stories;
mod election_stories;
mod log_stories;
mod net;
mod read_stories;
mod snapshot_stories;
mod storage_stories;
mod transfer_stories;

use net::{Net, at, entries, id, say};
