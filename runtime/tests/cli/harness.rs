//! Processes of the `synod` binary under test.
//!
//! Every process is ended by its id when its handle is dropped. Nothing here rests on the length of a pause: conditions
//! are looked at until they hold. Patience is counted in looks and not by the clock, so that a machine which stands
//! still, or gives a test little of itself, uses none of it up.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use synod::Client;
use tempfile::TempDir;

use super::loopback;

/// What is asked of a node with this deadline is answered, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(50);
/// Looks after which a condition counts as never met: a minute of a machine that runs.
const LOOKS: usize = 1_200;

/// Looks until there is something, from outside of any executor.
pub(crate) fn look<T>(mut at: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..LOOKS {
        if let Some(seen) = at() {
            return Some(seen);
        }
        std::thread::sleep(GLANCE); // between two looks; nothing rests on its length
    }
    None
}

/// A directory with the stores and the development CA of one test.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub(crate) name: String,
    pub(crate) address: String,
}

/// How a node ended that did not become ready, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

/// A node that has not said yet that it is ready.
struct Starting {
    node: Node,
    hears: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Starting {
    /// The address at which it is ready, an error when it ended; `None` as long as neither is known.
    fn heard(&self) -> Option<Result<String, mpsc::TryRecvError>> {
        match self.hears.try_recv() {
            Err(mpsc::TryRecvError::Empty) => None,
            known => Some(known),
        }
    }

    fn ready(mut self, address: String) -> Node {
        self.node.address = address;
        self.node
    }

    fn ended(mut self) -> Ended {
        let status = self.node.child.wait().expect("a child");
        Ended {
            status,
            said: self.said(),
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Starts a node whose store is called `name`, and waits until it is ready.
    pub(crate) fn start(&self, name: &str, more: &[&str]) -> Node {
        self.try_start(name, more)
            .unwrap_or_else(|ended| panic!("{name} did not become ready: {ended:?}"))
    }

    /// The same, for nodes that may refuse to start.
    pub(crate) fn try_start(&self, name: &str, more: &[&str]) -> Result<Node, Ended> {
        let starting = self.launch(name, more);
        match look(|| starting.heard()) {
            Some(Ok(address)) => Ok(starting.ready(address)),
            Some(Err(_)) => Err(starting.ended()),
            None => panic!(
                "{name} is not ready after {LOOKS} looks: {}",
                starting.said()
            ),
        }
    }

    /// Starts a node that ends by itself, whether or not it becomes ready before.
    pub(crate) fn start_to_end(&self, name: &str, more: &[&str]) -> Ended {
        let mut starting = self.launch(name, more);
        let ended = look(|| starting.node.child.try_wait().expect("a child"));
        assert!(ended.is_some(), "{name} still runs: {}", starting.said());
        starting.ended()
    }

    /// The same while the other tasks of this thread go on.
    pub(crate) async fn start_beside(&self, name: &str, more: &[&str]) -> Node {
        let starting = self.launch(name, more);
        let mut heard = None;
        until("a node becomes ready", async || {
            heard = starting.heard();
            heard.is_some()
        })
        .await;
        match heard {
            Some(Ok(address)) => starting.ready(address),
            _ => panic!("{name} did not become ready: {:?}", starting.ended()),
        }
    }

    /// Starts a node at the address given with `--listen`, and does not wait for it.
    pub(crate) fn launch_only(&self, name: &str, more: &[&str]) -> Node {
        let listen = more.iter().skip_while(|flag| **flag != "--listen").nth(1);
        let address = (*listen.expect("an address")).to_owned();
        self.launch(name, more).ready(address)
    }

    fn launch(&self, name: &str, more: &[&str]) -> Starting {
        let log = self.path().join(format!("{name}.log"));
        let mut command = self.command("start");
        command.arg("--store").arg(self.store(name)).args(more);
        if !more.contains(&"--listen") {
            command.args(["--listen", &loopback::lasting().to_string()]);
        }
        let errors = File::create(&log).expect("a log file");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the binary runs");
        let output = child.stdout.take().expect("a pipe");
        let (said, hears) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once(" is ready at ") {
                    let _test_is_over =
                        said.send(rest.split(' ').next().unwrap_or_default().to_owned());
                }
            }
        });
        Starting {
            node: Node {
                child,
                name: name.to_owned(),
                address: String::new(),
            },
            hears,
            log,
        }
    }

    /// Founds a cluster of `n1` with 16 shards and joins `n2` and `n3`.
    pub(crate) fn three(&self) -> Vec<Node> {
        let first = self.start("n1", &["--found", "--shards", "16"]);
        let mut nodes = vec![first];
        for name in ["n2", "n3"] {
            let node = self.start(name, &["--join", &nodes[0].address]);
            nodes.push(node);
        }
        nodes
    }

    /// The same once all is where it belongs, with a client of all three.
    pub(crate) async fn settled_three(&self) -> (Vec<Node>, Client) {
        let nodes = self.three();
        let all: Vec<&Node> = nodes.iter().collect();
        let client = self.client(&all).await;
        settled(&client, &all).await;
        (nodes, client)
    }

    /// Runs a command to its end, which must come.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// The same with a standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let (first, rest) = arguments.split_first().expect("a subcommand");
        let mut command = self.command(first);
        command
            .args(rest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        let input = input.to_owned();
        // A command that refuses without reading closes its end: that is its right.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let id = Pid::from_child(&child);
        let (over, waits) = mpsc::channel::<()>();
        let guard = std::thread::spawn(move || {
            let ended =
                look(|| (waits.try_recv() == Err(mpsc::TryRecvError::Disconnected)).then_some(()));
            if ended.is_none() {
                let _ended_meanwhile = kill_process(id, Signal::KILL);
            }
        });
        let output = child.wait_with_output().expect("it ends");
        drop(over);
        guard.join().expect("the guard ends");
        writer.join().expect("the writer ends");
        output
    }

    /// A subcommand, to be run with more arguments.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synod"));
        command
            .arg(subcommand)
            .env("SYNOD_CERTS", self.path())
            .env_remove("SYNOD_AT")
            .env_remove("SYNOD_LOG");
        command
    }

    /// A gateway client of these nodes.
    pub(crate) async fn client(&self, nodes: &[&Node]) -> Client {
        let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        Client::builder()
            .development(self.path())
            .patience(PATIENCE)
            .connect(addresses)
            .await
            .expect("a client connects to running nodes")
    }
}

impl Node {
    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        look(|| self.child.try_wait().expect("a child"))
            .unwrap_or_else(|| panic!("{} did not end on SIGTERM", self.name))
    }

    /// SIGSTOP: it stands still until it is told to [go on](Self::go_on); nobody is told.
    pub(crate) fn stand_still(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("it runs");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("it runs");
    }

    /// From now on no file of it can be written beyond so many bytes: to the process, a disk that is full.
    pub(crate) fn fill_disk_beyond(&self, bytes: u64) {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("it runs");
    }

    /// Everything that it said on its standard error at this start.
    pub(crate) fn said(&self, home: &Home) -> String {
        let log = home.path().join(format!("{}.log", self.name));
        fs::read_to_string(log).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had, as proc(5) counts it.
    pub(crate) fn peak_mib(&self) -> u64 {
        self.memory("VmHWM:") >> 20
    }

    /// A line about memory of its `status` in proc(5), in bytes.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("a number of KiB") << 10
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

/// Looks until it is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..LOOKS {
        if so().await {
            return;
        }
        tokio::time::sleep(GLANCE).await; // between two looks; nothing rests on its length
    }
    panic!("{what}: not so after {LOOKS} looks");
}

/// Waits until every group is led and is where it belongs.
pub(crate) async fn settled(client: &Client, nodes: &[&Node]) {
    until("the cluster settles", async || {
        let mut settled = false;
        for node in nodes {
            match client.status(&node.address).await {
                Ok(status) if status.ready && status.leaderless == 0 && status.led > 0 => {
                    settled |= status.unsettled == Some(0);
                }
                _ => return false,
            }
        }
        settled
    })
    .await;
}

/// The one sentence that a refused command said: exit status 1, nothing on the output, one line that begins with the
/// program's name.
pub(crate) fn sentence(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    one_sentence(&said)
}

/// The last line, which must be the program's own and the only one of them.
pub(crate) fn one_sentence(said: &str) -> String {
    let own: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("synod: "))
        .collect();
    assert_eq!(own.len(), 1, "one sentence, not {said:?}");
    assert_eq!(
        said.lines().last(),
        own.first().copied(),
        "the sentence is the last word: {said:?}"
    );
    assert!(!said.contains("panicked"), "{said}");
    own[0].to_owned()
}

/// What a successful command printed.
pub(crate) fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Takes the node that leads most groups out of the list.
pub(crate) async fn take_leader(client: &Client, nodes: &mut Vec<Node>) -> Node {
    let mut most = (0, 0);
    for (position, node) in nodes.iter().enumerate() {
        let led = client
            .status(&node.address)
            .await
            .map_or(0, |status| status.led);
        most = most.max((led, position));
    }
    nodes.remove(most.1)
}

/// A count of a node by the name that operators see.
pub(crate) async fn counter(client: &Client, node: &Node, name: &str) -> u64 {
    let status = client.status(&node.address).await.expect("it answers");
    let mut counters = status.counters.iter();
    let count = counters.find_map(|(counter, count)| (counter == name).then_some(*count));
    count.expect("it is counted")
}
