//! Five times as much as there is room for: the capacity is a broker's quota, or
//! the gateway's part of a processor.
//! The peak is what clients get done that wait for each answer; then messages
//! come at five times that rate, whatever becomes of the earlier ones.

use super::idle::{self, LIMITS};
use super::mixed::Work;
use super::share::Share;
use super::tally::{Seen, Tally, percentile, percentiles};
use super::{BYTES, Binary, Options, PARTITIONS, kafka};
use crate::clients::{Client, FRONT_ENDS, Wait, message, name};
use crate::report::Report;
use crate::served::{self, Served};
use anyhow::{Result, bail};
use barnabas_testkit::Cluster;
use barnabas_testkit::hostile::FrontEnd;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Of a message: few of them fill the quota, so that the clients, which share
/// the machine, are not what is measured.
const LARGE: usize = 4_000;
/// Bytes a second that the broker takes.
const QUOTA: u32 = 2_000_000;
/// Of a processor, what the gateway gets where that is the capacity: the clients
/// need more for as many messages.
const SHARE: f64 = 0.1;
/// A broker's quota is an average over eleven seconds. At most so long.
const WARM_UP: Duration = Duration::from_secs(15);
/// Of each front end, who waits for each answer.
const CLOSED: usize = 50;
/// Of what can be done, this much is offered.
const FACTOR: f64 = 5.0;
/// Of the peak, this much has to be done.
const KEPT: f64 = 0.8;
/// The slowest that one in a hundred of what was accepted may be.
const SLOWEST: Duration = Duration::from_secs(10);

/// Resident, at most: twice the queue's messages, what 3,000 connections take, and what
/// the gateway is made of.
const RESIDENT: u64 = 300_000_000;

/// What there is too little of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bottleneck {
    Broker,
    Processor,
}

#[derive(Clone, Copy)]
pub(super) struct Case {
    bottleneck: Bottleneck,
    /// When clients are told yes.
    wait: Wait,
    about: &'static str,
}

pub(super) const CASES: [Case; 3] = [
    Case {
        bottleneck: Bottleneck::Broker,
        wait: Wait::Kafka,
        about: "answered when Kafka has it",
    },
    Case {
        bottleneck: Bottleneck::Broker,
        wait: Wait::Memory,
        about: "answered at once",
    },
    Case {
        bottleneck: Bottleneck::Processor,
        wait: Wait::Kafka,
        about: "a tenth of a core",
    },
];

pub(super) fn run(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    for case in CASES {
        one(binary, options, case, report)?;
    }
    Ok(())
}

pub(super) fn one(
    binary: &Binary,
    options: &Options,
    case: Case,
    report: &mut Report,
) -> Result<()> {
    let kafka = kafka()?;
    let topic = "overload";
    kafka.create_topic(topic, PARTITIONS)?;
    if case.bottleneck == Bottleneck::Broker {
        kafka.limit_producers(QUOTA)?;
    }
    let mut settings = LIMITS.to_vec();
    settings.extend([
        ("GRPC__MAX_REQUESTS", "200"),
        (
            "CLUSTERS__DEFAULT__PRODUCER__QUEUE_BUFFERING_MAX_MESSAGES",
            "1000",
        ),
    ]);
    if case.wait == Wait::Kafka {
        settings.push(("DURABILITY", "kafka"));
    }
    let served = Served::start(binary, &kafka, topic, &settings)?;
    let (_share, bytes) = match case.bottleneck {
        Bottleneck::Broker => (None, LARGE),
        Bottleneck::Processor => (Some(Share::give(served.gateway.pid(), SHARE)?), BYTES),
    };
    let stage = Stage {
        kafka: &kafka,
        served: &served,
        runtime: served::runtime()?,
        options,
        wait: case.wait,
        bytes,
    };
    let peak = stage.closed()?;
    let before = served.gateway.resident_bytes()?;
    let open = stage.open(peak.rate * FACTOR)?;
    stage.tell(case.about, peak, open, before, report)
}

struct Stage<'a> {
    kafka: &'a Cluster,
    served: &'a Served,
    runtime: tokio::runtime::Runtime,
    options: &'a Options,
    wait: Wait,
    /// Of a message.
    bytes: usize,
}

/// What came of a load.
struct Outcome {
    /// Messages a second that Kafka has got.
    rate: f64,
    seconds: f64,
    seen: Vec<(FrontEnd, Seen)>,
    resident: u64,
    /// Part of a core that the gateway took.
    cpu: f64,
}

impl Stage<'_> {
    /// What Kafka has, and when that was so.
    fn stored(&self) -> Result<(i64, Instant)> {
        let topic = &self.served.target.topic;
        let started = Instant::now();
        loop {
            match self.kafka.end_offsets(topic) {
                Ok(offsets) => return Ok((offsets.values().sum(), Instant::now())),
                Err(error) if started.elapsed() > served::PATIENCE => return Err(error.into()),
                // A broker that has much to do says so with the next answer.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// What is done from now on, when it has found its pace.
    fn watch(&self, tally: &Tally) -> Result<Outcome> {
        std::thread::sleep(WARM_UP.min(self.options.length));
        tally.take();
        let gateway = &self.served.gateway;
        let ((stored, since), cpu) = (self.stored()?, gateway.cpu_time()?);
        let started = Instant::now();
        let mut resident = 0;
        // A broker that is told too much takes nothing for a second and more.
        let is_pausing = || -> Result<bool> {
            let is_late = started.elapsed() > served::PATIENCE;
            Ok(!is_late && (!tally.all_produce() || self.stored()?.0 == stored))
        };
        while started.elapsed() < self.options.length || is_pausing()? {
            resident = resident.max(gateway.resident_bytes()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        let seconds = started.elapsed().as_secs_f64();
        let seen = tally.take();
        let (all, until) = self.stored()?;
        if all == stored {
            bail!("Kafka has got nothing in {seconds:.1} s");
        }
        Ok(Outcome {
            rate: (all - stored) as f64 / until.duration_since(since).as_secs_f64(),
            seconds,
            seen,
            resident,
            cpu: (gateway.cpu_time()? - cpu).as_secs_f64() / seconds,
        })
    }

    /// Clients that wait for each answer: as fast as it goes.
    fn closed(&self) -> Result<Outcome> {
        let mut work = Work::new(&self.served.target);
        for front_end in FRONT_ENDS {
            let opening = idle::open(&self.served.target, front_end, CLOSED);
            for client in self.runtime.block_on(opening)? {
                work.produce(&self.runtime, front_end, client, Duration::ZERO, self.bytes);
            }
        }
        let outcome = self.watch(&work.tally);
        work.stop(&self.runtime);
        outcome
    }

    /// Messages that come at a rate, each of a client that is free.
    fn open(&self, rate: f64) -> Result<Outcome> {
        let tally = Arc::new(Tally::default());
        let pool = self.options.connections / 10;
        let mut tasks = Vec::new();
        for front_end in FRONT_ENDS {
            let opening = idle::open(&self.served.target, front_end, pool.max(CLOSED));
            let free = Arc::new(Mutex::new(self.runtime.block_on(opening)?));
            let arrivals = Arrivals {
                front_end,
                rate: rate / FRONT_ENDS.len() as f64,
                topic: self.served.target.topic.clone(),
                tally: Arc::clone(&tally),
                free,
                wait: self.wait,
                bytes: self.bytes,
            };
            tasks.push(self.runtime.spawn(arrivals.run()));
        }
        let outcome = self.watch(&tally);
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        outcome
    }

    fn tell(
        &self,
        about: &str,
        peak: Outcome,
        open: Outcome,
        before: u64,
        report: &mut Report,
    ) -> Result<()> {
        let kept = open.rate / peak.rate;
        let failed = peak.seen.iter().chain(&open.seen);
        let failures: u64 = failed.clone().map(|(_, seen)| seen.failed).sum();
        if let Some((front_end, seen)) = failed.clone().find(|(_, seen)| seen.failed > 0) {
            eprintln!("{}: {}", name(*front_end), seen.failure);
        }
        let without_room = |seen: &Seen| seen.refusals() + seen.pushed_back;
        let refusals: u64 = open.seen.iter().map(|(_, seen)| without_room(seen)).sum();
        report.add(
            format!("{about}: peak"),
            "",
            format!(
                "{:.0}/s in Kafka, {:.0} % of a core",
                peak.rate,
                peak.cpu * 100.0
            ),
            None,
            json!({"rate": peak.rate, "cpu": peak.cpu, "resident": peak.resident,
                "accepted": peak.seen.iter().map(|(_, seen)| seen.taken.len() as f64
                    / peak.seconds).collect::<Vec<_>>(),
                "refused": peak.seen.iter().map(|(_, seen)| seen.refusals()).collect::<Vec<_>>()}),
        );
        report.add(
            format!("{about}: goodput while {FACTOR} × the peak is offered"),
            format!(
                "≥ {KEPT} × the peak; some find no room, nothing fails otherwise; ≤ {} MB",
                RESIDENT / 1_000_000
            ),
            format!(
                "{kept:.2} × ({:.0}/s in Kafka), {failures} failed, {:.0} % of a core, \
                 {:.0} → {:.0} MB resident",
                open.rate,
                open.cpu * 100.0,
                before as f64 / 1e6,
                open.resident as f64 / 1e6
            ),
            self.options.judge(
                kept >= KEPT
                    && failures == 0
                    && refusals > 0
                    && before.max(open.resident) <= RESIDENT
                    && self.served.is_well()?,
            ),
            json!({"rate": open.rate, "kept": kept, "failed": failures, "cpu": open.cpu,
                "resident": [before, open.resident]}),
        );
        for (front_end, mut seen) in open.seen {
            if seen.taken.is_empty() {
                bail!("{}: nothing was accepted", name(front_end));
            }
            let rate = |count: u64| count as f64 / open.seconds;
            let accepted = seen.taken.len() as u64;
            let refused: Vec<String> = seen
                .refused
                .iter()
                .map(|(why, count)| format!("{:.0}/s {why}", rate(*count)))
                .collect();
            let slow = percentile(&mut seen.taken, 0.99);
            let is_bounded = slow <= SLOWEST.as_secs_f64() * 1e3;
            report.add(
                format!("{about}: {}", name(front_end)),
                format!("p99 of what is accepted ≤ {} s", SLOWEST.as_secs()),
                format!(
                    "{:.0}/s offered: {:.0}/s accepted in {}; {}; {:.0}/s found all connections \
                     waiting",
                    rate(accepted + without_room(&seen)),
                    rate(accepted),
                    percentiles(&mut seen.taken),
                    if refused.is_empty() {
                        "none refused".to_owned()
                    } else {
                        refused.join(", ")
                    },
                    rate(seen.pushed_back)
                ),
                self.options.judge(is_bounded),
                json!({"accepted": rate(accepted), "refused": seen.refused,
                    "pushed_back": rate(seen.pushed_back), "p99_ms": slow}),
            );
        }
        Ok(())
    }
}

/// Messages that come at a rate of their own.
struct Arrivals {
    front_end: FrontEnd,
    rate: f64,
    topic: String,
    tally: Arc<Tally>,
    free: Arc<Mutex<Vec<Client>>>,
    wait: Wait,
    bytes: usize,
}

impl Arrivals {
    async fn run(self) {
        const TICK: Duration = Duration::from_millis(5);

        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (started, mut come) = (Instant::now(), 0);
        loop {
            ticks.tick().await;
            let due = (started.elapsed().as_secs_f64() * self.rate) as u64;
            for _ in come..due {
                let client = self
                    .free
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop();
                match client {
                    Some(client) => {
                        tokio::spawn(self.send(client));
                    }
                    None => self.tally.pushed_back(self.front_end, 1),
                }
            }
            come = due;
        }
    }

    fn send(&self, mut client: Client) -> impl Future<Output = ()> + use<> {
        let (tally, free) = (Arc::clone(&self.tally), Arc::clone(&self.free));
        let (front_end, topic) = (self.front_end, self.topic.clone());
        let (wait, bytes) = (self.wait, self.bytes);
        async move {
            let asked = Instant::now();
            let answer = client.produce(&topic, message(bytes), wait).await;
            tally.answered(front_end, answer, asked.elapsed());
            free.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(client);
        }
    }
}
