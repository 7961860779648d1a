//! A Kafka cluster as Barnabas sees it.

use crate::admin::Admin;
use crate::consumer::{Consumer, Groups};
use crate::error::Error;
use crate::native::Kind;
use crate::producer::Producer;
use crate::properties::Properties;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    producers: Mutex<BTreeMap<Properties, Producer>>,
    groups: Arc<Groups>,
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
            }),
        })
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &ClusterConfig {
        &self.inner.config
    }

    /// The shared producer for `own` properties (before those of the
    /// cluster); started on first use.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn producer(&self, own: &Properties) -> Result<Producer, Error> {
        let properties = self.inner.config.producer_properties(own);
        let mut producers = self.inner.producers.lock();
        if let Some(producer) = producers.get(&properties) {
            return Ok(producer.clone());
        }
        let producer = Producer::start(&properties)?;
        producers.insert(properties, producer.clone());
        Ok(producer)
    }

    /// Joins the group `group.id` of `own` properties (before those of the
    /// cluster) for `topics`. Returns at once; joining goes on behind.
    ///
    /// # Errors
    /// What librdkafka refuses, or an empty topic name.
    pub fn consumer(&self, own: &Properties, topics: &[&str]) -> Result<Consumer, Error> {
        let properties = self.inner.config.consumer_properties(own);
        Consumer::join(&self.inner.groups, &properties, topics)
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
        let producers: Vec<Producer> = self.inner.producers.lock().values().cloned().collect();
        let mut undelivered = 0;
        for producer in producers {
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
