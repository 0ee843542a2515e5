//! A shard on a table: one evaluator, one replicated state, and a log that commits when a test says so.
//!
//! Here: [`Bench`] and the entity that scripted tests use. Compiled for tests only.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{LogIndex, Term};

use super::{
    ApplyError, CheckedEvaluatorOptions, Evaluator, EvaluatorOptions, EvaluatorOutput, ReplyToken,
    ShardState,
};
use crate::entity::{Answer, Context, Entity, Handler, KindFactory, KindTable, Message, View};
use crate::wire::{self, Intent, Outcome, Reply, Request, SessionId, ShardId};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(
    kind = "account",
    commands(Deposit, Withdraw, Spoil, Idle, Slow, Grow, Chatter, Close, Late),
    queries(Balance, Name)
)]
pub(super) struct Account {
    pub(super) balance: u64,
    #[serde(default)]
    filler: Vec<u8>,
}

/// Adds.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(super) struct Deposit {
    pub(super) amount: u64,
}

/// Takes, or fails after having changed the instance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<u64, Overdrawn>")]
pub(super) struct Withdraw {
    pub(super) amount: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Overdrawn;

/// Changes the instance, then panics.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub(super) struct Spoil;

/// Changes nothing.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(super) struct Idle;

/// Reads, waits for the door, then writes what it read plus `amount`.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(super) struct Slow {
    pub(super) door: String,
    pub(super) amount: u64,
}

/// Makes the state this large.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(super) struct Grow {
    pub(super) bytes: usize,
}

/// Deposits 1 and answers with this many bytes.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Vec<u8>")]
pub(super) struct Chatter {
    pub(super) bytes: usize,
}

/// Deletes the entity.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(super) struct Close;

/// Deposits 1 and opens the door once that is committed.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub(super) struct Late {
    pub(super) door: String,
}

/// The balance.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(super) struct Balance;

/// Kind, key and node.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
pub(super) struct Name;

impl Handler<Deposit> for Account {
    async fn handle(&mut self, msg: Deposit, _cx: &mut Context<Self>) -> u64 {
        self.balance += msg.amount;
        self.balance
    }
}

impl Handler<Withdraw> for Account {
    async fn handle(&mut self, msg: Withdraw, _cx: &mut Context<Self>) -> Result<u64, Overdrawn> {
        let before = self.balance;
        self.balance = self.balance.saturating_sub(msg.amount);
        if msg.amount > before {
            return Err(Overdrawn); // the instance was spoiled; it must not be seen again
        }
        Ok(self.balance)
    }
}

impl Handler<Spoil> for Account {
    async fn handle(&mut self, _msg: Spoil, _cx: &mut Context<Self>) {
        self.balance = 666;
        panic!("spoiled on purpose");
    }
}

impl Handler<Idle> for Account {
    async fn handle(&mut self, _msg: Idle, _cx: &mut Context<Self>) -> u64 {
        self.balance
    }
}

impl Handler<Slow> for Account {
    async fn handle(&mut self, msg: Slow, _cx: &mut Context<Self>) -> u64 {
        let seen = self.balance;
        door(&msg.door).await;
        self.balance = seen + msg.amount;
        self.balance
    }
}

impl Handler<Grow> for Account {
    async fn handle(&mut self, msg: Grow, _cx: &mut Context<Self>) -> u64 {
        self.filler = vec![1; msg.bytes];
        self.balance
    }
}

impl Handler<Chatter> for Account {
    async fn handle(&mut self, msg: Chatter, _cx: &mut Context<Self>) -> Vec<u8> {
        self.balance += 1;
        vec![1; msg.bytes]
    }
}

impl Handler<Close> for Account {
    async fn handle(&mut self, _msg: Close, cx: &mut Context<Self>) -> u64 {
        cx.delete();
        self.balance
    }
}

impl Handler<Late> for Account {
    async fn handle(&mut self, msg: Late, cx: &mut Context<Self>) {
        self.balance += 1;
        cx.after_commit(move || open_door(&msg.door));
    }
}

impl Answer<Balance> for Account {
    async fn answer(&self, _q: Balance, _cx: &View<Self>) -> u64 {
        self.balance
    }
}

impl Answer<Name> for Account {
    async fn answer(&self, _q: Name, cx: &View<Self>) -> String {
        format!("{}/{} on {}", cx.kind(), cx.key(), cx.node())
    }
}

thread_local! {
    static DOORS: RefCell<(BTreeSet<String>, Vec<Waker>)> = RefCell::default();
}

async fn door(name: &str) {
    poll_fn(|cx| {
        DOORS.with_borrow_mut(|(open, wakers)| {
            if open.contains(name) {
                Poll::Ready(())
            } else {
                wakers.push(cx.waker().clone());
                Poll::Pending
            }
        })
    })
    .await;
}

/// Lets everybody pass who waits, or will wait, at this door of the thread.
pub(super) fn open_door(name: &str) {
    DOORS.with_borrow_mut(|(open, wakers)| {
        open.insert(name.to_owned());
        wakers.drain(..).for_each(Waker::wake);
    });
}

pub(super) fn is_open(name: &str) -> bool {
    DOORS.with_borrow(|(open, _)| open.contains(name))
}

/// A batch that the evaluator proposed.
pub(super) struct Proposal {
    pub(super) serial: u64,
    pub(super) batch: u64,
    pub(super) payload: Bytes,
}

pub(super) struct Bench {
    pub(super) evaluator: Evaluator,
    pub(super) state: Arc<Mutex<ShardState>>,
    pub(super) now: Duration,
    pub(super) proposals: VecDeque<Proposal>,
    pub(super) reads: VecDeque<(u64, u64)>,
    pub(super) replies: BTreeMap<u64, Reply>,
    pub(super) paused: bool,
    /// Taken by the group, not applied.
    log: VecDeque<(LogIndex, Bytes)>,
    last: LogIndex,
    token: u64,
}

impl Bench {
    /// Begins leadership 1 over an empty shard.
    pub(super) fn new() -> Self {
        Self::with(EvaluatorOptions::default())
    }

    pub(super) fn with(options: EvaluatorOptions) -> Self {
        let mut bench = Self::idle(options);
        bench.begin(1);
        bench
    }

    /// No leadership yet.
    pub(super) fn idle(options: EvaluatorOptions) -> Self {
        let options = EvaluatorOptions {
            node: "n1".to_owned(),
            ..options
        };
        Self::asleep(options.check().unwrap())
    }

    /// Beside others with the same bounds.
    pub(super) fn of(options: CheckedEvaluatorOptions) -> Self {
        let mut bench = Self::asleep(options);
        bench.begin(1);
        bench
    }

    fn asleep(options: CheckedEvaluatorOptions) -> Self {
        let state = Arc::new(Mutex::new(ShardState::new()));
        let kinds = Rc::new(KindTable::build(&[KindFactory::of::<Account>()]).unwrap());
        Self {
            evaluator: Evaluator::new(ShardId::main(0), Arc::clone(&state), kinds, options, 7),
            state,
            now: Duration::from_secs(1),
            proposals: VecDeque::new(),
            reads: VecDeque::new(),
            replies: BTreeMap::new(),
            paused: false,
            log: VecDeque::new(),
            last: LogIndex::ZERO,
            token: 0,
        }
    }

    /// The no-op of a new term, applied; then the leadership begins.
    pub(super) fn begin(&mut self, serial: u64) {
        self.last = self.last.next();
        self.log.push_back((self.last, Bytes::new()));
        self.apply();
        self.evaluator.begin(self.now, serial, Term::new(serial));
        self.drain();
    }

    pub(super) fn end(&mut self) {
        self.evaluator.end(self.now, Some(2));
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.evaluator.poll_output() {
            match output {
                EvaluatorOutput::Propose {
                    serial,
                    batch,
                    payload,
                } => self.proposals.push_back(Proposal {
                    serial,
                    batch,
                    payload,
                }),
                EvaluatorOutput::Read { serial, read } => self.reads.push_back((serial, read)),
                EvaluatorOutput::Reply { to, reply } => {
                    assert!(self.replies.insert(to.0, reply).is_none(), "answered twice");
                }
                EvaluatorOutput::Paused => self.paused = true,
            }
        }
    }

    pub(super) fn poll(&mut self) {
        let mut cx = TaskContext::from_waker(Waker::noop());
        self.evaluator.poll(self.now, &mut cx);
        self.drain();
    }

    pub(super) fn flush(&mut self) {
        self.evaluator.flush(self.now);
        self.drain();
    }

    pub(super) fn tick(&mut self, after: Duration) {
        self.now += after;
        self.evaluator.tick(self.now);
        self.drain();
    }

    /// Hands a request in without flushing.
    pub(super) fn send(&mut self, request: Request) -> u64 {
        self.token += 1;
        self.evaluator
            .request(self.now, request, ReplyToken(self.token));
        self.drain();
        self.token
    }

    /// The group takes every proposal; nothing is applied.
    pub(super) fn take(&mut self) {
        self.flush();
        while let Some(proposal) = self.proposals.pop_front() {
            self.last = self.last.next();
            self.log.push_back((self.last, proposal.payload));
            self.evaluator
                .proposed(self.now, proposal.serial, proposal.batch, Ok(self.last));
            self.drain();
        }
    }

    /// Everything in the log is committed and applied.
    pub(super) fn apply(&mut self) {
        self.try_apply().unwrap();
    }

    pub(super) fn try_apply(&mut self) -> Result<(), ApplyError> {
        while let Some((index, payload)) = self.log.pop_front() {
            {
                let mut state = self.state.lock().unwrap();
                if payload.is_empty() {
                    state.skip(index)?;
                } else {
                    state.apply(index, &payload)?;
                }
            }
            self.evaluator.applied(self.now, index);
            self.drain();
        }
        Ok(())
    }

    /// Another leader's entry takes its place in the log.
    pub(super) fn foreign(&mut self, payload: Bytes) {
        self.last = self.last.next();
        self.log.push_back((self.last, payload));
        self.apply();
    }

    pub(super) fn read(&mut self) {
        self.flush();
        while let Some((serial, read)) = self.reads.pop_front() {
            self.evaluator.read_ready(self.now, serial, read);
            self.drain();
        }
    }

    /// Everything that can end ends.
    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            self.poll();
            self.take();
            self.apply();
            self.read();
        }
    }

    pub(super) fn session(&mut self, router: u128) -> SessionId {
        let token = self.send(open(router));
        self.settle();
        match &self.replies[&token].outcome {
            Outcome::Opened { session } => *session,
            other => panic!("no session: {other:?}"),
        }
    }

    pub(super) fn outcome(&self, token: u64) -> Option<&Outcome> {
        self.replies.get(&token).map(|reply| &reply.outcome)
    }

    pub(super) fn done<T: serde::de::DeserializeOwned>(&self, token: u64) -> T {
        match self.outcome(token) {
            Some(Outcome::Done { body, .. }) => wire::decode(body).unwrap(),
            other => panic!("request {token} is not done: {other:?}"),
        }
    }

    pub(super) fn balance(&self, key: &str) -> u64 {
        let state = self.state.lock().unwrap();
        let image = state
            .image("account", key)
            .unwrap()
            .expect("the account exists");
        wire::decode::<Account>(&image.bytes).unwrap().balance
    }
}

pub(super) fn open(router: u128) -> Request {
    Request {
        id: 1,
        attempt: 1,
        shard: ShardId::main(0),
        intent: Intent::OpenSession { router },
        kind: String::new(),
        key: String::new(),
        message: String::new(),
        body: Bytes::new(),
        deadline_ms: 5_000,
        trace: None,
    }
}

/// Attempt 1 of a command to `account/a`.
pub(super) fn command<M>(session: SessionId, sequence: u64, message: &M) -> Request
where
    M: crate::CommandOf<Account>,
{
    Request {
        id: sequence,
        attempt: 1,
        shard: ShardId::main(0),
        intent: Intent::Command {
            session,
            sequence,
            lowest: 1,
        },
        kind: "account".to_owned(),
        key: "a".to_owned(),
        message: M::NAME.to_owned(),
        body: wire::encode(message),
        deadline_ms: 5_000,
        trace: None,
    }
}

pub(super) fn query<M: crate::QueryOf<Account>>(message: &M) -> Request {
    Request {
        intent: Intent::Query,
        message: M::NAME.to_owned(),
        kind: "account".to_owned(),
        key: "a".to_owned(),
        body: wire::encode(message),
        ..open(0)
    }
}

pub(super) fn again(mut request: Request) -> Request {
    request.attempt += 1;
    request
}

pub(super) fn at(key: &str, mut request: Request) -> Request {
    request.key = key.to_owned();
    request
}
