//! How a consumer without a group is set up.

use crate::error::Error;
use crate::native::{Client, Conf, NativeTopic};
use crate::outdated::bring_up_to_date;
use crate::properties::Properties;
use std::sync::Arc;
use std::time::Duration;

/// Defaults that are not librdkafka's (contract, section 13). None of them
/// makes it warn.
const DEFAULTS: [(&str, &str); 7] = [
    ("message.max.bytes", "4000000"),
    ("allow.auto.create.topics", "true"),
    ("topic.metadata.refresh.interval.ms", "10000"),
    // librdkafka waits a second once a queue is full.
    ("fetch.queue.backoff.ms", "20"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("statistics.interval.ms", "0"),
];

/// Defaults of the topic. The first is deprecated, and librdkafka would say so
/// if it stood among those of the client; without it it would try to commit.
const TOPIC_DEFAULTS: [(&str, &str); 2] = [
    ("auto.commit.enable", "false"),
    ("auto.offset.reset", "smallest"),
];

/// How a [`LocalConsumer`](crate::LocalConsumer) is set up.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The topic; there is one per consumer.
    pub topic: String,
    /// Properties of the client: `metadata.broker.list` at least.
    pub client: Properties,
    /// Properties of the topic.
    pub of_topic: Properties,
    /// A batch has at most so many messages, end marks included; 10,000.
    pub max_messages: usize,
    /// A batch that is not full waits so long for more, from its first
    /// message on; 5 ms.
    pub linger: Duration,
    /// So many batches may be handed over and not
    /// [`taken`](crate::LocalConsumer::taken); 2, so that the next one is
    /// ready while one is being worked on.
    pub batches_ahead: usize,
    /// Whether reaching the end of a partition is told; no.
    pub has_end_marks: bool,
}

impl LocalConfig {
    /// A consumer of `topic` as kafka-native had it.
    pub fn new(topic: impl Into<String>, client: Properties) -> Self {
        Self {
            topic: topic.into(),
            client,
            of_topic: Properties::new(),
            max_messages: 10_000,
            linger: Duration::from_millis(5),
            batches_ahead: 2,
            has_end_marks: false,
        }
    }

    /// All properties with the defaults behind them, and what is to be said
    /// about those that cannot be had as they were written.
    fn resolved(&self) -> (Properties, Properties, Vec<String>) {
        let mut warnings = Vec::new();
        let mut current = |properties: &Properties| -> Properties {
            let mut properties = pairs(properties);
            warnings.extend(bring_up_to_date(&mut properties));
            properties.into_iter().collect()
        };
        let (mut client, mut topic) = (current(&self.client), current(&self.of_topic));
        for (name, value) in DEFAULTS {
            client.set_default(name, value);
        }
        let marks = if self.has_end_marks { "true" } else { "false" };
        client.set_default("enable.partition.eof", marks);
        for (name, value) in TOPIC_DEFAULTS {
            // One that stands among the client's is the topic's, too.
            if client.get(name).is_none() {
                topic.set_default(name, value);
            }
        }
        (client, topic, warnings)
    }

    /// The client's configuration, and what is to be said about it.
    pub(super) fn conf(&self) -> Result<(Conf, Vec<String>), Error> {
        let (client, _, warnings) = self.resolved();
        Ok((client.to_conf()?, warnings))
    }

    /// The topic, as configured, of a client.
    pub(super) fn native_topic(&self, client: &Arc<Client>) -> Result<NativeTopic, Error> {
        let (_, properties, _) = self.resolved();
        NativeTopic::with_properties(client, &self.topic, &pairs(&properties))
            .map_err(|reason| Error::Client { reason })
    }
}

fn pairs(properties: &Properties) -> Vec<(String, String)> {
    let pairs = properties.iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(client: &[(&str, &str)], topic: &[(&str, &str)]) -> LocalConfig {
        let properties = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<Properties>()
        };
        LocalConfig {
            of_topic: properties(topic),
            ..LocalConfig::new("t", properties(client))
        }
    }

    #[test]
    fn what_is_written_wins_over_the_defaults() {
        let (client, topic, warnings) = config(&[("message.max.bytes", "7")], &[]).resolved();
        assert_eq!(client.get("message.max.bytes"), Some("7"));
        assert_eq!(client.get("allow.auto.create.topics"), Some("true"));
        assert_eq!(client.get("enable.partition.eof"), Some("false"));
        assert_eq!(topic.get("auto.offset.reset"), Some("smallest"));
        assert_eq!(warnings, [""; 0]);
        let own = [("auto.offset.reset", "largest")];
        let (_, topic, _) = config(&own, &[]).resolved();
        assert_eq!(topic.get("auto.offset.reset"), None, "the client has it");
    }

    #[test]
    fn what_old_programs_set_is_taken_with_a_warning() {
        let (client, topic, warnings) = config(
            &[("queued.max.messages.kbytes", "3000000")],
            &[("enforce.isr.cnt", "1")],
        )
        .resolved();
        assert_eq!(client.get("queued.max.messages.kbytes"), Some("2097151"));
        assert_eq!(topic.get("enforce.isr.cnt"), None);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn properties_of_clients_are_none_of_topics() {
        let (conf, _) = config(&[], &[]).conf().unwrap();
        let client = Client::new(crate::native::Kind::Consumer, conf, "t".to_owned()).unwrap();
        let client = Arc::new(client);
        for (name, value, sentence) in [
            (
                "client.id",
                "x",
                "No such configuration property: \"client.id\"",
            ),
            (
                "auto.offset.reset",
                "soon",
                "Invalid value \"soon\" for configuration property \"auto.offset.reset\"",
            ),
        ] {
            let refused = config(&[], &[(name, value)]).native_topic(&client);
            let refused = refused.map(drop).unwrap_err().to_string();
            assert_eq!(refused.trim(), sentence);
        }
    }
}
