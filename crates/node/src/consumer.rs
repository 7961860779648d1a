//! The handle of a consumer.

use crate::batches::{Batch, Gathered};
use crate::config::pairs;
use crate::mailbox::Mailbox;
use crate::metadata::Question;
use crate::progress::whole;
use crate::said::Said;
use barnabas_engine::{
    Error as EngineError, KafkaError, LocalBatch, LocalConfig, LocalConsumer, LocalSink,
    Properties, Refusal, ViewError,
};
use napi::bindgen_prelude::{AsyncTask, Function};
use napi::{Error, Result};
use napi_derive::napi;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What a consumer has to say. Batches are few: the engine hands over no more
/// than may be ahead.
#[derive(Default)]
struct News {
    batches: Vec<Gathered>,
    said: Said,
    statistics: Option<String>,
}

struct Ear {
    mailbox: Mailbox<News>,
}

/// The engine's way to the mailbox.
struct Sink {
    ear: Arc<Ear>,
    is_extended: bool,
}

impl LocalSink for Sink {
    fn batch(&mut self, batch: &LocalBatch<'_>) {
        let gathered = Gathered::new(batch, self.is_extended);
        self.ear.mailbox.put(|news| news.batches.push(gathered));
    }

    fn log(&mut self, level: i32, facility: &str, line: &str) {
        self.ear
            .mailbox
            .put(|news| news.said.log(level, facility, line));
    }

    fn error(&mut self, error: KafkaError, reason: &str, is_fatal: bool) {
        self.ear
            .mailbox
            .put(|news| news.said.error(error.number(), reason, is_fatal));
    }

    fn statistics(&mut self, json: String) {
        self.ear.mailbox.put(|news| news.statistics = Some(json));
    }
}

/// How a consumer hands over.
#[napi(object)]
pub struct ConsumerSettings {
    /// Messages of a batch, at most.
    pub max_messages: u32,
    /// Milliseconds for which a batch waits for more.
    pub linger_ms: f64,
    /// Whether somebody wants statistics.
    pub has_statistics: bool,
    /// Whether the ends of partitions are told.
    pub has_end_marks: bool,
    /// Whether timestamps, headers and log starts are wanted.
    pub is_extended: bool,
}

/// Everything that has gathered since it was asked for last.
#[napi(object)]
pub struct ConsumerNews {
    /// Batches, in order.
    pub batches: Vec<Batch>,
    /// Log lines and errors.
    pub said: Said,
    /// librdkafka's statistics as JSON.
    pub statistics: Option<String>,
}

/// A consumer; `lib/consumer.js` has what its users see.
#[napi]
pub struct NativeConsumer {
    consumer: Arc<LocalConsumer>,
    ear: Arc<Ear>,
    /// Locked instead of borrowed: while a question is under way, Node's
    /// object is borrowed.
    closing: Mutex<Closing>,
}

/// How far the end has come.
#[derive(Default)]
struct Closing {
    has_begun: bool,
    thread: Option<JoinHandle<()>>,
}

#[napi]
impl NativeConsumer {
    /// `driver` and `of_topic` are names and values in turn.
    #[napi(constructor)]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn new(
        topic: String,
        driver: Vec<String>,
        of_topic: Vec<String>,
        settings: ConsumerSettings,
        wake: Function<'_, (), ()>,
    ) -> Result<Self> {
        let ear = Arc::new(Ear {
            mailbox: Mailbox::new(&wake)?,
        });
        let sink = Sink {
            ear: Arc::clone(&ear),
            is_extended: settings.is_extended,
        };
        let config = configured(topic, driver, of_topic, &settings);
        match LocalConsumer::open(config, sink) {
            Ok(consumer) => Ok(Self {
                consumer: Arc::new(consumer),
                ear,
                closing: Mutex::default(),
            }),
            Err(error) => {
                ear.mailbox.close();
                Err(Error::from_reason(words(&error)))
            }
        }
    }

    /// Takes what has gathered.
    #[napi]
    pub fn take(&self) -> ConsumerNews {
        let news = self.ear.mailbox.take();
        ConsumerNews {
            batches: news.batches.into_iter().map(Batch::from).collect(),
            said: news.said,
            statistics: news.statistics,
        }
    }

    /// Says that a batch was taken: one more may be gathered.
    #[napi]
    pub fn taken(&self) {
        self.consumer.taken();
    }

    /// Begins to fetch: partitions and offsets in turn.
    ///
    /// # Errors
    /// librdkafka's words about an offset that is none.
    #[napi]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn start(&self, in_turn: Vec<f64>) -> Result<()> {
        let (pairs, _) = in_turn.as_chunks::<2>();
        let positions: Vec<(i32, i64)> = pairs
            .iter()
            .map(|[partition, offset]| {
                let partition = i32::try_from(whole(*partition)).unwrap_or(-1);
                (partition, whole(*offset))
            })
            .collect();
        let started = self.consumer.start(&positions);
        started.map_err(|error| Error::from_reason(words(&error)))
    }

    /// Messages that librdkafka has handed over, and that did not get here.
    #[napi]
    pub fn held(&self) -> u32 {
        u32::try_from(self.consumer.held()).unwrap_or(u32::MAX)
    }

    /// Asks a broker about a topic; also when closed.
    #[napi]
    pub fn metadata(&self, topic: String) -> AsyncTask<Question> {
        let consumer = Arc::clone(&self.consumer);
        let ask = move |patience: Duration| {
            let view = consumer.view(&topic, patience);
            view.map_err(|error| ViewError::from(Refusal(words(&error))))
        };
        AsyncTask::new(Question::new(ask))
    }

    /// Ends it, beside the event loop, which it keeps alive no longer. Does
    /// nothing the second time.
    #[napi]
    pub fn close(&self) {
        let mut closing = self.closing.lock();
        if std::mem::replace(&mut closing.has_begun, true) {
            return;
        }
        self.ear.mailbox.close();
        let consumer = Arc::clone(&self.consumer);
        // Without another thread it ends here.
        let close = std::thread::Builder::new().name("local-close".to_owned());
        match close.spawn(move || consumer.stop()) {
            Ok(thread) => closing.thread = Some(thread),
            Err(_) => self.consumer.stop(),
        }
    }

    /// Whether it is closed.
    #[napi(getter)]
    pub fn is_closed(&self) -> bool {
        self.closing.lock().has_begun
    }
}

impl Drop for NativeConsumer {
    /// Waits until the client's threads have ended: when the process or the
    /// worker ends, nothing of it may run on.
    fn drop(&mut self) {
        self.close();
        let thread = self.closing.lock().thread.take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn configured(
    topic: String,
    driver: Vec<String>,
    of_topic: Vec<String>,
    settings: &ConsumerSettings,
) -> LocalConfig {
    let mut client: Properties = pairs(driver).into_iter().collect();
    let of_topic = pairs(of_topic).into_iter().collect();
    let interval = "statistics.interval.ms";
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    // A value that librdkafka would refuse is still refused.
    if !settings.has_statistics && client.get(interval).is_some_and(is_number) {
        client.set(interval, "0");
    }
    let linger = Duration::try_from_secs_f64(settings.linger_ms / 1_000.0);
    LocalConfig {
        of_topic,
        max_messages: settings.max_messages as usize,
        linger: linger.unwrap_or_default(),
        has_end_marks: settings.has_end_marks,
        ..LocalConfig::new(topic, client)
    }
}

/// librdkafka's own words, where the engine has others.
pub(crate) fn words(error: &EngineError) -> String {
    match error {
        EngineError::UnknownProperty { name, .. } => {
            format!("No such configuration property: \"{name}\"")
        }
        EngineError::InvalidValue { reason, .. } => reason.clone(),
        EngineError::Closed => "already shutdown".to_owned(),
        other => other.to_string(),
    }
}
