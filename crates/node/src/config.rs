//! What a handle's options mean to librdkafka (contract: `node.md`, section
//! 13: defaults that moved since 0.8.6).

use barnabas_engine::DirectConfig;

/// Properties of 0.8.6 that no longer exist; they have no effect.
const GONE: [&str; 1] = ["enforce.isr.cnt"];

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
    let mut warnings = Vec::new();
    let defaults = DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut client = Vec::from(defaults);
    client.extend(pairs(driver, &mut warnings));
    let topics = pairs(topics, &mut warnings);
    let config = DirectConfig {
        client,
        topics,
        has_statistics,
    };
    (config, warnings)
}

/// Names and values in turn.
pub(crate) fn pairs(flat: Vec<String>, warnings: &mut Vec<String>) -> Vec<(String, String)> {
    let mut flat = flat.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        if GONE.contains(&name.as_str()) {
            warnings.push(format!(
                "Configuration property {name} no longer exists: it has no effect"
            ));
        } else {
            pairs.push((name, value));
        }
    }
    pairs
}
