//! The handle of a member of a consumer group.
//!
//! A thread of its own gathers batches from the engine's consumer. Each
//! partition has a number here for as long as the member holds it; when it
//! comes again it has another one, so that what was given up meanwhile is not
//! committed.

use crate::batches::{Batch, Gathered};
use crate::config::pairs;
use crate::consumer::{ConsumerSettings, words};
use crate::holding::{Holding, Place};
use crate::mailbox::{KEPT, Mailbox};
use crate::producer::{ClientError, LogLine};
use crate::progress::whole;
use barnabas_engine::{
    Cluster, ClusterConfig, Consumer, ConsumerObserver, Error as EngineError, ErrorCode,
    KafkaError, Message, Position, Properties,
};
use napi::bindgen_prelude::Function;
use napi::{Error, Result};
use napi_derive::napi;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many batches are gathered before JavaScript has taken them.
const AHEAD: usize = 2;

/// syslog's level of a warning.
const WARNING: i32 = 4;

/// What a member has to say.
#[derive(Default)]
struct News {
    batches: Vec<Gathered>,
    taken_on: Vec<Lane>,
    given_up: Vec<i32>,
    holding: Holding,
    logs: VecDeque<LogLine>,
    errors: VecDeque<ClientError>,
    left_out: u32,
    statistics: Option<String>,
    is_closed: bool,
}

impl News {
    fn log(&mut self, level: i32, facility: &str, line: &str) {
        if self.logs.len() == KEPT {
            self.left_out += 1;
            return;
        }
        self.logs.push_back(LogLine {
            level,
            facility: facility.to_owned(),
            message: line.to_owned(),
        });
    }

    fn fail(&mut self, error: i32, reason: &str) {
        if self.errors.len() == KEPT {
            self.left_out += 1;
            return;
        }
        self.errors.push_back(ClientError {
            error,
            reason: reason.to_owned(),
            fatal: false,
        });
    }
}

/// A partition that the member holds.
#[napi(object)]
#[derive(Clone)]
pub struct Lane {
    /// Its number here.
    pub lane: i32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its first offset.
    pub offset: f64,
}

/// Everything that has gathered since it was asked for last: first what was
/// taken on, then the batches, then what was given up.
#[napi(object)]
pub struct GroupNews {
    /// New numbers.
    pub taken_on: Vec<Lane>,
    /// Batches, in order; their partitions are the numbers.
    pub batches: Vec<Batch>,
    /// Numbers that no later batch has.
    pub given_up: Vec<i32>,
    /// Partitions that the member no longer reads.
    pub revoked: Vec<Place>,
    /// Whether some of them were lost.
    pub are_lost: bool,
    /// Partitions that it reads now; those that are also among `revoked` came
    /// back.
    pub assigned: Vec<Place>,
    /// Log lines.
    pub logs: Vec<LogLine>,
    /// Errors of the client, and what reading has failed with.
    pub errors: Vec<ClientError>,
    /// Lines and errors that there was no room for.
    #[napi(js_name = "left_out")]
    pub left_out: u32,
    /// librdkafka's statistics as JSON.
    pub statistics: Option<String>,
    /// Whether the group is left.
    pub is_closed: bool,
}

/// What JavaScript and the thread share.
struct Shared {
    mailbox: Arc<Mailbox<News>>,
    /// `None` once it is being closed.
    consumer: Mutex<Option<Arc<Consumer>>>,
    lanes: Mutex<BTreeMap<i32, Named>>,
    ahead: AtomicUsize,
    is_ending: AtomicBool,
    changed: Notify,
}

/// What a number stands for.
#[derive(Clone, PartialEq, Eq)]
struct Named {
    topic: Arc<str>,
    partition: i32,
}

/// The engine's way to the mailbox, for what is no message.
struct Ear(Arc<Mailbox<News>>);

impl ConsumerObserver for Ear {
    fn log(&self, level: i32, facility: &str, line: &str) {
        self.0.put(|news| news.log(level, facility, line));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.put(|news| news.fail(error.number(), reason));
    }

    fn statistics(&self, json: &str) {
        self.0.put(|news| news.statistics = Some(json.to_owned()));
    }

    fn assigned(&self, partitions: &[(String, i32)]) {
        self.0.put(|news| news.holding.assigned(partitions));
    }

    fn revoked(&self, partitions: &[(String, i32)], are_lost: bool) {
        self.0
            .put(|news| news.holding.revoked(partitions, are_lost));
    }
}

/// A member of a consumer group; `lib/group.js` has what its users see.
#[napi]
pub struct NativeGroup {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[napi]
impl NativeGroup {
    /// Joins; `properties` are names and values in turn.
    ///
    /// # Errors
    /// librdkafka's words about the properties.
    #[napi(constructor)]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn new(
        topics: Vec<String>,
        properties: Vec<String>,
        settings: ConsumerSettings,
        wake: Function<'_, (), ()>,
    ) -> Result<Self> {
        let refused = |error: EngineError| Error::from_reason(words(&error));
        let mut warnings = Vec::new();
        let properties: Properties = pairs(properties, &mut warnings).into_iter().collect();
        let cluster = Cluster::open(ClusterConfig::default()).map_err(refused)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mailbox = Arc::new(Mailbox::new(&wake)?);
        let ear = Arc::new(Ear(Arc::clone(&mailbox)));
        let consumer = match cluster.observed_consumer(&properties, &topics, ear) {
            Ok(consumer) => Arc::new(consumer),
            Err(error) => {
                mailbox.close();
                return Err(refused(error));
            }
        };
        for warning in warnings {
            mailbox.put(|news| news.log(WARNING, "CONFWARN", &warning));
        }
        let shared = Arc::new(Shared {
            mailbox,
            consumer: Mutex::new(Some(Arc::clone(&consumer))),
            lanes: Mutex::default(),
            ahead: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let linger = Duration::try_from_secs_f64(settings.linger_ms / 1_000.0);
        let reader = Reader {
            shared: Arc::clone(&shared),
            consumer,
            last_lane: 0,
            current: None,
            limit: settings.max_messages.max(1) as usize,
            linger: linger.unwrap_or_default(),
            is_extended: settings.is_extended,
        };
        let thread = std::thread::Builder::new()
            .name("group-reader".to_owned())
            .spawn(move || {
                reader.run();
                drop(cluster);
            });
        match thread {
            Ok(thread) => Ok(Self {
                shared,
                thread: Some(thread),
            }),
            Err(error) => {
                shared.mailbox.close();
                Err(Error::from_reason(error.to_string()))
            }
        }
    }

    /// Takes what has gathered.
    #[napi]
    pub fn take(&self) -> GroupNews {
        let news = self.shared.mailbox.take();
        GroupNews {
            taken_on: news.taken_on,
            batches: news.batches.into_iter().map(Batch::from).collect(),
            given_up: news.given_up,
            revoked: news.holding.revoked,
            are_lost: news.holding.are_lost,
            assigned: news.holding.assigned,
            logs: news.logs.into(),
            errors: news.errors.into(),
            left_out: news.left_out,
            statistics: news.statistics,
            is_closed: news.is_closed,
        }
    }

    /// Messages that librdkafka has handed over, and that did not get here.
    #[napi]
    pub fn held(&self) -> u32 {
        let consumer = self.shared.consumer.lock();
        let held = consumer.as_ref().map_or(0, |consumer| consumer.held());
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// Says that a batch was taken: one more may be gathered.
    #[napi]
    pub fn taken(&self) {
        self.shared.ahead.fetch_sub(1, Ordering::AcqRel);
        self.shared.changed.notify_one();
    }

    /// Stores what is to be committed: numbers of partitions and their last
    /// processed offsets, in turn. What was given up meanwhile is left out.
    ///
    /// # Errors
    /// What Kafka has against it.
    #[napi]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn store(&self, in_turn: Vec<f64>) -> Result<()> {
        let consumer = self.shared.consumer.lock();
        let Some(consumer) = &*consumer else {
            return Err(Error::from_reason("already shutdown"));
        };
        let (pairs, _) = in_turn.as_chunks::<2>();
        for [lane, offset] in pairs {
            let lane = i32::try_from(whole(*lane)).unwrap_or(-1);
            let Some(place) = self.shared.lanes.lock().get(&lane).cloned() else {
                continue;
            };
            let position = Position {
                topic: place.topic.to_string(),
                partition: place.partition,
                offset: whole(*offset).saturating_add(1),
            };
            match consumer.store(&[position]) {
                Ok(()) => {}
                Err(error) if error.is(ErrorCode::State) => {}
                Err(error) => return Err(Error::from_reason(error.to_string())),
            }
        }
        Ok(())
    }

    /// Begins to commit and to leave; the news say when that is over.
    #[napi]
    pub fn close(&self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.changed.notify_one();
    }

    /// Keeps the event loop alive no longer.
    #[napi]
    pub fn dispose(&self) {
        self.shared.mailbox.close();
    }
}

impl Drop for NativeGroup {
    /// Waits until the client's threads have ended: when the process or the
    /// worker ends, nothing of it may run on.
    fn drop(&mut self) {
        self.close();
        self.dispose();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread.
struct Reader {
    shared: Arc<Shared>,
    consumer: Arc<Consumer>,
    last_lane: i32,
    /// The number of the last message's partition.
    current: Option<(Named, i32)>,
    limit: usize,
    linger: Duration,
    is_extended: bool,
}

impl Reader {
    fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async move {
                self.read().await;
                self.leave().await;
            }),
            Err(error) => {
                self.shared.fail(-1, &error.to_string());
                self.shared.mailbox.put(|news| news.is_closed = true);
            }
        }
    }

    async fn read(&mut self) {
        let shared = Arc::clone(&self.shared);
        let consumer = Arc::clone(&self.consumer);
        loop {
            if shared.is_ending.load(Ordering::Acquire) {
                return;
            }
            if shared.ahead.load(Ordering::Acquire) >= AHEAD {
                shared.changed.notified().await;
                continue;
            }
            let first = tokio::select! {
                first = consumer.next() => first,
                () = shared.changed.notified() => continue,
            };
            match first {
                Ok(first) => self.gather(&consumer, &first).await,
                Err(error) => shared.failed(&error),
            }
        }
    }

    /// Gathers a batch that begins with a message.
    async fn gather(&mut self, consumer: &Consumer, first: &Message<'_>) {
        let due = Instant::now() + self.linger;
        self.give_up(consumer);
        let mut batch = Gathered::empty(self.is_extended);
        self.add(&mut batch, first);
        while batch.len() < self.limit {
            match consumer.try_next() {
                Ok(Some(message)) => self.add(&mut batch, &message),
                Ok(None) => match tokio::time::timeout_at(due, consumer.next()).await {
                    Ok(Ok(message)) => self.add(&mut batch, &message),
                    Ok(Err(error)) => self.shared.failed(&error),
                    Err(_) => break,
                },
                Err(error) => self.shared.failed(&error),
            }
        }
        self.shared.ahead.fetch_add(1, Ordering::AcqRel);
        self.shared.mailbox.put(|news| news.batches.push(batch));
    }

    fn add(&mut self, batch: &mut Gathered, message: &Message<'_>) {
        let lane = self.lane(message);
        batch.add(lane, message);
    }

    /// The number of a message's partition.
    fn lane(&mut self, message: &Message<'_>) -> i32 {
        let (topic, partition) = (message.topic(), message.partition());
        let is_own = |place: &Named| place.partition == partition && *place.topic == *topic;
        // Messages of a partition come in runs.
        if let Some((place, lane)) = &self.current
            && is_own(place)
        {
            return *lane;
        }
        let mut lanes = self.shared.lanes.lock();
        if let Some((lane, place)) = lanes.iter().find(|(_, place)| is_own(place)) {
            self.current = Some((place.clone(), *lane));
            return *lane;
        }
        self.last_lane = self.last_lane.wrapping_add(1).max(0);
        let place = Named {
            topic: topic.into(),
            partition,
        };
        self.current = Some((place.clone(), self.last_lane));
        lanes.insert(self.last_lane, place);
        let lane = Lane {
            lane: self.last_lane,
            topic: topic.to_owned(),
            partition,
            offset: crate::progress::number(message.offset()),
        };
        self.shared.mailbox.put(|news| news.taken_on.push(lane));
        self.last_lane
    }

    /// Forgets the numbers of partitions that are held no longer.
    fn give_up(&mut self, consumer: &Consumer) {
        self.current = None;
        let held = consumer.assignment();
        let mut lanes = self.shared.lanes.lock();
        let mut gone = Vec::new();
        lanes.retain(|lane, place| {
            let is_held = held
                .iter()
                .any(|(topic, id)| *id == place.partition && **topic == *place.topic);
            if !is_held {
                gone.push(*lane);
            }
            is_held
        });
        if !gone.is_empty() {
            self.shared.mailbox.put(|news| news.given_up.extend(gone));
        }
    }

    /// Commits and leaves.
    async fn leave(self) {
        drop(self.shared.consumer.lock().take());
        // The only one now: `store` borrows it under the lock.
        if let Some(consumer) = Arc::into_inner(self.consumer)
            && !consumer.close().done().await
        {
            let text = "the last offsets may not be committed";
            self.shared.fail(ErrorCode::OperationTimedOut as i32, text);
        }
        self.shared.mailbox.put(|news| news.is_closed = true);
    }
}

impl Shared {
    fn failed(&self, error: &EngineError) {
        let code = match error {
            EngineError::Consume { error, .. } | EngineError::Kafka { error } => error.number(),
            _ => KafkaError::from_code(ErrorCode::Fail).number(),
        };
        self.fail(code, &error.to_string());
    }

    fn fail(&self, code: i32, reason: &str) {
        self.mailbox.put(|news| news.fail(code, reason));
    }
}
