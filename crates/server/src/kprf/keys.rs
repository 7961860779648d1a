//! Every key of kprf's file (contract, `producer-http.md`, section 3).

use crate::document::journal;
use crate::document::keys::{Key, Kind, Schema, key};
use crate::document::sections;

/// How kprf is configured.
pub(crate) const SCHEMA: Schema = Schema {
    prefix: "KPRF_",
    keys: &[KEYS, journal::KEYS, sections::ACCESS, sections::TELEMETRY],
    reads_terms: false,
    files: &[
        "access.tokens_file",
        "http.tls.cert",
        "http.tls.key",
        "http.tls.client_ca",
    ],
};

const MOST: i64 = i32::MAX as i64;
const PORT: Kind = Kind::Number(0, 65_535);
/// As large as memory may be.
const BYTES: Kind = Kind::Number(1, 1 << 50);

/// kprf's own and what is near; ranges are librdkafka's where it has one.
const KEYS: &[Key] = &[
    key("kafka.brokers", Kind::List),
    key("kafka.user", Kind::Text),
    key("kafka.password", Kind::Text),
    key(
        "kafka.message_max_bytes",
        Kind::Number(1_000, 1_000_000_000),
    ),
    key("kafka.queue_buffering_max_messages", Kind::Number(1, MOST)),
    key("kafka.queue_buffering_max_ms", Kind::Number(0, 900_000)),
    key("kafka.queue_buffering_max_kbytes", Kind::Number(1, MOST)),
    key("kafka.retries", Kind::Number(0, MOST)),
    key("kafka.message_timeout_ms", Kind::Number(0, MOST)),
    key("kafka.request_timeout_ms", Kind::Number(1, 900_000)),
    key("kafka.request_required_acks", Kind::Number(-1, 1_000)),
    key("kafka.statistics_interval_ms", Kind::Number(0, 86_400_000)),
    key("kafka.librdkafka", Kind::Map),
    key(
        "kafka.durability",
        Kind::Choice(&["memory", "journal", "kafka"]),
    ),
    key("kafka.max_buffered_bytes", BYTES),
    key("kafka.dead_letter_topics", Kind::Map),
    key("http.port", PORT),
    key("http.metrics_port", PORT),
    key("http.listen", Kind::Text),
    key("http.max_body_bytes", BYTES),
    key("http.max_connections", Kind::Number(1, MOST)),
    key("http.tls.cert", Kind::Text),
    key("http.tls.key", Kind::Text),
    key("http.tls.client_ca", Kind::Text),
    key("http.reply_shape", Kind::Choice(&["program", "documented"])),
    key("http.strict_kprf", Kind::Switch),
    key("http.slow_request_ms", Kind::Number(0, MOST)),
    key("output_file", Kind::Text),
    key("ratelimit.enabled", Kind::Switch),
    key("ratelimit.rules", Kind::Rules),
    key("ratelimit.count_refused", Kind::Switch),
    key(
        "ratelimit.max_requests_per_client_per_minute",
        Kind::Number(0, u32::MAX as i64),
    ),
    key("ratelimit.max_clients", Kind::Number(1, 1_000_000)),
    key("log.level", Kind::Text),
    key("metrics.max_topics", Kind::Number(0, MOST)),
    key("metrics.partitions", Kind::Switch),
    key("topics.allow", Kind::List),
    key("topics.deny", Kind::List),
    key("shutdown_timeout_ms", Kind::Number(0, MOST)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::keys::Found;

    #[test]
    fn what_was_meant_is_guessed() {
        let nearest = |path| match SCHEMA.find(path) {
            Found::Nothing(nearest) => nearest,
            _ => panic!("{path} is there"),
        };
        assert_eq!(nearest("kafka.broker"), Some("kafka.brokers"));
        assert_eq!(nearest("http.prot"), Some("http.port"));
        assert_eq!(nearest("nonsense"), None);
        assert!(matches!(SCHEMA.find("http.tls"), Found::Section));
        assert!(matches!(SCHEMA.find("output_file"), Found::Key(_)));
    }
}
