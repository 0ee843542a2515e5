//! What mistakes in handlers and states get: that one command fails with its reason, everything else goes on.
//!
//! One node in this process hosts an entity that can misbehave in every way (issue 2, "What bad input gets").

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod::router::{AskError, Failed, Refused};
use synod::wire::Failure;
use synod::{Answer, Context, Entity, Handler, Message, Node, View};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// Misbehaves on demand.
#[derive(Debug, Default, Deserialize, Entity, Serialize)]
#[entity(
    kind = "rogue",
    commands(Grow, Panic, Poison, Shout, Wait),
    queries(Size, PanicToo)
)]
struct Rogue {
    bytes: Vec<u8>,
    poison: Poisonous,
}

/// Encodes, but does not decode once it is poisoned.
#[derive(Debug, Default, Serialize)]
struct Poisonous(bool);

impl<'de> Deserialize<'de> for Poisonous {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Err(serde::de::Error::custom("it is poisoned")),
            false => Ok(Self(false)),
        }
    }
}

/// Adds so many bytes to the state.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "u64")]
struct Grow(u64);

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct Panic {}

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct PanicToo {}

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct Poison {}

/// Asks for an answer of so many bytes.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "String")]
struct Shout(u64);

/// Waits at the door of that number.
#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "()")]
struct Wait(usize);

/// Where [`Wait`] waits: one test opens it, and knows by the count how many have begun to wait.
struct Door {
    opening: Semaphore,
    waiting: AtomicUsize,
}

impl Door {
    const fn new() -> Self {
        Self {
            opening: Semaphore::const_new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    async fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(self.opening.acquire().await); // an error once it is open for all
    }

    fn is_waited_at(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn open(&self) {
        self.opening.close();
    }
}

/// One for each test that needs one.
static DOORS: [Door; 2] = [const { Door::new() }; 2];

#[derive(Debug, Deserialize, Message, Serialize)]
#[rtype(result = "u64")]
struct Size {}

impl Handler<Grow> for Rogue {
    async fn handle(&mut self, Grow(by): Grow, _cx: &mut Context<Self>) -> u64 {
        self.bytes.resize(self.bytes.len() + by as usize, 7);
        self.bytes.len() as u64
    }
}

impl Handler<Panic> for Rogue {
    async fn handle(&mut self, _: Panic, _cx: &mut Context<Self>) {
        self.bytes.clear();
        panic!("on demand");
    }
}

impl Answer<PanicToo> for Rogue {
    async fn answer(&self, _: PanicToo, _cx: &View<Self>) {
        panic!("on demand too");
    }
}

impl Handler<Poison> for Rogue {
    async fn handle(&mut self, _: Poison, _cx: &mut Context<Self>) {
        self.poison = Poisonous(true);
    }
}

impl Handler<Shout> for Rogue {
    async fn handle(&mut self, Shout(bytes): Shout, _cx: &mut Context<Self>) -> String {
        self.bytes.push(1);
        "!".repeat(bytes as usize)
    }
}

impl Handler<Wait> for Rogue {
    async fn handle(&mut self, Wait(door): Wait, _cx: &mut Context<Self>) {
        DOORS[door].pass().await;
        self.bytes.push(2);
    }
}

impl Answer<Size> for Rogue {
    async fn answer(&self, _: Size, _cx: &View<Self>) -> u64 {
        self.bytes.len() as u64
    }
}

/// Looks until it is so. Counted in looks and not by the clock: a machine that stands still uses none of them up.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if so() {
            return;
        }
        actix_rt::time::sleep(Duration::from_millis(10)).await; // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after 6,000 looks");
}

async fn node() -> (TempDir, Node) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let builder = Node::builder()
        .store(home.path().join("n1"))
        .listen("127.0.0.1:0")
        .found()
        .shards(4);
    let node = builder.entity::<Rogue>().start().await.expect("it founds");
    (home, node)
}

fn failure<T: std::fmt::Debug>(result: Result<T, AskError>) -> Failure {
    match result {
        Err(AskError::Failed(Failed(failure))) => failure,
        other => panic!("a failure, not {other:?}"),
    }
}

#[actix_rt::test]
async fn a_panic_fails_its_command_and_changes_nothing() {
    let (_home, node) = node().await;
    let rogue = node.entities::<Rogue>().at("r");
    assert_eq!(rogue.ask(Grow(5)).await, Ok(5));
    let panicked = failure(rogue.ask(Panic {}).await);
    assert!(
        matches!(&panicked, Failure::Panicked { text } if text == "on demand"),
        "{panicked}"
    );
    let panicked = failure(rogue.query(PanicToo {}).await);
    assert!(
        matches!(&panicked, Failure::Panicked { text } if text == "on demand too"),
        "{panicked}"
    );
    assert_eq!(
        rogue.query(Size {}).await,
        Ok(5),
        "the entity is as it was before"
    );
    assert_eq!(
        node.entities::<Rogue>().at("other").ask(Grow(1)).await,
        Ok(1),
        "others go on"
    );
    node.shutdown().await;
}

#[actix_rt::test]
async fn a_state_or_reply_over_the_limit_fails_its_command_and_changes_nothing() {
    let (_home, node) = node().await;
    let rogue = node.entities::<Rogue>().at("r");
    assert_eq!(rogue.ask(Grow(5)).await, Ok(5));
    let large = failure(rogue.ask(Grow(2 << 20)).await);
    assert!(
        matches!(&large, Failure::TooLarge { what, limit, .. } if what == "state" && *limit == 1 << 20),
        "{large}"
    );
    let large = failure(rogue.ask(Shout(300 << 10)).await);
    assert!(
        matches!(&large, Failure::TooLarge { what, limit, .. } if what == "reply" && *limit == 256 << 10),
        "{large}"
    );
    assert_eq!(
        rogue.query(Size {}).await,
        Ok(5),
        "the entity is as it was before"
    );
    node.shutdown().await;
}

#[actix_rt::test]
async fn a_state_that_does_not_decode_sets_one_entity_aside() {
    let (home, node) = node().await;
    let rogue = node.entities::<Rogue>().at("r");
    rogue.ask(Poison {}).await.expect("it encodes");
    node.entities::<Rogue>()
        .at("well")
        .ask(Grow(3))
        .await
        .expect("others go on");
    node.shutdown().await;
    // The next start reads it from disk.
    let builder = Node::builder()
        .store(home.path().join("n1"))
        .listen("127.0.0.1:0");
    let node = builder
        .entity::<Rogue>()
        .start()
        .await
        .expect("one bad state stops no node");
    let rogue = node.entities::<Rogue>().at("r");
    let aside = failure(rogue.query(Size {}).await);
    assert!(
        matches!(&aside, Failure::Quarantined { key, detail, .. } if key == "r" && detail.contains("poisoned")),
        "{aside}"
    );
    let aside = failure(rogue.ask(Grow(1)).await);
    assert!(matches!(&aside, Failure::Quarantined { .. }), "{aside}");
    assert_eq!(
        node.entities::<Rogue>().at("well").query(Size {}).await,
        Ok(3),
        "others go on"
    );
    node.shutdown().await;
}

#[actix_rt::test]
async fn a_deadline_passed_before_evaluation_is_refused_and_one_passed_after_is_unknown() {
    let (_home, node) = node().await;
    let rogue = node.entities::<Rogue>().at("r");
    rogue.ask(Grow(1)).await.expect("the session is open");
    // A busy machine may not even begin within the first deadline: then nothing happened, and the next one is longer.
    let mut deadline = Duration::from_millis(300);
    let slow = loop {
        let entity = rogue.clone();
        let slow = actix_rt::spawn(async move { entity.ask(Wait(0)).deadline(deadline).await });
        until("it begins or gives up", || {
            DOORS[0].is_waited_at() || slow.is_finished()
        })
        .await;
        if DOORS[0].is_waited_at() {
            break slow;
        }
        deadline *= 2;
        assert!(deadline < Duration::from_secs(60), "it never begins");
    };
    // Waits behind the slow one, beyond its own deadline: never evaluated.
    let refused = rogue
        .ask(Grow(1))
        .deadline(Duration::from_millis(200))
        .await;
    let unknown = slow.await.expect("it ends");
    assert!(matches!(unknown, Err(AskError::Unknown(_))), "{unknown:?}");
    DOORS[0].open();
    match refused {
        Err(AskError::Refused(Refused::DeadlinePassed { .. })) => {
            // Refused means refused: at most the slow one took effect.
            let size = rogue.query(Size {}).await.expect("the node serves");
            assert!(size <= 2, "{size}");
        }
        // The caller cannot know whether it was evaluated when the word of it does not come in time.
        Err(AskError::Unknown(_)) => {}
        other => panic!("{other:?}"),
    }
    node.shutdown().await;
}

#[actix_rt::test]
async fn what_does_not_fit_into_a_queue_is_refused_with_a_hint_and_the_rest_is_done() {
    // Bounded queues everywhere: one slow handler, and 1,500 commands that want to be next.
    const COMMANDS: usize = 1_500;
    let (_home, node) = node().await;
    let rogue = node.entities::<Rogue>().at("r");
    rogue.ask(Grow(1)).await.expect("the session is open");
    let patience = Duration::from_secs(600);
    let slow = rogue.clone();
    let slow = actix_rt::spawn(async move { slow.ask(Wait(1)).deadline(patience).await });
    until("it begins", || DOORS[1].is_waited_at()).await;
    let ended = Rc::new(Cell::new(0));
    let grows: Vec<_> = (0..COMMANDS)
        .map(|_| {
            let (entity, ended) = (rogue.clone(), ended.clone());
            actix_rt::spawn(async move {
                let grown = entity.ask(Grow(1)).deadline(patience).await;
                ended.set(ended.get() + 1);
                grown
            })
        })
        .collect();
    // A session has 256 commands under way, the slow one among them, and 1,024 wait for their turn. The others are refused
    // at once, while the door is closed: nobody waits in a queue without end.
    const REFUSED: usize = COMMANDS - 255 - 1_024;
    until("the others are refused", || ended.get() >= REFUSED).await;
    DOORS[1].open();
    slow.await.expect("it ends").expect("the door is open");
    let mut refused = 0;
    for grow in grows {
        match grow.await.expect("it ends") {
            Ok(_) => {}
            Err(AskError::Refused(Refused::Busy { queue, retry_after })) => {
                assert!(!retry_after.is_zero() && queue.contains("queue"), "{queue}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, REFUSED);
    // What was taken is done, and what was refused is not.
    let size = rogue.query(Size {}).await.expect("the node serves");
    assert_eq!(size, (COMMANDS - REFUSED + 2) as u64);
    node.shutdown().await;
}
