//! A leader whose real disk hangs while the rest of it goes on: H21 from the file up to the group.
//!
//! Here: [`Trio`], three replicas of which the first one's log is on a real disk behind its writer's thread; the others' disks are always
//! done. Time is a number; where a thread has to be waited for, its answer is waited for and no time.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use synod::storage::{LogWriter, WriteRequest};
use synod_consensus::{
    Configuration, Group, GroupId, GroupOptions, LogIndex, Message, Output, Persist, ReplicaId,
    ReplicaKey, Restored, Role, SnapshotMeta, Write,
};

use super::key;
use super::real::Faulty;
use super::writers::{Heard, Sink};

struct Trio {
    now: Duration,
    groups: Vec<Group>,
    wire: VecDeque<Message>,
    disk: Faulty,
    writer: LogWriter,
    heard: Receiver<Heard>,
    /// Writes of the first replica that are not done.
    outstanding: usize,
}

fn of_first() -> ReplicaKey {
    key(1, 1)
}

impl Trio {
    fn new(disk: &Faulty) -> Self {
        let (sink, heard) = channel();
        let log = Box::new(disk.open_log());
        let writer = LogWriter::start(log, vec![Box::new(Sink(sink))]).unwrap();
        let configuration = Configuration::of_voters([1, 2, 3].map(ReplicaId::new));
        let group = |replica| {
            let options = GroupOptions::default().check().unwrap();
            let restored = Restored::founding(configuration.clone());
            let me = ReplicaId::new(replica);
            let chance = replica * 7;
            Group::new(
                options,
                GroupId::new(1),
                me,
                restored,
                chance,
                Duration::ZERO,
            )
            .unwrap()
        };
        let birth = WriteRequest {
            key: of_first(),
            token: None,
            writes: vec![Write::Reset {
                to: SnapshotMeta::founding(configuration.clone()),
            }],
        };
        writer.submit(0, vec![birth]);
        Self {
            now: Duration::ZERO,
            groups: (1..=3).map(group).collect(),
            wire: VecDeque::new(),
            disk: disk.clone(),
            writer,
            heard,
            outstanding: 0,
        }
    }

    fn persist(&mut self, place: usize, persist: Persist) {
        let Persist { token, writes } = persist;
        if place > 0 {
            return self.groups[place].persisted(self.now, token);
        }
        let request = WriteRequest {
            key: of_first(),
            token: Some(token),
            writes,
        };
        self.writer.submit(0, vec![request]);
        self.outstanding += 1;
    }

    /// Until nobody has anything to do at this time; a disk that hangs is not waited for.
    fn settle(&mut self) {
        loop {
            for place in 0..3 {
                while let Some(output) = self.groups[place].poll_output() {
                    match output {
                        Output::Persist(persist) => self.persist(place, persist),
                        Output::Send(message) => self.wire.push_back(message),
                        Output::Apply(entries) => {
                            let last = entries.last().unwrap().index;
                            self.groups[place].applied(self.now, last);
                        }
                        _ => {}
                    }
                }
            }
            if let Some(message) = self.wire.pop_front() {
                let to = message.to.get() as usize - 1;
                self.groups[to].receive(self.now, message);
            } else if self.outstanding > 0 && !self.disk.set(|fault| fault.hanging) {
                let Heard::Completed(done) = self.heard.recv().unwrap() else {
                    panic!("the disk does not fail");
                };
                for (_, token) in done {
                    self.outstanding -= 1;
                    self.groups[0].persisted(self.now, token);
                }
            } else {
                return;
            }
        }
    }

    /// Lets time pass until `done`, at most for so long. Returns whether it is.
    fn run_until(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let wakes = self.groups.iter().filter_map(Group::wake_at);
            let next = wakes.min().unwrap_or(end).max(self.now);
            if next > end {
                return false;
            }
            self.now = next;
            for group in &mut self.groups {
                if group.wake_at().is_some_and(|at| at <= next) {
                    group.tick(next);
                }
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        (0..3).find(|place| self.groups[*place].status().role == Role::Leader)
    }

    fn propose(&mut self, place: usize) -> LogIndex {
        let payload = Bytes::from_static(b"payload");
        let position = self.groups[place].propose(self.now, payload).unwrap();
        self.settle();
        position.index
    }

    fn commit(&self, place: usize) -> LogIndex {
        self.groups[place].status().commit
    }
}

// H21: heartbeats flow, so nobody else would ever campaign; the leader itself judges its disk, gives way, and comes back as a follower.
#[test]
fn real_hung_disk_under_a_leader_makes_it_give_way() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::new(&folder.path().join("log"));
    let mut trio = Trio::new(&disk);
    let second = Duration::from_secs(1);
    trio.groups[0].campaign(trio.now);
    assert!(trio.run_until(second, |trio| trio.leader() == Some(0)));
    let first = trio.propose(0);
    assert!(trio.run_until(second, |trio| (0..3).all(|at| trio.commit(at) >= first)));

    let syncs = disk.set(|fault| {
        fault.hanging = true;
        fault.syncs
    });
    // Two other disks are a majority: the leader's own is not needed and not counted.
    let second_write = trio.propose(0);
    disk.wait_until(|fault| fault.syncs > syncs);
    assert!(trio.run_until(second, |trio| trio.commit(0) >= second_write));
    assert!(trio.groups[0].status().persisted < second_write);

    let begun = trio.now;
    let stall = GroupOptions::default().disk_stall;
    assert!(trio.run_until(stall * 2, |trio| trio.leader() != Some(0)));
    let took = trio.now - begun;
    assert!(took >= stall - second, "it waits for a slow disk: {took:?}");
    assert!(trio.run_until(stall * 2, |trio| trio.leader().is_some()));
    let successor = trio.leader().unwrap();
    assert_ne!(successor, 0);
    let third = trio.propose(successor);
    assert!(trio.run_until(second, |trio| trio.commit(successor) >= third));

    // With its disk it is a follower that has everything, on its real disk, too.
    disk.set(|fault| fault.hanging = false);
    assert!(trio.run_until(second * 10, |trio| {
        let status = trio.groups[0].status();
        status.commit >= third && status.persisted >= third
    }));
    assert_eq!(trio.leader(), Some(successor));
    let last = trio.groups[0].status().last.index;
    let Trio { writer, .. } = trio;
    writer.close();
    drop(writer);
    let (_, found) = super::everything(&disk.open_log()).0.remove(0);
    assert_eq!(found.entries.last().unwrap().index, last);
}
