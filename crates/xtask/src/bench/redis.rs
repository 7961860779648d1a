//! The Redis front end against redis-server: the table of the project's
//! speed targets.

use super::Effort;
use super::client::{Client, Reply, command};
use crate::report::{Report, median};
use crate::run;
use crate::under_test;
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::{Cluster, Gateway, Process, tools};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The payload of every message.
const PAYLOAD: [u8; 100] = [b'x'; 100];
/// Partitions of the topics: enough for sixteen consumers.
const PARTITIONS: i32 = 16;
const PRODUCE: &str = "produce";
const CONSUME: &str = "consume";

pub(crate) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let binary = under_test::release()?;
    let kafka = Cluster::builder().for_benchmark().start()?;
    kafka.create_topic(PRODUCE, PARTITIONS)?;
    kafka.create_topic(CONSUME, PARTITIONS)?;
    let bench = Bench {
        reference: Reference::start()?,
        folder: configuration(&kafka)?,
        binary,
        kafka,
        effort,
    };
    bench.idle(report)?;
    bench.connections(report)?;
    bench.produce(report)?;
    bench.consume(report)?;
    bench.pipelined_consume(report)
}

struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    kafka: Cluster,
    reference: Reference,
    effort: Effort,
}

fn configuration(kafka: &Cluster) -> Result<PathBuf> {
    let path = run::root().join("target/bench");
    std::fs::create_dir_all(&path)?;
    let path = path.join("librdkafka.json");
    let document = json!({
        "general": {"bootstrap.servers": kafka.bootstrap_servers()},
        "consumer": {"auto.offset.reset": "earliest"},
        "producer": {},
    });
    std::fs::write(&path, document.to_string())?;
    Ok(path)
}

/// A redis-server of our own.
pub(super) struct Reference {
    _process: Process,
    pub(super) address: String,
}

impl Reference {
    pub(super) fn start() -> Result<Self> {
        let program = tools::ensure_program("redis-server", "redis-server")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let mut command = Command::new(program);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null());
        let process = Process::spawn(command)?;
        let address = format!("127.0.0.1:{port}");
        let start = Instant::now();
        while Client::connect(&address).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("redis-server does not answer");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            _process: process,
            address,
        })
    }
}

impl Bench {
    fn gateway(&self) -> Result<Gateway> {
        let path = self.folder.to_string_lossy().into_owned();
        let arguments = ["rafka", "-c", &path, "--host", "127.0.0.1", "-p", "0"];
        Ok(Gateway::spawn(&self.binary, &arguments)?)
    }

    fn scaled(&self, count: usize) -> usize {
        count / self.effort.divisor
    }

    fn idle(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        std::thread::sleep(Duration::from_secs(5));
        let before = gateway.cpu_time()?;
        let seconds = 20.0 / self.effort.divisor as f64;
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let used = (gateway.cpu_time()? - before).as_secs_f64();
        let megabytes = gateway.resident_bytes()? as f64 / 1e6;
        let percent = used / seconds * 100.0;
        report.add(
            "idle",
            "≤ 25 MB resident, < 0.5 % CPU",
            format!("{megabytes:.1} MB, {percent:.2} %"),
            Some(megabytes <= 25.0 && percent < 0.5),
            json!({"resident_mb": megabytes, "cpu_percent": percent}),
        );
        Ok(())
    }

    fn connections(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let address = gateway.address();
        let push = command(&[b"RPUSHX", b"topics:produce", &PAYLOAD]);
        let mut clients = vec![Client::connect(&address)?];
        produce_with(&mut clients, &push, 20)?;
        let with_one = gateway.threads()?.len();
        for _ in 1..1000 {
            clients.push(Client::connect(&address)?);
        }
        produce_with(&mut clients, &push, 20)?;
        let with_all = gateway.threads()?.len();
        let megabytes = gateway.resident_bytes()? as f64 / 1e6;
        report.add(
            "1,000 producing connections",
            "threads as with 1; ≤ 60 MB resident",
            format!("{with_one} → {with_all} threads, {megabytes:.1} MB"),
            Some(with_all <= with_one && megabytes <= 60.0),
            json!({"threads_1": with_one, "threads_1000": with_all, "resident_mb": megabytes}),
        );
        Ok(())
    }

    fn produce(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let address = gateway.address();
        let mut client = Client::connect(&address)?;
        client.call(&[b"RPUSHX", b"topics:produce", b"first"])?;
        let mut reference = Client::connect(&self.reference.address)?;
        reference.call(&[b"RPUSH", b"topics:produce", b"first"])?;
        // Both are warm before anything counts.
        redis_benchmark(&address, 16, self.scaled(300_000))?;
        redis_benchmark(&self.reference.address, 16, self.scaled(300_000))?;
        settle(&mut client)?;
        for (pipeline, count, target) in [
            (1, 200_000, 0.8),
            (16, 2_000_000, 0.8),
            (128, 3_000_000, 1.0),
        ] {
            let count = self.scaled(count);
            let mut ours = Vec::new();
            let mut theirs = Vec::new();
            let mut micros = Vec::new();
            let mut found = true;
            for _ in 0..self.effort.rounds {
                theirs.push(redis_benchmark(&self.reference.address, pipeline, count)?);
                reference.call(&[b"LTRIM", b"topics:produce", b"0", b"0"])?;
                let stored = self.stored()?;
                let before = gateway.cpu_time()?;
                ours.push(redis_benchmark(&address, pipeline, count)?);
                settle(&mut client)?;
                let used = gateway.cpu_time()? - before;
                micros.push(used.as_secs_f64() * 1e6 / count as f64);
                // redis-benchmark may send a few more than asked for.
                found &= self.stored()? - stored >= i64::try_from(count)?;
            }
            if !found {
                bail!("messages are missing in Kafka at pipeline {pipeline}");
            }
            let ratio = median(ours.iter().zip(&theirs).map(|(a, b)| a / b).collect());
            let (rate, cpu) = (median(ours.clone()), median(micros.clone()));
            report.add(
                format!("`RPUSHX` 100 B, 50 connections, pipeline {pipeline}"),
                format!("≥ {target} × redis-server"),
                format!(
                    "{ratio:.2} × ({:.0} k/s; redis-server {:.0} k/s), all found in Kafka",
                    rate / 1e3,
                    median(theirs.clone()) / 1e3
                ),
                Some(ratio >= target),
                json!({"ours": ours, "redis": theirs, "cpu_us": micros}),
            );
            let is_judged = pipeline == 16;
            report.add(
                format!("CPU per message at pipeline {pipeline}"),
                if is_judged { "≤ 1.5 µs" } else { "" },
                format!("{cpu:.2} µs"),
                is_judged.then_some(cpu <= 1.5),
                json!(micros),
            );
        }
        let megabytes = gateway.resident_bytes()? as f64 / 1e6;
        report.add(
            "resident after producing all that",
            "",
            format!("{megabytes:.1} MB"),
            None,
            json!(megabytes),
        );
        Ok(())
    }

    /// Messages of the produce topic in Kafka.
    fn stored(&self) -> Result<i64> {
        Ok(self.kafka.end_offsets(PRODUCE)?.values().sum())
    }

    fn consume(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let address = gateway.address();
        let per_round = self.scaled(60_000);
        // Every group reads the topic from its beginning; a round and its
        // warm-up must fit into what each member is assigned.
        let stock = per_round * 4;
        fill(&address, stock, true)?;
        for (connections, target) in [(1_usize, 1.0), (4, 0.9), (16, 0.9)] {
            let mut ours = Vec::new();
            let mut theirs = Vec::new();
            let mut micros = Vec::new();
            for round in 0..self.effort.rounds {
                fill(&self.reference.address, per_round * 2, false)?;
                let group = format!("bench-{connections}-{round}");
                let load = Load {
                    connections,
                    messages: per_round,
                };
                theirs.push(load.run(&self.reference.address, None, || Ok(()))?.rate);
                Client::connect(&self.reference.address)?.call(&[b"DEL", b"list", b"acks"])?;
                let mut before = Duration::ZERO;
                let result = load.run(&address, Some(&group), || {
                    before = gateway.cpu_time()?;
                    Ok(())
                })?;
                let used = gateway.cpu_time()? - before;
                ours.push(result.rate);
                micros.push(used.as_secs_f64() * 1e6 / result.messages as f64);
            }
            let ratio = median(ours.iter().zip(&theirs).map(|(a, b)| a / b).collect());
            let cpu = median(micros.clone());
            report.add(
                format!("`BLPOP` + `RPUSH acks`, {connections} connections"),
                format!("≥ {target} × redis-server"),
                format!(
                    "{ratio:.2} × ({:.1} k/s; redis-server {:.1} k/s)",
                    median(ours.clone()) / 1e3,
                    median(theirs.clone()) / 1e3
                ),
                Some(ratio >= target),
                json!({"ours": ours, "redis": theirs}),
            );
            let is_judged = connections == 4;
            report.add(
                format!("CPU per consumed message, {connections} connections"),
                if is_judged { "≤ 20 µs" } else { "" },
                format!("{cpu:.1} µs"),
                is_judged.then_some(cpu <= 20.0),
                json!(micros),
            );
        }
        Ok(())
    }

    fn pipelined_consume(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let count = self.scaled(200_000);
        let mut rates = Vec::new();
        for round in 0..self.effort.rounds {
            let mut client = Client::connect(&gateway.address())?;
            let name = format!("bench-pipelined-{round}:c");
            client.call(&[b"CLIENT", b"SETNAME", name.as_bytes()])?;
            let pop = command(&[b"BLPOP", b"topics:consume", b"10"]);
            client.send(&pop)?;
            client.message()?.context("no message came")?;
            let pops = pop.repeat(64);
            let start = Instant::now();
            let mut got = 0;
            while got < count {
                client.send(&pops)?;
                for _ in 0..64 {
                    client.message()?.context("the topic is used up")?;
                }
                got += 64;
            }
            rates.push(got as f64 / start.elapsed().as_secs_f64());
        }
        let rate = median(rates.clone());
        report.add(
            "one connection that pipelines 64 `BLPOP`s",
            "≥ 150 k messages/s",
            format!("{:.0} k/s", rate / 1e3),
            Some(rate >= 150_000.0),
            json!(rates),
        );
        Ok(())
    }
}

fn produce_with(clients: &mut [Client], push: &[u8], each: usize) -> Result<()> {
    for _ in 0..each {
        for client in clients.iter_mut() {
            client.send(push)?;
        }
        for client in clients.iter_mut() {
            client.reply()?;
        }
    }
    Ok(())
}

/// Requests per second of the real redis-benchmark.
fn redis_benchmark(address: &str, pipeline: usize, count: usize) -> Result<f64> {
    Ok(push_with_benchmark(address, "topics:produce", pipeline, count)?.0)
}

/// Messages per second that 50 connections push, and the 99th percentile of
/// what a lot of `pipeline` takes, in milliseconds.
pub(super) fn push_with_benchmark(
    address: &str,
    key: &str,
    pipeline: usize,
    count: usize,
) -> Result<(f64, f64)> {
    let program = tools::ensure_program("redis-benchmark", "redis-tools")?;
    let (host, port) = address.rsplit_once(':').context("no port")?;
    let payload = String::from_utf8_lossy(&PAYLOAD).into_owned();
    let output = Command::new(program)
        .args(["-h", host, "-p", port, "-c", "50", "--csv"])
        .args(["-P", &pipeline.to_string(), "-n", &count.to_string()])
        .args(["RPUSHX", key, &payload])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","rps","avg_latency_ms","min","p50","p95","p99","max"
    let line = text.lines().last().unwrap_or_default();
    let number = |index| line.split("\",\"").nth(index)?.parse().ok();
    number(1)
        .zip(number(6))
        .with_context(|| format!("redis-benchmark said: {text}"))
}

/// Waits until nothing is outstanding; nothing may have failed.
fn settle(client: &mut Client) -> Result<()> {
    let start = Instant::now();
    loop {
        let mut outstanding = String::new();
        let mut errors = String::new();
        client.send(&command(&[b"HGETALL", b"stats"]))?;
        let Reply::Array(count) = client.reply()? else {
            bail!("HGETALL stats is no array");
        };
        for _ in 0..count / 2 {
            let (name, value) = (client.text()?, client.text()?);
            match name.as_str() {
                "producer.messages.outstanding" => outstanding = value,
                "producer.delivery.errors" => errors = value,
                _ => {}
            }
        }
        if errors != "0" {
            bail!("{errors} messages were not delivered");
        }
        if outstanding == "0" {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(60) {
            bail!("{outstanding} messages are still outstanding");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fills our topic evenly (by keys) or the reference's list.
fn fill(address: &str, count: usize, is_ours: bool) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut sent = 0;
    while sent < count {
        let batch = 1000.min(count - sent);
        let mut wire = Vec::new();
        for index in sent..sent + batch {
            if is_ours {
                let key = format!("topics:{CONSUME}:{index}");
                wire.extend(command(&[b"RPUSHX", key.as_bytes(), &PAYLOAD]));
            } else {
                wire.extend(command(&[b"RPUSH", b"list", &PAYLOAD]));
            }
        }
        client.send(&wire)?;
        for _ in 0..batch {
            client.reply()?;
        }
        sent += batch;
        // A cold broker is slower than a connection's share of the queue.
        let is_full = sent % 50_000 == 0 || sent == count;
        if is_ours && is_full && client.call(&[b"DUMP", b"60000"])? != Reply::Integer(0) {
            bail!("the topic could not be filled");
        }
    }
    Ok(())
}

/// Consumers that pop and acknowledge message by message.
struct Load {
    connections: usize,
    messages: usize,
}

/// What a load has done between its two barriers.
struct Done {
    rate: f64,
    messages: usize,
}

impl Load {
    /// Joins, warms up, then measures; `at_start` is called when all are
    /// warm. With a group the server is ours.
    fn run(
        &self,
        address: &str,
        group: Option<&str>,
        at_start: impl FnOnce() -> Result<()>,
    ) -> Result<Done> {
        let each = self.messages / self.connections;
        let joined = Arc::new(Barrier::new(self.connections));
        let barrier = Arc::new(Barrier::new(self.connections + 1));
        let workers: Vec<JoinHandle<Result<()>>> = (0..self.connections)
            .map(|index| {
                let (address, barrier) = (address.to_owned(), Arc::clone(&barrier));
                let joined = Arc::clone(&joined);
                let name = group.map(|group| format!("{group}:c{index}"));
                std::thread::spawn(move || {
                    let mut ready = Worker::join(&address, name.as_deref(), &joined);
                    // Whoever failed still meets the others, so that none
                    // waits for ever; and nobody leaves the group before the
                    // last one is done, which would make it rebalance.
                    barrier.wait();
                    let result = match &mut ready {
                        Ok(worker) => worker.consume(each),
                        Err(_) => Ok(()),
                    };
                    barrier.wait();
                    ready.and(result)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        at_start()?;
        barrier.wait();
        let seconds = start.elapsed().as_secs_f64();
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(_) => bail!("a consumer panicked"),
            }
        }
        let messages = each * self.connections;
        Ok(Done {
            rate: messages as f64 / seconds,
            messages,
        })
    }
}

struct Worker {
    client: Client,
    pop: Vec<u8>,
    is_ours: bool,
}

impl Worker {
    fn join(address: &str, name: Option<&str>, joined: &Barrier) -> Result<Self> {
        let mut client = Client::connect(address)?;
        let key: &[u8] = if let Some(name) = name {
            client.call(&[b"CLIENT", b"SETNAME", name.as_bytes()])?;
            b"topics:consume"
        } else {
            b"list"
        };
        let mut worker = Self {
            client,
            pop: command(&[b"BLPOP", key, b"1"]),
            is_ours: name.is_some(),
        };
        // All members are known to the group before the partitions settle.
        let first = worker.one();
        joined.wait();
        first?;
        if worker.is_ours {
            worker.wait_for_quiet_group()?;
        }
        worker.consume(200)?;
        Ok(worker)
    }

    /// Consumes slowly while the group rebalances: heartbeats are three
    /// seconds apart, and each rebalance may take two of them.
    fn wait_for_quiet_group(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(8) {
            self.one()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn consume(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.one()?;
        }
        Ok(())
    }

    /// One message and its acknowledgement.
    fn one(&mut self) -> Result<()> {
        for _ in 0..60 {
            self.client.send(&self.pop)?;
            let Some((partition, offset)) = self.client.message()? else {
                continue;
            };
            let position = if self.is_ours {
                format!("{CONSUME}:{partition}:{offset}")
            } else {
                // As long as a real one.
                format!("{CONSUME}:0:12345")
            };
            let acknowledged = self.client.call(&[b"RPUSH", b"acks", position.as_bytes()]);
            return match acknowledged {
                Ok(_) => Ok(()),
                // The partition has just moved on; it comes again there.
                Err(error) if error.to_string().contains("Erroneous state") => Ok(()),
                Err(error) => Err(error),
            };
        }
        bail!("no message for a minute")
    }
}
