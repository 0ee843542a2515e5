//! The thread of the transport: its socket, its settings of QUIC, its loop.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use tokio::{runtime, sync::watch, time::timeout};

use super::{
    BindError, EndpointKeys, Identity, Inbound, Limits, TransportOptions,
    accept::accept,
    closing::Closing,
    core::Core,
    hello::Purpose,
    outbox::lock,
    party::{Party, purpose_of, slot},
    rest::look_around,
};

/// What the farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Asked for as buffer of the socket, in each direction; the system may give less. A burst from several peers at once
/// must fit while the thread is not scheduled.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// How the thread ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Peers are told.
    Farewell,
    /// As if killed.
    Silence,
}

/// What a running thread is known by.
pub(super) struct Started {
    pub(super) local: SocketAddr,
    /// Taken back when the thread ends: it holds the socket.
    pub(super) endpoint: Arc<Mutex<Option<Endpoint>>>,
    pub(super) runtime: runtime::Handle,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Started({})", self.local)
    }
}

/// Starts the thread; returns when it listens.
pub(super) fn start(
    options: TransportOptions,
    inbound: Arc<dyn Inbound>,
    ends: watch::Receiver<Option<Ending>>,
) -> Result<(Arc<Core>, Started), BindError> {
    check_names(&options)?;
    options.limits.check().map_err(BindError::Limits)?;
    let settings = Settings::new(&options)?;
    let socket = socket(options.listen)?;
    let mut instance = [0; 8];
    SystemRandom::new()
        .fill(&mut instance)
        .map_err(|_| BindError::Tls("no random bytes".to_owned()))?;
    let client = options.listen.is_none();
    let core = Core::new(
        options.limits,
        client,
        u64::from_le_bytes(instance),
        options.hello,
        settings.between_nodes.clone(),
        inbound,
    );
    let core = Arc::new(core);

    let (started, has_started) = mpsc::sync_channel(1);
    let on_thread = core.clone();
    std::thread::Builder::new()
        .name("synod-quic".to_owned())
        .spawn(move || thread(on_thread, settings, socket, ends, &started))
        .map_err(BindError::Thread)?;
    let failed = || {
        Err(io::Error::other(
            "the transport's thread ended at its start",
        ))
    };
    let started = has_started
        .recv()
        .unwrap_or_else(|_| failed())
        .map_err(BindError::Thread)?;
    Ok((core, started))
}

fn check_names(options: &TransportOptions) -> Result<(), BindError> {
    let (identity, name) = (&options.identity, lock(&options.hello).name.clone());
    if let Some(address) = options.listen {
        if identity.is_client() {
            return Err(BindError::ClientCertificate {
                name: identity.name().to_owned(),
            });
        }
        if identity.is_development() && !address.ip().is_loopback() {
            return Err(BindError::DevelopmentBeyondLoopback { address });
        }
    }
    if identity.name() != name {
        return Err(BindError::CertificateOfAnother {
            certificate: identity.name().to_owned(),
            name,
        });
    }
    Ok(())
}

fn socket(listen: Option<SocketAddr>) -> Result<UdpSocket, BindError> {
    let bind = |address: SocketAddr| {
        UdpSocket::bind(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::AddressInUse { address },
            _ => BindError::Socket { address, source },
        })
    };
    let socket = match listen {
        Some(address) => bind(address)?,
        // A client may be given addresses of both kinds; Linux maps IPv4 into a socket of IPv6.
        None => bind((Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| bind((Ipv4Addr::UNSPECIFIED, 0).into()))?,
    };
    // Less is slower, not wrong.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    Ok(socket)
}

/// quinn's settings, made before the thread starts so that errors reach the caller.
struct Settings {
    endpoint: EndpointConfig,
    server: Option<ServerConfig>,
    client: ClientConfig,
    /// For main connections to other nodes.
    between_nodes: ClientConfig,
}

impl Settings {
    fn new(options: &TransportOptions) -> Result<Self, BindError> {
        let limits = &options.limits;
        // Whoever dials keeps a connection alive, except between nodes: one that only gossip uses rests without a packet, and one
        // in use is kept alive by `rest`.
        let mut kept = transport(limits, limits.idle_timeout);
        kept.keep_alive_interval(Some(limits.keep_alive));
        let resting = Arc::new(transport(limits, limits.gossip_idle + limits.idle_timeout));
        let server = match options.listen {
            None => None,
            Some(_) => {
                let tls = options.identity.server_tls().map_err(BindError::Tls)?;
                let tls = QuicServerConfig::try_from(tls)
                    .map_err(|error| BindError::Tls(error.to_string()))?;
                let mut server = ServerConfig::with_crypto(Arc::new(tls));
                server.transport_config(resting.clone());
                Some(server)
            }
        };
        Ok(Self {
            endpoint: endpoint(&options.keys)?,
            server,
            client: client(&options.identity, Arc::new(kept))?,
            between_nodes: client(&options.identity, resting)?,
        })
    }
}

fn client(identity: &Identity, transport: Arc<TransportConfig>) -> Result<ClientConfig, BindError> {
    let tls = identity.client_tls().map_err(BindError::Tls)?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| BindError::Tls(error.to_string()))?;
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(transport);
    Ok(client)
}

fn endpoint(keys: &EndpointKeys) -> Result<EndpointConfig, BindError> {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &keys.reset)));
    let id_key = keys.connection_id;
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    // After a restart every former peer needs a reset of its own, and they all ask in the same millisecond, again and
    // again at the same time; with one in 20 ms most of 24 clients were back only after a second. A reset is smaller than
    // the packet that it answers, so nothing grows out of this.
    config.min_reset_interval(Duration::ZERO);
    config
        .max_udp_payload_size(PACKET_BYTES_MAX)
        .map_err(|error| BindError::Tls(error.to_string()))?;
    Ok(config)
}

/// The largest packet that the search for the path's MTU tries: on loopback and over jumbo frames a burst takes a quarter
/// of the packets. quinn gives the kernel up to ten packets at a time, which together must fit into one UDP datagram
/// (65,487 bytes over IPv6): with 8,900 every full batch was lost, and the connection stood still until its timers.
const PACKET_BYTES_MAX: u16 = 6_500;

/// `idle`: silence after which QUIC ends a connection. The shorter one of both ends counts.
fn transport(limits: &Limits, idle: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
        // One stream per lane, one for the hello, and the calls.
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .max_concurrent_bidi_streams(VarInt::from_u32(1 + limits.calls))
        .stream_receive_window(VarInt::from_u32(8 << 20))
        .receive_window(VarInt::from_u32(32 << 20))
        .send_window(8 << 20)
        .datagram_receive_buffer_size(Some(256 << 10))
        .datagram_send_buffer_size(256 << 10)
        // Repeats a lost first packet after three times this. QUIC's default of 333 ms is for the internet. Asking for
        // fewer acknowledgements (the ACK frequency extension) brought nothing: most ride on frames going back.
        .initial_rtt(Duration::from_millis(20));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(PACKET_BYTES_MAX);
    config.mtu_discovery_config(Some(mtu));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(128 << 10);
    config.congestion_controller_factory(Arc::new(congestion));
    config
}

fn thread(
    core: Arc<Core>,
    settings: Settings,
    socket: UdpSocket,
    mut ends: watch::Receiver<Option<Ending>>,
    started: &mpsc::SyncSender<io::Result<Started>>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))), // the other end waits for it
    };
    runtime.block_on(async {
        let local = socket.local_addr();
        let endpoint = Endpoint::new(
            settings.endpoint,
            settings.server,
            socket,
            Arc::new(TokioRuntime),
        );
        let (mut endpoint, local) = match endpoint.and_then(|endpoint| Ok((endpoint, local?))) {
            Ok(both) => both,
            Err(error) => return drop(started.send(Err(error))),
        };
        endpoint.set_default_client_config(settings.client);
        let handle = runtime::Handle::current();
        let shared = Arc::new(Mutex::new(Some(endpoint.clone())));
        drop(started.send(Ok(Started {
            local,
            endpoint: shared.clone(),
            runtime: handle,
        })));
        tokio::spawn(accept(core.clone(), endpoint.clone()));
        tokio::spawn(serve_bell(core.clone(), endpoint.clone()));
        tokio::spawn(look_around(core.clone(), endpoint.clone()));
        let how = ends
            .wait_for(Option::is_some)
            .await
            .map_or(Some(Ending::Farewell), |end| *end);
        if how == Some(Ending::Farewell) {
            endpoint.close(VarInt::from_u32(Closing::Done as u32), b"the process ends");
            drop(timeout(FAREWELL, endpoint.wait_idle()).await); // who was not told notices by the silence
        }
        lock(&shared).take();
    });
    runtime.shutdown_background();
    core.forget(); // connections hold the socket
    drop(ends); // only now the port is free
}

/// Wakes the writers of whatever has something to send, or has it dialled.
async fn serve_bell(core: Arc<Core>, endpoint: Endpoint) {
    loop {
        for party in core.bell.answer().await {
            serve(&core, &endpoint, &party);
        }
    }
}

fn serve(core: &Arc<Core>, endpoint: &Endpoint, party: &Arc<Party>) {
    let links = lock(&party.state).links.clone();
    let (mut dirty, datagrams) = party.outbox.take_dirty();
    let mut to_dial = [false; 2];
    // A ring without anything in the queues asks for the main connection.
    to_dial[slot(Purpose::Main)] = links[slot(Purpose::Main)].is_none();
    for lane in &mut dirty {
        let place = slot(purpose_of(lane));
        match &links[place] {
            Some(link) => link.wake(core, lane),
            None => to_dial[place] = true,
        }
    }
    if datagrams && let Some(link) = &links[slot(Purpose::Main)] {
        link.send_datagrams(core);
    }
    for purpose in [Purpose::Main, Purpose::Bulk] {
        if to_dial[slot(purpose)]
            || (purpose == Purpose::Bulk && links[slot(purpose)].is_none() && party.bulk_waits())
        {
            core.ensure_dial(endpoint, party, purpose);
        }
    }
}
