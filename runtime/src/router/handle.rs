//! The router of one process: the core behind a lock, driven on the thread of whoever calls (S9).
//!
//! Here: [`Router`], its waiters (one slot per call, woken outside the lock) and its timekeeper, a thread of its own, so
//! that deadlines and retries do not depend on an executor that user code may block.
//! Not here: typed calls (`entities`), what to do (`core`), how requests travel (`courier`).

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::calls::SLOT_BITS;
use super::entities::{Entities, RawAsk};
use super::{
    Answered, AskError, AskSpec, CallId, CheckedRouterOptions, Courier, Mode, RouterCore,
    RouterCounters, RouterOutput,
};
use crate::entity::Entity;
use crate::wire::{Reply, Request, RoutingTable, ShardId};

/// How a call ends.
pub(super) type End = Result<Answered, AskError>;

/// Finds the leader of an entity's shard and sees a call through. Cheap to clone, usable from any thread and any
/// executor. Closed by [`close`](Self::close), or with its last clone.
#[derive(Clone)]
pub struct Router(Arc<Handle>);

/// What all clones share; its end is the router's end.
struct Handle(Arc<Shared>);

struct Shared {
    origin: Instant,
    deadline: Duration,
    state: Mutex<State>,
    /// Wakes the timekeeper: something is due before `State::armed`, or the router is closed.
    sooner: Condvar,
}

struct State {
    core: RouterCore,
    /// By slot of the call.
    waiters: Vec<Option<oneshot::Sender<End>>>,
    /// Gone once the router is closed: the courier may hold the router.
    courier: Option<Arc<dyn Courier>>,
    /// What the timekeeper waits for; zero while it is at work, `MAX` when nothing is due.
    armed: Duration,
}

/// What is left to do once the lock is released.
#[derive(Default)]
struct Errands {
    sendings: Vec<(u64, Vec<Request>)>,
    ends: Vec<(oneshot::Sender<End>, End)>,
    need_table: bool,
    courier: Option<Arc<dyn Courier>>,
}

impl Router {
    /// Starts a router with its timekeeper. `local` is the store of this process, if it is a node; `seed` is the source
    /// of its jitter. Calls wait until [`table`](Self::table) has brought a first table.
    ///
    /// # Panics
    /// When the system refuses a thread.
    pub fn start(
        options: CheckedRouterOptions,
        local: Option<u64>,
        seed: u64,
        courier: Arc<dyn Courier>,
    ) -> Self {
        let deadline = options.deadline;
        let identity = rand::random(); // never the seed's: two routers of one identity would share sessions
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            deadline,
            state: Mutex::new(State {
                core: RouterCore::new(options, identity, local, seed),
                waiters: Vec::new(),
                courier: Some(courier),
                armed: Duration::ZERO,
            }),
            sooner: Condvar::new(),
        });
        let timekeeper = shared.clone();
        thread::Builder::new()
            .name("synod-router".to_owned())
            .spawn(move || timekeeper.keep_time())
            .expect("the system refused a thread for the router's timekeeper");
        Self(Arc::new(Handle(shared)))
    }

    /// The entities of a kind.
    pub fn entities<E: Entity>(&self) -> Entities<E> {
        Entities::new(self.clone())
    }

    /// A call by names and bytes, for tools that know no types. `body` is the message, the answer is the result, both
    /// in named MessagePack. Nothing is sent before the first poll; dropping it later cancels nothing.
    pub fn ask_raw(
        &self,
        kind: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
        body: Bytes,
        mode: Mode,
        deadline: Duration,
    ) -> RawAsk {
        let spec = AskSpec {
            kind: kind.into(),
            key: key.into(),
            message: message.into(),
            body,
            mode,
            deadline,
            trace: None,
        };
        RawAsk::new(self.clone(), spec)
    }

    /// Replies of a store arrived.
    pub fn replies(&self, store: u64, replies: Vec<Reply>) {
        self.with(|core, now| {
            for reply in replies {
                core.reply(now, store, reply);
            }
        });
    }

    /// A table arrived.
    pub fn table(&self, table: Arc<RoutingTable>) {
        self.with(|core, now| core.table(now, table));
    }

    /// Somebody who should know (the local group, gossip) says who leads.
    pub fn leader(&self, shard: ShardId, store: u64) {
        self.with(|core, now| core.leader(now, shard, store));
    }

    /// There is a connection to the store.
    pub fn connected(&self, store: u64) {
        self.with(|core, now| core.connected(now, store));
    }

    /// The connection to the store was lost, or a failure detector calls it dead.
    pub fn disconnected(&self, store: u64) {
        self.with(|core, now| core.disconnected(now, store));
    }

    /// The table in use.
    pub fn routing_table(&self) -> Option<Arc<RoutingTable>> {
        self.0.0.lock().core.routing_table().cloned()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> RouterCounters {
        self.0.0.lock().core.counters()
    }

    /// Calls that have not ended.
    pub fn outstanding(&self) -> usize {
        self.0.0.lock().core.outstanding()
    }

    /// Ends every call, refused if it was not evaluated, else unknown; refuses all that come; lets go of the courier.
    pub fn close(&self) {
        self.0.0.close();
    }

    /// What a call gets when its caller names no deadline.
    pub(super) fn default_deadline(&self) -> Duration {
        self.0.0.deadline
    }

    /// Makes the call; `spec.deadline` counts from now.
    pub(super) fn begin(&self, spec: AskSpec) -> oneshot::Receiver<End> {
        let shared = &self.0.0;
        let (waiter, end) = oneshot::channel();
        let mut state = shared.lock();
        let now = shared.now();
        let deadline = now.saturating_add(spec.deadline);
        let call = state.core.ask(now, AskSpec { deadline, ..spec });
        state.await_end(call, waiter);
        shared.settle(state);
        end
    }

    fn with(&self, work: impl FnOnce(&mut RouterCore, Duration)) {
        self.0.0.with(work);
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of the user's runs under the lock. A panic there is a broken invariant of the core: go no further.
        self.state.lock().expect("the router's core is whole")
    }

    fn with(&self, work: impl FnOnce(&mut RouterCore, Duration)) {
        let mut state = self.lock();
        let now = self.now(); // under the lock, so that the core never sees time go back
        work(&mut state.core, now);
        self.settle(state);
    }

    /// Releases the lock and does what the core put out.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        loop {
            let errands = state.errands();
            if state.core.wake_at().is_some_and(|at| at < state.armed) {
                self.sooner.notify_one();
            }
            drop(state);
            let unsent = errands.run();
            if unsent.is_empty() {
                return;
            }
            state = self.lock();
            let now = self.now();
            for (store, call, attempt) in unsent {
                state.core.unsent(now, store, call, attempt);
            }
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.core.close();
        let courier = state.courier.take();
        self.sooner.notify_one();
        self.settle(state);
        drop(courier); // it may hold the last clone of this router: not under the lock
    }

    /// The body of the timekeeper's thread.
    fn keep_time(&self) {
        let mut state = self.lock();
        while state.courier.is_some() {
            let now = self.now();
            let due = state.core.wake_at();
            state = match due.map(|at| at.saturating_sub(now)) {
                Some(Duration::ZERO) => {
                    state.armed = Duration::ZERO;
                    state.core.tick(now);
                    self.settle(state);
                    self.lock()
                }
                Some(rest) => {
                    state.armed = now + rest;
                    let woken = self.sooner.wait_timeout(state, rest);
                    woken.expect("the router's core is whole").0
                }
                None => {
                    state.armed = Duration::MAX;
                    let woken = self.sooner.wait(state);
                    woken.expect("the router's core is whole")
                }
            };
        }
    }
}

impl State {
    fn await_end(&mut self, call: CallId, waiter: oneshot::Sender<End>) {
        let slot = slot_of(call);
        if slot >= self.waiters.len() {
            self.waiters.resize_with(slot + 1, || None);
        }
        self.waiters[slot] = Some(waiter);
    }

    fn errands(&mut self) -> Errands {
        let mut errands = Errands::default();
        while let Some(output) = self.core.poll_output() {
            match output {
                RouterOutput::Send { store, request } => {
                    let sendings = &mut errands.sendings;
                    match sendings.iter_mut().find(|(to, _)| *to == store) {
                        Some((_, requests)) => requests.push(request),
                        None => sendings.push((store, vec![request])),
                    }
                }
                RouterOutput::Done { call, result } => {
                    let waiter = self.waiters.get_mut(slot_of(call)).and_then(Option::take);
                    errands.ends.extend(waiter.map(|waiter| (waiter, result)));
                }
                RouterOutput::NeedTable => errands.need_table = true,
            }
        }
        if !errands.sendings.is_empty() || errands.need_table {
            errands.courier.clone_from(&self.courier);
        }
        errands
    }
}

impl Errands {
    /// Returns what did not leave: store, call, attempt.
    fn run(self) -> Vec<(u64, CallId, u32)> {
        for (waiter, end) in self.ends {
            drop(waiter.send(end)); // who dropped the future no longer cares
        }
        let mut unsent = Vec::new();
        let Some(courier) = self.courier else {
            return unsent; // closed: every call has ended
        };
        for (store, requests) in self.sendings {
            if let Err(back) = courier.send(store, requests) {
                let left = |request: Request| (store, CallId(request.id), request.attempt);
                unsent.extend(back.into_iter().map(left));
            }
        }
        if self.need_table {
            courier.need_table();
        }
        unsent
    }
}

fn slot_of(call: CallId) -> usize {
    (call.0 & ((1 << SLOT_BITS) - 1)) as usize
}
