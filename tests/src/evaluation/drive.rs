//! How a seat's parts talk: the group's side and the evaluator's side are two threads of a node, so what they say to each
//! other takes its time and meets a state that may be ahead. Written as the runtime's actors do it.
//!
//! Here: this half of [`World`]. Not here: which events there are (`event`), faults (`faults`).

use std::task::{Context, Waker};
use std::time::Duration;

use rand::Rng;
use synod::evaluation::{EvaluatorOutput, ReplyToken};
use synod::wire::{Intent, Outcome, Refusal, Request};
use synod_consensus::{EntryKind, Message, Output, Role, TransferOutcome};

use super::clock::{self, Place};
use super::event::{Event, SeatEvent, ToEvaluator, ToGroup, encode_reply};
use super::network::End;
use super::node::{Checkpoint, Writing, group, node_of, replica, store};
use super::rows::SeatRows;
use super::world::{Sabotage, World};
use crate::violation::Violation;

impl World {
    /// Something happens at a seat of a running node.
    pub(super) fn seat_event(
        &mut self,
        node: usize,
        shard: usize,
        event: SeatEvent,
    ) -> Result<(), Violation> {
        let now = self.now;
        let seat = &mut self.nodes[node].seats[shard];
        match event {
            SeatEvent::GroupWake => {
                seat.group_wake = None;
                if seat.group.wake_at().is_some_and(|at| at <= now) {
                    seat.group.tick(now);
                }
                self.drain_group(node, shard)
            }
            SeatEvent::EvaluatorWake => {
                seat.evaluator_wake = None;
                self.enter(node, shard);
                let seat = &mut self.nodes[node].seats[shard];
                if seat.evaluator.wake_at().is_some_and(|at| at <= now) {
                    seat.evaluator.tick(now);
                }
                self.drain_evaluator(node, shard);
                Ok(())
            }
            SeatEvent::Flush => {
                seat.flush_due = false;
                self.enter(node, shard);
                self.nodes[node].seats[shard].evaluator.flush(now);
                self.drain_evaluator(node, shard);
                Ok(())
            }
            SeatEvent::ToEvaluator(message) => {
                self.at_evaluator(node, shard, message);
                Ok(())
            }
            SeatEvent::ToGroup(message) => self.at_group(node, shard, message),
            SeatEvent::Checkpoint => {
                self.checkpoint(node, shard);
                Ok(())
            }
            SeatEvent::GiveUpHandover => {
                if seat.handover.take().is_some() {
                    self.tell_evaluator(node, shard, ToEvaluator::Resume);
                }
                Ok(())
            }
        }
    }

    pub(super) fn raft(
        &mut self,
        node: usize,
        shard: usize,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let message: Message = rmp_serde::from_slice(bytes).map_err(|error| {
            Violation::of("wire", format!("a Raft message does not decode: {error}"))
        })?;
        let now = self.now;
        self.nodes[node].seats[shard].group.receive(now, message);
        self.drain_group(node, shard)
    }

    fn enter(&self, node: usize, shard: usize) {
        clock::enter(Place {
            node,
            shard,
            serial: self.nodes[node].seats[shard].evaluating,
        });
    }

    fn at_evaluator(&mut self, node: usize, shard: usize, message: ToEvaluator) {
        let now = self.now;
        let seat = &mut self.nodes[node].seats[shard];
        match message {
            ToEvaluator::Begin { serial, term } => {
                seat.evaluating = serial;
                seat.evaluator.begin(now, serial, term);
                let waker = Waker::from(std::sync::Arc::clone(&seat.flag));
                seat.evaluator.poll(now, &mut Context::from_waker(&waker));
                self.coverage.count("leaderships");
            }
            ToEvaluator::End { leader } => {
                seat.evaluating = 0;
                seat.evaluator.end(now, leader);
            }
            ToEvaluator::Leader { leader } => seat.evaluator.leader(leader),
            ToEvaluator::Proposed {
                serial,
                batch,
                result,
            } => {
                self.enter(node, shard);
                let seat = &mut self.nodes[node].seats[shard];
                seat.evaluator.proposed(now, serial, batch, result);
            }
            ToEvaluator::Applied { index } => {
                self.enter(node, shard);
                let seat = &mut self.nodes[node].seats[shard];
                let ahead = seat.state.lock().expect("no panics while held").applied() > index;
                seat.evaluator.applied(now, index);
                if ahead && seat.evaluating != 0 {
                    self.coverage.count("state ahead of the evaluator");
                }
            }
            ToEvaluator::Read {
                serial,
                read,
                ready,
            } => {
                if ready {
                    seat.evaluator.read_ready(now, serial, read);
                } else {
                    seat.evaluator.read_failed(now, serial, read);
                }
            }
            ToEvaluator::Pause { deadline } => seat.evaluator.pause(now, deadline),
            ToEvaluator::Resume => {
                self.enter(node, shard);
                self.nodes[node].seats[shard].evaluator.resume(now);
            }
        }
        self.flush_soon(node, shard);
        self.drain_evaluator(node, shard);
    }

    fn at_group(&mut self, node: usize, shard: usize, message: ToGroup) -> Result<(), Violation> {
        let now = self.now;
        let seat = &mut self.nodes[node].seats[shard];
        match message {
            ToGroup::Propose {
                serial,
                batch,
                payload,
            } => {
                let result = if serial == seat.serial {
                    seat.group
                        .propose(now, payload)
                        .map(|position| position.index)
                        .map_err(|_| ())
                } else {
                    Err(())
                };
                if result.is_err() {
                    self.coverage.count("proposals refused");
                }
                self.tell_evaluator(
                    node,
                    shard,
                    ToEvaluator::Proposed {
                        serial,
                        batch,
                        result,
                    },
                );
            }
            ToGroup::Read { serial, read } => {
                let begun = (serial == seat.serial)
                    .then(|| seat.group.read(now).ok())
                    .flatten();
                match begun {
                    Some(id) => {
                        seat.reads.insert(id, (serial, read));
                    }
                    None => self.tell_evaluator(
                        node,
                        shard,
                        ToEvaluator::Read {
                            serial,
                            read,
                            ready: false,
                        },
                    ),
                }
            }
            ToGroup::Paused => {
                if let Some(to) = seat.handover.take()
                    && seat.serial != 0
                {
                    self.coverage.count("transfers begun after a pause");
                    if seat.group.transfer(now, replica(to)).is_err() {
                        self.tell_evaluator(node, shard, ToEvaluator::Resume);
                    }
                }
            }
        }
        self.drain_group(node, shard)
    }

    /// Does what the group wants done.
    pub(super) fn drain_group(&mut self, node: usize, shard: usize) -> Result<(), Violation> {
        while let Some(output) = self.nodes[node].seats[shard].group.poll_output() {
            self.group_output(node, shard, output)?;
        }
        let seat = &mut self.nodes[node].seats[shard];
        if let Some(at) = seat.group.wake_at()
            && seat.group_wake.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            seat.group_wake = Some(at);
            self.at_seat(at, node, shard, SeatEvent::GroupWake);
        }
        Ok(())
    }

    fn group_output(&mut self, node: usize, shard: usize, output: Output) -> Result<(), Violation> {
        let now = self.now;
        match output {
            Output::Persist(persist) => self.write_later(
                node,
                Writing::Log {
                    shard,
                    token: persist.token,
                    writes: persist.writes,
                },
            ),
            Output::Send(message) => {
                let bytes = rmp_serde::to_vec_named(&message).expect("plain data");
                let to = node_of(message.to.get());
                let delays = self
                    .network
                    .send(End::Node(node), End::Node(to), &mut self.chance);
                for delay in delays {
                    let bytes = bytes.clone();
                    self.agenda
                        .put(now + delay, Event::Raft { to, shard, bytes });
                }
            }
            Output::Apply(entries) => {
                for entry in &entries {
                    let seat = &mut self.nodes[node].seats[shard];
                    let mut state = seat.state.lock().expect("no panics while held");
                    let applied = match entry.kind {
                        EntryKind::Normal => state.apply(entry.index, &entry.payload),
                        EntryKind::Noop | EntryKind::Configuration => state.skip(entry.index),
                    };
                    applied.map_err(|error| Violation::of("effect chain", error.to_string()))?;
                    self.observer
                        .entry(shard, entry.index, &entry.payload, &state)?;
                    if seat.rows.turn(&mut state) {
                        self.coverage.count("overlays let go");
                    }
                    drop(state);
                    seat.group.applied(now, entry.index);
                    self.coverage.count("entries applied");
                    self.tell_evaluator(node, shard, ToEvaluator::Applied { index: entry.index });
                }
            }
            Output::StoreChunk(chunk) => {
                let seat = &mut self.nodes[node].seats[shard];
                let held = seat.shelf.store(&chunk);
                seat.group.chunk_stored(now, chunk.id, held);
            }
            Output::DropPartial { id } => self.nodes[node].seats[shard].shelf.drop_partial(id),
            Output::Install { meta, id } => {
                self.coverage.count("snapshots installed");
                let whole = self.nodes[node].seats[shard].shelf.take_whole(id);
                let data =
                    whole.ok_or_else(|| Violation::of("storage", format!("{id:?} is damaged")))?;
                let checkpoint = Checkpoint { meta: *meta, data };
                self.write_later(node, Writing::Install { shard, checkpoint });
            }
            Output::SnapshotNeeded { to } => {
                let seat = &mut self.nodes[node].seats[shard];
                let state = seat.state.lock().expect("no panics while held");
                if let Some(meta) = seat.group.meta_at(state.applied()) {
                    let offer = seat.shelf.offer(to, meta, state.encode());
                    drop(state);
                    seat.group.provide_snapshot(now, to, offer);
                }
            }
            Output::ReadChunk(wanted) => {
                let seat = &mut self.nodes[node].seats[shard];
                let data = seat.shelf.read(&wanted);
                seat.group.chunk_read(now, wanted, data);
            }
            Output::ShipmentEnded { to, .. } => self.nodes[node].seats[shard].shelf.end(to),
            Output::ReadReady { id, .. } => self.read_ended(node, shard, id, true),
            Output::ReadFailed { id } => self.read_ended(node, shard, id, false),
            Output::Role { role, term, leader } => {
                let leader = leader.map(|leader| leader.get());
                let seat = &mut self.nodes[node].seats[shard];
                if role == Role::Leader {
                    self.coverage.count("elections");
                    self.elected = true;
                    if self.sabotage == Sabotage::EvaluateEarly {
                        self.begin(node, shard, term);
                    }
                } else if seat.serial != 0 {
                    seat.serial = 0;
                    seat.handover = None;
                    self.tell_evaluator(node, shard, ToEvaluator::End { leader });
                } else {
                    self.tell_evaluator(node, shard, ToEvaluator::Leader { leader });
                }
            }
            Output::MayEvaluate { term } if self.sabotage != Sabotage::EvaluateEarly => {
                self.begin(node, shard, term);
            }
            Output::TransferEnded { outcome, .. } => match outcome {
                TransferOutcome::Moved => self.coverage.count("transfers"),
                TransferOutcome::TimedOut | TransferOutcome::Aborted => {
                    self.tell_evaluator(node, shard, ToEvaluator::Resume);
                }
            },
            Output::DataLost { .. } => {
                return Err(Violation::of("agreement", "a replica lost data".to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, node: usize, shard: usize, term: synod_consensus::Term) {
        let seat = &mut self.nodes[node].seats[shard];
        seat.last_serial += 1;
        seat.serial = seat.last_serial;
        let serial = seat.serial;
        self.tell_evaluator(node, shard, ToEvaluator::Begin { serial, term });
    }

    fn read_ended(&mut self, node: usize, shard: usize, id: synod_consensus::ReadId, ready: bool) {
        if let Some((serial, read)) = self.nodes[node].seats[shard].reads.remove(&id) {
            self.tell_evaluator(
                node,
                shard,
                ToEvaluator::Read {
                    serial,
                    read,
                    ready,
                },
            );
        }
    }

    /// Hands something to the disk, which does one thing after the other.
    pub(super) fn write_later(&mut self, node: usize, writing: Writing) {
        let slow = self.slow_disk[node] > self.now;
        let time = if slow {
            self.chance.random_range(5_000..60_000)
        } else {
            self.chance.random_range(50..self.disk_us)
        };
        let place = &mut self.nodes[node];
        place.disk_free = place.disk_free.max(self.now) + Duration::from_micros(time);
        place.writing.push_back(writing);
        let life = place.life;
        self.agenda
            .put(place.disk_free, Event::Written { node, life });
    }

    pub(super) fn written(&mut self, node: usize) -> Result<(), Violation> {
        let now = self.now;
        let Some(writing) = self.nodes[node].writing.pop_front() else {
            return Ok(());
        };
        self.nodes[node]
            .write(node, &writing)
            .map_err(|detail| Violation::of("storage", detail))?;
        let seat_of = |shard: usize| (node, shard);
        match writing {
            Writing::Log { shard, token, .. } => {
                let (node, shard) = seat_of(shard);
                self.nodes[node].seats[shard].group.persisted(now, token);
                self.drain_group(node, shard)
            }
            Writing::Checkpoint { shard, checkpoint } => {
                let through = checkpoint.meta.position.index;
                let seat = &mut self.nodes[node].seats[shard];
                seat.group.compact(now, through);
                self.coverage.count("checkpoints");
                self.drain_group(node, shard)
            }
            Writing::Install { shard, checkpoint } => {
                let (rows, state) = SeatRows::begin(node, Some(&checkpoint.data))
                    .map_err(|error| Violation::of("storage", error))?;
                let seat = &mut self.nodes[node].seats[shard];
                seat.rows = rows;
                *seat.state.lock().expect("no panics while held") = state;
                seat.group.installed(now, checkpoint.meta.position);
                self.drain_group(node, shard)
            }
        }
    }

    fn checkpoint(&mut self, node: usize, shard: usize) {
        let pause = Duration::from_millis(self.chance.random_range(200..1_200));
        self.at_seat(self.now + pause, node, shard, SeatEvent::Checkpoint);
        let seat = &mut self.nodes[node].seats[shard];
        let (applied, data) = {
            let state = seat.state.lock().expect("no panics while held");
            (state.applied(), state.encode())
        };
        if applied.get() <= seat.checkpointed {
            return;
        }
        let Some(meta) = seat.group.meta_at(applied) else {
            return;
        };
        seat.checkpointed = applied.get();
        let checkpoint = Checkpoint { meta, data };
        self.write_later(node, Writing::Checkpoint { shard, checkpoint });
    }

    pub(super) fn request(
        &mut self,
        node: usize,
        router: usize,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let request: Request = synod::wire::decode(bytes).map_err(|error| {
            Violation::of("wire", format!("a request does not decode: {error}"))
        })?;
        let shard = request.shard.number as usize;
        if self.nodes[node].seats[shard].evaluating != 0
            && matches!(request.intent, Intent::Command { .. })
        {
            let reached = self.routers[router].reached.entry(request.id).or_default();
            if !reached.contains(&node) {
                reached.push(node);
                if reached.len() == 2 {
                    self.coverage.count("retries at two leaders");
                }
            }
        }
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.tokens.insert(token, router);
        self.enter(node, shard);
        let now = self.now;
        self.nodes[node].seats[shard]
            .evaluator
            .request(now, request, token);
        self.flush_soon(node, shard);
        self.drain_evaluator(node, shard);
        Ok(())
    }

    fn flush_soon(&mut self, node: usize, shard: usize) {
        let seat = &mut self.nodes[node].seats[shard];
        if !seat.flush_due {
            seat.flush_due = true;
            let wait = Duration::from_micros(self.chance.random_range(0..400));
            self.at_seat(self.now + wait, node, shard, SeatEvent::Flush);
        }
    }

    /// Polls the evaluator if one of its handlers was woken.
    pub(super) fn poll_woken(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].frozen_until > self.now {
                continue;
            }
            for shard in 0..self.nodes[node].seats.len() {
                let seat = &mut self.nodes[node].seats[shard];
                if !seat.flag.take() {
                    continue;
                }
                self.enter(node, shard);
                let now = self.now;
                let seat = &mut self.nodes[node].seats[shard];
                let waker = Waker::from(std::sync::Arc::clone(&seat.flag));
                seat.evaluator.poll(now, &mut Context::from_waker(&waker));
                self.flush_soon(node, shard);
                self.drain_evaluator(node, shard);
            }
        }
    }

    pub(super) fn drain_evaluator(&mut self, node: usize, shard: usize) {
        while let Some(output) = self.nodes[node].seats[shard].evaluator.poll_output() {
            match output {
                EvaluatorOutput::Propose {
                    serial,
                    batch,
                    payload,
                } => self.tell_group(
                    node,
                    shard,
                    ToGroup::Propose {
                        serial,
                        batch,
                        payload,
                    },
                ),
                EvaluatorOutput::Read { serial, read } => {
                    self.tell_group(node, shard, ToGroup::Read { serial, read });
                }
                EvaluatorOutput::Reply { to, reply } => {
                    match &reply.outcome {
                        Outcome::Interrupted { .. } => self.coverage.count("replies: interrupted"),
                        Outcome::Unknown { .. } => self.coverage.count("replies: unknown"),
                        Outcome::Refused(Refusal::UnknownSession) => {
                            self.coverage.count("replies: unknown session");
                        }
                        Outcome::Refused(Refusal::Superseded) => {
                            self.coverage.count("replies: superseded");
                        }
                        Outcome::Refused(_) => self.coverage.count("replies: refused"),
                        Outcome::Done { .. } if !reply.logged => {
                            self.coverage.count("replies: done without an entry");
                        }
                        _ => {}
                    }
                    if let Some(router) = self.tokens.remove(&to) {
                        let bytes = encode_reply(&reply);
                        let delays = self.network.send(
                            End::Node(node),
                            End::Router(router),
                            &mut self.chance,
                        );
                        if let Some(delay) = delays.first() {
                            self.agenda.put(
                                self.now + *delay,
                                Event::Reply {
                                    router,
                                    from: node,
                                    bytes,
                                },
                            );
                        }
                    }
                }
                EvaluatorOutput::Paused => self.tell_group(node, shard, ToGroup::Paused),
                _ => {}
            }
        }
        let seat = &mut self.nodes[node].seats[shard];
        if let Some(at) = seat.evaluator.wake_at()
            && seat.evaluator_wake.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            seat.evaluator_wake = Some(at);
            self.at_seat(at, node, shard, SeatEvent::EvaluatorWake);
        }
        self.plan_sleepers();
    }

    pub(super) fn tell_evaluator(&mut self, node: usize, shard: usize, message: ToEvaluator) {
        let at = self.between_sides(node, shard, 0);
        self.at_seat(at, node, shard, SeatEvent::ToEvaluator(message));
    }

    fn tell_group(&mut self, node: usize, shard: usize, message: ToGroup) {
        let at = self.between_sides(node, shard, 1);
        self.at_seat(at, node, shard, SeatEvent::ToGroup(message));
    }

    /// When what one thread says reaches the other.
    fn between_sides(&mut self, node: usize, shard: usize, direction: usize) -> Duration {
        let delay = if self.chance.random_range(0..50) == 0 {
            self.chance.random_range(1_000..10_000)
        } else {
            self.chance.random_range(5..200)
        };
        let arrival = &mut self.nodes[node].seats[shard].arrivals[direction];
        *arrival = (*arrival).max(self.now + Duration::from_micros(delay));
        *arrival
    }

    pub(super) fn at_seat(&mut self, at: Duration, node: usize, shard: usize, event: SeatEvent) {
        let life = self.nodes[node].life;
        self.agenda.put(
            at,
            Event::Seat {
                node,
                life,
                shard,
                event,
            },
        );
    }

    /// The node whose evaluator works for the shard, as far as there is one.
    pub(super) fn leader_of(&self, shard: usize) -> Option<usize> {
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_up())
            .filter(|node| self.nodes[*node].seats[shard].serial != 0)
            .max_by_key(|node| self.nodes[*node].seats[shard].group.status().term)
    }

    /// What a router is told when it asks for a table: who seems to lead.
    pub(super) fn guess(&self, shard: usize) -> Option<u64> {
        debug_assert_eq!(group(shard).get(), shard as u64 + 1);
        self.leader_of(shard).map(store)
    }
}
