//! A run of the demo: start, one phase after the other, and the verdict.
//!
//! Here: [`run`], which also makes sure that nothing is left behind: dropping the play ends every node, and then the data
//! directory goes. Not here: processes (`cluster`), clients (`load`, `probe`), judgement (`journal`), words (`report`).

use std::cell::RefCell;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use synod::Client;
use synod::wire::RoutingTable;
use tokio::signal::unix::{SignalKind, signal};

use super::account::Account;
use super::clients::{Desk, Purpose, Teller};
use super::cluster::{self, Cluster, SETTLE_PATIENCE};
use super::gaps::Gaps;
use super::growth::Growth;
use super::journal::Fault;
use super::load::{self, Kept};
use super::options::Options;
use super::probe;
use super::report::{Phase, Progress, Report};
use super::script::Event;

/// A phase that has not recovered so long after its planned end has failed. A node that was killed again and again leads nothing for a
/// while, each time twice as long, up to a minute.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(90);
/// Load before anything is measured: sessions open, caches warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often a phase looks whether all is well.
const GLANCE: Duration = Duration::from_millis(200);
/// Accounts read at the same time for the verdict.
const READERS: usize = 64;

/// Runs the whole demo. Exit status 1 when anything was lost or doubled, or a phase did not recover.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let directory = DataDirectory::make(options.keep)?;
    let play = async {
        let cluster = Cluster::new(&directory.path, options.shards);
        Play {
            progress: Progress::new(options.json),
            options,
            cluster,
            phases: Vec::new(),
            tables: Vec::new(),
            growth: Vec::new(),
            killed: None,
        }
        .run(&directory)
        .await
    };
    // Whichever branch ends first, the play is dropped before the directory: its nodes are ended, then the data goes.
    tokio::select! {
        report = play => {
            let report = report?;
            report.print();
            Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ = interrupt.recv() => Ok(interrupted("interrupt", 2)),
        _ = terminate.recv() => Ok(interrupted("terminate", 15)),
        _ = hangup.recv() => Ok(interrupted("hang-up", 1)),
    }
}

fn interrupted(signal: &str, number: u8) -> ExitCode {
    eprintln!("bank: ended by {signal}; the nodes are ended too");
    ExitCode::from(128 + number)
}

/// Where the stores are; removed at the end unless it is to be kept.
struct DataDirectory {
    path: PathBuf,
    keep: bool,
}

impl DataDirectory {
    fn make(keep: bool) -> Result<Self, Box<dyn Error>> {
        let path = std::env::temp_dir().join(format!("synod-bank-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            format!("cannot make the data directory {}: {error}", path.display())
        })?;
        Ok(Self { path, keep })
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("data and logs of the nodes are in {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("bank: cannot remove {}: {error}", self.path.display());
        }
    }
}

struct Play {
    options: Options,
    cluster: Cluster,
    progress: Progress,
    phases: Vec<Phase>,
    /// Where shards lived at the beginning and after each phase.
    tables: Vec<RoutingTable>,
    /// What each join moved.
    growth: Vec<Growth>,
    /// The node that was killed last.
    killed: Option<usize>,
}

impl Play {
    async fn run(mut self, directory: &DataDirectory) -> Result<Report, Box<dyn Error>> {
        self.progress.line(&format!(
            "{} nodes, {} shards, {} clients, {} accounts, seed {}, data in {}",
            self.options.nodes,
            self.options.shards,
            self.options.clients,
            self.options.accounts,
            self.options.seed,
            directory.path.display()
        ));
        let began = Instant::now();
        for _ in 0..self.options.nodes {
            self.cluster.add().await?;
        }
        let desk = Desk::new(self.options.seed);
        let watcher = self.connect(directory, 0.0).await?;
        self.settle(&watcher, "every group is led and leaderships are spread")
            .await?;
        self.progress.line(&format!(
            "cluster formed in {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        self.tables.push(self.table(directory).await?);

        let gateway = self.connect(directory, self.options.drop).await?;
        let clients: Vec<JoinHandle<Vec<Kept>>> = (0..u32::from(self.options.clients))
            .map(|client| {
                let teller =
                    Teller::new(desk.clone(), gateway.entities::<Account>(), Purpose::Load);
                let Options {
                    clients,
                    accounts,
                    seed,
                    ..
                } = self.options;
                load::start(teller, client, u32::from(clients), accounts, seed)
            })
            .collect();
        actix_rt::time::sleep(WARM_UP).await;
        let gaps = Rc::new(RefCell::new(Gaps::new(self.options.shards as usize)));
        let nodes = usize::from(self.options.nodes);
        let events = self.options.script.events(nodes, self.options.rounds);
        let shares: u32 = events.iter().map(|(_, share)| share).sum();
        let share = Duration::from_secs(self.options.seconds) / shares.max(1);
        let mut scene = Scene {
            desk: &desk,
            watcher: &watcher,
            directory,
            gaps: &gaps,
            probing: false,
        };
        // Probers measure the cluster, so no reply to them is thrown away.
        let lookout = self.connect(directory, 0.0).await?;
        let mut probers = Vec::new();
        for (event, shares) in events {
            if event != Event::Quiet && !scene.probing {
                probers = self.start_probers(&desk, &lookout, &gaps).await?;
                scene.probing = true;
            }
            self.phase(&scene, share * shares, event).await?;
        }

        desk.stop();
        let journals = drained(clients, probers).await?;
        // The last counts of the nodes; one that does not answer now was counted a moment ago.
        let _unanswered = self.cluster.status(&watcher).await;
        let retried = [&gateway, &lookout].map(|client| client.router().counters().retried);
        gateway.close();
        lookout.close();
        let reader = self.connect(directory, 0.0).await?;
        let faults = self.verdict(&reader, &desk, &journals).await?;
        let (moved_groups, moved_leaderships) = moved(&self.tables);
        Ok(Report {
            json: self.options.json,
            phases: self.phases,
            total: desk.total.take(),
            probes: desk.probes.take(),
            retried: retried.iter().sum(),
            accounts: journals.len(),
            commands: journals
                .iter()
                .map(|kept| kept.journal.asked() as u64)
                .sum(),
            faults,
            failure: desk.failure.take(),
            moved_groups,
            moved_leaderships,
            growth: self.growth,
            counts: self.cluster.counts(),
            peak_mib: self.cluster.peak_mib(),
        })
    }

    async fn connect(
        &self,
        directory: &DataDirectory,
        drop: f64,
    ) -> Result<Client, Box<dyn Error>> {
        let mut builder = Client::builder().development(&directory.path);
        if drop > 0.0 {
            builder = builder.drop_replies(drop, self.options.seed);
        }
        Ok(builder.connect(self.cluster.addresses()).await?)
    }

    /// Where shards live now, as a client sees it that just came.
    async fn table(&self, directory: &DataDirectory) -> Result<RoutingTable, Box<dyn Error>> {
        let client = self.connect(directory, 0.0).await?;
        Ok(RoutingTable::clone(&client.table()))
    }

    async fn settle(&mut self, watcher: &Client, wish: &str) -> Result<(), Box<dyn Error>> {
        self.cluster
            .until(watcher, wish, SETTLE_PATIENCE, |nodes| {
                nodes
                    .iter()
                    .all(|(_, node)| node.ready && node.leaderless == 0 && node.led > 0)
                    && nodes.iter().any(|(_, node)| node.unsettled == Some(0))
            })
            .await
    }

    /// The running node that leads most groups, but not `except`.
    async fn leads_most(
        &mut self,
        watcher: &Client,
        except: Option<usize>,
    ) -> Result<usize, Box<dyn Error>> {
        let nodes = self.cluster.status(watcher).await?;
        let most = nodes
            .iter()
            .filter(|(index, _)| Some(*index) != except)
            .max_by_key(|(_, node)| node.led);
        Ok(most.ok_or("no node runs")?.0)
    }

    /// One prober per shard, each with its session open.
    async fn start_probers(
        &self,
        desk: &Rc<Desk>,
        lookout: &Client,
        gaps: &Rc<RefCell<Gaps>>,
    ) -> Result<Vec<JoinHandle<Kept>>, Box<dyn Error>> {
        gaps.borrow_mut().begin_phase(desk.now());
        let probers = probe::keys(&lookout.table().sharding)
            .into_iter()
            .enumerate()
            .map(|(shard, key)| {
                let teller =
                    Teller::new(desk.clone(), lookout.entities::<Account>(), Purpose::Probe);
                probe::start(teller, shard, key, gaps.clone())
            })
            .collect();
        let deadline = Instant::now() + RECOVERY_PATIENCE;
        while !gaps.borrow().all_probed() {
            if Instant::now() >= deadline {
                let probed = gaps.borrow().probed();
                return Err(format!(
                    "only {probed} shards answer their prober after {RECOVERY_PATIENCE:?}"
                )
                .into());
            }
            actix_rt::time::sleep(GLANCE).await;
        }
        Ok(probers)
    }

    async fn phase(
        &mut self,
        scene: &Scene<'_>,
        length: Duration,
        event: Event,
    ) -> Result<(), Box<dyn Error>> {
        let node = match event {
            Event::Kill => Some(self.leads_most(scene.watcher, self.killed).await?),
            Event::Restart => Some(self.killed.ok_or("nobody was killed")?),
            Event::Join => Some(self.cluster.len()),
            Event::Roll(node) | Event::Wipe(node) | Event::Leave(node) => Some(node),
            Event::Quiet | Event::Probe => None,
        };
        let name = event.in_words(node);
        let elections = self.cluster.counts().elections;
        scene.gaps.borrow_mut().begin_phase(scene.desk.now());
        scene.desk.begin_phase();
        let began = Instant::now();
        let processor = self.processor_time();
        self.bring_about(scene, event, node).await?;
        scene.gaps.borrow_mut().prove_from(scene.desk.now());
        // At least its planned length, and until all has recovered.
        let mut whole = matches!(event, Event::Quiet | Event::Probe | Event::Kill);
        let recovered = loop {
            actix_rt::time::sleep(GLANCE).await;
            self.cluster.check()?;
            let counts = scene.desk.phase.borrow().acked;
            self.progress.now(&format!(
                "{name}: {:.0} s, {counts} acknowledged",
                began.elapsed().as_secs_f64()
            ));
            // A node that is busy coming back may answer late; the next glance will tell.
            let nodes = self.cluster.status(scene.watcher).await.unwrap_or_default();
            whole |= !nodes.is_empty()
                && nodes
                    .iter()
                    .all(|(_, node)| node.ready && node.leaderless == 0 && node.led > 0)
                && nodes.iter().any(|(_, node)| node.unsettled == Some(0));
            let probed = !scene.probing || scene.gaps.borrow().all_probed();
            if began.elapsed() >= length && whole && probed {
                break true;
            }
            if began.elapsed() >= length + RECOVERY_PATIENCE {
                break false;
            }
        };
        let took = began.elapsed();
        // Of a phase that ends or begins a process it would say nothing.
        let processor = matches!(event, Event::Quiet | Event::Probe).then(|| {
            let after = self.processor_time();
            [0, 1].map(|part| after[part].saturating_sub(processor[part]))
        });
        let tally = scene.desk.begin_phase();
        let seconds = took.as_secs_f64();
        let (waits, shards_probed) = {
            let gaps = scene.gaps.borrow();
            (gaps.waits(scene.desk.now()), gaps.probed())
        };
        let phase = Phase {
            name,
            kills: event == Event::Kill,
            seconds,
            acked: tally.acked,
            slowest_second: tally.slowest_second(seconds),
            not_acked: tally.refused + tally.unknown + tally.failed,
            processor,
            p50_us: tally.latency.value_at_quantile(0.5),
            p99_us: tally.latency.value_at_quantile(0.99),
            waits: scene.probing.then_some(waits),
            shards_probed: if scene.probing { shards_probed } else { 0 },
            elections: self.cluster.counts().elections.saturating_sub(elections),
            recovered,
        };
        self.progress.line(&phase.line());
        let table = self.table(scene.directory).await?;
        if let (Event::Join, Some(before)) = (event, self.tables.last()) {
            let growth = Growth::between(&phase.name, before, &table);
            self.progress
                .line(&format!("{:14} {}", "", growth.in_words()));
            self.growth.push(growth);
        }
        self.phases.push(phase);
        self.tables.push(table);
        Ok(())
    }

    async fn bring_about(
        &mut self,
        scene: &Scene<'_>,
        event: Event,
        node: Option<usize>,
    ) -> Result<(), Box<dyn Error>> {
        let Some(node) = node else {
            return Ok(());
        };
        match event {
            Event::Quiet | Event::Probe => {}
            Event::Kill => {
                self.cluster.kill(node)?;
                self.killed = Some(node);
            }
            Event::Restart => self.cluster.restart(node).await?,
            Event::Join => drop(self.cluster.add().await?),
            Event::Roll(_) => {
                self.cluster.stop(node).await?;
                self.cluster.restart(node).await?;
            }
            Event::Wipe(_) => {
                self.cluster.wipe(node)?;
                self.cluster.take_out(scene.watcher, node).await?;
                self.cluster.add().await?;
            }
            Event::Leave(_) => self.cluster.take_out(scene.watcher, node).await?,
        }
        Ok(())
    }

    /// Processor time of the nodes, and of this process with all its clients.
    fn processor_time(&self) -> [Duration; 2] {
        let clients = cluster::processor_time("self").unwrap_or_default();
        [self.cluster.processor_time(), clients]
    }

    /// Reads every account and asks its journal.
    async fn verdict(
        &self,
        reader: &Client,
        desk: &Rc<Desk>,
        kept: &[Kept],
    ) -> Result<Vec<Fault>, Box<dyn Error>> {
        self.progress
            .now(&format!("reading {} accounts", kept.len()));
        let teller = &Teller::new(desk.clone(), reader.entities::<Account>(), Purpose::Load);
        let judged = stream::iter(kept).map(|Kept { key, journal }| async move {
            let seen = teller.look(key).await;
            journal.verify(&seen).err().map(|fault| Fault {
                text: format!("{key} {}", fault.text),
                ..fault
            })
        });
        let all = judged
            .buffer_unordered(READERS)
            .filter_map(|fault| async { fault })
            .collect::<Vec<Fault>>();
        tokio::time::timeout(SETTLE_PATIENCE, all)
            .await
            .map_err(|_| {
                format!("not every account could be read within {SETTLE_PATIENCE:?}").into()
            })
    }
}

/// What the phases share.
#[derive(Clone, Copy)]
struct Scene<'a> {
    desk: &'a Rc<Desk>,
    watcher: &'a Client,
    directory: &'a DataDirectory,
    gaps: &'a Rc<RefCell<Gaps>>,
    probing: bool,
}

/// Waits until every client has settled its last command, and takes the journals.
async fn drained(
    clients: Vec<JoinHandle<Vec<Kept>>>,
    probers: Vec<JoinHandle<Kept>>,
) -> Result<Vec<Kept>, Box<dyn Error>> {
    let clients: FuturesUnordered<_> = clients.into_iter().collect();
    let probers: FuturesUnordered<_> = probers.into_iter().collect();
    let all = async {
        let mut kept = Vec::new();
        for journals in clients.collect::<Vec<_>>().await {
            kept.extend(journals?);
        }
        for journal in probers.collect::<Vec<_>>().await {
            kept.push(journal?);
        }
        Ok(kept)
    };
    tokio::time::timeout(SETTLE_PATIENCE, all)
        .await
        .map_err(|_| {
            format!("clients could not settle their last commands within {SETTLE_PATIENCE:?}")
        })?
}

/// Shards whose replicas moved, and leaderships that moved, between the tables.
fn moved(tables: &[RoutingTable]) -> (usize, usize) {
    let shards = tables.first().map_or(0, |table| table.shards.len());
    let set = |table: &RoutingTable, shard: usize| {
        let mut replicas = table
            .shards
            .get(shard)
            .map(|place| place.replicas.clone())
            .unwrap_or_default();
        replicas.sort_unstable();
        replicas
    };
    let groups = (0..shards)
        .filter(|&shard| {
            tables
                .windows(2)
                .any(|pair| set(&pair[0], shard) != set(&pair[1], shard))
        })
        .count();
    let leaderships = tables
        .windows(2)
        .flat_map(|pair| pair[0].shards.iter().zip(&pair[1].shards))
        .filter(|(before, after)| before.leader != after.leader)
        .count();
    (groups, leaderships)
}

#[cfg(test)]
mod tests {
    use synod::wire::{ShardPlace, Sharding};

    use super::super::journal::Journal;
    use super::*;

    fn table(places: &[(&[u64], u64)]) -> RoutingTable {
        let shards = places
            .iter()
            .map(|(replicas, leader)| ShardPlace {
                replicas: replicas.to_vec(),
                leader: Some(*leader),
            })
            .collect();
        RoutingTable {
            cluster: 1,
            epoch: 1,
            sharding: Sharding {
                seed: 0,
                shards: places.len() as u32,
            },
            stores: Vec::new(),
            shards,
        }
    }

    #[test]
    fn a_group_that_moved_twice_counts_once_and_the_order_of_replicas_is_no_move() {
        let tables = [
            table(&[(&[1, 2, 3], 1), (&[1, 2, 3], 2)]),
            table(&[(&[2, 1, 4], 2), (&[3, 2, 1], 2)]),
            table(&[(&[2, 3, 4], 1), (&[1, 2, 3], 2)]),
        ];
        assert_eq!(moved(&tables), (1, 2));
    }

    #[test]
    fn an_untouched_account_is_judged_like_any_other() {
        // Entities exist as soon as they are addressed: an account that nobody used is empty.
        assert!(Journal::default().verify(&Account::default()).is_ok());
        let foreign = Account {
            balance: 1,
            ..Account::default()
        };
        assert_eq!(
            Journal::default()
                .verify(&foreign)
                .expect_err("somebody did this")
                .unexplained,
            1
        );
    }
}
