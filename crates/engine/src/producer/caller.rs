//! One user of a shared producer, and the account of its messages.

use super::receivers::BATCH;
use super::topic::{State, Topic, WaitingRecord};
use super::{Producer, Record};
use crate::error::{ErrorCode, KafkaError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A missing topic is asked for again at most this often on behalf of
/// callers that were already told.
pub(super) const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Unknown topics that a caller remembers having sent to.
const REMEMBERED_ATTEMPTS: usize = 1_000;

/// How much of a caller may be undelivered at any time, so that one caller
/// cannot fill the queue that all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerLimits {
    /// Messages.
    pub messages: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Default for CallerLimits {
    /// 100,000 messages and 64 MiB.
    fn default() -> Self {
        Self {
            messages: 100_000,
            bytes: 64 << 20,
        }
    }
}

/// What became of a caller's messages so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerReport {
    /// Taken over.
    pub accepted: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// Given up.
    pub failed: u64,
    /// Neither yet.
    pub outstanding: u64,
    /// Why the last failed message failed.
    pub last_error: Option<KafkaError>,
}

/// The shared half of a caller: what the delivery thread writes to.
#[derive(Default)]
pub(super) struct Account {
    outstanding: AtomicU64,
    outstanding_bytes: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    somebody_waits: AtomicBool,
    settled: Notify,
    last_error: Mutex<Option<KafkaError>>,
}

impl Account {
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Acquire)
    }

    fn charge(&self, messages: u64, bytes: u64) {
        self.outstanding.fetch_add(messages, Ordering::AcqRel);
        self.outstanding_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn take_back(&self, messages: u64, bytes: u64) {
        self.outstanding_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.outstanding.fetch_sub(messages, Ordering::AcqRel);
    }

    /// Books the end of messages: `failed` of `messages` were not delivered.
    pub(super) fn settle(&self, messages: u64, bytes: u64, failed: u64, error: Option<KafkaError>) {
        self.delivered
            .fetch_add(messages.saturating_sub(failed), Ordering::Relaxed);
        if failed > 0 {
            self.failed.fetch_add(failed, Ordering::Relaxed);
            *self.last_error.lock() = error;
        }
        self.take_back(messages, bytes);
        if self.somebody_waits.load(Ordering::Acquire) {
            self.settled.notify_waiters();
        }
    }
}

/// One user of a producer, for example a client connection. Its messages to
/// one partition keep their order, and it can wait for exactly its own.
///
/// Dropping a caller withdraws nothing: what was accepted is still sent.
/// Messages that are undelivered five seconds later are counted in
/// [`ProducerStatistics::unflushed`](crate::ProducerStatistics).
pub struct Caller {
    producer: Producer,
    account: Arc<Account>,
    slot: usize,
    limits: CallerLimits,
    accepted: u64,
    refused: Vec<(usize, KafkaError)>,
    /// Topics that this caller has sent to before they were known, with the
    /// topic's count of absences at that time.
    attempts: HashMap<String, u64>,
}

/// The outcome of [`Caller::send`].
#[derive(Debug)]
pub struct Sent<'a> {
    /// How many records were taken over.
    pub accepted: usize,
    /// Index and reason of each record that was not, ascending. After a
    /// "queue full" all later records are refused with it too, so that the
    /// order can be kept by sending again from the first one.
    pub refused: &'a [(usize, KafkaError)],
}

impl Sent<'_> {
    /// The index of the first record that found no room.
    pub fn first_without_room(&self) -> Option<usize> {
        self.refused
            .iter()
            .find(|(_, error)| error.is(ErrorCode::QueueFull))
            .map(|(index, _)| *index)
    }
}

impl Caller {
    pub(super) fn new(producer: Producer, limits: CallerLimits) -> Self {
        let account = Arc::new(Account::default());
        let slot = producer
            .shared
            .accounts
            .write()
            .insert(Arc::clone(&account));
        Self {
            producer,
            account,
            slot,
            limits,
            accepted: 0,
            refused: Vec::new(),
            attempts: HashMap::new(),
        }
    }

    /// The topic of that name, for [`send`](Self::send).
    ///
    /// # Errors
    /// "Local: Invalid argument or configuration" for an empty name,
    /// "Broker: Invalid topic" for one that Kafka forbids.
    pub fn topic(&self, name: &[u8]) -> Result<Arc<Topic>, KafkaError> {
        self.producer.topic(name)
    }

    /// Hands records over, in order; never waits. Accepted means in memory,
    /// on its way; the broker's word comes later, see [`report`](Self::report).
    ///
    /// A topic that is not known is asked for (and thereby created where
    /// brokers create topics on use) while its messages wait. If it turns out
    /// not to exist they fail, and further records of *this* caller are
    /// refused with "Local: Unknown topic" until it does; the cluster is
    /// asked again at most once a second.
    pub fn send<'a>(
        &mut self,
        topic: &Arc<Topic>,
        records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    ) -> Sent<'_> {
        self.refused.clear();
        let total = records.len();
        let room = self.room(records.clone());
        let accepted = match topic.state() {
            State::Known => self.hand_over(topic, records.take(room)),
            State::Unresolved | State::Missing => self.keep(topic, records.take(room)),
        };
        let full = KafkaError::from_code(ErrorCode::QueueFull);
        self.refused
            .extend((room..total).map(|index| (index, full)));
        self.accepted += accepted as u64;
        self.producer
            .shared
            .counters
            .accepted
            .fetch_add(accepted as u64, Ordering::Relaxed);
        Sent {
            accepted,
            refused: &self.refused,
        }
    }

    /// How many of the records the limits allow now.
    fn room<'a>(&self, records: impl ExactSizeIterator<Item = Record<'a>>) -> usize {
        let messages = self
            .limits
            .messages
            .saturating_sub(self.account.outstanding());
        let mut bytes = self
            .limits
            .bytes
            .saturating_sub(self.account.outstanding_bytes.load(Ordering::Acquire));
        let total = records.len();
        let mut count = 0;
        for record in records {
            let size = record.bytes();
            // A single record larger than the limit passes when nothing else
            // is outstanding; the broker's own limit decides then.
            if size > bytes && (count > 0 || bytes < self.limits.bytes) {
                break;
            }
            bytes = bytes.saturating_sub(size);
            count += 1;
        }
        count.min(usize::try_from(messages).unwrap_or(total))
    }

    fn hand_over<'a>(
        &mut self,
        topic: &Topic,
        records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    ) -> usize {
        let Some(native) = topic.native() else {
            return 0;
        };
        let count = records.len();
        let bytes: u64 = records.clone().map(|record| record.bytes()).sum();
        // Charged before librdkafka has them: the delivery thread may report
        // a message before this call returns.
        self.account.charge(count as u64, bytes);
        let slot = self.slot;
        let mut refused_bytes = 0;
        let taken = BATCH.with_borrow_mut(|batch| {
            let taken = batch.produce(
                &native,
                records
                    .clone()
                    .map(|record| (record.key, record.value, super::opaque_of_slot(slot))),
            );
            if taken < count {
                for (index, record) in records.enumerate() {
                    let code = batch.error(index);
                    if code != 0 {
                        refused_bytes += record.bytes();
                        self.refused.push((index, KafkaError::from_raw(code)));
                    }
                }
            }
            taken
        });
        if taken < count {
            self.account
                .take_back(self.refused.len() as u64, refused_bytes);
            let shared = &self.producer.shared;
            if self
                .refused
                .iter()
                .any(|(_, error)| shared.is_of_absence(*error))
            {
                shared.topic_is_gone(topic.name());
            }
            topic.follow(shared);
        }
        taken
    }

    /// Keeps records of a topic that is not known (yet).
    fn keep<'a>(
        &mut self,
        topic: &Arc<Topic>,
        records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    ) -> usize {
        let absences = topic.absences();
        if self.attempts.len() >= REMEMBERED_ATTEMPTS && !self.attempts.contains_key(topic.name()) {
            // Their next message is taken once more before it is refused.
            self.attempts.clear();
        }
        let first_absences = *self
            .attempts
            .entry(topic.name().to_owned())
            .or_insert(absences);
        let mut waiting = topic.waiting();
        let was_told = absences > first_absences;
        match topic.state() {
            State::Known => {
                drop(waiting);
                return self.hand_over(topic, records);
            }
            State::Missing | State::Unresolved if was_told => {
                let reason = waiting
                    .reason
                    .unwrap_or(KafkaError::from_code(ErrorCode::UnknownTopic));
                let due = waiting
                    .asked
                    .is_none_or(|asked| asked.elapsed() >= RECHECK_INTERVAL);
                if due && !waiting.lookup_is_running {
                    self.producer.shared.look_up(topic, &mut waiting);
                }
                self.refused
                    .extend((0..records.len()).map(|index| (index, reason)));
                return 0;
            }
            State::Missing => topic.set_state(&mut waiting, State::Unresolved),
            State::Unresolved => {}
        }
        if !waiting.lookup_is_running {
            self.producer.shared.look_up(topic, &mut waiting);
        }
        let now = Instant::now();
        let mut kept = 0;
        let total = records.len();
        for (index, record) in records.enumerate() {
            let bytes = record.bytes();
            if self.producer.shared.is_too_large(bytes) {
                let error = KafkaError::from_code(ErrorCode::MessageSizeTooLarge);
                self.refused.push((index, error));
                continue;
            }
            let Some(room) = self.producer.shared.waiting_rooms.take(bytes) else {
                let full = KafkaError::from_code(ErrorCode::QueueFull);
                self.refused
                    .extend((index..total).map(|index| (index, full)));
                break;
            };
            self.account.charge(1, bytes);
            waiting.records.push(WaitingRecord {
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                slot: self.slot,
                accepted: now,
                _room: room,
            });
            kept += 1;
        }
        kept
    }

    /// Whether anything was ever accepted.
    pub fn has_produced(&self) -> bool {
        self.accepted > 0
    }

    /// How many messages are neither delivered nor given up.
    pub fn outstanding(&self) -> u64 {
        self.account.outstanding()
    }

    /// Waits until none is outstanding, without waiting for `linger.ms`.
    /// Cancelling loses nothing.
    pub async fn settled(&self) {
        if self.account.outstanding() == 0 {
            return;
        }
        let _flushing = self.producer.shared.flushing();
        self.wait(|account| account.outstanding() == 0).await;
    }

    /// Waits until there may be room again after a "queue full". Cancelling
    /// loses nothing.
    pub async fn room_again(&self) {
        let limits = self.limits;
        let below = move |account: &Account| {
            account.outstanding() < limits.messages
                && account.outstanding_bytes.load(Ordering::Acquire) < limits.bytes
        };
        if below(&self.account) {
            // It was the shared queue that was full.
            self.producer.room_again().await;
        } else {
            self.wait(below).await;
        }
    }

    async fn wait(&self, done: impl Fn(&Account) -> bool) {
        loop {
            let settled = self.account.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            self.account.somebody_waits.store(true, Ordering::Release);
            if done(&self.account) {
                self.account.somebody_waits.store(false, Ordering::Release);
                return;
            }
            settled.await;
        }
    }

    /// What became of this caller's messages so far.
    pub fn report(&self) -> CallerReport {
        CallerReport {
            accepted: self.accepted,
            delivered: self.account.delivered.load(Ordering::Relaxed),
            failed: self.account.failed.load(Ordering::Relaxed),
            outstanding: self.account.outstanding(),
            last_error: *self.account.last_error.lock(),
        }
    }

    /// The producer it uses.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.producer
            .shared
            .retire(self.slot, Arc::clone(&self.account));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, ClusterConfig};
    use crate::properties::Properties;

    /// Nobody says whether the topic exists, so that all of it waits here.
    #[test]
    fn what_waits_for_its_topic_has_one_bound_for_all_callers() {
        let record = |value: &'static [u8]| Record {
            key: None,
            value: Some(value),
        };
        for (name, value) in [
            ("queue.buffering.max.messages", "10"),
            ("queue.buffering.max.kbytes", "1"),
        ] {
            let mut config = ClusterConfig::default();
            config.common.set("bootstrap.servers", "127.0.0.1:1");
            config.producer.set(name, value);
            let cluster = Cluster::open(config).unwrap();
            let producer = cluster.producer(&Properties::new()).unwrap();
            let mut callers = [(); 2].map(|()| producer.caller(CallerLimits::default()));
            let mut accepted = 0;
            for caller in &mut callers {
                for topic in [&b"one"[..], b"other"] {
                    let topic = caller.topic(topic).unwrap();
                    let sent = caller.send(&topic, std::iter::repeat_n(record(&[0; 100]), 4));
                    accepted += sent.accepted;
                    let full = sent.refused.iter();
                    let full = full.filter(|(_, error)| error.is(ErrorCode::QueueFull));
                    assert_eq!(sent.accepted + full.count(), 4);
                    assert_eq!(
                        sent.first_without_room(),
                        (sent.accepted < 4).then_some(sent.accepted)
                    );
                }
            }
            assert_eq!(accepted, 10, "{name}");
        }
    }
}
