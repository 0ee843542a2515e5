//! Files of the log made ahead of need, and taken back after use.
//!
//! Here: [`Supply`], which hands out empty [`Segment`]s. In the background (a node) the next file is made on an own thread while the
//! present one fills, so that appends never wait for it; inline (simulators, where everything is one thread and repeatable) it is made
//! when it is needed. A file that is no longer needed becomes a later one, under a new name, number and salt: its blocks are already
//! written, which halves the time of a large write and sync (measured on ext4, 150 KB: 120 us; into blocks merely reserved by
//! `fallocate`: 220 us). For the same reason the background fills a new file with zeros; piece by piece, two bytes for each one that is
//! appended meanwhile. All at once they were 64 MiB for which the syncs of every log on that disk waited, 0.1 to 0.2 s.
//! Not here: when to take or retire a file (`log`).

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::disk::{Disk, DiskFile, OpenMode};
use super::segment::{FIRST_FRAME, Segment, SegmentHeader, segment_name};

/// A file that is being made has this name until it has a header; whoever opens the log removes it.
pub(crate) const UNFINISHED: &str = "next.tmp";
/// Files on their way from one life to the next, at most. The log's length goes up and down by some files with each round of checkpoints;
/// what is removed here is filled with zeros again soon.
const SPARES_MAX: usize = 4;
/// Zeros written and synced at once.
const PIECE: usize = 4 << 20;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Makes and recycles files.
struct Maker {
    disk: Box<dyn Disk>,
    segment_bytes: u64,
    salt: u64,
    /// Files of the right length that were retired; whoever opens the log removes them.
    spares: VecDeque<String>,
    /// How many there have been.
    retired: u64,
}

/// A file that has no header yet.
struct Unfinished {
    order: Order,
    name: String,
    file: Box<dyn DiskFile>,
    /// Zeros are written up to here.
    filled: u64,
}

impl Maker {
    fn begin(&mut self, order: Order) -> io::Result<Unfinished> {
        if let Some(name) = self.spares.pop_front() {
            return Ok(Unfinished {
                order,
                file: self.disk.open(&name, OpenMode::Write)?,
                name,
                filled: self.segment_bytes,
            });
        }
        let mut file = self.disk.open(UNFINISHED, OpenMode::Create)?;
        file.allocate(self.segment_bytes)?;
        Ok(Unfinished {
            order,
            file,
            name: UNFINISHED.to_owned(),
            filled: FIRST_FRAME,
        })
    }

    /// Fills the next piece, and syncs it: what another file has to sync never lies behind more than this.
    fn fill(&self, next: &mut Unfinished) -> io::Result<()> {
        let left = usize::try_from(self.segment_bytes.saturating_sub(next.filled));
        let bytes = left.map_or(PIECE, |left| left.min(PIECE));
        next.file.write_at(next.filled, &ZEROS[..bytes])?;
        next.filled += bytes as u64;
        next.file.sync()
    }

    fn is_filled(&self, next: &Unfinished) -> bool {
        next.filled >= self.segment_bytes
    }

    fn finish(&self, next: Unfinished) -> io::Result<Segment> {
        let Unfinished {
            order,
            name,
            mut file,
            ..
        } = next;
        let header = SegmentHeader {
            sequence: order.sequence,
            salt: salt_of(self.salt, order.sequence),
            oldest: order.oldest,
        };
        file.write_at(0, &header.encode())?;
        // The name comes last: whoever finds it finds a sound header.
        file.sync()?;
        self.disk.rename(&name, &segment_name(order.sequence))?;
        self.disk.sync_directory()?;
        Ok(Segment {
            header,
            file,
            end: FIRST_FRAME,
        })
    }

    fn make(&mut self, order: Order) -> io::Result<Segment> {
        let next = self.begin(order)?;
        self.finish(next)
    }

    /// Keeps some files for later ones and removes the others. A failure costs room, never a record: the file is older than the log's oldest
    /// and the next opening tries again.
    fn retire(&mut self, sequence: u64) {
        let name = segment_name(sequence);
        let retired = (|| {
            if self.spares.len() < SPARES_MAX
                && self.disk.open(&name, OpenMode::Read)?.length()? == self.segment_bytes
            {
                let spare = format!("spare-{}.tmp", self.retired);
                self.disk.rename(&name, &spare)?;
                self.retired += 1;
                self.spares.push_back(spare);
                return Ok(());
            }
            self.disk.remove(&name)
        })();
        if let Err(error) = retired {
            let error: io::Error = error;
            tracing::warn!(file = %name, %error, "a file of the log could not be taken back");
        }
    }
}

/// The salt of one file: not zero, and unlike that of any other file of this log.
fn salt_of(seed: u64, sequence: u64) -> u64 {
    // SplitMix64's finalizer (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators): a bijection, so numbers never collide.
    let mut mixed = seed.wrapping_add(sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    if mixed == 0 { 1 } else { mixed }
}

#[derive(Clone, Copy)]
struct Order {
    sequence: u64,
    oldest: u64,
}

enum Task {
    Make(Order),
    Retire(u64),
}

#[derive(Default)]
struct Wishes {
    tasks: VecDeque<Task>,
    /// How far the next file may be filled.
    fill_through: u64,
    /// Somebody waits for it.
    hurry: bool,
    ended: bool,
}

/// What the log wants of the thread.
#[derive(Default)]
struct Desk {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }
}

/// The thread's next step.
enum Step {
    Do(Task),
    Fill(Unfinished),
    Finish(Unfinished),
}

struct Worker {
    maker: Maker,
    desk: Arc<Desk>,
    made: Sender<io::Result<Segment>>,
}

impl Worker {
    /// `None`: nothing is wanted any more.
    fn wait(&self, next: &mut Option<Unfinished>) -> Option<Step> {
        let mut wishes = self.desk.lock();
        loop {
            if let Some(task) = wishes.tasks.pop_front() {
                return Some(Step::Do(task));
            }
            if wishes.ended {
                return None;
            }
            if let Some(file) = next.take() {
                if wishes.hurry || self.maker.is_filled(&file) {
                    return Some(Step::Finish(file));
                }
                if file.filled <= wishes.fill_through {
                    return Some(Step::Fill(file));
                }
                *next = Some(file);
            }
            let woken = self.desk.changed.wait(wishes);
            wishes = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(mut self) {
        let mut next = None;
        while let Some(step) = self.wait(&mut next) {
            let made = match step {
                Step::Do(Task::Retire(sequence)) => {
                    self.maker.retire(sequence);
                    None
                }
                Step::Do(Task::Make(order)) => {
                    let begun = self.maker.begin(order).map(|file| next = Some(file));
                    begun.err().map(Err)
                }
                Step::Fill(mut file) => {
                    let filled = self.maker.fill(&mut file).map(|()| next = Some(file));
                    filled.err().map(Err)
                }
                Step::Finish(file) => Some(self.maker.finish(file)),
            };
            if let Some(made) = made
                && self.made.send(made).is_err()
            {
                return;
            }
        }
    }
}

struct Background {
    desk: Arc<Desk>,
    made: Receiver<io::Result<Segment>>,
    thread: Option<JoinHandle<()>>,
    /// Number of the file that was ordered and not yet taken.
    ordered: Option<u64>,
    /// What the thread knows to be appended to the present file.
    appended: u64,
}

impl Background {
    fn start(maker: Maker) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let (finished, made) = channel();
        let worker = Worker {
            maker,
            desk: desk.clone(),
            made: finished,
        };
        let thread = std::thread::Builder::new()
            .name("synod-log-files".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            desk,
            made,
            thread: Some(thread),
            ordered: None,
            appended: 0,
        })
    }

    /// A task that is lost because the thread has ended shows at the next [`Self::receive`].
    fn order(&mut self, order: Order) {
        self.ordered = Some(order.sequence);
        self.appended = 0;
        self.desk.change(|wishes| {
            wishes.fill_through = FIRST_FRAME;
            wishes.hurry = false;
            wishes.tasks.push_back(Task::Make(order));
        });
    }

    fn appended(&mut self, end: u64) {
        if end >= self.appended + PIECE as u64 / 2 {
            self.appended = end;
            self.desk.change(|wishes| wishes.fill_through = 2 * end);
        }
    }

    fn receive(&mut self) -> io::Result<Segment> {
        self.ordered = None;
        self.desk.change(|wishes| wishes.hurry = true);
        self.made
            .recv()
            .map_err(|_| io::Error::other("the thread that makes log files has ended"))?
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.desk.change(|wishes| wishes.ended = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has already failed the log
        }
    }
}

enum Way {
    Inline(Maker),
    Background(Background),
}

/// Where the log takes its files from.
pub(crate) struct Supply {
    way: Way,
    /// Files found ready at opening, lowest number last.
    ready: Vec<Segment>,
}

impl Supply {
    /// `ready`: files that exist already, made ahead by an earlier process.
    pub(crate) fn start(
        disk: Box<dyn Disk>,
        segment_bytes: u64,
        salt: u64,
        background: bool,
        mut ready: Vec<Segment>,
    ) -> io::Result<Self> {
        ready.sort_by_key(|segment| std::cmp::Reverse(segment.header.sequence));
        let maker = Maker {
            disk,
            segment_bytes,
            salt,
            spares: VecDeque::new(),
            retired: 0,
        };
        let way = if background {
            Way::Background(Background::start(maker)?)
        } else {
            Way::Inline(maker)
        };
        Ok(Self { way, ready })
    }

    /// Says which file will be needed next. Inline, nothing happens before it is taken.
    pub(crate) fn order(&mut self, sequence: u64, oldest: u64) {
        let is_ready = self
            .ready
            .last()
            .is_some_and(|segment| segment.header.sequence == sequence);
        if let Way::Background(background) = &mut self.way
            && !is_ready
            && background.ordered.is_none()
        {
            background.order(Order { sequence, oldest });
        }
    }

    /// Says where the present file ends by now: the next one is filled ahead of it.
    pub(crate) fn appended(&mut self, end: u64) {
        if let Way::Background(background) = &mut self.way {
            background.appended(end);
        }
    }

    /// The file with this number; made at once, or waited for while it is being made.
    pub(crate) fn take(&mut self, sequence: u64, oldest: u64) -> io::Result<Segment> {
        if let Some(segment) = self
            .ready
            .pop_if(|segment| segment.header.sequence == sequence)
        {
            return Ok(segment);
        }
        let order = Order { sequence, oldest };
        let segment = match &mut self.way {
            Way::Inline(maker) => maker.make(order)?,
            Way::Background(background) => {
                if background.ordered.is_none() {
                    background.order(order);
                }
                background.receive()?
            }
        };
        assert_eq!(
            segment.header.sequence, sequence,
            "Files of the log are made in order"
        );
        Ok(segment)
    }

    /// Takes back a file that is no longer needed.
    pub(crate) fn retire(&mut self, sequence: u64) {
        match &mut self.way {
            Way::Inline(maker) => maker.retire(sequence),
            Way::Background(background) => {
                let task = Task::Retire(sequence);
                background
                    .desk
                    .change(|wishes| wishes.tasks.push_back(task));
            }
        }
    }
}
