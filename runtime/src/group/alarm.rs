//! The alarms of one arbiter's actors.
//!
//! Here: [`Alarm`], of which an actor holds one, and the one timer per thread that rings them all, by message. actix polls
//! each timer of an actor at each message that it takes; an actor that takes hundreds of messages between two deadlines would
//! pay for its timer with every one. Here a message costs nothing for the alarms that do not ring.
//! Not here: what is due then (the pure machines say it), and which deadlines are put together (`actor`).

use core::time::Duration;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// It is time. Whether it still is, the actor's [`Alarm`] says.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Rung(Key);

/// When, and which one of this thread.
type Key = (Instant, u64);

/// Sends [`Rung`] to an actor, if it still is there.
type Ring = Box<dyn Fn(Rung)>;

thread_local! {
    static CLOCK: RefCell<AlarmClock> = const { RefCell::new(AlarmClock::new()) };
}

/// One deadline of one actor, on the actor's thread. Dropped, it rings no more.
#[derive(Default)]
pub(crate) struct Alarm(Option<(Duration, Key)>);

impl Alarm {
    /// For when it is set, by the actor's own clock.
    pub(crate) fn set_for(&self) -> Option<Duration> {
        self.0.map(|(at, _)| at)
    }

    /// Rings `who` after `wait`, which the actor's own clock calls `at`, and not when it was set for before. Whoever is rung is
    /// not kept alive by that.
    pub(crate) fn set<A>(&mut self, at: Duration, wait: Duration, who: &Addr<A>)
    where
        A: Actor + Handler<Rung>,
        A::Context: ToEnvelope<A, Rung>,
    {
        self.unset();
        let who = who.downgrade();
        let ring: Ring = Box::new(move |rung| {
            if let Some(who) = who.upgrade() {
                who.do_send(rung);
            }
        });
        let key = CLOCK.with_borrow_mut(|clock| clock.add(Instant::now() + wait, ring));
        self.0 = Some((at, key));
    }

    /// Whether this is what `rung` says; then it is set no more. Otherwise it was set anew meanwhile, and will ring.
    pub(crate) fn is(&mut self, Rung(key): Rung) -> bool {
        self.0.take_if(|(_, set)| *set == key).is_some()
    }

    fn unset(&mut self) {
        if let Some((_, key)) = self.0.take() {
            // What is taken out is dropped outside. A thread that ends may have lost its alarms already.
            let _ring = CLOCK.try_with(|clock| clock.borrow_mut().alarms.remove(&key));
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alarm").field(&self.set_for()).finish()
    }
}

/// What is to ring on this thread; bounded by its actors, each of which has one alarm.
struct AlarmClock {
    /// The earliest first.
    alarms: BTreeMap<Key, Ring>,
    last: u64,
    /// Where the thread's timer hears that another alarm is the first now. It ends with the runtime that it was started in.
    timer: Weak<Notify>,
}

impl AlarmClock {
    const fn new() -> Self {
        Self {
            alarms: BTreeMap::new(),
            last: 0,
            timer: Weak::new(),
        }
    }

    fn first(&self) -> Option<Instant> {
        self.alarms.keys().next().map(|(at, _)| *at)
    }

    fn add(&mut self, at: Instant, ring: Ring) -> Key {
        self.last += 1;
        let key = (at, self.last);
        let earliest = self.first().is_none_or(|first| at < first);
        self.alarms.insert(key, ring);
        if let Some(timer) = self.timer.upgrade() {
            if earliest {
                timer.notify_one();
            }
        } else {
            let timer = Rc::new(Notify::new());
            self.timer = Rc::downgrade(&timer);
            actix_rt::spawn(run(timer));
        }
        key
    }

    fn take_due(&mut self, now: Instant) -> BTreeMap<Key, Ring> {
        let later = self.alarms.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.alarms, later)
    }
}

/// The timer of a thread.
async fn run(timer: Rc<Notify>) {
    loop {
        let Some(first) = CLOCK.with_borrow(AlarmClock::first) else {
            timer.notified().await;
            continue;
        };
        tokio::select! {
            () = timer.notified() => {}
            () = sleep_until(first) => {
                let due = CLOCK.with_borrow_mut(|clock| clock.take_due(Instant::now()));
                for (key, ring) in due {
                    ring(Rung(key));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::{AsyncContext, Context, Message};
    use tokio::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const NEVER: Duration = Duration::from_secs(3_600);

    /// Who was rung, for when, and whether by its alarm as it was set then.
    type Word = (&'static str, Instant, bool);

    struct Sleeper {
        alarm: Alarm,
        says: mpsc::UnboundedSender<Word>,
        name: &'static str,
    }

    impl Actor for Sleeper {
        type Context = Context<Self>;
    }

    impl Handler<Rung> for Sleeper {
        type Result = ();
        fn handle(&mut self, rung: Rung, _ctx: &mut Self::Context) {
            let _over = self.says.send((self.name, rung.0.0, self.alarm.is(rung)));
        }
    }

    /// Sets the alarm.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Set(Duration);

    impl Handler<Set> for Sleeper {
        type Result = ();
        fn handle(&mut self, Set(wait): Set, ctx: &mut Self::Context) {
            self.alarm.set(wait, wait, &ctx.address());
            assert_eq!(self.alarm.set_for(), Some(wait));
        }
    }

    fn sleepers<const N: usize>(
        names: [&'static str; N],
    ) -> ([Addr<Sleeper>; N], mpsc::UnboundedReceiver<Word>) {
        let (says, hears) = mpsc::unbounded_channel();
        let sleepers = names.map(|name| {
            let (says, alarm) = (says.clone(), Alarm::default());
            Sleeper { alarm, says, name }.start()
        });
        (sleepers, hears)
    }

    fn set() -> usize {
        CLOCK.with_borrow(|clock| clock.alarms.len())
    }

    async fn next(hears: &mut mpsc::UnboundedReceiver<Word>) -> (&'static str, bool) {
        let (name, _, its) = hears.recv().await.unwrap();
        (name, its)
    }

    #[actix_rt::test]
    async fn alarms_ring_once_each_the_earliest_first_whoever_was_set_first() {
        let ([never, late, early], mut hears) = sleepers(["never", "late", "early"]);
        never.send(Set(NEVER)).await.unwrap();
        late.send(Set(SOON * 4)).await.unwrap();
        early.send(Set(SOON)).await.unwrap();
        let rung = [hears.recv().await.unwrap(), hears.recv().await.unwrap()];
        assert!(rung[0].1 <= rung[1].1 && rung[0].0 != rung[1].0, "{rung:?}");
        assert!(rung.iter().all(|(name, _, its)| *name != "never" && *its));
        assert_eq!(set(), 1, "the one that is far away");
        early.send(Set(SOON)).await.unwrap();
        assert_eq!(next(&mut hears).await, ("early", true), "and again");
    }

    #[actix_rt::test]
    async fn an_alarm_set_anew_rings_when_it_was_set_for_last() {
        let ([one, other], mut hears) = sleepers(["one", "other"]);
        // Both before the timer has a turn.
        one.do_send(Set(SOON));
        one.do_send(Set(NEVER));
        other.do_send(Set(SOON));
        assert_eq!(next(&mut hears).await, ("other", true));
        one.do_send(Set(SOON));
        assert_eq!(next(&mut hears).await, ("one", true));
        assert_eq!(set(), 0);
    }

    #[actix_rt::test]
    async fn a_ring_that_was_under_way_when_its_alarm_was_set_anew_is_not_its() {
        let ([one], mut hears) = sleepers(["one"]);
        one.send(Set(NEVER)).await.unwrap();
        let (at, ring) = CLOCK.with_borrow_mut(|clock| clock.alarms.pop_first().unwrap());
        one.do_send(Set(SOON));
        ring(Rung(at));
        assert_eq!(next(&mut hears).await, ("one", false));
        assert_eq!(next(&mut hears).await, ("one", true));
    }

    #[actix_rt::test]
    async fn who_is_gone_is_not_rung_and_leaves_no_alarm() {
        let ([gone, here], mut hears) = sleepers(["gone", "here"]);
        gone.do_send(Set(SOON));
        drop(gone); // the last address: the actor ends, and its alarm with it
        here.do_send(Set(SOON * 2));
        assert_eq!(next(&mut hears).await, ("here", true));
        assert_eq!(set(), 0);
        assert!(hears.try_recv().is_err());
    }

    #[test]
    fn a_thread_that_gets_another_runtime_rings_there_too() {
        for _ in 0..2 {
            actix_rt::System::new().block_on(async {
                let ([one], mut hears) = sleepers(["one"]);
                one.do_send(Set(SOON));
                assert_eq!(next(&mut hears).await, ("one", true));
            });
        }
    }
}
