//! The same faults on real files: bytes changed in them, a disk that is full, fails or hangs.
//!
//! Here: [`Faulty`], the directory of the operating system with a fault switched on, and what the log and its writer do then. Not here:
//! power loss, which only the virtual disk can show (E30).

use std::fs::{OpenOptions, read, write};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};

use synod::storage::{Disk, DiskFile, LogWriter, OpenError, OpenMode, RealDisk, SegmentedLog};
use synod_consensus::LogStore;

use super::writers::{Heard, Sink, completed, request};
use super::{append, born, everything, key, options};

const FIRST: &str = "0000000000000001.log";

/// What is wrong with the disk at the moment.
#[derive(Default)]
pub(super) struct Fault {
    /// Bytes that may still be written or reserved.
    pub(super) room: Option<u64>,
    /// How often there was none.
    pub(super) refused: u64,
    /// Files removed.
    pub(super) removed: u64,
    /// Syncs fail.
    failing: bool,
    /// Syncs do not return.
    pub(super) hanging: bool,
    /// Syncs asked for.
    pub(super) syncs: u64,
    /// Writes asked for.
    writes: u64,
    /// Bytes written.
    pub(super) bytes: u64,
}

#[derive(Clone)]
pub(super) struct Faulty {
    real: RealDisk,
    fault: Arc<(Mutex<Fault>, Condvar)>,
}

impl Faulty {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            real: RealDisk::new(folder).unwrap(),
            fault: Arc::default(),
        }
    }

    pub(super) fn set<T>(&self, change: impl FnOnce(&mut Fault) -> T) -> T {
        let result = change(&mut self.fault.0.lock().unwrap());
        self.fault.1.notify_all();
        result
    }

    pub(super) fn wait_until(&self, condition: impl Fn(&Fault) -> bool) {
        let mut fault = self.fault.0.lock().unwrap();
        while !condition(&fault) {
            fault = self.fault.1.wait(fault).unwrap();
        }
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        self.set(|fault| {
            fault.writes += 1;
            let Some(room) = &mut fault.room else {
                return Ok(());
            };
            let Some(left) = room.checked_sub(bytes) else {
                fault.refused += 1;
                return Err(io::ErrorKind::StorageFull.into());
            };
            *room = left;
            Ok(())
        })
    }

    pub(super) fn open_log(&self) -> SegmentedLog {
        SegmentedLog::open(self.share(), options()).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Disk for Faulty {
    fn list(&self) -> io::Result<Vec<String>> {
        self.real.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FaultyFile {
            real: self.real.open(name, mode)?,
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.real.remove(name)?;
        self.set(|fault| fault.removed += 1);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.real.sync_directory()
    }

    fn share(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    fn place(&self) -> String {
        self.real.place()
    }
}

struct FaultyFile {
    real: Box<dyn DiskFile>,
    disk: Faulty,
}

impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.real.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.set(|fault| fault.bytes += bytes.len() as u64);
        // What lies in the file already needs no room.
        let end = offset + bytes.len() as u64;
        self.disk
            .take_room(end.saturating_sub(self.real.length()?))?;
        self.real.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let failing = self.disk.set(|fault| {
            fault.syncs += 1;
            fault.failing
        });
        self.disk.wait_until(|fault| !fault.hanging);
        if failing {
            return Err(io::Error::other("input/output error"));
        }
        self.real.sync()
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.disk
            .take_room(length.saturating_sub(self.real.length()?))?;
        self.real.allocate(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.real.length()
    }
}

/// Four batches in one file; what the log said after each, and where the file's frames end.
fn filled(folder: &Path) -> (Vec<super::Everything>, Vec<usize>) {
    let mut log = Faulty::new(folder).open_log();
    let (mut states, mut ends) = (Vec::new(), Vec::new());
    for nth in 1..=4 {
        let mut writes = vec![append(1, nth..=nth, 99)];
        if nth == 1 {
            writes.insert(0, born());
        }
        log.write(&[(key(1, 1), writes)]).unwrap();
        states.push(everything(&log));
        let bytes = read(folder.join(FIRST)).unwrap();
        ends.push(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    }
    (states, ends)
}

// H76 on real files: whatever is left of the last record, it is dropped, and the log goes on.
#[test]
fn real_torn_tail_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (states, ends) = filled(&log);
    let whole = read(log.join(FIRST)).unwrap();
    for cut in ends[2]..ends[3] {
        let mut torn = whole.clone();
        torn[cut..ends[3]].fill(0);
        write(log.join(FIRST), &torn).unwrap();
        let mut opened = Faulty::new(&log).open_log();
        assert_eq!(everything(&opened), states[2], "cut at {cut}");
        opened
            .write(&[(key(1, 1), vec![append(2, 4..=5, 10)])])
            .unwrap();
        let state = everything(&opened);
        drop(opened);
        assert_eq!(everything(&Faulty::new(&log).open_log()), state);
    }
}

// H76 on real files: a flipped bit before the last record is refused, naming the file; the log never opens short.
#[test]
fn real_flipped_bit_in_the_middle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (_, ends) = filled(&log);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(log.join(FIRST))
        .unwrap();
    let mut byte = [0];
    for at in (4096..ends[1]).step_by(13).map(|at| at as u64) {
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        let opened = SegmentedLog::open(Faulty::new(&log).share(), options());
        match opened {
            Err(OpenError::Damaged { file, .. }) => assert!(file.contains(FIRST), "{file}"),
            Err(error) => panic!("{error}"),
            // Between two frames lie zeros that say nothing.
            Ok(opened) => assert_eq!(everything(&opened).0[0].1.entries.len(), 4, "byte {at}"),
        }
        file.write_all_at(&byte, at).unwrap();
    }
    assert_eq!(
        everything(&Faulty::new(&log).open_log()).0[0]
            .1
            .entries
            .len(),
        4
    );
}

// H72 on real files: the first error of a sync is the answer to everything that follows, and the disk is asked no more.
#[test]
fn real_sync_error_is_sticky() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(&folder.path().join("log"));
    let mut log = disk.open_log();
    log.write(&[(key(1, 1), vec![born(), append(1, 1..=3, 300)])])
        .unwrap();
    disk.set(|fault| fault.failing = true);
    let failed = log
        .write(&[(key(1, 1), vec![append(1, 4..=4, 300)])])
        .unwrap_err();
    disk.set(|fault| fault.failing = false);
    let asked = disk.set(|fault| (fault.syncs, fault.writes));
    let again = log.write(&[(key(1, 1), vec![append(1, 4..=4, 300)])]);
    assert_eq!(again, Err(failed));
    assert_eq!(disk.set(|fault| (fault.syncs, fault.writes)), asked);
    drop(log);
    let entries = everything(&disk.open_log()).0[0].1.entries.len();
    assert!((3..=4).contains(&entries), "what was acknowledged is there");
}

// DESIGN 13: a full disk on real files. One sentence, nothing acknowledged is lost, and with room again the log goes on.
#[test]
fn real_full_disk_loses_nothing_and_goes_on_with_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(&folder.path().join("log"));
    let mut log = disk.open_log();
    log.write(&[(key(1, 1), vec![born()])]).unwrap();
    disk.set(|fault| fault.room = Some(20 << 10));
    let mut acknowledged = 0;
    let failed = (1..1_000)
        .find_map(|index| {
            let result = log.write(&[(key(1, 1), vec![append(1, index..=index, 500)])]);
            acknowledged += u64::from(result.is_ok());
            result.err()
        })
        .expect("the disk is full at some time");
    let text = failed.to_string();
    assert!(text.contains("cannot get a new file in"), "{text}");
    drop(log);
    disk.set(|fault| fault.room = None);
    let mut log = disk.open_log();
    assert_eq!(everything(&log).0[0].1.entries.len() as u64, acknowledged);
    let more = append(1, acknowledged + 1..=acknowledged + 20, 500);
    log.write(&[(key(1, 1), vec![more])]).unwrap();
}

// H21 (the store's part), H73 on real files: while a sync hangs nothing is acknowledged and the writer's count stands still, which is what
// a leader judges its disk by; afterwards everything is.
#[test]
fn real_hung_sync_acknowledges_nothing_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(&folder.path().join("log"));
    let (sink, heard) = channel::<Heard>();
    let log = Box::new(disk.open_log());
    let writer = LogWriter::start(log, vec![Box::new(Sink(sink))]).unwrap();
    writer.submit(0, vec![request(key(1, 1), vec![born()])]);
    assert_eq!(completed(&heard), [key(1, 1)]);
    let syncs = disk.set(|fault| {
        fault.hanging = true;
        fault.syncs
    });
    let before = writer.counters();
    writer.submit(0, vec![request(key(1, 1), vec![append(1, 1..=1, 100)])]);
    disk.wait_until(|fault| fault.syncs > syncs);
    assert!(heard.try_recv().is_err());
    assert_eq!(writer.counters(), before);
    assert!(writer.queued_bytes() > 100);
    disk.set(|fault| fault.hanging = false);
    assert_eq!(completed(&heard), [key(1, 1)]);
    writer.close();
}
