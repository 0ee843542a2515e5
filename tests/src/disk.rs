//! A disk that loses, tears, flips and stalls, by seed.
//!
//! Here: [`VirtualDisk`], the disk of one simulated machine. Its folders are [`Disk`]s, so the node's own storage runs on it unchanged.
//! Not here: what is written; when a fault strikes (the simulators and tests say).
//!
//! The model. Every file has two contents: the one that running programs see, and the one that is on the platter. [`DiskFile::sync`] brings
//! the first to the second. At [`VirtualDisk::crash`] every sector that was written and not synced is decided by itself: it has the new bytes
//! or the old ones. Names are a journal per folder: a crash keeps a prefix of what was not synced. After a *failed* sync the bytes look clean:
//! programs go on seeing them, but no later sync brings them to the platter (the kernel's behaviour that H72 is about).
//! A store on real files cannot show a missing sync when its process is killed, because the page cache survives (E30); this one can.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synod::storage::{Disk, DiskFile, OpenMode};

/// What a disk writes as a whole or not at all.
pub const SECTOR: usize = 512;

/// What a disk has done since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DiskCounters {
    /// Calls of `read_at`.
    pub reads: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `sync` on files, honest or not, failed or not.
    pub syncs: u64,
    /// Calls of `sync_directory`.
    pub directory_syncs: u64,
}

#[derive(Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn touch(&mut self, from: usize, to: usize) {
        if from < to {
            self.dirty.extend(from / SECTOR..=(to - 1) / SECTOR);
        }
    }

    /// Brings one sector to the platter.
    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.seen.len());
        if end > start {
            if self.platter.len() < end {
                self.platter.resize(end, 0);
            }
            self.platter[start..end].copy_from_slice(&self.seen[start..end]);
        }
    }

    fn persist_all(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
        if self.platter.len() < self.seen.len() {
            self.platter.resize(self.seen.len(), 0);
        }
    }
}

#[derive(Clone)]
enum NameChange {
    Link(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Clone, Default)]
struct Folder {
    seen: BTreeMap<String, u64>,
    platter: BTreeMap<String, u64>,
    journal: Vec<NameChange>,
}

/// What a sync that lied should have brought to the platter, in order.
#[derive(Clone)]
enum Lie {
    Bytes {
        inode: u64,
        length: usize,
        sectors: Vec<(usize, Vec<u8>)>,
    },
    Names(String, BTreeMap<String, u64>),
}

#[derive(Clone)]
struct World {
    rng: ChaCha8Rng,
    folders: BTreeMap<String, Folder>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Handles of an earlier life are dead.
    life: u64,
    counters: DiskCounters,
    capacity: Option<u64>,
    sync_fails_in: Option<u64>,
    power_fails_in: Option<u64>,
    power_is_off: bool,
    syncs_lie: bool,
    lies: Vec<Lie>,
    stalled: bool,
    waiting: usize,
    /// Open handles per file.
    open: BTreeMap<u64, usize>,
}

#[derive(Default)]
struct Gate {
    changed: Condvar,
}

/// The disk of one simulated machine. Clones are the same disk.
#[derive(Clone)]
pub struct VirtualDisk {
    world: Arc<Mutex<World>>,
    gate: Arc<Gate>,
}

impl std::fmt::Debug for VirtualDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let world = self.world();
        f.debug_struct("VirtualDisk")
            .field("life", &world.life)
            .field("counters", &world.counters)
            .finish_non_exhaustive()
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner) // a test that panicked elsewhere must still print its own failure
}

impl VirtualDisk {
    /// An empty disk. The seed decides what each crash leaves.
    pub fn new(seed: u64) -> Self {
        let world = World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            folders: BTreeMap::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            life: 0,
            counters: DiskCounters::default(),
            capacity: None,
            sync_fails_in: None,
            power_fails_in: None,
            power_is_off: false,
            syncs_lie: false,
            lies: Vec::new(),
            stalled: false,
            waiting: 0,
            open: BTreeMap::new(),
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            gate: Arc::default(),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Another disk with the same contents, whose crashes are decided by another seed.
    pub fn fork(&self, seed: u64) -> Self {
        let world = World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            open: BTreeMap::new(),
            ..self.world().clone()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            gate: Arc::default(),
        }
    }

    /// A folder for programs of the present life; many may be open at once.
    pub fn folder(&self, name: &str) -> Box<dyn Disk> {
        let life = self.world().life;
        Box::new(FolderHandle {
            disk: self.clone(),
            name: name.to_owned(),
            life,
        })
    }

    /// The machine loses power and comes back: what was not synced is lost, kept or torn. Open handles are dead; faults that were
    /// arranged are forgotten, except the capacity and lying syncs.
    pub fn crash(&self) {
        let world = &mut *self.world();
        let cut = if world.lies.is_empty() {
            0
        } else {
            world.rng.random_range(0..world.lies.len())
        };
        let lied = !world.lies.is_empty();
        let lies = std::mem::take(&mut world.lies);
        lies.into_iter()
            .take(cut)
            .for_each(|lie| world.come_true(lie));
        // One of four ways to lose power: all that was not synced is lost, all is kept, some of each, or the beginning of each file's.
        let way = if lied {
            0
        } else {
            world.rng.random_range(0..4)
        };
        for folder in world.folders.values_mut() {
            let journal = std::mem::take(&mut folder.journal);
            let kept = match way {
                0 => 0,
                1 => journal.len(),
                _ => world.rng.random_range(0..=journal.len()),
            };
            for change in &journal[..kept] {
                change.apply(&mut folder.platter);
            }
            folder.seen = folder.platter.clone();
        }
        for inode in world.inodes.values_mut() {
            let dirty: Vec<usize> = std::mem::take(&mut inode.dirty).into_iter().collect();
            let prefix = world.rng.random_range(0..=dirty.len());
            for (nth, sector) in dirty.into_iter().enumerate() {
                let kept = match way {
                    0 => false,
                    1 => true,
                    2 => world.rng.random(),
                    _ => nth < prefix,
                };
                if kept {
                    inode.persist(sector);
                }
            }
            if inode.platter.len() < inode.seen.len() && way != 0 && world.rng.random() {
                inode.platter.resize(inode.seen.len(), 0); // the length was on the platter, the bytes were not
            }
            inode.seen = inode.platter.clone();
        }
        world.restart();
    }

    /// The process dies (kill -9) and the machine goes on: everything written is still seen, nothing more is synced.
    pub fn kill(&self) {
        self.world().restart();
    }

    /// The `nth` sync from now fails (1 = the next); some of its bytes reach the platter, the others never will.
    pub fn fail_sync_in(&self, nth: u64) {
        self.world().sync_fails_in = Some(nth);
    }

    /// The `nth` change from now (write, sync, name; 1 = the next) takes effect in part, then every call fails until [`Self::crash`].
    pub fn lose_power_in(&self, nth: u64) {
        self.world().power_fails_in = Some(nth);
    }

    /// Whether the power went as arranged.
    pub fn power_is_off(&self) -> bool {
        self.world().power_is_off
    }

    /// While on, syncs say `Ok` and do nothing; a crash then loses what they acknowledged, from some moment on.
    /// The negative control of every simulator: with it, acknowledged commands must be seen to be lost.
    pub fn let_syncs_lie(&self, lie: bool) {
        self.world().syncs_lie = lie;
    }

    /// Bytes that all files together may have.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// Bytes that all files together have.
    pub fn used(&self) -> u64 {
        let world = self.world();
        let lengths = world.inodes.values().map(|inode| inode.seen.len() as u64);
        lengths.sum()
    }

    /// Whether a capacity is set.
    pub fn is_limited(&self) -> bool {
        self.world().capacity.is_some()
    }

    /// Whether the power will go as arranged, and has not yet.
    pub fn will_lose_power(&self) -> bool {
        self.world().power_fails_in.is_some()
    }

    /// While stalled, syncs of other threads wait. A simulator with one thread asks [`Self::is_stalled`] before it lets its node write.
    pub fn stall(&self, stalled: bool) {
        self.world().stalled = stalled;
        self.gate.changed.notify_all();
    }

    /// Whether syncs would wait.
    pub fn is_stalled(&self) -> bool {
        self.world().stalled
    }

    /// Returns when a sync waits for the end of a stall.
    pub fn wait_for_stalled_sync(&self) {
        let mut world = self.world();
        while world.waiting == 0 {
            world = self
                .gate
                .changed
                .wait(world)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> DiskCounters {
        self.world().counters
    }

    /// Names of the files in a folder, in order.
    pub fn names(&self, folder: &str) -> Vec<String> {
        self.world()
            .folders
            .get(folder)
            .map(|folder| folder.seen.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn with<T>(&self, folder: &str, name: &str, change: impl FnOnce(&mut Inode) -> T) -> T {
        let world = &mut *self.world();
        let inode = world
            .folders
            .get(folder)
            .and_then(|folder| folder.seen.get(name))
            .copied();
        let inode = inode.unwrap_or_else(|| panic!("there is no file {folder}/{name}"));
        change(
            world
                .inodes
                .get_mut(&inode)
                .expect("a name leads to its bytes"),
        )
    }

    /// What programs see in a file.
    pub fn contents(&self, folder: &str, name: &str) -> Vec<u8> {
        self.with(folder, name, |inode| inode.seen.clone())
    }

    /// Replaces a file's bytes, on the platter too: damage.
    pub fn damage(&self, folder: &str, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.with(folder, name, |inode| {
            change(&mut inode.seen);
            inode.platter.clone_from(&inode.seen);
            inode.dirty.clear();
        });
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, folder: &str, name: &str, offset: usize, bit: u8) {
        self.damage(folder, name, |bytes| bytes[offset] ^= 1 << bit);
    }

    /// Loses a file.
    pub fn lose(&self, folder: &str, name: &str) {
        let world = &mut *self.world();
        let folder = world.folders.get_mut(folder).expect("the folder exists");
        folder.seen.remove(name);
        folder.platter.remove(name);
    }
}

impl World {
    fn restart(&mut self) {
        self.life += 1;
        self.power_is_off = false;
        self.power_fails_in = None;
        self.sync_fails_in = None;
        self.stalled = false;
        self.open.clear();
        self.collect();
    }

    /// `Err` when this handle is dead; `Ok(true)` when the power goes during this change.
    fn change(&mut self, life: u64) -> io::Result<bool> {
        self.alive(life)?;
        let strikes = strikes(&mut self.power_fails_in);
        self.power_is_off |= strikes;
        Ok(strikes)
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if life != self.life {
            return Err(io::Error::other("the process that opened this is gone"));
        }
        if self.power_is_off {
            return Err(power_lost());
        }
        Ok(())
    }

    /// Does what a sync that lied should have done.
    fn come_true(&mut self, lie: Lie) {
        match lie {
            Lie::Bytes {
                inode,
                length,
                sectors,
            } => {
                let platter = &mut self.inodes.entry(inode).or_default().platter;
                if platter.len() < length {
                    platter.resize(length, 0);
                }
                for (sector, bytes) in sectors {
                    platter[sector * SECTOR..][..bytes.len()].copy_from_slice(&bytes);
                }
            }
            Lie::Names(folder, names) => self.folders.entry(folder).or_default().platter = names,
        }
    }

    /// An honest sync brings everything to the platter that was lied about before.
    fn make_good(&mut self) {
        let lies = std::mem::take(&mut self.lies);
        lies.into_iter().for_each(|lie| self.come_true(lie));
    }

    /// Forgets the bytes of files that have no name and no handle.
    fn collect(&mut self) {
        if !self.lies.is_empty() {
            return;
        }
        let mut needed: BTreeSet<u64> = self.open.keys().copied().collect();
        for folder in self.folders.values() {
            needed.extend(folder.seen.values().chain(folder.platter.values()));
            needed.extend(folder.journal.iter().filter_map(|change| match change {
                NameChange::Link(_, inode) => Some(*inode),
                NameChange::Rename(..) | NameChange::Remove(_) => None,
            }));
        }
        self.inodes.retain(|inode, _| needed.contains(inode));
    }
}

/// Counts an arranged fault down.
fn strikes(fails_in: &mut Option<u64>) -> bool {
    match fails_in {
        Some(1) => {
            *fails_in = None;
            true
        }
        Some(nth) => {
            *nth -= 1;
            false
        }
        None => false,
    }
}

fn power_lost() -> io::Error {
    io::Error::other("the power is off")
}

struct FolderHandle {
    disk: VirtualDisk,
    name: String,
    life: u64,
}

impl FolderHandle {
    fn change_name(&self, change: NameChange) -> io::Result<()> {
        let world = &mut *self.disk.world();
        let struck = world.change(self.life)?;
        let folder = world.folders.entry(self.name.clone()).or_default();
        if let NameChange::Rename(name, _) | NameChange::Remove(name) = &change
            && !folder.seen.contains_key(name)
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        change.apply(&mut folder.seen);
        folder.journal.push(change);
        if struck { Err(power_lost()) } else { Ok(()) }
    }
}

impl Disk for FolderHandle {
    fn list(&self) -> io::Result<Vec<String>> {
        let world = self.disk.world();
        world.alive(self.life)?;
        Ok(world
            .folders
            .get(&self.name)
            .map(|folder| folder.seen.keys().cloned().collect())
            .unwrap_or_default())
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let inode = if mode == OpenMode::Create {
            let inode = {
                let mut world = self.disk.world();
                world.alive(self.life)?;
                let inode = world.next_inode;
                world.next_inode += 1;
                world.inodes.insert(inode, Inode::default());
                inode
            };
            self.change_name(NameChange::Link(name.to_owned(), inode))?;
            inode
        } else {
            let world = self.disk.world();
            world.alive(self.life)?;
            let found = world
                .folders
                .get(&self.name)
                .and_then(|folder| folder.seen.get(name))
                .copied();
            found.ok_or(io::ErrorKind::NotFound)?
        };
        *self.disk.world().open.entry(inode).or_default() += 1;
        Ok(Box::new(FileHandle {
            disk: self.disk.clone(),
            inode,
            life: self.life,
            writable: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_name(NameChange::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let world = &mut *self.disk.world();
        world.counters.directory_syncs += 1;
        if world.change(self.life)? {
            return Err(power_lost()); // the crash keeps a part of the journal
        }
        if !world.syncs_lie {
            world.make_good();
        }
        let folder = world.folders.entry(self.name.clone()).or_default();
        folder.journal.clear();
        if world.syncs_lie {
            world
                .lies
                .push(Lie::Names(self.name.clone(), folder.seen.clone()));
        } else {
            folder.platter = folder.seen.clone();
            world.collect();
        }
        Ok(())
    }

    fn share(&self) -> Box<dyn Disk> {
        Box::new(Self {
            disk: self.disk.clone(),
            name: self.name.clone(),
            life: self.life,
        })
    }

    fn place(&self) -> String {
        format!("virtual/{}", self.name)
    }
}

struct FileHandle {
    disk: VirtualDisk,
    inode: u64,
    life: u64,
    writable: bool,
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        let world = &mut *self.disk.world();
        if world.life == self.life
            && let Some(handles) = world.open.get_mut(&self.inode)
        {
            *handles -= 1;
            if *handles == 0 {
                world.open.remove(&self.inode);
            }
        }
    }
}

impl FileHandle {
    fn grow(world: &mut World, inode: u64, length: usize) -> io::Result<()> {
        let more = length.saturating_sub(world.inodes[&inode].seen.len());
        if more == 0 {
            return Ok(());
        }
        if let Some(capacity) = world.capacity {
            let used: u64 = world
                .inodes
                .values()
                .map(|inode| inode.seen.len() as u64)
                .sum();
            if used + more as u64 > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let inode = world
            .inodes
            .get_mut(&inode)
            .expect("an open file has bytes");
        inode.seen.resize(length, 0);
        Ok(())
    }

    fn place(offset: u64) -> usize {
        usize::try_from(offset).expect("virtual files fit memory")
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for FileHandle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let world = &mut *self.disk.world();
        world.alive(self.life)?;
        world.counters.reads += 1;
        let bytes = &world.inodes[&self.inode].seen;
        let start = Self::place(offset).min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        let world = &mut *self.disk.world();
        world.counters.writes += 1;
        let struck = world.change(self.life)?;
        let start = Self::place(offset);
        Self::grow(world, self.inode, start + bytes.len())?;
        let cut = if struck {
            world.rng.random_range(0..=bytes.len())
        } else {
            bytes.len()
        };
        let inode = world
            .inodes
            .get_mut(&self.inode)
            .expect("an open file has bytes");
        inode.seen[start..start + cut].copy_from_slice(&bytes[..cut]);
        inode.touch(start, start + cut);
        if struck { Err(power_lost()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.counters.syncs += 1;
        while world.stalled && world.life == self.life {
            world.waiting += 1;
            self.disk.gate.changed.notify_all();
            world = self
                .disk
                .gate
                .changed
                .wait(world)
                .unwrap_or_else(PoisonError::into_inner);
            world.waiting -= 1;
        }
        let world = &mut *world;
        if world.change(self.life)? {
            return Err(power_lost()); // the crash decides sector by sector
        }
        if strikes(&mut world.sync_fails_in) {
            let inode = world
                .inodes
                .get_mut(&self.inode)
                .expect("an open file has bytes");
            for sector in std::mem::take(&mut inode.dirty) {
                if world.rng.random() {
                    inode.persist(sector);
                }
            }
            return Err(io::Error::other("input/output error"));
        }
        if world.syncs_lie {
            let inode = world
                .inodes
                .get_mut(&self.inode)
                .expect("an open file has bytes");
            let (length, dirty) = (inode.seen.len(), std::mem::take(&mut inode.dirty));
            let bytes = |sector: usize| {
                inode.seen[sector * SECTOR..length.min((sector + 1) * SECTOR)].to_vec()
            };
            let sectors = dirty
                .into_iter()
                .map(|sector| (sector, bytes(sector)))
                .collect();
            world.lies.push(Lie::Bytes {
                inode: self.inode,
                length,
                sectors,
            });
            return Ok(());
        }
        world.make_good();
        world
            .inodes
            .get_mut(&self.inode)
            .expect("an open file has bytes")
            .persist_all();
        Ok(())
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        let world = &mut *self.disk.world();
        if world.change(self.life)? {
            return Err(power_lost());
        }
        Self::grow(world, self.inode, Self::place(length))
    }

    fn length(&self) -> io::Result<u64> {
        let world = self.disk.world();
        world.alive(self.life)?;
        Ok(world.inodes[&self.inode].seen.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(disk: &VirtualDisk) -> Box<dyn DiskFile> {
        let folder = disk.folder("log");
        let mut file = folder.open("a", OpenMode::Create).unwrap();
        file.write_at(0, &[1; 2 * SECTOR]).unwrap();
        file.sync().unwrap();
        folder.sync_directory().unwrap();
        file
    }

    // E30: only a store that drops un-synced bytes can show a missing fsync.
    #[test]
    fn crash_keeps_what_was_synced_and_decides_the_rest_by_sector() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..64 {
            let disk = VirtualDisk::new(seed);
            let mut file = written(&disk);
            file.write_at(SECTOR as u64, &[2; 2 * SECTOR]).unwrap();
            disk.crash();
            assert!(file.sync().is_err(), "a handle of the former life is dead");
            let bytes = disk.contents("log", "a");
            assert_eq!(bytes[..SECTOR], [1; SECTOR]);
            assert!(
                bytes
                    .chunks(SECTOR)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0])),
                "sectors are whole"
            );
            outcomes.insert(bytes.iter().step_by(SECTOR).copied().collect::<Vec<_>>());
        }
        assert!(outcomes.len() >= 4, "lost, kept and torn: {outcomes:?}");
    }

    // H72: after a failed sync the bytes look clean and are not on the platter.
    #[test]
    fn sync_after_a_failed_one_says_ok_and_is_worth_nothing() {
        let lost = (0..32).any(|seed| {
            let disk = VirtualDisk::new(seed);
            let mut file = written(&disk);
            file.write_at(0, &[2; 2 * SECTOR]).unwrap();
            disk.fail_sync_in(1);
            assert!(file.sync().is_err());
            file.sync().unwrap();
            assert_eq!(disk.contents("log", "a")[0], 2, "programs still see it");
            disk.crash();
            disk.contents("log", "a").contains(&1)
        });
        assert!(lost);
    }

    // The negative control of the simulators: acknowledged bytes are lost, and the files are otherwise sound.
    #[test]
    fn lying_syncs_lose_a_suffix_of_what_they_acknowledged() {
        for seed in 0..32 {
            let disk = VirtualDisk::new(seed);
            let mut file = written(&disk);
            disk.let_syncs_lie(true);
            for value in 2..8 {
                file.write_at(0, &[value; 2 * SECTOR]).unwrap();
                file.sync().unwrap();
            }
            disk.crash();
            let bytes = disk.contents("log", "a");
            assert!(
                bytes[0] < 7 && bytes.iter().all(|byte| *byte == bytes[0]),
                "seed {seed}: {}",
                bytes[0]
            );
        }
    }

    #[test]
    fn names_that_were_not_synced_come_back_in_order() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..64 {
            let disk = VirtualDisk::new(seed);
            drop(written(&disk));
            let folder = disk.folder("log");
            folder.rename("a", "b").unwrap();
            folder.open("c", OpenMode::Create).unwrap();
            folder.remove("b").unwrap();
            disk.crash();
            outcomes.insert(disk.names("log"));
        }
        let expected: BTreeSet<Vec<String>> = [&["a"][..], &["b"], &["b", "c"], &["c"]]
            .iter()
            .map(|names| names.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn same_seed_gives_the_same_disk() {
        let run = || {
            let disk = VirtualDisk::new(7);
            let mut file = written(&disk);
            file.write_at(100, &[2; 9 * SECTOR]).unwrap();
            disk.crash();
            (disk.contents("log", "a"), disk.counters())
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn full_disk_refuses_to_grow() {
        let disk = VirtualDisk::new(1);
        let mut file = written(&disk);
        disk.set_capacity(Some(2 * SECTOR as u64));
        file.write_at(0, &[2; 2 * SECTOR]).unwrap();
        assert_eq!(
            file.write_at(0, &[2; 2 * SECTOR + 1]).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            file.allocate(4096).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
    }
}
