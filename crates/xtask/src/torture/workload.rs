//! Clients of all front ends at once: what they send and get goes into the
//! ledger. They behave as clients do that must not lose their work: after a
//! failure they go to the next gateway, and what has no answer is not sent
//! again, since nobody knows.

mod grpc;
pub(super) mod http;
mod redis;

use super::ledger::{Asked, Durability, Ledger, Place, Promises, Value};
use super::node::NodeClient;
use super::world::{Address, Fleet, PATIENCE, World, eventually};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two requests of a producer.
const PAUSE: Duration = Duration::from_millis(150);
/// Between two requests of a consumer, so that there are some to take.
const SIP: Duration = Duration::from_millis(50);
/// After a failure.
const BACKOFF: Duration = Duration::from_millis(100);
/// What has no answer by then has none.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// Keys of each writer.
const KEYS: u64 = 4;
/// Messages that are sent together where a protocol allows it.
const BATCH: usize = 5;
/// One of so many is left unacknowledged when it comes for the first time.
const LEFT: i64 = 41;
/// How many messages each writer has to have been told yes for, and each group
/// to have acknowledged, before anything is put under a fault.
const WARM: usize = 10;

/// Nothing more comes by itself once there was nothing new for so long: longer than
/// any pause before something is sent again.
const QUIET: Duration = Duration::from_secs(6);

/// How often a log that lacks something is read again.
const AGAIN: Duration = Duration::from_secs(5);

/// All clients of one scenario.
pub(crate) struct Workload {
    pub(crate) topic: String,
    pub(crate) ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
    node: Option<NodeClient>,
}

/// What all clients have in common.
#[derive(Debug)]
struct Shared {
    fleet: Arc<Fleet>,
    /// Whom clients trust, in PEM.
    roots: String,
    ledger: Arc<Ledger>,
    topic: String,
    is_producing: AtomicBool,
    is_consuming: AtomicBool,
    turn: AtomicUsize,
    reader: AtomicU64,
}

impl Shared {
    /// The next gateway in turn; waits a moment if there is none.
    fn next(&self) -> Option<(usize, Address)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.fleet.pick(turn)
    }

    /// A number for a connection that delivers in order.
    fn new_reader(&self) -> u64 {
        self.reader.fetch_add(1, Ordering::Relaxed)
    }

    fn is_producing(&self) -> bool {
        self.is_producing.load(Ordering::Acquire)
    }

    fn is_consuming(&self) -> bool {
        self.is_consuming.load(Ordering::Acquire)
    }

    /// Notes a delivery; whether it is to be acknowledged.
    fn take(&self, group: &str, place: &Place, reader: u64, asked: impl Into<Asked>) -> bool {
        let is_known = self.ledger.is_known(group, place);
        self.ledger.delivered(group, place.clone(), reader, asked);
        let is_left = !is_known && (place.offset + i64::from(place.partition)) % LEFT == LEFT / 2;
        if is_left {
            self.ledger.left(group);
        }
        !is_left
    }
}

/// One producer's numbers.
struct Writer {
    name: &'static str,
    shared: Arc<Shared>,
    /// The next message of each key.
    next: Vec<u64>,
    key: usize,
}

impl Writer {
    fn new(name: &'static str, durability: Durability, shared: &Arc<Shared>) -> Self {
        shared.ledger.writer(name, durability);
        Self {
            name,
            shared: Arc::clone(shared),
            next: vec![0; KEYS as usize],
            key: 0,
        }
    }

    /// The next messages, of one key.
    fn batch(&mut self, count: usize) -> Vec<Value> {
        self.key = (self.key + 1) % self.next.len().max(1);
        let Some(next) = self.next.get_mut(self.key) else {
            return Vec::new();
        };
        let first = *next;
        *next += count as u64;
        (first..*next)
            .map(|number| Value {
                writer: self.name.to_owned(),
                // With the topic: journals keep what was refused of earlier ones.
                key: format!("{}-{}.{}", self.name, self.key, self.shared.topic),
                number,
            })
            .collect()
    }

    fn accepted(&self, value: Value, gateway: usize, asked: Instant) {
        self.shared.ledger.accepted(value, gateway, asked);
    }

    fn refused(&self, why: &str) {
        self.shared.ledger.refused(self.name, why);
    }

    fn unknown(&self, count: usize) {
        self.shared.ledger.unknown(self.name, count);
    }
}

impl Workload {
    /// Starts all clients on a new topic.
    pub(crate) fn start(world: &mut World, scenario: &str) -> Result<Self> {
        let topic = world.new_topic(scenario)?;
        let ledger = Arc::new(Ledger::default());
        let shared = Arc::new(Shared {
            fleet: Arc::clone(&world.fleet),
            roots: world.certificates.all(),
            ledger: Arc::clone(&ledger),
            topic: topic.clone(),
            is_producing: AtomicBool::new(true),
            is_consuming: AtomicBool::new(true),
            turn: AtomicUsize::new(0),
            reader: AtomicU64::new(0),
        });
        let mut work = Self {
            topic,
            ledger,
            shared: Arc::clone(&shared),
            threads: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            node: None,
        };
        for run in redis::all(&shared)? {
            work.threads.push(run);
        }
        let runtime = world.runtime();
        let _inside = runtime.enter();
        work.producers.extend(http::producers(&shared)?);
        work.producers.extend(grpc::producers(&shared));
        work.consumers.extend(http::consumers(&shared)?);
        work.consumers.extend(grpc::consumers(&shared));
        work.node = Some(NodeClient::start(world, &work.topic, &work.ledger)?);
        Ok(work)
    }

    /// Waits until every writer has been told yes, and every group has
    /// acknowledged, some times more than at the time of the call.
    pub(crate) fn flows(&self) -> Result<()> {
        let before = (
            self.ledger.accepted_by_writer(),
            self.ledger.acked_by_group(),
        );
        let mut still = String::new();
        eventually("all clients to go on", || {
            let now = (
                self.ledger.accepted_by_writer(),
                self.ledger.acked_by_group(),
            );
            let ago = |name: &str| {
                let counts = before.0.get(name).or_else(|| before.1.get(name));
                counts.copied().unwrap_or(0)
            };
            still = now
                .0
                .iter()
                .chain(&now.1)
                .filter(|(name, count)| **count < ago(name) + WARM)
                .map(|(name, count)| format!("{name} {count} after {}; ", ago(name)))
                .collect();
            Ok(still.is_empty())
        })
        .with_context(|| format!("{still}{:?}", self.ledger.refusals()))
    }

    /// No more is produced. What is under way ends.
    pub(crate) fn stop_producing(&mut self, world: &World) -> Result<()> {
        self.shared.is_producing.store(false, Ordering::Release);
        let producers = std::mem::take(&mut self.producers);
        join(world, producers)?;
        if let Some(node) = &mut self.node {
            node.stop_producing()?;
        }
        let redis = |thread: &std::thread::JoinHandle<()>| {
            let name = thread.thread().name().unwrap_or_default();
            name.starts_with(redis::PRODUCER)
        };
        let (producers, rest) = std::mem::take(&mut self.threads)
            .into_iter()
            .partition(redis);
        self.threads = rest;
        join_threads(producers)
    }

    /// Waits until all that was accepted is in Kafka, nothing comes there any more
    /// (it would be there twice), and every group is done with all that is there;
    /// what there is then.
    pub(crate) fn drain(&self, world: &World, promises: Promises) -> Result<Vec<Place>> {
        let started = Instant::now();
        let mut ends = BTreeMap::new();
        let mut quiet_since = Instant::now();
        let mut log = Vec::new();
        let mut missing = Vec::new();
        let (mut read, mut answered) = (started, started);
        loop {
            // Leaders may change once more; who does not answer is asked again, and so is
            // a leader that may not know yet how far its followers are.
            let found = world.kafka.end_offsets(&self.topic);
            let found = found.map_err(anyhow::Error::from);
            let is_doubtful = !missing.is_empty() && read.elapsed() > AGAIN;
            let found = found.and_then(|now| match now != ends || is_doubtful {
                true => Ok(Some((now, world.log(&self.topic)?))),
                false => Ok(None),
            });
            let failure = found.map(|found| {
                answered = Instant::now();
                if let Some((now, all)) = found {
                    read = answered;
                    if now != ends || all != log {
                        (ends, log, quiet_since) = (now, all, read);
                    }
                }
            });
            let aside = world.set_aside()?;
            missing = self.ledger.missing(&log);
            missing.retain(|value| !self.ledger.is_aside(value, &aside, promises));
            let open = self.ledger.groups();
            let open = open.iter().map(|group| self.ledger.open(group, &log).len());
            let open: usize = open.sum();
            let is_done = missing.is_empty() && open == 0;
            // What is wrong still is found by the check.
            if is_done && failure.is_ok() && quiet_since.elapsed() > QUIET {
                return Ok(log);
            }
            if started.elapsed() > PATIENCE {
                if answered.elapsed() > PATIENCE / 3 {
                    failure.context("what Kafka has is not known")?;
                }
                return Ok(log);
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Ends all clients.
    pub(crate) fn stop(mut self, world: &World) -> Result<()> {
        self.shared.is_producing.store(false, Ordering::Release);
        self.shared.is_consuming.store(false, Ordering::Release);
        join(world, std::mem::take(&mut self.producers))?;
        join(world, std::mem::take(&mut self.consumers))?;
        if let Some(node) = self.node.take() {
            node.stop()?;
        }
        join_threads(std::mem::take(&mut self.threads))
    }
}

impl Drop for Workload {
    /// Also after a scenario that has failed: its clients are not to go on beside
    /// those of the next one.
    fn drop(&mut self) {
        self.shared.is_producing.store(false, Ordering::Release);
        self.shared.is_consuming.store(false, Ordering::Release);
        for task in self.producers.drain(..).chain(self.consumers.drain(..)) {
            task.abort();
        }
        for thread in self.threads.drain(..) {
            // One that has panicked is told of by what has failed.
            let _ = thread.join();
        }
    }
}

fn join(world: &World, tasks: Vec<JoinHandle<()>>) -> Result<()> {
    for task in tasks {
        world
            .runtime()
            .block_on(async { tokio::time::timeout(PATIENCE, task).await })
            .context("a client does not end")?
            .context("a client has panicked")?;
    }
    Ok(())
}

fn join_threads(threads: Vec<std::thread::JoinHandle<()>>) -> Result<()> {
    for thread in threads {
        if thread.join().is_err() {
            bail!("a client has panicked");
        }
    }
    Ok(())
}
