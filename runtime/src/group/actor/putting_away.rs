//! The evaluator of a group at rest is put away: it would keep two kilobytes for each group that is led here.
//!
//! Here: when it goes, and the request for which another one comes. The leadership goes on meanwhile, and so does its clock. Not here: its
//! start and its end with a leadership (`actor`).

use actix::Handler;

use super::GroupActor;
use crate::evaluation::LogClock;
use crate::group::evaluator::{End, Incoming};
use crate::wire::Refusal;

/// The evaluator with this serial has nothing open, and was told that the group rests.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct PutAway {
    pub(crate) serial: u64,
    pub(crate) clock: LogClock,
}

impl Handler<PutAway> for GroupActor {
    type Result = ();
    fn handle(&mut self, PutAway { serial, clock }: PutAway, _ctx: &mut Self::Context) {
        let goes = self.leadership == Some(serial)
            && self.group.is_resting()
            && self.handing_over.to().is_none();
        if !goes {
            return;
        }
        let (Some(hosted), Some(evaluator)) = (&self.hosted, self.evaluator.take()) else {
            return;
        };
        // What may have come to it since it said so gets nowhere: nothing of that serial is proposed any more, and callers come again.
        self.serials += 1;
        self.leadership = Some(self.serials);
        self.clock = Some(Box::new(clock));
        hosted.put_evaluator_away();
        evaluator.do_send(End {
            leader: Some(self.shared.store),
        });
    }
}

/// A request for a shard whose evaluator was put away.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Wanted(pub(crate) Incoming);

impl Handler<Wanted> for GroupActor {
    type Result = ();
    fn handle(&mut self, Wanted(incoming): Wanted, ctx: &mut Self::Context) {
        if self.evaluator.is_none() && self.handing_over.to().is_some() {
            // It would evaluate what this leadership can propose no more; the next one is here in a moment.
            let Incoming { request, reply } = incoming;
            let refusal = Refusal::Busy {
                queue: "transfer".to_owned(),
                retry_after_ms: 20,
            };
            return reply.refuse(&self.shared, &request, refusal);
        }
        if self.evaluator.is_none() && !self.stopped {
            self.start_evaluator(ctx);
        }
        let offered = match &self.evaluator {
            Some(evaluator) => evaluator.try_send(incoming),
            None => Err(actix::dev::SendError::Closed(incoming)),
        };
        if let Err(back) = offered {
            Incoming::refuse(back, &self.shared, self.hosted.as_deref());
        }
    }
}
