//! The handle of a member of a consumer group.
//!
//! A thread of its own gathers batches from the engine's consumer, in which
//! partitions have numbers ([`Lanes`]).

use crate::batches::{Batch, Gathered};
use crate::config::pairs;
use crate::consumer::{ConsumerSettings, words};
use crate::holding::{Holding, Place};
use crate::lanes::{Lanes, Numbered};
use crate::mailbox::Mailbox;
use crate::progress::whole;
use crate::said::Said;
use barnabas_engine::{
    Cluster, ClusterConfig, Consumer, ConsumerObserver, Error as EngineError, ErrorCode,
    KafkaError, Message, Position, Properties, bring_up_to_date,
};
use napi::bindgen_prelude::Function;
use napi::{Error, Result};
use napi_derive::napi;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many batches are gathered before JavaScript has taken them.
const AHEAD: usize = 2;

/// So many messages are taken in one go, during which nothing can be given up.
const AT_ONCE: usize = 64;

/// How long leaving may take when the process or the worker ends. What is not
/// over then ends behind it: librdkafka waits for brokers that do not answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a member has to say.
#[derive(Default)]
struct News {
    batches: Vec<Gathered>,
    taken_on: Vec<Lane>,
    given_up: Vec<i32>,
    holding: Holding,
    said: Said,
    statistics: Option<String>,
    is_closed: bool,
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
    /// Log lines and errors.
    pub said: Said,
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
    lanes: Arc<Mutex<Lanes>>,
    ahead: AtomicUsize,
    is_ending: AtomicBool,
    changed: Notify,
}

/// The engine's way to the mailbox, for what is no message.
struct Ear {
    mailbox: Arc<Mailbox<News>>,
    lanes: Arc<Mutex<Lanes>>,
}

impl ConsumerObserver for Ear {
    fn log(&self, level: i32, facility: &str, line: &str) {
        self.mailbox
            .put(|news| news.said.log(level, facility, line));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.mailbox
            .put(|news| news.said.error(error.number(), reason, false));
    }

    fn statistics(&self, json: &str) {
        self.mailbox
            .put(|news| news.statistics = Some(json.to_owned()));
    }

    fn assigned(&self, partitions: &[(String, i32)]) {
        self.mailbox.put(|news| news.holding.assigned(partitions));
    }

    fn revoked(&self, partitions: &[(String, i32)], are_lost: bool) {
        self.lanes.lock().give_up(partitions);
        self.mailbox
            .put(|news| news.holding.revoked(partitions, are_lost));
    }
}

/// A member of a consumer group; `lib/group.js` has what its users see.
#[napi]
pub struct NativeGroup {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread ends.
    ended: mpsc::Receiver<Infallible>,
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
        let mut properties = pairs(properties);
        let warnings = bring_up_to_date(&mut properties);
        let properties: Properties = properties.into_iter().collect();
        let cluster = Cluster::open(ClusterConfig::default()).map_err(refused)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mailbox = Arc::new(Mailbox::new(&wake)?);
        let lanes = Arc::<Mutex<Lanes>>::default();
        let ear = Arc::new(Ear {
            mailbox: Arc::clone(&mailbox),
            lanes: Arc::clone(&lanes),
        });
        let consumer = match cluster.observed_consumer(&properties, &topics, ear) {
            Ok(consumer) => Arc::new(consumer),
            Err(error) => {
                mailbox.close();
                return Err(refused(error));
            }
        };
        for warning in warnings {
            mailbox.put(|news| news.said.warn(&warning));
        }
        let shared = Arc::new(Shared {
            mailbox,
            consumer: Mutex::new(Some(Arc::clone(&consumer))),
            lanes,
            ahead: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let linger = Duration::try_from_secs_f64(settings.linger_ms / 1_000.0);
        let reader = Reader {
            shared: Arc::clone(&shared),
            consumer,
            limit: settings.max_messages.max(1) as usize,
            linger: linger.unwrap_or_default(),
            is_extended: settings.is_extended,
        };
        let (ending, ended) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("group-reader".to_owned())
            .spawn(move || {
                reader.run();
                drop(cluster);
                drop(ending);
            });
        match thread {
            Ok(thread) => Ok(Self {
                shared,
                thread: Some(thread),
                ended,
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
            said: news.said,
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
            // Until it is stored the partition cannot be given up.
            let lanes = self.shared.lanes.lock();
            let Some(place) = lanes.place(lane) else {
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
    /// Leaves the group and waits, for a while, until the client's threads
    /// have ended: when the process or the worker ends, nothing of it should
    /// run on.
    fn drop(&mut self) {
        self.close();
        self.dispose();
        if let Some(thread) = self.thread.take()
            && self.ended.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Disconnected)
        {
            let _ = thread.join();
        }
    }
}

/// The thread.
struct Reader {
    shared: Arc<Shared>,
    consumer: Arc<Consumer>,
    limit: usize,
    linger: Duration,
    is_extended: bool,
}

/// What taking messages comes to.
type Taken<T> = std::result::Result<T, EngineError>;

impl Reader {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async move {
                let _ = self.read().await;
                self.leave().await;
            }),
            Err(error) => {
                self.shared.fail(-1, &error.to_string(), true);
                self.shared.mailbox.put(|news| news.is_closed = true);
            }
        }
    }

    /// Breaks when the client has failed for good, which was told.
    async fn read(&self) -> ControlFlow<()> {
        let shared = &self.shared;
        loop {
            if shared.is_ending.load(Ordering::Acquire) {
                return ControlFlow::Continue(());
            }
            if shared.ahead.load(Ordering::Acquire) >= AHEAD {
                shared.changed.notified().await;
                continue;
            }
            let mut batch = Gathered::empty(self.is_extended);
            tokio::select! {
                first = self.wait(&mut batch) => match first {
                    Ok(()) => self.gather(batch).await?,
                    Err(error) => shared.failed(&error)?,
                },
                () = shared.changed.notified() => {}
            }
        }
    }

    /// Waits for a message and adds it to a batch.
    async fn wait(&self, batch: &mut Gathered) -> Taken<()> {
        let mut next = pin!(self.consumer.next());
        // While it is taken nothing can be given up, so that its number is
        // that of the assignment that it came with.
        poll_fn(|context| {
            let mut lanes = self.shared.lanes.lock();
            let message = next.as_mut().poll(context);
            message.map_ok(|message| self.shared.add(batch, &mut lanes, &message))
        })
        .await
    }

    /// Adds what has arrived, a portion of it at most; whether there may be
    /// more.
    fn add_arrived(&self, batch: &mut Gathered) -> Taken<bool> {
        let until = self.limit.min(batch.len() + AT_ONCE);
        let mut lanes = self.shared.lanes.lock();
        while batch.len() < until {
            match self.consumer.try_next()? {
                Some(message) => self.shared.add(batch, &mut lanes, &message),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Gathers a batch that begins with a message.
    async fn gather(&self, mut batch: Gathered) -> ControlFlow<()> {
        let due = Instant::now() + self.linger;
        let shared = &self.shared;
        let mut outcome = ControlFlow::Continue(());
        while outcome.is_continue() && batch.len() < self.limit {
            match self.add_arrived(&mut batch) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    outcome = shared.failed(&error);
                    continue;
                }
            }
            if shared.is_ending.load(Ordering::Acquire) {
                break;
            }
            tokio::select! {
                next = self.wait(&mut batch) => if let Err(error) = next {
                    outcome = shared.failed(&error);
                },
                () = shared.changed.notified() => {}
                () = tokio::time::sleep_until(due) => break,
            }
        }
        shared.ahead.fetch_add(1, Ordering::AcqRel);
        shared.mailbox.put(|news| news.batches.push(batch));
        // Behind the last batch that may have them.
        let gone = shared.lanes.lock().take_gone();
        if !gone.is_empty() {
            shared.mailbox.put(|news| news.given_up.extend(gone));
        }
        outcome
    }

    /// Commits and leaves.
    async fn leave(self) {
        drop(self.shared.consumer.lock().take());
        // The only one now: `store` borrows it under the lock.
        if let Some(consumer) = Arc::into_inner(self.consumer)
            && !consumer.close().done().await
        {
            let text = "the last offsets may not be committed";
            let code = ErrorCode::OperationTimedOut as i32;
            self.shared.fail(code, text, false);
        }
        self.shared.mailbox.put(|news| news.is_closed = true);
    }
}

impl Shared {
    /// Adds a message to a batch, under the number of its partition.
    fn add(&self, batch: &mut Gathered, lanes: &mut Lanes, message: &Message<'_>) {
        let lane = match lanes.of(message.topic(), message.partition()) {
            Numbered::Known(lane) => lane,
            Numbered::New(lane) => {
                let taken_on = Lane {
                    lane,
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    offset: crate::progress::number(message.offset()),
                };
                self.mailbox.put(|news| news.taken_on.push(taken_on));
                lane
            }
        };
        batch.add(lane, message);
    }

    /// Tells what reading has failed with; breaks if that is for good.
    fn failed(&self, error: &EngineError) -> ControlFlow<()> {
        let is_fatal = matches!(error, EngineError::Consume { is_fatal: true, .. });
        let code = match error {
            EngineError::Consume { error, .. } | EngineError::Kafka { error } => error.number(),
            _ => KafkaError::from_code(ErrorCode::Fail).number(),
        };
        self.fail(code, &error.to_string(), is_fatal);
        if is_fatal {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn fail(&self, code: i32, reason: &str, is_fatal: bool) {
        self.mailbox
            .put(|news| news.said.error(code, reason, is_fatal));
    }
}
