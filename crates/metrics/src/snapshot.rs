//! Metrics of what others count: read when somebody asks, so that whoever
//! counts needs no more than numbers of its own.

use crate::family::{self, Description, Series};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Collects by calling a function.
#[derive(Clone)]
pub(crate) struct Snapshot {
    inner: Arc<Inner>,
}

struct Inner {
    families: Vec<Description>,
    descriptions: Vec<Desc>,
    read: Box<dyn Fn(&mut Samples) + Send + Sync>,
}

/// What whoever answers [`Registry::snapshot`](crate::Registry::snapshot) is given.
#[derive(Default)]
pub struct Samples {
    shown: BTreeMap<Series, f64>,
}

impl Samples {
    /// A value of a metric, by its place in the list of
    /// [`Registry::snapshot`](crate::Registry::snapshot); `labels` are in the
    /// order of its names. Several of one series are added up.
    pub fn add(&mut self, metric: usize, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|&label| label.into()).collect();
        *self.shown.entry((metric, labels)).or_default() += value;
    }
}

impl Snapshot {
    pub(crate) fn new(
        families: Vec<Description>,
        read: impl Fn(&mut Samples) + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let inner = Inner {
            descriptions: family::descriptions(&families)?,
            families,
            read: Box::new(read),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn families(&self) -> &[Description] {
        &self.inner.families
    }
}

impl Collector for Snapshot {
    fn desc(&self) -> Vec<&Desc> {
        self.inner.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::default();
        (self.inner.read)(&mut samples);
        family::write(&self.inner.families, samples.shown)
    }
}
