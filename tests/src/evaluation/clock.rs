//! Virtual time for handlers that await: a timer wheel per thread, driven by the world.
//!
//! Here: [`sleep`] for handlers, and what the world needs to let time pass. A handler that is dropped while it sleeps
//! leaves its timer behind, marked as abandoned, so that the world can tell when it would have ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Default)]
struct Clock {
    now: Duration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Sleeper>,
    place: Place,
}

/// Where a handler runs: node and shard, and the leadership.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Place {
    /// Number of the node.
    pub(super) node: usize,
    /// Number of the shard.
    pub(super) shard: usize,
    /// Serial of the leadership.
    pub(super) serial: u64,
}

struct Sleeper {
    waker: Waker,
    place: Place,
    abandoned: bool,
}

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

/// Ends when this much virtual time has passed.
pub(super) fn sleep(time: Duration) -> Sleep {
    Sleep {
        time,
        timer: None,
        ended: false,
    }
}

/// See [`sleep`].
pub(super) struct Sleep {
    time: Duration,
    timer: Option<(Duration, u64)>,
    ended: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        CLOCK.with_borrow_mut(|clock| {
            let time = self.time;
            let timer = *self.timer.get_or_insert_with(|| {
                clock.next += 1;
                (clock.now + time, clock.next)
            });
            if timer.0 <= clock.now {
                clock.sleepers.remove(&timer);
                self.ended = true;
                return Poll::Ready(());
            }
            let place = clock.place;
            let sleeper = clock.sleepers.entry(timer).or_insert_with(|| Sleeper {
                waker: cx.waker().clone(),
                place,
                abandoned: false,
            });
            sleeper.waker.clone_from(cx.waker());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(timer), false) = (self.timer, self.ended) {
            CLOCK.with_borrow_mut(|clock| {
                if let Some(sleeper) = clock.sleepers.get_mut(&timer) {
                    sleeper.abandoned = true;
                }
            });
        }
    }
}

/// Forgets all timers and begins at zero.
pub(super) fn reset() {
    let old = CLOCK.with_borrow_mut(std::mem::take);
    drop(old); // outside of the borrow: wakers are foreign code
}

/// Handlers that are polled from now on run here.
pub(super) fn enter(place: Place) {
    CLOCK.with_borrow_mut(|clock| clock.place = place);
}

/// When the next sleeper ends.
pub(super) fn next() -> Option<Duration> {
    CLOCK.with_borrow(|clock| clock.sleepers.keys().next().map(|(at, _)| *at))
}

/// Sets the time and wakes who has slept enough; returns the places of those whose handlers were dropped meanwhile.
pub(super) fn advance(now: Duration) -> Vec<Place> {
    let due = CLOCK.with_borrow_mut(|clock| {
        clock.now = now;
        let later = clock
            .sleepers
            .split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut clock.sleepers, later)
    });
    let mut abandoned = Vec::new();
    for sleeper in due.into_values() {
        if sleeper.abandoned {
            abandoned.push(sleeper.place);
        } else {
            sleeper.waker.wake();
        }
    }
    abandoned
}
