//! Batches of messages from where they are asked for.
//!
//! One thread per consumer takes what librdkafka has fetched, all partitions
//! in the order of arrival, and hands it over. It also hands on what the
//! client says besides: log lines, errors, statistics.

use super::batch::LocalBatch;
use super::options::LocalConfig;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{
    Client, ClusterView, Event, EventKind, Kind, MessageBox, NativeTopic, Queue, WakeTarget,
};
use parking_lot::{Condvar, Mutex};
use rdkafka::bindings::{RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_LOG, RD_KAFKA_EVENT_STATS};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// What [`LocalConsumer::stop`] adds at most; what is not over then ends
/// behind it.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Messages taken in one call: room is made for so many, however large a batch
/// may be.
const TAKEN_AT_ONCE: usize = 10_000;

/// syslog's level of a warning, as librdkafka's log lines have it.
const WARNING: i32 = 4;

/// Who takes what comes. All calls are made by the consumer's own thread, one
/// at a time; while one lasts, nothing else is handed over.
pub trait LocalSink: Send + 'static {
    /// Takes a batch, which is gone after the call. Each is to be answered
    /// by one [`LocalConsumer::taken`], in this call or later.
    fn batch(&mut self, batch: &LocalBatch<'_>);

    /// A line of librdkafka's log: syslog's level, facility, text.
    fn log(&mut self, level: i32, facility: &str, line: &str) {
        let _ = (level, facility, line);
    }

    /// An error of the client, which goes on unless it is fatal.
    fn error(&mut self, error: KafkaError, reason: &str, is_fatal: bool) {
        let _ = (error, reason, is_fatal);
    }

    /// librdkafka's statistics, every `statistics.interval.ms`, as JSON.
    fn statistics(&mut self, json: String) {
        let _ = json;
    }
}

/// A consumer that belongs to no group and commits nothing.
///
/// Fetching goes on in the background until librdkafka holds
/// `queued.min.messages` messages or `queued.max.messages.kbytes` kilobytes,
/// all partitions together; besides them there is one batch here.
///
/// Dropping it is [`stop`](Self::stop).
pub struct LocalConsumer {
    config: LocalConfig,
    signal: Arc<Signal>,
    /// `None` once it is stopped. The worker has it, too, and frees it.
    core: Mutex<Option<Arc<Core>>>,
    worker: ThreadId,
}

/// What librdkafka has of the consumer.
struct Core {
    messages: Queue,
    topic: NativeTopic,
    client: Arc<Client>,
    /// What was started; `None` once that is over.
    partitions: Mutex<Option<Vec<i32>>>,
}

/// What the worker and the others tell each other.
#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    /// Told to the worker.
    changed: Condvar,
    /// Told to who waits for the worker.
    reached: Condvar,
    /// Messages that were taken from librdkafka and not handed over.
    held: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Something is to be looked at.
    is_woken: bool,
    /// Since when messages wait.
    waiting: Option<Instant>,
    is_paused: bool,
    is_handing_over: bool,
    /// Batches that are not taken.
    ahead: usize,
    is_stopping: bool,
    has_ended: bool,
}

impl Signal {
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.is_woken = true;
        self.changed.notify_one();
    }
}

/// Tells the worker of one of its queues.
struct Bell {
    signal: Arc<Signal>,
    is_of_messages: bool,
}

impl WakeTarget for Bell {
    fn queue_has_work(&self) {
        self.signal.tell(|state| {
            if self.is_of_messages {
                state.waiting.get_or_insert_with(Instant::now);
            }
        });
    }
}

impl LocalConsumer {
    /// Opens the client: connections, log and statistics begin, fetching does
    /// not.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn open(config: LocalConfig, mut sink: impl LocalSink) -> Result<Self, Error> {
        let refused = |reason| Error::Client { reason };
        let (mut conf, warnings) = config.conf()?;
        conf.set_events(RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
        conf.set("log.queue", "true").map_err(refused)?;
        let component = format!("local:{}", config.topic);
        let client = Arc::new(Client::new(Kind::Consumer, conf, component).map_err(refused)?);
        let topic = config.native_topic(&client)?;
        let signal = Arc::new(Signal::default());
        let (mut events, mut messages) = (client.main_queue(), client.new_queue());
        for (queue, is_of_messages) in [(&mut events, false), (&mut messages, true)] {
            queue.wake(Arc::new(Bell {
                signal: Arc::clone(&signal),
                is_of_messages,
            }));
        }
        client.log_to(&events);
        let core = Arc::new(Core {
            messages,
            topic,
            client,
            partitions: Mutex::new(Some(Vec::new())),
        });
        let worker = Worker {
            batch: Vec::new(),
            events,
            core: Arc::clone(&core),
            signal: Arc::clone(&signal),
            topic: config.topic.clone(),
            limit: config.max_messages.max(1),
            linger: config.linger,
            ahead: config.batches_ahead.max(1),
        };
        let thread = std::thread::Builder::new()
            .name("local-consumer".to_owned())
            .spawn(move || {
                // Also when the sink panics; the worker goes first.
                let _ended = Ended(Arc::clone(&worker.signal));
                let mut worker = worker;
                for warning in warnings {
                    sink.log(WARNING, "CONFWARN", &warning);
                }
                worker.run(&mut sink);
            })
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            config,
            signal,
            core: Mutex::new(Some(core)),
            worker: thread.thread().id(),
        })
    }

    fn core(&self) -> Option<Arc<Core>> {
        self.core.lock().clone()
    }

    /// Begins to fetch partitions, each from an offset or one of librdkafka's
    /// positions (-2 the beginning, -1 the end, -1000 what the group
    /// `group.id` has committed). A partition that does not exist is waited
    /// for. Those that were started before go on as they are.
    ///
    /// # Errors
    /// A position that is none, or [`Error::Closed`].
    pub fn start(&self, positions: &[(i32, i64)]) -> Result<(), Error> {
        let core = self.core().ok_or(Error::Closed)?;
        let mut partitions = core.partitions.lock();
        let started = partitions.as_mut().ok_or(Error::Closed)?;
        for (partition, offset) in positions {
            if started.contains(partition) {
                continue;
            }
            match core
                .topic
                .start_fetching(*partition, *offset, &core.messages)
            {
                0 => started.push(*partition),
                code => return Err(KafkaError::from_raw(code).into()),
            }
        }
        Ok(())
    }

    /// Hands over nothing more until [`resume`](Self::resume). A hand-over
    /// under way is waited for, unless it is the sink that asks. Fetching
    /// goes on.
    pub fn pause(&self) {
        let mut state = self.signal.state.lock();
        state.is_paused = true;
        if std::thread::current().id() != self.worker {
            let signal = &self.signal;
            let is_busy = |state: &mut State| state.is_handing_over;
            signal.reached.wait_while(&mut state, is_busy);
        }
    }

    /// Hands over again; first of all what was held, in order.
    pub fn resume(&self) {
        self.signal.tell(|state| state.is_paused = false);
    }

    /// Says that a batch was taken, so that one more may be handed over.
    pub fn taken(&self) {
        self.signal.tell(|state| {
            state.ahead = state.ahead.saturating_sub(1);
        });
    }

    /// How many messages were taken from librdkafka, whose statistics do not
    /// count them, and are not handed over.
    pub fn held(&self) -> usize {
        self.signal.held.load(Ordering::Relaxed)
    }

    /// Where a partition's log began at the last fetch; asks nobody.
    pub fn log_start(&self, partition: i32) -> Option<i64> {
        let core = self.core()?;
        core.client.known_start(&self.config.topic, partition)
    }

    /// Asks a broker about a topic, which creates it where brokers do so;
    /// blocks up to `timeout`. Also when stopped, by a client for the moment.
    ///
    /// # Errors
    /// What librdkafka says about the brokers, or the name.
    pub fn view(&self, topic: &str, timeout: Duration) -> Result<ClusterView, Error> {
        let refused = |reason| Error::Client { reason };
        let core = self.core();
        let client = match &core {
            Some(core) => Arc::clone(&core.client),
            None => {
                let (conf, _) = self.config.conf()?;
                let client = Client::new(Kind::Consumer, conf, "metadata".to_owned());
                Arc::new(client.map_err(refused)?)
            }
        };
        // The consumer's own keeps its configuration.
        let own = topic == self.config.topic;
        let topic = match &core {
            None if own => self.config.native_topic(&client)?,
            _ => NativeTopic::new(&client, topic)
                .ok_or(KafkaError::from_code(ErrorCode::InvalidArgument))?,
        };
        let view = client.view(&topic, timeout);
        Ok(view.map_err(KafkaError::from_raw)?)
    }

    /// How many partitions its topic has, by [`view`](Self::view).
    ///
    /// # Errors
    /// Also what the broker says about the topic.
    pub fn partition_count(&self, timeout: Duration) -> Result<i32, Error> {
        let view = self.view(&self.config.topic, timeout)?;
        let mut topics = view.topics.into_iter();
        let topic = topics
            .find(|topic| topic.name == self.config.topic)
            .ok_or(KafkaError::from_code(ErrorCode::UnknownTopic))?;
        if topic.error != 0 {
            return Err(KafkaError::from_raw(topic.error).into());
        }
        Ok(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
    }

    /// Ends it: no hand-over begins after this, and what was fetched is
    /// dropped. Waits until the client is closed, a second at most, unless it
    /// is the sink that asks. Again is allowed.
    pub fn stop(&self) {
        drop(self.core.lock().take());
        self.signal.tell(|state| state.is_stopping = true);
        if std::thread::current().id() != self.worker {
            let mut state = self.signal.state.lock();
            let is_there = |state: &mut State| !state.has_ended;
            let signal = &self.signal;
            signal
                .reached
                .wait_while_for(&mut state, is_there, STOP_LIMIT);
        }
    }
}

impl Drop for LocalConsumer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says that the worker is gone, also when a sink has panicked.
struct Ended(Arc<Signal>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.has_ended = true;
        state.is_handing_over = false;
        self.0.reached.notify_all();
    }
}

/// The thread. The messages are declared before the client because they must
/// be freed before it.
struct Worker {
    batch: Vec<MessageBox>,
    events: Queue,
    core: Arc<Core>,
    signal: Arc<Signal>,
    topic: String,
    limit: usize,
    linger: Duration,
    ahead: usize,
}

impl Worker {
    fn run(&mut self, sink: &mut impl LocalSink) {
        loop {
            self.signal.state.lock().is_woken = false;
            // A queue tells once that it is no longer empty.
            while let Some(event) = self.events.poll(Duration::ZERO) {
                tell(&event, sink);
            }
            let until = self.collect(sink);
            let mut state = self.signal.state.lock();
            if state.is_stopping {
                return;
            }
            let is_idle = |state: &mut State| !state.is_woken;
            let changed = &self.signal.changed;
            match until {
                Some(until) => {
                    changed.wait_while_until(&mut state, is_idle, until);
                }
                None => changed.wait_while(&mut state, is_idle),
            }
        }
    }

    /// Takes what has come and hands it over if it is time. Returns when to
    /// look again although nobody says so.
    fn collect(&mut self, sink: &mut impl LocalSink) -> Option<Instant> {
        loop {
            let since = {
                let mut state = self.signal.state.lock();
                if state.is_paused || state.is_stopping || state.ahead >= self.ahead {
                    return None;
                }
                state.waiting.take()
            };
            let has_more = self.take();
            self.signal.held.store(self.batch.len(), Ordering::Relaxed);
            if self.batch.is_empty() {
                return None;
            }
            let since = since.unwrap_or_else(Instant::now);
            let due = since + self.linger;
            let is_full = self.batch.len() >= self.limit;
            if !is_full && Instant::now() < due {
                self.wait_since(since);
                return Some(due);
            }
            if !self.hand_over(sink) {
                self.wait_since(since);
                return None;
            }
            if has_more {
                // What is left has waited as long.
                self.wait_since(since);
            }
        }
    }

    /// Takes what has come, up to a full batch; whether there may be more.
    fn take(&mut self) -> bool {
        loop {
            let room = self.limit.saturating_sub(self.batch.len());
            let wanted = room.min(TAKEN_AT_ONCE);
            let came = self.core.messages.take_batch(wanted, &mut self.batch);
            if came < wanted || self.batch.len() >= self.limit {
                return came == wanted;
            }
        }
    }

    fn wait_since(&self, since: Instant) {
        self.signal.state.lock().waiting = Some(since);
    }

    /// False if that is not wanted any more.
    fn hand_over(&mut self, sink: &mut impl LocalSink) -> bool {
        {
            let mut state = self.signal.state.lock();
            if state.is_paused || state.is_stopping {
                return false;
            }
            state.is_handing_over = true;
            state.ahead += 1;
        }
        sink.batch(&LocalBatch {
            topic: &self.topic,
            messages: &self.batch,
            client: &self.core.client,
        });
        self.batch.clear();
        self.signal.held.store(0, Ordering::Relaxed);
        self.signal.state.lock().is_handing_over = false;
        self.signal.reached.notify_all();
        true
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.batch.clear();
        let partitions = self.core.partitions.lock().take();
        for partition in partitions.unwrap_or_default() {
            self.core.topic.stop_fetching(partition);
        }
    }
}

fn tell(event: &Event, sink: &mut impl LocalSink) {
    match event.kind() {
        EventKind::Log => {
            if let Some((level, facility, line)) = event.log_line() {
                sink.log(level, &facility, &line);
            }
        }
        EventKind::Error => {
            let error = KafkaError::from_raw(event.error());
            sink.error(error, &event.error_text(), event.is_fatal());
        }
        EventKind::Statistics => sink.statistics(event.statistics()),
        _ => {}
    }
}
