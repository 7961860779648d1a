//! The records of one request that are under way, and who waits for them.

use super::dead_letters;
use super::engine::Topic;
use super::reply::message_production;
use super::state::State;
use barnabas_engine::{Delivery, DeliverySink, KafkaError, Stored, Undelivered};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

/// Outlives its request: a client that hangs up withdraws nothing.
pub(super) struct Batch {
    state: Arc<State>,
    topics: Vec<Arc<Topic>>,
    waits: bool,
    /// What each record has in its headers.
    header_bytes: u64,
    handed_over: Instant,
    /// Records that have no report yet, and one more until all are handed
    /// over.
    left: AtomicUsize,
    /// Index and topic of each, and why.
    failed: Mutex<Vec<(Number, KafkaError)>>,
    settled: Notify,
}

/// A record of a batch as a number that librdkafka gives back.
pub(super) struct Number {
    /// Which of the request's.
    pub(super) index: usize,
    /// Which of the batch's topics.
    pub(super) topic: usize,
}

/// Requests have fewer records than this.
const INDEX_BITS: u32 = 32;

impl Number {
    pub(super) fn pack(&self) -> u64 {
        (self.topic as u64) << INDEX_BITS | self.index as u64
    }

    pub(super) fn unpack(number: u64) -> Self {
        let part = |bits: u64| usize::try_from(bits).unwrap_or(usize::MAX);
        Self {
            index: part(number & u64::from(u32::MAX)),
            topic: part(number >> INDEX_BITS),
        }
    }
}

impl Batch {
    /// Of `count` records to these topics, none of them handed over yet.
    pub(super) fn new(
        state: &Arc<State>,
        topics: Vec<Arc<Topic>>,
        waits: bool,
        header_bytes: u64,
        count: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Arc::clone(state),
            topics,
            waits,
            header_bytes,
            handed_over: Instant::now(),
            left: AtomicUsize::new(count + 1),
            failed: Mutex::default(),
            settled: Notify::new(),
        })
    }

    /// All are handed over, but for so many that were refused.
    pub(super) fn close(&self, refused: usize) {
        self.finish(refused + 1);
    }

    fn finish(&self, records: usize) {
        if self.left.fetch_sub(records, Ordering::AcqRel) == records && self.waits {
            self.settled.notify_one();
        }
    }

    /// Waits until each record has its report: the failed ones.
    pub(super) async fn settled(&self) -> Vec<(Number, KafkaError)> {
        // Told once, whether anybody was waiting by then or not.
        self.settled.notified().await;
        std::mem::take(&mut *self.failed.lock())
    }

    fn fail(&self, number: Number, topic: &Topic, error: KafkaError) {
        let error = topic.learn(self.waits, error);
        let text = message_production(error);
        let name = &*topic.name;
        tracing::error!(
            component = "kprf",
            topic = name,
            error = text,
            "got error when tried to send message"
        );
        let metrics = &self.state.metrics;
        metrics.failed(&topic.series, error.number(), 1);
        if self.waits {
            self.failed.lock().push((number, error));
        }
    }
}

impl DeliverySink for Batch {
    fn settled(&self, number: u64, bytes: u64, result: Result<Delivery, Undelivered<'_>>) {
        let number = Number::unpack(number);
        let now = Instant::now();
        let mut is_settled = true;
        if let Some(topic) = self.topics.get(number.topic) {
            let after = now.saturating_duration_since(self.handed_over);
            topic.series.reported(1, after);
            if let Err(undelivered) = result {
                self.fail(number, topic, undelivered.error);
                // Who waits is told, and decides.
                let Undelivered { record, error, .. } = undelivered;
                let is_kept = || {
                    let header_bytes = self.header_bytes;
                    dead_letters::send(&self.state, topic, (record, error), header_bytes)
                };
                is_settled = self.waits || !is_kept();
            }
        }
        if is_settled {
            let bytes = bytes + self.header_bytes;
            self.state.admission.release(1, bytes, now);
        }
        self.finish(1);
    }
    fn stored(&self, records: &[Stored]) {
        let now = Instant::now();
        let after = now.saturating_duration_since(self.handed_over);
        let topic = |record: &Stored| Number::unpack(record.number).topic;
        for run in records.chunk_by(|one, other| topic(one) == topic(other)) {
            let topic = run.first().and_then(|first| self.topics.get(topic(first)));
            if let Some(topic) = topic {
                topic.series.reported(run.len(), after);
            }
        }
        let count = records.len() as u64;
        let bytes: u64 = records.iter().map(|record| record.bytes).sum();
        let bytes = bytes + count * self.header_bytes;
        self.state.admission.release(count, bytes, now);
        self.finish(records.len());
    }
}
