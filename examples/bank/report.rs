//! What the demo says: a line per phase, a table or one line of JSON at the end.
//!
//! Here: [`Progress`], [`Phase`], [`Report`] with its verdict. Not here: the numbers' making (`play`, `clients`, `gaps`).

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::json;

use super::clients::Tally;
use super::cluster::Counts;
use super::growth::Growth;
use super::journal::Fault;

/// So many faults are told in words.
const FAULTS_TOLD: usize = 5;

/// Lines while it runs. With JSON they go to the error output, so that the output is the result alone.
#[derive(Debug)]
pub(crate) struct Progress {
    json: bool,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        self.clear();
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// A line that the next one replaces; only where somebody watches.
    pub(crate) fn now(&self, text: &str) {
        if self.terminal {
            self.clear();
            eprint!("{text}");
            let _nobody_watches = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// One phase, over.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) acked: u64,
    /// It began with a kill.
    pub(crate) kills: bool,
    /// Acknowledged in its worst second.
    pub(crate) slowest_second: Option<u32>,
    /// Commands of the load that were refused, failed, or ended with nobody knowing.
    pub(crate) not_acked: u64,
    /// Elections won, as far as nodes said so before they were killed.
    pub(crate) elections: u64,
    /// Processor time of the nodes and of the clients, where no process came or went.
    pub(crate) processor: Option<[Duration; 2]>,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Longest wait of each shard's prober, the shortest first; `None` while nobody probed.
    pub(crate) waits: Option<Vec<Duration>>,
    pub(crate) shards_probed: usize,
    pub(crate) recovered: bool,
}

impl Phase {
    /// Microseconds of processor time per acknowledged command: of all nodes, and of the clients.
    fn processor_us(&self) -> Option<[u64; 2]> {
        let commands = u128::from(self.acked.max(1));
        self.processor
            .map(|parts| parts.map(|part| (part.as_micros() / commands) as u64))
    }

    /// The wait that so many of all shards did not exceed; 1.0: the worst shard's.
    fn wait(&self, quantile: f64) -> Option<Duration> {
        let waits = self.waits.as_ref()?;
        let rank = (waits.len() as f64 * quantile).ceil() as usize;
        waits.get(rank.saturating_sub(1)).copied()
    }

    fn per_second(&self) -> u64 {
        (self.acked as f64 / self.seconds).round() as u64
    }

    pub(crate) fn line(&self) -> String {
        let gap = match (self.wait(0.99), self.wait(1.0)) {
            (Some(p99), Some(worst)) => format!(
                "{}, shards waited {} (p99) and {} ms (worst of {}){}{}",
                self.slowest_second
                    .map_or_else(String::new, |count| format!(", slowest second {count:>5}")),
                p99.as_millis(),
                worst.as_millis(),
                self.shards_probed,
                match self.not_acked {
                    0 => String::new(),
                    count => format!(", {count} not acknowledged"),
                },
                if self.recovered {
                    ""
                } else {
                    ", NOT RECOVERED"
                }
            ),
            _ => String::new(),
        };
        format!(
            "{:<14} {:>5.1} s {:>8} acknowledged {:>7}/s  p50 {}  p99 {}{gap}",
            self.name,
            self.seconds,
            self.acked,
            self.per_second(),
            milliseconds(self.p50_us),
            milliseconds(self.p99_us),
        )
    }
}

/// Everything that came of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) json: bool,
    pub(crate) phases: Vec<Phase>,
    pub(crate) total: Tally,
    pub(crate) probes: Tally,
    pub(crate) retried: u64,
    pub(crate) accounts: usize,
    pub(crate) commands: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) failure: Option<String>,
    pub(crate) moved_groups: usize,
    pub(crate) moved_leaderships: usize,
    pub(crate) growth: Vec<Growth>,
    pub(crate) counts: Counts,
    pub(crate) peak_mib: u64,
}

impl Report {
    /// Nothing lost, nothing twice, nothing unexplained, and every phase recovered.
    pub(crate) fn passed(&self) -> bool {
        self.faults.is_empty()
            && self.failure.is_none()
            && self.phases.iter().all(|phase| phase.recovered)
    }

    pub(crate) fn print(&self) {
        if self.json {
            println!("{}", self.to_json());
        } else {
            print!("{}", self.table());
        }
        for fault in self.faults.iter().take(FAULTS_TOLD) {
            eprintln!("bank: account {}", fault.text);
        }
        if self.faults.len() > FAULTS_TOLD {
            eprintln!(
                "bank: and {} accounts more",
                self.faults.len() - FAULTS_TOLD
            );
        }
        if let Some(failure) = &self.failure {
            eprintln!("bank: a command failed: {failure}");
        }
    }

    fn lost(&self) -> u64 {
        self.faults.iter().map(|fault| fault.lost).sum()
    }

    fn duplicated(&self) -> u64 {
        self.faults.iter().map(|fault| fault.doubled).sum()
    }

    fn unexplained(&self) -> u64 {
        self.faults.iter().map(|fault| fault.unexplained).sum()
    }

    /// The worst shard's wait of each kill: median and worst.
    fn kills(&self) -> Option<String> {
        let kills = self.phases.iter().filter(|phase| phase.kills);
        let mut waits: Vec<Duration> = kills.filter_map(|phase| phase.wait(1.0)).collect();
        waits.sort_unstable();
        let (median, worst) = (waits.get(waits.len() / 2)?, waits.last()?);
        Some(format!(
            "{} ms in the median of {} kills, {} ms in the worst",
            median.as_millis(),
            waits.len(),
            worst.as_millis()
        ))
    }

    fn acked(&self) -> u64 {
        self.total.acked + self.probes.acked
    }

    fn unknown(&self) -> u64 {
        self.total.unknown + self.probes.unknown
    }

    fn to_json(&self) -> serde_json::Value {
        let quiet = self.phases.first();
        let phases: Vec<_> = self
            .phases
            .iter()
            .map(|phase| {
                json!({
                    "name": phase.name,
                    "seconds": phase.seconds,
                    "acked": phase.acked,
                    "per_second": phase.per_second(),
                    "p50_us": phase.p50_us,
                    "p99_us": phase.p99_us,
                    "slowest_second": phase.slowest_second,
                    "not_acked": phase.not_acked,
                    "elections": phase.elections,
                    "p99_gap_ms": phase.wait(0.99).map(|gap| gap.as_millis() as u64),
                    "longest_gap_ms": phase.wait(1.0).map(|gap| gap.as_millis() as u64),
                    "shards_probed": phase.shards_probed,
                    "recovered": phase.recovered,
                })
            })
            .collect();
        let growth: Vec<_> = { self.growth.iter() }
            .map(|growth| {
                json!({
                    "name": growth.name,
                    "nodes": growth.nodes,
                    "moves": growth.moves,
                    "least_moves": growth.least,
                    "moves_to_least": growth.ratio(),
                    "most_replicas": growth.replicas.has,
                    "replicas_to_quota": growth.replicas.ratio(),
                    "most_leaders": growth.leaders.has,
                    "leaders_to_quota": growth.leaders.ratio(),
                })
            })
            .collect();
        json!({
            "passed": self.passed(),
            "acked": self.acked(),
            "lost": self.lost(),
            "duplicated": self.duplicated(),
            "unexplained": self.unexplained(),
            "retried": self.retried,
            "unknown": self.unknown(),
            "refused": self.total.refused + self.probes.refused,
            "declined": self.total.declined,
            "failed": self.total.failed + self.probes.failed,
            "per_second": quiet.map(Phase::per_second),
            "p50_us": quiet.map(|phase| phase.p50_us),
            "p99_us": quiet.map(|phase| phase.p99_us),
            "processor_us": quiet.and_then(Phase::processor_us).map(|[nodes, clients]| json!({ "nodes": nodes, "clients": clients })),
            "phases": phases,
            "moved_groups": self.moved_groups,
            "moved_leaderships": self.moved_leaderships,
            "joins": growth,
            "moves": self.counts.moves,
            "fsyncs": self.counts.fsyncs,
            "peak_mib": self.peak_mib,
        })
    }

    fn table(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![
            (
                "acknowledged",
                format!("{} ({} of them probes)", self.acked(), self.probes.acked),
            ),
            (
                "per second",
                self.phases
                    .first()
                    .map(|quiet| format!("{} (quiet)", quiet.per_second()))
                    .unwrap_or_default(),
            ),
            (
                "p50 / p99",
                self.phases
                    .first()
                    .map(|quiet| {
                        format!(
                            "{} / {} (quiet)",
                            milliseconds(quiet.p50_us),
                            milliseconds(quiet.p99_us)
                        )
                    })
                    .unwrap_or_default(),
            ),
            (
                "processor time",
                self.phases
                    .first()
                    .and_then(Phase::processor_us)
                    .map(|[nodes, clients]| {
                        format!("{nodes} us per command in all nodes, {clients} us in the clients (quiet)")
                    })
                    .unwrap_or_default(),
            ),
            (
                "retried",
                format!(
                    "{} ({:.1} %)",
                    self.retried,
                    percent(self.retried, self.commands)
                ),
            ),
            (
                "declined",
                format!("{} (the account held too little)", self.total.declined),
            ),
            (
                "refused",
                (self.total.refused + self.probes.refused).to_string(),
            ),
            ("unknown", format!("{} (settled by a look)", self.unknown())),
            ("lost", self.lost().to_string()),
            ("applied twice", self.duplicated().to_string()),
            ("unexplained", self.unexplained().to_string()),
            ("accounts read", self.accounts.to_string()),
            ("fsyncs", self.counts.fsyncs.to_string()),
            ("groups moved", self.moved_groups.to_string()),
            ("leaderships moved", self.moved_leaderships.to_string()),
            (
                "peak memory",
                format!("{} MiB (largest node)", self.peak_mib),
            ),
        ];
        let joins = self.growth.iter();
        rows.extend(joins.map(|growth| (growth.name.as_str(), growth.in_words())));
        rows.extend(self.kills().map(|text| ("worst shards of kills", text)));
        for phase in &self.phases {
            if let Some(gap) = phase.wait(1.0) {
                rows.push((
                    &phase.name,
                    format!(
                        "worst shard waited {} ms, {} shards probed, {} elections",
                        gap.as_millis(),
                        phase.shards_probed,
                        phase.elections
                    ),
                ));
            }
        }
        let verdict = if self.passed() { "PASSED" } else { "FAILED" };
        rows.push(("verdict", verdict.to_owned()));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::from("\n");
        for (name, value) in rows {
            text.push_str(&format!("  {name:<width$}  {value}\n"));
        }
        text
    }
}

fn milliseconds(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
