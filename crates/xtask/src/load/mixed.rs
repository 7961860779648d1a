//! As many connections as there may be: most idle, many produce now and then,
//! some consume.

use super::idle::LIMITS;
use super::tally::{Tally, percentiles};
use super::{BYTES, Binary, Options, PARTITIONS, eventually, idle, kafka};
use crate::clients::{Client, Consumer, FRONT_ENDS, Wait, Way, age, message, name};
use crate::report::Report;
use crate::served::{self, Served};
use anyhow::Result;
use barnabas_testkit::hostile::{FrontEnd, Target};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two messages of a producer.
const PACE: Duration = Duration::from_secs(5);
/// One of so many connections consumes.
const CONSUMERS: usize = 100;
/// One of so many produces.
const PRODUCERS: usize = 5;
/// Of what is offered, this much has to be done.
const KEPT: f64 = 0.95;
/// Before anything counts, at most.
const WARM_UP: Duration = Duration::from_secs(5);

/// Clients at work.
pub(super) struct Work {
    target: Target,
    pub(super) tally: Arc<Tally>,
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Work {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            target: target.clone(),
            tally: Arc::default(),
            is_over: Arc::default(),
            tasks: Vec::new(),
        }
    }

    /// Produces one message after the other, one in each `pace`.
    pub(super) fn produce(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        front_end: FrontEnd,
        client: Client,
        pace: Duration,
        bytes: usize,
    ) {
        let (tally, is_over) = (Arc::clone(&self.tally), Arc::clone(&self.is_over));
        let topic = self.target.topic.clone();
        // So that not all come together.
        let begin = tokio::time::Instant::now() + pace.mul_f64(part(self.tasks.len()));
        self.tasks.push(runtime.spawn(async move {
            let mut client = client;
            let mut ticks = (!pace.is_zero()).then(|| tokio::time::interval_at(begin, pace));
            while !is_over.load(Ordering::Relaxed) {
                // Whoever waits for an earlier answer is late for this one.
                let due = match &mut ticks {
                    Some(ticks) => ticks.tick().await.into_std(),
                    None => Instant::now(),
                };
                let answer = client.produce(&topic, message(bytes), Wait::Kafka).await;
                let has_failed = answer.is_err();
                tally.answered(front_end, answer, due.elapsed());
                if has_failed {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }));
    }

    /// Consumes what there is.
    pub(super) fn consume(&mut self, runtime: &tokio::runtime::Runtime, front_end: FrontEnd) {
        let (tally, is_over) = (Arc::clone(&self.tally), Arc::clone(&self.is_over));
        let target = self.target.clone();
        let way = way(front_end);
        self.tasks.push(runtime.spawn(async move {
            let consume = async {
                let mut consumer = Consumer::connect(&target, way, way.group()).await?;
                while !is_over.load(Ordering::Relaxed) {
                    let got = consumer.next().await?;
                    let ages = got.iter().map(|one| age(&one.value));
                    tally.consumed(front_end, &ages.collect::<Result<Vec<_>>>()?);
                }
                Ok::<_, anyhow::Error>(())
            };
            if let Err(error) = consume.await {
                tally.failed(front_end, &error);
            }
        }));
    }

    pub(super) fn stop(self, runtime: &tokio::runtime::Runtime) {
        self.is_over.store(true, Ordering::Relaxed);
        runtime.block_on(async {
            for task in self.tasks {
                let _ = task.await;
            }
        });
    }
}

/// Spread over 0 to 1.
fn part(index: usize) -> f64 {
    (index as f64 * 0.618_033_988_75).fract()
}

/// A connection of Redis that consumes with `BLPOP` is a member of the group,
/// with threads of its own; those of a stream are not.
fn way(front_end: FrontEnd) -> Way {
    match front_end {
        FrontEnd::Redis => Way::Stream,
        FrontEnd::Http => Way::Http,
        FrontEnd::Grpc => Way::Grpc,
    }
}

pub(super) fn run(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    let kafka = kafka()?;
    let topic = "mixed";
    kafka.create_topic(topic, PARTITIONS)?;
    let served = Served::start(binary, &kafka, topic, &LIMITS)?;
    let gateway = &served.gateway;
    let runtime = served::runtime()?;
    let mut work = Work::new(&served.target);
    let mut quiet = Vec::new();
    let each = options.connections / FRONT_ENDS.len();
    let mut add = |work: &mut Work, range: std::ops::Range<usize>| -> Result<()> {
        for front_end in FRONT_ENDS {
            let consumers = range.clone().filter(|index| index % CONSUMERS == 0).count();
            let count = range.len() - consumers;
            let mut clients = runtime.block_on(idle::open(&served.target, front_end, count))?;
            let producers = clients.split_off(count - range.len() / PRODUCERS);
            quiet.extend(clients);
            for client in producers {
                work.produce(&runtime, front_end, client, PACE, BYTES);
            }
            for _ in 0..consumers {
                work.consume(&runtime, front_end);
            }
        }
        Ok(())
    };
    // A few of each kind: all threads that any of them needs are there.
    let few = (each / 10).max(CONSUMERS / 2).min(each);
    add(&mut work, 0..few)?;
    eventually("the first clients to be served", || {
        Ok(work.tally.all_work())
    })?;
    std::thread::sleep(WARM_UP.min(options.length));
    let threads_before = gateway.threads()?.len();
    add(&mut work, few..each)?;
    std::thread::sleep(WARM_UP.min(options.length));
    let opening = work.tally.take();
    let (cpu, started) = (gateway.cpu_time()?, Instant::now());
    let mut threads = 0;
    // Of few clients there is not much in a second.
    let goes_on = || !work.tally.all_work() && started.elapsed() < served::PATIENCE;
    while started.elapsed() < options.length || goes_on() {
        threads = threads.max(gateway.threads()?.len());
        std::thread::sleep(Duration::from_millis(200));
    }
    let seconds = started.elapsed().as_secs_f64();
    let seen = work.tally.take();
    let cpu = (gateway.cpu_time()? - cpu).as_secs_f64() / seconds;
    let (resident, descriptors) = (gateway.resident_bytes()?, gateway.descriptors()?);
    for ((front_end, mut seen), (_, early)) in seen.into_iter().zip(opening) {
        seen.failed += early.failed;
        if seen.failure.is_empty() {
            seen.failure = early.failure;
        }
        let rates = [seen.taken.len() as u64, seen.received].map(|count| count as f64 / seconds);
        let offered = (each / PRODUCERS) as f64 / PACE.as_secs_f64();
        let has_worked = seen.failed == 0 && seen.refusals() == 0 && rates.iter().all(|r| *r > 0.0);
        // In a few seconds few are due.
        let keeps_up = options.judge(rates[0] >= offered * KEPT).unwrap_or(true);
        report.add(
            format!("{each} connections of {}, produced", name(front_end)),
            format!("none fails; {KEPT} × what is offered"),
            format!(
                "{:.0} of {offered:.0}/s, {}; {} failed{}",
                rates[0],
                percentiles(&mut seen.taken),
                seen.failed,
                if seen.failed > 0 {
                    format!(" ({})", seen.failure)
                } else {
                    String::new()
                }
            ),
            Some(has_worked && keeps_up),
            json!({"produced": rates[0], "offered": offered, "consumed": rates[1], "failed": seen.failed,
                "failure": seen.failure, "refused": seen.refused}),
        );
        report.add(
            format!("{}, consumed", way(front_end).name()),
            "",
            format!(
                "{:.0}/s, from producing to receiving {}",
                rates[1],
                percentiles(&mut seen.consumed)
            ),
            None,
            json!(null),
        );
    }
    report.add(
        format!("the gateway with {} connections", each * FRONT_ENDS.len()),
        format!(
            "{threads_before} threads, as with {}",
            few * FRONT_ENDS.len()
        ),
        format!(
            "{threads} threads, {:.0} MB resident, {descriptors} descriptors, {:.0} % of a core",
            resident as f64 / 1e6,
            cpu * 100.0
        ),
        options.judge(threads <= threads_before && served.is_well()?),
        json!({"threads": [threads_before, threads], "resident": resident,
            "descriptors": descriptors, "cpu": cpu}),
    );
    work.stop(&runtime);
    drop(quiet);
    Ok(())
}
