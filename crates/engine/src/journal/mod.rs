//! The journal: records that are on disk before their callers are told, and
//! that are sent to Kafka from there (contract, `producer-engine.md`,
//! section 11).
//!
//! Data flow: `Journal::append` → a buffer → `journal-sync` (write, one fsync,
//! callers are told) → segment files → `journal-feed` → a producer of its own
//! → delivery reports → `delivered` → `journal-keep` (checkpoint; segments
//! that are delivered go).
//!
//! A record is sent at least once: again if the process ends after Kafka has
//! it and before the checkpoint says so. Records keep their order.
//!
//! In reading order: `options`, `record` (bytes), `segment` (files),
//! `delivered` (the checkpoint), `recovery` (opening), `append` (group
//! commit), `feed` and `reports` (to Kafka), `aside` (what Kafka refuses for good),
//! `place` (who knows partitions), `inspect` (a look from outside), `durability`
//! (who wants it).

mod append;
mod aside;
mod delivered;
mod durability;
mod feed;
mod inspect;
mod options;
mod place;
mod record;
mod recovery;
mod reports;
mod segment;

use crate::cluster::Cluster;
use crate::error::{Error, KafkaError};
use crate::producer::Record;
pub use append::Appended;
use append::Pending;
use delivered::Delivered;
pub use durability::{Durabilities, Durability};
pub use inspect::{JournalReport, SegmentReport, TopicReport, inspect};
pub use options::{JournalError, JournalOptions, OnFull, REPLAYED_HEADER, Reason, SyncMode};
use parking_lot::{Condvar, Mutex};
pub(crate) use place::{Placed, Placer};
pub use record::{Headers, JournalRecord, Journaled};
use recovery::Segment;
pub(crate) use reports::is_permanent;
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often the checkpoint is written. What is delivered in between is sent
/// again after a crash.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(200);
/// What a client is told at most, and as long as nothing is delivered.
const MOST_DRAIN_SECONDS: u64 = 30;
/// Weight of the present interval in the rate of deliveries.
const RATE_WEIGHT: f64 = 0.1;
/// The same kind of trouble is told of once in so long.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counters of a journal since it was opened, and gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStatistics {
    /// Records that were written.
    pub written: u64,
    /// Records that Kafka has acknowledged.
    pub delivered: u64,
    /// Of those, records of an earlier process.
    pub replayed: u64,
    /// Records that Kafka has refused for good; they are kept aside.
    pub refused: u64,
    /// Records that were damaged on disk; their bytes are kept aside.
    pub damaged: u64,
    /// Calls that found it full.
    pub refused_full: u64,
    /// Writes or syncs that failed.
    pub failed_writes: u64,
    /// Producers that had failed for good and were replaced.
    pub producers_failed: u64,
    /// Syncs.
    pub syncs: u64,
    /// Records that are neither delivered nor given up (a gauge).
    pub undelivered: u64,
    /// Bytes of the segments (a gauge).
    pub bytes: u64,
    /// Segments (a gauge).
    pub segments: u64,
}

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    replayed: AtomicU64,
    refused: AtomicU64,
    damaged: AtomicU64,
    refused_full: AtomicU64,
    failed_writes: AtomicU64,
    syncs: AtomicU64,
    producers_failed: AtomicU64,
}

/// A record that Kafka has refused for good.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// The topic that it was for.
    pub topic: &'a str,
    /// Its key and value.
    pub record: Record<'a>,
    /// Why.
    pub error: KafkaError,
}

/// Hears of them.
type RefusedListener = Box<dyn Fn(Refused<'_>) + Send + Sync>;

/// What the handle and the threads share.
struct Shared {
    options: JournalOptions,
    marker: u32,
    /// The first sequence of this process.
    own: u64,
    pending: Mutex<Pending>,
    /// Wakes the thread that writes.
    work: Condvar,
    segments: Mutex<VecDeque<Segment>>,
    /// Bytes of segments and of what is about to be written.
    used: AtomicU64,
    /// Told when a segment has gone.
    room: Notify,
    /// Everything below is on disk.
    synced: AtomicU64,
    delivered: Mutex<Delivered>,
    /// Somebody waits in [`Journal::settled`].
    is_awaited: AtomicBool,
    settled: Notify,
    /// No more records come from outside.
    is_closing: AtomicBool,
    signal: Mutex<Signal>,
    /// Wakes the feeder.
    feed_wanted: Condvar,
    /// Wakes the keeper.
    keep_wanted: Condvar,
    counters: Counters,
    refused_listener: OnceLock<RefusedListener>,
    /// How long it would take to send what is there.
    drain_seconds: AtomicU64,
}

#[derive(Default)]
struct Signal {
    /// The feeder sleeps, and there is something for it to do from then on.
    feeder_sleeps: bool,
    has_work: bool,
    /// No more reports come, either.
    is_ending: bool,
}

/// A journal; clones are the same one. It is closed with the last one, or by
/// [`close`](Self::close).
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
}

/// A look at a journal.
#[derive(Clone)]
pub(crate) struct JournalWatch(Arc<Shared>);

impl JournalWatch {
    /// Whether all records before that sequence are delivered or given up.
    pub(crate) fn has_delivered_before(&self, sequence: u64) -> bool {
        self.0.delivered.lock().prefix() >= sequence
    }

    /// What may come at once.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.0.options.most_at_once()
    }
}

/// In the order in which they end.
#[derive(Default)]
struct Threads {
    sync: Option<JoinHandle<()>>,
    feed: Option<JoinHandle<()>>,
    keep: Option<JoinHandle<()>>,
    lock: Option<File>,
}

impl Journal {
    /// Opens the journal in a directory, which is made unless it is there.
    /// What an earlier process has left waits until the journal is
    /// [fed](Self::feed).
    ///
    /// # Errors
    /// [`JournalError::InUse`], [`JournalError::Open`]
    pub fn open(mut options: JournalOptions) -> Result<Self, JournalError> {
        options.segment_bytes = options.segment_bytes.min(options.max_bytes / 4).max(1);
        let recovered = recovery::open(&options.directory)?;
        let used = recovered.segments.iter().map(|one| one.length).sum();
        let sequence = recovered.sequence;
        let waiting = recovered
            .delivered
            .missing_of(recovered.delivered.prefix()..sequence);
        if waiting > 0 {
            tracing::info!(
                component = "journal",
                "{}: {waiting} records of an earlier process are sent now",
                options.directory.display()
            );
        }
        let shared = Arc::new(Shared {
            marker: recovered.marker,
            own: sequence,
            pending: Mutex::new(Pending::new(sequence)),
            work: Condvar::new(),
            segments: Mutex::new(recovered.segments),
            used: AtomicU64::new(used),
            room: Notify::new(),
            synced: AtomicU64::new(sequence),
            delivered: Mutex::new(recovered.delivered),
            is_awaited: AtomicBool::new(false),
            settled: Notify::new(),
            is_closing: AtomicBool::new(false),
            signal: Mutex::default(),
            feed_wanted: Condvar::new(),
            keep_wanted: Condvar::new(),
            counters: Counters::default(),
            refused_listener: OnceLock::new(),
            drain_seconds: AtomicU64::new(MOST_DRAIN_SECONDS),
            options,
        });
        let writing = Arc::clone(&shared);
        let keeping = Arc::clone(&shared);
        let threads = Threads {
            sync: Some(shared.spawn("journal-sync", move || writing.write_groups())?),
            keep: Some(shared.spawn("journal-keep", move || keeping.keep())?),
            feed: None,
            lock: Some(recovered.lock),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                threads: Mutex::new(threads),
            }),
        })
    }

    /// Starts to send what is there and what will come, by a producer of its
    /// own. Only the first call does something.
    ///
    /// # Errors
    /// What librdkafka refuses of the cluster's configuration.
    pub fn feed(&self, cluster: &Cluster) -> Result<(), Error> {
        self.feed_by(cluster, None).map(drop)
    }

    /// The same; `placer` knows partitions. False: it is fed already, or
    /// closed.
    pub(crate) fn feed_by(
        &self,
        cluster: &Cluster,
        placer: Option<Arc<dyn Placer>>,
    ) -> Result<bool, Error> {
        let mut threads = self.inner.threads.lock();
        if threads.feed.is_some() || threads.lock.is_none() {
            return Ok(false);
        }
        let shared = Arc::clone(&self.inner.shared);
        let feeder = feed::Feeder::new(shared, cluster.config(), placer)?;
        let feeding = self
            .inner
            .shared
            .spawn("journal-feed", move || feeder.run());
        threads.feed = Some(feeding.map_err(|error| Error::Journal { error })?);
        Ok(true)
    }

    /// For those who only look. It may outlive the journal, and does not keep
    /// it open.
    pub(crate) fn watch(&self) -> JournalWatch {
        JournalWatch(Arc::clone(&self.inner.shared))
    }

    /// `listener` hears of each record that Kafka refuses for good, once it is
    /// kept aside. It is called by the thread that sends, so it must not wait for
    /// anything. Only the first call does something; before
    /// [`feed`](Self::feed), nothing is missed.
    pub fn hear_refused(&self, listener: impl Fn(Refused<'_>) + Send + Sync + 'static) {
        let _ = self.inner.shared.refused_listener.set(Box::new(listener));
    }

    /// Takes all of the records, in order, or none. They are written then,
    /// whoever waits for it. Cancelling before this returns takes nothing.
    ///
    /// # Errors
    /// [`JournalError::Full`], unless it waits then; [`JournalError::TooLarge`],
    /// [`JournalError::Closed`].
    pub async fn append<'a>(
        &self,
        records: impl Iterator<Item = JournalRecord<'a>> + Clone,
    ) -> Result<Appended, JournalError> {
        self.inner.shared.append(records).await
    }

    /// How many records are neither delivered nor given up.
    pub fn undelivered(&self) -> u64 {
        self.inner.shared.undelivered()
    }

    /// Resolves when everything is delivered that is there.
    pub async fn drained(&self) {
        self.settled(|shared| shared.undelivered() == 0).await;
    }

    /// Looks at each delivery.
    async fn settled(&self, is_done: impl Fn(&Shared) -> bool) {
        let shared = &self.inner.shared;
        loop {
            let settled = shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            shared.is_awaited.store(true, Ordering::SeqCst);
            if is_done(shared) {
                return;
            }
            settled.await;
        }
    }

    /// How many of the records before that sequence are neither delivered nor
    /// given up.
    pub fn undelivered_before(&self, sequence: u64) -> u64 {
        let delivered = self.inner.shared.delivered.lock();
        delivered.missing_of(delivered.prefix()..sequence)
    }

    /// Resolves when there are none of those.
    pub async fn delivered_before(&self, sequence: u64) {
        self.settled(|shared| shared.delivered.lock().prefix() >= sequence)
            .await;
    }

    /// Stops taking records, writes what was taken, and ends; what is not
    /// delivered stays for the next time. Blocks. Only the first call does
    /// something.
    pub fn close(&self) {
        self.inner.close();
    }

    /// The counters.
    pub fn statistics(&self) -> JournalStatistics {
        let shared = &self.inner.shared;
        let counters = &shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JournalStatistics {
            written: get(&shared.synced) - shared.own,
            delivered: get(&counters.delivered),
            replayed: get(&counters.replayed),
            refused: get(&counters.refused),
            damaged: get(&counters.damaged),
            refused_full: get(&counters.refused_full),
            failed_writes: get(&counters.failed_writes),
            syncs: get(&counters.syncs),
            producers_failed: get(&counters.producers_failed),
            undelivered: shared.undelivered(),
            bytes: get(&shared.used),
            segments: shared.segments.lock().len() as u64,
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.inner.shared.options.directory
    }
}

impl Inner {
    fn close(&self) {
        let mut threads = self.threads.lock();
        let shared = &self.shared;
        shared.pending.lock().close();
        shared.work.notify_one();
        join(threads.sync.take());
        shared.is_closing.store(true, Ordering::Release);
        shared.wake_feeder();
        join(threads.feed.take());
        shared.signal.lock().is_ending = true;
        shared.keep_wanted.notify_one();
        join(threads.keep.take());
        // By itself, not by closing: a child that is just being started has a
        // copy of the file.
        if let Some(lock) = threads.lock.take() {
            let _ = lock.unlock();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread {
        let _ = thread.join();
    }
}

impl Shared {
    fn spawn(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, JournalError> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(run).map_err(|error| JournalError::Open {
            directory: self.options.directory.clone(),
            reason: error.into(),
        })
    }

    /// There is something new for the feeder: records, reports or room.
    fn wake_feeder(&self) {
        let mut signal = self.signal.lock();
        signal.has_work = true;
        if signal.feeder_sleeps {
            signal.feeder_sleeps = false;
            self.feed_wanted.notify_one();
        }
    }

    /// Sleeps until there is, or for so long. True: the journal is closing.
    fn feeder_sleeps(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut signal = self.signal.lock();
        while !signal.has_work && !self.is_closing() {
            signal.feeder_sleeps = true;
            if self
                .feed_wanted
                .wait_until(&mut signal, deadline)
                .timed_out()
            {
                break;
            }
        }
        (signal.feeder_sleeps, signal.has_work) = (false, false);
        self.is_closing()
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    fn is_synced_to(&self, sequence: u64) {
        self.synced.store(sequence, Ordering::Release);
        self.wake_feeder();
    }

    fn undelivered(&self) -> u64 {
        let delivered = self.delivered.lock();
        let synced = self.synced.load(Ordering::Acquire);
        (synced.saturating_sub(delivered.prefix())).saturating_sub(delivered.ahead())
    }

    /// Kafka has the record, or never will.
    fn is_delivered(&self, sequence: u64) {
        self.delivered.lock().insert(sequence);
        self.tell_who_waits();
    }

    fn tell_who_waits(&self) {
        if self.is_awaited.load(Ordering::SeqCst) {
            // Whoever is not content says so again.
            self.is_awaited.store(false, Ordering::SeqCst);
            self.settled.notify_waiters();
        }
    }

    /// The thread that writes checkpoints and removes what is delivered.
    fn keep(&self) {
        let mut stored = None;
        let mut log = Folded::default();
        let mut rate = 0.0;
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let is_ending = {
                let mut signal = self.signal.lock();
                let deadline = Instant::now() + CHECKPOINT_INTERVAL;
                while !signal.is_ending {
                    if self
                        .keep_wanted
                        .wait_until(&mut signal, deadline)
                        .timed_out()
                    {
                        break;
                    }
                }
                signal.is_ending
            };
            let delivered = self.delivered.lock().clone();
            let state = Some((delivered.prefix(), delivered.ahead()));
            if stored != state {
                match delivered.store(&self.options.directory) {
                    Ok(()) => stored = state,
                    Err(error) => log.error(|| format!("no checkpoint: {error}")),
                }
            }
            if let Err(error) = self.remove_delivered(delivered.prefix()) {
                log.error(|| format!("a segment stays: {error}"));
            }
            let count = self.counters.delivered.load(Ordering::Relaxed);
            let seconds = since.elapsed().as_secs_f64().max(0.001);
            let now = (count - before) as f64 / seconds;
            rate += (now - rate) * RATE_WEIGHT;
            (before, since) = (count, Instant::now());
            self.drain_seconds
                .store(seconds_for(self.undelivered(), rate), Ordering::Relaxed);
            if is_ending {
                return;
            }
        }
    }

    fn remove_delivered(&self, prefix: u64) -> std::io::Result<()> {
        let mut has_removed = false;
        loop {
            let first = {
                let segments = self.segments.lock();
                let first = segments.front();
                let goes = |one: &&Segment| !one.is_active && one.end <= prefix;
                first.filter(goes).cloned()
            };
            let Some(first) = first else { break };
            std::fs::remove_file(segment::path_of(&self.options.directory, first.base))?;
            self.segments.lock().pop_front();
            self.used.fetch_sub(first.length, Ordering::AcqRel);
            has_removed = true;
        }
        if has_removed {
            self.room.notify_waiters();
            segment::sync_directory(&self.options.directory)?;
        }
        Ok(())
    }
}

/// How long so many records take, in whole seconds.
fn seconds_for(records: u64, rate: f64) -> u64 {
    let seconds = records as f64 / rate.max(f64::MIN_POSITIVE);
    // Saturates.
    (seconds.ceil() as u64).clamp(1, MOST_DRAIN_SECONDS)
}

/// Tells of trouble once a second, however often it comes.
#[derive(Default)]
struct Folded {
    unsaid: u64,
    said: Option<Instant>,
}

impl Folded {
    fn error(&mut self, text: impl FnOnce() -> String) {
        self.unsaid += 1;
        if self.said.is_some_and(|said| said.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.said = Some(Instant::now());
        let count = std::mem::take(&mut self.unsaid);
        tracing::error!(component = "journal", count, "{}", text());
    }
}
