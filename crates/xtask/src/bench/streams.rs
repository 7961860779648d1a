//! Redis streams on Kafka against redis-server: the same program on both.

use super::Effort;
use super::client::{Client, Reply, command};
use super::redis::Reference;
use crate::report::{Report, median};
use crate::run;
use crate::under_test;
use anyhow::{Result, bail};
use barnabas_testkit::{Cluster, Gateway};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The payload of every message.
const PAYLOAD: [u8; 100] = [b'x'; 100];
const PARTITIONS: i32 = 16;
const PRODUCE: &str = "stream-produce";
const CONSUME: &str = "stream-consume";
/// Connections that produce.
const PRODUCERS: usize = 16;
/// XADDs that a producer sends in one go; it has two such lots under way.
const LOT: usize = 500;
/// Entries of one XREADGROUP.
const COUNT: usize = 100;
/// What the gateway may occupy afterwards.
const MOST_MEGABYTES: f64 = 100.0;

pub(crate) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let binary = under_test::release()?;
    let kafka = Cluster::builder().for_benchmark().start()?;
    kafka.create_topic(PRODUCE, PARTITIONS)?;
    kafka.create_topic(CONSUME, PARTITIONS)?;
    let bench = Bench {
        folder: configuration(&kafka)?,
        reference: Reference::start()?,
        binary,
        kafka,
        effort,
    };
    bench.produce(report)?;
    bench.consume(report)
}

fn configuration(kafka: &Cluster) -> Result<PathBuf> {
    let folder = run::root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("streams.yaml");
    let document = json!({
        "clusters": {"default": {
            "properties": {"bootstrap.servers": kafka.bootstrap_servers()},
            "consumer": {"auto.offset.reset": "earliest"},
        }},
        "redis": {"listen": ["127.0.0.1:0"]},
    });
    // JSON is YAML.
    std::fs::write(&path, document.to_string())?;
    Ok(path)
}

struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    kafka: Cluster,
    reference: Reference,
    effort: Effort,
}

impl Bench {
    fn gateway(&self) -> Result<Gateway> {
        let path = self.folder.to_string_lossy().into_owned();
        Ok(Gateway::spawn(&self.binary, &["serve", "--config", &path])?)
    }

    fn produce(&self, report: &mut Report) -> Result<()> {
        let gateway = self.gateway()?;
        let (ours, theirs) = (gateway.address(), &self.reference.address);
        let count = 1_600_000 / self.effort.divisor;
        // Both are warm before anything counts.
        produce(&ours, PRODUCE, count / 4)?;
        produce(theirs, PRODUCE, count / 4)?;
        let (mut rates, mut their_rates, mut micros) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.effort.rounds {
            their_rates.push(produce(theirs, PRODUCE, count)?);
            Client::connect(theirs)?.call(&[b"DEL", key(PRODUCE).as_bytes()])?;
            let stored = self.stored(PRODUCE)?;
            let before = gateway.cpu_time()?;
            rates.push(produce(&ours, PRODUCE, count)?);
            let used = gateway.cpu_time()? - before;
            micros.push(used.as_secs_f64() * 1e6 / count as f64);
            // Every XADD was answered, so that every message is there.
            let found = self.stored(PRODUCE)? - stored;
            if found != i64::try_from(count)? {
                bail!("{count} messages were answered, {found} are in Kafka");
            }
        }
        let rate = median(rates.clone());
        report.add(
            format!("pipelined `XADD` 100 B, {PRODUCERS} connections"),
            "≥ 200 k messages/s",
            format!(
                "{:.0} k/s ({:.2} × redis-server's {:.0} k/s), {:.2} µs of CPU each, all in Kafka",
                rate / 1e3,
                median(rates.iter().zip(&their_rates).map(|(a, b)| a / b).collect()),
                median(their_rates.clone()) / 1e3,
                median(micros.clone()),
            ),
            Some(rate >= 200_000.0),
            json!({"ours": rates, "redis": their_rates, "cpu_us": micros}),
        );
        memory(&gateway, "`XADD`", report)
    }

    fn consume(&self, report: &mut Report) -> Result<()> {
        let theirs = &self.reference.address;
        let count = 1_000_000 / self.effort.divisor;
        // What is read before the clock starts comes on top.
        let stock = count + 32 * COUNT;
        // By a process of its own: what it occupies is not about consuming.
        produce(&self.gateway()?.address(), CONSUME, stock)?;
        produce(theirs, CONSUME, stock)?;
        let gateway = self.gateway()?;
        let ours = gateway.address();
        let (mut rates, mut their_rates, mut micros) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.effort.rounds {
            let group = format!("bench-{round}");
            their_rates.push(Reader::start(theirs, &group)?.read(count)?);
            let mut reader = Reader::start(&ours, &group)?;
            let before = gateway.cpu_time()?;
            rates.push(reader.read(count)?);
            let used = gateway.cpu_time()? - before;
            micros.push(used.as_secs_f64() * 1e6 / count as f64);
            self.wait_for_commits(&group, reader.acked)?;
        }
        let rate = median(rates.clone());
        report.add(
            format!("`XREADGROUP COUNT {COUNT}` + `XACK`, 1 connection"),
            "≥ 300 k messages/s",
            format!(
                "{:.0} k/s ({:.2} × redis-server's {:.0} k/s), {:.2} µs of CPU each, all committed",
                rate / 1e3,
                median(rates.iter().zip(&their_rates).map(|(a, b)| a / b).collect()),
                median(their_rates.clone()) / 1e3,
                median(micros.clone()),
            ),
            Some(rate >= 300_000.0),
            json!({"ours": rates, "redis": their_rates, "cpu_us": micros}),
        );
        memory(&gateway, "`XREADGROUP` + `XACK`", report)
    }

    fn stored(&self, topic: &str) -> Result<i64> {
        Ok(self.kafka.end_offsets(topic)?.values().sum())
    }

    /// Kafka has as many acknowledgements as the reader has.
    fn wait_for_commits(&self, group: &str, acked: usize) -> Result<()> {
        let start = Instant::now();
        let wanted = i64::try_from(acked)?;
        loop {
            let committed: i64 = self.kafka.committed(group, CONSUME)?.values().sum();
            if committed == wanted {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("{wanted} messages were acknowledged, {committed} are committed");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn key(topic: &str) -> String {
    format!("topics:{topic}")
}

fn memory(gateway: &Gateway, after: &str, report: &mut Report) -> Result<()> {
    let megabytes = gateway.resident_bytes()? as f64 / 1e6;
    report.add(
        format!("resident after {after}"),
        format!("≤ {MOST_MEGABYTES:.0} MB"),
        format!("{megabytes:.1} MB"),
        Some(megabytes <= MOST_MEGABYTES),
        json!(megabytes),
    );
    Ok(())
}

/// Messages per second until the last one is answered.
fn produce(address: &str, topic: &str, count: usize) -> Result<f64> {
    let add = command(&[b"XADD", key(topic).as_bytes(), b"*", b"value", &PAYLOAD]);
    let each = count / PRODUCERS;
    let mut clients = (0..PRODUCERS)
        .map(|_| Client::connect(address))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let producers: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(index, client)| {
                // The first one takes what cannot be shared out.
                let own = if index == 0 {
                    count - each * (PRODUCERS - 1)
                } else {
                    each
                };
                let add = &add;
                scope.spawn(move || add_all(client, add, own))
            })
            .collect();
        for producer in producers {
            match producer.join() {
                Ok(result) => result?,
                Err(_) => bail!("a producer panicked"),
            }
        }
        anyhow::Ok(())
    })?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn add_all(client: &mut Client, add: &[u8], count: usize) -> Result<()> {
    let wire = add.repeat(LOT);
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        while sent < count && sent - answered <= LOT {
            let lot = LOT.min(count - sent);
            client.send(wire.get(..lot * add.len()).unwrap_or_default())?;
            sent += lot;
        }
        let lot = LOT.min(sent - answered);
        for _ in 0..lot {
            if client.reply()? != Reply::Text {
                bail!("XADD answered no id");
            }
        }
        answered += lot;
    }
    Ok(())
}

/// Reads and acknowledges a hundred at a time, one command after the other.
struct Reader {
    client: Client,
    read: Vec<u8>,
    key: String,
    group: String,
    acked: usize,
}

impl Reader {
    /// One that has got its first entries: the group has been joined.
    fn start(address: &str, group: &str) -> Result<Self> {
        let mut client = Client::connect(address)?;
        let key = key(CONSUME);
        client.call(&[b"XGROUP", b"CREATE", key.as_bytes(), group.as_bytes(), b"0"])?;
        let count = COUNT.to_string();
        let read = command(&[
            b"XREADGROUP",
            b"GROUP",
            group.as_bytes(),
            b"worker",
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            b"20000",
            b"STREAMS",
            key.as_bytes(),
            b">",
        ]);
        let mut reader = Self {
            client,
            read,
            key,
            group: group.to_owned(),
            acked: 0,
        };
        for _ in 0..8 {
            reader.some()?;
        }
        Ok(reader)
    }

    /// Messages per second.
    fn read(&mut self, count: usize) -> Result<f64> {
        let start = Instant::now();
        let mut got = 0;
        while got < count {
            got += self.some()?;
        }
        Ok(got as f64 / start.elapsed().as_secs_f64())
    }

    fn some(&mut self) -> Result<usize> {
        self.client.send(&self.read)?;
        let ids = self.ids()?;
        let count = ids.len();
        let mut words: Vec<&[u8]> = vec![b"XACK", self.key.as_bytes(), self.group.as_bytes()];
        words.extend(ids.iter().map(String::as_bytes));
        match self.client.call(&words)? {
            Reply::Integer(acked) if usize::try_from(acked)? == count => {}
            other => bail!("{count} entries, but {other:?} acknowledged"),
        }
        self.acked += count;
        Ok(count)
    }

    /// The ids of one reply.
    fn ids(&mut self) -> Result<Vec<String>> {
        let client = &mut self.client;
        let (Reply::Array(1), Reply::Array(2)) = (client.reply()?, client.reply()?) else {
            bail!("the stream is used up");
        };
        client.reply()?;
        let Reply::Array(count) = client.reply()? else {
            bail!("no entries");
        };
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            client.reply()?;
            ids.push(client.text()?);
            let Reply::Array(parts) = client.reply()? else {
                bail!("no fields");
            };
            for _ in 0..parts {
                client.reply()?;
            }
        }
        if ids.is_empty() {
            bail!("no entries");
        }
        Ok(ids)
    }
}
