//! Every key of kafboy's own sections (contract, `producer-http.md`, section
//! 8). Those of `ekaf` are in [`ekaf`].

use super::ekaf;
use crate::document::journal;
use crate::document::keys::{Key, Kind, Schema, key};
use crate::document::sections;

/// How kafboy is configured.
pub(super) const SCHEMA: Schema = Schema {
    prefix: "KAFBOY_",
    keys: &[
        KEYS,
        ekaf::KEYS,
        journal::KEYS,
        sections::ACCESS,
        sections::METRICS,
        sections::TELEMETRY,
    ],
    reads_terms: true,
    files: &[
        HOOK,
        PICKER,
        "access.tokens_file",
        "kafboy.tls.cert",
        "kafboy.tls.key",
        "kafboy.tls.client_ca",
    ],
};

/// Who edits what is posted: the path of a script.
pub(super) const HOOK: &str = "kafboy.kafboy_callback_edit_json";
/// Who picks partitions, per topic: likewise.
pub(super) const PICKER: &str = "ekaf.ekaf_callback_custom_partition_picker";

const MOST: i64 = i32::MAX as i64;

const KEYS: &[Key] = &[
    key("kafboy.kafboy_http_port", Kind::Number(0, 65_535)),
    key("kafboy.kafboy_http_listen", Kind::Text),
    key("kafboy.kafboy_sync_url", Kind::Text),
    key("kafboy.kafboy_async_url", Kind::Text),
    key("kafboy.kafboy_routes_async_batch", Kind::List),
    key("kafboy.kafboy_routes_async", Kind::List),
    key("kafboy.kafboy_routes_sync", Kind::List),
    key(HOOK, Kind::Callback),
    key("kafboy.kafboy_hook_timeout_ms", Kind::Number(1, 60_000)),
    key("kafboy.kafboy_max_body_bytes", Kind::Number(1, 1 << 30)),
    key("kafboy.kafboy_max_connections", Kind::Number(1, MOST)),
    key("kafboy.kafboy_strict", Kind::Switch),
    key("kafboy.kafboy_enable_safetyvalve", Kind::Switch),
    key("kafboy.tls.cert", Kind::Text),
    key("kafboy.tls.key", Kind::Text),
    key("kafboy.tls.client_ca", Kind::Text),
    key("kafboy.enable_logging", Kind::Switch),
    key("kafboy.kafboy_load_balancer", Kind::Ignored),
    key("kafboy.kafboy_master", Kind::Ignored),
    key("kafboy.kafboy_fresh", Kind::Ignored),
    key("kafboy.kafboy_set_cookie", Kind::Ignored),
    key("kafboy.kafboy_profiling_apps", Kind::Ignored),
    key("kafboy.kafboy_enable_trace", Kind::Ignored),
    key("safetyvalve.queues.kafboy_q.hz", Kind::Number(1, 60_000)),
    key("safetyvalve.queues.kafboy_q.rate", Kind::Number(0, MOST)),
    key(
        "safetyvalve.queues.kafboy_q.token_limit",
        Kind::Number(0, MOST),
    ),
    key("safetyvalve.queues.kafboy_q.size", Kind::Number(0, MOST)),
    key(
        "safetyvalve.queues.kafboy_q.concurrency",
        Kind::Number(1, MOST),
    ),
    key("log.level", Kind::Text),
    key("log.format", Kind::Choice(&["text", "json"])),
    key("shutdown_timeout_ms", Kind::Number(0, MOST)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::keys::Found;

    #[test]
    fn keys_are_found_in_both_tables() {
        for path in ["kafboy.kafboy_strict", "ekaf.ekaf_buffer_ttl", "log.level"] {
            assert!(matches!(SCHEMA.find(path), Found::Key(_)), "{path}");
        }
        for path in ["ekaf", "ekaf.statsd", "safetyvalve.queues"] {
            assert!(matches!(SCHEMA.find(path), Found::Section), "{path}");
        }
        let Found::Nothing(nearest) = SCHEMA.find("ekaf.ekaf_bufer_ttl") else {
            panic!("there is no such key")
        };
        assert_eq!(nearest, Some("ekaf.ekaf_buffer_ttl"));
    }
}
