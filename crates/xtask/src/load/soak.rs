//! `cargo xtask soak`: half of what is possible, for long, while the groups
//! rebalance: a second gateway, the visitor, joins them and leaves again.

use super::idle::{self, LIMITS};
use super::mixed::Work;
use super::tally::percentile;
use super::{BYTES, Binary, Options, PARTITIONS, eventually, kafka};
use crate::clients::{Consumer, FRONT_ENDS, Way};
use crate::report::{Report, median};
use crate::served::{self, Served};
use anyhow::{Context as _, Result};
use barnabas_testkit::Cluster;
use barnabas_testkit::hostile::Target;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Of each front end.
const PRODUCERS: usize = 8;
/// Of each way to consume, at the gateway that is watched.
const CONSUMERS: usize = 2;
const WAYS: [Way; 4] = [Way::List, Way::Stream, Way::Http, Way::Grpc];
/// Of what is possible.
const PART: f64 = 0.5;
/// Between two rebalances of each group.
const REBALANCE: Duration = Duration::from_secs(20);
const SAMPLE: Duration = Duration::from_secs(10);
/// How long the capacity is looked for, at most.
const SEARCH: Duration = Duration::from_secs(15);
/// A stream that delivers nothing for longer stands still: a rebalance takes a
/// few seconds.
const STANDSTILL: Duration = Duration::from_secs(15);
/// So much may memory differ.
const DRIFT: f64 = 0.05;
/// Where memory is compared: the part of the run after which it has what it
/// needs, and how much of the run is looked at there and at the end. Of 30
/// minutes these are the fifth and sixth, and the last two.
const SETTLED: f64 = 4.0 / 30.0;
const WINDOW: f64 = 2.0 / 30.0;
/// In less, the caches of librdkafka and the allocator are still filling.
const JUDGED: Duration = Duration::from_secs(600);

/// A client that consumes, and what it has seen.
struct Stream {
    way: Way,
    progress: Arc<Progress>,
    task: JoinHandle<()>,
}

struct Progress {
    count: AtomicU64,
    failures: AtomicU64,
    /// When something last came, the longest time between two such moments since it was
    /// asked to look, and the last failure.
    last: Mutex<(Instant, Duration, String)>,
}

impl Progress {
    fn came(&self, count: usize) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if count > 0 {
            last.1 = last.1.max(last.0.elapsed());
            last.0 = Instant::now();
            self.count.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Pauses count from now on.
    fn begin(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.0, last.1) = (Instant::now(), Duration::ZERO);
    }

    fn failed(&self, error: &anyhow::Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.2 = format!("{error:#}");
    }

    /// The longest pause, the one that goes on included, and the last failure.
    fn pause(&self) -> (Duration, String) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.1.max(last.0.elapsed()), last.2.clone())
    }
}

impl Stream {
    fn start(
        runtime: &tokio::runtime::Runtime,
        target: &Target,
        way: Way,
        is_over: &Arc<AtomicBool>,
    ) -> Self {
        let progress = Arc::new(Progress {
            count: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last: Mutex::new((Instant::now(), Duration::ZERO, String::new())),
        });
        let (target, is_over, own) = (target.clone(), Arc::clone(is_over), Arc::clone(&progress));
        let task = runtime.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                if let Err(error) = read(&target, way, &is_over, &own).await {
                    own.failed(&error);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        });
        Self {
            way,
            progress,
            task,
        }
    }
}

async fn read(target: &Target, way: Way, is_over: &AtomicBool, progress: &Progress) -> Result<()> {
    let mut consumer = Consumer::connect(target, way, way.group()).await?;
    while !is_over.load(Ordering::Relaxed) {
        progress.came(consumer.next().await?.len());
    }
    consumer.leave().await
}

/// Consumers at the second gateway that come and go.
struct Visitor<'a> {
    runtime: &'a tokio::runtime::Runtime,
    served: Served,
    here: Option<(Arc<AtomicBool>, Vec<Stream>)>,
    failures: u64,
}

impl Visitor<'_> {
    /// Comes if it is away, and goes if it is here.
    fn turn(&mut self) {
        match self.here.take() {
            None => {
                let is_over = Arc::new(AtomicBool::new(false));
                let start = |way| Stream::start(self.runtime, &self.served.target, way, &is_over);
                self.here = Some((Arc::clone(&is_over), WAYS.into_iter().map(start).collect()));
            }
            Some((is_over, streams)) => {
                is_over.store(true, Ordering::Relaxed);
                for stream in streams {
                    let _ = self.runtime.block_on(stream.task);
                    self.failures += stream.progress.failures.load(Ordering::Relaxed);
                }
            }
        }
    }
}

/// What the gateway has at a moment.
struct Sample {
    seconds: f64,
    resident: u64,
    descriptors: usize,
    threads: usize,
}

pub(super) fn run(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    let length = options.soak;
    let kafka = kafka()?;
    let topic = "soak";
    kafka.create_topic(topic, PARTITIONS)?;
    let runtime = served::runtime()?;
    let rates = capacity(binary, &kafka, topic, &runtime, SEARCH.min(length))?;
    let served = Served::start(binary, &kafka, topic, &LIMITS)?;
    // It leaves soon after its last client.
    let short = [("CLUSTERS__DEFAULT__CONSUME__SUBSCRIPTION_TIMEOUT", "2s")];
    let second = Served::start(binary, &kafka, topic, &short)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let streams = consumers(&runtime, &served, &is_over)?;
    let mut work = Work::new(&served.target);
    for (front_end, rate) in FRONT_ENDS.into_iter().zip(&rates) {
        let opening = idle::open(&served.target, front_end, PRODUCERS);
        let pace = Duration::from_secs_f64(PRODUCERS as f64 / (rate * PART));
        for client in runtime.block_on(opening)? {
            work.produce(&runtime, front_end, client, pace, BYTES);
        }
    }

    let mut visitor = Visitor {
        runtime: &runtime,
        served: second,
        here: None,
        failures: 0,
    };
    streams.iter().for_each(|stream| stream.progress.begin());
    let mut watch = Watch::default();
    let (started, cpu) = (Instant::now(), served.gateway.cpu_time()?);
    let (mut next_visit, mut next_sample) = (REBALANCE, Duration::ZERO);
    work.tally.take();
    while started.elapsed() < length {
        if started.elapsed() >= next_visit {
            visitor.turn();
            next_visit += REBALANCE;
        }
        if started.elapsed() >= next_sample {
            watch.sample(&served, &kafka, started)?;
            watch.count(&work);
            next_sample += SAMPLE;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    watch.sample(&served, &kafka, started)?;
    watch.count(&work);
    let seconds = started.elapsed().as_secs_f64();
    let cpu = (served.gateway.cpu_time()? - cpu).as_secs_f64() / seconds;
    let pauses: Vec<_> = streams
        .iter()
        .map(|stream| (stream.way, stream.progress.pause()))
        .collect();
    let consumed: u64 = streams
        .iter()
        .map(|stream| stream.progress.count.load(Ordering::Relaxed))
        .sum();
    let failures: u64 = streams
        .iter()
        .map(|stream| stream.progress.failures.load(Ordering::Relaxed))
        .sum();
    let is_well = served.is_well()?;
    if visitor.here.is_some() {
        visitor.turn();
    }
    work.stop(&runtime);
    is_over.store(true, Ordering::Relaxed);
    for stream in streams {
        let _ = runtime.block_on(stream.task);
    }

    report.add(
        format!("load: {:.0} % of what is possible", PART * 100.0),
        "nothing fails",
        format!(
            "{:.0} produced/s (possible: {:.0}/s), {:.0} consumed/s at this gateway, {:.0} % of a \
             core; {} requests and {} streams failed",
            watch.produced as f64 / seconds,
            rates.iter().sum::<f64>(),
            consumed as f64 / seconds,
            cpu * 100.0,
            watch.failed,
            failures + visitor.failures
        ),
        Some(is_well && watch.failed == 0 && failures + visitor.failures == 0),
        json!({"seconds": length.as_secs(), "possible": rates, "produced": watch.produced,
            "consumed": consumed, "cpu": cpu, "failure": watch.failure,
            "worst_p99_ms": watch.slowest}),
    );
    watch.judge(length, report);
    let longest = pauses
        .iter()
        .map(|(_, (pause, _))| *pause)
        .max()
        .context("no stream")?;
    for (way, (pause, failure)) in &pauses {
        eprintln!("soak: {}: {pause:?} {failure}", way.name());
    }
    report.add(
        format!(
            "{} streams while groups rebalance every {} s",
            pauses.len(),
            REBALANCE.as_secs()
        ),
        format!("none stands still for {} s", STANDSTILL.as_secs()),
        format!(
            "longest pause {:.1} s; the groups changed {} times",
            longest.as_secs_f64(),
            watch.changes
        ),
        (length >= 3 * REBALANCE).then_some(longest < STANDSTILL && watch.changes > 0),
        json!(
            pauses
                .iter()
                .map(|(way, (pause, _))| json!({"way": way.name(), "pause": pause.as_secs_f64()}))
                .collect::<Vec<_>>()
        ),
    );
    Ok(())
}

/// Streams of all ways, when all of them deliver.
fn consumers(
    runtime: &tokio::runtime::Runtime,
    served: &Served,
    is_over: &Arc<AtomicBool>,
) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for _ in 0..CONSUMERS {
        for way in WAYS {
            streams.push(Stream::start(runtime, &served.target, way, is_over));
        }
    }
    eventually("all streams to deliver", || {
        // Something has to come for each of them.
        for front_end in FRONT_ENDS {
            runtime.block_on(idle::open(&served.target, front_end, PRODUCERS))?;
        }
        Ok(streams
            .iter()
            .all(|stream| stream.progress.count.load(Ordering::Relaxed) > 0))
    })?;
    Ok(streams)
}

/// Messages a second of each front end when each client sends as fast as it is
/// answered, while all is consumed. By a gateway of its own: what that load has
/// needed would go back to the system only while the soak runs.
fn capacity(
    binary: &Binary,
    kafka: &Cluster,
    topic: &str,
    runtime: &tokio::runtime::Runtime,
    search: Duration,
) -> Result<Vec<f64>> {
    let served = Served::start(binary, kafka, topic, &LIMITS)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let streams = consumers(runtime, &served, &is_over)?;
    let mut work = Work::new(&served.target);
    for front_end in FRONT_ENDS {
        let opening = idle::open(&served.target, front_end, PRODUCERS);
        for client in runtime.block_on(opening)? {
            work.produce(runtime, front_end, client, Duration::ZERO, BYTES);
        }
    }
    std::thread::sleep(search / 3);
    work.tally.take();
    let started = Instant::now();
    std::thread::sleep(search);
    eventually("all front ends to be answered", || {
        Ok(work.tally.all_produce())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let seen = work.tally.take();
    work.stop(runtime);
    is_over.store(true, Ordering::Relaxed);
    for stream in streams {
        let _ = runtime.block_on(stream.task);
    }
    // So that its groups need not wait for it.
    served.gateway.terminate()?;
    let rates = seen
        .iter()
        .map(|(_, seen)| seen.taken.len() as f64 / seconds);
    Ok(rates.collect())
}

/// What is looked at while it runs.
#[derive(Default)]
struct Watch {
    samples: Vec<Sample>,
    produced: u64,
    failed: u64,
    failure: String,
    /// The worst 99th percentile of ten seconds, in milliseconds.
    slowest: f64,
    members: Vec<usize>,
    /// How often groups had another number of members.
    changes: usize,
}

impl Watch {
    fn sample(&mut self, served: &Served, kafka: &Cluster, started: Instant) -> Result<()> {
        let gateway = &served.gateway;
        let sample = Sample {
            seconds: started.elapsed().as_secs_f64(),
            resident: gateway.resident_bytes()?,
            descriptors: gateway.descriptors()?,
            threads: gateway.threads()?.len(),
        };
        let members = WAYS
            .iter()
            .map(|way| Ok(kafka.group_members(way.group())?.len()))
            .collect::<Result<Vec<_>>>()?;
        let both = members.iter().zip(&self.members);
        self.changes += both.filter(|(now, then)| now != then).count();
        if self.samples.len().is_multiple_of(6) {
            eprintln!(
                "soak: {:.0} s: {:.1} MB, {} descriptors, {} threads, members {members:?}",
                sample.seconds,
                sample.resident as f64 / 1e6,
                sample.descriptors,
                sample.threads
            );
        }
        self.members = members;
        self.samples.push(sample);
        Ok(())
    }

    fn count(&mut self, work: &Work) {
        for (_, mut seen) in work.tally.take() {
            self.produced += seen.taken.len() as u64;
            self.failed += seen.failed + seen.refusals();
            if seen.failed > 0 {
                self.failure = seen.failure;
            }
            if !seen.taken.is_empty() {
                self.slowest = self.slowest.max(percentile(&mut seen.taken, 0.99));
            }
        }
    }

    /// Compares the end with when all was there that is needed.
    fn judge(&self, length: Duration, report: &mut Report) {
        let all = length.as_secs_f64();
        let window = |from: f64| {
            let to = from + all * WINDOW;
            let inside = |sample: &&Sample| (from..=to).contains(&sample.seconds);
            self.samples.iter().filter(inside).collect::<Vec<_>>()
        };
        let (early, late) = (window(all * SETTLED), window(all * (1.0 - WINDOW)));
        let middle = |of: &[&Sample], what: fn(&Sample) -> f64| {
            median(of.iter().map(|sample| what(sample)).collect())
        };
        let resident = |one: &Sample| one.resident as f64;
        let (before, after) = (middle(&early, resident), middle(&late, resident));
        let drift = after / before - 1.0;
        let is_judged = length >= JUDGED;
        report.add(
            format!("resident after {} minutes", length.as_secs() / 60),
            format!("differs by < {:.0} %", DRIFT * 100.0),
            format!(
                "{:+.1} % ({:.1} → {:.1} MB)",
                drift * 100.0,
                before / 1e6,
                after / 1e6
            ),
            is_judged.then_some(drift.abs() < DRIFT),
            json!(
                self.samples
                    .iter()
                    .map(|one| json!([one.seconds, one.resident, one.descriptors, one.threads]))
                    .collect::<Vec<_>>()
            ),
        );
        for (name, what) in [
            (
                "descriptors",
                (|one| one.descriptors as f64) as fn(&Sample) -> f64,
            ),
            ("threads", |one| one.threads as f64),
        ] {
            let (before, after) = (middle(&early, what), middle(&late, what));
            report.add(
                name,
                "no more than then",
                format!("{before} → {after}"),
                is_judged.then_some(after <= before),
                json!([before, after]),
            );
        }
    }
}
