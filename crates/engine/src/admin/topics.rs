//! Topics as the cluster describes them, and what is set on them.

use super::clients::{Client, Deadline, LIMIT, timed_out};
use super::{Admin, convert};
use crate::error::{Error, KafkaError};
use rdkafka::admin::{AdminOptions, ConfigSource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::metadata::MetadataTopic;
use std::collections::{BTreeMap, BTreeSet};

/// A partition as the cluster describes it. Brokers are named by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number in the topic.
    pub id: i32,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<i32>,
    /// Who is to have a copy, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Who has a copy that is complete.
    pub isr: Vec<i32>,
}

impl Admin {
    /// All topics with their partitions by id, sorted by name bytewise,
    /// internal topics included. Never creates a topic. Takes up to 10 s.
    ///
    /// # Errors
    /// Kafka's code: no broker answers.
    pub async fn describe_topics(&self) -> Result<Vec<(String, Vec<PartitionDescription>)>, Error> {
        self.clients.observe(all_topics).await
    }

    /// The partitions of a topic by id; `None` if it does not exist, and if
    /// its name is none that Kafka allows. Never creates it. Takes up to 10 s.
    ///
    /// # Errors
    /// Kafka's code: no broker answers.
    pub async fn describe_topic(
        &self,
        topic: &str,
    ) -> Result<Option<Vec<PartitionDescription>>, Error> {
        let topic = topic.to_owned();
        self.clients
            .observe(move |client, deadline| one_topic(client, &topic, deadline))
            .await
    }

    /// What is set on each topic itself, by topic and property: what
    /// DescribeConfigs says is from the topic's dynamic configuration. Values
    /// that Kafka hides are left out, and so are topics that do not exist.
    /// Takes up to 10 s.
    ///
    /// # Errors
    /// Kafka's code: no broker answers. [`Error::Client`] if a topic exists
    /// and Kafka does not tell its configuration; why, `rdkafka` keeps to
    /// itself (it drops the error of a single topic), but it should be that
    /// we are not allowed to see it.
    pub async fn topic_overrides(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        tokio::time::timeout(LIMIT, self.overrides(topics))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }

    async fn overrides(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        // librdkafka refuses duplicates and names that are empty.
        let names: BTreeSet<&str> = topics
            .iter()
            .copied()
            .filter(|name| is_possible(name))
            .collect();
        let topics: Vec<ResourceSpecifier<'_>> =
            names.into_iter().map(ResourceSpecifier::Topic).collect();
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        if self.embedded.is_some() {
            // Nothing can be set there.
            let existing = self.describe_topics().await?;
            return Ok(existing
                .into_iter()
                .filter(|(name, _)| topics.contains(&ResourceSpecifier::Topic(name)))
                .map(|(name, _)| (name, BTreeMap::new()))
                .collect());
        }
        let options = AdminOptions::new().request_timeout(Some(LIMIT));
        let answer = self
            .client()?
            .describe_configs(&topics, &options)
            .await
            .map_err(convert)?;

        let mut found = BTreeMap::new();
        let mut silent = Vec::new();
        for resource in answer {
            let resource = resource.map_err(|code| Error::from(KafkaError::from_code(code)))?;
            let OwnedResourceSpecifier::Topic(topic) = resource.specifier else {
                continue;
            };
            // A topic that exists has dozens of entries, if only defaults.
            if resource.entries.is_empty() {
                silent.push(topic);
                continue;
            }
            let overrides = resource
                .entries
                .into_iter()
                .filter(|entry| entry.source == ConfigSource::DynamicTopic)
                .filter_map(|entry| Some((entry.name, entry.value?)))
                .collect();
            found.insert(topic, overrides);
        }
        if !silent.is_empty() {
            let existing = self.describe_topics().await?;
            if let Some(topic) = silent
                .iter()
                .find(|topic| existing.iter().any(|(name, _)| name == *topic))
            {
                return Err(Error::Client {
                    reason: format!("Kafka does not tell the configuration of topic \"{topic}\""),
                });
            }
        }
        Ok(found)
    }
}

fn all_topics(
    client: &Client,
    deadline: Deadline,
) -> Result<Vec<(String, Vec<PartitionDescription>)>, Error> {
    let metadata = client
        .fetch_metadata(None, deadline.left())
        .map_err(convert)?;
    let mut topics: Vec<(String, Vec<PartitionDescription>)> = metadata
        .topics()
        .iter()
        .filter(|topic| exists(topic))
        .map(|topic| (topic.name().to_owned(), partitions(topic)))
        .collect();
    topics.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(topics)
}

/// Asks for all topics: to ask for one, `rdkafka` makes a topic object, which
/// librdkafka keeps until the client ends, so that the client would go on
/// asking for every name that it was ever given. No name in the request also
/// means that no broker can create a topic.
pub(super) fn one_topic(
    client: &Client,
    topic: &str,
    deadline: Deadline,
) -> Result<Option<Vec<PartitionDescription>>, Error> {
    if !is_possible(topic) {
        return Ok(None);
    }
    let metadata = client
        .fetch_metadata(None, deadline.left())
        .map_err(convert)?;
    Ok(metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic && exists(found))
        .map(partitions))
}

/// A topic that is just being deleted may still be listed, with an error and
/// without partitions.
fn exists(topic: &MetadataTopic) -> bool {
    !topic.partitions().is_empty()
}

fn partitions(topic: &MetadataTopic) -> Vec<PartitionDescription> {
    let mut partitions: Vec<PartitionDescription> = topic
        .partitions()
        .iter()
        .map(|partition| PartitionDescription {
            id: partition.id(),
            leader: Some(partition.leader()).filter(|leader| *leader >= 0),
            replicas: partition.replicas().to_vec(),
            isr: partition.isr().to_vec(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.id);
    partitions
}

/// Whether Kafka allows the name (its `Topic.validate`). `rdkafka` panics at
/// some of the others.
pub(super) fn is_possible(topic: &str) -> bool {
    (1..=249).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_allows() {
        for name in ["a", "__consumer_offsets", "a.b-c_D9", &"x".repeat(249)] {
            assert!(is_possible(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "a\0", "ä", &"x".repeat(250)] {
            assert!(!is_possible(name), "{name:?}");
        }
    }
}
