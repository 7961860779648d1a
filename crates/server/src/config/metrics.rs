//! The sections `metrics` and `statsd`, of our own file and of the old
//! programs'.

use super::read::Document;
use crate::metrics::{Settings, StatsdSettings};
use anyhow::{Result, bail};
use serde_norway::{Mapping, Value};
use std::time::Duration;

/// The largest that a datagram can be.
const LARGEST_DATAGRAM: usize = 65_507;

pub(super) fn settings(document: &Document, problems: &mut Vec<String>) -> Settings {
    let defaults = Settings::default();
    let milliseconds = |key, default| {
        let number = document.number(key);
        number.map_or(default, |number| Duration::from_millis(number as u64))
    };
    Settings {
        listen: super::list(document, "metrics.listen"),
        max_topics: document
            .number("metrics.max_topics")
            .unwrap_or(defaults.max_topics),
        has_partitions: document
            .switch("metrics.partitions")
            .unwrap_or(defaults.has_partitions),
        statistics_interval: milliseconds(
            "metrics.statistics_interval_ms",
            defaults.statistics_interval,
        ),
        statsd: statsd(document, problems, milliseconds),
    }
}

fn statsd(
    document: &Document,
    problems: &mut Vec<String>,
    milliseconds: impl Fn(&'static str, Duration) -> Duration,
) -> Option<StatsdSettings> {
    let Some(address) = document.text("statsd.address") else {
        for key in ["statsd.prefix", "statsd.interval_ms", "statsd.mtu"] {
            if document.has(key) {
                problems.push(format!("{key}: needs statsd.address"));
            }
        }
        return None;
    };
    let defaults = StatsdSettings::default();
    let mtu = document.number("statsd.mtu").unwrap_or(defaults.mtu);
    if mtu > LARGEST_DATAGRAM {
        problems.push(format!("statsd.mtu: at most {LARGEST_DATAGRAM}"));
    }
    let prefix = document.text("statsd.prefix");
    Some(StatsdSettings {
        address: address.to_owned(),
        prefix: prefix.map_or(defaults.prefix, str::to_owned),
        interval: milliseconds("statsd.interval_ms", defaults.interval),
        mtu,
    })
}

/// The same sections of an old program's file.
///
/// # Errors
/// Everything that is wrong, on one line.
pub(crate) fn metrics_sections(metrics: &Value, statsd: &Value) -> Result<Settings> {
    let mut sections = Mapping::new();
    for (name, section) in [("metrics", metrics), ("statsd", statsd)] {
        if !section.is_null() {
            sections.insert(name.into(), section.clone());
        }
    }
    let mut problems = Vec::new();
    let document = Document::read(&Value::Mapping(sections), "", &mut problems);
    let settings = settings(&document, &mut problems);
    match problems.is_empty() {
        true => Ok(settings),
        false => bail!("{}", problems.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(metrics: &str, statsd: &str) -> Result<Settings> {
        let value = |text| serde_norway::from_str(text).unwrap();
        metrics_sections(&value(metrics), &value(statsd))
    }

    #[test]
    fn nothing_is_shown_unless_asked_for() {
        let settings = sections("", "").unwrap();
        assert_eq!(settings, Settings::default());
        assert!(!settings.is_on());
    }

    #[test]
    fn both_sections_are_read() {
        let settings = sections(
            "{listen: '127.0.0.1:9', max_topics: 7, partitions: true, statistics_interval_ms: 0}",
            "{address: 'localhost:8125', prefix: a., interval_ms: 500, mtu: 512}",
        )
        .unwrap();
        assert!(settings.is_on());
        assert_eq!(settings.listen, ["127.0.0.1:9"]);
        assert_eq!((settings.max_topics, settings.has_partitions), (7, true));
        assert_eq!(settings.statistics_interval, Duration::ZERO);
        let statsd = settings.statsd.unwrap();
        assert_eq!(
            (statsd.address.as_str(), statsd.prefix.as_str(), statsd.mtu),
            ("localhost:8125", "a.", 512)
        );
        assert_eq!(statsd.interval, Duration::from_millis(500));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (metrics, statsd, expected) in [
            ("{port: 1}", "", "metrics.port: no such key"),
            ("{partitions: some}", "", "metrics.partitions: \"some\""),
            ("", "{prefix: a}", "statsd.prefix: needs statsd.address"),
            ("", "{address: a, mtu: 70000}", "statsd.mtu: at most 65507"),
            (
                "",
                "{address: a, interval_ms: 0}",
                "statsd.interval_ms: \"0\"",
            ),
        ] {
            let said = sections(metrics, statsd).unwrap_err().to_string();
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}
