//! Batches from open to applied.
//!
//! Here: [`Pipeline`]: the open batch that commands add to, closed ones that wait, the one offered to the group whose
//! index is not known yet, and those in flight. A batch is offered only when the index of the one before it is known,
//! because its effects name the versions they are based on (section 5), and only within the byte budget, so that the
//! group never has to refuse it (E9). Not here: what the versions are (`slots`), the bytes (`batch`).

use std::collections::VecDeque;

use bytes::Bytes;
use synod_consensus::LogIndex;

use super::batch::Stored;
use super::slots::EntityAt;
use super::state::size_of_outcome;

/// Batches proposed and not yet applied. Enough to hide the round trip; few enough that batches grow under load.
const IN_FLIGHT_BATCHES: usize = 8;
/// Bytes of an effect beside kind, key and image.
const EFFECT_BYTES: usize = 40;
/// Bytes of a stored reply beside its outcome.
const STORED_BYTES: usize = 64;
/// Bytes of an opening.
const OPENING_BYTES: usize = 64;

/// One entity's new state in a batch.
pub(super) struct Touched {
    pub(super) at: EntityAt,
    /// None deletes.
    pub(super) image: Option<Bytes>,
}

/// An effect on its way into the open batch.
pub(super) struct Addition {
    pub(super) touched: Touched,
    /// Name of its kind.
    pub(super) kind: &'static str,
    /// Where the entity's newest effect stands: batch and place.
    pub(super) pending: Option<(u64, usize)>,
}

impl Addition {
    fn bytes(&self) -> usize {
        effect_bytes(self.kind, &self.touched)
    }
}

fn effect_bytes(kind: &str, touched: &Touched) -> usize {
    EFFECT_BYTES + kind.len() + touched.at.key.len() + touched.image.as_ref().map_or(0, Bytes::len)
}

/// A batch on its way.
#[derive(Default)]
pub(super) struct Assembled {
    pub(super) number: u64,
    pub(super) touched: Vec<Touched>,
    pub(super) replies: Vec<Stored>,
    pub(super) opens: Option<u128>,
    pub(super) bytes: usize,
    /// A command of it panicked or returned `Err`.
    pub(super) failures: bool,
}

impl Assembled {
    fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.replies.is_empty() && self.opens.is_none()
    }

    fn commands(&self) -> usize {
        self.replies.len() + usize::from(self.opens.is_some())
    }
}

struct InFlight {
    number: u64,
    index: LogIndex,
    bytes: usize,
}

/// The bounds that a pipeline obeys.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) batch_commands: usize,
    pub(super) batch_bytes: usize,
    pub(super) entry_max: usize,
    pub(super) in_flight_bytes: usize,
}

pub(super) struct Pipeline {
    bounds: Bounds,
    open: Assembled,
    closed: VecDeque<Assembled>,
    offered: Option<Assembled>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// Bytes open, closed and offered.
    gathered_bytes: usize,
    flush: bool,
}

impl Pipeline {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: Assembled {
                number: 1,
                ..Assembled::default()
            },
            closed: VecDeque::new(),
            offered: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            gathered_bytes: 0,
            flush: false,
        }
    }

    /// The newest batch that what is computed now can depend on; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        if self.open.is_empty() {
            self.open.number - 1
        } else {
            self.open.number
        }
    }

    /// The batch that the next effect goes into, unless it is closed first.
    pub(super) fn open_number(&self) -> u64 {
        self.open.number
    }

    /// True when a handler may run: what it adds still finds room in the log.
    pub(super) fn has_room(&self, reserved: usize) -> bool {
        self.in_flight_bytes + self.gathered_bytes + reserved < self.bounds.in_flight_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.closed.is_empty()
            && self.offered.is_none()
            && self.in_flight.is_empty()
    }

    /// Adds what one command did: at most one effect and its reply, always together. Returns the batch and the effect's
    /// place in it.
    pub(super) fn add(&mut self, effect: Option<Addition>, reply: Stored) -> (u64, usize) {
        let reply_bytes = STORED_BYTES + size_of_outcome(&reply.outcome);
        let adds = reply_bytes + effect.as_ref().map_or(0, Addition::bytes);
        if !self.open.is_empty() && self.open.bytes + adds > self.bounds.entry_max {
            self.close();
        }
        let mut place = 0;
        if let Some(Addition {
            touched,
            kind,
            pending,
        }) = effect
        {
            match pending {
                Some((batch, at)) if batch == self.open.number => {
                    place = at;
                    let replaced = std::mem::replace(&mut self.open.touched[at], touched);
                    self.shrink(effect_bytes(kind, &replaced));
                }
                _ => {
                    place = self.open.touched.len();
                    self.open.touched.push(touched);
                }
            }
        }
        self.open.replies.push(reply);
        self.grow(adds);
        let number = self.open.number;
        self.close_if_full();
        (number, place)
    }

    /// True when the open batch can still open a session.
    pub(super) fn can_open(&self) -> bool {
        self.open.opens.is_none()
    }

    /// Adds the opening of a session; returns the batch.
    pub(super) fn add_opening(&mut self, router: u128) -> u64 {
        self.open.opens = Some(router);
        self.grow(OPENING_BYTES);
        let number = self.open.number;
        self.close_if_full();
        number
    }

    /// Whether a batch is offered and there is more to come, in here or of `others`.
    pub(super) fn awaits_index(&self, others: bool) -> bool {
        self.offered.is_some() && (others || !self.closed.is_empty() || !self.open.is_empty())
    }

    /// Remembers that a command of the open batch failed.
    pub(super) fn note_failure(&mut self) {
        self.open.failures = true;
    }

    fn grow(&mut self, bytes: usize) {
        self.open.bytes += bytes;
        self.gathered_bytes += bytes;
    }

    fn shrink(&mut self, bytes: usize) {
        self.open.bytes -= bytes;
        self.gathered_bytes -= bytes;
    }

    fn close_if_full(&mut self) {
        if self.open.commands() >= self.bounds.batch_commands
            || self.open.bytes >= self.bounds.batch_bytes
        {
            self.close();
        }
    }

    fn close(&mut self) {
        let next = Assembled {
            number: self.open.number + 1,
            ..Assembled::default()
        };
        self.closed
            .push_back(std::mem::replace(&mut self.open, next));
    }

    /// Whatever is open may be offered as soon as its turn comes.
    pub(super) fn flush(&mut self) {
        self.flush = !self.open.is_empty();
    }

    /// The next batch for the group, if its turn has come. It stays offered until [`taken`](Self::taken).
    pub(super) fn offer(&mut self) -> Option<&Assembled> {
        if self.offered.is_some()
            || self.in_flight.len() >= IN_FLIGHT_BATCHES
            || self.in_flight_bytes >= self.bounds.in_flight_bytes
        {
            return None;
        }
        if self.closed.is_empty() && self.flush && !self.open.is_empty() {
            self.close();
            self.flush = false;
        }
        self.offered = self.closed.pop_front();
        self.offered.as_ref()
    }

    /// The group took the offered batch as entry `index`.
    pub(super) fn taken(&mut self, number: u64, index: LogIndex) -> Option<Assembled> {
        if self.offered.as_ref()?.number != number {
            return None;
        }
        let batch = self.offered.take()?;
        self.gathered_bytes -= batch.bytes;
        self.in_flight_bytes += batch.bytes;
        self.in_flight.push_back(InFlight {
            number,
            index,
            bytes: batch.bytes,
        });
        Some(batch)
    }

    /// The group refused the offered batch: it, and all that was computed on top of it, will never be. Returns them,
    /// oldest first, and the newest batch that is still to be applied.
    pub(super) fn refused(&mut self, number: u64) -> Option<(Vec<Assembled>, Option<u64>)> {
        if self.offered.as_ref()?.number != number {
            return None;
        }
        let mut lost = Vec::new();
        lost.extend(self.offered.take());
        lost.extend(self.closed.drain(..));
        let next = Assembled {
            number: self.open.number + 1,
            ..Assembled::default()
        };
        lost.push(std::mem::replace(&mut self.open, next));
        self.gathered_bytes = 0;
        self.flush = false;
        Some((lost, self.in_flight.back().map(|batch| batch.number)))
    }

    /// Entries up to `index` are applied; returns the newest batch among them.
    pub(super) fn applied(&mut self, index: LogIndex) -> Option<u64> {
        let mut newest = None;
        while let Some(first) = self.in_flight.front() {
            if first.index > index {
                break;
            }
            newest = Some(first.number);
            self.in_flight_bytes -= first.bytes;
            self.in_flight.pop_front();
        }
        newest
    }

    /// True when the batch was handed to the group: its effects may get into the log.
    pub(super) fn handed_out(&self, number: u64) -> bool {
        let first_inside = self
            .closed
            .front()
            .map_or(self.open.number, |batch| batch.number);
        number < first_inside
    }
}
