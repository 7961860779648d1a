//! Metrics as values: what they are called, and what they show.

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a metric's values do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only rise.
    Counter,
    /// They rise and fall.
    Gauge,
    /// They are counted by size.
    Histogram,
}

impl Kind {
    /// The word for it in Prometheus' text.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric is, whether it has series or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it means.
    pub help: Cow<'static, str>,
    /// What its values do.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: Vec<Cow<'static, str>>,
}

impl Description {
    /// Of a metric that is known when this is compiled.
    pub fn new(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
    ) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            labels: labels.iter().copied().map(Cow::Borrowed).collect(),
        }
    }
}

/// A metric as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// What it means.
    pub help: String,
    /// What its values do.
    pub kind: Kind,
    /// Its series.
    pub samples: Vec<FamilySample>,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilySample {
    /// Names and values of the labels, by name.
    pub labels: Vec<(String, String)>,
    /// What it shows.
    pub value: Value,
}

/// What a series shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// Values so far.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bounds, and how many values were no larger; without the
        /// infinite one, which is `count`.
        buckets: Vec<(f64, u64)>,
    },
}

/// Labels' values, in the order of the metric's names.
pub(crate) type Labels = Vec<Arc<str>>;

/// The number of a metric in its list, and its labels' values.
pub(crate) type Series = (usize, Labels);

/// What Prometheus' registry wants to know of metrics before it has any.
pub(crate) fn descriptions(families: &[Description]) -> Result<Vec<Desc>, prometheus::Error> {
    let descriptions = families.iter().map(|family| {
        let labels = family.labels.iter().map(|label| label.to_string());
        let (name, help) = (family.name.to_string(), family.help.to_string());
        Desc::new(name, help, labels.collect(), HashMap::new())
    });
    descriptions.collect()
}

/// Numbers in the form of Prometheus' registry.
pub(crate) fn write(families: &[Description], shown: BTreeMap<Series, f64>) -> Vec<MetricFamily> {
    let mut written: Vec<(usize, Vec<Metric>)> = Vec::new();
    for ((index, labels), value) in shown {
        let Some(family) = families.get(index) else {
            continue;
        };
        let pairs = family.labels.iter().zip(labels);
        let pairs = pairs.map(|(label, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(label.to_string());
            pair.set_value(value.to_string());
            pair
        });
        // In the order that the registry gives to its own.
        let mut pairs: Vec<LabelPair> = pairs.collect();
        pairs.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let mut metric = Metric::default();
        metric.set_label(pairs);
        if family.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        match written.last_mut() {
            Some((last, metrics)) if *last == index => metrics.push(metric),
            _ => written.push((index, vec![metric])),
        }
    }
    let families = written.into_iter().filter_map(|(index, metrics)| {
        let own = families.get(index)?;
        let mut family = MetricFamily::default();
        family.set_name(own.name.to_string());
        family.set_help(own.help.to_string());
        family.set_field_type(match own.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge | Kind::Histogram => MetricType::GAUGE,
        });
        family.set_metric(metrics);
        Some(family)
    });
    families.collect()
}

/// What Prometheus' registry has gathered, as values.
pub(crate) fn read(gathered: &[MetricFamily]) -> Vec<Family> {
    let families = gathered.iter().map(|family| {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::HISTOGRAM => Kind::Histogram,
            _ => Kind::Gauge,
        };
        Family {
            name: family.name().to_owned(),
            help: family.help().to_owned(),
            kind,
            samples: family
                .get_metric()
                .iter()
                .map(|metric| sample(kind, metric))
                .collect(),
        }
    });
    families.collect()
}

fn sample(kind: Kind, metric: &Metric) -> FamilySample {
    let labels = metric.get_label().iter();
    let labels = labels.map(|pair| (pair.name().to_owned(), pair.value().to_owned()));
    let value = match kind {
        Kind::Counter => Value::Number(metric.get_counter().get_value()),
        Kind::Gauge => Value::Number(metric.get_gauge().get_value()),
        Kind::Histogram => {
            let histogram = metric.get_histogram();
            let buckets = histogram.get_bucket().iter();
            let buckets = buckets.filter(|bucket| bucket.upper_bound().is_finite());
            Value::Histogram {
                count: histogram.get_sample_count(),
                sum: histogram.get_sample_sum(),
                buckets: buckets
                    .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                    .collect(),
            }
        }
    };
    FamilySample {
        labels: labels.collect(),
        value,
    }
}
