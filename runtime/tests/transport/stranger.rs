//! The other end of a connection by hand: plain quinn, so that it can misbehave, and the wire format seen from outside.

use std::{net::SocketAddr, sync::Arc};

use quinn::{
    Connection, ConnectionError, Endpoint,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use synod::transport::Issued;

use crate::world::World;

/// A process with a certificate of the world's CA.
pub(crate) struct Stranger {
    endpoint: Endpoint,
    runtime: tokio::runtime::Runtime,
}

/// The hello of protocol 1.
#[derive(serde::Serialize)]
pub(crate) struct Hello {
    pub(crate) lowest: u16,
    pub(crate) highest: u16,
    cluster: Option<serde_bytes::ByteArray<16>>,
    name: String,
    store: Option<u64>,
    generation: u64,
    client: bool,
    instance: u64,
    purpose: &'static str,
}

pub(crate) fn hello(name: &str, store: Option<u64>) -> Hello {
    let cluster = Some(serde_bytes::ByteArray::new(7_u128.to_be_bytes()));
    let (name, purpose) = (name.to_owned(), "main");
    Hello {
        lowest: 1,
        highest: 1,
        cluster,
        name,
        store,
        generation: 1,
        client: false,
        instance: 1,
        purpose,
    }
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).unwrap()
    }
}

/// With its length in front.
pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

/// Code and reason with which the other end closes.
pub(crate) async fn end(connection: &Connection) -> (u64, String) {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => (
            close.error_code.into(),
            String::from_utf8(close.reason.to_vec()).unwrap(),
        ),
        error => panic!("closed in another way: {error}"),
    }
}

impl Stranger {
    pub(crate) fn node(world: &World, name: &str) -> Self {
        Self::new(world, &world.ca.issue_node(name).unwrap(), false)
    }

    pub(crate) fn client(world: &World, name: &str) -> Self {
        Self::new(world, &world.ca.issue_client(name).unwrap(), false)
    }

    /// A client's certificate, on a server, until the endpoint is closed.
    pub(crate) fn listening_client(world: &World, name: &str) -> Endpoint {
        let stranger = Self::new(world, &world.ca.issue_client(name).unwrap(), true);
        let endpoint = stranger.endpoint.clone();
        std::thread::spawn(move || {
            stranger.run(async |stranger| {
                while let Some(incoming) = stranger.endpoint.accept().await {
                    drop(incoming.await); // the other end ends it
                }
            });
        });
        endpoint
    }

    fn new(world: &World, issued: &Issued, listens: bool) -> Self {
        let certificate =
            CertificateDer::from_pem_slice(issued.certificate_pem().as_bytes()).unwrap();
        let key = || PrivateKeyDer::from_pem_slice(issued.key_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(world.ca.certificate_path()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.clone()], key())
            .unwrap();
        client.alpn_protocols = vec![b"synod".to_vec()];
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key())
            .unwrap();
        server.alpn_protocols = vec![b"synod".to_vec()];

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let address = ([127, 0, 0, 1], 0).into();
        let mut endpoint = if listens {
            let server = QuicServerConfig::try_from(server).unwrap();
            Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(server)), address).unwrap()
        } else {
            Endpoint::client(address).unwrap()
        };
        let client = QuicClientConfig::try_from(client).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(client)));
        drop(guard);
        Self { endpoint, runtime }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Connection {
        self.endpoint
            .connect(address, "node.synod")
            .unwrap()
            .await
            .unwrap()
    }

    pub(crate) fn run<T>(&self, script: impl AsyncFnOnce(&Self) -> T) -> T {
        self.runtime.block_on(script(self))
    }
}
