//! librdkafka's statistics as metrics (contract, `producer-http.md`, sections
//! 6.2 and 6.3).
//!
//! In reading order: `json` (what librdkafka writes), `row` (what a metric
//! is), `kprf`, `rest` and `own` (the tables), `families` (which tables make
//! up a set, and walking them), this file (collecting).
//!
//! The text is read when the metrics are asked for, not each time librdkafka
//! writes it. A counter equals what librdkafka says. Where several clients
//! share a series the sums are shown, of ages, limits and averages the
//! largest. What a client has counted stays in its series' sums when the
//! client goes, so that one that takes its place does not set them back.

mod families;
mod json;
mod kprf;
mod own;
mod rest;
mod row;

use crate::family::{self, Description, Series};
use families::{Families, Sample};
use json::Client;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use row::Several;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use kprf::broker_state;

/// Series of clients that are gone, remembered so that their counters do not
/// fall; of more the counters begin anew.
const REMEMBERED: usize = 50_000;

/// What a client has written last.
#[derive(Debug, Clone)]
pub struct ClientStatistics {
    /// The cluster that it belongs to; shown by [`StatisticsNames::Own`].
    pub cluster: Arc<str>,
    /// What the client is for: a name that whatever takes its place has, too.
    pub client: Arc<str>,
    /// librdkafka's JSON.
    pub json: Arc<str>,
}

/// Under which names they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticsNames {
    /// kprf's where it has one, else the rest's. The label `client` stands on
    /// the client's own metrics only, those of brokers, topics and partitions
    /// are of all clients together.
    Kprf,
    /// `barnabas_librdkafka_…` everywhere, with the labels `cluster` and
    /// `client`.
    Own,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsOptions {
    /// The names.
    pub names: StatisticsNames,
    /// Topics with series of their own; those of the others are one.
    pub max_topics: usize,
    /// Whether partitions have series; only those of topics that have.
    pub has_partitions: bool,
}

/// Collects what the clients have said last.
#[derive(Clone)]
pub struct LibrdkafkaStatistics {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<dyn Fn() -> Vec<ClientStatistics> + Send + Sync>,
    families: Families,
    descriptions: Vec<Desc>,
    memory: Mutex<Memory>,
}

/// What clients have counted that may be gone next time, and those that are.
#[derive(Default)]
struct Memory {
    /// By librdkafka's name of the client.
    present: HashMap<String, Vec<(Series, f64)>>,
    gone: HashMap<Series, f64>,
}

impl LibrdkafkaStatistics {
    /// `source` gives the last text of each client that lives.
    ///
    /// # Errors
    /// None, as long as the names of the tables are names.
    pub fn new(
        options: StatisticsOptions,
        source: impl Fn() -> Vec<ClientStatistics> + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let families = Families::new(options);
        let descriptions = family::descriptions(families.all());
        let inner = Inner {
            source: Box::new(source),
            descriptions: descriptions?,
            families,
            memory: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What it collects, shown or not.
    pub fn families(&self) -> &[Description] {
        self.inner.families.all()
    }
}

impl Collector for LibrdkafkaStatistics {
    fn desc(&self) -> Vec<&Desc> {
        self.inner.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let inner = &*self.inner;
        // Held from here on: a client must not go between two scrapes that
        // would both remember it.
        let mut memory = inner.memory.lock();
        // What librdkafka writes is JSON; anything else shows nothing.
        let clients: Vec<(ClientStatistics, Client)> = (inner.source)()
            .into_iter()
            .filter_map(|client| {
                let read = serde_json::from_str(&client.json).ok()?;
                Some((client, read))
            })
            .collect();
        let mut shown: BTreeMap<Series, f64> = BTreeMap::new();
        let mut counted: HashMap<String, Vec<(Series, f64)>> = HashMap::new();
        inner.families.walk(&clients, |client, sample| {
            let Sample {
                family,
                several,
                labels,
                value,
            } = sample;
            let is_counter = inner.families.is_counter(family);
            let series = (family, labels);
            if is_counter && several == Several::Added {
                let own = counted.entry(client.name.clone()).or_default();
                own.push((series.clone(), value));
            }
            shown
                .entry(series)
                .and_modify(|known| {
                    *known = match several {
                        Several::Added => *known + value,
                        Several::Largest => known.max(value),
                    };
                })
                .or_insert(value);
        });
        memory.advance(counted);
        for (series, count) in &memory.gone {
            if let Some(value) = shown.get_mut(series) {
                *value += count;
            }
        }
        memory.bound(&shown);
        drop(memory);
        family::write(inner.families.all(), shown)
    }
}

impl Memory {
    /// Notes who is there now.
    fn advance(&mut self, present: HashMap<String, Vec<(Series, f64)>>) {
        let before = std::mem::replace(&mut self.present, present);
        for (name, counted) in before {
            if self.present.contains_key(&name) {
                continue;
            }
            for (series, count) in counted {
                match self.gone.entry(series) {
                    Entry::Occupied(mut entry) => *entry.get_mut() += count,
                    Entry::Vacant(entry) => {
                        entry.insert(count);
                    }
                }
            }
        }
    }

    /// Forgets series that nobody has any more, once there are too many.
    fn bound(&mut self, shown: &BTreeMap<Series, f64>) {
        if self.gone.len() > REMEMBERED {
            self.gone.retain(|series, _| shown.contains_key(series));
        }
    }
}

#[cfg(test)]
mod tests;
