//! The gRPC front end: single requests against a tonic service that does
//! nothing, streams against the project's targets.
//!
//! Five kinds of processes: Kafka, the gateway, the service that does nothing
//! (`reference`), and the load (`load`), which are this program itself, so
//! that each has its own account of processor time and memory.

mod load;
mod reference;

use super::Effort;
use crate::report::{Report, median};
use crate::run;
use crate::under_test;
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::{Cluster, Gateway, Process};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The words behind which these processes are found.
pub(crate) const REFERENCE: &str = "grpc-reference";
pub(crate) const LOAD: &str = "grpc-load";

/// The size of every message.
const PAYLOAD: usize = 100;
/// Connections of the load of single requests.
const CONNECTIONS: usize = 64;
/// As many as those of the measurements that the targets come from.
const PARTITIONS: i32 = 4;

pub(crate) use load::run as load;
pub(crate) use reference::run as reference;

pub(crate) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let binary = under_test::release()?;
    let kafka = Cluster::builder().for_benchmark().start()?;
    let bench = Bench {
        config: configuration(&kafka)?,
        binary,
        kafka,
        effort,
    };
    bench.unary(report, true)?;
    bench.unary(report, false)?;
    bench.stream_produce(report)?;
    bench.stream_consume(report)
}

struct Bench {
    binary: PathBuf,
    config: PathBuf,
    kafka: Cluster,
    effort: Effort,
}

fn configuration(kafka: &Cluster) -> Result<PathBuf> {
    let folder = run::root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("grpc.yaml");
    let document = format!(
        "grpc_addr: 127.0.0.1:0\n\
         tcp_addr: \"\"\n\
         proxies:\n\
         \x20 main:\n\
         \x20   kafka:\n\
         \x20     seed_peers: [\"{}\"]\n\
         \x20   consumer:\n\
         \x20     initial_offset: oldest\n\
         \x20     max_pending_messages: 20000\n\
         \x20     channel_buffer_size: 4096\n",
        kafka.bootstrap_servers()
    );
    std::fs::write(&path, document)?;
    Ok(path)
}

/// What the load has to say at its end.
#[derive(serde::Deserialize)]
struct Done {
    /// Requests or messages.
    count: u64,
    seconds: f64,
}

impl Done {
    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// This program, in another role.
fn own(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench").args(arguments);
    Ok(command)
}

/// Runs a load to its end.
fn put_load(arguments: &[&str]) -> Result<Done> {
    let output = own(&[&[LOAD], arguments].concat())?
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the load {arguments:?} ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().context("the load said nothing")?;
    serde_json::from_str(line).with_context(|| line.to_owned())
}

/// The service that does nothing.
struct Reference {
    _process: Process,
    address: String,
}

impl Reference {
    fn start() -> Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let mut command = own(&[REFERENCE])?;
        command.stdout(writer);
        let process = Process::spawn(command)?;
        let mut address = String::new();
        BufReader::new(reader).read_line(&mut address)?;
        Ok(Self {
            _process: process,
            address: address.trim().to_owned(),
        })
    }
}

impl Bench {
    fn gateway(&self) -> Result<Gateway> {
        let config = self.config.to_string_lossy().into_owned();
        let arguments = ["kafka-pixy", "--config", &config];
        Ok(Gateway::spawn(&self.binary, &arguments)?)
    }

    fn scaled(&self, count: u64) -> u64 {
        count / self.effort.divisor as u64
    }

    fn topic(&self, name: &str) -> Result<String> {
        self.kafka.create_topic(name, PARTITIONS)?;
        Ok(name.to_owned())
    }

    /// How many records a topic has, once there are at least so many.
    fn stored(&self, topic: &str, at_least: u64) -> Result<u64> {
        for _ in 0..600 {
            let ends = self.kafka.end_offsets(topic)?;
            let stored: i64 = ends.values().sum();
            let stored = u64::try_from(stored)?;
            if stored >= at_least {
                return Ok(stored);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{topic} does not get its {at_least} records")
    }

    /// Single requests, in turn with the reference.
    fn unary(&self, report: &mut Report, is_async: bool) -> Result<()> {
        let (mode, least) = if is_async {
            ("async", 0.6)
        } else {
            ("sync", 0.5)
        };
        let topic = self.topic(&format!("unary-{mode}"))?;
        let (gateway, reference) = (self.gateway()?, Reference::start()?);
        let count = self.scaled(300_000).to_string();
        let address = gateway.address();
        let ask = |address: &str, count: &str| {
            let connections = CONNECTIONS.to_string();
            put_load(&["unary", address, &topic, mode, &connections, count])
        };
        let warming = self.scaled(50_000).to_string();
        let mut sent = ask(&address, &warming)?.count;
        ask(&reference.address, &warming)?;
        let (mut ours, mut theirs, mut micros) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.effort.rounds {
            theirs.push(ask(&reference.address, &count)?.rate());
            let before = gateway.cpu_time()?;
            let done = ask(&address, &count)?;
            sent += done.count;
            let used = gateway.cpu_time()? - before;
            micros.push(used.as_secs_f64() * 1e6 / done.count as f64);
            ours.push(done.rate());
            let stored = self.stored(&topic, sent)?;
            if stored != sent {
                bail!("{sent} were accepted, {stored} are in Kafka");
            }
        }
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
        let (ratio, cpu) = (median(ratios), median(micros.clone()));
        let (rate, base) = (median(ours.clone()), median(theirs.clone()));
        let megabytes = gateway.resident_bytes()? as f64 / 1e6;
        report.add(
            format!("unary Produce, {PAYLOAD} B, {CONNECTIONS} connections, {mode}"),
            format!("≥ {least} × a tonic service that does nothing, ≤ 16 µs CPU, ≤ 100 MB"),
            format!(
                "{:.1} k/s against {:.1} k/s: {ratio:.2} ×, {cpu:.1} µs, {megabytes:.0} MB",
                rate / 1e3,
                base / 1e3
            ),
            Some(ratio >= least && cpu <= 16.0 && megabytes <= 100.0),
            json!({"ours": ours, "reference": theirs, "cpu_us": micros, "resident_mb": megabytes}),
        );
        Ok(())
    }

    fn stream_produce(&self, report: &mut Report) -> Result<()> {
        let topic = self.topic("stream-produce")?;
        let gateway = self.gateway()?;
        let address = gateway.address();
        let (mut rates, mut micros, mut sent) = (Vec::new(), Vec::new(), 0);
        for round in 0..=self.effort.rounds {
            let count = self.scaled(if round == 0 { 500_000 } else { 3_000_000 });
            let before = gateway.cpu_time()?;
            let done = put_load(&["produce", &address, &topic, &count.to_string()])?;
            let used = gateway.cpu_time()? - before;
            sent += done.count;
            let stored = self.stored(&topic, sent)?;
            if stored != sent {
                bail!("{sent} were confirmed, {stored} are in Kafka");
            }
            // The first one warms up.
            if round > 0 {
                rates.push(done.rate());
                micros.push(used.as_secs_f64() * 1e6 / done.count as f64);
            }
        }
        stream_row(
            report,
            "produces with pipelined results",
            &gateway,
            rates,
            micros,
        )
    }

    fn stream_consume(&self, report: &mut Report) -> Result<()> {
        let topic = self.topic("stream-consume")?;
        let gateway = self.gateway()?;
        let address = gateway.address();
        let count = self.scaled(3_000_000);
        put_load(&["produce", &address, &topic, &count.to_string()])?;
        self.stored(&topic, count)?;
        // Another process, so that what is measured is not what producing
        // has left behind.
        drop(gateway);
        let gateway = self.gateway()?;
        let address = gateway.address();
        let (mut rates, mut micros) = (Vec::new(), Vec::new());
        for round in 0..self.effort.rounds {
            let group = format!("consume-{round}");
            let before = gateway.cpu_time()?;
            // It fails by itself if a message comes twice.
            let done = put_load(&["consume", &address, &topic, &group, &count.to_string()])?;
            let used = gateway.cpu_time()? - before;
            rates.push(done.rate());
            micros.push(used.as_secs_f64() * 1e6 / done.count as f64);
            self.committed(&group, &topic, count)?;
        }
        stream_row(report, "consumes with acks on it", &gateway, rates, micros)
    }

    /// Waits until a group has committed everything.
    fn committed(&self, group: &str, topic: &str, count: u64) -> Result<()> {
        for _ in 0..200 {
            let committed: i64 = self.kafka.committed(group, topic)?.values().sum();
            if u64::try_from(committed).is_ok_and(|committed| committed == count) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{group} has not committed all of its {count} messages")
    }
}

fn stream_row(
    report: &mut Report,
    what: &str,
    gateway: &Gateway,
    rates: Vec<f64>,
    micros: Vec<f64>,
) -> Result<()> {
    let (rate, cpu) = (median(rates.clone()), median(micros.clone()));
    let megabytes = gateway.resident_bytes()? as f64 / 1e6;
    report.add(
        format!("one stream that {what}, {PAYLOAD} B"),
        "≥ 300 k messages/s, ≤ 100 MB",
        format!("{:.0} k/s, {cpu:.2} µs, {megabytes:.0} MB", rate / 1e3),
        Some(rate >= 300_000.0 && megabytes <= 100.0),
        json!({"rates": rates, "cpu_us": micros, "resident_mb": megabytes}),
    );
    Ok(())
}
