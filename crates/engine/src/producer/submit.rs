//! Handing records over one by one, with everything that a record can have,
//! and hearing what becomes of them.

use super::receivers::BATCH;
use super::renewal::Following;
use super::tickets::{self, Stored, Ticket};
use super::topic::State;
use super::{Delivery, Producer, REMEMBERED_TOPICS, Record, Topic};
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{NativeTopic, TopicLookup};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// Records are handed to librdkafka in so many at a time at the most.
const AT_ONCE: usize = 1_024;

/// A record that has been handed over. Dropping it does not withdraw it.
pub struct Submitted {
    answer: oneshot::Receiver<Result<Delivery, Error>>,
}

impl Submitted {
    /// Where Kafka has put it. Cancelling does not withdraw the record.
    ///
    /// # Errors
    /// Kafka's code, when it was given up.
    pub async fn delivered(self) -> Result<Delivery, Error> {
        self.await
    }
}

/// [`Submitted::delivered`] for those who keep many of them and ask one at a
/// time.
impl Future for Submitted {
    type Output = Result<Delivery, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|result| result.unwrap_or(Err(Error::Closed)))
    }
}

/// Hears what becomes of many records, without a future for each.
pub trait DeliverySink: Send + Sync + 'static {
    /// Kafka's answer to one record, or why it was given up; `number` and
    /// `bytes` (of key and value) are those of the record as it was submitted.
    /// Called by the thread that takes the answers of all, so it must not
    /// wait for anything; the producer itself may be used.
    fn settled(&self, number: u64, bytes: u64, result: Result<Delivery, Undelivered<'_>>);

    /// Kafka has these; called in the place of [`settled`](Self::settled) for
    /// each of them, for those who can do something for many at once.
    fn stored(&self, records: &[Stored]) {
        for one in records {
            self.settled(one.number, one.bytes, Ok(one.delivery));
        }
    }
}

/// A record that was given up.
#[derive(Debug, Clone, Copy)]
pub struct Undelivered<'a> {
    /// The topic that it was for.
    pub topic: &'a str,
    /// Why.
    pub error: KafkaError,
    /// Its key and value.
    pub record: Record<'a>,
    /// A broker may have it nevertheless: its answer did not come.
    pub may_be_persisted: bool,
}

/// A topic of one producer, for [`Producer::submit_for`]: looked up once for
/// many records.
pub struct Destination {
    name: Box<str>,
    pub(super) native: Following,
}

impl Producer {
    /// [`submit`](Self::submit), waiting for Kafka's answer.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), or what the broker says.
    pub async fn deliver(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<Delivery, Error> {
        let submitted = self.submit(topic, partition, record, headers, timestamp)?;
        submitted.delivered().await
    }

    /// Hands over one record with everything a record can have. What is
    /// submitted to one partition keeps its order, whoever waits for it.
    ///
    /// # Errors
    /// Kafka's code, refused at once: queue full, too large, unknown topic or
    /// partition. A topic that is not known is looked up by librdkafka for
    /// `topic.metadata.propagation.max.ms`, and one that does not exist again
    /// every second.
    pub fn submit(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<Submitted, Error> {
        let destination = self.destination(topic)?;
        let (result, answer) = oneshot::channel();
        let ticket = Ticket::One(result);
        self.hand_over_to(&destination, partition, record, headers, timestamp, ticket)?;
        Ok(Submitted { answer })
    }

    /// [`submit`](Self::submit) for those who send many: `sink` hears what
    /// becomes of the record, by `number`, unless it is refused here. Nothing
    /// is allocated for that.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_for(
        &self,
        destination: &Destination,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        (sink, number): (&Arc<dyn DeliverySink>, u64),
    ) -> Result<(), Error> {
        let ticket = Ticket::Sink {
            sink: Arc::clone(sink),
            first: number,
            left: 1,
        };
        self.hand_over_to(destination, partition, record, headers, timestamp, ticket)
    }

    /// [`submit_for`](Self::submit_for) for many records that have nothing but
    /// keys and values, in one go. They have numbers from `first` on; `refused`
    /// is told of those that were not taken, by number.
    pub fn submit_all_for<'a>(
        &self,
        destination: &Destination,
        mut records: impl ExactSizeIterator<Item = Record<'a>>,
        (sink, mut first): (&Arc<dyn DeliverySink>, u64),
        mut refused: impl FnMut(u64, KafkaError),
    ) {
        while records.len() > 0 {
            let count = records.len().min(AT_ONCE);
            let ticket = self.shared.tickets.insert(Ticket::Sink {
                sink: Arc::clone(sink),
                first,
                left: count,
            });
            let next = records.by_ref().take(count).enumerate();
            let next = next.map(|(index, record)| {
                let opaque = tickets::opaque(ticket, index);
                (record.key, record.value, opaque)
            });
            let mut codes = Vec::new();
            let native = destination.native.load();
            let taken = BATCH.with_borrow_mut(|batch| {
                let taken = batch.produce(&native, next);
                if taken < count {
                    codes.extend((0..count).map(|index| batch.error(index)));
                }
                taken
            });
            let accepted = &self.shared.counters.accepted;
            accepted.fetch_add(taken as u64, Ordering::Relaxed);
            for (number, code) in (first..).zip(&codes).filter(|(_, code)| **code != 0) {
                self.shared.tickets.forget(ticket, 1);
                refused(number, KafkaError::from_raw(*code));
            }
            if taken < count {
                destination.native.follow(&self.shared, &destination.name);
            }
            first += count as u64;
        }
    }

    /// A topic to submit to. It need not exist.
    ///
    /// # Errors
    /// "Broker: Invalid topic" for a name that no topic can have.
    pub fn destination(&self, topic: &str) -> Result<Arc<Destination>, Error> {
        self.destination_with(topic, None)
    }

    /// The same; the first who names the topic decides on its
    /// `compression.type`.
    pub(crate) fn destination_with(
        &self,
        topic: &str,
        compression: Option<&str>,
    ) -> Result<Arc<Destination>, Error> {
        let destinations = &self.shared.destinations;
        if let Some(found) = destinations.read().get(topic) {
            return Ok(Arc::clone(found));
        }
        let native = self.native_topic(topic, compression);
        let native = native.ok_or(Error::Kafka {
            error: KafkaError::from_code(ErrorCode::InvalidTopic),
        })?;
        let made = Arc::new(Destination {
            name: topic.into(),
            native: Following::new(native),
        });
        let mut destinations = destinations.write();
        if destinations.len() >= REMEMBERED_TOPICS {
            // Who holds one goes on with it.
            destinations.retain(|_, destination| Arc::strong_count(destination) > 1);
        }
        destinations.insert(topic.into(), Arc::clone(&made));
        Ok(made)
    }

    /// Asks a broker about a topic, so that the client learns of its
    /// partitions; blocks up to `timeout`.
    pub(crate) fn learn_of(&self, destination: &Destination, timeout: Duration) {
        // If it fails the client learns of them by itself, later.
        let _ = self.ask(&TopicLookup::One(&destination.native.load()), timeout);
    }

    /// [`submit`](Self::submit) to a topic that [`look_up`](Self::look_up)
    /// has found.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and "unknown topic" when it was not found.
    pub fn submit_to(
        &self,
        topic: &Topic,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<Submitted, Error> {
        let native = topic.native().ok_or(Error::Kafka {
            error: KafkaError::from_code(ErrorCode::UnknownTopic),
        })?;
        let (result, answer) = oneshot::channel();
        let ticket = Ticket::One(result);
        let handed_over = self.hand_over(&native, partition, record, headers, timestamp, ticket);
        if let Err(Error::Kafka { error }) = &handed_over
            && error.is(ErrorCode::UnknownTopic)
        {
            self.shared.topic_is_gone(topic.name());
        }
        if handed_over.is_err() {
            topic.follow(&self.shared);
        }
        handed_over.map(|()| Submitted { answer })
    }

    /// Finds out whether a topic exists; one that does not is created where
    /// brokers create topics on use. As long as no broker answers this waits,
    /// at most for `message.timeout.ms`. What is known costs nothing; a topic
    /// that was missing is asked for again at most once a second. May be
    /// cancelled.
    ///
    /// # Errors
    /// "Local: Unknown topic" within half a second, or what the cluster says
    /// of it.
    pub async fn look_up(&self, topic: &Arc<Topic>) -> Result<(), KafkaError> {
        if topic.state() == State::Known {
            return Ok(());
        }
        let absences = topic.absences();
        let found = async {
            loop {
                let decided = topic.decided();
                tokio::pin!(decided);
                decided.as_mut().enable();
                if let Some(outcome) = self.shared.ask_for(topic, absences) {
                    return outcome;
                }
                decided.await;
            }
        };
        let limit = match self.shared.message_timeout {
            Duration::ZERO => Duration::MAX,
            limit => limit,
        };
        tokio::time::timeout(limit, found)
            .await
            .unwrap_or(Err(KafkaError::from_code(ErrorCode::MessageTimedOut)))
    }

    fn hand_over_to(
        &self,
        destination: &Destination,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        ticket: Ticket,
    ) -> Result<(), Error> {
        let native = destination.native.load();
        let result = self.hand_over(&native, partition, record, headers, timestamp, ticket);
        if result.is_err() {
            destination.native.follow(&self.shared, &destination.name);
        }
        result
    }

    fn hand_over(
        &self,
        topic: &NativeTopic,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        ticket: Ticket,
    ) -> Result<(), Error> {
        let ticket = self.shared.tickets.insert(ticket);
        let code = topic.produce_one(
            partition,
            record.key,
            record.value,
            headers,
            timestamp,
            tickets::opaque(ticket, 0),
        );
        if code != 0 {
            self.shared.tickets.forget(ticket, 1);
            let error = KafkaError::from_raw(code);
            // This call tells why a client has failed, not that it has.
            let error = match self.shared.is_dead(topic) {
                true => KafkaError::from_code(ErrorCode::Fatal),
                false => error,
            };
            return Err(error.into());
        }
        self.shared
            .counters
            .accepted
            .fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
