//! What membership costs on the wire, QUIC included: real transports on loopback in one process, real machines of membership, and no
//! groups. `cargo run --release -p tests --example wire -- cluster 10 60` lets ten members be for a minute; a third number is the bound
//! on connections that only gossip uses. `... -- handshake 50` opens and closes fifty connections that carry one packet each.
//!
//! Bytes are UDP payload as quinn counts it: handshakes, acknowledgements, retransmissions and the search for the path's MTU are in it,
//! headers of IP and UDP (28 or 48 bytes per packet) are not. Loopback takes packets that no other path does; for that of an
//! Ethernet run it as `unshare -rn sh -c 'ip link set lo mtu 1500 up; ...'`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use synod::transport::{
    CallAnswer, DevelopmentCa, EndpointKeys, Inbound, Lane, Limits, LocalHello, Peer, PublicKey,
    Signer, Transport, TransportOptions,
};
use synod_membership::{
    LocalMember, MemberState, Metadata, Packet, Record, SignedRecord, StoreId, Swim, SwimOptions,
    SwimOutput, Verifier,
};

/// The node's tag of a datagram of gossip; a byte like any other here.
const TAG: u8 = 1;
/// The search for the MTU is over by then, and where a bound closes connections the rate of that is what it stays.
const WARM_UP: Duration = Duration::from_secs(20);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).map(|word| word.parse().expect("a number"));
    match words.first().map(String::as_str) {
        Some("handshake") => handshakes(number(1).unwrap_or(50)),
        Some("cluster") => cluster(
            number(1).unwrap_or(10),
            Duration::from_secs(number(2).unwrap_or(60)),
            number(3).map(|bound| bound as usize),
        ),
        _ => println!("say `handshake COUNT` or `cluster NODES SECONDS [BOUND]`"),
    }
}

/// What comes in, for whoever drives the machines.
struct Heard {
    at: usize,
    from: u64,
    packet: Vec<u8>,
}

struct Ear {
    at: usize,
    heard: mpsc::Sender<Heard>,
}

impl Ear {
    fn hear(&self, from: &Peer, packet: &[u8]) {
        let (at, from) = (self.at, from.store.expect("nodes only"));
        let packet = packet.to_vec();
        drop(self.heard.send(Heard { at, from, packet })); // the run may be over
    }
}

impl Inbound for Ear {
    fn frame(&self, from: &Peer, _lane: Lane, frames: Vec<Bytes>) {
        for frame in frames {
            self.hear(from, &frame);
        }
    }

    fn datagram(&self, from: &Peer, datagram: Bytes) {
        self.hear(from, &datagram[1..]);
    }

    fn is_gossip(&self, _datagram: &[u8]) -> bool {
        true
    }

    fn call(&self, _from: &Peer, _frame: Bytes, _answer: CallAnswer) {}
    fn connected(&self, _peer: &Peer) {}
    fn disconnected(&self, _peer: &Peer) {}
}

struct Keys(Vec<PublicKey>);

impl Verifier for Keys {
    fn verify(&self, store: StoreId, bytes: &[u8], signature: &[u8]) -> bool {
        self.0[store.get() as usize - 1].verify(bytes, signature)
    }
}

struct Pen(Signer);

impl synod_membership::Signer for Pen {
    fn sign(&self, bytes: &[u8]) -> Bytes {
        self.0.sign(bytes)
    }
}

struct Node {
    transport: Transport,
    signer: Signer,
}

fn node(
    ca: &DevelopmentCa,
    home: &Path,
    at: usize,
    heard: &mpsc::Sender<Heard>,
    bound: Option<usize>,
) -> Node {
    let name = format!("n{}", at + 1);
    let store = home.join(&name);
    std::fs::create_dir(&store).expect("a new directory");
    let identity = ca.node_identity(&name, &store).expect("a certificate");
    let signer = identity.signer();
    let mut limits = Limits::default();
    limits.gossip_connections = bound.unwrap_or(limits.gossip_connections);
    let options = TransportOptions {
        listen: Some(([127, 0, 0, 1], 0).into()),
        identity,
        hello: Arc::new(Mutex::new(LocalHello {
            cluster: Some(1),
            name,
            store: Some(at as u64 + 1),
            generation: 1,
        })),
        keys: EndpointKeys::ephemeral(),
        limits,
    };
    let ear = Ear {
        at,
        heard: heard.clone(),
    };
    let transport = Transport::bind(options, Arc::new(ear)).expect("a free port");
    Node { transport, signer }
}

/// So many nodes that know each other's addresses.
fn nodes(size: usize, bound: Option<usize>) -> (Vec<Node>, mpsc::Receiver<Heard>) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let ca = DevelopmentCa::open(home.path()).expect("a CA");
    let (sender, heard) = mpsc::channel();
    let nodes: Vec<Node> = (0..size)
        .map(|at| node(&ca, home.path(), at, &sender, bound))
        .collect();
    let addresses: Vec<SocketAddr> = nodes
        .iter()
        .map(|node| node.transport.local_addr())
        .collect();
    for node in &nodes {
        for (store, address) in (1..).zip(&addresses) {
            if *address != node.transport.local_addr() {
                node.transport.set_address(store, vec![*address]);
            }
        }
    }
    (nodes, heard)
}

/// Sums over nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    packets_out: u64,
    bytes_out: u64,
    packets_in: u64,
    bytes_in: u64,
    dials: u64,
    closed: u64,
    datagrams: u64,
    keep_alives: u64,
}

impl Wire {
    fn of<'a>(transports: impl Iterator<Item = &'a Transport>) -> Self {
        let mut sum = Self::default();
        for transport in transports {
            for (name, count) in transport.counters() {
                match name {
                    "wire_packets_sent" => sum.packets_out += count,
                    "wire_bytes_sent" => sum.bytes_out += count,
                    "wire_packets_received" => sum.packets_in += count,
                    "wire_bytes_received" => sum.bytes_in += count,
                    "dials" => sum.dials += count,
                    "connections_put_to_rest" => sum.closed += count,
                    "datagrams_sent" => sum.datagrams += count,
                    "keep_alives" => sum.keep_alives += count,
                    _ => {}
                }
            }
        }
        sum
    }
}

/// Memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

fn cluster(size: u64, span: Duration, bound: Option<usize>) {
    let size = size as usize;
    let (nodes, heard) = nodes(size, bound);
    let idle_memory = resident();
    if bound.is_none() {
        meet(&nodes, &heard);
    }
    let began = Instant::now();
    let keys = Keys(nodes.iter().map(|node| node.signer.public_key()).collect());
    let me = |at: usize| LocalMember {
        store: StoreId::new(at as u64 + 1),
        name: format!("n{}", at + 1),
        generation: 1,
        addresses: vec![nodes[at].transport.local_addr()],
        metadata: Metadata {
            capacity: 1,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            ..Metadata::default()
        },
    };
    let records: Vec<SignedRecord> = (0..size)
        .map(|at| {
            let me = me(at);
            let record = Record {
                store: me.store,
                name: me.name,
                generation: me.generation,
                incarnation: 0,
                state: MemberState::Alive,
                addresses: me.addresses,
                metadata: me.metadata,
            };
            record
                .sign(&Pen(nodes[at].signer.clone()))
                .expect("a small record")
        })
        .collect();
    let mut swims: Vec<Swim> = (0..size)
        .map(|at| {
            let options = SwimOptions::lan().check().expect("the preset");
            let pen = Box::new(Pen(nodes[at].signer.clone()));
            let mut swim = Swim::new(options, me(at), pen, at as u64 + 1, began.elapsed())
                .expect("a small record");
            swim.admitted(began.elapsed(), (1..=size as u64).map(StoreId::new));
            swim.learn(began.elapsed(), records.clone());
            swim
        })
        .collect();

    let mut before = None;
    let (mut probed, mut payload, mut died) = (0_u64, 0_u64, 0_u64);
    while began.elapsed() < WARM_UP + span {
        if before.is_none() && began.elapsed() >= WARM_UP {
            (probed, payload) = (0, 0);
            before = Some((
                Wire::of(nodes.iter().map(|node| &node.transport)),
                Instant::now(),
            ));
        }
        if let Ok(heard) = heard.recv_timeout(Duration::from_millis(2))
            && let Ok(mut packet) = Packet::decode(&heard.packet)
        {
            swims[heard.at].screen(&mut packet, &keys);
            swims[heard.at].receive(began.elapsed(), StoreId::new(heard.from), packet);
        }
        for (at, swim) in swims.iter_mut().enumerate() {
            if swim.wake_at() <= began.elapsed() {
                swim.tick(began.elapsed());
            }
            while let Some(output) = swim.poll_output() {
                let transport = &nodes[at].transport;
                match output {
                    SwimOutput::Datagram { to, packet } => {
                        let mut bytes = vec![TAG];
                        bytes.extend(packet.encode());
                        probed += 1;
                        payload += bytes.len() as u64;
                        if transport.datagram(to.get(), Bytes::from(bytes)).is_err() {
                            swim.send_failed(began.elapsed(), to);
                        }
                    }
                    SwimOutput::Stream { to, packet } => {
                        let frame = Bytes::from(packet.encode());
                        payload += frame.len() as u64;
                        // Refused: the machine's timer judges that.
                        let _refused = transport.send(to.get(), Lane::Gossip, vec![frame]);
                    }
                    SwimOutput::Event(synod_membership::MemberEvent::Died { .. }) => died += 1,
                    _ => {}
                }
            }
        }
    }
    let (before, since) = before.expect("it was warm once");
    let after = Wire::of(nodes.iter().map(|node| &node.transport));
    let per_node = |before: u64, after: u64| {
        (after - before) as f64 / since.elapsed().as_secs_f64() / size as f64
    };
    let over = |count: u64| per_node(0, count);
    let open: Vec<usize> = nodes
        .iter()
        .map(|node| node.transport.connections())
        .collect();
    let ends: usize = open.iter().sum();
    println!(
        "{size} nodes, bound {bound:?}, {:.0} s after {WARM_UP:?}",
        since.elapsed().as_secs_f64()
    );
    println!(
        "payload {:.0} B/s in {:.2} datagrams/s per node; {died} verdicts of death",
        over(payload),
        over(probed)
    );
    println!(
        "out {:.0} B/s in {:.1} packets/s, in {:.0} B/s in {:.1} packets/s per node",
        per_node(before.bytes_out, after.bytes_out),
        per_node(before.packets_out, after.packets_out),
        per_node(before.bytes_in, after.bytes_in),
        per_node(before.packets_in, after.packets_in),
    );
    println!(
        "dials {:.3}/s, closed {:.3}/s, keep-alives {:.3}/s per node",
        per_node(before.dials, after.dials),
        per_node(before.closed, after.closed),
        per_node(before.keep_alives, after.keep_alives),
    );
    println!(
        "connections per node: {:?} to {:?}; memory {:.0} kB per end of one",
        open.iter().min(),
        open.iter().max(),
        (resident() - idle_memory.min(resident())) as f64 / 1e3 / ends.max(1) as f64
    );
}

/// Opens every connection before anything is measured, one after the other: all at once is a storm, and another figure.
fn meet(nodes: &[Node], heard: &mpsc::Receiver<Heard>) {
    for (at, node) in nodes.iter().enumerate() {
        for to in at + 1..nodes.len() {
            let packet = Bytes::from(vec![TAG; 2]);
            let sent = node.transport.datagram(to as u64 + 1, packet);
            sent.expect("its address is known");
            let heard = heard.recv_timeout(Duration::from_secs(30));
            assert_eq!(heard.expect("it arrives").at, to);
        }
    }
}

/// One node opens a connection to each of `count` others for one packet of gossip, and closes it for the next.
fn handshakes(count: u64) {
    let (nodes, heard) = nodes(count as usize + 1, Some(0));
    let packet = Bytes::from(vec![TAG; 31]);
    for to in 2..=count + 1 {
        let transport = &nodes[0].transport;
        transport
            .datagram(to, packet.clone())
            .expect("its address is known");
        let heard = heard.recv_timeout(Duration::from_secs(5));
        assert_eq!(heard.expect("it arrives").at as u64 + 1, to);
    }
    while nodes.iter().any(|node| node.transport.connections() > 0) {
        std::thread::sleep(Duration::from_millis(100)); // between two looks
    }
    std::thread::sleep(Duration::from_secs(2)); // what is under way arrives, and is counted at the next look
    let one = Wire::of([&nodes[0].transport].into_iter());
    let each = |sum: u64| sum as f64 / count as f64;
    println!(
        "one connection for one packet of {} bytes, both ways, from the first packet to the last: dialled {:.2} times",
        packet.len(),
        each(one.dials)
    );
    println!(
        "out {:.0} B in {:.1} packets, in {:.0} B in {:.1} packets, seen from whoever dials",
        each(one.bytes_out),
        each(one.packets_out),
        each(one.bytes_in),
        each(one.packets_in)
    );
}
