//! kprf's own metrics (contract, section 6.1), and ours beside them.

use super::admission::Admission;
use crate::meter::kprf_meter;
use barnabas_metrics::{
    ByTopic, ClientStatistics, Error, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    LibrdkafkaStatistics, Meter, Registry, SECONDS, StatisticsNames, StatisticsOptions,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// kprf's upper bounds, in milliseconds.
const MILLISECONDS: [f64; 5] = [5.0, 10.0, 20.0, 40.0, 80.0];

const ASYNC: &str = "push/async";
const SYNC: &str = "push/sync";

/// Who is asked for the metrics, and what is built in.
pub(super) struct Build<'a> {
    pub(super) version: &'a str,
    pub(super) commit: &'a str,
    pub(super) max_topics: usize,
    pub(super) has_partitions: bool,
}

/// All of them.
pub(super) struct Metrics {
    registry: Registry,
    /// Of the main port.
    pub(super) meter: Arc<Meter>,
    requests: IntCounterVec,
    durations: HistogramVec,
    durations_seconds: HistogramVec,
    /// Of requests that are answered with 200, by far the most.
    well: [OnceLock<Answered>; 2],
    errors: IntCounterVec,
    limited: IntCounterVec,
    messages_under_way: IntGauge,
    bytes_under_way: IntGauge,
    topics: ByTopic<TopicSeries>,
}

struct Answered {
    count: IntCounter,
    milliseconds: Histogram,
    seconds: Histogram,
}

/// What is counted of one topic.
pub(super) struct TopicSeries {
    label: Box<str>,
    pub(super) queue: IntGauge,
    pub(super) sent: IntCounter,
    milliseconds: Histogram,
    seconds: Histogram,
}

impl TopicSeries {
    /// So many records have had their reports so long after they were handed
    /// over.
    pub(super) fn reported(&self, records: usize, after: Duration) {
        self.queue.sub(i64::try_from(records).unwrap_or(i64::MAX));
        let seconds = after.as_secs_f64();
        observe(&self.milliseconds, records, seconds * 1e3);
        observe(&self.seconds, records, seconds);
    }
}

/// Observes one value so many times.
fn observe(histogram: &Histogram, times: usize, value: f64) {
    if times == 1 {
        return histogram.observe(value);
    }
    // Shared memory is written once for all of them.
    let own = histogram.local();
    for _ in 0..times {
        own.observe(value);
    }
    own.flush();
}

impl Metrics {
    pub(super) fn new(
        build: &Build<'_>,
        source: impl Fn() -> Vec<ClientStatistics> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let registry = Registry::new();
        let requests = registry.counters(
            "barnabas_http_requests_total",
            "Requests to /push, those included that are refused before they are read.",
            &["code"],
        )?;
        let durations = registry.histograms(
            "http_requests_duration",
            "Milliseconds of one request to /push that could be read.",
            &["code", "method"],
            &MILLISECONDS,
        )?;
        let durations_seconds = registry.histograms(
            "barnabas_http_request_duration_seconds",
            "Seconds of one request to /push that could be read.",
            &["code", "method"],
            &SECONDS,
        )?;
        let queue = registry.gauges(
            "kafka_internal_queue_size",
            "Records handed over to the producer and not yet reported on.",
            &["topic"],
        )?;
        let sent = registry.counters(
            "kafka_sent_messages",
            "Attempts to send a record, failed ones included.",
            &["topic"],
        )?;
        let milliseconds = registry.histograms(
            "kafka_message_send_duration",
            "Milliseconds from the hand-over of a record to its delivery report.",
            &["topic"],
            &MILLISECONDS,
        )?;
        let seconds = registry.histograms(
            "barnabas_produce_duration_seconds",
            "Seconds from the hand-over of a record to its delivery report.",
            &["topic"],
            &SECONDS,
        )?;
        let errors = registry.counters(
            "kafka_errors_count",
            "Records that failed, by librdkafka's number of the error.",
            &["topic", "error_code"],
        )?;
        let limited = registry.counters(
            "ratelimit_messages_count",
            "Records refused by the rate limiter.",
            &["topic"],
        )?;
        let (version, commit) = (build.version, build.commit);
        registry
            .gauges(
                "kprf_app_metadata",
                "Which build this is, in its labels; always 0.",
                &["version", "commit_hash"],
            )?
            .with_label_values(&[version, commit])
            .set(0);
        registry
            .gauges(
                "barnabas_build_info",
                "Which build this is, in its labels; always 1.",
                &["version", "commit", "librdkafka"],
            )?
            .with_label_values(&[version, commit, &barnabas_engine::librdkafka_version()])
            .set(1);
        let level = |name, help| {
            let gauge = registry.gauges(name, help, &[])?;
            Ok::<_, Error>(gauge.with_label_values(&[] as &[&str]))
        };
        let messages_under_way = level(
            "barnabas_admitted_messages",
            "Records admitted and not yet reported on.",
        )?;
        let bytes_under_way = level(
            "barnabas_admitted_bytes",
            "Bytes charged for bodies being read and for records under way.",
        )?;
        let shown = StatisticsOptions {
            names: StatisticsNames::Kprf,
            max_topics: build.max_topics,
            has_partitions: build.has_partitions,
        };
        registry.librdkafka(LibrdkafkaStatistics::new(shown, source)?)?;
        let meter = kprf_meter();
        registry.front_ends(vec![Arc::clone(&meter)])?;
        let topics = ByTopic::new(build.max_topics, move |label| TopicSeries {
            label: label.into(),
            queue: queue.with_label_values(&[label]),
            sent: sent.with_label_values(&[label]),
            milliseconds: milliseconds.with_label_values(&[label]),
            seconds: seconds.with_label_values(&[label]),
        });
        Ok(Self {
            registry,
            meter,
            requests,
            durations,
            durations_seconds,
            well: Default::default(),
            errors,
            limited,
            messages_under_way,
            bytes_under_way,
            topics,
        })
    }

    /// The registry, its levels brought up to date.
    pub(super) fn registry(&self, admission: &Admission) -> &Registry {
        let (messages, bytes) = admission.level();
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.messages_under_way.set(number(messages));
        self.bytes_under_way.set(number(bytes));
        &self.registry
    }

    /// The series of a topic that is to be sent to; of names that no topic can
    /// have those of all others.
    pub(super) fn topic(&self, name: &str, is_legal: bool) -> Arc<TopicSeries> {
        match is_legal {
            true => self.topics.get(name),
            false => self.topics.other(),
        }
    }

    /// A request that could be read has been answered.
    pub(super) fn answered(&self, code: u16, waits: bool, after: Duration) {
        let (milliseconds, seconds) = (after.as_secs_f64() * 1e3, after.as_secs_f64());
        if code == 200 {
            let [fast, slow] = &self.well;
            let (well, method) = if waits { (slow, SYNC) } else { (fast, ASYNC) };
            let well = well.get_or_init(|| Answered {
                count: self.requests.with_label_values(&["200"]),
                milliseconds: self.durations.with_label_values(&["200", method]),
                seconds: self.durations_seconds.with_label_values(&["200", method]),
            });
            well.count.inc();
            well.milliseconds.observe(milliseconds);
            well.seconds.observe(seconds);
            return;
        }
        let code = code.to_string();
        let labels = [code.as_str(), if waits { SYNC } else { ASYNC }];
        self.requests.with_label_values(&[&code]).inc();
        let durations = self.durations.with_label_values(&labels);
        durations.observe(milliseconds);
        let durations = self.durations_seconds.with_label_values(&labels);
        durations.observe(seconds);
    }

    /// A request has been refused before it was read.
    pub(super) fn rejected(&self, code: u16) {
        let code = code.to_string();
        self.requests.with_label_values(&[&code]).inc();
    }

    /// Records of a topic have failed.
    pub(super) fn failed(&self, topic: &TopicSeries, error: i32, count: u64) {
        let error = error.to_string();
        let errors = self
            .errors
            .with_label_values(&[&*topic.label, error.as_str()]);
        errors.inc_by(count);
    }

    /// The rate limiter has refused a record.
    pub(super) fn limited(&self, topic: &TopicSeries) {
        self.limited.with_label_values(&[&*topic.label]).inc();
    }
}
