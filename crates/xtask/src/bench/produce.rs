//! Producing: kprf's `POST /push` against nginx, the native API's stream of
//! lines, the journal against memory, and the library against kcat.
//!
//! What was accepted must be in Kafka.

use super::Effort;
use super::redis::push_with_benchmark;
use super::web::{self, Done, Load, Nginx, PATIENCE, Wrk, document, words};
use crate::report::{Report, median};
use crate::run;
use crate::under_test;
use anyhow::{Context as _, Result, ensure};
use barnabas_testkit::{Cluster, Gateway, tools};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// As many as those of the measurements that the targets come from.
const PARTITIONS: i32 = 4;
const PUSHED: &str = "pushed";
const LINES: &str = "lines";
const MEMORY: &str = "memory";
const JOURNAL: &str = "journal";
const LIBRARY: &str = "library";
const KCAT: &str = "kcat";
/// Bytes of a record where the target names no size.
const SMALL: usize = 100;
/// Bytes of a record of the comparison with nginx.
const LARGE: usize = 4 << 10;
/// Records of a request that has many.
const MANY: usize = 100;
/// Lines of a stream.
const STREAM: usize = 4_000_000;
/// Lines that are written to the socket at once.
const BLOCK: usize = 1_000;
/// Records that the library and kcat produce.
const RECORDS: usize = 4_000_000;
/// Records that redis-benchmark pushes.
const PUSHES: usize = 1_500_000;
/// Its pipeline.
const PIPELINE: usize = 16;
/// What kprf's file bounds what is under way by, unless it says so, and what
/// the process may hold beside it, in bytes.
const BOUND: f64 = (256 << 20) as f64 + 50e6;

pub(crate) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let binary = under_test::release()?;
    let folder = web::folder("produce")?;
    let kafka = Cluster::builder().for_benchmark().start()?;
    for topic in [PUSHED, LINES, MEMORY, JOURNAL, LIBRARY, KCAT] {
        kafka.create_topic(topic, PARTITIONS)?;
    }
    let bench = Bench {
        nginx: Nginx::start(&folder)?,
        wrk: Wrk::new(&folder)?,
        binary,
        folder,
        kafka,
        effort,
    };
    let nginx = bench.single(report)?;
    bench.many(report, &nginx)?;
    bench.lines(report)?;
    bench.journal(report)?;
    bench.library(report)
}

struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    nginx: Nginx,
    wrk: Wrk,
    kafka: Cluster,
    effort: Effort,
}

/// What the rounds of one load have shown.
#[derive(Default)]
struct Rounds {
    /// Records per second.
    rates: Vec<f64>,
    /// Microseconds of the processor per record.
    micros: Vec<f64>,
    refused: u64,
}

impl Bench {
    fn seconds(&self) -> u64 {
        if self.effort.divisor == 1 { 8 } else { 2 }
    }

    /// kprf with its defaults, but for how it compresses.
    fn kprf(&self, codec: &str) -> Result<(Gateway, String)> {
        let file = self.folder.join("kprf.yaml");
        let document = json!({
            "kafka": {
                "brokers": [self.kafka.bootstrap_servers()],
                "librdkafka": {"compression.type": codec},
            },
            "http": {"listen": "127.0.0.1", "port": 0, "metrics_port": 0},
        });
        // JSON is YAML.
        std::fs::write(&file, document.to_string())?;
        let file = file.to_string_lossy().into_owned();
        let gateway = Gateway::builder(&self.binary)
            .args(["kprf", "-c", &file])
            .listeners(0)
            .spawn()?;
        let start = Instant::now();
        loop {
            let port = gateway.stdout().lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let is_it = line.get("msg")? == "starting main http server";
                is_it.then(|| line.get("port").cloned())?
            });
            if let Some(port) = port {
                return Ok((gateway, format!("127.0.0.1:{port}")));
            }
            ensure!(start.elapsed() < PATIENCE, "kprf does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Our own server, with both ways of keeping a record.
    fn serve(&self) -> Result<Gateway> {
        let file = self.folder.join("serve.yaml");
        let journal = self.folder.join("journal");
        let _ = std::fs::remove_dir_all(&journal);
        let document = json!({
            "clusters": {"default": {
                "properties": {"bootstrap.servers": self.kafka.bootstrap_servers()},
            }},
            "redis": {"listen": ["127.0.0.1:0"]},
            "http": {"listen": ["127.0.0.1:0"]},
            "metrics": {"listen": ["127.0.0.1:0"]},
            "durability": {JOURNAL: "journal", "default": "memory"},
            "journal": {"dir": journal, "max_bytes": 8_u64 << 30},
        });
        std::fs::write(&file, document.to_string())?;
        let file = file.to_string_lossy().into_owned();
        let builder = Gateway::builder(&self.binary).listeners(3);
        Ok(builder.args(["serve", "--config", &file]).spawn()?)
    }

    fn stored(&self, topic: &str) -> Result<u64> {
        web::stored(&self.kafka, topic)
    }

    /// One round of a load on the gateway: `records` in a request.
    fn round(
        &self,
        gateway: &Gateway,
        (load, topic, records): (&Load<'_>, &str, u64),
        rounds: &mut Rounds,
    ) -> Result<Done> {
        let (before, used) = (self.stored(topic)?, gateway.cpu_time()?);
        let done = self.wrk.run(load)?;
        let accepted = done.accepted() * records;
        web::all_arrived(&self.kafka, topic, before, accepted)?;
        let used = (gateway.cpu_time()? - used).as_secs_f64();
        rounds.rates.push(done.rate() * records as f64);
        rounds.micros.push(used * 1e6 / accepted as f64);
        rounds.refused += done.refused;
        Ok(done)
    }

    /// One record a request beside nginx, whose rates are returned. With lz4, as
    /// the plain handler had whose figures the targets are made of, and with
    /// kprf's default.
    fn single(&self, report: &mut Report) -> Result<Vec<f64>> {
        let mut reference = Vec::new();
        for (wait, name, target, codec) in [
            (false, "async, lz4", 0.5, "lz4"),
            (true, "`wait_for_send`, lz4", 0.45, "lz4"),
            (false, "async, not compressed", 0.5, "none"),
            (true, "`wait_for_send`, not compressed", 0.45, "none"),
        ] {
            let body = request(1, LARGE, wait);
            let load = |address, seconds| Load {
                address,
                path: "/push",
                connections: 256,
                seconds,
                body: Some(&body),
            };
            let (gateway, address) = self.kprf(codec)?;
            // All are warm before anything counts.
            self.wrk.run(&load(&self.nginx.address, 1))?;
            let warm = (&load(&address, 1), PUSHED, 1);
            self.round(&gateway, warm, &mut Rounds::default())?;
            let (mut theirs, mut rounds) = (Vec::new(), Rounds::default());
            for _ in 0..self.effort.rounds {
                let load = |address| load(address, self.seconds());
                theirs.push(self.wrk.run_all(&load(&self.nginx.address))?.rate());
                self.round(&gateway, (&load(&address), PUSHED, 1), &mut rounds)?;
            }
            let ratio = ratio(&rounds.rates, &theirs);
            report.add(
                format!("`POST /push` 4 KiB, 256 connections, {name}"),
                format!("≥ {target} × nginx with a constant"),
                format!(
                    "{ratio:.2} × ({:.1} k/s; nginx {:.1} k/s), all found in Kafka{}",
                    median(rounds.rates.clone()) / 1e3,
                    median(theirs.clone()) / 1e3,
                    refused(&rounds)
                ),
                Some(ratio >= target),
                json!({"ours": rounds.rates, "nginx": theirs, "refused": rounds.refused}),
            );
            processor(report, format!("CPU per request, {name}"), &rounds, 16.0);
            memory(report, name, &gateway)?;
            reference = theirs;
        }
        Ok(reference)
    }

    /// Many records a request. What is asked is a multiple of nginx's requests
    /// of 4 KiB.
    fn many(&self, report: &mut Report, nginx: &[f64]) -> Result<()> {
        for (wait, name, target, codec) in [
            (false, "async, lz4", 10.0, "lz4"),
            (true, "sync, lz4", 6.0, "lz4"),
            (false, "async, not compressed", 10.0, "none"),
            (true, "sync, not compressed", 6.0, "none"),
        ] {
            let body = request(MANY, SMALL, wait);
            let (gateway, address) = self.kprf(codec)?;
            let load = |seconds| Load {
                address: &address,
                path: "/push",
                connections: 64,
                seconds,
                body: Some(&body),
            };
            let records = MANY as u64;
            let warm = (&load(1), PUSHED, records);
            self.round(&gateway, warm, &mut Rounds::default())?;
            let mut rounds = Rounds::default();
            for _ in 0..self.effort.rounds {
                let load = load(self.seconds());
                self.round(&gateway, (&load, PUSHED, records), &mut rounds)?;
            }
            let rate = median(rounds.rates.clone());
            let ratio = rate / median(nginx.to_vec());
            report.add(
                format!("`POST /push` 100 × 100 B, 64 connections, {name}"),
                format!("≥ {target} × nginx's requests of 4 KiB, in records"),
                format!(
                    "{ratio:.1} × ({:.0} k records/s), all found in Kafka{}",
                    rate / 1e3,
                    refused(&rounds)
                ),
                Some(ratio >= target),
                json!({"ours": rounds.rates, "nginx": nginx, "refused": rounds.refused}),
            );
            processor(report, format!("CPU per record, {name}"), &rounds, 1.3);
            memory(report, &format!("{name}, 100 a request"), &gateway)?;
        }
        Ok(())
    }

    /// One connection that sends lines, each a record, answered once Kafka has
    /// them.
    fn lines(&self, report: &mut Report) -> Result<()> {
        let gateway = self.serve()?;
        let address = address(&gateway, HTTP)?;
        let count = STREAM / self.effort.divisor;
        stream(&address, count / 10)?;
        let mut rounds = Rounds::default();
        for _ in 0..self.effort.rounds {
            let (before, used) = (self.stored(LINES)?, gateway.cpu_time()?);
            let start = Instant::now();
            stream(&address, count)?;
            rounds
                .rates
                .push(count as f64 / start.elapsed().as_secs_f64());
            web::all_arrived(&self.kafka, LINES, before, count as u64)?;
            let used = (gateway.cpu_time()? - used).as_secs_f64();
            rounds.micros.push(used * 1e6 / count as f64);
        }
        let rate = median(rounds.rates.clone());
        report.add(
            "native NDJSON stream, 100 B a line, 1 connection",
            "≥ 700 k records/s",
            format!("{:.0} k/s, all found in Kafka", rate / 1e3),
            Some(rate >= 700_000.0),
            json!({"ours": rounds.rates, "cpu_us": rounds.micros}),
        );
        memory(report, "the stream", &gateway)
    }

    /// The journal beside memory, over Redis and over HTTP.
    fn journal(&self, report: &mut Report) -> Result<()> {
        let gateway = self.serve()?;
        let (redis, http) = (address(&gateway, REDIS)?, address(&gateway, HTTP)?);
        let count = PUSHES / self.effort.divisor;
        let body = document(SMALL);
        let over_redis = |topic: &str| {
            let key = format!("topics:{topic}");
            push_with_benchmark(&redis, &key, PIPELINE, count)
        };
        let over_http = |topic: &str| {
            let done = self.wrk.run_all(&Load {
                address: &http,
                path: &format!("/v1/topics/{topic}/records?durability={topic}"),
                connections: 64,
                seconds: self.seconds(),
                body: Some(&body),
            })?;
            Ok((done.rate(), done.p99))
        };
        let name = format!("50 Redis connections, pipeline {PIPELINE}");
        self.kept(report, &gateway, &name, over_redis)?;
        self.kept(report, &gateway, "64 HTTP connections", over_http)?;
        memory(report, "the journal", &gateway)
    }

    /// One way of handing records over, to memory and to the journal.
    fn kept(
        &self,
        report: &mut Report,
        gateway: &Gateway,
        name: &str,
        load: impl Fn(&str) -> Result<(f64, f64)>,
    ) -> Result<()> {
        let mut rates = [Vec::new(), Vec::new()];
        let (mut tails, mut syncs) = (Vec::new(), Vec::new());
        load(MEMORY)?;
        load(JOURNAL)?;
        for _ in 0..self.effort.rounds {
            for (topic, rates) in [MEMORY, JOURNAL].into_iter().zip(&mut rates) {
                let (stored, before) = (self.stored(topic)?, synced(gateway)?);
                let start = Instant::now();
                let (rate, p99) = load(topic)?;
                let seconds = start.elapsed().as_secs_f64();
                let after = synced(gateway)?;
                rates.push(rate);
                if topic == JOURNAL {
                    tails.push(p99);
                    syncs.push((after - before) / seconds);
                }
                // Kafka is done with it before the next one begins.
                web::all_arrived(&self.kafka, topic, stored, 1)?;
            }
        }
        let [memory, journal] = &rates;
        let ratio = ratio(journal, memory);
        report.add(
            format!("journal, 100 B, {name}"),
            "≥ 0.5 × memory",
            format!(
                "{ratio:.2} × ({:.0} k/s; memory {:.0} k/s), {:.0} fsyncs/s",
                median(journal.clone()) / 1e3,
                median(memory.clone()) / 1e3,
                median(syncs.clone())
            ),
            Some(ratio >= 0.5),
            json!({"journal": journal, "memory": memory, "fsyncs": syncs}),
        );
        let p99 = median(tails.clone());
        report.add(
            format!("acknowledged by the journal, {name}"),
            "p99 ≤ 20 ms",
            format!("p99 {p99:.1} ms"),
            Some(p99 <= 20.0),
            json!(tails),
        );
        Ok(())
    }

    /// The library's loop beside kcat, whole processes.
    fn library(&self, report: &mut Report) -> Result<()> {
        let example = ["--package", "barnabas-engine", "--example", "outbox_rate"];
        run::checked(run::cargo().args(["build", "--release"]).args(example))?;
        let program = under_test::folder("release").join("examples/outbox_rate");
        let kcat = tools::ensure_program("kcat", "kcat")?;
        let count = RECORDS / self.effort.divisor;
        let file = self.folder.join("lines");
        std::fs::write(&file, lines(count))?;
        let brokers = self.kafka.bootstrap_servers();
        let ours = || {
            let mut command = Command::new(&program);
            command.args([&brokers, LIBRARY, &count.to_string()]);
            command
        };
        let theirs = || {
            let mut command = Command::new(&kcat);
            command.args(["-q", "-P", "-b", &brokers, "-t", KCAT, "-l"]);
            command.arg(&file);
            command
        };
        self.timed(theirs(), KCAT, count / 10)?;
        self.timed(ours(), LIBRARY, count / 10)?;
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..self.effort.rounds {
            let [own, reference] = &mut rates;
            reference.push(self.timed(theirs(), KCAT, count)?);
            own.push(self.timed(ours(), LIBRARY, count)?);
        }
        std::fs::remove_file(&file)?;
        let [own, reference] = &rates;
        let ratio = ratio(own, reference);
        report.add(
            "library, a loop of `produce_async`, 100 B",
            "≥ 0.9 × `kcat -P`",
            format!(
                "{ratio:.2} × ({:.0} k/s; kcat {:.0} k/s), all found in Kafka",
                median(own.clone()) / 1e3,
                median(reference.clone()) / 1e3
            ),
            Some(ratio >= 0.9),
            json!({"ours": own, "kcat": reference}),
        );
        Ok(())
    }

    /// Records per second of a whole process, which must have produced at
    /// least `count`.
    fn timed(&self, mut command: Command, topic: &str, count: usize) -> Result<f64> {
        let before = self.stored(topic)?;
        let start = Instant::now();
        let status = command.stdout(Stdio::null()).status()?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(status.success(), "{command:?}: {status}");
        web::all_arrived(&self.kafka, topic, before, count as u64)?;
        Ok((self.stored(topic)? - before) as f64 / seconds)
    }
}

/// Sends lines in one request, and reads that all of them are in Kafka.
fn stream(address: &str, count: usize) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let block = lines(BLOCK);
    write!(
        socket,
        "POST /v1/topics/{LINES}/records?durability=kafka HTTP/1.1\r\nHost: x\r\n\
         Connection: close\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        count / BLOCK * block.len()
    )?;
    for _ in 0..count / BLOCK {
        socket.write_all(&block)?;
    }
    let mut reply = String::new();
    socket.read_to_string(&mut reply)?;
    let (_, body) = reply.split_once("\r\n\r\n").context("no reply")?;
    let said: Value = serde_json::from_str(body).with_context(|| reply.clone())?;
    let written = said.get("written").and_then(Value::as_u64);
    ensure!(written == Some((count / BLOCK * BLOCK) as u64), "{reply}");
    Ok(())
}

/// Lines of [`SMALL`] bytes each.
fn lines(count: usize) -> Vec<u8> {
    let mut line = words(SMALL).into_bytes();
    line.push(b'\n');
    line.repeat(count)
}

/// A request of kprf's.
fn request(records: usize, bytes: usize, wait: bool) -> String {
    let record = json!({"topic": PUSHED, "data": words(bytes)});
    json!({"records": vec![record; records], "wait_for_send": wait}).to_string()
}

/// What `barnabas serve` says first, second and third that it listens on.
const REDIS: usize = 0;
const HTTP: usize = 1;
const METRICS: usize = 2;

fn address(gateway: &Gateway, place: usize) -> Result<String> {
    let found = gateway
        .listening()
        .get(place)
        .context("it does not listen")?;
    Ok(format!("{}:{}", found.host, found.port))
}

/// The middle of the ratios of each round.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect())
}

fn refused(rounds: &Rounds) -> String {
    match rounds.refused {
        0 => String::new(),
        refused => format!("; {refused} requests were refused"),
    }
}

fn processor(report: &mut Report, measure: String, rounds: &Rounds, target: f64) {
    let micros = median(rounds.micros.clone());
    report.add(
        measure,
        format!("≤ {target} µs"),
        format!("{micros:.2} µs"),
        Some(micros <= target),
        json!(rounds.micros),
    );
}

fn memory(report: &mut Report, what: &str, gateway: &Gateway) -> Result<()> {
    let bytes = gateway.resident_bytes()? as f64;
    report.add(
        format!("resident after {what}"),
        format!("≤ {:.0} MB", BOUND / 1e6),
        format!("{:.1} MB", bytes / 1e6),
        Some(bytes <= BOUND),
        json!(bytes),
    );
    Ok(())
}

/// How many times the gateway's journal has been synced to disk, as its
/// metrics say.
fn synced(gateway: &Gateway) -> Result<f64> {
    let mut socket = TcpStream::connect(address(gateway, METRICS)?)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut reply = String::new();
    socket.read_to_string(&mut reply)?;
    let mut lines = reply.lines();
    let line = lines.find(|line| line.starts_with("barnabas_journal_syncs_total{"));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.with_context(|| format!("no syncs in {reply}"))
}
