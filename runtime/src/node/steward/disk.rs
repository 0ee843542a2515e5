//! What a node does whose disk comes to its end.
//!
//! Here: [`DiskLook`], four looks a second at the room that is left. While there is too little, what only memory holds is written, so that
//! the log gets shorter, and nobody takes anything new (`group::overlays`); the node calls itself degraded, so that others lead
//! (`node::beats`). Not here: the room that is kept for that (`storage::reserve`). Source: DESIGN 13.

use core::time::Duration;
use std::sync::Arc;

use super::Steward;
use crate::group::actor::CheckpointForRoom;
use crate::storage::Reserve;

/// Gap between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// When the disk was looked at.
#[derive(Debug)]
pub(super) struct DiskLook {
    reserve: Arc<Reserve>,
    looked: Option<Duration>,
    /// Looking failed; that is said once.
    is_blind: bool,
}

impl DiskLook {
    pub(super) fn at(reserve: Arc<Reserve>) -> Self {
        Self {
            reserve,
            looked: None,
            is_blind: false,
        }
    }
}

impl Steward {
    pub(super) fn look_at_disk(&mut self) {
        let now = self.now();
        let looked = self.disk.looked.replace(now);
        if looked.is_some_and(|last| now.saturating_sub(last) < LOOK_EVERY) {
            self.disk.looked = looked;
            return;
        }
        let room = match self.disk.reserve.look() {
            Ok(room) => room,
            Err(error) => {
                if !std::mem::replace(&mut self.disk.is_blind, true) {
                    tracing::warn!(%error, "how much room the disk has cannot be told");
                }
                return;
            }
        };
        self.disk.is_blind = false;
        let free_mib = room.free_bytes >> 20;
        if self.shared.overlays.set_disk_is_short(room.is_short) {
            match room.is_short {
                true => tracing::error!(
                    free_mib,
                    "the disk is nearly full: this node takes no commands and no copies until there is room"
                ),
                false => tracing::info!(free_mib, "the disk has room again"),
            }
        }
        if room.is_short {
            for hosted in self.shared.registry.largest_overlays(usize::MAX) {
                hosted.group.do_send(CheckpointForRoom);
            }
        }
    }
}
