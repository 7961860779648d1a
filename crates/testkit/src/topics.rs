//! Topics: create, delete, grow, look at.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{self, PROBE_TIMEOUT, REQUEST_TIMEOUT, block_on};
use crate::cluster::Cluster;
use crate::error::{Context, Error, Result};

impl Cluster {
    /// Creates a topic with as many replicas as brokers, at most three, and waits until every
    /// running broker knows a leader for each partition that serves it.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code, for example if it exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, self.running().replication_factor(), &[])
    }

    /// [`Cluster::create_topic`] with a number of replicas and topic properties.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code, for example for a property that it does not know.
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        properties: &[(&str, &str)],
    ) -> Result<()> {
        let action = || format!("create topic {name}");
        let topic = properties.iter().fold(
            NewTopic::new(name, partitions, TopicReplication::Fixed(replication)),
            |topic, (key, value)| topic.set(key, value),
        );
        let admin = self.running().admin()?;
        let existed = self.topics()?.iter().any(|known| known == name);
        let results =
            asked_again(|| block_on(admin.create_topics([&topic], &options()))).context(action)?;
        match refuse_failures(results) {
            // Brokers that are just starting lose an answer now and then, and are asked again.
            Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAlreadyExists)) if !existed => {}
            answer => answer.context(action)?,
        }
        self.wait_for_partitions(name, partitions)
    }

    /// Deletes a topic and waits until no running broker knows it.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code, for example if it does not exist.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let action = || format!("delete topic {name}");
        let admin = self.running().admin()?;
        let results =
            asked_again(|| block_on(admin.delete_topics(&[name], &options()))).context(action)?;
        refuse_failures(results).context(action)?;
        // Asking for it by name could make it exist again.
        self.wait_everywhere(None, &format!("topic {name} to be gone"), |_, metadata| {
            metadata.topics().iter().all(|topic| topic.name() != name)
        })
    }

    /// Grows a topic to `total` partitions and waits until every running broker knows a leader for
    /// each.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code, for example if it has as many already.
    pub fn add_partitions(&self, name: &str, total: i32) -> Result<()> {
        let action = || format!("grow topic {name} to {total} partitions");
        let count = usize::try_from(total).unwrap_or(0);
        let admin = self.running().admin()?;
        let partitions = NewPartitions::new(name, count);
        let results = asked_again(|| block_on(admin.create_partitions([&partitions], &options())))
            .context(action)?;
        refuse_failures(results).context(action)?;
        self.wait_for_partitions(name, total)
    }

    /// Deletes the records of a partition before `offset`, so that its log begins there.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code.
    pub fn delete_records(&self, name: &str, partition: i32, offset: i64) -> Result<()> {
        let action = || format!("delete records of {name} [{partition}] before {offset}");
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(name, partition, Offset::Offset(offset))
            .context(action)?;
        let admin = self.running().admin()?;
        let results = block_on(admin.delete_records(&offsets, &options())).context(action)?;
        for element in results.elements() {
            element.error().context(action)?;
        }
        Ok(())
    }

    /// The names of all topics, Kafka's own (`__consumer_offsets`) left out, in order.
    ///
    /// # Errors
    /// [`Error::Kafka`] if no broker answers.
    pub fn topics(&self) -> Result<Vec<String>> {
        let metadata = self
            .running()
            .observer()?
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .context(|| "list the topics".to_owned())?;
        let mut names: Vec<String> = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .filter(|name| !name.starts_with("__"))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The leader of each partition, as a node id; -1 for a partition without one. Empty if the
    /// topic does not exist.
    ///
    /// # Errors
    /// [`Error::Kafka`] if no broker answers.
    pub fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, i32>> {
        let metadata = self
            .running()
            .observer()?
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .context(|| format!("find the leaders of {topic}"))?;
        Ok(metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
            .map(|partition| (partition.id(), partition.leader()))
            .collect())
    }

    /// The replicas of each partition that have all of it, as node ids in order. Empty if the topic
    /// does not exist.
    ///
    /// # Errors
    /// [`Error::Kafka`] if no broker answers.
    pub fn in_sync(&self, topic: &str) -> Result<BTreeMap<i32, Vec<i32>>> {
        let metadata = self
            .running()
            .observer()?
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .context(|| format!("find the replicas of {topic}"))?;
        Ok(metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
            .map(|partition| {
                let mut replicas = partition.isr().to_vec();
                replicas.sort_unstable();
                (partition.id(), replicas)
            })
            .collect())
    }

    fn wait_for_partitions(&self, topic: &str, partitions: i32) -> Result<()> {
        let what = format!("{partitions} partitions of {topic} with leaders");
        self.wait_everywhere(Some(topic), &what, |observer, metadata| {
            metadata.topics().iter().any(|found| {
                found.name() == topic && i32::try_from(found.partitions().len()) == Ok(partitions)
            }) && client::all_are_served(observer, metadata.topics())
        })
    }

    /// Waits until `holds` on every running broker: they learn of changes one after the other, and
    /// the client under test may ask any.
    fn wait_everywhere(
        &self,
        topic: Option<&str>,
        what: &str,
        holds: impl Fn(&BaseConsumer, &Metadata) -> bool,
    ) -> Result<()> {
        let started = Instant::now();
        for node in self.running().running_nodes() {
            loop {
                // A new client each time: it can only ask the one broker that it has heard of.
                let observer = client::observer(&node.address())?;
                if let Ok(metadata) = observer.fetch_metadata(topic, PROBE_TIMEOUT)
                    && holds(&observer, &metadata)
                {
                    break;
                }
                if started.elapsed() > REQUEST_TIMEOUT {
                    return Err(Error::Timeout {
                        what: format!("{what}, on broker {}", node.id),
                        waited: started.elapsed(),
                    });
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

/// Asks again if librdkafka has dropped the question: it forgets a broker that is missing from one
/// answer about the cluster, which happens while brokers start, and with it what waits for it.
fn asked_again<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    match ask() {
        Err(KafkaError::AdminOp(RDKafkaErrorCode::DestroyBroker)) => ask(),
        answer => answer,
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

fn refuse_failures(results: Vec<TopicResult>) -> Result<(), KafkaError> {
    results.into_iter().try_for_each(|result| {
        result
            .map(drop)
            .map_err(|(_, code)| KafkaError::AdminOp(code))
    })
}
