//! `synod start`: a node with the kind `kv`, from the command line to its last breath.

use std::error::Error;
use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use synod::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::connection::files;
use crate::kv::Pair;
use crate::options::StartOptions;

pub(crate) async fn run(options: StartOptions) -> Result<(), Box<dyn Error>> {
    let mut stop = Stop::new()?;
    let began = Instant::now();
    let mut builder = Node::builder()
        .store(&options.store)
        .listen(&options.listen)
        .entity::<Pair>();
    if let Some(name) = &options.name {
        builder = builder.name(name);
    }
    builder = builder.replace_after(Duration::from_secs(options.replace_after));
    builder = builder.capacity(options.capacity);
    if let Some(zone) = &options.zone {
        builder = builder.zone(zone);
    }
    for role in &options.roles {
        builder = builder.role(role);
    }
    builder = builder.overlay_bytes((options.unwritten_mib as usize) << 20);
    builder = builder.reserve_bytes(u64::from(options.reserve_mib) << 20);
    if options.no_lease_reads {
        builder = builder.lease_reads(false);
    }
    if options.found {
        builder = builder.found();
    }
    if let Some(shards) = options.shards {
        builder = builder.shards(shards);
    }
    if !options.join.is_empty() {
        builder = builder.join(options.join.iter().cloned());
    }
    if !options.seeds.is_empty() {
        builder = builder.seeds(options.seeds.iter().cloned());
    }
    if let Some(seconds) = options.give_up {
        builder = builder.give_up_joining_after(Duration::from_secs(seconds));
    }
    if let Some((ca, certificate, key)) = files(&options.certificates) {
        builder = builder.certificates(ca, certificate, key);
    }

    let node = tokio::select! {
        node = builder.start() => node?,
        () = stop.asked() => return Ok(()),
    };
    let reason = tokio::select! {
        reason = serve(&node, began) => reason,
        () = stop.asked() => {
            tokio::select! {
                () = node.shutdown() => return Ok(()),
                () = stop.asked() => return Err("stopped at the second signal, before leaderships were handed over".into()),
            }
        }
    };
    Err(format!("the node stopped: {reason}").into())
}

/// Says when the node is ready, then waits until it stops by itself; returns why it did.
async fn serve(node: &Node, began: Instant) -> String {
    let ready = async {
        node.ready().await;
        println!(
            "{} is ready at {} after {:.1} s (store {})",
            node.name(),
            node.local_addr(),
            began.elapsed().as_secs_f64(),
            node.store_id()
        );
        std::future::pending().await
    };
    tokio::select! {
        reason = node.stopped() => reason,
        reason = ready => reason,
    }
}

/// The signals that ask a node to stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// Only caught.
    _oversize: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            // A file at its size limit is an error like a full disk, with a sentence, and no sudden death.
            _oversize: signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
