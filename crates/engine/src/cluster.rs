//! A Kafka cluster as Barnabas sees it.

use crate::admin::Admin;
use crate::batching::Batching;
use crate::by_name::ByName;
use crate::consumer::{
    Consumed, ConsumedStatistics, Consumer, ConsumerObserver, Groups, MemberStatistics,
};
use crate::error::{Error, ErrorCode, KafkaError};
use crate::journal::{
    Appended, Durabilities, Durability, Headers, Journal, JournalError, JournalOptions,
    JournalRecord,
};
use crate::native::Kind;
use crate::producer::{Producer, RECORD_OVERHEAD, Record, Renewal, is_legal_name};
use crate::properties::Properties;
use crate::strategies::Strategies;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// How to reach a cluster, and how its clients are to behave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What logs and metrics call the cluster.
    pub name: String,
    /// Properties of all clients; `bootstrap.servers` at least. What does
    /// not apply to a kind of client is left out for it.
    pub common: Properties,
    /// Properties of producers, before `common`.
    pub producer: Properties,
    /// Properties of consumers, before `common`.
    pub consumer: Properties,
    /// How the partitions of each topic are picked; none: as the producers'
    /// `partitioner` says. An outbox has its own.
    pub strategies: Strategies,
    /// When the batches of each topic leave; none: as the producers' `linger.ms`
    /// and `batch.num.messages` say. An outbox has its own in front of them.
    pub batching: Batching,
}

impl ClusterConfig {
    /// Everything that librdkafka does not know, refuses, or finds
    /// contradictory, each with its property's name. Connects to nothing.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems: Vec<Error> = [&self.common, &self.producer, &self.consumer]
            .into_iter()
            .flat_map(Properties::problems)
            .collect();
        if problems.is_empty() {
            problems.extend(
                self.producer_properties(&Properties::new())
                    .contradiction(Kind::Producer),
            );
            problems.extend(
                self.consumer_properties(&Properties::new())
                    .contradiction(Kind::Consumer),
            );
        }
        problems
    }

    pub(crate) fn producer_properties(&self, own: &Properties) -> Properties {
        let mut properties = self
            .common
            .applicable(Kind::Producer)
            .overlaid(&self.producer)
            .overlaid(own);
        if allows_idempotence(&properties) {
            properties.set_default("enable.idempotence", "true");
        }
        // librdkafka's own default. Said aloud because it compares topic with
        // other properties at the start only if one of the topic's is set:
        // linger.ms above message.timeout.ms would fail each topic later.
        properties.set_default("partitioner", "consistent_random");
        // librdkafka's 100,000 would let one caller's share (see
        // `CallerLimits`) fill the queue of all.
        if properties.get("queue.buffering.max.messages").is_none() {
            properties.set("queue.buffering.max.messages", "1000000");
        }
        properties
    }

    /// A producer of these properties, with what is said of topics.
    pub(crate) fn start_producer(
        &self,
        properties: &Properties,
        renewal: Renewal,
    ) -> Result<Producer, Error> {
        Producer::start(properties, &self.strategies, &self.batching, renewal)
    }

    pub(crate) fn consumer_properties(&self, own: &Properties) -> Properties {
        let mut properties = self
            .common
            .applicable(Kind::Consumer)
            .overlaid(&self.consumer)
            .overlaid(own);
        properties
            .set_default("partition.assignment.strategy", "cooperative-sticky")
            .set_default("enable.auto.commit", "true")
            .set_default("enable.auto.offset.store", "false")
            .set_default("queued.max.messages.kbytes", "16384")
            // librdkafka fetches nothing for a second (its default) once a
            // queue is full; ours is empty again much sooner.
            .set_default("fetch.queue.backoff.ms", "50");
        properties
    }
}

/// What a header's frame adds to its name and value.
const HEADER_OVERHEAD: usize = 10;

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Idempotence (KIP-98) is on unless a property says otherwise or excludes
/// it, as librdkafka would refuse the combination.
fn allows_idempotence(properties: &Properties) -> bool {
    let acks_of_all = ["acks", "request.required.acks"]
        .iter()
        .filter_map(|name| properties.get(name))
        .all(|acks| matches!(acks, "all" | "-1"));
    let in_flight = ["max.in.flight", "max.in.flight.requests.per.connection"]
        .iter()
        .filter_map(|name| properties.get(name))
        .all(|count| count.parse::<u32>().is_ok_and(|count| count <= 5));
    let retries = ["retries", "message.send.max.retries"]
        .iter()
        .filter_map(|name| properties.get(name))
        .all(|count| count != "0");
    let fifo = properties
        .get("queuing.strategy")
        .is_none_or(|strategy| strategy == "fifo");
    acks_of_all && in_flight && retries && fifo
}

/// A handle on a cluster; clones share everything.
///
/// Producers are shared per distinct configuration. Consumers are one
/// librdkafka client each. Threads besides librdkafka's own: four per
/// producer (delivery reports, looking up topics, listing them, flushing) and
/// three for all consumers (rebalances, freeing closed clients, missing
/// topics).
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClusterConfig,
    producers: Mutex<BTreeMap<(Properties, Renewal), Producer>>,
    groups: Arc<Groups>,
    keeping: OnceLock<Keeping>,
}

/// When producing is answered, and what that takes.
struct Keeping {
    durabilities: ArcSwap<Durabilities>,
    journal: Option<Journal>,
    /// The largest record that Kafka takes, as librdkafka counts.
    message_max_bytes: u64,
}

impl Cluster {
    /// Opens the cluster: checks that the configuration holds together and
    /// starts the shared threads. No broker needs to be there yet.
    ///
    /// # Errors
    /// The first problem of the configuration.
    pub fn open(config: ClusterConfig) -> Result<Self, Error> {
        for properties in [&config.common, &config.producer, &config.consumer] {
            if let Some(problem) = properties.problems().into_iter().next() {
                return Err(problem);
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                producers: Mutex::new(BTreeMap::new()),
                groups: Arc::new(Groups::start()),
                keeping: OnceLock::new(),
            }),
        })
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &ClusterConfig {
        &self.inner.config
    }

    /// The shared producer for `own` properties (before those of the
    /// cluster); started on first use. If its client fails for good (KIP-360),
    /// what that had fails, and another one takes its place.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn producer(&self, own: &Properties) -> Result<Producer, Error> {
        self.producer_with(own, Renewal::Own)
    }

    /// One that takes nothing any more if it fails for good, until
    /// [`renewed_producer`](Self::renewed_producer) is asked for.
    pub(crate) fn mortal_producer(&self, own: &Properties) -> Result<Producer, Error> {
        self.producer_with(own, Renewal::Others)
    }

    fn producer_with(&self, own: &Properties, renewal: Renewal) -> Result<Producer, Error> {
        let config = &self.inner.config;
        let key = (config.producer_properties(own), renewal);
        let mut producers = self.inner.producers.lock();
        if let Some(producer) = producers.get(&key) {
            return Ok(producer.clone());
        }
        let producer = config.start_producer(&key.0, renewal)?;
        producers.insert(key, producer.clone());
        Ok(producer)
    }

    /// The producer for `own` properties in the place of one that has failed
    /// for good.
    pub(crate) fn renewed_producer(
        &self,
        own: &Properties,
        dead: &Producer,
    ) -> Result<Producer, Error> {
        let config = &self.inner.config;
        let key = (config.producer_properties(own), Renewal::Others);
        let start = || config.start_producer(&key.0, Renewal::Others);
        let mut producers = self.inner.producers.lock();
        match producers.get_mut(&key) {
            Some(known) if !known.is(dead) => Ok(known.clone()),
            Some(known) => {
                *known = start()?;
                Ok(known.clone())
            }
            None => start(),
        }
    }

    /// Says when producing to each topic is answered by those who ask
    /// ([`durability`](Self::durability)): in memory, unless this is called.
    /// With `journal` the journal is opened, and what is in it is sent. Only
    /// the first call counts.
    ///
    /// # Errors
    /// The journal cannot be opened, or a topic is to have one and there is
    /// none.
    pub fn set_durability(
        &self,
        durabilities: Durabilities,
        journal: Option<JournalOptions>,
    ) -> Result<(), Error> {
        let properties = self.inner.config.producer_properties(&Properties::new());
        let message_max_bytes = properties.get("message.max.bytes");
        if journal.is_none() && durabilities.has(Durability::Journal) {
            return Err(Error::Client {
                reason: "durability: there is no journal".to_owned(),
            });
        }
        let journal = journal.map(Journal::open).transpose()?;
        if let Some(journal) = &journal {
            journal.feed(self)?;
        }
        let _ = self.inner.keeping.set(Keeping {
            durabilities: ArcSwap::from_pointee(durabilities),
            journal,
            message_max_bytes: message_max_bytes
                .and_then(|text| text.parse().ok())
                .unwrap_or(1_000_000),
        });
        Ok(())
    }

    /// Others in the place of those of [`set_durability`](Self::set_durability),
    /// from the next record on. The journal stays as it is.
    ///
    /// # Errors
    /// A topic is to have a journal, and there is none; nothing is changed then.
    pub fn replace_durabilities(&self, durabilities: Durabilities) -> Result<(), Error> {
        let keeping = self.inner.keeping.get();
        let has_journal = keeping.is_some_and(|keeping| keeping.journal.is_some());
        match keeping {
            Some(keeping) if has_journal || !durabilities.has(Durability::Journal) => {
                keeping.durabilities.store(Arc::new(durabilities));
                Ok(())
            }
            _ => Err(Error::Client {
                reason: "durability: there is no journal".to_owned(),
            }),
        }
    }

    /// When producing to a topic is to be answered, unless the request says
    /// so itself.
    pub fn durability(&self, topic: &str) -> Durability {
        match self.inner.keeping.get() {
            Some(keeping) => keeping.durabilities.load().of(topic),
            None => Durability::Memory,
        }
    }

    /// The journal, if there is one.
    pub fn journal(&self) -> Option<&Journal> {
        self.inner.keeping.get()?.journal.as_ref()
    }

    /// Whether a record would be refused by Kafka whatever happens: it has
    /// no place in the journal.
    ///
    /// # Errors
    /// "Broker: Invalid topic", "Broker: Message size too large"
    pub fn check(
        &self,
        topic: &str,
        record: Record<'_>,
        headers: Headers<'_>,
    ) -> Result<(), KafkaError> {
        if !is_legal_name(topic.as_bytes()) {
            return Err(KafkaError::from_code(ErrorCode::InvalidTopic));
        }
        let limit = self
            .inner
            .keeping
            .get()
            .map(|keeping| keeping.message_max_bytes);
        let length = |value: &Option<&[u8]>| value.map_or(0, <[u8]>::len);
        let headers: usize = headers
            .iter()
            .map(|(name, value)| name.len() + length(value) + HEADER_OVERHEAD)
            .sum();
        let bytes = record.bytes() + headers as u64 + RECORD_OVERHEAD;
        if limit.is_some_and(|limit| bytes > limit) {
            return Err(KafkaError::from_code(ErrorCode::MessageSizeTooLarge));
        }
        Ok(())
    }

    /// Puts records of one topic into the journal, all of them or none; they
    /// should have passed [`check`](Self::check). Without a timestamp they get
    /// the present time. Cancelling before this returns takes nothing.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn append<'a>(
        &self,
        topic: &'a str,
        records: impl Iterator<Item = Record<'a>> + Clone,
        headers: Headers<'a>,
        timestamp: Option<i64>,
        partition: Option<i32>,
    ) -> Result<Appended, JournalError> {
        let journal = self.journal().ok_or(JournalError::Closed)?;
        let timestamp = timestamp.unwrap_or_else(now);
        let records = records.map(|record| JournalRecord {
            topic,
            record,
            headers,
            timestamp,
            partition,
            lane: None,
        });
        journal.append(records).await
    }

    /// Joins the group `group.id` of `own` properties (before those of the
    /// cluster) for `topics`. Returns at once; joining goes on behind.
    ///
    /// # Errors
    /// What librdkafka refuses, or an empty topic name.
    pub fn consumer(&self, own: &Properties, topics: &[&str]) -> Result<Consumer, Error> {
        let properties = self.inner.config.consumer_properties(own);
        Consumer::join(&self.inner.groups, &properties, topics, None)
    }

    /// [`consumer`](Self::consumer), with somebody who hears what it says
    /// besides messages.
    ///
    /// # Errors
    /// As there.
    pub fn observed_consumer(
        &self,
        own: &Properties,
        topics: &[&str],
        observer: Arc<dyn ConsumerObserver>,
    ) -> Result<Consumer, Error> {
        let properties = self.inner.config.consumer_properties(own);
        Consumer::join(&self.inner.groups, &properties, topics, Some(observer))
    }

    /// The producers that have been started.
    pub fn producers(&self) -> Vec<Producer> {
        self.inner.producers.lock().values().cloned().collect()
    }

    /// Shows what has been consumed of each topic, by consumers and by
    /// dispatchers, in no order; beyond 10,000 topics the rest together, as
    /// `other`.
    pub fn each_consumed_topic(&self, mut show: impl FnMut(&str, ConsumedStatistics)) {
        let consumed = self.inner.groups.consumed();
        consumed.each(|topic, own| show(topic, own.read()));
    }

    /// Where the consumers stand. Asks no broker.
    pub fn member_statistics(&self) -> Vec<MemberStatistics> {
        self.inner.groups.statistics()
    }

    /// What librdkafka says about each consumer, as it has written it last.
    pub fn member_client_statistics(&self) -> Vec<Arc<str>> {
        self.inner.groups.client_statistics()
    }

    pub(crate) fn consumed(&self) -> Arc<ByName<Consumed>> {
        Arc::clone(self.inner.groups.consumed())
    }

    /// Administration of topics.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn admin(&self) -> Result<Admin, Error> {
        Admin::new(&self.inner.config.common.applicable(Kind::Producer))
    }

    /// Waits until every producer has delivered everything, at most `limit`.
    /// Returns how many messages are still undelivered.
    pub async fn flush(&self, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        let mut undelivered = 0;
        for producer in self.producers() {
            undelivered += producer.flush(deadline).await;
        }
        undelivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idempotence(pairs: &[(&str, &str)]) -> Option<String> {
        let mut own = Properties::new();
        for (name, value) in pairs {
            own.set(*name, *value);
        }
        ClusterConfig::default()
            .producer_properties(&own)
            .get("enable.idempotence")
            .map(str::to_owned)
    }

    #[test]
    fn idempotence_is_on_unless_excluded() {
        assert_eq!(idempotence(&[]).as_deref(), Some("true"));
        assert_eq!(idempotence(&[("acks", "all")]).as_deref(), Some("true"));
        assert_eq!(idempotence(&[("acks", "1")]), None);
        assert_eq!(idempotence(&[("request.required.acks", "0")]), None);
        assert_eq!(idempotence(&[("max.in.flight", "6")]), None);
        assert_eq!(idempotence(&[("retries", "0")]), None);
        assert_eq!(idempotence(&[("queuing.strategy", "lifo")]), None);
        assert_eq!(
            idempotence(&[("enable.idempotence", "false")]).as_deref(),
            Some("false")
        );
    }

    #[test]
    fn problems_of_all_sections_are_reported_together() {
        let mut config = ClusterConfig::default();
        config.common.set("bootstrap.serversx", "a");
        config.producer.set("linger.ms", "soon");
        config.consumer.set("group.idx", "a");
        assert_eq!(config.problems().len(), 3);
    }

    #[test]
    fn properties_that_contradict_each_other_are_refused_at_the_start() {
        let cluster = Cluster::open(ClusterConfig::default()).unwrap();
        let mut own = Properties::new();
        own.set("linger.ms", "600000");
        let refused = cluster
            .producer(&own)
            .err()
            .map(|error| error.to_string())
            .unwrap();
        assert!(refused.contains("`message.timeout.ms`"), "{refused}");
    }
}
