//! Claims about the router's core, each a short script: one event, then what it sends and how calls end.
//!
//! Here: [`Rig`], which holds the core, moves the clock and collects outputs; the scripts by family. `model` drives many
//! calls against a model shard under loss, delay, duplication and reordering.

mod leaders;
mod model;
mod outcomes;
mod sessions;
mod shell;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Answered, AskError, AskSpec, CallId, Mode, RouterCore, RouterOptions, RouterOutput};
use crate::wire::{
    Intent, Outcome, Refusal, Reply, Request, RoutingTable, SessionId, ShardId, ShardPlace,
    Sharding, StoreAddress,
};

const ROUTER: u128 = 77;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn store(store: u64) -> StoreAddress {
    StoreAddress {
        store,
        name: format!("n{store}"),
        addresses: Vec::new(),
    }
}

/// Three stores, `shards` shards, each on all three, led as `leader` says.
fn table(epoch: u64, shards: u32, leader: Option<u64>) -> Arc<RoutingTable> {
    Arc::new(RoutingTable {
        cluster: 1,
        epoch,
        sharding: Sharding { seed: 5, shards },
        stores: [1, 2, 3].map(store).to_vec(),
        shards: vec![
            ShardPlace {
                replicas: vec![1, 2, 3],
                leader
            };
            shards as usize
        ],
    })
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Sent {
    to: u64,
    request: Request,
}

impl Sent {
    fn reply(&self, logged: bool, outcome: Outcome) -> Reply {
        Reply {
            id: self.request.id,
            attempt: self.request.attempt,
            logged,
            outcome,
        }
    }

    fn command(&self) -> (SessionId, u64, u64) {
        match self.request.intent {
            Intent::Command {
                session,
                sequence,
                lowest,
            } => (session, sequence, lowest),
            ref other => panic!("not a command: {other:?}"),
        }
    }

    fn opens(&self) -> bool {
        matches!(self.request.intent, Intent::OpenSession { .. })
    }
}

/// A core with its clock and everything it put out.
struct Rig {
    core: RouterCore,
    now: Duration,
    sent: Vec<Sent>,
    done: Vec<(CallId, Result<Answered, AskError>)>,
    table_wanted: usize,
}

impl Rig {
    /// Without a table.
    fn bare(options: RouterOptions, local: Option<u64>) -> Self {
        Self {
            core: RouterCore::new(options.check().unwrap(), ROUTER, local, 9),
            now: ms(1_000),
            sent: Vec::new(),
            done: Vec::new(),
            table_wanted: 0,
        }
    }

    /// One shard led by store 1.
    fn new() -> Self {
        let mut rig = Self::bare(RouterOptions::default(), None);
        rig.table(table(1, 1, Some(1)));
        rig
    }

    /// The same with session 10 open and nothing on its way.
    fn with_session() -> Self {
        let mut rig = Self::new();
        let call = rig.command(10_000);
        rig.open_session(10);
        let [sent] = rig.take();
        rig.answer(&sent, true, b"ok");
        rig.ended(call).unwrap();
        rig
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                RouterOutput::Send { store, request } => {
                    self.sent.push(Sent { to: store, request })
                }
                RouterOutput::Done { call, result } => self.done.push((call, result)),
                RouterOutput::NeedTable => self.table_wanted += 1,
            }
        }
    }

    fn table(&mut self, table: Arc<RoutingTable>) {
        self.core.table(self.now, table);
        self.drain();
    }

    fn ask(&mut self, key: &str, mode: Mode, patience: u64) -> CallId {
        let call = self.core.ask(
            self.now,
            AskSpec {
                kind: "account".to_owned(),
                key: key.to_owned(),
                message: "Deposit".to_owned(),
                body: Bytes::from_static(b"5"),
                mode,
                deadline: self.now + ms(patience),
                trace: None,
            },
        );
        self.drain();
        call
    }

    fn command(&mut self, patience: u64) -> CallId {
        self.ask("alice", Mode::Command, patience)
    }

    fn query(&mut self, patience: u64) -> CallId {
        self.ask("alice", Mode::Query, patience)
    }

    /// Everything sent since the last look; as many as the pattern says.
    #[track_caller]
    fn take<const N: usize>(&mut self) -> [Sent; N] {
        let sent = std::mem::take(&mut self.sent);
        let count = sent.len();
        sent.try_into()
            .unwrap_or_else(|sent| panic!("{count} requests instead of {N}: {sent:#?}"))
    }

    fn reply(&mut self, sent: &Sent, logged: bool, outcome: Outcome) {
        self.core
            .reply(self.now, sent.to, sent.reply(logged, outcome));
        self.drain();
    }

    fn answer(&mut self, sent: &Sent, logged: bool, body: &'static [u8]) {
        let body = Bytes::from_static(body);
        self.reply(sent, logged, Outcome::Done { body, age_ms: 0 });
    }

    fn refuse(&mut self, sent: &Sent, refusal: Refusal) {
        self.reply(sent, false, Outcome::Refused(refusal));
    }

    fn not_leader(&mut self, sent: &Sent, leader: Option<u64>) {
        self.refuse(sent, Refusal::NotLeader { leader });
    }

    /// Answers the one request under way, which opens the session.
    #[track_caller]
    fn open_session(&mut self, session: u64) {
        let [sent] = self.take();
        assert_eq!(sent.request.intent, Intent::OpenSession { router: ROUTER });
        let session = SessionId(session);
        self.reply(&sent, true, Outcome::Opened { session });
    }

    /// Moves the clock, stopping wherever the core asked to be woken.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.tick(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Moves the clock until something was sent, for at most 10 s.
    #[track_caller]
    fn pass_until_sent(&mut self) -> Duration {
        let start = self.now;
        while self.sent.is_empty() {
            let at = self.core.wake_at().expect("something is due");
            assert!(at <= start + ms(10_000), "nothing was sent for 10 s");
            self.now = self.now.max(at);
            self.core.tick(self.now);
            self.drain();
        }
        self.now - start
    }

    /// How a call ended.
    #[track_caller]
    fn ended(&mut self, call: CallId) -> Result<Answered, AskError> {
        let at = self.done.iter().position(|(done, _)| *done == call);
        let at = at.expect("the call has ended");
        self.done.remove(at).1
    }

    fn running(&self, call: CallId) -> bool {
        self.done.iter().all(|(done, _)| *done != call)
    }
}

fn not_led() -> Outcome {
    Outcome::Refused(Refusal::NotLeader { leader: None })
}

fn shard() -> ShardId {
    ShardId::main(0)
}
