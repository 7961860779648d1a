//! What a front end counts of its requests and connections, without looking
//! anything up: whoever counts says which request it was by its place in a
//! list, and how it ended by its place in another.
//!
//! A request costs three relaxed additions: to its outcome, to a bucket of its
//! duration, to their sum. They go to one of several copies, by thread, so
//! that cores do not pass the numbers to each other; a scrape adds the copies
//! up. Memory is fixed: copies × requests × (outcomes + 16) numbers.

use crate::family::{Description, Kind, descriptions};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds of durations, in seconds (contract, `producer-http.md`,
/// section 6.1).
pub const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// The same in nanoseconds.
const NANOSECONDS: [u64; SECONDS.len()] = [
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// A bucket for each bound and one for what is larger; then the sum.
const BUCKETS: usize = SECONDS.len() + 1;
const OF_DURATION: usize = BUCKETS + 1;

/// Copies of the numbers. More threads share them.
const COPIES: usize = 8;

/// Numbers that different threads write, apart from each other: two lines of
/// a cache, as processors fetch them in pairs.
#[repr(align(128))]
struct Share {
    /// By request: outcomes, buckets, sum of nanoseconds.
    requests: Box<[AtomicU64]>,
    received: AtomicU64,
    sent: AtomicU64,
}

/// The numbers of one front end.
pub struct Meter {
    front_end: &'static str,
    requests: Vec<Cow<'static, str>>,
    outcomes: &'static [&'static str],
    failures: &'static [&'static str],
    copies: [Share; COPIES],
    failed: Box<[AtomicU64]>,
    open: AtomicI64,
    opened: AtomicU64,
}

/// This thread's place among the copies.
fn share_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % COPIES;
    }
    OWN.with(|own| *own)
}

fn numbers(count: usize) -> Box<[AtomicU64]> {
    std::iter::repeat_with(AtomicU64::default)
        .take(count)
        .collect()
}

impl Meter {
    /// Of a front end with these requests, which end in these ways, and these
    /// kinds of failures that are no request's.
    pub fn new(
        front_end: &'static str,
        requests: Vec<Cow<'static, str>>,
        outcomes: &'static [&'static str],
        failures: &'static [&'static str],
    ) -> Self {
        let of_requests = requests.len() * (outcomes.len() + OF_DURATION);
        Self {
            front_end,
            copies: std::array::from_fn(|_| Share {
                requests: numbers(of_requests),
                received: AtomicU64::new(0),
                sent: AtomicU64::new(0),
            }),
            failed: numbers(failures.len()),
            requests,
            outcomes,
            failures,
            open: AtomicI64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    fn own(&self) -> Option<&Share> {
        self.copies.get(share_of_thread())
    }

    /// A request has ended so long after it came; both are places in the
    /// lists of [`new`](Self::new).
    pub fn answered(&self, request: usize, outcome: usize, after: Duration) {
        self.answered_many(request, outcome, 1, after);
    }

    /// Some requests have ended together, each after so long.
    pub fn answered_many(&self, request: usize, outcome: usize, count: u64, after: Duration) {
        let Some(own) = self.own() else { return };
        let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        let bucket = NANOSECONDS.partition_point(|bound| *bound < nanoseconds);
        let first = request * (self.outcomes.len() + OF_DURATION);
        let buckets = first + self.outcomes.len();
        for (place, value) in [
            (first + outcome, count),
            (buckets + bucket, count),
            (buckets + BUCKETS, nanoseconds.saturating_mul(count)),
        ] {
            if let Some(number) = own.requests.get(place) {
                number.fetch_add(value, Ordering::Relaxed);
            }
        }
    }

    /// Something went wrong that belongs to no request, by its place in the
    /// list of [`new`](Self::new).
    pub fn failed(&self, failure: usize) {
        if let Some(number) = self.failed.get(failure) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bytes have come from a client.
    pub fn received(&self, bytes: usize) {
        if let Some(own) = self.own() {
            own.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Bytes have gone to a client.
    pub fn sent(&self, bytes: usize) {
        if let Some(own) = self.own() {
            own.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// A connection has been opened; it is closed when the guard goes.
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    /// Over all copies.
    fn sum(&self, number: impl Fn(&Share) -> Option<&AtomicU64>) -> u64 {
        let numbers = self.copies.iter().filter_map(number);
        numbers
            .map(|number| number.load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    fn of_request(&self, request: usize, place: usize) -> u64 {
        let place = request * (self.outcomes.len() + OF_DURATION) + place;
        self.sum(|share| share.requests.get(place))
    }

    fn labelled(&self, labels: &[(&str, &str)]) -> Metric {
        let own = [("front_end", self.front_end)];
        let pairs = labels.iter().copied().chain(own).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut pairs: Vec<LabelPair> = pairs.collect();
        pairs.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let mut metric = Metric::default();
        metric.set_label(pairs);
        metric
    }

    fn counter(&self, labels: &[(&str, &str)], value: u64) -> Metric {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = self.labelled(labels);
        metric.set_counter(counter);
        metric
    }

    fn requests(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (index, request) in self.requests.iter().enumerate() {
            for (place, outcome) in self.outcomes.iter().enumerate() {
                let count = self.of_request(index, place);
                if count > 0 {
                    let labels = [("request", &**request), ("status", *outcome)];
                    metrics.push(self.counter(&labels, count));
                }
            }
        }
        metrics
    }

    fn durations(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (index, request) in self.requests.iter().enumerate() {
            let place = |bucket| self.outcomes.len() + bucket;
            let mut count = 0;
            let mut buckets = Vec::with_capacity(BUCKETS);
            for (bucket, bound) in SECONDS.iter().enumerate() {
                count += self.of_request(index, place(bucket));
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(count);
                buckets.push(bucket);
            }
            count += self.of_request(index, place(SECONDS.len()));
            if count == 0 {
                continue;
            }
            let sum = Duration::from_nanos(self.of_request(index, place(BUCKETS)));
            let mut histogram = Histogram::default();
            histogram.set_sample_count(count);
            histogram.set_sample_sum(sum.as_secs_f64());
            histogram.set_bucket(buckets);
            let mut metric = self.labelled(&[("request", request)]);
            metric.set_histogram(histogram);
            metrics.push(metric);
        }
        metrics
    }

    fn failures(&self) -> Vec<Metric> {
        let kinds = self.failures.iter().zip(&self.failed);
        let counted = kinds.map(|(kind, count)| (kind, count.load(Ordering::Relaxed)));
        let counted = counted.filter(|(_, count)| *count > 0);
        counted
            .map(|(kind, count)| self.counter(&[("kind", kind)], count))
            .collect()
    }
}

/// An open connection.
pub struct Connected(Arc<Meter>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all front ends show.
pub(crate) fn families() -> Vec<Description> {
    let family = |kind, name, help, labels| Description::new(kind, name, help, labels);
    vec![
        family(
            Kind::Counter,
            "barnabas_requests_total",
            "Requests that were answered, by how they ended: an HTTP status, a gRPC code, or of \
             Redis' commands ok or error.",
            &["front_end", "request", "status"],
        ),
        family(
            Kind::Histogram,
            "barnabas_request_duration_seconds",
            "Seconds from a request to its answer; of streams to their end.",
            &["front_end", "request"],
        ),
        family(
            Kind::Gauge,
            "barnabas_connections",
            "Connections that are open.",
            &["front_end"],
        ),
        family(
            Kind::Counter,
            "barnabas_connections_total",
            "Connections that were accepted.",
            &["front_end"],
        ),
        family(
            Kind::Counter,
            "barnabas_received_bytes_total",
            "Bytes read from clients, those of TLS itself left out.",
            &["front_end"],
        ),
        family(
            Kind::Counter,
            "barnabas_sent_bytes_total",
            "Bytes written to clients, those of TLS itself left out.",
            &["front_end"],
        ),
        family(
            Kind::Counter,
            "barnabas_errors_total",
            "What went wrong that was no request's own fault or not even a request, by kind.",
            &["front_end", "kind"],
        ),
    ]
}

/// Collects the numbers of several front ends.
#[derive(Clone)]
pub(crate) struct Meters {
    meters: Arc<[Arc<Meter>]>,
    descriptions: Arc<[Desc]>,
}

impl Meters {
    pub(crate) fn new(meters: Vec<Arc<Meter>>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            meters: meters.into(),
            descriptions: descriptions(&families())?.into(),
        })
    }
}

impl Collector for Meters {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metrics: [Vec<Metric>; 7] = Default::default();
        let [requests, durations, open, opened, received, sent, failed] = &mut metrics;
        for meter in &*self.meters {
            requests.extend(meter.requests());
            durations.extend(meter.durations());
            let mut gauge = Gauge::default();
            gauge.set_value(meter.open.load(Ordering::Relaxed) as f64);
            let mut metric = meter.labelled(&[]);
            metric.set_gauge(gauge);
            open.push(metric);
            opened.push(meter.counter(&[], meter.opened.load(Ordering::Relaxed)));
            received.push(meter.counter(&[], meter.sum(|share| Some(&share.received))));
            sent.push(meter.counter(&[], meter.sum(|share| Some(&share.sent))));
            failed.extend(meter.failures());
        }
        let named = families().into_iter().zip(metrics);
        let shown = named.filter(|(_, metrics)| !metrics.is_empty());
        let shown = shown.map(|(about, metrics)| {
            let mut family = MetricFamily::default();
            family.set_name(about.name.into_owned());
            family.set_help(about.help.into_owned());
            family.set_field_type(match about.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(metrics);
            family
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Registry};

    fn meter() -> Arc<Meter> {
        let requests = vec!["GET /a".into(), "other".into()];
        Arc::new(Meter::new("http", requests, &["200", "500"], &["tls"]))
    }

    fn text(meter: &Arc<Meter>) -> String {
        let registry = Registry::new();
        registry.front_ends(vec![Arc::clone(meter)]).unwrap();
        registry.text(Format::Prometheus)
    }

    #[test]
    fn bounds_are_the_same_in_both_units() {
        for (seconds, nanoseconds) in SECONDS.iter().zip(NANOSECONDS) {
            assert_eq!(
                Duration::from_secs_f64(*seconds).as_nanos(),
                nanoseconds.into()
            );
        }
    }

    #[test]
    fn all_threads_are_added_up() {
        let meter = meter();
        let connected = meter.connected();
        drop(meter.connected());
        std::thread::scope(|scope| {
            for _ in 0..2 * COPIES {
                scope.spawn(|| {
                    meter.answered(0, 0, Duration::from_micros(500));
                    meter.answered_many(0, 1, 3, Duration::from_millis(1_500));
                    meter.answered(1, 1, Duration::from_secs(31));
                    meter.received(10);
                    meter.sent(1);
                    meter.failed(0);
                });
            }
        });
        let text = text(&meter);
        for line in [
            "barnabas_requests_total{front_end=\"http\",request=\"GET /a\",status=\"200\"} 16",
            "barnabas_requests_total{front_end=\"http\",request=\"GET /a\",status=\"500\"} 48",
            "barnabas_requests_total{front_end=\"http\",request=\"other\",status=\"500\"} 16",
            "barnabas_request_duration_seconds_bucket{front_end=\"http\",request=\"GET /a\",le=\"0.0005\"} 16",
            "barnabas_request_duration_seconds_bucket{front_end=\"http\",request=\"GET /a\",le=\"1\"} 16",
            "barnabas_request_duration_seconds_bucket{front_end=\"http\",request=\"GET /a\",le=\"2\"} 64",
            "barnabas_request_duration_seconds_bucket{front_end=\"http\",request=\"other\",le=\"30\"} 0",
            "barnabas_request_duration_seconds_bucket{front_end=\"http\",request=\"other\",le=\"+Inf\"} 16",
            "barnabas_request_duration_seconds_sum{front_end=\"http\",request=\"GET /a\"} 72.008",
            "barnabas_request_duration_seconds_count{front_end=\"http\",request=\"other\"} 16",
            "barnabas_connections{front_end=\"http\"} 1",
            "barnabas_connections_total{front_end=\"http\"} 2",
            "barnabas_received_bytes_total{front_end=\"http\"} 160",
            "barnabas_sent_bytes_total{front_end=\"http\"} 16",
            "barnabas_errors_total{front_end=\"http\",kind=\"tls\"} 16",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
        drop(connected);
        assert!(self::text(&meter).contains("barnabas_connections{front_end=\"http\"} 0"));
    }

    #[test]
    fn what_is_in_no_list_is_not_counted() {
        let meter = meter();
        meter.answered(7, 0, Duration::ZERO);
        meter.failed(9);
        let text = text(&meter);
        assert!(!text.contains("requests_total"), "{text}");
        assert!(!text.contains("errors_total"), "{text}");
    }
}
