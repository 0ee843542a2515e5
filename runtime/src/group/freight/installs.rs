//! The thread that makes rows of the snapshots that arrived. It may take long, and what else leaves and arrives does not wait for it.
//!
//! Not here: how a snapshot arrives (`group::freight`), its format (`evaluation::export`), whose rows they become when
//! (`storage::checkpoint_writer`).

use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};

use synod_consensus::{ReplicaKey, SnapshotId, SnapshotMeta};

use super::{Depot, FetchError, News};
use crate::evaluation::{ShardState, SnapshotError, import};
use crate::group::actor::Fetched;
use crate::group::base::ReplicaBase;
use crate::group::machine::Decoded;
use crate::storage::{PartialError, Partials, StateRows, WholePartial};

/// Bytes of a snapshot read at once.
const PIECE: usize = 256 << 10;

enum Job {
    Install {
        key: ReplicaKey,
        meta: SnapshotMeta,
        id: SnapshotId,
        /// Of this replica alone.
        partials: Partials,
    },
    Forget(ReplicaKey),
}

/// A handle on the thread. Dropped, it waits for it; what is under way then ends soon, for the node does not go on.
pub(super) struct Installs {
    /// A replica that installs asks for nothing else meanwhile, so no more wait than there are replicas.
    jobs: Option<Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Installs {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panics are caught
        }
    }
}

impl Installs {
    pub(super) fn start(depot: Arc<Depot>, rows: StateRows) -> io::Result<Self> {
        let (jobs, taken) = channel();
        let worker = Worker { depot, rows };
        let thread = std::thread::Builder::new()
            .name("synod-installs".into())
            .spawn(move || worker.run(&taken))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// All of a snapshot arrived, and nothing else is in `partials`.
    pub(super) fn install(
        &self,
        key: ReplicaKey,
        meta: SnapshotMeta,
        id: SnapshotId,
        partials: Partials,
    ) {
        self.push(Job::Install {
            key,
            meta,
            id,
            partials,
        });
    }

    /// The replica is gone: nothing of it stays, whatever was to be installed before.
    pub(super) fn forget(&self, key: ReplicaKey) {
        self.push(Job::Forget(key));
    }

    fn push(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ended = jobs.send(job);
        }
    }
}

struct Worker {
    depot: Arc<Depot>,
    rows: StateRows,
}

/// A snapshot that arrived, as it is read while the node goes on.
struct Arrived<'a> {
    whole: WholePartial<'a>,
    depot: &'a Depot,
    /// Why it was not read to its end.
    failed: Option<PartialError>,
}

impl Read for Arrived<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = if self.depot.goes_on() {
            self.whole.read(into).map_err(PartialError::Io)
        } else {
            Err(PartialError::Ended)
        };
        read.map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            io::Error::other(text)
        })
    }
}

impl Worker {
    fn run(self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Forget(key) => self.depot.checkpoints.remove(key),
                Job::Install {
                    key,
                    meta,
                    id,
                    mut partials,
                } => {
                    let owed = meta.clone();
                    let install = || self.install(key, meta, id, &mut partials);
                    if catch_unwind(AssertUnwindSafe(install)).is_err() {
                        tracing::error!(group = %key.group, "the installation of a snapshot panicked");
                        let _panicked = catch_unwind(AssertUnwindSafe(|| partials.remove(key)));
                        self.depot.fetched(key, owed, id, Err(FetchError::Panicked));
                    }
                }
            }
        }
    }

    /// The rows of a snapshot are staged beside the present ones; they become the replica's in one write, in order with its checkpoints.
    fn install(
        &self,
        key: ReplicaKey,
        meta: SnapshotMeta,
        id: SnapshotId,
        partials: &mut Partials,
    ) {
        let tell = {
            let (depot, meta) = (self.depot.clone(), meta.clone());
            move |result| depot.fetched(key, meta, id, result)
        };
        let mut staging = self.rows.stage(key.group);
        let depot = &*self.depot;
        let whole = match partials.whole_in_pieces(key, id, || depot.goes_on()) {
            Err(error) => return tell(Err(FetchError::Partial(error))),
            Ok(whole) => whole,
        };
        let mut arrived = Arrived {
            whole,
            depot,
            failed: None,
        };
        let imported = import(
            BufReader::with_capacity(PIECE, &mut arrived),
            |row, value| staging.put(&row, value).map_err(|error| error.to_string()),
        );
        // The disk, or the end, and nothing that the bytes say. At the end they stay for the next start.
        match arrived.failed {
            Some(PartialError::Ended) => {
                return tell(Err(FetchError::Partial(PartialError::Ended)));
            }
            Some(error) => {
                partials.remove(key);
                return tell(Err(FetchError::Partial(error)));
            }
            None => {}
        }
        // Before the rows are the replica's: one that came back to a state it has would be taken for a newer one.
        partials.remove(key);
        let head = match imported {
            Ok((applied, head)) if applied == id.position.index => head,
            Ok((applied, _)) => {
                let wrong = format!("it is of index {applied}, not {}", id.position.index);
                return tell(Err(FetchError::Undecodable(wrong)));
            }
            Err(error @ SnapshotError::NotKept(_)) => {
                let error = io::Error::other(error);
                return tell(Err(FetchError::Partial(PartialError::Io(error))));
            }
            Err(error) => return tell(Err(FetchError::Undecodable(error.to_string()))),
        };
        let (space, receivers) = (staging.space(), self.depot.receivers.clone());
        let overlays = self.depot.overlays.clone();
        let restored = {
            let head = head.clone();
            move || {
                let base = Arc::new(ReplicaBase::new(key, space.clone(), receivers, overlays));
                let state = ShardState::restore(base, &head);
                let decoded = state.map(|state| Decoded::Rows(Box::new(state), space));
                tell(decoded.map_err(FetchError::Unreadable));
            }
        };
        let checkpoints = &self.depot.checkpoints;
        checkpoints.adopt_rows(key, staging, meta, head, Box::new(restored));
    }
}

impl Depot {
    /// Says what became of a snapshot that arrived.
    pub(super) fn fetched(
        &self,
        key: ReplicaKey,
        meta: SnapshotMeta,
        id: SnapshotId,
        result: Result<Decoded, FetchError>,
    ) {
        let counters = &self.counters;
        let counter = match &result {
            Ok(_) => Some(&counters.installed),
            Err(
                FetchError::Partial(PartialError::Io(_) | PartialError::Ended)
                | FetchError::Unreadable(_)
                | FetchError::Panicked,
            ) => None,
            Err(FetchError::Partial(_) | FetchError::Undecodable(_)) => Some(&counters.damaged),
        };
        if self.tell(key, News::Fetched(Box::new(Fetched { meta, id, result })))
            && let Some(counter) = counter
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
