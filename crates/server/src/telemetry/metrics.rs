//! Metrics in OTLP's messages, whatever is registered.

use super::spans::{nanoseconds, scope, text};
use barnabas_metrics::{Family, FamilySample, Kind, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::time::SystemTime;

/// Series in one request: collectors take 4 MiB unless told otherwise.
const MOST_SERIES: usize = 2_000;

/// Requests to take these. Counters and histograms go on counting from
/// `since`.
pub(super) fn requests(
    resource: &Resource,
    families: &[Family],
    since: SystemTime,
    now: SystemTime,
) -> Vec<ExportMetricsServiceRequest> {
    let times = (nanoseconds(since), nanoseconds(now));
    let mut requests = Vec::new();
    let mut metrics = Vec::new();
    let mut series = 0;
    for family in families {
        for samples in family.samples.chunks(MOST_SERIES) {
            if series + samples.len() > MOST_SERIES {
                requests.push(request(resource, std::mem::take(&mut metrics)));
                series = 0;
            }
            series += samples.len();
            metrics.push(of(family, samples, times));
        }
    }
    if !metrics.is_empty() {
        requests.push(request(resource, metrics));
    }
    requests
}

fn request(resource: &Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let metrics = ScopeMetrics {
        scope: Some(scope()),
        metrics,
        ..ScopeMetrics::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![metrics],
            ..ResourceMetrics::default()
        }],
    }
}

fn of(family: &Family, samples: &[FamilySample], times: (u64, u64)) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || {
        samples
            .iter()
            .filter_map(|own| number(own, times))
            .collect()
    };
    let data = match family.kind {
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Gauge => metric::Data::Gauge(Gauge {
            data_points: numbers(),
        }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: samples
                .iter()
                .filter_map(|own| histogram(own, times))
                .collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: family.name.clone(),
        description: family.help.clone(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(sample: &FamilySample, (since, now): (u64, u64)) -> Option<NumberDataPoint> {
    let Value::Number(value) = sample.value else {
        return None;
    };
    Some(NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    })
}

fn histogram(sample: &FamilySample, (since, now): (u64, u64)) -> Option<HistogramDataPoint> {
    let Value::Histogram {
        count,
        sum,
        buckets,
    } = &sample.value
    else {
        return None;
    };
    // OTLP's buckets do not hold those below them.
    let bounds = buckets.iter().filter(|(bound, _)| bound.is_finite());
    let mut below = 0;
    let mut counts = Vec::with_capacity(buckets.len() + 1);
    for (_, up_to) in bounds.clone() {
        counts.push(up_to.saturating_sub(below));
        below = *up_to;
    }
    counts.push(count.saturating_sub(below));
    Some(HistogramDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: since,
        time_unix_nano: now,
        // It is read piece by piece while it counts.
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts,
        explicit_bounds: bounds.map(|(bound, _)| *bound).collect(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(sample: &FamilySample) -> Vec<KeyValue> {
    let labels = sample.labels.iter();
    labels.map(|(name, value)| text(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_metrics::Registry;
    use std::time::Duration;

    #[test]
    fn every_kind_becomes_its_own() {
        let registry = Registry::new();
        let counters = registry.counters("sent", "Sent.", &["topic"]).unwrap();
        counters.with_label_values(&["a"]).inc_by(3);
        let gauges = registry.gauges("level", "Level.", &[]).unwrap();
        gauges.with_label_values(&[] as &[&str]).set(-7);
        let histograms = registry.histograms("time", "Time.", &[], &[1.0, 2.0]);
        let times = histograms.unwrap().with_label_values(&[] as &[&str]);
        for value in [0.5, 1.5, 1.6, 9.0] {
            times.observe(value);
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        let now = since + Duration::from_secs(1);
        let requests = requests(&Resource::default(), &registry.families(), since, now);
        let [request] = &requests[..] else {
            panic!("{requests:?}");
        };
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let [level, sent, time] = &metrics[..] else {
            panic!("{metrics:?}");
        };
        assert_eq!((&*sent.name, &*sent.description), ("sent", "Sent."));
        let Some(metric::Data::Sum(sum)) = &sent.data else {
            panic!("{sent:?}");
        };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(3.0)));
        assert_eq!(point.attributes, [text("topic", "a")]);
        assert_eq!(
            (point.start_time_unix_nano, point.time_unix_nano),
            (5, 1_000_000_005)
        );
        let Some(metric::Data::Gauge(gauge)) = &level.data else {
            panic!("{level:?}");
        };
        let value = gauge.data_points[0].value;
        assert_eq!(value, Some(number_data_point::Value::AsDouble(-7.0)));
        let Some(metric::Data::Histogram(histogram)) = &time.data else {
            panic!("{time:?}");
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.explicit_bounds, [1.0, 2.0]);
        assert_eq!(point.bucket_counts, [1, 2, 1]);
        assert_eq!((point.count, point.sum), (4, Some(12.6)));
    }

    #[test]
    fn many_series_are_several_requests() {
        let sample = FamilySample {
            labels: Vec::new(),
            value: Value::Number(1.0),
        };
        let family = |series: usize| Family {
            name: "n".to_owned(),
            help: String::new(),
            kind: Kind::Gauge,
            samples: vec![sample.clone(); series],
        };
        let now = SystemTime::now();
        let count = |families: &[Family]| -> Vec<usize> {
            let requests = requests(&Resource::default(), families, now, now);
            let series = |request: &ExportMetricsServiceRequest| {
                let metrics = request.resource_metrics[0].scope_metrics[0].metrics.iter();
                let points = metrics.map(|own| match &own.data {
                    Some(metric::Data::Gauge(gauge)) => gauge.data_points.len(),
                    other => panic!("{other:?}"),
                });
                points.sum()
            };
            requests.iter().map(series).collect()
        };
        assert!(count(&[]).is_empty());
        assert_eq!(
            count(&[family(1_000), family(1_000), family(1)]),
            [2_000, 1]
        );
        assert_eq!(count(&[family(5_000), family(7)]), [2_000, 2_000, 1_007]);
    }
}
