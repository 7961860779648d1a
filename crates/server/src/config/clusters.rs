//! The `clusters` section: what it means for librdkafka and for groups.

use super::read::Document;
use super::{batching, strategies};
use crate::clusters::{Plan, initial_offset};
use barnabas_engine::{AckPolicy, ClusterConfig, DispatchConfig, Properties};

/// Like librdkafka's `message.max.bytes`.
const MAX_MESSAGE_BYTES: usize = 1_000_000;

/// How groups are served unless configured. Kafka-Pixy's clients take one
/// message a request; those of the native API take batches of up to 1,000
/// from a partition and acknowledge them later, several at a time, which its
/// 300 unacknowledged messages would stop in the middle of the first. And its
/// 64 waiting requests are fewer than the pages of one web application.
pub(crate) fn dispatch_defaults() -> DispatchConfig {
    DispatchConfig {
        acks: AckPolicy {
            max_pending: 10_000,
            ..AckPolicy::default()
        },
        queued_requests: 1_000,
        ..DispatchConfig::default()
    }
}

/// What a document says of one cluster.
pub(super) fn plan(document: &Document, name: &str, problems: &mut Vec<String>) -> Plan {
    let at = |key: &str| format!("clusters.{name}.{key}");
    let properties = |section: &str| -> Properties {
        document
            .map(&at(section))
            .map(|map| map.iter().cloned().collect())
            .unwrap_or_default()
    };
    let mut plan = Plan::new(ClusterConfig {
        name: name.to_owned(),
        common: properties("properties"),
        producer: properties("producer"),
        consumer: properties("consumer"),
        ..ClusterConfig::default()
    });
    if let Some(partitioner) = document.text(&at("produce.partitioner")) {
        if plan.config.producer.get("partitioner").is_some() {
            problems.push(format!(
                "{}: {} has it, too",
                at("produce.partitioner"),
                at("producer.partitioner")
            ));
        }
        plan.config
            .producer
            .set("partitioner", librdkafkas_name(partitioner));
        // Messages without a key one by one, as is meant by "at random".
        plan.config
            .producer
            .set_default("sticky.partitioning.linger.ms", "0");
    }
    let (strategies, scripts) = strategies::read(document, &at, problems);
    plan.strategies = strategies;
    plan.scripts = scripts;
    plan.config.batching = batching::read(document, &at, &plan.config, problems);
    let limit = document.number(&at("produce.max_message_bytes"));
    plan.options.max_message_bytes = limit.unwrap_or(MAX_MESSAGE_BYTES);
    if let Some(limit) = limit {
        plan.config
            .producer
            .set_default("message.max.bytes", &limit.to_string());
    }
    // Whoever waits for an answer hears that a topic is missing (contract,
    // `consume-and-ack.md`, section 11); librdkafka would take 30 s.
    plan.config
        .producer
        .set_default("topic.metadata.propagation.max.ms", "5000");
    let is_on = |key: &str| document.switch(&at(key)).unwrap_or(false);
    plan.options.strict_async = is_on("produce.strict_async");
    plan.options.is_consuming_disabled = is_on("consume.disabled");
    plan.dispatch = dispatch(document, &at, problems);
    plan.group_properties = group_properties(document, &at, &plan.config, problems);
    let found = plan.config.problems();
    problems.extend(
        found
            .iter()
            .map(|problem| format!("clusters.{name}: {problem}")),
    );
    plan
}

fn librdkafkas_name(partitioner: &str) -> &str {
    match partitioner {
        // Kafka-Pixy's (contract, section 11).
        "hash" => "fnv1a_random",
        // The Java client's.
        "java" => "murmur2_random",
        own => own,
    }
}

fn dispatch(
    document: &Document,
    at: &impl Fn(&str) -> String,
    problems: &mut Vec<String>,
) -> DispatchConfig {
    let mut config = dispatch_defaults();
    for (key, own) in [
        ("ack_timeout", &mut config.acks.timeout),
        ("long_polling_timeout", &mut config.long_polling),
        ("subscription_timeout", &mut config.subscription_timeout),
        ("commit_interval", &mut config.commit_interval),
        ("retry_backoff", &mut config.retry_backoff),
        ("revoke_wait", &mut config.revoke_wait),
    ] {
        let key = at(&format!("consume.{key}"));
        if let Some(duration) = document.duration(&key) {
            if duration.is_zero() && !key.ends_with("revoke_wait") {
                problems.push(format!("{key}: must be longer than 0"));
            }
            *own = duration;
        }
    }
    for (key, own) in [
        ("max_pending", &mut config.acks.max_pending),
        ("metadata_max_bytes", &mut config.acks.metadata_limit),
        ("max_waiting", &mut config.queued_requests),
        ("max_groups", &mut config.max_groups),
    ] {
        if let Some(number) = document.number(&at(&format!("consume.{key}"))) {
            *own = number;
        }
    }
    if let Some(retries) = document.number(&at("consume.max_retries")) {
        config.acks.max_retries = Some(u32::try_from(retries).unwrap_or(u32::MAX));
    }
    let topic = document.text(&at("consume.dead_letter_topic"));
    config.dead_letter_topic = topic.map(str::to_owned);
    let key = at("consume.initial_offset");
    if let Some(text) = document.text(&key) {
        match initial_offset(text) {
            Some(initial) => config.initial_offset = initial,
            None => problems.push(format!(
                "{key}: \"{text}\" must be newest, oldest, a time such as 2026-01-31T12:00:00Z, \
                 or milliseconds since 1970"
            )),
        }
    }
    config
}

/// librdkafka's properties of the groups' consumers. What is given counts
/// before the `consumer` section, what is not, behind it.
fn group_properties(
    document: &Document,
    at: &impl Fn(&str) -> String,
    cluster: &ClusterConfig,
    problems: &mut Vec<String>,
) -> Properties {
    let mut properties = Properties::new();
    let session_timeout = document
        .duration(&at("consume.session_timeout"))
        .map(|duration| duration.as_millis().to_string());
    let text = |key: &str| document.text(&at(key)).map(str::to_owned);
    for (name, given, default) in [
        ("session.timeout.ms", session_timeout, "15000"),
        (
            "isolation.level",
            text("consume.isolation_level"),
            "read_committed",
        ),
        (
            "partition.assignment.strategy",
            text("consume.assignor"),
            "cooperative-sticky",
        ),
    ] {
        let is_set = [&cluster.consumer, &cluster.common]
            .iter()
            .any(|section| section.get(name).is_some());
        match given {
            Some(given) => {
                properties.set(name, given);
            }
            None if is_set => {}
            None => {
                properties.set(name, default);
            }
        }
    }
    let key = at("consume.static_membership");
    if document.switch(&key) == Some(true) {
        let client_id = cluster.consumer.get("client.id");
        match client_id.or_else(|| cluster.common.get("client.id")) {
            Some(client_id) => {
                properties.set("group.instance.id", client_id);
            }
            None => problems.push(format!(
                "{key}: needs the property client.id, another one in each process"
            )),
        }
    }
    properties
}
