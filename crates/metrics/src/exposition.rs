//! The text forms: Prometheus' own, version 0.0.4, and OpenMetrics 1.0.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};
use std::fmt::Write as _;

/// A text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0. Names stay as they are: a counter whose
    /// name does not end in `_total` is of the type `unknown` here, because
    /// OpenMetrics would rename it.
    OpenMetrics,
}

impl Format {
    /// Media types without parameters, the default first: what is offered to
    /// a client.
    pub const OFFERED: [&'static str; 2] = ["text/plain", "application/openmetrics-text"];

    /// The form of an offered media type.
    pub fn of(media_type: &str) -> Self {
        match media_type == Self::OFFERED[1] {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// What stands in `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(crate) fn write(families: &[MetricFamily], format: Format) -> String {
    match format {
        Format::Prometheus => {
            let mut text = Vec::new();
            // Writing into memory cannot fail, nor can what was collected.
            let _ = TextEncoder::new().encode(families, &mut text);
            String::from_utf8(text).unwrap_or_default()
        }
        Format::OpenMetrics => {
            let mut out = String::new();
            for family in families.iter().filter(|one| !one.get_metric().is_empty()) {
                open_metrics(&mut out, family);
            }
            out.push_str("# EOF\n");
            out
        }
    }
}

fn open_metrics(out: &mut String, family: &MetricFamily) {
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => match family.name().strip_suffix("_total") {
            Some(name) => (name, "counter"),
            None => (family.name(), "unknown"),
        },
        MetricType::GAUGE => (family.name(), "gauge"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        _ => (family.name(), "unknown"),
    };
    let _ = writeln!(out, "# TYPE {name} {kind}");
    let _ = writeln!(out, "# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::HISTOGRAM => histogram(out, name, metric),
            MetricType::COUNTER => {
                sample(out, family.name(), "", metric, None);
                let _ = writeln!(out, " {}", metric.get_counter().get_value());
            }
            _ => {
                sample(out, family.name(), "", metric, None);
                let _ = writeln!(out, " {}", metric.get_gauge().get_value());
            }
        }
    }
}

fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    for bucket in histogram.get_bucket() {
        let bound = bucket.upper_bound();
        if bound.is_finite() {
            sample(out, name, "_bucket", metric, Some(&format!("{bound:?}")));
            let _ = writeln!(out, " {}", bucket.cumulative_count());
        }
    }
    let count = histogram.get_sample_count();
    sample(out, name, "_bucket", metric, Some("+Inf"));
    let _ = writeln!(out, " {count}");
    sample(out, name, "_sum", metric, None);
    let _ = writeln!(out, " {}", histogram.get_sample_sum());
    sample(out, name, "_count", metric, None);
    let _ = writeln!(out, " {count}");
}

fn sample(out: &mut String, name: &str, suffix: &str, metric: &Metric, bound: Option<&str>) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = metric.get_label().iter().map(LabelPair::name);
    let values = metric.get_label().iter().map(LabelPair::value);
    let all = labels.zip(values).chain(bound.map(|bound| ("le", bound)));
    let mut separator = '{';
    for (label, value) in all {
        let _ = write!(out, "{separator}{label}=\"{}\"", escaped(value));
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    fn registry() -> Registry {
        let registry = Registry::new();
        let sent = registry.counters("sent", "Sent.", &["topic"]).unwrap();
        sent.with_label_values(&["a\"\\\n"]).inc_by(3);
        let all = registry.counters("all_total", "All.", &[]).unwrap();
        all.with_label_values(&[] as &[&str]).inc();
        let level = registry.gauges("level", "Level.", &["a", "b"]).unwrap();
        level.with_label_values(&["1", "2"]).set(-7);
        let time = registry.histograms("time", "Time.", &["code"], &[5.0, 10.0]);
        let time = time.unwrap();
        for value in [1.0, 7.5, 100.0] {
            time.with_label_values(&["200"]).observe(value);
        }
        registry.gauges("unused", "Not yet.", &["a"]).unwrap();
        registry
    }

    #[test]
    fn prometheus_text_keeps_names_and_types() {
        let text = registry().text(Format::Prometheus);
        assert!(text.contains("# TYPE sent counter\nsent{topic=\"a\\\"\\\\\\n\"} 3\n"));
        assert!(text.contains("level{a=\"1\",b=\"2\"} -7\n"));
        assert!(text.contains("time_bucket{code=\"200\",le=\"10\"} 2\n"));
        assert!(!text.contains("unused"));
    }

    #[test]
    fn open_metrics_keeps_names_too() {
        assert_eq!(
            registry().text(Format::OpenMetrics),
            "# TYPE all counter\n# HELP all All.\nall_total 1\n\
             # TYPE level gauge\n# HELP level Level.\nlevel{a=\"1\",b=\"2\"} -7\n\
             # TYPE sent unknown\n# HELP sent Sent.\nsent{topic=\"a\\\"\\\\\\n\"} 3\n\
             # TYPE time histogram\n# HELP time Time.\n\
             time_bucket{code=\"200\",le=\"5.0\"} 1\ntime_bucket{code=\"200\",le=\"10.0\"} 2\n\
             time_bucket{code=\"200\",le=\"+Inf\"} 3\ntime_sum{code=\"200\"} 108.5\n\
             time_count{code=\"200\"} 3\n# EOF\n"
        );
    }
}
