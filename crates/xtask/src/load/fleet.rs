//! `cargo xtask fleet`: one, two and three gateways on one group and topic:
//! how much they deliver, and how long partitions stand still when one is
//! killed, joins or leaves.

mod gaps;

use super::idle::{self, LIMITS};
use super::mixed::Work;
use super::{BYTES, Binary, Options, PARTITIONS, eventually, kafka};
use crate::clients::{Consumer, FRONT_ENDS, Way, message};
use crate::report::Report;
use crate::served::{self, PATIENCE, Served};
use anyhow::{Result, bail};
use barnabas_testkit::{Cluster, Signal};
use bytes::Bytes;
use gaps::{Gaps, Log};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Gateways, at most.
const MOST: usize = 3;
const GROUP: &str = "fleet";
/// In Kafka before the rate is measured, for each second of it.
const STOCK: usize = 150_000;
/// Of those that produce while gateways come and go, in all.
const PRODUCERS: usize = 12;
/// How long is looked on while nothing happens.
const CALM: Duration = Duration::from_secs(3);
const PACE: Duration = Duration::from_millis(25);
/// What the configuration says unless it is asked, and what is tried beside it.
const SESSIONS: [&str; 2] = ["15s", "6s"];

pub(super) fn run(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    for gateways in 1..=MOST {
        rate(binary, options, gateways, report)?;
    }
    for gateways in 1..=MOST {
        failover(binary, options, gateways, SESSIONS[0], report)?;
    }
    failover(binary, options, MOST, SESSIONS[1], report)?;
    rebalances(binary, options, report)
}

/// A little of it.
#[cfg(test)]
pub(super) fn small(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    rate(binary, options, 2, report)?;
    failover(binary, options, 2, SESSIONS[1], report)
}

/// How often each thing is done.
fn times(options: &Options) -> usize {
    usize::try_from(options.length.as_secs() / 5)
        .unwrap_or(1)
        .max(1)
}

/// Gateways with a consumer each.
struct Fleet<'a> {
    binary: &'a Binary,
    kafka: &'a Cluster,
    runtime: &'a tokio::runtime::Runtime,
    topic: &'static str,
    session: &'static str,
    log: Arc<Log>,
    members: Vec<Member>,
    /// Numbers that were given to members.
    started: usize,
}

struct Member {
    number: usize,
    served: Served,
    is_over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl<'a> Fleet<'a> {
    fn new(
        binary: &'a Binary,
        kafka: &'a Cluster,
        runtime: &'a tokio::runtime::Runtime,
        topic: &'static str,
        session: &'static str,
    ) -> Self {
        Self {
            binary,
            kafka,
            runtime,
            topic,
            session,
            log: Arc::default(),
            members: Vec::new(),
            started: 0,
        }
    }

    /// Starts a gateway, and a client that consumes there.
    fn join(&mut self) -> Result<()> {
        let mut settings = LIMITS.to_vec();
        settings.push(("CLUSTERS__DEFAULT__CONSUME__SESSION_TIMEOUT", self.session));
        let served = Served::start(self.binary, self.kafka, self.topic, &settings)?;
        let number = self.started;
        self.started += 1;
        let is_over = Arc::new(AtomicBool::new(false));
        let (log, target, ended) = (
            Arc::clone(&self.log),
            served.target.clone(),
            Arc::clone(&is_over),
        );
        let task = self.runtime.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                // It ends with its gateway.
                let _ = read(&target, &log, number, &ended).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        self.members.push(Member {
            number,
            served,
            is_over,
            task,
        });
        Ok(())
    }

    /// Takes one out of the fleet; its process is the caller's.
    fn take(&mut self, turn: usize) -> Result<Member> {
        if self.members.is_empty() {
            bail!("nobody is there");
        }
        let member = self.members.remove(turn % self.members.len());
        member.is_over.store(true, Ordering::Relaxed);
        Ok(member)
    }

    /// Waits until each has its share of the partitions.
    fn balanced(&self) -> Result<()> {
        let partitions = usize::try_from(PARTITIONS)?;
        let share = partitions / self.members.len().max(1);
        eventually("each gateway to have its share", || {
            let members = self.kafka.group_members(GROUP)?;
            Ok(members.len() == self.members.len()
                && members.iter().all(|member| member.assigned.len() == share))
        })
    }

    /// Waits until each partition has delivered something from now on.
    fn flows(&self) -> Result<()> {
        let since = Instant::now();
        eventually("all partitions to deliver", || {
            Ok(self.log.partitions_since(since) == usize::try_from(PARTITIONS)?)
        })
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        for member in &self.members {
            member.is_over.store(true, Ordering::Relaxed);
            member.task.abort();
        }
    }
}

async fn read(
    target: &barnabas_testkit::hostile::Target,
    log: &Log,
    number: usize,
    is_over: &AtomicBool,
) -> Result<()> {
    let mut consumer = Consumer::connect(target, Way::Grpc, GROUP).await?;
    while !is_over.load(Ordering::Relaxed) {
        let got = consumer.next().await?;
        log.delivered(number, got.iter().filter_map(|one| one.partition));
    }
    Ok(())
}

/// What the gateways deliver together of what is in Kafka already.
fn rate(binary: &Binary, options: &Options, gateways: usize, report: &mut Report) -> Result<()> {
    let kafka = kafka()?;
    let topic = "rate";
    kafka.create_topic(topic, PARTITIONS)?;
    let runtime = served::runtime()?;
    let length = options.length / 3;
    let seconds = usize::try_from(length.as_secs())?.max(1);
    let stock = fill(binary, &kafka, topic, &runtime, STOCK * seconds)?;
    let mut fleet = Fleet::new(binary, &kafka, &runtime, topic, SESSIONS[0]);
    let mut started = Instant::now();
    for _ in 0..gateways {
        fleet.join()?;
    }
    fleet.balanced()?;
    let (mut cpu_before, mut shares_before) = (Duration::ZERO, BTreeMap::new());
    // Of little, all may have been delivered by now; then joining counts, too.
    if fleet.log.count() < stock {
        (started, cpu_before) = (Instant::now(), cpu(&fleet)?);
        shares_before = fleet.log.shares();
    }
    while started.elapsed() < length && fleet.log.count() < stock {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = started.elapsed().as_secs_f64();
    let used = (cpu(&fleet)? - cpu_before).as_secs_f64();
    let shares_after = fleet.log.shares();
    let of = |shares: &BTreeMap<usize, usize>, member: &Member| {
        shares.get(&member.number).copied().unwrap_or(0)
    };
    // Also of who has delivered nothing.
    let members = fleet.members.iter();
    let shares: Vec<usize> = members
        .map(|member| of(&shares_after, member) - of(&shares_before, member))
        .collect();
    let count: usize = shares.iter().sum();
    let least = shares.iter().min().copied().unwrap_or(0) as f64;
    let fair = count as f64 / gateways as f64;
    report.add(
        format!("{gateways} gateways: delivered and acknowledged over gRPC, {BYTES} B each"),
        "",
        format!(
            "{:.0} k/s, {:.1} µs of their CPU each; the least has {:.2} of its share",
            count as f64 / seconds / 1e3,
            used * 1e6 / count as f64,
            least / fair
        ),
        None,
        json!({"messages": count, "seconds": seconds, "cpu": used, "shares": shares}),
    );
    Ok(())
}

/// Puts as many messages into Kafka, by a gateway that is no member, and says
/// how many they are.
fn fill(
    binary: &Binary,
    kafka: &Cluster,
    topic: &str,
    runtime: &tokio::runtime::Runtime,
    count: usize,
) -> Result<usize> {
    const LOT: usize = 10_000;

    let served = Served::start(binary, kafka, topic, &[])?;
    let lines = [&message(BYTES)[..], b"\n"].concat().repeat(LOT);
    let lines = Bytes::from(lines);
    let url = format!("http://{}/v1/topics/{topic}/records", served.target.http);
    let client = reqwest::Client::new();
    let lots = count.div_ceil(LOT);
    runtime.block_on(async {
        for _ in 0..lots {
            let request = client.post(&url).body(lines.clone());
            let request = request.header("content-type", "application/x-ndjson");
            request.send().await?.error_for_status()?.bytes().await?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(lots * LOT)
}

fn cpu(fleet: &Fleet<'_>) -> Result<Duration> {
    fleet
        .members
        .iter()
        .map(|member| Ok(member.served.gateway.cpu_time()?))
        .sum()
}

/// Something that is produced all the time, by a gateway that is no member.
struct Source {
    work: Work,
    _served: Served,
}

impl Source {
    fn start(
        binary: &Binary,
        kafka: &Cluster,
        topic: &str,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self> {
        let served = Served::start(binary, kafka, topic, &LIMITS)?;
        let mut work = Work::new(&served.target);
        for front_end in FRONT_ENDS {
            let count = PRODUCERS / FRONT_ENDS.len();
            let clients = runtime.block_on(idle::open(&served.target, front_end, count))?;
            for client in clients {
                work.produce(runtime, front_end, client, PACE, BYTES);
            }
        }
        Ok(Self {
            work,
            _served: served,
        })
    }
}

/// Kills one after the other with SIGKILL; each is started again at once, as a
/// supervisor does.
fn failover(
    binary: &Binary,
    options: &Options,
    gateways: usize,
    session: &'static str,
    report: &mut Report,
) -> Result<()> {
    let kafka = kafka()?;
    let topic = "failover";
    kafka.create_topic(topic, PARTITIONS)?;
    let runtime = served::runtime()?;
    let source = Source::start(binary, &kafka, topic, &runtime)?;
    let mut fleet = Fleet::new(binary, &kafka, &runtime, topic, session);
    for _ in 0..gateways {
        fleet.join()?;
    }
    let mut gaps = Gaps::default();
    for turn in 0..times(options) {
        fleet.balanced()?;
        fleet.flows()?;
        let owners = fleet.log.owners();
        let killed = Instant::now();
        let member = fleet.take(turn)?;
        member.served.gateway.signal(Signal::Kill)?;
        member.served.gateway.wait(PATIENCE)?;
        member.task.abort();
        fleet.join()?;
        fleet.flows()?;
        fleet.balanced()?;
        fleet.flows()?;
        gaps.add(&fleet.log, killed, |partition| {
            owners.get(&partition) == Some(&member.number)
        });
    }
    source.work.stop(&runtime);
    report.add(
        format!(
            "{gateways} gateways, one killed and started again, `session_timeout` {session}: \
             partitions of the killed"
        ),
        "",
        gaps.affected(),
        None,
        gaps.to_json(),
    );
    if gateways > 1 {
        report.add(
            "the same: partitions of the others",
            "",
            gaps.others(),
            None,
            json!(null),
        );
    }
    Ok(())
}

/// A third gateway joins two, and leaves again when it is told to.
fn rebalances(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    let kafka = kafka()?;
    let topic = "rebalances";
    kafka.create_topic(topic, PARTITIONS)?;
    let runtime = served::runtime()?;
    let source = Source::start(binary, &kafka, topic, &runtime)?;
    let mut fleet = Fleet::new(binary, &kafka, &runtime, topic, SESSIONS[0]);
    for _ in 1..MOST {
        fleet.join()?;
    }
    let (mut calm, mut joined, mut left) = (Gaps::default(), Gaps::default(), Gaps::default());
    let mut slowest = Duration::ZERO;
    for turn in 0..times(options) {
        fleet.balanced()?;
        fleet.flows()?;
        let begun = Instant::now();
        std::thread::sleep(CALM);
        calm.add(&fleet.log, begun, |_| true);
        let (before, begun) = (fleet.log.owners(), Instant::now());
        fleet.join()?;
        fleet.balanced()?;
        fleet.flows()?;
        let after = fleet.log.owners();
        joined.add(&fleet.log, begun, |partition| {
            before.get(&partition) != after.get(&partition)
        });
        let begun = Instant::now();
        let member = fleet.take(turn)?;
        let (status, took) = member.served.gateway.terminate()?;
        if !status.success() {
            bail!("a gateway ended with {status}");
        }
        member.task.abort();
        slowest = slowest.max(took);
        fleet.balanced()?;
        fleet.flows()?;
        left.add(&fleet.log, begun, |partition| {
            after.get(&partition) == Some(&member.number)
        });
    }
    source.work.stop(&runtime);
    report.add(
        "two gateways, nothing happens",
        "",
        calm.affected(),
        None,
        calm.to_json(),
    );
    for (what, gaps) in [("joins two", &joined), ("leaves by SIGTERM", &left)] {
        report.add(
            format!("a third gateway {what}: partitions that move"),
            "",
            gaps.affected(),
            None,
            gaps.to_json(),
        );
        report.add(
            "the same: partitions that stay",
            "",
            gaps.others(),
            None,
            json!(null),
        );
    }
    report.add(
        "SIGTERM until the process has ended",
        "≤ 17 s (`shutdown.deadline`)",
        format!("{:.1} s at most", slowest.as_secs_f64()),
        Some(slowest <= Duration::from_secs(17)),
        json!(slowest.as_secs_f64()),
    );
    Ok(())
}
