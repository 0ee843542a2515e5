//! One connection in use: the tasks that read and write its streams.
//!
//! Here: a writer per lane that puts everything waiting into one write, a reader per lane that hands over everything one
//! read delivered, datagrams, and the answering of calls. All tasks end with the connection. Not here: how it came to
//! be (`dial`, `accept`), which connection is used (`core`).

use std::{
    array,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendDatagramError, SendStream, VarInt};
use tokio::sync::{Notify, oneshot};

use super::{
    CallAnswer, Lane, Peer,
    closing::Closing,
    core::{Core, Met},
    counters::Counters,
    frame::{self, OPENING_BYTES, Unpacker},
    hello::Purpose,
    outbox::lock,
    party::{Party, lanes},
};

/// What one write takes from a queue. The rest stays where it is bounded and can still leave by another connection.
/// What was asked over a connection is answered, or asked again, within this.
const ANSWERED: Duration = Duration::from_secs(2);
const WRITE_BYTES: usize = 256 << 10;
/// Most pieces (of at most one packet each) that one read takes.
const READ_CHUNKS: usize = 128;
/// How long the caller may take to send its question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Reset code of a call that gets no answer.
const UNANSWERED: VarInt = VarInt::from_u32(1);

/// A connection in use.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) connection: Connection,
    pub(super) peer: Peer,
    pub(super) party: Arc<Party>,
    pub(super) purpose: Purpose,
    /// By this side.
    pub(super) dialled: bool,
    pub(super) since: Instant,
    protocol: u16,
    /// Wakes the writer of a lane.
    ready: [Notify; Lane::ALL.len()],
    /// Bits of the lanes that have a writer, and of those that the other end has opened.
    written: AtomicU8,
    read: AtomicU8,
    retired: AtomicBool,
    /// Frames and datagrams in both directions: those of gossip, and all others.
    gossip: AtomicU64,
    traffic: AtomicU64,
    /// This side closes it because only gossip used it.
    rests: AtomicBool,
    seen: Mutex<Seen>,
}

impl Link {
    pub(super) fn new(id: u64, met: Met, peer: Peer, party: Arc<Party>) -> Self {
        let now = Instant::now();
        Self {
            id,
            connection: met.connection,
            peer,
            party,
            purpose: met.purpose,
            dialled: met.dialled,
            since: now,
            protocol: met.protocol,
            ready: array::from_fn(|_| Notify::new()),
            written: AtomicU8::new(0),
            read: AtomicU8::new(0),
            retired: AtomicBool::new(false),
            gossip: AtomicU64::new(0),
            traffic: AtomicU64::new(0),
            rests: AtomicBool::new(false),
            seen: Mutex::new(Seen::new(now)),
        }
    }

    /// Starts the tasks that read, and the one that notes the end.
    pub(super) fn start(self: &Arc<Self>, core: &Arc<Core>) {
        tokio::spawn(read_lanes(core.clone(), self.clone()));
        if self.purpose == Purpose::Main {
            tokio::spawn(read_datagrams(core.clone(), self.clone()));
            tokio::spawn(answer_calls(
                core.clone(),
                self.connection.clone(),
                self.peer.clone(),
            ));
        }
        let (core, link) = (core.clone(), self.clone());
        tokio::spawn(async move {
            let error = link.connection.closed().await;
            core.unregister(&link, &error);
        });
    }

    /// Nothing new is written; what comes in is still read.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.ready.iter().for_each(Notify::notify_one);
    }

    /// Sees to it that what waits in `lane` is written.
    pub(super) fn wake(self: &Arc<Self>, core: &Arc<Core>, lane: Lane) {
        let bit = 1 << lane.index();
        if self.written.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tokio::spawn(write_lane(core.clone(), self.clone(), lane));
        }
        self.ready[lane.index()].notify_one();
    }

    /// The same for every lane and the datagrams.
    pub(super) fn wake_all(self: &Arc<Self>, core: &Arc<Core>) {
        for lane in lanes(self.purpose) {
            if self.party.outbox.waits([lane].into_iter()) {
                self.wake(core, lane);
            }
        }
        if self.purpose == Purpose::Main {
            self.send_datagrams(core);
        }
    }

    /// Gives all waiting datagrams to quinn, which sends at once or drops the oldest.
    pub(super) fn send_datagrams(&self, core: &Core) {
        for datagram in self.party.outbox.take_datagrams() {
            self.count(core.inbound.is_gossip(&datagram), 1);
            match self.connection.send_datagram(datagram) {
                Ok(()) => core.counters.datagrams_sent.one(),
                Err(SendDatagramError::TooLarge) => {
                    core.counters.refused_datagram_too_large.one();
                    self.note_max_datagram();
                }
                Err(_) => core.counters.dropped_unreachable.one(),
            }
        }
    }

    /// Remembers what the path takes now.
    pub(super) fn note_max_datagram(&self) {
        if let Some(bytes) = self.connection.max_datagram_size() {
            self.party.max_datagram.store(bytes, Ordering::Relaxed);
        }
    }

    fn count(&self, gossip: bool, items: usize) {
        let count = if gossip { &self.gossip } else { &self.traffic };
        count.fetch_add(items as u64, Ordering::Relaxed);
    }

    /// Whether this side closes it because only gossip used it.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// Whether nothing but gossip went over it for so long that nobody waits for an answer from there, or will ask again by himself.
    pub(super) fn owes_nothing(&self) -> bool {
        let seen = lock(&self.seen);
        let is_long_ago = |used: Instant| used.elapsed() >= ANSWERED;
        seen.traffic == self.traffic.load(Ordering::Relaxed) && seen.used.is_none_or(is_long_ago)
    }

    /// Takes it out of use and closes it: the next packet to that store dials anew.
    pub(super) fn put_to_rest(self: &Arc<Self>, core: &Arc<Core>) {
        core.counters.connections_put_to_rest.one();
        self.rests.store(true, Ordering::Relaxed);
        // First out of use, so that nothing is given to a connection that is closed.
        core.unregister(self, &quinn::ConnectionError::LocallyClosed);
        Closing::Rest.close(&self.connection, "only gossip used it");
    }

    /// Sends a packet that the other end acknowledges and that means nothing.
    pub(super) fn keep_alive(&self, core: &Core) {
        core.counters.keep_alives.one();
        // Fails only on a connection that has ended, which is noticed elsewhere.
        drop(self.connection.send_datagram(Bytes::new()));
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    fn protocol_broken(&self, core: &Core, reason: &str) {
        core.counters.connections_broken_protocol.one();
        tracing::warn!(peer = %self.peer.name, store = ?self.peer.store, reason, "the peer broke the protocol");
        Closing::Protocol.close(&self.connection, reason);
    }
}

async fn write_lane(core: Arc<Core>, link: Arc<Link>, lane: Lane) {
    let Ok(mut stream) = link.connection.open_uni().await else {
        return;
    };
    drop(stream.set_priority(lane.priority())); // fails only on a closed stream
    let mut pieces = vec![Bytes::copy_from_slice(&frame::opening(link.protocol, lane))];
    loop {
        if link.is_retired() {
            drop(stream.finish()); // likewise
            return;
        }
        let frames = link.party.outbox.take(lane, WRITE_BYTES);
        if frames.is_empty() {
            link.ready[lane.index()].notified().await;
            continue;
        }
        frame::pack(&frames, &mut pieces);
        core.counters.frames_sent.add(frames.len());
        core.counters.writes.one();
        link.count(lane == Lane::Gossip, frames.len());
        drop(frames);
        if stream.write_all_chunks(&mut pieces).await.is_err() {
            return; // with the connection
        }
        pieces.clear();
    }
}

async fn read_lanes(core: Arc<Core>, link: Arc<Link>) {
    while let Ok(stream) = link.connection.accept_uni().await {
        tokio::spawn(read_lane(core.clone(), link.clone(), stream));
    }
}

async fn read_lane(core: Arc<Core>, link: Arc<Link>, mut stream: RecvStream) {
    let mut opening = [0; OPENING_BYTES];
    if stream.read_exact(&mut opening).await.is_err() {
        return;
    }
    let lane = frame::read_opening(opening, link.protocol)
        .filter(|lane| lanes(link.purpose).any(|l| l == *lane));
    let Some(lane) = lane else {
        link.protocol_broken(&core, "a stream opens with something else than a lane");
        return;
    };
    if link.read.fetch_or(1 << lane.index(), Ordering::Relaxed) & (1 << lane.index()) != 0 {
        link.protocol_broken(&core, &format!("the {} lane is opened twice", lane.name()));
        return;
    }
    let mut unpacker = Unpacker::new(core.limits.frame_bytes);
    let mut chunks: [Bytes; READ_CHUNKS] = array::from_fn(|_| Bytes::new());
    let mut frames = Vec::new();
    while let Ok(Some(read)) = stream.read_chunks(&mut chunks).await {
        for chunk in &mut chunks[..read] {
            if let Err(error) = unpacker.push(std::mem::take(chunk), &mut frames) {
                link.protocol_broken(&core, &format!("{error} (lane {})", lane.name()));
                return;
            }
        }
        if !frames.is_empty() {
            core.counters.frames_received.add(frames.len());
            core.counters.reads.one();
            link.count(lane == Lane::Gossip, frames.len());
            core.inbound
                .frame(&link.peer, lane, std::mem::take(&mut frames));
        }
    }
}

async fn read_datagrams(core: Arc<Core>, link: Arc<Link>) {
    while let Ok(datagram) = link.connection.read_datagram().await {
        if datagram.is_empty() {
            continue; // keeps the connection alive
        }
        core.counters.datagrams_received.one();
        link.count(core.inbound.is_gossip(&datagram), 1);
        core.inbound.datagram(&link.peer, datagram);
    }
}

/// Takes questions until the connection ends. How many at a time is bounded by the streams that the other end may open.
pub(super) async fn answer_calls(core: Arc<Core>, connection: Connection, peer: Peer) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(answer_call(
            core.clone(),
            connection.clone(),
            peer.clone(),
            send,
            receive,
        ));
    }
}

async fn answer_call(
    core: Arc<Core>,
    connection: Connection,
    peer: Peer,
    mut send: SendStream,
    mut receive: RecvStream,
) {
    let question = tokio::time::timeout(
        QUESTION_TIMEOUT,
        read_single(&mut receive, core.limits.frame_bytes),
    )
    .await;
    let Ok(Ok(question)) = question else {
        drop(send.reset(UNANSWERED)); // fails only when the connection is gone
        return;
    };
    core.counters.calls_received.one();
    let (sender, answer) = oneshot::channel();
    core.inbound.call(&peer, question, CallAnswer { sender });
    let answer = tokio::select! {
        answer = answer => answer,
        _ = connection.closed() => return,
    };
    match answer {
        Ok(answer) if answer.len() <= core.limits.frame_bytes => {
            let sent = send.write_chunk(frame::single(&answer)).await;
            drop(sent.map(|()| send.finish())); // both fail only when the caller is gone
        }
        _ => drop(send.reset(UNANSWERED)),
    }
}

/// Reads one frame of at most `limit` bytes.
pub(super) async fn read_single(stream: &mut RecvStream, limit: usize) -> Result<Bytes, String> {
    let mut unpacker = Unpacker::new(limit);
    let mut frames = Vec::new();
    loop {
        match stream.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => unpacker
                .push(chunk.bytes, &mut frames)
                .map_err(|error| error.to_string())?,
            Ok(None) => return Err("it ended too early".to_owned()),
            Err(quinn::ReadError::Reset(UNANSWERED)) => return Err("it has no answer".to_owned()),
            Err(quinn::ReadError::ConnectionLost(error)) => {
                return Err(super::closing::explain(&error).reason);
            }
            Err(error) => return Err(error.to_string()),
        }
        if !frames.is_empty() {
            return Ok(frames.swap_remove(0));
        }
    }
}

/// What is remembered from one look to the next.
#[derive(Debug)]
struct Seen {
    at: Instant,
    /// Packets received, and since when none were.
    packets: u64,
    heard: Instant,
    /// What had been sent that asks for an acknowledgement when the last packet came in.
    asked: u64,
    /// How long the other end has owed an answer.
    silent: Duration,
    /// Frames and datagrams that are not gossip, and when that last changed, if it ever did.
    traffic: u64,
    used: Option<Instant>,
    /// All of them, and when that last changed.
    items: u64,
    touched: Instant,
    /// Of the wire what was counted already: packets and bytes sent, packets and bytes received.
    wire: [u64; 4],
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            packets: 0,
            heard: now,
            asked: 0,
            silent: Duration::ZERO,
            traffic: 0,
            used: None,
            items: 0,
            touched: now,
            wire: [0; 4],
        }
    }
}

/// What the periodic look found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Look {
    /// How long the other end has owed an answer to something. A look that comes late does not count for more than two, so
    /// that a process which stood still does not blame others.
    pub(super) silent: Duration,
    /// Since anything came.
    pub(super) unheard: Duration,
    /// Since there was anything but gossip; `None`: there never was.
    pub(super) unused: Option<Duration>,
    /// Since there was anything, or the connection began.
    pub(super) untouched: Duration,
}

impl Link {
    /// Looks what came and went since the last look, which should be `interval` ago.
    pub(super) fn look(&self, counters: &Counters, interval: Duration) -> Look {
        let stats = self.connection.stats();
        let (packets, asked) = (stats.udp_rx.datagrams, questions(&stats));
        let traffic = self.traffic.load(Ordering::Relaxed);
        let items = traffic + self.gossip.load(Ordering::Relaxed);
        let now = Instant::now();
        let mut seen = lock(&self.seen);
        let took = (now - seen.at).min(interval * 2);
        seen.at = now;
        if seen.packets != packets {
            (seen.packets, seen.heard) = (packets, now);
            (seen.asked, seen.silent) = (asked, Duration::ZERO);
        } else if seen.asked != asked {
            seen.silent += took;
        }
        if seen.traffic != traffic {
            (seen.traffic, seen.used) = (traffic, Some(now));
        }
        if seen.items != items {
            (seen.items, seen.touched) = (items, now);
        }
        let look = Look {
            silent: seen.silent,
            unheard: now - seen.heard,
            unused: seen.used.map(|used| now - used),
            untouched: now - seen.touched,
        };
        drop(seen);
        self.count_wire(counters);
        look
    }

    /// Adds what went over the wire since this was last called.
    pub(super) fn count_wire(&self, counters: &Counters) {
        let mut seen = lock(&self.seen);
        count_wire(&self.connection, counters, &mut seen.wire);
    }
}

/// Adds what went over the wire since `counted`.
pub(super) fn count_wire(connection: &Connection, counters: &Counters, counted: &mut [u64; 4]) {
    let stats = connection.stats();
    let now = [
        stats.udp_tx.datagrams,
        stats.udp_tx.bytes,
        stats.udp_rx.datagrams,
        stats.udp_rx.bytes,
    ];
    let counts = [
        &counters.wire_packets_sent,
        &counters.wire_bytes_sent,
        &counters.wire_packets_received,
        &counters.wire_bytes_received,
    ];
    for ((count, now), counted) in counts.into_iter().zip(now).zip(counted) {
        count.add((now - *counted) as usize);
        *counted = now;
    }
}

/// How much was sent that the other end must acknowledge: frames of the usual kinds, also when they are sent again, but not the search
/// for the path's MTU, whose packets may be too large for it (RFC 8899).
fn questions(stats: &quinn::ConnectionStats) -> u64 {
    let sent = &stats.frame_tx;
    let pings = sent.ping.saturating_sub(stats.path.sent_plpmtud_probes);
    pings + sent.datagram + sent.stream + sent.max_data + sent.max_stream_data
}
