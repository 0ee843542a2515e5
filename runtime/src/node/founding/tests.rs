//! Seeds with the real file, transport and certificates, and a disk that ends with the process at any of its writes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, io};

use bytes::Bytes;
use futures_util::future::join_all;
use synod_consensus::LogStore as _;
use synod_consensus::genesis::{Card, Genesis, GenesisOptions, Output, Seat, SeedList, SeedName};
use tokio::sync::mpsc;

use super::*;
use crate::Node;
use crate::node::protocol::{Answer, Call};
use crate::storage::{
    Disk, DiskFile, LogOptions, OpenMode, RealDisk, SegmentedLog, StoreDirectory,
};
use crate::system::BUILD_LEVEL;
use crate::system::{Founding, MemberEntry};
use crate::transport::{
    CallAnswer, DevelopmentCa, EndpointKeys, Inbound, Lane, Limits, LocalHello, Peer, Transport,
    TransportOptions,
};
use crate::wire::{self, Sharding};

/// When, at its last write, the process ends.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The file still holds what it held.
    Before,
    /// The file holds the new value, and nobody has heard of it.
    After,
}

/// The disk of a process that ends at one of its writes.
struct Mortal {
    disk: RealDisk,
    cut: Cut,
    left: Arc<AtomicU32>,
}

impl Disk for Mortal {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(name, mode)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        if left > 1 {
            self.left.store(left - 1, Ordering::Relaxed);
            return self.disk.rename(from, to);
        }
        self.left.store(0, Ordering::Relaxed);
        if matches!(self.cut, Cut::After) {
            self.disk.rename(from, to)?;
        }
        Err(io::Error::other("the process ends here"))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
    fn share(&self) -> Box<dyn Disk> {
        self.disk.share()
    }
    fn place(&self) -> String {
        self.disk.place()
    }
}

/// Hands calls to a seed that seeks, and answers them once it has a cluster.
struct Door {
    seeking: mpsc::Sender<(Peer, Bytes, CallAnswer)>,
    holder: Mutex<Option<Holder>>,
}

impl Inbound for Door {
    fn frame(&self, _from: &Peer, _lane: Lane, _frames: Vec<Bytes>) {}
    fn datagram(&self, _from: &Peer, _datagram: Bytes) {}
    fn call(&self, from: &Peer, frame: Bytes, answer: CallAnswer) {
        let mut holder = self.holder.lock().unwrap();
        match (&mut *holder, wire::decode(&frame)) {
            (Some(holder), Ok(Call::Founding { messages, .. })) => {
                let messages = holder.answer(&from.name, messages);
                answer.send(wire::encode(&Answer::Founding { messages }));
            }
            _ => drop(self.seeking.try_send((from.clone(), frame, answer))),
        }
    }
    fn connected(&self, _peer: &Peer) {}
    fn disconnected(&self, _peer: &Peer) {}
}

/// One process of a seed, until it has a cluster or its disk ends it.
async fn process(
    home: &Path,
    seats: &Seats,
    name: &str,
    disk: &dyn Disk,
) -> (Transport, Result<(Founding, u64), String>) {
    let me = seats.seat_of(name).unwrap();
    let listen: SocketAddr = seats.address(&me).unwrap().parse().unwrap();
    let store = home.join(name);
    let identity = DevelopmentCa::open(home)
        .unwrap()
        .node_identity(name, &store)
        .unwrap();
    let key = Bytes::copy_from_slice(identity.public_key().as_bytes());
    let (seeking, calls) = mpsc::channel(64);
    let door = Arc::new(Door {
        seeking,
        holder: Mutex::default(),
    });
    let hello = LocalHello {
        name: name.to_owned(),
        ..LocalHello::default()
    };
    let options = TransportOptions {
        listen: Some(listen),
        identity,
        hello: Arc::new(Mutex::new(hello)),
        keys: EndpointKeys::ephemeral(),
        limits: Limits::default(),
    };
    let transport = Transport::bind(options, door.clone()).unwrap();
    let seeker = Seeker {
        seats,
        transport: &transport,
        disk,
        kept: Kept::read(disk).unwrap(),
        member: MemberEntry {
            name: name.to_owned(),
            key,
            capacity: 1,
            zone: None,
            nonce: 1,
            level: BUILD_LEVEL,
            described: 0,
        },
        charter: CHARTER,
        give_up: None,
    };
    let came = match seek(seeker, calls).await {
        Ok(Came::Founder(founding, store)) => Ok((founding, store)),
        Ok(Came::Joiner(_)) => Err("it joined".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    if let Ok((founding, _)) = &came {
        let kept = Kept::read(disk).unwrap();
        let holder = Holder::new(name, founding.cluster, kept);
        *door.holder.lock().unwrap() = Some(holder);
    }
    (transport, came)
}

const CHARTER: Charter = Charter {
    sharding: Sharding { seed: 5, shards: 4 },
    copies: 3,
};

fn free_address() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Three seeds, of which `victim` ends at its write number `at` and starts again. True if it came to that.
async fn found_with(victim: &str, cut: Cut, at: u32) -> bool {
    let home = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c"];
    let list: Vec<String> = names
        .iter()
        .map(|name| format!("{name}={}", free_address()))
        .collect();
    let seats = Seats::parse(&list).unwrap();
    let left = Arc::new(AtomicU32::new(at));
    let lives = names.map(|name| {
        fs::create_dir(home.path().join(name)).unwrap();
        let disk = RealDisk::new(home.path().join(name)).unwrap();
        let (home, seats, left) = (home.path(), &seats, left.clone());
        async move {
            if name == victim {
                let disk = disk.clone();
                let mortal = Mortal { disk, cut, left };
                let (transport, came) = process(home, seats, name, &mortal).await;
                if let Ok(came) = came {
                    return (transport, came);
                }
                transport.abort();
                transport.closed().await;
            }
            let (transport, came) = process(home, seats, name, &disk).await;
            (transport, came.unwrap())
        }
    });
    let came = join_all(lives).await;
    let what = format!("{victim} ended {cut:?} write {at}");
    for (place, (_, (founding, store))) in came.iter().enumerate() {
        assert_eq!(founding, &came[0].1.0, "{what}");
        assert_eq!(*store, place as u64 + 1, "{what}");
        assert_eq!(founding.sharding, CHARTER.sharding);
    }
    let members = came[0].1.0.members();
    let keys: std::collections::BTreeSet<_> = members.values().map(|member| &member.key).collect();
    assert_eq!(keys.len(), 3, "each founder with its own key");
    left.load(Ordering::Relaxed) == 0
}

#[actix_rt::test]
async fn a_seed_that_ends_at_any_write_founds_the_same_cluster_when_it_is_back() {
    // E25, "Paxos Made Simple" 2.5: whatever is durable at the end of a process, nobody has heard more, and the next goes on.
    for (victim, cut) in [
        ("a", Cut::Before),
        ("a", Cut::After),
        ("c", Cut::Before),
        ("c", Cut::After),
    ] {
        let mut ends = 0;
        while found_with(victim, cut, ends + 1).await {
            ends += 1;
        }
        // Statement, word, promise, acceptance, record.
        assert!(ends >= 5, "{victim} {cut:?}: only {ends} writes");
    }
}

/// What the file of a seed alone in its list holds once the record is chosen.
/// What a store keeps that founded a cluster all alone and was not born yet.
pub(crate) fn chosen_alone(name: &str, key: &Bytes) -> Kept {
    let me = SeedName::new(name).unwrap();
    let seat = Seat {
        me: me.clone(),
        list: SeedList::new([me]).unwrap(),
        card: Card::new(key.clone()).unwrap(),
        candidate: CHARTER.record(77),
        restored: None,
    };
    let mut now = core::time::Duration::ZERO;
    let mut genesis = Genesis::seeking(GenesisOptions::default(), seat, 1, now).unwrap();
    let mut kept = None;
    loop {
        while let Some(output) = genesis.poll_output() {
            match output {
                Output::Persist(token, durable) => {
                    let born = false;
                    kept = Some(Kept { durable, born });
                    genesis.persisted(now, token);
                }
                Output::Chosen(..) => return kept.unwrap(),
                _ => {}
            }
        }
        now = genesis.wake_at().unwrap();
        genesis.tick(now);
    }
}

#[actix_rt::test]
async fn a_founder_that_ended_while_it_was_born_is_born_once() {
    // Between the record and the admission nothing ran: what is in the log is written anew. After it, never again (E26).
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("n1");
    let directory = StoreDirectory::open(&path, Some("n1")).unwrap();
    let identity = DevelopmentCa::open(home.path())
        .unwrap()
        .node_identity("n1", &path)
        .unwrap();
    let key = Bytes::copy_from_slice(identity.public_key().as_bytes());
    let kept = chosen_alone("n1", &key);
    kept.write(directory.disk()).unwrap();
    let founding = kept.founding().unwrap().unwrap();
    assert_eq!((founding.cluster, founding.name.as_str()), (77, "n1"));
    let born = born_on(&founding, 1);
    assert_eq!(born.len(), 5, "the system group and 4 shards");
    let mut log =
        SegmentedLog::open(Box::new(directory.log().unwrap()), LogOptions::default()).unwrap();
    log.write(&born[..2]).unwrap();
    drop((log, directory));

    let address = free_address();
    let seeds = [format!("n1={address}")];
    let builder = || {
        let builder = Node::builder().store(&path).listen(address.to_string());
        builder.arbiters(1).seeds(seeds.clone())
    };
    // Its word stands, whatever another start says.
    for other in [builder().found(), builder().join([address.to_string()])] {
        let refused = other.start().await.unwrap_err().to_string();
        assert!(refused.contains("promised to found"), "{refused}");
    }
    let node = builder().start().await.unwrap();
    node.ready().await;
    let status = node.status().await;
    assert_eq!((status.cluster, status.store, status.replicas), (77, 1, 5));
    node.shutdown().await;
    let disk = RealDisk::new(&path).unwrap();
    assert!(Kept::read(&disk).unwrap().unwrap().born);
    fs::remove_file(path.join("identity")).unwrap();
    let refused = builder().start().await.unwrap_err().to_string();
    assert!(refused.contains("`identity` in it is gone"), "{refused}");
}
