//! What is counted, its text and its values.

use crate::exposition::{self, Format};
use crate::family::{self, Description, Family, Kind};
use crate::librdkafka::LibrdkafkaStatistics;
use crate::meter::{self, Meter, Meters};
use crate::snapshot::{Samples, Snapshot};
use parking_lot::RwLock;
use prometheus::core::Collector;
use prometheus::{Error, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};
use std::sync::Arc;

/// A set of metrics that are shown together. Clones are the same set.
#[derive(Clone, Default)]
pub struct Registry {
    inner: prometheus::Registry,
    described: Arc<RwLock<Vec<Description>>>,
}

impl Registry {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counters with these labels. A series appears with its first use.
    ///
    /// # Errors
    /// A name or label that is none, or that is there already.
    pub fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
    ) -> Result<IntCounterVec, Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        let description = Description::new(Kind::Counter, name, help, labels);
        self.add(counters, &[description])
    }

    /// Levels with these labels.
    ///
    /// # Errors
    /// As [`counters`](Self::counters).
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
    ) -> Result<IntGaugeVec, Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        let description = Description::new(Kind::Gauge, name, help, labels);
        self.add(gauges, &[description])
    }

    /// Histograms with these labels and upper bounds.
    ///
    /// # Errors
    /// As [`counters`](Self::counters), and bounds that do not rise.
    pub fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        bounds: &[f64],
    ) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let histograms = HistogramVec::new(options, labels)?;
        let description = Description::new(Kind::Histogram, name, help, labels);
        self.add(histograms, &[description])
    }

    /// What librdkafka says about itself.
    ///
    /// # Errors
    /// As [`counters`](Self::counters).
    pub fn librdkafka(&self, statistics: LibrdkafkaStatistics) -> Result<(), Error> {
        let families = statistics.families().to_vec();
        self.add(statistics, &families).map(drop)
    }

    /// Requests and connections of these front ends.
    ///
    /// # Errors
    /// As [`counters`](Self::counters).
    pub fn front_ends(&self, meters: Vec<Arc<Meter>>) -> Result<(), Error> {
        self.add(Meters::new(meters)?, &meter::families()).map(drop)
    }

    /// Counters and gauges whose values are asked for when they are wanted:
    /// `read` is called then, and must not wait.
    ///
    /// # Errors
    /// As [`counters`](Self::counters).
    pub fn snapshot(
        &self,
        families: Vec<Description>,
        read: impl Fn(&mut Samples) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let snapshot = Snapshot::new(families, read)?;
        let families = snapshot.families().to_vec();
        self.add(snapshot, &families).map(drop)
    }

    fn add<C: Collector + Clone + 'static>(
        &self,
        metric: C,
        families: &[Description],
    ) -> Result<C, Error> {
        self.inner.register(Box::new(metric.clone()))?;
        self.described.write().extend_from_slice(families);
        Ok(metric)
    }

    /// All metrics as text.
    pub fn text(&self, format: Format) -> String {
        exposition::write(&self.inner.gather(), format)
    }

    /// All metrics that have series, by name, and all their series: for those
    /// who push them elsewhere.
    pub fn families(&self) -> Vec<Family> {
        family::read(&self.inner.gather())
    }

    /// What all metrics are, those without series included.
    pub fn descriptions(&self) -> Vec<Description> {
        self.described.read().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FamilySample, Value};

    #[test]
    fn metrics_are_values_too() {
        let registry = Registry::new();
        let sent = registry.counters("sent_total", "Sent.", &["topic"]);
        sent.unwrap().with_label_values(&["a"]).inc_by(3);
        let times = registry.histograms("time", "Time.", &[], &[1.0, 2.0]);
        let times = times.unwrap().with_label_values(&[] as &[&str]);
        times.observe(1.5);
        times.observe(9.0);
        let level = vec![Description::new(Kind::Gauge, "level", "Level.", &["of"])];
        let read = |samples: &mut Samples| {
            samples.add(0, &["x"], 1.0);
            samples.add(0, &["x"], 2.5);
            samples.add(7, &["nothing has this place"], 1.0);
        };
        registry.snapshot(level, read).unwrap();
        registry.gauges("unused", "Not yet.", &[]).unwrap();

        let sample = |label: Option<(&str, &str)>, value| FamilySample {
            labels: label
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            value,
        };
        let families = registry.families();
        let shown: Vec<(&str, Kind, &FamilySample)> = families
            .iter()
            .map(|family| (family.name.as_str(), family.kind, &family.samples[0]))
            .collect();
        let histogram = Value::Histogram {
            count: 2,
            sum: 10.5,
            buckets: vec![(1.0, 0), (2.0, 1)],
        };
        assert_eq!(
            shown,
            [
                (
                    "level",
                    Kind::Gauge,
                    &sample(Some(("of", "x")), Value::Number(3.5))
                ),
                (
                    "sent_total",
                    Kind::Counter,
                    &sample(Some(("topic", "a")), Value::Number(3.0))
                ),
                ("time", Kind::Histogram, &sample(None, histogram)),
            ]
        );
        let names = registry.descriptions().into_iter().map(|one| one.name);
        let names: Vec<_> = names.collect();
        assert_eq!(names, ["sent_total", "time", "level", "unused"]);
    }

    #[test]
    fn a_name_stands_for_one_metric() {
        let registry = Registry::new();
        registry.counters("a", "A.", &[]).unwrap();
        let again = vec![Description::new(Kind::Gauge, "a", "A.", &[])];
        assert!(registry.snapshot(again, |_| {}).is_err());
        assert_eq!(registry.descriptions().len(), 1);
    }
}
