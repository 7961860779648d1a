//! The handle of a producer.

use crate::mailbox::Mailbox;
use crate::metadata::Question;
use crate::said::Said;
use crate::{config, frames};
use barnabas_engine::{
    DirectObserver, DirectOutcome, DirectProducer, DirectRecord, Draining, KafkaError,
};
use napi::bindgen_prelude::{AsyncTask, Float64Array, Function, Int32Array};
use napi::{Error, Result, Status};
use napi_derive::napi;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What a producer has to say.
#[derive(Default)]
struct News {
    said: Said,
    statistics: Option<String>,
    ended: BTreeMap<i32, Ended>,
    results: Vec<(u32, Vec<DirectOutcome>)>,
    is_drained: bool,
}

struct Ear {
    mailbox: Mailbox<News>,
}

impl DirectObserver for Ear {
    fn log(&self, level: i32, facility: &str, text: &str) {
        self.mailbox
            .put(|news| news.said.log(level, facility, text));
    }

    fn error(&self, error: KafkaError, reason: &str, is_fatal: bool) {
        self.mailbox
            .put(|news| news.said.error(error.number(), reason, is_fatal));
    }

    fn statistics(&self, json: String) {
        self.mailbox.put(|news| news.statistics = Some(json));
    }

    fn ended(&self, error: KafkaError, messages: u64) {
        self.mailbox.put(|news| {
            let ended = news.ended.entry(error.number()).or_insert_with(|| Ended {
                errcode: error.number(),
                count: 0.0,
                errstr: error.text(),
            });
            ended.count += number(messages);
        });
    }

    fn drained(&self) {
        self.mailbox.put(|news| news.is_drained = true);
    }
}

/// Messages that have ended with the same code.
#[napi(object)]
pub struct Ended {
    /// The code; 0 is success.
    pub errcode: i32,
    /// How many.
    pub count: f64,
    /// Its text.
    pub errstr: String,
}

/// A message that was not taken, or not delivered.
#[napi(object)]
pub struct Failure {
    /// Its index in the call.
    pub index: u32,
    /// The code.
    pub errcode: i32,
    /// Its text.
    pub errstr: String,
}

/// What became of the messages of one call.
#[napi(object)]
pub struct Results {
    /// The call's number.
    pub id: u32,
    /// The partition of each message.
    pub partitions: Int32Array,
    /// The offset of each.
    pub offsets: Float64Array,
    /// The time of each, -1: Kafka has not told.
    pub timestamps: Float64Array,
    /// Those that failed.
    pub errors: Vec<Failure>,
}

/// Everything that has gathered since it was asked for last.
#[napi(object)]
pub struct ProducerNews {
    /// Log lines and errors.
    pub said: Said,
    /// librdkafka's statistics as JSON.
    pub statistics: Option<String>,
    /// Messages that have ended, by code, ascending.
    pub ended: Vec<Ended>,
    /// Calls whose messages have all ended.
    pub results: Vec<Results>,
    /// Whether nothing is outstanding.
    #[napi(js_name = "is_drained")]
    pub is_drained: bool,
}

/// What became of a call.
#[napi(object)]
pub struct Queued {
    /// Messages taken.
    pub queued: u32,
    /// Messages that are neither delivered nor given up.
    #[napi(js_name = "queue_length")]
    pub queue_length: f64,
}

/// The same, message by message.
#[napi(object)]
pub struct Tried {
    /// Messages taken.
    pub queued: u32,
    /// Messages that are neither delivered nor given up.
    #[napi(js_name = "queue_length")]
    pub queue_length: f64,
    /// Those not taken.
    pub errors: Vec<Failure>,
}

/// A producer; `lib/producer.js` has what its users see.
#[napi]
pub struct NativeProducer {
    // Locked instead of borrowed: while a question is under way, Node's object
    // is borrowed.
    producer: Mutex<Option<Arc<DirectProducer>>>,
    draining: Mutex<Option<Draining>>,
    ear: Arc<Ear>,
    closing: Mutex<Option<JoinHandle<()>>>,
}

#[napi]
impl NativeProducer {
    /// `driver` and `topics` are names and values in turn.
    #[napi(constructor)]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn new(
        driver: Vec<String>,
        topics: Vec<String>,
        has_statistics: bool,
        wake: Function<'_, (), ()>,
    ) -> Result<Self> {
        let ear = Arc::new(Ear {
            mailbox: Mailbox::new(&wake)?,
        });
        let (config, warnings) = config::of_producer(driver, topics, has_statistics);
        for warning in warnings {
            ear.mailbox.put(|news| news.said.warn(&warning));
        }
        let observer: Arc<dyn DirectObserver> = Arc::clone(&ear) as _;
        match DirectProducer::start(config, observer) {
            Ok(producer) => Ok(Self {
                producer: Mutex::new(Some(Arc::new(producer))),
                draining: Mutex::default(),
                ear,
                closing: Mutex::default(),
            }),
            Err(refusal) => {
                ear.mailbox.close();
                Err(Error::from_reason(refusal.0))
            }
        }
    }

    /// Takes what has gathered.
    #[napi]
    pub fn take(&self) -> ProducerNews {
        let news = self.ear.mailbox.take();
        ProducerNews {
            said: news.said,
            statistics: news.statistics,
            ended: news.ended.into_values().collect(),
            results: news
                .results
                .into_iter()
                .map(|(id, outcomes)| results(id, &outcomes))
                .collect(),
            is_drained: news.is_drained,
        }
    }

    /// Produces values: the bytes of all, and the length of each.
    #[napi]
    pub fn send_values(
        &self,
        topic: String,
        partition: i32,
        bytes: &[u8],
        lengths: &[u32],
        count: u32,
    ) -> Result<Queued> {
        let producer = self.producer()?;
        let queued = producer
            .send_values(&topic, partition, values(bytes, lengths, count)?)
            .map_err(refused)?;
        Ok(Queued {
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            queue_length: number(producer.outstanding()),
        })
    }

    /// Produces records; what is not taken is told.
    #[napi]
    pub fn send_records(
        &self,
        topic: String,
        partition: i32,
        bytes: &[u8],
        used: u32,
    ) -> Result<Tried> {
        let producer = self.producer()?;
        let mut errors = Vec::new();
        let queued = producer
            .send(&topic, partition, &records(bytes, used)?, |index, error| {
                errors.push(failure(index, error));
            })
            .map_err(refused)?;
        Ok(Tried {
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            queue_length: number(producer.outstanding()),
            errors,
        })
    }

    /// Produces values and tells what became of them as the results of `id`.
    #[napi]
    pub fn submit_values(
        &self,
        id: u32,
        topic: String,
        partition: i32,
        bytes: &[u8],
        lengths: &[u32],
        count: u32,
    ) -> Result<()> {
        let records = frames::of_values(values(bytes, lengths, count)?);
        self.submit(id, &topic, partition, &records)
    }

    /// The same with records.
    #[napi]
    pub fn submit_records(
        &self,
        id: u32,
        topic: String,
        partition: i32,
        bytes: &[u8],
        used: u32,
    ) -> Result<()> {
        self.submit(id, &topic, partition, &records(bytes, used)?)
    }

    /// Messages that are neither delivered nor given up.
    #[napi]
    pub fn outstanding(&self) -> Result<f64> {
        Ok(number(self.producer()?.outstanding()))
    }

    /// Lets messages leave at once until `stop_draining`; the news tell when
    /// nothing is outstanding.
    #[napi]
    pub fn drain(&self) -> Result<()> {
        let draining = self.producer()?.drain();
        let draining = draining.map_err(|error| Error::from_reason(error.to_string()))?;
        *self.draining.lock() = Some(draining);
        Ok(())
    }

    /// The end of `drain`.
    #[napi]
    pub fn stop_draining(&self) {
        *self.draining.lock() = None;
    }

    /// Asks a broker about a topic.
    #[napi]
    pub fn metadata(&self, topic: String) -> Result<AsyncTask<Question>> {
        let viewer = self.producer()?.viewer();
        let ask = move |patience| viewer.view(&topic, patience);
        Ok(AsyncTask::new(Question::new(ask)))
    }

    /// Closes the client, beside the event loop, which it keeps alive no
    /// longer. Does nothing the second time.
    #[napi]
    pub fn close(&self) {
        self.stop_draining();
        self.ear.mailbox.close();
        if let Some(producer) = self.producer.lock().take() {
            // Without another thread it is dropped here.
            let close = std::thread::Builder::new().name("direct-close".to_owned());
            *self.closing.lock() = close.spawn(move || drop(producer)).ok();
        }
    }

    /// Whether it is closed.
    #[napi(getter)]
    pub fn is_closed(&self) -> bool {
        self.producer.lock().is_none()
    }
}

impl NativeProducer {
    fn producer(&self) -> Result<Arc<DirectProducer>> {
        let producer = self.producer.lock();
        producer
            .clone()
            .ok_or_else(|| Error::from_reason("already shutdown"))
    }

    fn submit(
        &self,
        id: u32,
        topic: &str,
        partition: i32,
        records: &[DirectRecord<'_>],
    ) -> Result<()> {
        let ear = Arc::clone(&self.ear);
        let sink = move |outcomes| {
            ear.mailbox.put(|news| news.results.push((id, outcomes)));
        };
        let submitted = self
            .producer()?
            .submit(topic, partition, records, Box::new(sink));
        submitted.map_err(refused)
    }
}

impl Drop for NativeProducer {
    /// Waits until the client's threads have ended: when the process or the
    /// worker ends, nothing of it may run on.
    fn drop(&mut self) {
        self.close();
        let closing = self.closing.lock().take();
        if let Some(closing) = closing {
            let _ = closing.join();
        }
    }
}

fn values<'a>(bytes: &'a [u8], lengths: &'a [u32], count: u32) -> Result<frames::Values<'a>> {
    let lengths = lengths.get(..count as usize);
    lengths
        .and_then(|lengths| frames::Values::new(bytes, lengths))
        .ok_or_else(malformed)
}

fn records(bytes: &[u8], used: u32) -> Result<Vec<DirectRecord<'_>>> {
    let bytes = bytes.get(..used as usize);
    bytes.and_then(frames::records).ok_or_else(malformed)
}

fn malformed() -> Error {
    Error::new(Status::InvalidArg, "malformed records".to_owned())
}

fn refused(refusal: barnabas_engine::Refusal) -> Error {
    Error::from_reason(refusal.0)
}

fn failure(index: usize, error: KafkaError) -> Failure {
    Failure {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        errcode: error.number(),
        errstr: error.text(),
    }
}

fn results(id: u32, outcomes: &[DirectOutcome]) -> Results {
    let partitions: Vec<i32> = outcomes.iter().map(|outcome| outcome.partition).collect();
    let offsets: Vec<f64> = outcomes
        .iter()
        .map(|outcome| signed(outcome.offset))
        .collect();
    let timestamps: Vec<f64> = outcomes
        .iter()
        .map(|outcome| signed(outcome.timestamp.unwrap_or(-1)))
        .collect();
    let errors = outcomes.iter().enumerate();
    let errors = errors
        .filter_map(|(index, outcome)| Some(failure(index, outcome.error?)))
        .collect();
    Results {
        id,
        partitions: partitions.into(),
        offsets: offsets.into(),
        timestamps: timestamps.into(),
        errors,
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "JavaScript's numbers are exact up to 2^53"
)]
fn number(count: u64) -> f64 {
    count as f64
}

#[allow(
    clippy::cast_precision_loss,
    reason = "JavaScript's numbers are exact up to 2^53"
)]
fn signed(count: i64) -> f64 {
    count as f64
}
