//! Sections that files of several programs have in common: who may do what,
//! traces and their collector, metrics. Their keys stand here once, and so does
//! what they come to.

use super::Document;
use super::keys::{Key, Kind, key, scalar};
use crate::config::metrics_sections;
use crate::metrics;
use crate::telemetry;
use crate::tokens::Tokens;
use serde_json::{Map, Value};
use std::path::Path;

const MOST: i64 = i32::MAX as i64;

/// Tokens and their grants.
pub(crate) const ACCESS: &[Key] = &[
    key("access.tokens", Kind::Structure),
    key("access.tokens_file", Kind::Text),
];

/// Traces, and where they and metrics are sent.
pub(crate) const TELEMETRY: &[Key] = &[
    key("tracing.propagate", Kind::Switch),
    key("otlp.endpoint", Kind::Text),
    key("otlp.protocol", Kind::Choice(&["grpc", "http"])),
    key("otlp.headers", Kind::Map),
    key("otlp.traces", Kind::Switch),
    key("otlp.metrics", Kind::Switch),
    key("otlp.interval_ms", Kind::Number(1, MOST)),
    key("otlp.sample_ratio", Kind::Text),
    key("otlp.service_name", Kind::Text),
];

/// A metrics port, and statsd.
pub(crate) const METRICS: &[Key] = &[
    key("metrics.listen", Kind::List),
    key("metrics.max_topics", Kind::Number(0, MOST)),
    key("metrics.partitions", Kind::Switch),
    key(
        "metrics.statistics_interval_ms",
        Kind::Number(0, 86_400_000),
    ),
    key("statsd.address", Kind::Text),
    key("statsd.prefix", Kind::Text),
    key("statsd.interval_ms", Kind::Number(1, MOST)),
    key("statsd.mtu", Kind::Number(64, 65_507)),
];

/// What [`ACCESS`] comes to; what is wrong is added to `problems`.
pub(crate) fn tokens(document: &Document, problems: &mut Vec<String>) -> Tokens {
    let mut tokens = Tokens::default();
    if let Some(written) = document.get("access.tokens") {
        let read = serde_norway::to_value(written).map_err(|error| vec![error.to_string()]);
        match read.and_then(|value| Tokens::read(&value)) {
            Ok(read) => tokens = read,
            Err(found) => {
                let found = found.iter();
                problems.extend(found.map(|problem| format!("access.tokens: {problem}")));
            }
        }
    }
    if let Some(path) = document.text("access.tokens_file") {
        tokens.add_file(Path::new(path), problems);
    }
    tokens
}

/// What [`TELEMETRY`] comes to, with OpenTelemetry's variables.
pub(crate) fn telemetry(document: &Document, problems: &mut Vec<String>) -> telemetry::Settings {
    let headers = document.get("otlp.headers").and_then(Value::as_object);
    let headers = headers.into_iter().flatten().filter_map(|(name, value)| {
        let value = scalar(value)?;
        Some((name.clone(), value))
    });
    let text = |key: &str| document.get(key).and_then(scalar);
    let variables = document.variables();
    telemetry::Settings::of(text, headers.collect(), variables, problems)
}

/// What [`METRICS`] comes to.
pub(crate) fn metrics(document: &Document, problems: &mut Vec<String>) -> metrics::Settings {
    let section = |name: &str| {
        let mut section = Map::new();
        for key in METRICS {
            let rest = key.path.strip_prefix(name);
            let rest = rest.and_then(|rest| rest.strip_prefix('.'));
            if let (Some(rest), Some(value)) = (rest, document.get(key.path)) {
                section.insert(rest.to_owned(), value.clone());
            }
        }
        match section.is_empty() {
            true => Ok(serde_norway::Value::Null),
            false => serde_norway::to_value(section),
        }
    };
    let read = match (section("metrics"), section("statsd")) {
        (Ok(metrics), Ok(statsd)) => metrics_sections(&metrics, &statsd),
        (Err(error), _) | (_, Err(error)) => Err(error.into()),
    };
    read.unwrap_or_else(|error| {
        problems.push(error.to_string());
        metrics::Settings::default()
    })
}
