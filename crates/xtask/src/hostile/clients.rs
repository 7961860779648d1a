//! Clients that behave well: of each front end some that produce over a
//! connection of their own, one that comes with a new connection for each
//! message, and one that consumes. Each has a pace, far below what the gateway
//! can do: what is measured is whether it is served, not the machine.

use crate::clients::{Answer, Client, Consumer, FRONT_ENDS, Wait, Way};
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::hostile::Target;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// That produce, of each front end.
const PRODUCERS: usize = 4;
/// Between the requests of one.
const PACE: Duration = Duration::from_millis(20);
/// Between those of who comes anew each time.
const NEW_PACE: Duration = Duration::from_millis(100);
/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// What clients do, in the order of the table.
pub(crate) const KINDS: [&str; 9] = [
    "redis",
    "redis new",
    "redis consume",
    "http",
    "http new",
    "http consume",
    "grpc",
    "grpc new",
    "grpc consume",
];

/// Requests that were answered well and that were not, by kind.
#[derive(Clone, Default)]
pub(crate) struct Counts(pub(crate) Vec<(u64, u64)>);

impl Counts {
    pub(crate) fn since(&self, before: &Self) -> Self {
        let both = self.0.iter().zip(&before.0);
        Self(
            both.map(|(now, then)| (now.0 - then.0, now.1 - then.1))
                .collect(),
        )
    }
}

#[derive(Default)]
struct Shared {
    done: [AtomicU64; KINDS.len()],
    failed: [AtomicU64; KINDS.len()],
    is_over: AtomicBool,
}

/// Who produces or consumes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Producer,
    New,
    Consumer,
}

/// Clients at work.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(runtime: &tokio::runtime::Runtime, target: &Target) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        let roles = [Role::New, Role::Consumer];
        let roles = std::iter::repeat_n(Role::Producer, PRODUCERS).chain(roles);
        for role in roles {
            for front_end in 0..3 {
                let (shared, target) = (Arc::clone(&shared), target.clone());
                tasks.push(runtime.spawn(work(shared, target, front_end, role)));
            }
        }
        Self { shared, tasks }
    }

    pub(crate) fn counts(&self) -> Counts {
        let both = self.shared.done.iter().zip(&self.shared.failed);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts(
            both.map(|(done, failed)| (read(done), read(failed)))
                .collect(),
        )
    }

    /// Waits until each kind has been served at least once.
    pub(crate) fn all_are_served(&self, patience: Duration) -> bool {
        let started = Instant::now();
        while self.counts().0.iter().any(|(done, _)| *done == 0) {
            if started.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    pub(crate) fn stop(self, runtime: &tokio::runtime::Runtime) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        runtime.block_on(async {
            for task in self.tasks {
                let _ = task.await;
            }
        });
    }
}

/// A connection of one of the front ends.
enum Work {
    Produce(Client),
    Consume(Consumer),
}

async fn work(shared: Arc<Shared>, target: Target, front_end: usize, role: Role) {
    let kind = front_end * 3 + role as usize;
    let pace = if role == Role::New { NEW_PACE } else { PACE };
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client = None;
    while !shared.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let asked = tokio::time::timeout(LIMIT, ask(&mut client, &target, front_end, role)).await;
        let result = asked.unwrap_or_else(|_| bail_late());
        let counts = if result.is_ok() {
            &shared.done
        } else {
            &shared.failed
        };
        if let Some(count) = counts.get(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if result.is_err() || role == Role::New {
            client = None;
        }
    }
}

fn bail_late() -> Result<()> {
    bail!("no answer in {LIMIT:?}")
}

async fn ask(work: &mut Option<Work>, target: &Target, front_end: usize, role: Role) -> Result<()> {
    if work.is_none() {
        *work = Some(connect(target, front_end, role).await?);
    }
    match work.as_mut().context("no client")? {
        Work::Consume(consumer) => {
            consumer.next().await?;
        }
        Work::Produce(client) => {
            let message = Bytes::from_static(b"good");
            let answer = client.produce(&target.topic, message, Wait::Kafka).await?;
            if let Answer::Refused(why) = answer {
                bail!(why);
            }
        }
    }
    Ok(())
}

async fn connect(target: &Target, front_end: usize, role: Role) -> Result<Work> {
    if role == Role::Consumer {
        let way = [Way::List, Way::Http, Way::Grpc].get(front_end);
        let way = *way.context("no such front end")?;
        let consumer = Consumer::connect(target, way, way.group()).await?;
        return Ok(Work::Consume(consumer));
    }
    let front_end = *FRONT_ENDS.get(front_end).context("no such front end")?;
    Ok(Work::Produce(Client::connect(target, front_end).await?))
}
