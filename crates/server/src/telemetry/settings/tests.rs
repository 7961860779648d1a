//! What keys and variables mean together.

use super::*;

/// Settings, and what is wrong with the file.
fn resolve(file: &[(&str, &str)], environment: &[(&str, &str)]) -> (Settings, Vec<String>) {
    let find = |all: &[(&str, &str)], name: &str| {
        let mut all = all.iter();
        let found = all.find(|(own, _)| *own == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let headers = file.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix("otlp.headers.")?;
        Some((name.to_owned(), (*value).to_owned()))
    });
    let given = Given {
        text: &|key| find(file, key),
        headers: headers.collect(),
    };
    let mut problems = Vec::new();
    let settings = Settings::resolve(&given, |name| find(environment, name), &mut problems);
    (settings, problems)
}

fn target(target: &Option<Target>) -> (Protocol, String) {
    let target = target.as_ref().unwrap();
    let scheme = if target.is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", target.host, target.port, target.path);
    (target.protocol, url)
}

#[test]
fn nothing_is_sent_unless_somebody_says_where() {
    let (settings, problems) = resolve(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]);
    assert!(settings.traces.is_none() && settings.metrics.is_none());
    assert!(settings.propagates && problems.is_empty() && settings.warnings.is_empty());
    let (settings, _) = resolve(&[("tracing.propagate", "false")], &[]);
    assert!(!settings.propagates);
}

#[test]
fn the_file_counts_before_the_variables() {
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://other/base/"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_SERVICE_NAME", "theirs"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "a=b%20c,service.name=x, nothing,d=e=f",
        ),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%3Decret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
    ];
    let (settings, problems) = resolve(&[], &environment);
    assert_eq!((problems.len(), settings.warnings.len()), (0, 0));
    let expected = (
        Protocol::Http,
        "https://other:443/base/v1/traces".to_owned(),
    );
    assert_eq!(target(&settings.traces), expected);
    assert_eq!(
        target(&settings.metrics).1,
        "https://other:443/base/v1/metrics"
    );
    let own = settings.traces.as_ref().unwrap();
    assert_eq!(own.headers[0].1, "s=ecret");
    assert!(!format!("{settings:?}").contains("ecret"));
    assert_eq!(own.timeout, Duration::from_millis(1_500));
    assert_eq!(own.ca, Some("/ca.pem".into()));
    assert_eq!((settings.queue, settings.batch), (100, 100));
    assert_eq!(settings.interval, Duration::from_secs(5));
    assert_eq!(
        settings.sampler,
        Sampler {
            ratio: 0.0,
            asks_parent: false
        }
    );
    let attribute = |settings: &Settings, name| settings.attributes.get(name).cloned();
    assert_eq!(attribute(&settings, "a").as_deref(), Some("b c"));
    assert_eq!(attribute(&settings, "d").as_deref(), Some("e=f"));
    assert_eq!(
        attribute(&settings, "service.name").as_deref(),
        Some("theirs")
    );
    let file = [
        ("otlp.endpoint", "collector:4317"),
        ("otlp.protocol", "grpc"),
        ("otlp.headers.x", "y"),
        ("otlp.metrics", "false"),
        ("otlp.interval_ms", "7"),
        ("otlp.sample_ratio", "0.5"),
        ("otlp.service_name", "ours"),
    ];
    let (settings, problems) = resolve(&file, &environment);
    assert_eq!(problems, [""; 0]);
    let expected = (Protocol::Grpc, "http://collector:4317/v1/traces".to_owned());
    assert_eq!(target(&settings.traces), expected);
    assert!(settings.metrics.is_none());
    assert_eq!(settings.traces.as_ref().unwrap().headers.len(), 1);
    assert_eq!(settings.interval, Duration::from_millis(7));
    assert_eq!(
        settings.sampler,
        Sampler {
            ratio: 0.5,
            asks_parent: true
        }
    );
    assert_eq!(
        attribute(&settings, "service.name").as_deref(),
        Some("ours")
    );
}

#[test]
fn signals_have_variables_of_their_own() {
    let (settings, _) = resolve(
        &[],
        &[
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://[::1]:9/as/it/is",
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ],
    );
    let expected = (Protocol::Grpc, "http://::1:9/as/it/is".to_owned());
    assert_eq!(target(&settings.traces), expected);
    assert!(settings.metrics.is_none());
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x");
    let (settings, _) = resolve(&[], &[endpoint, ("OTEL_TRACES_EXPORTER", "none")]);
    assert!(settings.traces.is_none() && settings.metrics.is_some());
    let (settings, _) = resolve(&[], &[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]);
    assert!(settings.traces.is_none() && settings.metrics.is_none());
}

#[test]
fn what_is_wrong_is_said_once_and_variables_are_forgiven() {
    let (_, problems) = resolve(
        &[
            ("otlp.endpoint", "ftp://x"),
            ("otlp.protocol", "tcp"),
            ("otlp.traces", "maybe"),
            ("otlp.interval_ms", "0"),
            ("otlp.sample_ratio", "2"),
            ("tracing.propagate", "1"),
        ],
        &[],
    );
    assert_eq!(problems.len(), 6, "{problems:?}");
    for (problem, key) in problems.iter().zip([
        "tracing.propagate: \"1\" must be true or false",
        "otlp.sample_ratio: \"2\" must be a number from 0 to 1",
        "otlp.traces: \"maybe\" must be true or false",
        "otlp.protocol: \"tcp\" must be one of grpc, http",
        "otlp.endpoint: \"ftp://x\" must be like http://collector:4318",
        "otlp.interval_ms: \"0\" must be a whole number of at least 1",
    ]) {
        assert_eq!(problem, key);
    }
    let (settings, problems) = resolve(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "no url at all"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
        ],
    );
    assert!(problems.is_empty() && settings.traces.is_none());
    assert_eq!(settings.warnings.len(), 3, "{:?}", settings.warnings);
    assert_eq!(settings.interval, INTERVAL);
    assert_eq!(settings.sampler, Settings::default().sampler);
}
