//! What a metric of librdkafka's statistics is: a row of a table.

use super::json::Window;

/// What several clients that share a series make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Several {
    /// The sum.
    Added,
    /// The largest: ages, limits, averages.
    Largest,
}

/// A metric and where its value stands.
pub(super) struct Row<T> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: fn(&T) -> i64,
    /// It only rises; else it is a level.
    pub(super) is_counter: bool,
    pub(super) several: Several,
}

const fn row<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> i64,
    is_counter: bool,
    several: Several,
) -> Row<T> {
    Row {
        name,
        help,
        value,
        is_counter,
        several,
    }
}

/// A total.
pub(super) const fn counter<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> i64,
) -> Row<T> {
    row(name, help, value, true, Several::Added)
}

/// What librdkafka calls an `int` and not a gauge, though it is no total:
/// a counter to the contract, the largest of several.
pub(super) const fn number<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> i64,
) -> Row<T> {
    row(name, help, value, true, Several::Largest)
}

/// A level of which there is more with more clients.
pub(super) const fn level<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> i64,
) -> Row<T> {
    row(name, help, value, false, Several::Added)
}

/// A level that clients do not add to.
pub(super) const fn largest<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> i64,
) -> Row<T> {
    row(name, help, value, false, Several::Largest)
}

/// A window of measurements: several metrics.
pub(super) struct WindowRow<T> {
    /// With its unit.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) window: fn(&T) -> &Window,
}

/// Where a window has a value.
type Measured = fn(&Window) -> i64;

/// What a window gives as a metric each: the name's end, what it is, the
/// value.
pub(super) static PARTS: [(&str, &str, Measured, Several); 7] = [
    (
        "_min",
        "smallest value",
        |window| window.min,
        Several::Largest,
    ),
    (
        "_max",
        "largest value",
        |window| window.max,
        Several::Largest,
    ),
    ("_avg", "mean", |window| window.avg, Several::Largest),
    ("_sum", "sum", |window| window.sum, Several::Added),
    (
        "_cnt",
        "number of values",
        |window| window.cnt,
        Several::Added,
    ),
    (
        "_stddev",
        "standard deviation",
        |window| window.stddev,
        Several::Largest,
    ),
    (
        "_outofrange",
        "values too large or too small for its histogram",
        |window| window.outofrange,
        Several::Added,
    ),
];

/// What a window gives as series of one metric, by the label `quantile`.
pub(super) static QUANTILES: [(&str, Measured); 6] = [
    ("0.5", |window| window.p50),
    ("0.75", |window| window.p75),
    ("0.9", |window| window.p90),
    ("0.95", |window| window.p95),
    ("0.99", |window| window.p99),
    ("0.9999", |window| window.p99_99),
];

/// A state as a label: name, help, where it stands.
pub(super) type StateRow<T> = (&'static str, &'static str, fn(&T) -> &str);
