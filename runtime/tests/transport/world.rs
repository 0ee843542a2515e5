//! Endpoints of one process that record what arrives, and conditions that are waited for.
//!
//! No test rests on the length of a pause. Patience is counted in looks and not by the clock, so that a machine which
//! stands still, or gives a test little of itself, uses none of it up.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use synod::transport::{
    BindError, CaError, CallAnswer, CallError, DevelopmentCa, EndpointKeys, Identity, Inbound,
    Lane, Limits, LocalHello, Peer, Transport, TransportOptions,
};

const CLUSTER: u128 = 7;
/// Time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(10);
/// Looks after which a condition counts as never met: 20 s of a machine that runs.
const LOOKS: usize = 2_000;
/// Longer than any test: what is noticed at once must not be noticed by this, and a machine that stands still for a
/// moment must not end connections by it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Looks until it is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if so() {
            return;
        }
        std::thread::sleep(GLANCE); // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after {LOOKS} looks");
}

/// A development CA in a directory of its own.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) ca: DevelopmentCa,
    /// Bounds of the endpoints that are made from now on.
    pub(crate) limits: Limits,
}

/// One endpoint and what it received.
pub(crate) struct Endpoint {
    pub(crate) transport: Transport,
    pub(crate) hello: Arc<Mutex<LocalHello>>,
    events: mpsc::Receiver<Event>,
    /// Everything received so far that nobody asked for yet.
    pub(crate) seen: Vec<Event>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
pub(crate) enum Event {
    Frames(Lane, Vec<Bytes>),
    Datagram(Bytes),
    Connected(Peer),
    Disconnected(Peer),
}

/// Records everything; echoes requests on the reply lane; answers calls.
struct Recorder {
    name: String,
    events: mpsc::Sender<Event>,
    transport: Arc<Mutex<Option<Transport>>>,
    held: Mutex<Vec<CallAnswer>>,
}

impl Recorder {
    fn note(&self, event: Event) {
        drop(self.events.send(event)); // the test may be over
    }
}

impl Inbound for Recorder {
    fn frame(&self, from: &Peer, lane: Lane, frames: Vec<Bytes>) {
        if let (Lane::Request, true, Some(transport)) =
            (lane, from.client, &*self.transport.lock().unwrap())
        {
            transport.reply(from.path, frames.clone());
        }
        self.note(Event::Frames(lane, frames));
    }

    fn datagram(&self, _from: &Peer, datagram: Bytes) {
        self.note(Event::Datagram(datagram));
    }

    fn call(&self, _from: &Peer, frame: Bytes, answer: CallAnswer) {
        match &frame[..] {
            b"drop" => drop(answer),
            b"hold" => self.held.lock().unwrap().push(answer),
            words => {
                answer.send(format!("{} {} says", String::from_utf8_lossy(words), self.name).into())
            }
        }
    }

    fn connected(&self, peer: &Peer) {
        self.note(Event::Connected(peer.clone()));
    }

    fn disconnected(&self, peer: &Peer) {
        self.note(Event::Disconnected(peer.clone()));
    }

    fn admit(&self, peer: &Peer) -> Result<(), String> {
        if &*peer.name == "removed" {
            Err("store 3 was removed from the cluster".to_owned())
        } else {
            Ok(())
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::open(directory.path()).unwrap();
        let limits = Limits {
            idle_timeout: IDLE_TIMEOUT,
            ..Limits::default()
        };
        Self {
            directory,
            ca,
            limits,
        }
    }

    pub(crate) fn node_identity(&self, name: &str) -> Result<Identity, CaError> {
        let store = self.directory.path().join(name);
        std::fs::create_dir_all(&store).unwrap();
        self.ca.node_identity(name, &store)
    }

    /// Stores 1 and 2, which know each other's addresses.
    pub(crate) fn pair(&self) -> (Endpoint, Endpoint) {
        let (a, b) = (self.node("n1", 1, 1), self.node("n2", 2, 1));
        a.transport.set_address(2, vec![b.address()]);
        b.transport.set_address(1, vec![a.address()]);
        (a, b)
    }

    pub(crate) fn node(&self, name: &str, store: u64, generation: u64) -> Endpoint {
        self.node_at(
            name,
            store,
            generation,
            ([127, 0, 0, 1], 0).into(),
            EndpointKeys::ephemeral(),
        )
    }

    pub(crate) fn node_at(
        &self,
        name: &str,
        store: u64,
        generation: u64,
        address: SocketAddr,
        keys: EndpointKeys,
    ) -> Endpoint {
        let hello = LocalHello {
            cluster: Some(CLUSTER),
            name: name.to_owned(),
            store: Some(store),
            generation,
        };
        endpoint(
            self.node_identity(name).unwrap(),
            hello,
            Some(address),
            keys,
            self.limits.clone(),
        )
        .unwrap()
    }

    pub(crate) fn client(&self, name: &str) -> Endpoint {
        let hello = LocalHello {
            name: name.to_owned(),
            ..LocalHello::default()
        };
        endpoint(
            self.ca.client_identity(name).unwrap(),
            hello,
            None,
            EndpointKeys::ephemeral(),
            self.limits.clone(),
        )
        .unwrap()
    }
}

pub(crate) fn bind(
    identity: Identity,
    name: &str,
    listen: Option<SocketAddr>,
) -> Result<Endpoint, BindError> {
    let hello = LocalHello {
        name: name.to_owned(),
        ..LocalHello::default()
    };
    let keys = EndpointKeys::ephemeral();
    endpoint(identity, hello, listen, keys, Limits::default())
}

fn endpoint(
    identity: Identity,
    hello: LocalHello,
    listen: Option<SocketAddr>,
    keys: EndpointKeys,
    limits: Limits,
) -> Result<Endpoint, BindError> {
    let (sender, events) = mpsc::channel();
    let back = Arc::new(Mutex::new(None));
    let name = hello.name.clone();
    let recorder = Recorder {
        name,
        events: sender,
        transport: back.clone(),
        held: Mutex::default(),
    };
    let hello = Arc::new(Mutex::new(hello));
    let options = TransportOptions {
        listen,
        identity,
        hello: hello.clone(),
        keys,
        limits,
    };
    let transport = Transport::bind(options, Arc::new(recorder))?;
    *back.lock().unwrap() = Some(transport.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    Ok(Endpoint {
        transport,
        hello,
        events,
        seen: Vec::new(),
        runtime,
    })
}

/// One count of a transport.
pub(crate) fn counter(transport: &Transport, name: &str) -> u64 {
    let all = transport.counters();
    let named = all.into_iter().find(|(known, _)| *known == name);
    named.expect("a name that exists").1
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.transport.fmt(f)
    }
}

impl Endpoint {
    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        counter(&self.transport, name)
    }

    pub(crate) fn call(
        &self,
        address: SocketAddr,
        words: &'static str,
        deadline: Duration,
    ) -> Result<String, CallError> {
        let answer = self.runtime.block_on(self.transport.call(
            address,
            Bytes::from_static(words.as_bytes()),
            deadline,
        ))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    pub(crate) fn wait_closed(&self) {
        self.runtime.block_on(self.transport.closed());
    }

    /// As kill -9 would: no farewell, the port is free again.
    pub(crate) fn kill(self) {
        self.transport.abort();
        self.wait_closed();
    }

    /// The next event that `pick` takes, after so many looks at most; others stay in `seen`.
    fn next<T>(&mut self, looks: usize, pick: impl Fn(&Event) -> Option<T>) -> Option<T> {
        let mut looked_at = 0;
        for look in 0..=looks {
            if look > 0 {
                self.seen.extend(self.events.recv_timeout(GLANCE).ok());
            }
            self.seen.extend(self.events.try_iter());
            while looked_at < self.seen.len() {
                if let Some(picked) = pick(&self.seen[looked_at]) {
                    self.seen.remove(looked_at);
                    return Some(picked);
                }
                looked_at += 1;
            }
        }
        None
    }

    /// The next `count` frames of `lane`.
    pub(crate) fn frames(&mut self, lane: Lane, count: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.next(LOOKS, |event| match event {
                Event::Frames(on, frames) if *on == lane => Some(frames.clone()),
                _ => None,
            });
            all.extend(more.unwrap_or_else(|| panic!("{} of {count} frames came", all.len())));
        }
        all
    }

    /// Frames of `lane` that have come, as far as they came together.
    pub(crate) fn frames_so_far(&mut self, lane: Lane) -> Vec<Bytes> {
        self.next(0, |event| match event {
            Event::Frames(on, frames) if *on == lane => Some(frames.clone()),
            _ => None,
        })
        .unwrap_or_default()
    }

    pub(crate) fn datagram(&mut self) -> Bytes {
        let datagram = self.next(LOOKS, |event| match event {
            Event::Datagram(datagram) => Some(datagram.clone()),
            _ => None,
        });
        datagram.expect("a datagram comes")
    }

    pub(crate) fn connected(&mut self) -> Peer {
        let peer = self.next(LOOKS, |event| match event {
            Event::Connected(peer) => Some(peer.clone()),
            _ => None,
        });
        peer.expect("a peer connects")
    }

    pub(crate) fn disconnected(&mut self) -> Peer {
        let peer = self.next(LOOKS, |event| match event {
            Event::Disconnected(peer) => Some(peer.clone()),
            _ => None,
        });
        peer.expect("a peer disconnects")
    }
}

/// Frames that hold their numbers.
pub(crate) fn numbered(range: Range<u32>) -> Vec<Bytes> {
    range
        .map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
        .collect()
}
