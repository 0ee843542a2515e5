//! The node processes of the demo and what they say of themselves.
//!
//! Here: [`Cluster`] (start, kill -9, stop, restart, take out, status, memory). Every process has its own store below one
//! directory and is ended by its id, at the latest when the cluster is dropped. Not here: what a node does (`node`), when
//! which one is killed (`play`).

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use synod::Client;
use synod::client::WishError;
use synod::node::NodeStatus;
use tokio::sync::oneshot;

use super::node::LISTENING;

/// A node that takes longer than this to listen will not.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Time for a node to end that was asked to, or taken out.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Time for the cluster to form, for a node to be taken in or out.
pub(crate) const SETTLE_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at the cluster while waiting for it.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How a node comes to its cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Entrance {
    Found,
    Join,
    Return,
}

/// One node, running or not.
#[derive(Debug)]
struct NodeProcess {
    name: String,
    address: Option<SocketAddr>,
    child: Option<Child>,
    /// Highest resident memory of all its processes, in KiB.
    peak_kib: u64,
    /// Counts of processes that are gone.
    past: Counts,
    /// Counts of the running process when it was last asked.
    latest: Counts,
}

/// What the nodes counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) fsyncs: u64,
    pub(crate) moves: u64,
    pub(crate) elections: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            fsyncs: self.fsyncs + other.fsyncs,
            moves: self.moves + other.moves,
            elections: self.elections + other.elections,
        }
    }
}

/// All nodes of the demo.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: PathBuf,
    shards: u32,
    nodes: Vec<NodeProcess>,
}

impl Cluster {
    /// No nodes yet.
    pub(crate) fn new(directory: &Path, shards: u32) -> Self {
        Self {
            directory: directory.to_owned(),
            shards,
            nodes: Vec::new(),
        }
    }

    /// Starts one more node with an empty store: the first founds the cluster, the others join it.
    pub(crate) async fn add(&mut self) -> Result<usize, Box<dyn Error>> {
        let index = self.nodes.len();
        self.nodes.push(NodeProcess {
            name: format!("n{}", index + 1),
            address: None,
            child: None,
            peak_kib: 0,
            past: Counts::default(),
            latest: Counts::default(),
        });
        self.launch(
            index,
            if index == 0 {
                Entrance::Found
            } else {
                Entrance::Join
            },
        )
        .await?;
        Ok(index)
    }

    /// Starts a killed node again, with its store and at its address.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        self.launch(index, Entrance::Return).await
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        self.measure();
        let node = &mut self.nodes[index];
        let mut child = node.child.take().ok_or("the node to kill does not run")?;
        child.kill()?;
        child.wait()?;
        node.past = node.past + std::mem::take(&mut node.latest);
        Ok(())
    }

    /// kill -9, and nothing is left on the disk.
    pub(crate) fn wipe(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        self.kill(index)?;
        fs::remove_dir_all(self.directory.join(&self.nodes[index].name))?;
        Ok(())
    }

    /// Asks a node to stop and waits until it has.
    pub(crate) async fn stop(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        let child = self.nodes[index].child.as_ref();
        let child = child.ok_or("the node to stop does not run")?;
        let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(process.ok_or("no process id")?, Signal::TERM)?;
        self.ended(index).await
    }

    /// Waits until a node has ended that was asked to, or that is none of the cluster's any more.
    async fn ended(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        self.measure();
        let deadline = Instant::now() + STOP_PATIENCE;
        let node = &mut self.nodes[index];
        while let Some(child) = &mut node.child {
            if child.try_wait()?.is_some() {
                node.child = None;
            } else if Instant::now() >= deadline {
                return Err(format!("node {} did not end in {STOP_PATIENCE:?}", node.name).into());
            } else {
                actix_rt::time::sleep(LOOK_PAUSE).await;
            }
        }
        node.past = node.past + std::mem::take(&mut node.latest);
        Ok(())
    }

    /// Drains a node, running or not, takes it out of the cluster for ever, and waits until it has ended.
    pub(crate) async fn take_out(
        &mut self,
        client: &Client,
        index: usize,
    ) -> Result<(), Box<dyn Error>> {
        let name = self.nodes[index].name.clone();
        let others = self.running().find(|(other, _)| *other != index);
        let address = others.ok_or("nobody else runs")?.1.to_string();
        wished(|| client.drain(&address, &name, true)).await?;
        let wish = format!("{name} holds nothing and can be taken out");
        self.until(client, &wish, SETTLE_PATIENCE, |nodes| {
            nodes
                .iter()
                .filter(|(other, _)| *other != index)
                .flat_map(|(_, node)| &node.members)
                .filter(|member| member.name == name)
                .all(|member| member.draining && member.shards == 0 && !member.votes)
        })
        .await?;
        wished(|| client.remove(&address, &name)).await?;
        self.ended(index).await
    }

    /// Addresses of the nodes that run.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.running()
            .map(|(_, address)| address.to_string())
            .collect()
    }

    /// What every running node says of itself, by its index; an error when one does not answer.
    pub(crate) async fn status(
        &mut self,
        client: &Client,
    ) -> Result<Vec<(usize, NodeStatus)>, Box<dyn Error>> {
        let mut all = Vec::new();
        for (index, address) in self.running().collect::<Vec<_>>() {
            let status = client.status(&address.to_string()).await?;
            let counted = status.counters.iter();
            let elections = counted.filter(|(name, _)| name == "elections_won");
            self.nodes[index].latest = Counts {
                fsyncs: status.fsyncs,
                moves: status.moves,
                elections: elections.map(|(_, count)| count).sum(),
            };
            all.push((index, status));
        }
        Ok(all)
    }

    /// Looks until the cluster is as wished.
    pub(crate) async fn until(
        &mut self,
        client: &Client,
        wish: &str,
        patience: Duration,
        mut wished: impl FnMut(&[(usize, NodeStatus)]) -> bool,
    ) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + patience;
        loop {
            self.check()?;
            let seen = match self.status(client).await {
                Ok(all) if wished(&all) => return Ok(()),
                Ok(all) => all
                    .iter()
                    .map(|(_, status)| describe(status))
                    .collect::<Vec<_>>()
                    .join("; "),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(
                    format!("waited {patience:?} in vain until {wish}; last seen: {seen}").into(),
                );
            }
            actix_rt::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// An error when a node ended that nobody killed.
    pub(crate) fn check(&mut self) -> Result<(), Box<dyn Error>> {
        for index in 0..self.nodes.len() {
            let ended = match &mut self.nodes[index].child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if let Some(status) = ended {
                let node = &mut self.nodes[index];
                node.child = None;
                let name = node.name.clone();
                return Err(format!(
                    "node {name} ended by itself ({status}): {}",
                    self.last_words(&name)
                )
                .into());
            }
        }
        Ok(())
    }

    /// Counts of all nodes, killed ones included as far as they were asked before.
    pub(crate) fn counts(&self) -> Counts {
        let nodes = self.nodes.iter();
        nodes.fold(Counts::default(), |sum, node| sum + node.past + node.latest)
    }

    /// How many nodes there ever were.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Highest resident memory of any node so far, in MiB.
    pub(crate) fn peak_mib(&mut self) -> u64 {
        self.measure();
        self.nodes
            .iter()
            .map(|node| node.peak_kib)
            .max()
            .unwrap_or(0)
            .div_ceil(1_024)
    }

    /// Processor time of the nodes that run, since each began.
    pub(crate) fn processor_time(&self) -> Duration {
        let children = self.nodes.iter().filter_map(|node| node.child.as_ref());
        children
            .filter_map(|child| processor_time(&child.id().to_string()))
            .sum()
    }

    fn measure(&mut self) {
        for node in &mut self.nodes {
            if let Some(child) = &node.child {
                node.peak_kib = node.peak_kib.max(peak_kib(child.id()).unwrap_or(0));
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = (usize, SocketAddr)> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.child.is_some())
            .filter_map(|(index, node)| Some((index, node.address?)))
    }

    async fn launch(&mut self, index: usize, entrance: Entrance) -> Result<(), Box<dyn Error>> {
        let others = self.addresses().join(",");
        let node = &self.nodes[index];
        let name = node.name.clone();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(&name))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("node")
            .arg("--store")
            .arg(self.directory.join(&name))
            .arg("--listen")
            .arg(
                node.address
                    .map_or_else(|| "127.0.0.1:0".to_owned(), |address| address.to_string()),
            )
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // A Ctrl-C is for the demo, which then ends its nodes.
            .process_group(0);
        match entrance {
            Entrance::Found => command
                .arg("--found")
                .arg("--shards")
                .arg(self.shards.to_string()),
            Entrance::Join => command.arg("--join").arg(others),
            Entrance::Return => &mut command,
        };
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("the node's output is no pipe")?;
        self.nodes[index].child = Some(child);
        let (said, hears) = oneshot::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            if let Some(address) =
                lines.find_map(|line| line.strip_prefix(LISTENING)?.parse::<SocketAddr>().ok())
            {
                let _nobody_waits = said.send(address);
                lines.for_each(drop);
            }
        });
        match tokio::time::timeout(START_PATIENCE, hears).await {
            Ok(Ok(address)) => {
                self.nodes[index].address = Some(address);
                Ok(())
            }
            Ok(Err(_)) => {
                Err(format!("node {name} did not start: {}", self.last_words(&name)).into())
            }
            Err(_) => Err(format!("node {name} did not listen within {START_PATIENCE:?}").into()),
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn last_words(&self, name: &str) -> String {
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ended_already = child.kill();
                let _ended_already = child.wait();
            }
        }
    }
}

/// Wishes until it is confirmed: twice is as good as once.
async fn wished<W>(wish: impl Fn() -> W) -> Result<(), WishError>
where
    W: Future<Output = Result<(), WishError>>,
{
    let deadline = Instant::now() + SETTLE_PATIENCE;
    loop {
        match wish().await {
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => actix_rt::time::sleep(LOOK_PAUSE).await,
            Ok(()) => return Ok(()),
        }
    }
}

fn describe(status: &NodeStatus) -> String {
    format!(
        "{} {}ready, {} replicas, leads {}, {} leaderless, unsettled {:?}{}{}",
        status.name,
        if status.ready { "" } else { "not " },
        status.replicas,
        status.led,
        status.leaderless,
        status.unsettled,
        if status.notes.is_empty() { "" } else { ", " },
        status.notes.join(", ")
    )
}

/// Highest resident memory of a process, in KiB (proc(5), VmHWM).
fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time of a process (proc(5), stat), or of this one if it is called `self`.
pub(crate) fn processor_time(process: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; what follows is plain, and begins with the third field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis((user + system) * 1_000 / ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_its_processor_time_never_falls() {
        let before = processor_time("self").expect("proc(5)");
        assert!(peak_kib(std::process::id()).is_some_and(|kib| kib > 100));
        assert!(processor_time("self").expect("proc(5)") >= before);
    }
}
