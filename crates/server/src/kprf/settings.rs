//! What the program runs on, from what is written (contract,
//! `producer-http.md`, section 3): defaults, librdkafka's names, and what
//! contradicts.

use super::keeping::{dead_letters, durability, journal};
use super::keys;
use crate::document::{Document, Written, sections};
use crate::tokens::Tokens;
use crate::{gateway, telemetry};
use anyhow::{Context as _, Result, bail};
use barnabas_engine::{ClusterConfig, JournalOptions, Properties};
use barnabas_http::{KprfOptions, KprfProducers, Options, RateRule, ReplyShape};
use barnabas_redis::TlsFiles;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the log goes unless configured.
pub(super) const STDOUT: &str = "/dev/stdout";

/// Names that librdkafka knows for one property. Ours are the second ones:
/// which of two names wins would be chance.
const ALIASES: [(&str, &str); 5] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("message.send.max.retries", "retries"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];

/// Keys that are properties under another name, with their defaults.
const PROPERTIES: [(&str, &str, i64); 6] = [
    ("kafka.message_max_bytes", "message.max.bytes", 1_048_576),
    ("kafka.queue_buffering_max_ms", "linger.ms", 10),
    ("kafka.retries", "retries", 3),
    ("kafka.request_timeout_ms", "request.timeout.ms", 30_000),
    ("kafka.request_required_acks", "acks", -1),
    (
        "kafka.statistics_interval_ms",
        "statistics.interval.ms",
        5_000,
    ),
];

/// How long a topic may be unknown before its records fail.
const PROPAGATION: &str = "topic.metadata.propagation.max.ms";
/// That of the journal's records, in milliseconds.
const JOURNAL_PROPAGATION: &str = "5000";

/// What the cluster is called; a part of the journal's directory, too.
pub(super) const CLUSTER: &str = "kafka";

/// Bytes that may be under way unless configured.
const MAX_BUFFERED: u64 = 256 << 20;

/// Everything that `barnabas kprf` runs on.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) cluster: ClusterConfig,
    /// Of the producer for those who wait, and of that for the others.
    pub(super) waiting: Properties,
    pub(super) patient: Properties,
    pub(super) journal: Option<JournalOptions>,
    pub(super) options: KprfOptions,
    pub(super) listen: String,
    pub(super) metrics_listen: String,
    pub(super) max_connections: usize,
    pub(super) tls: Option<TlsFiles>,
    pub(super) telemetry: telemetry::Settings,
    pub(super) output: PathBuf,
    pub(super) level: String,
    pub(super) shutdown_timeout: Duration,
    pub(super) warnings: Vec<String>,
    pub(super) tokens: Tokens,
    pub(super) written: Written,
}

/// Reads file and environment.
///
/// # Errors
/// Everything that is wrong, in one line.
pub(super) fn load(
    path: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings> {
    resolve(Document::read(&keys::SCHEMA, path, variables)?)
}

fn resolve(mut document: Document) -> Result<Settings> {
    let mut problems = std::mem::take(&mut document.problems);
    let mut warnings = std::mem::take(&mut document.warnings);
    for (section, keys) in [
        ("kafka", &["brokers"][..]),
        ("ratelimit", &["enabled", "rules"]),
    ] {
        for key in keys.iter().filter(|_| document.has_section(section)) {
            if document.get(&format!("{section}.{key}")).is_none() {
                problems.push(format!("missing field '{key}'"));
            }
        }
    }
    let brokers = document.list("kafka.brokers");
    if brokers.is_empty() && problems.is_empty() {
        problems.push("kafka.brokers is empty: there is nobody to send to".to_owned());
    }
    let rules = rules(&document, &mut problems);
    let tls = document.tls("http.tls", &mut problems);
    let durability = durability(&document);
    let journal = journal(&document, durability, &mut problems);
    let dead_letters = dead_letters(&document, &mut problems);
    let tokens = sections::tokens(&document, &mut problems);
    let telemetry = sections::telemetry(&document, &mut problems);
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }

    let number = |path: &str, default: i64| document.number(path).unwrap_or(default);
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", brokers.join(","));
    for (key, name, default) in PROPERTIES {
        properties.set(name, number(key, default).to_string());
    }
    let own = own_properties(&document);
    // What is bounded is bounded by us; see `KprfProducers::add_defaults`.
    let own_number = |name: &str| own.get(name)?.parse::<u64>().ok();
    let max_messages = own_number("queue.buffering.max.messages")
        .filter(|messages| *messages > 0)
        .unwrap_or(unsigned(number(
            "kafka.queue_buffering_max_messages",
            100_000,
        )));
    let kbytes = own_number("queue.buffering.max.kbytes").or(document
        .number("kafka.queue_buffering_max_kbytes")
        .map(unsigned));
    let max_buffered = document
        .number("kafka.max_buffered_bytes")
        .map(unsigned)
        .or(kbytes.map(|kbytes| kbytes.saturating_mul(1024)))
        .unwrap_or(MAX_BUFFERED);
    let mut properties = properties.overlaid(&own);
    let timeout = number("kafka.message_timeout_ms", 2_000).to_string();
    properties.set_default("message.timeout.ms", &timeout);
    let sasl = credentials(&document, &properties, &mut warnings);
    let mut properties = properties.overlaid(&sasl);
    KprfProducers::add_defaults(&mut properties);
    let waiting = properties.clone();
    let mut patient = properties;
    patient.set("message.timeout.ms", "0");
    if own.get("retries").is_none() && document.get("kafka.retries").is_none() {
        patient.set("retries", i32::MAX.to_string());
    }
    let mut cluster = ClusterConfig {
        name: CLUSTER.to_owned(),
        ..ClusterConfig::default()
    };
    for own in [&waiting, &patient] {
        gateway::check(&ClusterConfig {
            producer: own.clone(),
            ..cluster.clone()
        })?;
    }
    // The journal's producer is made of these. What it is told to be missing
    // is given up for good, so it looks longer than those who wait do.
    cluster.producer = patient.clone();
    if own.get(PROPAGATION).is_none() {
        cluster.producer.set(PROPAGATION, JOURNAL_PROPAGATION);
    }

    let message_max_bytes = waiting
        .get("message.max.bytes")
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(u64::MAX);
    let max_body = unsigned(number("http.max_body_bytes", 64 << 20)).min(max_buffered);
    let options = KprfOptions {
        max_body_bytes: usize::try_from(max_body).unwrap_or(usize::MAX),
        max_messages,
        max_buffered_bytes: max_buffered,
        message_max_bytes,
        durability,
        reply_shape: match document.text("http.reply_shape") {
            Some("documented") => ReplyShape::Documented,
            _ => ReplyShape::Program,
        },
        is_strict: document.switch("http.strict_kprf"),
        slow_request: milliseconds(number("http.slow_request_ms", 1_000)),
        rules: match document.switch("ratelimit.enabled") {
            true => rules,
            false => Vec::new(),
        },
        counts_refused: document.switch("ratelimit.count_refused"),
        client_limit: match document.switch("ratelimit.enabled") {
            true => number("ratelimit.max_requests_per_client_per_minute", 0)
                .try_into()
                .unwrap_or(u32::MAX),
            false => 0,
        },
        max_clients: usize::try_from(number("ratelimit.max_clients", 10_000)).unwrap_or(1),
        allowed_topics: document.list("topics.allow"),
        denied_topics: document.list("topics.deny"),
        dead_letters,
        max_topics: usize::try_from(number("metrics.max_topics", 500)).unwrap_or(usize::MAX),
        has_partitions: document.switch("metrics.partitions"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: super::COMMIT.to_owned(),
    };
    let host = document.text("http.listen").unwrap_or("0.0.0.0");
    let address = |key: &str, default: i64| match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{}", number(key, default)),
        false => format!("{host}:{}", number(key, default)),
    };
    let max_connections = document
        .number("http.max_connections")
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(Options::default().max_connections);
    Ok(Settings {
        cluster,
        waiting,
        patient,
        journal,
        options,
        listen: address("http.port", 4242),
        metrics_listen: address("http.metrics_port", 8088),
        max_connections,
        tls,
        telemetry,
        output: document.text("output_file").unwrap_or(STDOUT).into(),
        level: document.text("log.level").unwrap_or("info").to_owned(),
        shutdown_timeout: milliseconds(number("shutdown_timeout_ms", 30_000)),
        warnings,
        tokens,
        written: Written::new(document),
    })
}

/// `kafka.librdkafka`, under the names that are ours.
fn own_properties(document: &Document) -> Properties {
    let map = document.get("kafka.librdkafka").and_then(Value::as_object);
    let mut own = Properties::new();
    for (name, value) in map.into_iter().flatten() {
        let alias = ALIASES.iter().find(|(alias, _)| alias == name);
        let name = alias.map_or(name.as_str(), |(_, name)| name);
        own.set(name, value.as_str().unwrap_or_default());
    }
    own
}

/// User and password count only where SASL is chosen.
fn credentials(
    document: &Document,
    properties: &Properties,
    warnings: &mut Vec<String>,
) -> Properties {
    let mut credentials = Properties::new();
    let is_sasl = properties
        .get("security.protocol")
        .is_some_and(|protocol| protocol.to_lowercase().starts_with("sasl_"));
    for (key, name) in [
        ("kafka.user", "sasl.username"),
        ("kafka.password", "sasl.password"),
    ] {
        let Some(value) = document.text(key) else {
            continue;
        };
        if is_sasl {
            credentials.set(name, value);
        } else {
            warnings.push(format!(
                "{key} has no effect without security.protocol and sasl.mechanism in \
                 kafka.librdkafka"
            ));
        }
    }
    credentials
}

fn rules(document: &Document, problems: &mut Vec<String>) -> Vec<RateRule> {
    let rules = document.get("ratelimit.rules").and_then(Value::as_array);
    let mut read = Vec::new();
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let topic = rule.get("topic_name").and_then(Value::as_str);
        let limit = rule.get("max_requests_per_minute").and_then(Value::as_u64);
        match (topic, limit.and_then(|limit| u32::try_from(limit).ok())) {
            (Some(topic), Some(limit)) => read.push(RateRule {
                topic_name: topic.to_owned(),
                max_requests_per_minute: limit,
            }),
            _ => problems.push(format!(
                "ratelimit.rules[{index}] must be a topic_name and max_requests_per_minute from 0 \
                 to {}",
                u32::MAX
            )),
        }
    }
    read
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn milliseconds(number: i64) -> Duration {
    Duration::from_millis(unsigned(number))
}

/// What stands before every problem, as kprf has it.
pub(super) fn explained(result: Result<Settings>) -> Result<Settings> {
    result.context("failed to initialize config")
}

#[cfg(test)]
mod tests;
