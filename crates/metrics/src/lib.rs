//! Metrics of all front ends.
//!
//! In reading order: `registry` (what is counted, its text and its values),
//! `family` (metrics as values), `meter` and `metered` (requests and
//! connections of a front end), `snapshot` (what others count), `exposition`
//! (the two text forms), `by_topic` (a bounded number of topics with series of
//! their own), `librdkafka` (the library's statistics).
//!
//! Counting is the crate `prometheus`: of those that are kept it is the one
//! that leaves names as they are. `prometheus-client` appends `_total` to every
//! counter, which kprf's dashboards do not know, and `metrics` looks series up
//! by a hash of their labels at each use. What it lacks is here: OpenMetrics.

mod by_topic;
mod exposition;
mod family;
mod librdkafka;
mod meter;
mod metered;
mod registry;
mod snapshot;

pub use by_topic::{ByTopic, OTHER};
pub use exposition::Format;
pub use family::{Description, Family, FamilySample, Kind, Value};
pub use librdkafka::{
    ClientStatistics, LibrdkafkaStatistics, StatisticsNames, StatisticsOptions, broker_state,
};
pub use meter::{Connected, Meter, SECONDS};
pub use metered::{Metered, Moved};
pub use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts,
};
pub use registry::Registry;
pub use snapshot::Samples;
