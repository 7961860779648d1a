//! What is configured: the sections `tracing` and `otlp` of each kind of file,
//! and OpenTelemetry's own variables for what those leave out.

use barnabas_engine::Sampler;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// OpenTelemetry's defaults of its batch processor.
const QUEUE: usize = 2_048;
const BATCH: usize = 512;
const DELAY: Duration = Duration::from_secs(5);
/// The largest queue: what waits in it for a collector is memory.
const LARGEST_QUEUE: usize = 65_536;
/// OTLP's default of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// OpenTelemetry's default between two reports of metrics.
const INTERVAL: Duration = Duration::from_secs(60);

/// What a file says, by the names of our own one (`otlp.endpoint`).
struct Given<'a> {
    /// Scalars, as text.
    text: &'a dyn Fn(&str) -> Option<String>,
    /// `otlp.headers`
    headers: Vec<(String, String)>,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}

/// A collector.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they were written.
    pub(super) authority: String,
    /// Of HTTP.
    pub(super) path: String,
    /// Their values do not show in logs.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) timeout: Duration,
    /// Who has signed its certificate, instead of those the system trusts.
    pub(super) ca: Option<PathBuf>,
}

/// What is done about traces and metrics.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) propagates: bool,
    pub(super) sampler: Sampler,
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
    pub(super) interval: Duration,
    pub(super) queue: usize,
    pub(super) batch: usize,
    pub(super) delay: Duration,
    attributes: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

impl Default for Settings {
    /// Contexts are propagated, nothing is sent.
    fn default() -> Self {
        Self {
            propagates: true,
            sampler: Sampler {
                ratio: 1.0,
                asks_parent: true,
            },
            traces: None,
            metrics: None,
            interval: INTERVAL,
            queue: QUEUE,
            batch: BATCH,
            delay: DELAY,
            attributes: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}

impl Settings {
    /// From a file and the environment. What is wrong in the file is a
    /// problem; what is wrong in variables that are not ours alone is warned
    /// of and ignored, as OpenTelemetry wants it.
    fn resolve(
        given: &Given<'_>,
        environment: impl Fn(&str) -> Option<String>,
        problems: &mut Vec<String>,
    ) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let mut reading = Reading {
            given,
            variable: &variable,
            problems,
            warnings: Vec::new(),
        };
        let mut settings = reading.settings();
        settings.warnings = reading.warnings;
        settings
    }

    /// From a document and the variables that count beside it: the
    /// environment's, and those of a file.
    pub(crate) fn of(
        text: impl Fn(&str) -> Option<String>,
        headers: Vec<(String, String)>,
        variables: &[(String, String)],
        problems: &mut Vec<String>,
    ) -> Self {
        let given = Given {
            text: &text,
            headers,
        };
        let variable = |name: &str| {
            let found = variables.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.clone())
        };
        Self::resolve(&given, variable, problems)
    }

    /// Whether anybody is sent metrics.
    pub(crate) fn sends_metrics(&self) -> bool {
        self.metrics.is_some()
    }

    /// Who we are, for the collector.
    pub(super) fn resource(&self) -> Resource {
        let mut attributes = self.attributes.clone();
        // Replicas must not be taken for one.
        let id = "service.instance.id".to_owned();
        let own = || format!("{:032x}", fastrand::u128(..));
        attributes.entry(id).or_insert_with(own);
        let attributes = attributes.iter();
        Resource {
            attributes: attributes
                .map(|(name, value)| super::spans::text(name, value))
                .collect(),
            ..Resource::default()
        }
    }
}

/// Settings in the making.
struct Reading<'a> {
    given: &'a Given<'a>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a mut Vec<String>,
    warnings: Vec<String>,
}

impl Reading<'_> {
    fn settings(&mut self) -> Settings {
        let propagates = self.switch("tracing.propagate").unwrap_or(true);
        let sampler = self.sampler();
        let is_disabled = (self.variable)("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let mut target = |signal: &str, key: &str, path: &str| {
            let is_wanted = self.switch(key);
            let exporter = self.variable_of(&format!("OTEL_{signal}_EXPORTER"));
            let is_off = match is_wanted {
                Some(is_wanted) => !is_wanted,
                None => exporter.is_some_and(|(_, value)| value.trim() == "none"),
            };
            // Checked in any case.
            let target = self.target(signal, path);
            target.filter(|_| !is_off && !is_disabled)
        };
        let traces = target("TRACES", "otlp.traces", "v1/traces");
        let metrics = target("METRICS", "otlp.metrics", "v1/metrics");
        let milliseconds = |number: u64| Duration::from_millis(number);
        let interval = match self.number("otlp.interval_ms", 1) {
            None => self.number_of("OTEL_METRIC_EXPORT_INTERVAL"),
            given => given,
        };
        let queue = self.number_of("OTEL_BSP_MAX_QUEUE_SIZE");
        let queue = queue.map_or(QUEUE, size).min(LARGEST_QUEUE);
        let batch = self.number_of("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
        let delay = self.number_of("OTEL_BSP_SCHEDULE_DELAY");
        Settings {
            propagates,
            sampler,
            traces,
            metrics,
            interval: interval.map_or(INTERVAL, milliseconds),
            queue,
            batch: batch.map_or(BATCH, size).min(queue),
            delay: delay.map_or(DELAY, milliseconds),
            attributes: self.attributes(),
            warnings: Vec::new(),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        (self.given.text)(key)
    }

    fn switch(&mut self, key: &str) -> Option<bool> {
        match self.text(key)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let problem = format!("{key}: {other:?} must be true or false");
                self.problems.push(problem);
                None
            }
        }
    }

    fn number(&mut self, key: &str, least: u64) -> Option<u64> {
        let text = self.text(key)?;
        let number = text.parse().ok().filter(|number| *number >= least);
        if number.is_none() {
            let problem = format!("{key}: {text:?} must be a whole number of at least {least}");
            self.problems.push(problem);
        }
        number
    }

    /// A variable, and its name.
    fn variable_of(&self, name: &str) -> Option<(String, String)> {
        (self.variable)(name).map(|value| (name.to_owned(), value))
    }

    /// A variable that is there for each signal and for both.
    fn variable_for(&self, signal: &str, rest: &str) -> Option<(String, String)> {
        self.variable_of(&format!("OTEL_EXPORTER_OTLP_{signal}_{rest}"))
            .or_else(|| self.variable_of(&format!("OTEL_EXPORTER_OTLP_{rest}")))
    }

    /// A positive number.
    fn number_of(&mut self, name: &str) -> Option<u64> {
        let (name, value) = self.variable_of(name)?;
        self.positive(&name, &value)
    }

    fn positive(&mut self, name: &str, value: &str) -> Option<u64> {
        let number = value.trim().parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.ignore(name, value, "a positive whole number");
        }
        number
    }

    fn ignore(&mut self, name: &str, value: &str, expected: &str) {
        let warning = format!("{name}: {value:?} is ignored; it must be {expected}");
        self.warnings.push(warning);
    }

    fn sampler(&mut self) -> Sampler {
        let key = "otlp.sample_ratio";
        let is_ratio = |ratio: &f64| (0.0..=1.0).contains(ratio);
        if let Some(text) = self.text(key) {
            let ratio = text.parse().ok().filter(is_ratio);
            if ratio.is_none() {
                let problem = format!("{key}: {text:?} must be a number from 0 to 1");
                self.problems.push(problem);
            }
            return Sampler {
                ratio: ratio.unwrap_or(1.0),
                asks_parent: true,
            };
        }
        let argument = self.variable_of("OTEL_TRACES_SAMPLER_ARG");
        let ratio = |own: &mut Self| {
            let Some((name, value)) = &argument else {
                return 1.0;
            };
            let ratio = value.trim().parse().ok().filter(is_ratio);
            if ratio.is_none() {
                own.ignore(name, value, "a number from 0 to 1");
            }
            ratio.unwrap_or(1.0)
        };
        let chosen = self.variable_of("OTEL_TRACES_SAMPLER");
        let word = chosen.as_ref().map(|(_, value)| value.trim());
        let (ratio, asks_parent) = match word {
            None | Some("parentbased_always_on") => (1.0, true),
            Some("parentbased_always_off") => (0.0, true),
            Some("parentbased_traceidratio") => (ratio(self), true),
            Some("always_on") => (1.0, false),
            Some("always_off") => (0.0, false),
            Some("traceidratio") => (ratio(self), false),
            Some(other) => {
                let expected = "always_on, always_off, traceidratio, or one of these behind \
                                parentbased_";
                self.ignore("OTEL_TRACES_SAMPLER", other, expected);
                (1.0, true)
            }
        };
        Sampler { ratio, asks_parent }
    }

    fn protocol(&mut self, signal: &str) -> Protocol {
        let key = "otlp.protocol";
        match self.text(key).as_deref() {
            Some("grpc") => return Protocol::Grpc,
            Some("http") => return Protocol::Http,
            Some(other) => {
                let problem = format!("{key}: {other:?} must be one of grpc, http");
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                return Protocol::Http;
            }
            None => {}
        }
        match self.variable_for(signal, "PROTOCOL") {
            None => Protocol::Http,
            Some((name, value)) => match value.trim() {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::Http,
                _ => {
                    self.ignore(&name, &value, "grpc or http/protobuf");
                    Protocol::Http
                }
            },
        }
    }

    /// Where a signal goes, if anywhere.
    fn target(&mut self, signal: &str, path: &str) -> Option<Target> {
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let key = "otlp.endpoint";
        // Whether the path is to be used as it is.
        let (name, endpoint, is_whole) = match self.text(key) {
            Some(endpoint) => (key.to_owned(), endpoint, false),
            None => match self.variable_of(&own) {
                Some((name, endpoint)) => (name, endpoint, true),
                None => {
                    let (name, endpoint) = self.variable_of("OTEL_EXPORTER_OTLP_ENDPOINT")?;
                    (name, endpoint, false)
                }
            },
        };
        let protocol = self.protocol(signal);
        let Some(endpoint) = Endpoint::read(&endpoint) else {
            // What is in front of `@` or behind `?` may be a secret.
            let shown = match endpoint.contains(['@', '?']) {
                true => "(not shown)",
                false => endpoint.as_str(),
            };
            if name == key {
                let problem = format!("{key}: {shown:?} must be like http://collector:4318");
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            } else {
                self.ignore(&name, shown, "like http://collector:4318");
            }
            return None;
        };
        let timeout = self.variable_for(signal, "TIMEOUT");
        let timeout = timeout.and_then(|(name, value)| self.positive(&name, &value));
        let ca = self.variable_for(signal, "CERTIFICATE");
        let base = endpoint.path.trim_end_matches('/');
        Some(Target {
            protocol,
            path: match is_whole {
                true => endpoint.path,
                false => format!("{base}/{path}"),
            },
            is_tls: endpoint.is_tls,
            host: endpoint.host,
            port: endpoint.port,
            authority: endpoint.authority,
            headers: self.headers(signal),
            timeout: timeout.map_or(TIMEOUT, Duration::from_millis),
            ca: ca.map(|(_, path)| path.into()),
        })
    }

    fn headers(&mut self, signal: &str) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        let header = |name: &str, value: &str| {
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name).ok()?, value))
        };
        for (name, value) in &self.given.headers {
            match header(name, value) {
                Some(header) => headers.push(header),
                None => {
                    let problem = format!("otlp.headers.{name}: this can be no header");
                    if !self.problems.contains(&problem) {
                        self.problems.push(problem);
                    }
                }
            }
        }
        if !self.given.headers.is_empty() {
            return headers;
        }
        let Some((variable, text)) = self.variable_for(signal, "HEADERS") else {
            return headers;
        };
        for (name, value) in pairs(&text) {
            match header(&name, &value) {
                Some(header) => headers.push(header),
                // Its value may be secret.
                None => self
                    .warnings
                    .push(format!("{variable}: {name:?} can be no header")),
            }
        }
        headers
    }

    fn attributes(&mut self) -> BTreeMap<String, String> {
        let text = |name, value: &str| (String::from(name), value.to_owned());
        let mut attributes = BTreeMap::from([
            text("service.name", "barnabas"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("telemetry.sdk.name", "barnabas"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ]);
        if let Some((_, given)) = self.variable_of("OTEL_RESOURCE_ATTRIBUTES") {
            attributes.extend(pairs(&given));
        }
        let name = match self.text("otlp.service_name") {
            Some(name) => Some(name),
            None => (self.variable)("OTEL_SERVICE_NAME"),
        };
        if let Some(name) = name {
            attributes.insert("service.name".to_owned(), name);
        }
        attributes
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `key=value,…`, percent-encoded. What is none is left out.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_decode_str(text.trim())
            .decode_utf8_lossy()
            .into_owned()
    };
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

/// A URL, taken apart.
struct Endpoint {
    is_tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Endpoint {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        // As many write it for gRPC.
        let uri: Uri = match text.contains("://") {
            true => text.parse().ok()?,
            false => format!("http://{text}").parse().ok()?,
        };
        let is_tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        // Who has a name and a password has headers.
        if authority.as_str().contains('@') || uri.query().is_some() {
            return None;
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return None;
        }
        Some(Self {
            is_tls,
            host: host.to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri.path().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
