//! What a handle's options mean to librdkafka (contract: `node.md`, section
//! 13: defaults that moved since 0.8.6).

use barnabas_engine::{DirectConfig, bring_up_to_date};

/// What every producer's handle has unless its user says otherwise.
const DEFAULTS: [(&str, &str); 2] = [
    ("message.max.bytes", "4000000"),
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// A producer's configuration, and what is to be said about it.
pub(crate) fn of_producer(
    driver: Vec<String>,
    topics: Vec<String>,
    has_statistics: bool,
) -> (DirectConfig, Vec<String>) {
    let defaults = DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut client = Vec::from(defaults);
    client.extend(pairs(driver));
    let mut topics = pairs(topics);
    let mut warnings = bring_up_to_date(&mut client);
    warnings.extend(bring_up_to_date(&mut topics));
    let config = DirectConfig {
        client,
        topics,
        has_statistics,
    };
    (config, warnings)
}

/// Names and values in turn.
pub(crate) fn pairs(flat: Vec<String>) -> Vec<(String, String)> {
    let mut flat = flat.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        pairs.push((name, value));
    }
    pairs
}
