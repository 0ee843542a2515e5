//! Room on a store's disk that is kept for its end.
//!
//! Here: [`Reserve`], a file that takes so much room and nothing else. When little is left beside it, it goes: then checkpoints and the
//! log's next file find room, while the node takes nothing new. It is made again when there is plenty.
//! Two find the end of the disk: whoever looks now and then ([`Reserve::look`]), and a file of the store that finds no room
//! ([`RealDisk::with_reserve`](super::RealDisk::with_reserve)), which then tries once more.
//! Not here: what a node does whose disk is short (`node::steward::disk`, `group::overlays`, `node::beats`). Source: DESIGN 13.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{Disk, OpenMode, RealDisk};

/// The file's name in the store's own folder.
const RESERVE_FILE: &str = "reserve";

/// What is left on a store's disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskRoom {
    /// Bytes that this process may still write there, without those of the reserve.
    pub free_bytes: u64,
    /// There is too little for anything new.
    pub is_short: bool,
}

/// Room that a store keeps for the end of its disk.
#[derive(Debug)]
pub struct Reserve {
    folder: RealDisk,
    bytes: u64,
    /// Whether the file is there.
    held: Mutex<bool>,
    /// When it went.
    gone: Mutex<Option<Instant>>,
    short: AtomicBool,
}

/// What becomes of the reserve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Keep,
    GiveBack,
    Make,
}

/// So long it stays away at least: each time it goes, leaderships move.
const AWAY: Duration = Duration::from_secs(10);

/// With less than its own size beside it, it goes: the log's next file, which nobody announces, and what the rows write before the next
/// look must find room. With three times as much it comes back, so that what it gave does not bring it back by itself.
fn judge(held: bool, free: u64, bytes: u64) -> Verdict {
    match held {
        true if free < bytes => Verdict::GiveBack,
        false if free >= bytes.saturating_mul(3) => Verdict::Make,
        _ => Verdict::Keep,
    }
}

impl Reserve {
    /// Of `bytes` in a store's folder; zero: none is kept, and the disk is never short. Makes it where there is room.
    pub fn hold(folder: &Path, bytes: u64) -> io::Result<Self> {
        let folder = RealDisk::new(folder)?;
        let known = folder.open(RESERVE_FILE, OpenMode::Read);
        let held = match known.and_then(|file| file.length()) {
            Ok(length) if length == bytes && bytes > 0 => true,
            Ok(_) => {
                folder.remove(RESERVE_FILE)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let reserve = Self {
            folder,
            bytes,
            held: Mutex::new(held),
            gone: Mutex::new(None),
            short: AtomicBool::new(false),
        };
        reserve.look()?;
        Ok(reserve)
    }

    /// Whether the disk had too little room when that was last looked at.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Looks how much room there is, and gives the reserve back or makes it again.
    pub fn look(&self) -> io::Result<DiskRoom> {
        self.look_at(Instant::now())
    }

    fn look_at(&self, now: Instant) -> io::Result<DiskRoom> {
        let mut held = self.held();
        let free_bytes = free_bytes(self.folder.path())?;
        match judge(*held, free_bytes, self.bytes) {
            _ if self.bytes == 0 => {}
            Verdict::Keep => {}
            Verdict::GiveBack => self.remove(&mut held)?,
            Verdict::Make if self.went_at().is_some_and(|went| now < went + AWAY) => {}
            // Somebody else took the room just now: it is tried again.
            Verdict::Make => *held = self.make().is_ok(),
        }
        let is_short = !*held && self.bytes > 0;
        self.short.store(is_short, Ordering::Relaxed);
        Ok(DiskRoom {
            free_bytes,
            is_short,
        })
    }

    /// Somebody found no room: afterwards there is as much as the reserve gives, or gave already.
    pub(super) fn give_back(&self) {
        let mut held = self.held();
        if *held {
            self.short.store(true, Ordering::Relaxed);
            if let Err(error) = self.remove(&mut held) {
                tracing::warn!(%error, "the reserve could not be given back");
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<()> {
        let made = { self.folder.open(RESERVE_FILE, OpenMode::Create) }
            .and_then(|mut file| file.allocate(self.bytes));
        if made.is_err() {
            let _nothing_held = self.folder.remove(RESERVE_FILE);
        }
        made
    }

    fn went_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, held: &mut bool) -> io::Result<()> {
        self.folder.remove(RESERVE_FILE)?;
        *held = false;
        *self.went_at() = Some(Instant::now());
        Ok(())
    }
}

/// What a process without privileges may still write.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_reserve_goes_when_little_is_left_and_comes_back_only_with_plenty() {
        let bytes = 100;
        assert_eq!(judge(true, 100, bytes), Verdict::Keep);
        assert_eq!(judge(true, 99, bytes), Verdict::GiveBack);
        // What it gave is free now, and brings nothing back.
        assert_eq!(judge(false, 199, bytes), Verdict::Keep);
        assert_eq!(judge(false, 299, bytes), Verdict::Keep);
        assert_eq!(judge(false, 300, bytes), Verdict::Make);
        // Once made, it stays.
        assert_eq!(judge(true, 200, bytes), Verdict::Keep);
    }

    #[test]
    fn a_reserve_takes_room_gives_it_once_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(RESERVE_FILE);
        let length = || file.metadata().map(|known| known.len()).ok();
        let reserve = Reserve::hold(folder.path(), MIB).unwrap();
        assert!(!reserve.is_short());
        assert_eq!(length(), Some(MIB));
        reserve.give_back();
        assert_eq!(length(), None);
        assert!(reserve.is_short());
        reserve.give_back(); // there is nothing to give any more
        assert!(reserve.look().unwrap().is_short, "not so soon");
        let later = Instant::now() + AWAY;
        let room = reserve.look_at(later).unwrap();
        assert!(!room.is_short, "this disk has plenty");
        assert_eq!(length(), Some(MIB));
        drop(reserve);
        let other_size = Reserve::hold(folder.path(), 2 * MIB).unwrap();
        assert_eq!(length(), Some(2 * MIB));
        drop(other_size);
        let none = Reserve::hold(folder.path(), 0).unwrap();
        assert_eq!((length(), none.is_short()), (None, false));
    }

    #[test]
    fn a_disk_without_room_for_a_reserve_is_short_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::hold(folder.path(), u64::MAX / 4).unwrap();
        assert!(reserve.is_short());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
