//! The HTTP front end against nginx answering the same requests with a
//! constant: the table of the project's speed targets for HTTP.
//!
//! The load is wrk's. What was accepted must be in Kafka, and what counts as
//! consumed is what the group has committed there.

use super::Effort;
use super::web::{self, Load, Nginx, PATIENCE, Wrk, document};
use crate::report::{Report, median};
use crate::under_test;
use anyhow::{Result, ensure};
use barnabas_testkit::{Cluster, Gateway, NewRecord};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// As many as those of the measurements that the targets come from.
const PARTITIONS: i32 = 4;
const PRODUCE: &str = "produce";
const CONSUME: &str = "consume";
/// Bytes of a message where the target names no size.
const SMALL: usize = 100;
/// Bytes of a message of the comparison with nginx.
const LARGE: usize = 4 << 10;
/// Connections that consume.
const CONSUMERS: usize = 32;
/// Messages that there are to consume: three seconds of a million each.
const STOCK: usize = 3_000_000;
/// Messages that are put into Kafka at once.
const FILL: usize = 100_000;
/// The most that the process may hold.
const MEGABYTES: f64 = 100.0;

pub(crate) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let binary = under_test::release()?;
    let folder = web::folder("http")?;
    let kafka = Cluster::builder().for_benchmark().start()?;
    kafka.create_topic(PRODUCE, PARTITIONS)?;
    kafka.create_topic(CONSUME, PARTITIONS)?;
    let bench = Bench {
        binary,
        nginx: Nginx::start(&folder)?,
        wrk: Wrk::new(&folder)?,
        folder,
        kafka,
        effort,
    };
    bench.produce(report)?;
    bench.latency(report)?;
    bench.consume(report)
}

struct Bench {
    binary: PathBuf,
    wrk: Wrk,
    folder: PathBuf,
    nginx: Nginx,
    kafka: Cluster,
    effort: Effort,
}

impl Bench {
    /// A gateway with the default settings.
    fn gateway(&self) -> Result<Gateway> {
        let file = self.folder.join("kafka-pixy.yaml");
        let peers = self.kafka.bootstrap_servers();
        let text = format!(
            "grpc_addr: ''\ntcp_addr: 127.0.0.1:0\nproxies:\n  bench:\n    client_id: bench\n    \
             kafka:\n      seed_peers: [{peers}]\n    consumer:\n      initial_offset: oldest\n"
        );
        std::fs::write(&file, text)?;
        let file = file.to_string_lossy().into_owned();
        let arguments = ["kafka-pixy", "-config", &file];
        Ok(Gateway::spawn(&self.binary, &arguments)?)
    }

    /// How long a round is.
    fn seconds(&self) -> u64 {
        if self.effort.divisor == 1 { 8 } else { 2 }
    }

    /// Messages of the produce topic in Kafka.
    fn stored(&self) -> Result<u64> {
        web::stored(&self.kafka, PRODUCE)
    }

    fn all_arrived(&self, before: u64, accepted: u64) -> Result<()> {
        web::all_arrived(&self.kafka, PRODUCE, before, accepted)
    }

    /// 4 KiB on 256 connections, async and sync, beside nginx.
    fn produce(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let body = document(LARGE);
        let (ours, async_path) = (gateway.address(), format!("/topics/{PRODUCE}/messages"));
        let sync_path = format!("{async_path}?sync");
        let load = |address, path, seconds| {
            self.wrk.run_all(&Load {
                address,
                path,
                connections: 256,
                seconds,
                body: Some(&body),
            })
        };
        // All are warm before anything counts.
        for (address, path) in [(&self.nginx.address, &async_path), (&ours, &async_path)] {
            let before = self.stored()?;
            let done = load(address, path, 1)?;
            if *address == ours {
                self.all_arrived(before, done.requests)?;
            }
        }
        let (mut reference, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
        let mut micros = [Vec::new(), Vec::new()];
        for _ in 0..self.effort.rounds {
            reference.push(load(&self.nginx.address, &async_path, self.seconds())?.rate());
            for (index, path) in [&async_path, &sync_path].into_iter().enumerate() {
                let (stored, used) = (self.stored()?, gateway.cpu_time()?);
                let done = load(&ours, path, self.seconds())?;
                self.all_arrived(stored, done.requests)?;
                let used = (gateway.cpu_time()? - used).as_secs_f64();
                if let (Some(rates), Some(micros)) = (rates.get_mut(index), micros.get_mut(index)) {
                    rates.push(done.rate());
                    micros.push(used * 1e6 / done.requests as f64);
                }
            }
        }
        let [async_rates, sync_rates] = &rates;
        let [async_micros, sync_micros] = &micros;
        let ratio = ratio(async_rates, &reference);
        report.add(
            "HTTP produce 4 KiB, 256 connections, async",
            "≥ 0.55 × nginx with a constant",
            format!(
                "{ratio:.2} × ({:.1} k/s; nginx {:.1} k/s), all found in Kafka",
                median(async_rates.clone()) / 1e3,
                median(reference.clone()) / 1e3
            ),
            Some(ratio >= 0.55),
            json!({"ours": async_rates, "nginx": reference}),
        );
        let cpu = median(async_micros.clone());
        report.add(
            "CPU per async request",
            "≤ 15 µs",
            format!("{cpu:.1} µs"),
            Some(cpu <= 15.0),
            json!(async_micros),
        );
        let against_async = self::ratio(sync_rates, async_rates);
        report.add(
            "the same, sync",
            "≥ 0.9 × our async",
            format!(
                "{against_async:.2} × ({:.1} k/s), all found in Kafka",
                median(sync_rates.clone()) / 1e3
            ),
            Some(against_async >= 0.9),
            json!(sync_rates),
        );
        report.add(
            "CPU per sync request",
            "",
            format!("{:.1} µs", median(sync_micros.clone())),
            None,
            json!(sync_micros),
        );
        memory(report, "producing that", &gateway)
    }

    /// How long a sync request takes, with the default settings.
    fn latency(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let (address, body) = (gateway.address(), document(SMALL));
        let path = format!("/topics/{PRODUCE}/messages?sync");
        for connections in [1, 64] {
            let load = |seconds| {
                self.wrk.run_all(&Load {
                    address: &address,
                    path: &path,
                    connections,
                    seconds,
                    body: Some(&body),
                })
            };
            load(1)?;
            let (mut middle, mut tail) = (Vec::new(), Vec::new());
            for _ in 0..self.effort.rounds {
                let stored = self.stored()?;
                let done = load(self.seconds())?;
                self.all_arrived(stored, done.requests)?;
                middle.push(done.p50);
                tail.push(done.p99);
            }
            let (p50, p99) = (median(middle.clone()), median(tail.clone()));
            report.add(
                format!("sync produce 100 B, {connections} connections"),
                "p50 ≤ 3 ms, p99 ≤ 15 ms",
                format!("p50 {p50:.2} ms, p99 {p99:.2} ms"),
                Some(p50 <= 3.0 && p99 <= 15.0),
                json!({"p50_ms": middle, "p99_ms": tail}),
            );
        }
        memory(report, "sync produce", &gateway)
    }

    /// Consuming with auto-ack, one message and a hundred a request.
    fn consume(&self, report: &mut Report) -> Result<()> {
        self.fill(STOCK)?;
        for (max, target) in [(1, 30_000.0), (100, 300_000.0)] {
            let gateway = self.gateway()?;
            let (mut rates, mut micros, mut requests) = (Vec::new(), Vec::new(), Vec::new());
            // Where a request takes many, the stock lasts a short while.
            let seconds = if max == 1 { self.seconds() } else { 1 };
            for round in 0..self.effort.rounds {
                let group = format!("bench-{max}-{round}");
                let path = match max {
                    1 => format!("/topics/{CONSUME}/messages?group={group}"),
                    _ => format!("/topics/{CONSUME}/messages?group={group}&max={max}"),
                };
                join(&gateway.address(), &path)?;
                let before = self.committed(&group)?;
                let used = gateway.cpu_time()?;
                let done = self.wrk.run_all(&Load {
                    address: &gateway.address(),
                    path: &path,
                    connections: CONSUMERS,
                    seconds,
                    body: None,
                })?;
                let used = (gateway.cpu_time()? - used).as_secs_f64();
                let messages = u64::try_from(self.committed(&group)? - before)?;
                // wrk leaves requests behind that it has not counted.
                let most = (done.requests + CONSUMERS as u64) * max;
                ensure!(
                    (done.requests..=most).contains(&messages),
                    "{messages} messages are committed after {} requests for {max}",
                    done.requests
                );
                let is_used_up = usize::try_from(before)? + usize::try_from(messages)? >= STOCK;
                ensure!(!is_used_up, "the topic is used up");
                rates.push(messages as f64 / done.seconds);
                requests.push(done.requests as f64 / done.seconds);
                micros.push(used * 1e6 / messages as f64);
            }
            let rate = median(rates.clone());
            report.add(
                format!("HTTP consume with auto-ack, {CONSUMERS} connections, {max} a request"),
                format!("≥ {:.0} k messages/s", target / 1e3),
                format!(
                    "{:.1} k/s in {:.1} k requests/s, all committed in Kafka",
                    rate / 1e3,
                    median(requests.clone()) / 1e3
                ),
                Some(rate >= target),
                json!({"messages": rates, "requests": requests}),
            );
            report.add(
                format!("CPU per consumed message, {max} a request"),
                "",
                format!("{:.1} µs", median(micros.clone())),
                None,
                json!(micros),
            );
            memory(report, &format!("consuming {max} a request"), &gateway)?;
        }
        Ok(())
    }

    /// Messages that the group has acknowledged, once their commits are over.
    fn committed(&self, group: &str) -> Result<i64> {
        let start = Instant::now();
        let mut last = None;
        loop {
            let sum: i64 = self.kafka.committed(group, CONSUME)?.values().sum();
            // Commits are half a second apart.
            std::thread::sleep(Duration::from_millis(1_200));
            if last == Some(sum) {
                return Ok(sum);
            }
            last = Some(sum);
            ensure!(
                start.elapsed() < PATIENCE,
                "{group} does not stop committing"
            );
        }
    }

    fn fill(&self, count: usize) -> Result<()> {
        let value = document(SMALL);
        let mut partitions = (0..PARTITIONS).cycle();
        for from in (0..count).step_by(FILL) {
            let records = partitions.by_ref().take(FILL.min(count - from));
            let records = records.map(|partition| NewRecord {
                partition: Some(partition),
                value: Some(value.as_bytes()),
                ..NewRecord::default()
            });
            self.kafka.produce_all(CONSUME, records)?;
        }
        Ok(())
    }
}

/// Asks until the group has joined and a message comes.
fn join(address: &str, path: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )?;
        let mut reply = Vec::new();
        socket.read_to_end(&mut reply)?;
        if reply.starts_with(b"HTTP/1.1 200") {
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "no message at {path}: {}",
            String::from_utf8_lossy(&reply)
        );
    }
}

fn memory(report: &mut Report, what: &str, gateway: &Gateway) -> Result<()> {
    let megabytes = gateway.resident_bytes()? as f64 / 1e6;
    report.add(
        format!("resident after {what}"),
        format!("≤ {MEGABYTES:.0} MB"),
        format!("{megabytes:.1} MB"),
        Some(megabytes <= MEGABYTES),
        json!(megabytes),
    );
    Ok(())
}

/// The middle of the ratios of each round.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect())
}
