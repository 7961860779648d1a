//! The Node package against other packages (contract: `node.md`, performance
//! targets). The clients are in `crates/node/bench/client.js`; each run is a
//! process of its own, and they take turns.

use super::Effort;
use crate::report::{Report, median};
use crate::{node, run};
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::Cluster;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

/// The length of every payload.
const PAYLOAD: u64 = 100;
const MESSAGES: u64 = 5_000_000;
/// Batches of one call; what is counted is a whole number of them.
const BATCH: u64 = 1_000;
const PARTITIONS: i32 = 4;
const OURS: &str = "barnabas";
/// Another package, and the targets: times its rate and its CPU, producing and
/// consuming.
const PEERS: [(&str, [f64; 4]); 2] = [
    ("node-rdkafka", [1.5, 0.7, 1.5, 0.7]),
    ("kafkajs", [3.0, 0.4, 1.5, 0.6]),
];
/// Processor time per message, by the issue.
const CPU_US: f64 = 2.0;
const LATENCY_MS: f64 = 15.0;

/// How long a run is that is held to another package's rate.
const PACED_SECONDS: u64 = 10;

/// What a run has printed.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Figures {
    count: u64,
    #[serde(default)]
    sum: Option<u64>,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    cpu_us: f64,
    #[serde(default)]
    rss_mb: f64,
    #[serde(default)]
    delay_p99_ms: f64,
    #[serde(default)]
    p50_ms: f64,
    #[serde(default)]
    p99_ms: f64,
}

/// The runs of one package.
struct Runs {
    name: &'static str,
    produce: Vec<Figures>,
    consume: Vec<Figures>,
}

pub(crate) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    node::fetch()?;
    node::build(&["--release".to_owned()])?;
    let folder = node::folder().join("bench");
    fetch_peers(&folder)?;
    let kafka = Cluster::builder().for_benchmark().start()?;
    let broker = kafka.bootstrap_servers();
    let pinning = Pinning::of(&kafka)?;
    let divisor = u64::try_from(effort.divisor)?;
    let count = MESSAGES / divisor / BATCH * BATCH;
    let run_at = |client: &str, what: &str, topic: &str, count: u64, rate: Option<u64>| {
        let output = pinning
            .node()
            .arg("client.js")
            .args([client, what, &broker, topic, &count.to_string()])
            .args(rate.map(|rate| rate.to_string()))
            .current_dir(&folder)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start node")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str::<Figures>(line).with_context(|| format!("{client} {what}: {text}"))
    };
    let run = |client: &str, what: &str, topic: &str, count: u64| {
        run_at(client, what, topic, count, None)
    };
    kafka.create_topic("consume", PARTITIONS)?;
    let filled = run(OURS, "produce", "consume", count)?;
    if filled.count != count {
        bail!("{} of {count} messages were produced", filled.count);
    }
    // With what was sent to warm up.
    let stored: i64 = kafka.end_offsets("consume")?.values().sum();
    let stored = u64::try_from(stored)?;

    let names = std::iter::once(OURS).chain(PEERS.iter().map(|(name, _)| *name));
    let mut all: Vec<Runs> = names
        .map(|name| Runs {
            name,
            produce: Vec::new(),
            consume: Vec::new(),
        })
        .collect();
    let mut paced = Vec::new();
    for round in 0..effort.rounds {
        for runs in &mut all {
            let topic = format!("produce-{}-{round}", runs.name);
            kafka.create_topic(&topic, PARTITIONS)?;
            let produced = run(runs.name, "produce", &topic, count)?;
            let ended: i64 = kafka.end_offsets(&topic)?.values().sum();
            if u64::try_from(ended)? != count + (count / 10 / BATCH * BATCH).max(BATCH) {
                bail!("{}: {ended} messages are in Kafka", runs.name);
            }
            // The disk is not part of it.
            kafka.delete_topic(&topic)?;
            runs.produce.push(produced);
            let consumed = run(runs.name, "consume", "consume", stored)?;
            if consumed.count != stored || consumed.sum != Some(stored * PAYLOAD) {
                bail!("{}: {consumed:?} instead of {stored}", runs.name);
            }
            runs.consume.push(consumed);
        }
        // What the event loop feels of the same messages a second.
        let peer = all.get(1).and_then(|runs| runs.consume.last());
        let rate = rate(peer.context("no other package")?) as u64;
        let some = stored.min(rate * PACED_SECONDS);
        paced.push(run_at(OURS, "consume", "consume", some, Some(rate))?);
    }
    for runs in &all {
        runs.tell(report);
    }
    let Some((ours, others)) = all.split_first() else {
        return Ok(());
    };
    for (peer, (_, targets)) in others.iter().zip(PEERS) {
        compare(report, ours, peer, targets);
    }
    if let Some(peer) = others.first() {
        compare_delays(report, ours, peer, &paced);
    }
    report.add(
        "@confluentinc/kafka-javascript",
        "≥ 1.5 × and 2 × its rate",
        "not measured: its binary is a download that was not available",
        None,
        json!(null),
    );
    kafka.create_topic("latency", 1)?;
    let latency = run(OURS, "latency", "latency", 1_000 / divisor)?;
    report.add(
        "one message, `send` to its callback",
        format!("p50 ≤ {LATENCY_MS} ms"),
        format!("p50 {:.1} ms, p99 {:.1} ms", latency.p50_ms, latency.p99_ms),
        Some(latency.p50_ms <= LATENCY_MS),
        json!({ "p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms }),
    );
    Ok(())
}

/// The other packages. node-rdkafka is built by its install script, which takes
/// minutes: not again if that has been done.
fn fetch_peers(folder: &Path) -> Result<()> {
    let built = "node_modules/node-rdkafka/build/Release/node-librdkafka.node";
    if folder.join(built).is_file() {
        return Ok(());
    }
    run::checked(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder),
    )
}

/// Which cores the clients have for themselves.
struct Pinning {
    clients: Option<String>,
}

impl Pinning {
    /// The broker gets the lower half of the cores, the clients the others.
    fn of(kafka: &Cluster) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        if cores < 2 {
            return Ok(Self { clients: None });
        }
        let half = cores / 2;
        run::checked(
            Command::new("taskset")
                .args(["--all-tasks", "--cpu-list", "--pid"])
                .arg(format!("0-{}", half - 1))
                .arg(kafka.broker(0).pid()?.to_string())
                .stdout(Stdio::null()),
        )?;
        Ok(Self {
            clients: Some(format!("{half}-{}", cores - 1)),
        })
    }

    fn node(&self) -> Command {
        let Some(cores) = &self.clients else {
            return Command::new("node");
        };
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cores, "node"]);
        command
    }
}

fn rate(figures: &Figures) -> f64 {
    figures.count as f64 / figures.seconds
}

fn cpu(figures: &Figures) -> f64 {
    figures.cpu_us / figures.count as f64
}

fn middle(runs: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    median(runs.iter().map(of).collect())
}

/// The least and the most.
fn range(runs: &[Figures], of: impl Fn(&Figures) -> f64) -> (f64, f64) {
    let values = runs.iter().map(of);
    values.fold((f64::INFINITY, 0.0), |(least, most), value| {
        (value.min(least), value.max(most))
    })
}

impl Runs {
    fn tell(&self, report: &mut Report) {
        for (what, runs) in [("produce", &self.produce), ("consume", &self.consume)] {
            let (least, most) = range(runs, rate);
            let used = middle(runs, cpu);
            let is_ours = self.name == OURS;
            report.add(
                format!("{what}: {}", self.name),
                if is_ours {
                    format!("≤ {CPU_US} µs of CPU per message")
                } else {
                    String::new()
                },
                format!(
                    "{:.0} k/s ({:.0} to {:.0}), {used:.2} µs of CPU, {:.0} MB, event loop p99 {:.1} ms",
                    middle(runs, rate) / 1e3,
                    least / 1e3,
                    most / 1e3,
                    middle(runs, |figures| figures.rss_mb),
                    middle(runs, |figures| figures.delay_p99_ms),
                ),
                is_ours.then_some(used <= CPU_US),
                json!({
                    "rates": runs.iter().map(rate).collect::<Vec<_>>(),
                    "cpu_us": runs.iter().map(cpu).collect::<Vec<_>>(),
                    "rss_mb": runs.iter().map(|one| one.rss_mb).collect::<Vec<_>>(),
                    "delay_p99_ms": runs.iter().map(|one| one.delay_p99_ms).collect::<Vec<_>>(),
                }),
            );
        }
    }
}

fn compare(report: &mut Report, ours: &Runs, peer: &Runs, targets: [f64; 4]) {
    let [produce_rate, produce_cpu, consume_rate, consume_cpu] = targets;
    for (what, own, other, rate_target, cpu_target) in [
        (
            "produce",
            &ours.produce,
            &peer.produce,
            produce_rate,
            produce_cpu,
        ),
        (
            "consume",
            &ours.consume,
            &peer.consume,
            consume_rate,
            consume_cpu,
        ),
    ] {
        let faster = middle(own, rate) / middle(other, rate);
        report.add(
            format!("{what}: rate against {}", peer.name),
            format!("≥ {rate_target} ×"),
            format!("{faster:.2} ×"),
            Some(faster >= rate_target),
            json!(faster),
        );
        let cheaper = middle(own, cpu) / middle(other, cpu);
        report.add(
            format!("{what}: CPU per message against {}", peer.name),
            format!("≤ {cpu_target} ×"),
            format!("{cheaper:.2} ×"),
            Some(cheaper <= cpu_target),
            json!(cheaper),
        );
    }
}

/// `paced` are our runs at the other package's rate: at our own, other threads
/// want the same core for many times the messages.
fn compare_delays(report: &mut Report, ours: &Runs, peer: &Runs, paced: &[Figures]) {
    let delay = |runs: &[Figures]| middle(runs, |figures| figures.delay_p99_ms);
    let at_its_rate = format!("consume at its {:.0} k/s", middle(paced, rate) / 1e3);
    for (what, own, other) in [
        ("produce", delay(&ours.produce), delay(&peer.produce)),
        ("consume", delay(&ours.consume), delay(&peer.consume)),
        (&at_its_rate, delay(paced), delay(&peer.consume)),
    ] {
        report.add(
            format!("{what}: event-loop delay p99 against {}", peer.name),
            "≤ 1 ×",
            format!("{:.2} × ({own:.1} ms)", own / other),
            Some(own <= other),
            json!([own, other]),
        );
    }
}
