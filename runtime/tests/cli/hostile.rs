//! An open port and whoever knocks at it: each is turned away, counted, and notices that the node goes on for others.
//!
//! Here: certificates that are no good ([`Knocker`], plain QUIC from outside), packets that were heard before or are none, and a
//! process of the cluster's CA that talks nonsense. Elsewhere: a node or client of another CA, of another cluster, with the
//! certificate of another node, told in one sentence (`bad_input`); each rule of the handshake and the lanes by itself (the tests of
//! `transport`).

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_rt::task::JoinHandle;
use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ED25519};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use synod::Client;
use synod::transport::{
    CallAnswer, DevelopmentCa, EndpointKeys, Inbound, Lane, Limits, LocalHello, Peer, Transport,
    TransportOptions,
};

use super::harness::{Home, Node, PATIENCE, counter, one_sentence, until};
use super::kv::{Add, Get, Pair};

/// What a node may take while it is knocked at; at rest it takes about 20 MiB.
const MEMORY_MIB: u64 = 128;

/// Commands of a client that goes on meanwhile.
struct Busy {
    acked: Rc<Cell<i64>>,
    stop: Rc<Cell<bool>>,
    task: JoinHandle<()>,
}

impl Busy {
    fn new(client: &Client) -> Self {
        let (acked, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let pair = client.entities::<Pair>().at("busy");
        let (count, over) = (acked.clone(), stop.clone());
        let task = actix_rt::spawn(async move {
            while !over.get() {
                let sum = pair.ask(Add { amount: 1 }).deadline(PATIENCE).await;
                let sum = sum.expect("the node serves").expect("a small number");
                count.set(count.get() + 1);
                assert_eq!(sum, count.get(), "each once");
            }
        });
        Self { acked, stop, task }
    }

    /// Returns once so many more are acknowledged.
    async fn goes_on(&self, more: i64) {
        let before = self.acked.get();
        until("commands go on", async || self.acked.get() >= before + more).await;
    }

    async fn end(self) -> i64 {
        self.stop.set(true);
        self.task.await.expect("every command was answered");
        self.acked.get()
    }
}

fn read(home: &Home, file: &str) -> String {
    std::fs::read_to_string(home.path().join(file)).expect("a file of the CA")
}

/// A certificate and its key, in PEM.
struct Papers {
    certificate: String,
    key: String,
}

impl Papers {
    /// For a node of that name, signed by a CA of whose directory this is; good until 2020 if `expired`.
    fn of(home: &Home, name: &str, expired: bool) -> Self {
        let ca_key = KeyPair::from_pem(&read(home, "ca.key")).expect("a key");
        let issuer = Issuer::from_ca_cert_pem(&read(home, "ca.crt"), ca_key).expect("a CA");
        let names = ["node.synod".to_owned(), format!("{name}.node.synod")];
        let mut params = CertificateParams::new(names.to_vec()).expect("names");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A process that dials nodes of a CA and shows whatever it likes.
struct Knocker(quinn::Endpoint);

impl Knocker {
    fn new(home: &Home, papers: Option<&Papers>) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(read(home, "ca.crt").as_bytes());
        roots.add(ca.expect("a certificate")).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version")
            .with_root_certificates(roots);
        let mut tls = match papers {
            Some(papers) => {
                let certificate = CertificateDer::from_pem_slice(papers.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).expect("a key");
                let chain = vec![certificate.expect("a certificate")];
                tls.with_client_auth_cert(chain, key).expect("they fit")
            }
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"synod".to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("for QUIC");
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = quinn::Endpoint::client(here).expect("a port");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
        Self(endpoint)
    }

    /// The code and the reason with which the node ends the connection.
    async fn knock(&self, address: SocketAddr) -> (u64, String) {
        let connecting = self.0.connect(address, "node.synod").expect("an address");
        let ended = match connecting.await {
            // The node verifies this side's certificate when this side has finished.
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        match ended {
            quinn::ConnectionError::ConnectionClosed(close) => (
                close.error_code.into(),
                String::from_utf8_lossy(&close.reason).into_owned(),
            ),
            other => panic!("ended in another way: {other}"),
        }
    }

    /// First packets of so many connections: to an address where nobody answers.
    async fn first_packets(&self, count: usize) -> Vec<Vec<u8>> {
        let nobody = UdpSocket::bind("127.0.0.1:0").expect("a port");
        nobody.set_nonblocking(true).expect("a socket");
        let address = nobody.local_addr().expect("bound");
        let (mut packets, mut begun) = (Vec::new(), Vec::new());
        let mut buffer = [0; 2_048];
        for _ in 0..count {
            // Kept: dropped, it would say so in another packet.
            begun.push(self.0.connect(address, "node.synod").expect("an address"));
            let before = packets.len();
            until("it dials", async || {
                while let Ok(bytes) = nobody.recv(&mut buffer) {
                    packets.push(buffer[..bytes].to_vec());
                }
                packets.len() > before
            })
            .await;
        }
        packets
    }
}

async fn founded(home: &Home) -> (Node, Client, SocketAddr) {
    let node = home.start("n1", &["--found", "--shards", "4"]);
    let client = home.client(&[&node]).await;
    let address = node.address.parse().expect("an address");
    (node, client, address)
}

/// TLS alerts as QUIC codes (RFC 8446, 6.2; RFC 9001, 4.8).
const EXPIRED: u64 = 0x100 + 45;
const UNKNOWN_CA: u64 = 0x100 + 48;
const BAD_SIGNATURE: u64 = 0x100 + 51;
const MISSING: u64 = 0x100 + 116;

#[actix_rt::test]
async fn certificates_that_are_no_good_are_turned_away_and_counted() {
    // Issue 4: wrong CA, expired certificate. Again and again, while the node serves.
    const ROUNDS: u64 = 40;
    let (home, theirs) = (Home::new(), Home::new());
    let (node, client, address) = founded(&home).await;
    DevelopmentCa::open(theirs.path()).expect("a CA");
    let busy = Busy::new(&client);
    let of_another_ca = Knocker::new(&home, Some(&Papers::of(&theirs, "n2", false)));
    let expired = Knocker::new(&home, Some(&Papers::of(&home, "n2", true)));
    let without = Knocker::new(&home, None);
    for _ in 0..ROUNDS {
        let (code, reason) = of_another_ca.knock(address).await;
        assert!(
            [UNKNOWN_CA, BAD_SIGNATURE].contains(&code),
            "{code:#x} {reason}"
        );
        let (code, reason) = expired.knock(address).await;
        assert_eq!(code, EXPIRED, "{reason}");
        let (code, reason) = without.knock(address).await;
        assert_eq!(code, MISSING, "{reason}");
    }
    busy.goes_on(50).await;
    until("each is counted", async || {
        counter(&client, &node, "handshakes_failed").await >= 3 * ROUNDS
    })
    .await;
    assert_eq!(
        counter(&client, &node, "handshakes_failed").await,
        3 * ROUNDS
    );
    busy.end().await;
}

#[test]
fn a_node_whose_own_certificate_has_expired_says_so_and_does_not_start() {
    let home = Home::new();
    DevelopmentCa::open(home.path()).expect("a CA");
    let papers = Papers::of(&home, "n1", true);
    let file = |name: &str| home.path().join(name).display().to_string();
    std::fs::write(file("n1.crt"), papers.certificate).expect("written");
    std::fs::write(file("n1.key"), papers.key).expect("written");
    let (ca, certificate, key) = (file("ca.crt"), file("n1.crt"), file("n1.key"));
    let files = ["--ca", &ca, "--cert", &certificate, "--key", &key];
    let ended = home.start_to_end("n1", &[&["--found"][..], &files].concat());
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = one_sentence(&ended.said);
    assert!(said.contains("n1") && said.contains("expired"), "{said}");
}

/// Passes packets on between whoever speaks first and an address, and keeps those that go there.
struct Wiretap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    upstream: UdpSocket,
}

impl Wiretap {
    fn on(to: SocketAddr) -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (downstream, upstream) = (socket(), socket());
        upstream.connect(to).expect("an address");
        let address = downstream.local_addr().expect("bound");
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = heard.clone();
        let clone = |socket: &UdpSocket| socket.try_clone().expect("a handle");
        let (down, up) = (clone(&downstream), clone(&upstream));
        let caller = Arc::<Mutex<Option<SocketAddr>>>::default();
        let back_to = caller.clone();
        // Both threads end with the test's process: nobody speaks to them any more.
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((bytes, from)) = downstream.recv_from(&mut buffer) {
                *caller.lock().expect("unpoisoned") = Some(from);
                kept.lock()
                    .expect("unpoisoned")
                    .push(buffer[..bytes].to_vec());
                drop(up.send(&buffer[..bytes])); // as lossy as any network
            }
        });
        let there = clone(&upstream);
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok(bytes) = there.recv(&mut buffer) {
                if let Some(to) = *back_to.lock().expect("unpoisoned") {
                    drop(down.send_to(&buffer[..bytes], to)); // likewise
                }
            }
        });
        Self {
            address,
            heard,
            upstream,
        }
    }
}

/// Numbers that look random and are the same each time (xorshift, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Sends packets to an address until it is dropped: some as they were heard, some with a bit flipped, some that never were any.
struct Flood {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    /// Packets that leave together; then the thread rests for a millisecond, so that the machine has something left for the node.
    const BURST: u64 = 5;

    fn of(known: Vec<Vec<u8>>, from: [UdpSocket; 2]) -> Self {
        let (sent, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, ends) = (sent.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut chance = Chance(4);
            while !ends.load(Ordering::Relaxed) {
                let nth = count.fetch_add(1, Ordering::Relaxed);
                let mut packet = known[chance.below(known.len())].clone();
                match nth % 3 {
                    0 => {} // as it was
                    1 => {
                        let at = chance.below(packet.len());
                        packet[at] ^= 1 << chance.below(8);
                    }
                    _ => {
                        let length = 1 + chance.below(1_400);
                        packet = (0..length).map(|_| chance.next() as u8).collect();
                    }
                }
                drop(from[(nth % 2) as usize].send(&packet)); // as lossy as any network
                if nth % Self::BURST == 0 {
                    std::thread::sleep(Duration::from_millis(1)); // the stimulus's pace; no outcome rests on it
                }
            }
        });
        Self {
            sent,
            over,
            thread: Some(thread),
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // it panics only with the test
        }
    }
}

#[actix_rt::test]
async fn packets_that_were_heard_before_or_are_none_change_nothing() {
    // Issue 4: replayed and malformed frames at a rate against an open port.
    const PACKETS: u64 = 20_000;
    const BEGINNINGS: usize = 300;
    let home = Home::new();
    let (node, client, address) = founded(&home).await;
    let tap = Wiretap::on(address);
    let asked = home.run(&["status", "--at", &tap.address.to_string()]);
    assert!(asked.status.success(), "through the tap: {asked:?}");
    let mut known = tap.heard.lock().expect("unpoisoned").clone();
    assert!(known.len() > 3, "a handshake and a question");
    // Beginnings of connections of which nothing more will come. The node has to remember each that it takes for one.
    let stranger = Knocker::new(&home, None);
    known.extend(stranger.first_packets(BEGINNINGS).await);

    let busy = Busy::new(&client);
    let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a port");
    elsewhere.connect(address).expect("an address");
    let flood = Flood::of(known, [tap.upstream, elsewhere]);
    until("much was sent", async || flood.sent() >= PACKETS).await;
    busy.goes_on(20).await;
    // In the midst of it somebody new comes in.
    let newcomer = home.client(&[&node]).await;
    let least = busy.acked.get();
    let read = newcomer.entities::<Pair>().at("busy").query(Get {}).await;
    let value = read.expect("answered").expect("it was added to");
    let value: i64 = value.parse().expect("a number");
    assert!(value >= least, "{value} after {least}");
    let packets = flood.sent();
    drop(flood);

    let mut turned_away = 0;
    for name in ["handshakes_failed", "handshakes_sent_back"] {
        turned_away += counter(&client, &node, name).await;
    }
    assert!(turned_away >= BEGINNINGS as u64, "{turned_away}");
    // Whoever only repeats beginnings takes no place from those who mean it.
    assert_eq!(counter(&client, &node, "refused_too_many").await, 0);
    let acked = busy.end().await;
    let value = client.entities::<Pair>().at("busy").query(Get {}).await;
    assert_eq!(
        value.expect("answered"),
        Some(acked.to_string()),
        "each once"
    );
    let peak = node.peak_mib();
    println!(
        "{packets} packets, {turned_away} beginnings turned away, {acked} commands meanwhile, peak {peak} MiB"
    );
    assert!(peak <= MEMORY_MIB, "{peak} MiB");
}

/// Hears nothing.
struct Deaf;

impl Inbound for Deaf {
    fn frame(&self, _from: &Peer, _lane: Lane, _frames: Vec<Bytes>) {}
    fn datagram(&self, _from: &Peer, _datagram: Bytes) {}
    fn call(&self, _from: &Peer, _frame: Bytes, _answer: CallAnswer) {}
    fn connected(&self, _peer: &Peer) {}
    fn disconnected(&self, _peer: &Peer) {}
}

/// A process with good papers and the protocol's own transport, which says nonsense in it.
fn babbler(home: &Home) -> Transport {
    let ca = DevelopmentCa::open(home.path()).expect("the CA");
    let options = TransportOptions {
        listen: None,
        identity: ca.client_identity("babbler").expect("a certificate"),
        hello: Arc::new(Mutex::new(LocalHello {
            name: "babbler".to_owned(),
            ..LocalHello::default()
        })),
        keys: EndpointKeys::ephemeral(),
        limits: Limits::default(),
    };
    Transport::bind(options, Arc::new(Deaf)).expect("a port")
}

#[actix_rt::test]
async fn frames_that_mean_nothing_are_counted_and_harm_nobody() {
    // M44: whoever has a certificate is let in, and may still send anything.
    const FRAMES: u64 = 20_000;
    let home = Home::new();
    let (node, client, address) = founded(&home).await;
    let store = client
        .status(&node.address)
        .await
        .expect("it answers")
        .store;
    let busy = Busy::new(&client);
    let babbler = babbler(&home);
    babbler.set_address(store, vec![address]);
    let mut chance = Chance(44);
    let mut sent = 0;
    until("enough is said", async || {
        for lane in [Lane::Request, Lane::Raft, Lane::Gossip, Lane::Reply] {
            let frames: Vec<Bytes> = (0..100)
                .map(|_| {
                    let length = 1 + chance.below(2_000);
                    (0..length).map(|_| chance.next() as u8).collect()
                })
                .collect();
            let count = frames.len() as u64;
            // Refused: its own queue is full.
            if babbler.send(store, lane, frames).is_ok() && lane == Lane::Request {
                sent += count;
            }
        }
        drop(babbler.datagram(store, Bytes::from_static(b"\x07what"))); // likewise
        sent >= FRAMES
    })
    .await;
    for _ in 0..20 {
        let question: Bytes = (0..64).map(|_| chance.next() as u8).collect();
        // An error, or an answer that says so: it is the asker's affair.
        drop(
            babbler
                .call(address, question, Duration::from_secs(5))
                .await,
        );
    }
    until("each is counted", async || {
        counter(&client, &node, "frames_undecodable").await >= FRAMES
    })
    .await;
    busy.goes_on(50).await;
    busy.end().await;
    let peak = node.peak_mib();
    assert!(peak <= MEMORY_MIB, "{peak} MiB");
    babbler.close();
}
