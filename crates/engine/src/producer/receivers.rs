//! Those who hand over many messages under numbers of their own and hear of
//! runs of them: the outbox's topics.

use super::delivery::count;
use super::{Producer, Shared};
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Batch, DeliveryReport, NativeTopic, TopicLookup, TopicMetadata};
use parking_lot::RwLock;
use slab::Slab;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

thread_local! {
    /// Messages on their way into librdkafka.
    pub(super) static BATCH: RefCell<Batch> = RefCell::default();
}

/// What a message brings back with its report: who hears of it (20 bits), of
/// what (22 bits), and which one of that (20 bits). Two more tell it from the
/// other opaque numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    opaque: usize,
}

const KIND: usize = 3;
const KIND_BITS: u32 = 2;
const INDEX_BITS: u32 = 20;
const GROUP_BITS: u32 = 22;
const RECEIVER_BITS: u32 = 20;

impl Tag {
    /// How many receivers there can be.
    pub(crate) const RECEIVERS: usize = 1 << RECEIVER_BITS;
    /// How many groups of messages a receiver can tell apart.
    pub(crate) const GROUPS: usize = 1 << GROUP_BITS;
    /// How many messages a group can have.
    pub(crate) const INDICES: usize = 1 << INDEX_BITS;

    /// All three are below their bounds.
    pub(crate) const fn new(receiver: usize, group: usize, index: usize) -> Self {
        let number = (receiver << GROUP_BITS | group) << INDEX_BITS | index;
        Self {
            opaque: number << KIND_BITS | KIND,
        }
    }

    pub(super) const fn of(opaque: usize) -> Option<Self> {
        if opaque & KIND == KIND {
            Some(Self { opaque })
        } else {
            None
        }
    }

    const fn index(self) -> usize {
        self.opaque >> KIND_BITS & (Self::INDICES - 1)
    }

    const fn group(self) -> usize {
        self.opaque >> (KIND_BITS + INDEX_BITS) & (Self::GROUPS - 1)
    }

    const fn receiver(self) -> usize {
        self.opaque >> (KIND_BITS + INDEX_BITS + GROUP_BITS)
    }

    const fn without_index(self) -> usize {
        self.opaque >> (KIND_BITS + INDEX_BITS)
    }
}

/// Hears of runs of messages. Called by the delivery thread.
pub(crate) trait Receiver: Send + Sync {
    /// Kafka's answers to some of its messages.
    fn settled(&self, run: &mut Run);
}

/// Hears that something is wrong with a client's connections.
pub(crate) trait Alarm: Send + Sync {
    /// What librdkafka says.
    fn raised(&self, error: KafkaError, text: &str);
}

/// Neighbouring reports of one group and partition.
#[derive(Default)]
pub(crate) struct Run {
    tag: usize,
    receiver: usize,
    /// The group in the messages' tags.
    pub(crate) group: usize,
    /// Their partition.
    pub(crate) partition: i32,
    /// How many they are.
    pub(crate) messages: usize,
    /// Bytes of their keys and values.
    pub(crate) bytes: u64,
    /// Those of them that were given up.
    pub(crate) failed: usize,
    /// Why the last of them was.
    pub(crate) error: Option<KafkaError>,
    /// Each of them; of group 0 there are none.
    pub(crate) reports: Vec<Report>,
    /// Beside all these: those that came back, and are to be sent once more.
    pub(crate) returned: Vec<Returned>,
}

/// A message that came back: its topic was not there, or its client has failed
/// for good.
pub(crate) struct Returned {
    pub(crate) error: KafkaError,
    /// The index in its tag.
    pub(crate) index: usize,
    /// Whether it may be in Kafka nevertheless.
    pub(crate) may_be_persisted: bool,
    pub(crate) key: Option<Box<[u8]>>,
    pub(crate) value: Option<Box<[u8]>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// When it was handed over, unless it was given another one.
    pub(crate) timestamp: Option<i64>,
}

/// Kafka's answer to one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// The index in its tag.
    pub(crate) index: usize,
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) error: Option<KafkaError>,
    /// Of one that was given up: whether it may be in Kafka nevertheless.
    pub(crate) may_be_persisted: bool,
}

/// Where the delivery thread collects a run.
#[derive(Default)]
pub(super) struct Received {
    run: Run,
}

impl Received {
    pub(super) fn add(&mut self, shared: &Shared, tag: Tag, report: &DeliveryReport<'_>) {
        let partition = report.partition();
        if self.run.tag != tag.without_index() || self.run.partition != partition {
            self.settle(shared);
            self.run.tag = tag.without_index();
            self.run.receiver = tag.receiver();
            self.run.group = tag.group();
            self.run.partition = partition;
        }
        let run = &mut self.run;
        let error = match report.error() {
            0 => None,
            code => Some(KafkaError::from_raw(code)),
        };
        if let Some(error) = error.filter(|error| shared.is_returned(*error)) {
            run.returned.push(Returned {
                error,
                index: tag.index(),
                may_be_persisted: report.may_be_persisted(),
                key: report.key().map(Into::into),
                value: report.value().map(Into::into),
                headers: report.headers(),
                timestamp: report.timestamp(),
            });
            return;
        }
        run.messages += 1;
        run.bytes += report.bytes();
        if error.is_some() {
            run.failed += 1;
            run.error = error;
        }
        if run.group != 0 {
            run.reports.push(Report {
                index: tag.index(),
                offset: report.offset(),
                timestamp: report.timestamp(),
                error,
                may_be_persisted: error.is_some() && report.may_be_persisted(),
            });
        }
    }

    /// Tells of the run, if there is one.
    pub(super) fn settle(&mut self, shared: &Shared) {
        let run = &mut self.run;
        let (failed, returned) = (run.failed as u64, run.returned.len() as u64);
        if run.messages == 0 && returned == 0 {
            return;
        }
        count(shared, run.messages as u64 - failed, failed);
        let receiver = shared.receivers.slots.read().get(run.receiver).cloned();
        if let Some(receiver) = receiver {
            receiver.settled(run);
        }
        // Whoever sees nothing outstanding has got back everything.
        count(shared, 0, returned);
        run.returned.clear();
        run.messages = 0;
        run.bytes = 0;
        run.failed = 0;
        run.error = None;
        run.reports.clear();
    }
}

/// All receivers of a producer.
#[derive(Default)]
pub(super) struct Receivers {
    slots: RwLock<Slab<Arc<dyn Receiver>>>,
    alarms: RwLock<Vec<Weak<dyn Alarm>>>,
}

impl Receivers {
    pub(super) fn alarm(&self, error: KafkaError, text: &str) {
        for alarm in self.alarms.read().iter().filter_map(Weak::upgrade) {
            alarm.raised(error, text);
        }
    }
}

/// What became of messages on their way into the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandedOver {
    /// It is there.
    Taken,
    /// There is no room in the client's queue at present.
    Full,
    /// The client takes nothing any more; another one will.
    Dead,
    /// It will never be taken.
    Refused(KafkaError),
}

impl HandedOver {
    fn of(code: i32) -> Self {
        if code == 0 {
            return Self::Taken;
        }
        let error = KafkaError::from_raw(code);
        if error.is(ErrorCode::QueueFull) {
            Self::Full
        } else if error.is(ErrorCode::Fatal) {
            Self::Dead
        } else {
            Self::Refused(error)
        }
    }
}

impl Producer {
    /// Gives a receiver its number; `None`: there are too many.
    pub(crate) fn receive(&self, receiver: Arc<dyn Receiver>) -> Option<usize> {
        let mut slots = self.shared.receivers.slots.write();
        (slots.len() < Tag::RECEIVERS).then(|| slots.insert(receiver))
    }

    /// Forgets a receiver, of which no message is under way.
    pub(crate) fn forget_receiver(&self, number: usize) {
        // Dropped without the lock: it may own what uses this producer.
        let _receiver = self.shared.receivers.slots.write().try_remove(number);
    }

    /// Lets somebody hear of trouble with connections while he lives.
    pub(crate) fn add_alarm(&self, alarm: &Arc<dyn Alarm>) {
        let mut alarms = self.shared.receivers.alarms.write();
        alarms.retain(|alarm| alarm.strong_count() > 0);
        alarms.push(Arc::downgrade(alarm));
    }

    /// A topic to hand over to.
    pub(crate) fn native_topic(
        &self,
        name: &str,
        compression: Option<&str>,
    ) -> Option<NativeTopic> {
        let Some(kind) = compression else {
            return self.shared.native_topic(name);
        };
        let client = self.shared.client.load();
        let own = [("compression.type".to_owned(), kind.to_owned())];
        let native = NativeTopic::with_properties(&client, name, &own).ok()?;
        Some(self.shared.as_told(native, name))
    }

    /// The largest message, with what surrounds it.
    pub(crate) fn message_max_bytes(&self) -> u64 {
        self.shared.message_max_bytes
    }

    /// Hands over one message without headers and timestamp.
    pub(crate) fn hand_over_plain(
        &self,
        topic: &NativeTopic,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        tag: Tag,
    ) -> HandedOver {
        let result = HandedOver::of(topic.produce(partition, key, value, tag.opaque));
        if result == HandedOver::Taken {
            self.count_accepted(1);
        }
        result
    }

    /// Hands over messages without headers and timestamps in one call; `each`
    /// hears what became of those that were not taken. Behind the first that
    /// finds no room none is taken.
    pub(crate) fn hand_over_batch<'a>(
        &self,
        topic: &NativeTopic,
        partition: i32,
        records: impl ExactSizeIterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>, Tag)>,
        mut each: impl FnMut(usize, HandedOver),
    ) -> usize {
        let count = records.len();
        let taken = BATCH.with_borrow_mut(|batch| {
            let records = records.map(|(key, value, tag)| (key, value, tag.opaque));
            let taken = batch.produce_to(topic, partition, records);
            if taken < count {
                for index in 0..count {
                    match HandedOver::of(batch.error(index)) {
                        HandedOver::Taken => {}
                        other => each(index, other),
                    }
                }
            }
            taken
        });
        self.count_accepted(taken);
        taken
    }

    /// Hands over one message with all that it can have.
    pub(crate) fn hand_over_whole(
        &self,
        topic: &NativeTopic,
        partition: i32,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        tag: Tag,
    ) -> HandedOver {
        let code = topic.produce_one(Some(partition), key, value, headers, timestamp, tag.opaque);
        let result = match HandedOver::of(code) {
            // This call tells why the client has failed, not that it has.
            HandedOver::Refused(_) if self.fatal_error().is_some() => HandedOver::Dead,
            other => other,
        };
        if result == HandedOver::Taken {
            self.count_accepted(1);
        }
        result
    }

    fn count_accepted(&self, count: usize) {
        let accepted = &self.shared.counters.accepted;
        accepted.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Asks a broker about topics; blocks up to `timeout`.
    pub(crate) fn ask(
        &self,
        lookup: &TopicLookup<'_>,
        timeout: Duration,
    ) -> Result<Vec<TopicMetadata>, KafkaError> {
        let client = match lookup {
            TopicLookup::One(topic) => Arc::clone(topic.client()),
            TopicLookup::All | TopicLookup::Known => self.shared.client.load_full(),
        };
        let answer = client.metadata(lookup, timeout);
        answer.map_err(KafkaError::from_raw)
    }

    /// Asks the leader of a partition whether it is there; blocks up to
    /// `timeout`.
    pub(crate) fn ask_leader(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let client = self.shared.client.load();
        let answer = client.ask_leader(topic, partition, timeout);
        answer.map_err(KafkaError::from_raw)
    }

    /// While the guard lives, messages leave without waiting for linger.
    pub(crate) fn hurrying(&self) -> impl Send + use<> {
        self.shared.flushing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_it_was_made_of_and_no_other_opaque_number() {
        let (receiver, group, index) = (Tag::RECEIVERS - 1, Tag::GROUPS - 2, Tag::INDICES - 3);
        let tag = Tag::of(Tag::new(receiver, group, index).opaque).unwrap();
        assert_eq!(
            (tag.receiver(), tag.group(), tag.index()),
            (receiver, group, index)
        );
        for number in 0..9 {
            assert_eq!(Tag::of(super::super::opaque_of_slot(number)), None);
            let ticket = super::super::tickets::opaque(number, number);
            assert_eq!(Tag::of(ticket), None);
        }
    }
}
