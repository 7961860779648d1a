//! ekaf's keys as settings of the outbox (contract, `producer-engine.md`,
//! section 2). Knows nothing of kafboy: whoever produces over an outbox can be
//! configured with these.

use super::keys::PICKER;
use crate::document::Document;
use crate::document::keys::{DEFAULT, Key, Kind, key};
use crate::script::LuaPicker;
use barnabas_engine::{
    DowntimePolicy, Durability, MassageBuffer, OneLarge, OutboxSettings, PartitionPicker, PerTopic,
    Properties, StatsdConfig, Strategy,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const MOST: i64 = i32::MAX as i64;
const COUNT: Kind = Kind::PerTopic(&Kind::Number(1, MOST));
const MILLISECONDS: Kind = Kind::PerTopic(&Kind::Number(0, MOST));

/// All keys.
pub(crate) const KEYS: &[Key] = &[
    key("ekaf.ekaf_bootstrap_broker", Kind::Brokers),
    key("ekaf.ekaf_bootstrap_topics", Kind::List),
    key(
        "ekaf.ekaf_per_partition_workers",
        Kind::PerTopic(&Kind::Number(1, 10_000)),
    ),
    key("ekaf.ekaf_per_partition_workers_max", Kind::Ignored),
    key("ekaf.ekaf_max_buffer_size", COUNT),
    key("ekaf.ekaf_buffer_ttl", MILLISECONDS),
    key(
        "ekaf.ekaf_max_downtime_buffer_size",
        Kind::PerTopic(&Kind::Number(0, MOST)),
    ),
    key(
        "ekaf.ekaf_partition_strategy",
        Kind::PerTopic(&Kind::Choice(&Strategy::NAMES)),
    ),
    key("ekaf.ekaf_sticky_partition_buffer_size", COUNT),
    key(
        "ekaf.ekaf_push_to_statsd_enabled",
        Kind::PerTopic(&Kind::Switch),
    ),
    key("ekaf.pull_for_changes_timeout", Kind::Number(10, 3_600_000)),
    key(
        "ekaf.ekaf_callback_massage_buffer",
        Kind::PerTopic(&Kind::Callback),
    ),
    key(PICKER, Kind::PerTopic(&Kind::Callback)),
    key("ekaf.ekaf_callback_flush", Kind::Ignored),
    key("ekaf.ekaf_callback_flushed_replied", Kind::Ignored),
    key("ekaf.ekaf_callback_worker_down", Kind::Ignored),
    key("ekaf.ekaf_callback_worker_still_down", Kind::Ignored),
    key("ekaf.ekaf_callback_worker_up", Kind::Ignored),
    key("ekaf.ekaf_callback_downtime_saved", Kind::Ignored),
    key("ekaf.ekaf_callback_downtime_replayed", Kind::Ignored),
    key("ekaf.ekaf_callback_time_to_connect", Kind::Ignored),
    key("ekaf.ekaf_callback_time_down", Kind::Ignored),
    key(
        "ekaf.ekaf_callback_max_downtime_buffer_reached",
        Kind::Ignored,
    ),
    key("ekaf.enable_logging", Kind::Switch),
    key("ekaf.acks", Kind::Number(-1, 1_000)),
    key("ekaf.client_id", Kind::Text),
    key("ekaf.request_timeout_ms", Kind::Number(1, 900_000)),
    key("ekaf.sync_timeout_ms", Kind::Number(1, MOST)),
    key(
        "ekaf.durability",
        Kind::PerTopic(&Kind::Choice(&["memory", "journal", "kafka"])),
    ),
    key("ekaf.max_buffered_bytes", Kind::Number(1, 1 << 50)),
    key("ekaf.max_buffered_messages", Kind::Number(1, MOST)),
    key(
        "ekaf.downtime_policy",
        Kind::PerTopic(&Kind::Choice(&["reject", "drop_newest", "drop_oldest"])),
    ),
    key("ekaf.max_message_age_ms", MILLISECONDS),
    key(
        "ekaf.compression",
        Kind::PerTopic(&Kind::Choice(&["none", "gzip", "snappy", "lz4", "zstd"])),
    ),
    key("ekaf.connections", Kind::Number(1, 64)),
    key("ekaf.metadata_refresh_ms", Kind::Number(10, 3_600_000)),
    key("ekaf.down_after_ms", Kind::Number(1, MOST)),
    key("ekaf.topic_grace_ms", Kind::Number(0, MOST)),
    key("ekaf.statsd.address", Kind::Text),
    key("ekaf.statsd.prefix", Kind::Text),
    key("ekaf.statsd.mtu", Kind::Number(64, 65_507)),
    key("ekaf.statsd.interval_ms", Kind::Number(1, MOST)),
    key("ekaf.librdkafka", Kind::Map),
];

/// Erlang's module of ekaf's own callbacks.
const OWN: &str = "ekaf_callbacks:";

/// What ekaf's keys come to.
pub(crate) struct Ekaf {
    /// `bootstrap.servers`; empty: there is nobody to send to.
    pub(crate) brokers: String,
    /// Topics that are looked at from the start.
    pub(crate) topics: Vec<String>,
    pub(crate) settings: OutboxSettings,
    /// Topics for which those who do not ask for it wait for Kafka, too.
    pub(crate) waits: PerTopic<bool>,
    /// `None`: no topic has it switched on.
    pub(crate) statsd: Option<StatsdConfig>,
    /// Whether ekaf would log what it does.
    pub(crate) is_talkative: bool,
}

impl Ekaf {
    /// Whether a topic may have a journal.
    pub(crate) fn wants_journal(&self) -> bool {
        let mut durabilities = self.settings.durability.values();
        durabilities.any(|one| *one == Durability::Journal)
    }
}

/// Reads them; what is wrong, and what has no effect, is added to the lists.
pub(crate) fn read(
    document: &Document,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Ekaf {
    let number = |name: &str| document.number(&format!("ekaf.{name}"));
    let milliseconds = |name: &str, default: Duration| number(name).map_or(default, duration);
    let per_topic = PerTopicReader { document };
    let built_in = OutboxSettings::default();
    let strategy = strategies(document, problems, warnings);
    let massage = massages(document, problems);
    let has_statsd = per_topic.read("ekaf_push_to_statsd_enabled", false, |value| {
        value.as_bool().unwrap_or_default()
    });
    warn_of_callbacks(document, warnings);
    let is_any_on = document
        .topics("ekaf.ekaf_push_to_statsd_enabled")
        .any(|(_, value)| value.as_bool() == Some(true));
    let settings = OutboxSettings {
        lanes_per_partition: per_topic.number("ekaf_per_partition_workers", 1),
        max_batch_messages: per_topic.number("ekaf_max_buffer_size", 100),
        batch_ttl: per_topic.read("ekaf_buffer_ttl", Duration::from_secs(5), time),
        max_downtime_messages: per_topic.read("ekaf_max_downtime_buffer_size", None, |value| {
            value.as_u64().and_then(|count| usize::try_from(count).ok())
        }),
        downtime_policy: per_topic.read("downtime_policy", DowntimePolicy::Reject, |value| {
            match value.as_str() {
                Some("drop_newest") => DowntimePolicy::DropNewest,
                Some("drop_oldest") => DowntimePolicy::DropOldest,
                _ => DowntimePolicy::Reject,
            }
        }),
        max_message_age: per_topic.read("max_message_age_ms", Duration::ZERO, time),
        strategy,
        sticky_picks: per_topic.read("ekaf_sticky_partition_buffer_size", 1_000, |value| {
            value.as_u64().unwrap_or(1)
        }),
        massage,
        durability: per_topic.read("durability", Durability::Memory, |value| {
            let name = value.as_str();
            name.and_then(Durability::from_name).unwrap_or_default()
        }),
        compression: per_topic.read("compression", None, |value| {
            value.as_str().map(str::to_owned)
        }),
        has_statsd,
        sync_timeout: milliseconds("sync_timeout_ms", built_in.sync_timeout),
        max_buffered_bytes: number("max_buffered_bytes")
            .map_or(built_in.max_buffered_bytes, unsigned),
        max_buffered_messages: number("max_buffered_messages")
            .map_or(built_in.max_buffered_messages, unsigned),
        down_after: milliseconds("down_after_ms", built_in.down_after),
        metadata_refresh: match number("metadata_refresh_ms") {
            Some(own) => duration(own),
            None => milliseconds("pull_for_changes_timeout", built_in.metadata_refresh),
        },
        unknown_topic_grace: milliseconds("topic_grace_ms", built_in.unknown_topic_grace),
        connections: number("connections")
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(built_in.connections),
        librdkafka: properties(document),
        ..built_in
    };
    check_journaled(document, &settings, problems, warnings);
    let waits = per_topic.read("durability", false, |value| value == "kafka");
    Ekaf {
        brokers: document.list("ekaf.ekaf_bootstrap_broker").join(","),
        topics: document.list("ekaf.ekaf_bootstrap_topics"),
        settings,
        waits,
        statsd: is_any_on.then(|| statsd(document)),
        is_talkative: document.switch("ekaf.enable_logging"),
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn duration(milliseconds: i64) -> Duration {
    Duration::from_millis(unsigned(milliseconds))
}

fn time(value: &Value) -> Duration {
    duration(value.as_i64().unwrap_or_default())
}

struct PerTopicReader<'a> {
    document: &'a Document,
}

impl PerTopicReader<'_> {
    /// A key in its per-topic form.
    fn read<T>(&self, name: &str, built_in: T, read: impl Fn(&Value) -> T) -> PerTopic<T> {
        let path = format!("ekaf.{name}");
        let topics = || self.document.topics(&path);
        let default = topics().find(|(topic, _)| *topic == DEFAULT);
        let default = default.map_or(built_in, |(_, value)| read(value));
        let others = topics().filter(|(topic, _)| *topic != DEFAULT);
        others.fold(PerTopic::all(default), |all, (topic, value)| {
            all.with(topic, read(value))
        })
    }

    fn number(&self, name: &str, built_in: u32) -> PerTopic<u32> {
        self.read(name, built_in, |value| {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.unwrap_or(u32::MAX)
        })
    }
}

/// What strategies and pickers come to together.
fn strategies(
    document: &Document,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> PerTopic<Strategy> {
    const STRATEGY: &str = "ekaf.ekaf_partition_strategy";
    let mut scripts: BTreeMap<&str, Option<Arc<dyn PartitionPicker>>> = BTreeMap::new();
    for (_, value) in document.topics(PICKER) {
        let name = value.as_str().unwrap_or_default();
        let picker = || match name.strip_prefix(OWN) {
            Some("default_custom_partition_picker") => None,
            _ if is_erlang(name) => {
                problems.push(format!(
                    "{PICKER}: {name} is written in Erlang; here it is the path of a Lua script"
                ));
                None
            }
            _ => match LuaPicker::load(Path::new(name)) {
                Ok(picker) => Some(Arc::new(picker) as _),
                Err(error) => {
                    problems.push(format!("{PICKER}: {error:#}"));
                    None
                }
            },
        };
        scripts.entry(name).or_insert_with(picker);
    }
    let of = |path: &str, topic: &str| {
        let mut found = document.topics(path);
        let value = found.find(|(own, _)| *own == topic).map(|(_, value)| value);
        value.and_then(Value::as_str)
    };
    let strategy = |topic: &str| {
        let own = |path: &str| of(path, topic).or_else(|| of(path, DEFAULT));
        let name = own(STRATEGY).unwrap_or("random");
        let picker = own(PICKER).and_then(|name| scripts.get(name).cloned().flatten());
        match (Strategy::named(name), picker) {
            (Some(Strategy::Phash2), Some(picker)) => Strategy::Custom(picker),
            (named, _) => named.unwrap_or_default(),
        }
    };
    let pickers = document.topics(PICKER).map(|(topic, _)| topic);
    let topics: BTreeSet<&str> = pickers
        .chain(document.topics(STRATEGY).map(|(topic, _)| topic))
        .collect();
    for (topic, _) in document.topics(PICKER) {
        let name = of(STRATEGY, topic).or_else(|| of(STRATEGY, DEFAULT));
        let is_used = name == Some("custom")
            || topic == DEFAULT && document.topics(STRATEGY).any(|(_, name)| name == "custom");
        if !is_used {
            warnings.push(format!(
                "{PICKER} of {topic} has no effect without the strategy custom"
            ));
        }
    }
    topics
        .into_iter()
        .filter(|topic| *topic != DEFAULT)
        .fold(PerTopic::all(strategy(DEFAULT)), |all, topic| {
            all.with(topic, strategy(topic))
        })
}

/// Whether a callback names a function: `module:function`.
pub(super) fn is_erlang(name: &str) -> bool {
    let is_name = |part: &str| {
        part.chars()
            .all(|found| found.is_ascii_alphanumeric() || found == '_')
    };
    name.split_once(':')
        .is_some_and(|(module, function)| is_name(module) && is_name(function))
}

fn massages(
    document: &Document,
    problems: &mut Vec<String>,
) -> PerTopic<Option<Arc<dyn MassageBuffer>>> {
    const KEY: &str = "ekaf_callback_massage_buffer";
    let named = |value: &Value| {
        let name = value.as_str().unwrap_or_default();
        OneLarge::named(name.strip_prefix(OWN).unwrap_or(name))
    };
    for (_, value) in document.topics(&format!("ekaf.{KEY}")) {
        if named(value).is_none() {
            problems.push(format!(
                "ekaf.{KEY}: {} is none of encode_messages_as_one_large_message, \
                 encode_messages_as_one_large_json, json_array_raw, ndjson",
                value.as_str().unwrap_or_default()
            ));
        }
    }
    PerTopicReader { document }.read(KEY, None, |value| {
        named(value).map(|kind| Arc::new(kind) as Arc<dyn MassageBuffer>)
    })
}

/// The journal sends records one by one: what is made of batches, and what holds
/// for messages in memory, has no effect on its topics.
fn check_journaled(
    document: &Document,
    settings: &OutboxSettings,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    const OF_MEMORY: [&str; 3] = [
        "ekaf_max_downtime_buffer_size",
        "downtime_policy",
        "max_message_age_ms",
    ];
    let is_journaled = |topic: &str| settings.of(topic).durability == Durability::Journal;
    let durabilities = document.topics("ekaf.durability");
    let massages = document.topics("ekaf.ekaf_callback_massage_buffer");
    let named: BTreeSet<&str> = durabilities
        .chain(massages)
        .map(|(topic, _)| topic)
        .collect();
    for topic in named {
        let own = settings.of(topic);
        if own.massage.is_some() && is_journaled(topic) {
            problems.push(format!(
                "ekaf.ekaf_callback_massage_buffer of {topic}: a topic with durability journal \
                 has no batches to be made into one record"
            ));
        }
    }
    for name in OF_MEMORY {
        let path = format!("ekaf.{name}");
        let own = document.topics(&path);
        for (topic, _) in own.filter(|(topic, _)| *topic != DEFAULT && is_journaled(topic)) {
            warnings.push(format!(
                "{path} of {topic} has no effect: its messages are in the journal"
            ));
        }
    }
}

/// Erlang's functions cannot be called from here; what they would hear of is
/// in the log and goes to statsd.
fn warn_of_callbacks(document: &Document, warnings: &mut Vec<String>) {
    let callbacks = KEYS.iter().filter(|key| key.kind == Kind::Ignored);
    for key in callbacks.filter(|key| document.get(key.path).is_some()) {
        let path = key.path;
        warnings.push(match path.starts_with("ekaf.ekaf_callback_") {
            true => format!("{path} has no effect: events are in the log, and go to statsd"),
            false => format!("{path} has no effect"),
        });
    }
}

fn statsd(document: &Document) -> StatsdConfig {
    let built_in = StatsdConfig::default();
    let text = |name: &str, default: String| {
        let value = document.get(&format!("ekaf.statsd.{name}"));
        let value = value.and_then(Value::as_str);
        value.map_or(default, str::to_owned)
    };
    let number = |name: &str| document.number(&format!("ekaf.statsd.{name}"));
    StatsdConfig {
        address: text("address", built_in.address),
        prefix: text("prefix", built_in.prefix),
        mtu: number("mtu")
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(built_in.mtu),
        interval: number("interval_ms").map_or(built_in.interval, duration),
    }
}

/// librdkafka's own properties, behind those that are keys here.
fn properties(document: &Document) -> Properties {
    let mut properties = Properties::new();
    for (name, value) in document.map("ekaf.librdkafka") {
        properties.set(name, value);
    }
    let text = |name: &str| document.get(&format!("ekaf.{name}"));
    let acks = document.number("ekaf.acks").unwrap_or(-1).to_string();
    if properties.get("request.required.acks").is_none() {
        properties.set_default("acks", &acks);
    }
    let client = text("client_id").and_then(Value::as_str).unwrap_or("ekaf");
    properties.set_default("client.id", client);
    let timeout = document.number("ekaf.request_timeout_ms").unwrap_or(30_000);
    properties.set_default("request.timeout.ms", &timeout.to_string());
    properties
}

#[cfg(test)]
mod tests;
