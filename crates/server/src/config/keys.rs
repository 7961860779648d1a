//! Every key of the configuration, once.

use barnabas_engine::Strategy;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A whole number from `.0` on.
    Number(usize),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number with its unit: `500ms`, `10s`, `2m`.
    Duration,
    /// A list of texts, which may be empty; a single text counts as a list
    /// of one.
    List,
    /// Names and values, both free.
    Map,
    /// `true` or `false`.
    Switch,
    /// Tokens and their grants.
    Tokens,
    /// One of these words, or names with one each.
    Choices(&'static [&'static str]),
    /// A whole number from `.0` on, or names with one each.
    Numbers(usize),
    /// A text, or names with one each.
    Texts,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its path; `*` stands for a name that the user chooses.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// Its default as the example shows it; `none` when it is off unless
    /// given. Checked against the example by a test.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "documents; read by the test of the example")
    )]
    pub(super) default: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
    }
}

pub(super) const KEYS: &[Key] = &[
    key("log.format", Kind::Choice(&["text", "json"]), "text"),
    key("log.level", Kind::Text, "info"),
    key("shutdown.deadline", Kind::Duration, "17s"),
    key("default_cluster", Kind::Text, "default"),
    key("clusters.*.properties", Kind::Map, "none"),
    key("clusters.*.producer", Kind::Map, "none"),
    key("clusters.*.consumer", Kind::Map, "none"),
    key(
        "clusters.*.produce.partitioner",
        Kind::Choice(&["hash", "random", "roundrobin", "java", "consistent_random"]),
        "none",
    ),
    key(
        "clusters.*.produce.strategy",
        Kind::Choices(&Strategy::NAMES),
        "none",
    ),
    key("clusters.*.produce.sticky_picks", Kind::Numbers(1), "none"),
    key("clusters.*.produce.picker", Kind::Texts, "none"),
    key("clusters.*.produce.linger_ms", Kind::Numbers(0), "none"),
    key(
        "clusters.*.produce.batch_messages",
        Kind::Numbers(1),
        "none",
    ),
    key(
        "clusters.*.produce.max_message_bytes",
        Kind::Number(1_000),
        "1000000",
    ),
    key("clusters.*.produce.strict_async", Kind::Switch, "false"),
    key("clusters.*.consume.disabled", Kind::Switch, "false"),
    key("clusters.*.consume.initial_offset", Kind::Text, "newest"),
    key("clusters.*.consume.ack_timeout", Kind::Duration, "5m"),
    key("clusters.*.consume.max_pending", Kind::Number(1), "10000"),
    key("clusters.*.consume.max_retries", Kind::Number(0), "none"),
    key("clusters.*.consume.dead_letter_topic", Kind::Text, "none"),
    key(
        "clusters.*.consume.long_polling_timeout",
        Kind::Duration,
        "3s",
    ),
    key("clusters.*.consume.max_waiting", Kind::Number(1), "1000"),
    key(
        "clusters.*.consume.subscription_timeout",
        Kind::Duration,
        "15s",
    ),
    key("clusters.*.consume.max_groups", Kind::Number(1), "1000"),
    key(
        "clusters.*.consume.commit_interval",
        Kind::Duration,
        "500ms",
    ),
    key("clusters.*.consume.retry_backoff", Kind::Duration, "500ms"),
    key("clusters.*.consume.revoke_wait", Kind::Duration, "30s"),
    key("clusters.*.consume.session_timeout", Kind::Duration, "15s"),
    key(
        "clusters.*.consume.isolation_level",
        Kind::Choice(&["read_committed", "read_uncommitted"]),
        "read_committed",
    ),
    key(
        "clusters.*.consume.assignor",
        Kind::Choice(&["cooperative-sticky", "range", "roundrobin"]),
        "cooperative-sticky",
    ),
    key(
        "clusters.*.consume.static_membership",
        Kind::Switch,
        "false",
    ),
    key(
        "clusters.*.consume.metadata_max_bytes",
        Kind::Number(0),
        "4096",
    ),
    key(
        "durability",
        Kind::Choices(&["memory", "journal", "kafka"]),
        "memory",
    ),
    key("journal.dir", Kind::Text, "none"),
    key("journal.max_bytes", Kind::Number(1 << 20), "1073741824"),
    key("journal.segment_bytes", Kind::Number(1 << 10), "67108864"),
    key(
        "journal.sync",
        Kind::Choice(&["group", "always", "os"]),
        "group",
    ),
    key("journal.sync_interval_ms", Kind::Number(0), "5"),
    key(
        "journal.on_full",
        Kind::Choice(&["reject", "wait"]),
        "reject",
    ),
    key("journal.mark_replayed", Kind::Switch, "false"),
    key("redis.listen", Kind::List, "0.0.0.0:6380"),
    key("redis.cluster", Kind::Text, "default"),
    key("redis.threads", Kind::Number(1), "none"),
    key("redis.max_connections", Kind::Number(1), "10000"),
    key(
        "redis.max_input_bytes",
        Kind::Number(128 << 20),
        "268435456",
    ),
    key("redis.client_timeout", Kind::Duration, "60s"),
    key("redis.password", Kind::Text, "none"),
    key("redis.users", Kind::Map, "none"),
    key(
        "redis.reply",
        Kind::Choice(&["rafka", "pair", "full"]),
        "rafka",
    ),
    key("redis.tls.cert", Kind::Text, "none"),
    key("redis.tls.key", Kind::Text, "none"),
    key("redis.tls.client_ca", Kind::Text, "none"),
    key("http.listen", Kind::List, "none"),
    key("http.unix", Kind::Text, "none"),
    key("http.cors_origins", Kind::List, "none"),
    key("http.max_bodies_bytes", Kind::Number(64 << 20), "268435456"),
    key("http.max_connections", Kind::Number(1), "10000"),
    key("http.client_timeout", Kind::Duration, "60s"),
    key("http.idempotency.window_ms", Kind::Number(1), "300000"),
    key("http.idempotency.max_keys", Kind::Number(1), "100000"),
    key("http.tls.cert", Kind::Text, "none"),
    key("http.tls.key", Kind::Text, "none"),
    key("http.tls.client_ca", Kind::Text, "none"),
    key("grpc.listen", Kind::List, "none"),
    key("grpc.max_connections", Kind::Number(1), "10000"),
    key("grpc.max_requests", Kind::Number(1), "20000"),
    key(
        "grpc.max_messages_bytes",
        Kind::Number(8 << 20),
        "268435456",
    ),
    key("grpc.client_timeout", Kind::Duration, "60s"),
    key("grpc.tls.cert", Kind::Text, "none"),
    key("grpc.tls.key", Kind::Text, "none"),
    key("grpc.tls.client_ca", Kind::Text, "none"),
    key("metrics.listen", Kind::List, "none"),
    key("metrics.max_topics", Kind::Number(0), "500"),
    key("metrics.partitions", Kind::Switch, "false"),
    key("metrics.statistics_interval_ms", Kind::Number(0), "5000"),
    key("statsd.address", Kind::Text, "none"),
    key("statsd.prefix", Kind::Text, "none"),
    key("statsd.interval_ms", Kind::Number(1), "none"),
    key("statsd.mtu", Kind::Number(1), "none"),
    key("replicas.advertised", Kind::Text, "none"),
    key("replicas.token", Kind::Text, "none"),
    key("replicas.ca", Kind::Text, "none"),
    key("tracing.propagate", Kind::Switch, "true"),
    // Without them, OpenTelemetry's variables count.
    key("otlp.endpoint", Kind::Text, "none"),
    key("otlp.protocol", Kind::Choice(&["grpc", "http"]), "none"),
    key("otlp.headers", Kind::Map, "none"),
    key("otlp.traces", Kind::Switch, "none"),
    key("otlp.metrics", Kind::Switch, "none"),
    key("otlp.interval_ms", Kind::Number(1), "none"),
    key("otlp.sample_ratio", Kind::Text, "none"),
    key("otlp.service_name", Kind::Text, "none"),
    key("access.tokens", Kind::Tokens, "none"),
    key("access.tokens_file", Kind::Text, "none"),
];

/// What is at a path.
pub(super) enum Found {
    /// A key.
    Key(&'static Key),
    /// Something that holds keys.
    Section,
    /// Nothing; the most similar path, if any is similar.
    Nothing(Option<String>),
}

/// Looks up a path.
pub(super) fn find(path: &str) -> Found {
    if let Some(key) = KEYS.iter().find(|key| matches(key.path, path)) {
        return Found::Key(key);
    }
    let depth = path.split('.').count();
    let is_section = KEYS
        .iter()
        .any(|key| key.path.split('.').count() > depth && matches(&first(key.path, depth), path));
    if is_section {
        return Found::Section;
    }
    let nearest = KEYS
        .iter()
        .map(|key| first(key.path, depth))
        .filter(|candidate| candidate.split('.').count() == depth)
        .map(|candidate| with_names(&candidate, path))
        .map(|candidate| (strsim::damerau_levenshtein(&candidate, path), candidate))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    Found::Nothing(nearest.map(|(_, candidate)| candidate))
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('.');
    pattern.split('.').all(|part| {
        parts
            .next()
            .is_some_and(|given| part == "*" || part == given)
    }) && parts.next().is_none()
}

fn first(path: &str, parts: usize) -> String {
    path.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// The pattern with the user's own names in place of its stars.
fn with_names(pattern: &str, path: &str) -> String {
    pattern
        .split('.')
        .zip(path.split('.'))
        .map(|(part, given)| if part == "*" { given } else { part })
        .collect::<Vec<_>>()
        .join(".")
}
