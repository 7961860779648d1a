//! The keys of a cluster that say when the batches of each topic leave.
//!
//! Contract: `producer-engine.md`, sections 2 and 5.

use super::read::{DEFAULT, Document};
use barnabas_engine::{Batching, ClusterConfig, PerTopic, TopicBatching};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LINGER: &str = "produce.linger_ms";
const MESSAGES: &str = "produce.batch_messages";
/// All of them; they count at once when they change.
pub(crate) const KEYS: [&str; 2] = [LINGER, MESSAGES];

/// librdkafka's, in milliseconds.
const MESSAGE_TIMEOUT: u32 = 300_000;

/// When each topic's batches leave. `cluster` has its properties.
pub(super) fn read(
    document: &Document,
    at: &impl Fn(&str) -> String,
    cluster: &ClusterConfig,
    problems: &mut Vec<String>,
) -> Batching {
    // librdkafka's bounds, and what it calls them.
    let [linger, messages] = [
        (
            LINGER,
            900_000,
            &["linger.ms", "queue.buffering.max.ms"][..],
        ),
        (MESSAGES, 1_000_000, &["batch.num.messages"]),
    ]
    .map(|(key, most, properties)| {
        let mut topics: BTreeMap<&str, u32> = BTreeMap::new();
        for (topic, text) in document.topics(&at(key)) {
            match text.parse() {
                Ok(number) if number <= most => {
                    topics.insert(topic, number);
                }
                _ => problems.push(format!(
                    "{}: that of {topic} must be at most {most}",
                    at(key)
                )),
            }
        }
        if let Some((property, _)) = find(cluster, properties)
            && topics.contains_key(DEFAULT)
        {
            problems.push(format!(
                "{}: it says for all topics what {} says, too",
                at(key),
                at(&property)
            ));
        }
        topics
    });
    let timeout = find(cluster, &["message.timeout.ms", "delivery.timeout.ms"]);
    let timeout = timeout.and_then(|(_, value)| value.parse().ok());
    let timeout = timeout.unwrap_or(MESSAGE_TIMEOUT);
    let too_long = |linger: u32| timeout > 0 && linger >= timeout;
    for (topic, _) in linger.iter().filter(|(_, linger)| too_long(**linger)) {
        problems.push(format!(
            "{}: that of {topic} must be less than message.timeout.ms, {timeout}",
            at(LINGER)
        ));
    }
    let of = |topic: &str| {
        let own = |topics: &BTreeMap<&str, u32>| {
            let own = topics.get(topic).or_else(|| topics.get(DEFAULT));
            own.copied()
        };
        TopicBatching {
            linger: own(&linger).map(|linger| Duration::from_millis(linger.into())),
            messages: own(&messages),
        }
    };
    let topics: BTreeSet<&str> = linger.keys().chain(messages.keys()).copied().collect();
    let topics = topics.into_iter().filter(|topic| *topic != DEFAULT);
    Batching::new(topics.fold(PerTopic::all(of(DEFAULT)), |all, topic| {
        all.with(topic, of(topic))
    }))
}

/// The first of these properties that the cluster's producers are given: its
/// path and value.
fn find<'a>(cluster: &'a ClusterConfig, names: &[&str]) -> Option<(String, &'a str)> {
    let sections = [
        ("producer", &cluster.producer),
        ("properties", &cluster.common),
    ];
    sections.into_iter().find_map(|(section, properties)| {
        names.iter().find_map(|name| {
            let value = properties.get(name)?;
            Some((format!("{section}.{name}"), value))
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{parse, tests::problems};
    use barnabas_engine::{Batching, PerTopic, TopicBatching};
    use std::time::Duration;

    fn batching(produce: &str, variables: &[(&str, &str)]) -> Batching {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let text = format!("clusters: {{default: {{produce: {produce}}}}}\n");
        let mut resolved = parse(&text, variables).unwrap();
        resolved.clusters.remove(0).config.batching
    }

    fn is(linger: Option<u64>, messages: Option<u32>) -> TopicBatching {
        TopicBatching {
            linger: linger.map(Duration::from_millis),
            messages,
        }
    }

    #[test]
    fn batches_are_one_or_one_for_each_topic() {
        assert_eq!(batching("{}", &[]), Batching::default());
        let all = PerTopic::all(is(Some(50), None));
        assert_eq!(batching("{linger_ms: 50}", &[]), Batching::new(all));
        // Each key has its own default.
        let each = PerTopic::all(is(None, Some(100)))
            .with("orders.eu", is(Some(10_000), Some(3)))
            .with("clicks", is(Some(0), Some(100)));
        let given = "{linger_ms: {orders.eu: 10000, clicks: 0}, batch_messages: {orders.eu: 3, \
                     default: 100}}";
        assert_eq!(batching(given, &[]), Batching::new(each));
        let variables = [
            (
                "BARNABAS_CLUSTERS__DEFAULT__PRODUCE__LINGER_MS__MY_TOPIC",
                "7",
            ),
            ("BARNABAS_CLUSTERS__DEFAULT__PRODUCE__BATCH_MESSAGES", "5"),
        ];
        let variable = PerTopic::all(is(None, Some(5))).with("my_topic", is(Some(7), Some(5)));
        assert_eq!(batching("{}", &variables), Batching::new(variable));
    }

    #[test]
    fn what_cannot_be_is_said_with_its_key() {
        for (cluster, expected) in [
            (
                "produce: {batch_messages: {t: 0}}",
                "batch_messages: a map must be a whole number of at least 1, or names with one \
                 each",
            ),
            (
                "produce: {batch_messages: {t: 1000001}}",
                "batch_messages: that of t must be at most 1000000",
            ),
            (
                "produce: {linger_ms: 9000000000}",
                "linger_ms: that of default must be at most 900000",
            ),
            (
                "produce: {linger_ms: {t: 300000, u: 299999}}",
                "linger_ms: that of t must be less than message.timeout.ms, 300000",
            ),
            (
                "properties: {delivery.timeout.ms: 100}, produce: {linger_ms: {t: 100, u: 99}}",
                "linger_ms: that of t must be less than message.timeout.ms, 100",
            ),
            (
                "producer: {queue.buffering.max.ms: 1}, produce: {linger_ms: {default: 5}}",
                "linger_ms: it says for all topics what clusters.c.producer.queue.buffering.max.ms \
                 says, too",
            ),
            (
                "properties: {batch.num.messages: 1}, produce: {batch_messages: 5}",
                "batch_messages: it says for all topics what \
                 clusters.c.properties.batch.num.messages says, too",
            ),
        ] {
            let text = format!("clusters: {{c: {{{cluster}}}}}\nredis: {{cluster: c}}\n");
            let said = problems(&text, &[]);
            let expected = format!("clusters.c.produce.{expected}");
            assert!(said.contains(&expected), "{cluster}: {said}");
            assert!(!said.contains("that of u"), "{said}");
        }
        let good = "{c: {producer: {message.timeout.ms: 0, linger.ms: 1}, produce: {linger_ms: \
                    {t: 900000}}}}";
        let text = format!("clusters: {good}\nredis: {{cluster: c}}\n");
        assert_eq!(problems(&text, &[]), "");
    }
}
