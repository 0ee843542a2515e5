//! The router as its users hold it: typed calls over a courier that is a shard by itself.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, OnceLock, Weak};
use std::task::Poll;
use std::thread;

use serde::{Deserialize, Serialize};

use super::*;
use crate::entity::{Answer, Context, Entity, Handler, Message, View};
use crate::router::{Courier, Refused, Router};

#[derive(Default, Serialize, Deserialize, Entity)]
#[entity(kind = "tally", commands(Add as "tally.add"), queries(Sum))]
struct Tally {
    sum: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<u64, String>")]
struct Add(u64);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Sum;

impl Handler<Add> for Tally {
    async fn handle(&mut self, Add(amount): Add, _cx: &mut Context<Self>) -> Result<u64, String> {
        self.sum += amount;
        Ok(self.sum)
    }
}

impl Answer<Sum> for Tally {
    async fn answer(&self, _: Sum, _cx: &View<Self>) -> u64 {
        self.sum
    }
}

/// Answers every request on the spot, or never, or refuses to take it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    Answers,
    Swallows,
    Rejects,
}

struct Shop {
    manner: Manner,
    router: OnceLock<Router>,
    sums: Mutex<BTreeMap<String, u64>>,
}

impl Shop {
    fn open(manner: Manner) -> (Router, Weak<Self>) {
        let shop = Arc::new(Self {
            manner,
            router: OnceLock::new(),
            sums: Mutex::default(),
        });
        let options = RouterOptions::default().check().unwrap();
        let router = Router::start(options, None, 1, shop.clone());
        assert!(shop.router.set(router.clone()).is_ok());
        router.table(table(1, 8, Some(1)));
        (router, Arc::downgrade(&shop))
    }

    fn outcome(&self, request: &Request) -> Outcome {
        let mut sums = self.sums.lock().unwrap();
        let sum = sums.entry(request.key.clone()).or_default();
        let (body, age_ms) = match request.intent {
            Intent::OpenSession { .. } => {
                let session = SessionId(3);
                return Outcome::Opened { session };
            }
            Intent::Command { .. } => {
                assert_eq!((&*request.kind, &*request.message), ("tally", "tally.add"));
                let Add(amount) = rmp_serde::from_slice(&request.body).unwrap();
                *sum += amount;
                (rmp_serde::to_vec_named(&Ok::<u64, String>(*sum)), 0)
            }
            Intent::Query => (rmp_serde::to_vec_named(sum), 0),
            Intent::StaleQuery { max_age_ms } => (rmp_serde::to_vec_named(sum), max_age_ms / 2),
        };
        let body = Bytes::from(body.unwrap());
        Outcome::Done { body, age_ms }
    }
}

impl Courier for Shop {
    fn send(&self, store: u64, requests: Vec<Request>) -> Result<(), Vec<Request>> {
        match self.manner {
            Manner::Swallows => Ok(()),
            Manner::Rejects => Err(requests),
            Manner::Answers => {
                let replies = requests.iter().map(|request| Reply {
                    id: request.id,
                    attempt: request.attempt,
                    logged: true,
                    outcome: self.outcome(request),
                });
                // From within `send`: a local evaluator may be that quick.
                self.router.get().unwrap().replies(store, replies.collect());
                Ok(())
            }
        }
    }

    fn need_table(&self) {}
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test]
async fn typed_calls_reach_the_entity_and_bring_its_result() {
    // DESIGN 4: what a user writes.
    let (router, _) = Shop::open(Manner::Answers);
    let alice = router.entities::<Tally>().at("alice");
    assert_eq!(alice.ask(Add(5)).await.unwrap(), Ok(5));
    assert_eq!(alice.ask(Add(6)).deadline(ms(900)).await.unwrap(), Ok(11));
    assert_eq!(alice.query(Sum).await.unwrap(), 11);
    let near = alice.query(Sum).stale(ms(200)).await.unwrap();
    assert_eq!((near.value, near.age), (11, ms(100)));
    assert_eq!(
        format!("{:?} {:?}", router.entities::<Tally>(), alice),
        "Entities(tally) EntityRef(tally/alice)"
    );
    router.close();
}

#[tokio::test]
async fn untyped_calls_do_the_same_by_names_and_bytes() {
    // The `synod` binary knows no types.
    let (router, _) = Shop::open(Manner::Answers);
    let body = Bytes::from(rmp_serde::to_vec_named(&Add(7)).unwrap());
    let answered = router
        .ask_raw("tally", "bob", "tally.add", body, Mode::Command, ms(900))
        .await
        .unwrap();
    let sum: Result<u64, String> = rmp_serde::from_slice(&answered.body).unwrap();
    assert_eq!(sum, Ok(7));
    router.close();
}

#[tokio::test]
async fn an_answer_of_another_type_is_no_answer() {
    // It took effect: to say "failed" would be wrong.
    let (router, _) = Shop::open(Manner::Answers);
    let body = Bytes::from(rmp_serde::to_vec_named(&Add(7)).unwrap());
    let raw = router.ask_raw("tally", "eve", "tally.add", body, Mode::Command, ms(900));
    let garbled: Result<Vec<String>, _> = crate::router::Ask::of(raw).await;
    assert!(matches!(garbled, Err(AskError::Unknown(_))));
    router.close();
}

#[tokio::test]
async fn deadlines_hold_without_any_timer_of_the_executor() {
    // The runtime of this test has no timers: the timekeeper is the router's own.
    let (router, _) = Shop::open(Manner::Swallows);
    let alice = router.entities::<Tally>().at("alice");
    let late = alice.query(Sum).deadline(ms(30)).await;
    assert!(matches!(late, Err(AskError::TimedOut(_))), "{late:?}");
    let never_sent = alice.ask(Add(1)).deadline(ms(30)).await;
    assert!(
        matches!(never_sent, Err(AskError::Refused(_))),
        "the session was never opened: {never_sent:?}"
    );
    router.close();
}

#[tokio::test]
async fn what_the_courier_does_not_take_is_refused() {
    // Nothing left this process.
    let (router, _) = Shop::open(Manner::Rejects);
    let alice = router.entities::<Tally>().at("alice");
    let refused = alice.ask(Add(1)).deadline(ms(60)).await.unwrap_err();
    assert!(matches!(refused, AskError::Refused(_)), "{refused}");
    router.close();
}

#[tokio::test]
async fn a_closed_router_ends_its_calls_and_lets_go_of_its_courier() {
    // The courier holds the router: without this the two would keep each other for ever.
    let (router, shop) = Shop::open(Manner::Swallows);
    let alice = router.entities::<Tally>().at("alice");
    let mut ask = Box::pin(alice.query(Sum));
    assert!(poll_once(&mut ask).await.is_pending());
    router.close();
    assert_eq!(ask.await, Err(Refused::Closed.into()));
    assert_eq!(alice.query(Sum).await, Err(Refused::Closed.into()));
    assert!(shop.upgrade().is_none());
}

#[tokio::test]
async fn dropping_a_call_cancels_nothing() {
    // DESIGN 4.
    let (router, _) = Shop::open(Manner::Answers);
    let alice = router.entities::<Tally>().at("alice");
    drop(alice.ask(Add(1))); // never polled, never made
    {
        let mut made = Box::pin(alice.ask(Add(2)));
        drop(poll_once(&mut made).await);
    }
    assert_eq!(alice.query(Sum).await.unwrap(), 2);
    router.close();
}

#[test]
fn many_threads_share_one_router() {
    // S9: callers route on their own threads.
    let (router, _) = Shop::open(Manner::Answers);
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let tallies = router.entities::<Tally>();
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let tally = tallies.at(format!("caller{caller}"));
                    for round in 1..=500 {
                        assert_eq!(tally.ask(Add(1)).await.unwrap(), Ok(round));
                    }
                });
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    assert_eq!(router.outstanding(), 0);
    assert_eq!(router.counters().retried, 0);
    router.close();
}
