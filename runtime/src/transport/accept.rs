//! The side that is dialled: handshake, hello, and into use.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    certificates::Facts,
    closing::Closing,
    core::{Core, Met},
    frame,
    hello::{HELLO_BYTES, Hello, Purpose, Refusal},
    link::{answer_calls, count_wire, read_single},
};

/// Handshakes at a time; more are refused at once. Each costs about a millisecond of CPU.
const HANDSHAKES_MAX: usize = 128;
/// Handshakes under way from which on a caller must first show that it is reached where it says it is (RFC 9000, 8.1.2). That costs it
/// a round trip and this process nothing to remember: whoever only repeats beginnings that it heard elsewhere, each of which keeps a
/// place until [`HANDSHAKE_TIMEOUT`], leaves the other places to those who mean it.
const HANDSHAKES_UNPROVEN_MAX: usize = HANDSHAKES_MAX / 4;
/// From the first packet to "go".
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts until the endpoint closes.
pub(super) async fn accept(core: Arc<Core>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= HANDSHAKES_UNPROVEN_MAX && incoming.may_retry() {
            core.counters.handshakes_sent_back.one();
            drop(incoming.retry()); // fails only where it may not
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            core.counters.refused_too_many.one();
            incoming.refuse();
            continue;
        };
        let core = core.clone();
        tokio::spawn(async move {
            let from = incoming.remote_address();
            match timeout(HANDSHAKE_TIMEOUT, meet(&core, incoming)).await {
                Ok(Ok(met)) => core.take(met),
                Ok(Err(refusal)) => tracing::debug!(%from, %refusal, "a connection was not taken"),
                Err(_) => {
                    core.counters.handshakes_failed.one();
                    tracing::debug!(%from, "a connection was not taken: its handshake took too long")
                }
            }
            drop(permit);
        });
    }
}

impl Core {
    /// Puts an accepted connection to its use.
    fn take(self: &Arc<Self>, met: Met) {
        if met.purpose == Purpose::Call {
            let peer = self.peer(&met.hello, &met.facts, 0);
            let core = self.clone();
            tokio::spawn(async move {
                answer_calls(core.clone(), met.connection.clone(), peer).await;
                count_wire(&met.connection, &core.counters, &mut [0; 4]);
            });
        } else {
            self.register(met);
        }
    }
}

async fn meet(core: &Core, incoming: Incoming) -> Result<Met, Refusal> {
    let lost = |error: quinn::ConnectionError| {
        core.counters.handshakes_failed.one();
        super::closing::explain(&error)
    };
    // QUIC itself waits for as long as a connection may rest.
    let connection = timeout(core.limits.idle_timeout, incoming.accept().map_err(lost)?);
    let connection = connection
        .await
        .unwrap_or(Err(quinn::ConnectionError::TimedOut))
        .map_err(lost)?;
    let result = hello(core, &connection).await;
    if let Err(refusal) = &result {
        core.counters.hellos_refused.one();
        let closing = if refusal.lasting {
            Closing::RefusedLasting
        } else {
            Closing::RefusedPassing
        };
        closing.close(&connection, &refusal.reason);
    }
    result
}

async fn hello(core: &Core, connection: &Connection) -> Result<Met, Refusal> {
    let facts = facts(connection)?;
    let (mut send, mut receive) = connection
        .accept_bi()
        .await
        .map_err(|error| super::closing::explain(&error))?;
    let theirs = read_single(&mut receive, HELLO_BYTES)
        .await
        .map_err(Refusal::passing)?;
    let theirs = Hello::decode(&theirs)?;
    let ours = core.hello(theirs.purpose, None);
    let protocol = ours.meet(&theirs, &facts)?;
    core.objections(&theirs, &core.peer(&theirs, &facts, 0))?;
    send.write_chunk(frame::single(&ours.encode()))
        .await
        .map_err(|error| Refusal::passing(error.to_string()))?;
    drop(send.finish()); // fails only when it was stopped
    receive
        .read_exact(&mut [0])
        .await
        .map_err(|_| Refusal::passing("the other end did not go on".to_owned()))?;
    let purpose = theirs.purpose;
    Ok(Met {
        connection: connection.clone(),
        hello: theirs,
        facts,
        protocol,
        purpose,
        dialled: false,
    })
}

/// What the verified certificate of the other end says.
pub(super) fn facts(connection: &Connection) -> Result<Facts, Refusal> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| chain.first().map(|certificate| Facts::read(certificate)))
        .unwrap_or(Err("is missing"))
        .map_err(|reason| Refusal::lasting(format!("the certificate of the other end {reason}")))
}
