//! The side that dials: attempts with back-off, hello, and calls.
//!
//! Nothing tells that a killed process is back, so as long as somebody wants to send, a new attempt starts every
//! [`pause`] beside the ones still open: the first that answers is taken. A single attempt would find its peer only when
//! QUIC repeats its first packet, ever more rarely.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use quinn::Endpoint;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant as TokioInstant, sleep_until, timeout, timeout_at},
};

use super::{
    CallError,
    accept::facts,
    certificates::NODE_DNS_NAME,
    closing::{Closing, explain},
    core::{Core, Met},
    frame,
    hello::{HELLO_BYTES, Hello, Purpose, Refusal},
    link::{count_wire, read_single},
    outbox::lock,
    party::{Party, lanes, slot},
};

/// Attempts open at a time to one peer; the oldest is given up for a new one.
const ATTEMPTS_MAX: usize = 4;
/// One attempt, over a path with a round trip of half a second.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Failing for so long, a store counts as unreachable: what waits for it is dropped, and sends are refused at once.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(1);
/// Between attempts after a refusal that repeats itself until somebody changes something.
const PAUSE_REFUSED: Duration = Duration::from_secs(2);

/// Time between the starts of two attempts. At first a restart must be found within 200 ms; who is away for long costs
/// little (corrosion#573: two days of attempts at full rate).
fn pause(failing_for: Duration) -> Duration {
    match failing_for.as_secs() {
        0..15 => Duration::from_millis(120),
        15..60 => Duration::from_millis(400),
        _ => Duration::from_millis(1_500),
    }
}

/// How long a store was tried in vain. Only time that was meant for trying counts: when this machine stood still, the
/// store was not asked, and what waits for it must not be dropped for that.
#[derive(Clone, Copy, Debug, Default)]
struct InVain(Duration);

impl InVain {
    /// One round is over that was planned to take so long, and took so long.
    fn round(&mut self, planned: Duration, took: Duration) {
        self.0 += took.min(planned);
    }

    fn is_enough(self) -> bool {
        self.0 >= UNREACHABLE_AFTER
    }
}

/// Attempts to one peer that run beside each other.
struct Attempts {
    core: Arc<Core>,
    endpoint: Endpoint,
    purpose: Purpose,
    expects: Option<u64>,
    running: JoinSet<Result<Dialled, Refusal>>,
    order: VecDeque<AbortHandle>,
    /// Attempts to which the other end has begun to answer.
    answered: Arc<AtomicUsize>,
}

/// A connection whose other end waits for "go".
struct Dialled {
    met: Met,
    go: quinn::SendStream,
}

impl Attempts {
    fn new(core: &Arc<Core>, endpoint: &Endpoint, purpose: Purpose, expects: Option<u64>) -> Self {
        let (core, endpoint) = (core.clone(), endpoint.clone());
        Self {
            core,
            endpoint,
            purpose,
            expects,
            running: JoinSet::new(),
            order: VecDeque::new(),
            answered: Arc::default(),
        }
    }

    fn start(&mut self, address: SocketAddr) {
        // A handshake on the way is only slow, perhaps because many want the same: more of them would make it worse.
        if self.answered.load(Ordering::Relaxed) > 0 {
            return;
        }
        self.order.retain(|attempt| !attempt.is_finished());
        if self.order.len() >= ATTEMPTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.core.counters.dials.one();
        let (core, endpoint, purpose, expects) = (
            self.core.clone(),
            self.endpoint.clone(),
            self.purpose,
            self.expects,
        );
        let answered = self.answered.clone();
        self.order.push_back(self.running.spawn(async move {
            let attempt = attempt(&core, &endpoint, address, purpose, expects, &answered);
            let result = timeout(ATTEMPT_TIMEOUT, attempt)
                .await
                .unwrap_or_else(|_| Err(Refusal::passing("nothing came from there".to_owned())));
            if result.is_err() {
                core.counters.dials_failed.one();
            }
            result
        }));
    }

    /// The next result until `pause_ends`; `None` then.
    async fn next(&mut self, pause_ends: TokioInstant) -> Option<Result<Dialled, Refusal>> {
        loop {
            if self.running.is_empty() {
                sleep_until(pause_ends).await;
                return None;
            }
            match timeout_at(pause_ends, self.running.join_next()).await {
                Err(_) => return None,
                Ok(Some(Ok(result))) => return Some(result),
                Ok(Some(Err(_)) | None) => {} // given up for a newer one
            }
        }
    }
}

impl Dialled {
    /// Tells the other end that this connection is kept.
    async fn go(mut self) -> Result<Met, Refusal> {
        self.go.write_all(b"!").await.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => explain(&error),
            error => Refusal::passing(error.to_string()),
        })?;
        drop(self.go.finish()); // fails only when it was stopped
        Ok(self.met)
    }
}

/// Counts one attempt for as long as it lasts.
struct Answered<'a>(&'a AtomicUsize);

impl<'a> Answered<'a> {
    fn one(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn attempt(
    core: &Core,
    endpoint: &Endpoint,
    address: SocketAddr,
    purpose: Purpose,
    expects: Option<u64>,
    answered: &AtomicUsize,
) -> Result<Dialled, Refusal> {
    let lost = |error: quinn::ConnectionError| explain(&error);
    let ours = core.hello(purpose, expects);
    let connecting = if purpose == Purpose::Main && ours.store.is_some() {
        endpoint.connect_with(core.between_nodes.clone(), address, NODE_DNS_NAME)
    } else {
        endpoint.connect(address, NODE_DNS_NAME)
    };
    let mut connecting = connecting
        .map_err(|error| Refusal::lasting(format!("{address} cannot be dialled ({error})")))?;
    connecting.handshake_data().await.map_err(lost)?;
    let _answered = Answered::one(answered);
    let connection = connecting.await.map_err(lost)?;
    let result = async {
        let (mut go, mut receive) = connection.open_bi().await.map_err(lost)?;
        let sent = go.write_chunk(frame::single(&ours.encode())).await;
        let theirs = read_single(&mut receive, HELLO_BYTES).await;
        // Whatever failed, the connection's own end says best why.
        if let (Some(error), true) = (connection.close_reason(), sent.is_err() || theirs.is_err()) {
            return Err(explain(&error));
        }
        let hello = Hello::decode(&theirs.map_err(Refusal::passing)?)?;
        let facts = facts(&connection)?;
        let protocol = ours.meet(&hello, &facts)?;
        core.objections(
            &Hello {
                purpose,
                ..hello.clone()
            },
            &core.peer(&hello, &facts, 0),
        )?;
        let met = Met {
            connection: connection.clone(),
            hello,
            facts,
            protocol,
            purpose,
            dialled: true,
        };
        Ok(Dialled { met, go })
    }
    .await;
    if let Err(refusal) = &result {
        Closing::RefusedPassing.close(&connection, &refusal.reason);
    }
    result
}

impl Core {
    /// Sees to it that somebody dials `party`, if there is anything to dial for.
    pub(super) fn ensure_dial(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        party: &Arc<Party>,
        purpose: Purpose,
    ) {
        let Some(store) = party.store else { return };
        if self.is_closed() || !party.has_address.load(Ordering::Relaxed) {
            return;
        }
        let mut state = lock(&party.state);
        let has_link = state.links[slot(purpose)].is_some();
        let suspect = purpose == Purpose::Main && state.suspect;
        let dialling = match purpose {
            Purpose::Bulk => std::mem::replace(&mut state.dialling_bulk, true),
            _ => party.dialling.load(Ordering::Relaxed),
        };
        if dialling || (has_link && !suspect) {
            if !dialling && purpose == Purpose::Bulk {
                state.dialling_bulk = false;
            }
            return;
        }
        if purpose != Purpose::Bulk {
            party.dialling.store(true, Ordering::Relaxed);
        }
        drop(state);
        tokio::spawn(dial(
            self.clone(),
            endpoint.clone(),
            party.clone(),
            store,
            purpose,
        ));
    }

    /// Whether dialling `party` still makes sense.
    fn wants_dial(&self, party: &Party, purpose: Purpose) -> bool {
        if self.is_closed() || !party.has_address.load(Ordering::Relaxed) {
            return false;
        }
        let state = lock(&party.state);
        let suspect = purpose == Purpose::Main && state.suspect;
        if state.links[slot(purpose)].is_some() {
            return suspect;
        }
        drop(state);
        party.outbox.waits(lanes(purpose))
            || (purpose == Purpose::Main && (party.is_wanted() || party.outbox.datagrams_wait()))
    }
}

/// Dials one store until there is a connection or nobody wants one any more.
async fn dial(
    core: Arc<Core>,
    endpoint: Endpoint,
    party: Arc<Party>,
    store: u64,
    purpose: Purpose,
) {
    let mut began = Instant::now();
    let mut in_vain = InVain::default();
    let _ = party.poke.notified().now_or_never(); // what happened before this is known
    let mut attempts = Attempts::new(&core, &endpoint, purpose, Some(store));
    let mut started = 0;
    'attempts: while core.wants_dial(&party, purpose) {
        let address = {
            let addresses = lock(&party.addresses);
            addresses.get(started % addresses.len().max(1)).copied()
        };
        let Some(address) = address else { break };
        attempts.start(address);
        started += 1;
        let failing = party.unreachable_for().unwrap_or(in_vain.0);
        let mut round = TokioInstant::now();
        let mut pause_ends = round + pause(failing);
        loop {
            tokio::select! {
                result = attempts.next(pause_ends) => match result {
                    None => break,
                    Some(Ok(dialled)) => {
                        if !core.still_wants(&party, &dialled.met) {
                            Closing::Superseded.close(&dialled.met.connection, "another connection is in use");
                            break 'attempts;
                        }
                        if let Ok(met) = dialled.go().await {
                            core.register(met);
                            break 'attempts;
                        }
                    }
                    Some(Err(refusal)) => {
                        if refusal.lasting {
                            pause_ends = pause_ends.max(TokioInstant::now() + PAUSE_REFUSED);
                        }
                        core.note_refusal(&party, store, address, &refusal);
                    }
                },
                () = party.poke.notified(), if purpose == Purpose::Main => {
                    // Another address, or a connection that came in.
                    (began, in_vain, round) = (Instant::now(), InVain::default(), TokioInstant::now());
                    break;
                }
            }
        }
        in_vain.round(pause_ends - round, round.elapsed());
        let has_link = lock(&party.state).links[slot(purpose)].is_some();
        if in_vain.is_enough() && !has_link {
            if purpose == Purpose::Main {
                party.set_unreachable(began);
            }
            core.counters
                .dropped_unreachable
                .add(party.outbox.clear(lanes(purpose)));
        }
    }
    match purpose {
        Purpose::Bulk => lock(&party.state).dialling_bulk = false,
        _ => party.dialling.store(false, Ordering::Release),
    }
    // Somebody may have put something in after the last look and seen that dialling goes on.
    if core.wants_dial(&party, purpose) {
        core.ring(party);
    }
}

impl Core {
    /// Logs what keeps this process from talking to a store: once, until it changes.
    fn note_refusal(&self, party: &Party, store: u64, address: SocketAddr, refusal: &Refusal) {
        let mut state = lock(&party.state);
        if state.last_refusal == refusal.reason {
            return;
        }
        state.last_refusal.clone_from(&refusal.reason);
        drop(state);
        if refusal.lasting {
            tracing::warn!(store, %address, %refusal, "the store cannot be talked to");
        } else {
            tracing::debug!(store, %address, %refusal, "the store cannot be reached");
        }
    }
}

/// One call, from dialling to the answer.
pub(super) async fn call(
    core: Arc<Core>,
    endpoint: Endpoint,
    address: SocketAddr,
    question: Bytes,
    deadline: Duration,
) -> Result<Bytes, CallError> {
    let ends = TokioInstant::now() + deadline;
    let began = Instant::now();
    let mut attempts = Attempts::new(&core, &endpoint, Purpose::Call, None);
    let mut reason = "nothing came from there".to_owned();
    let met = 'met: loop {
        attempts.start(address);
        let pause_ends = ends.min(TokioInstant::now() + pause(began.elapsed()));
        while let Some(result) = attempts.next(pause_ends).await {
            let result = match result {
                Ok(dialled) => dialled.go().await,
                Err(refusal) => Err(refusal),
            };
            match result {
                Ok(met) => break 'met met,
                Err(refusal) if refusal.lasting => {
                    return Err(CallError::Refused {
                        address,
                        reason: refusal.reason,
                    });
                }
                Err(refusal) => reason = refusal.reason,
            }
        }
        if TokioInstant::now() >= ends {
            return Err(CallError::Unreachable { address, reason });
        }
    };
    drop(attempts);
    let asked = timeout_at(ends, async {
        let (mut send, mut receive) = met
            .connection
            .open_bi()
            .await
            .map_err(|error| explain(&error).reason)?;
        let sent = send.write_chunk(frame::single(&question)).await;
        drop(sent.map(|()| send.finish())); // what went wrong shows when reading
        read_single(&mut receive, core.limits.frame_bytes).await
    })
    .await;
    Closing::Done.close(&met.connection, "the call is done");
    count_wire(&met.connection, &core.counters, &mut [0; 4]);
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(reason)) => Err(CallError::Unanswered { address, reason }),
        Err(_) => Err(CallError::Deadline { address, deadline }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stood_still_has_tried_nobody_in_vain() {
        // The thread did not run for a minute while it dialled: the frames that wait are kept for the next attempts.
        let mut in_vain = InVain::default();
        in_vain.round(pause(in_vain.0), Duration::from_secs(60));
        assert!(!in_vain.is_enough());
        let mut rounds = 1;
        while !in_vain.is_enough() {
            in_vain.round(pause(in_vain.0), pause(in_vain.0));
            rounds += 1;
        }
        assert_eq!(rounds, 9, "as many as fit into {UNREACHABLE_AFTER:?}");
    }
}
