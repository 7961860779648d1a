//! The metrics of a gateway, and of kafboy: one registry for all front ends and
//! clusters, shown on a port of its own and pushed to statsd.
//!
//! In reading order: this file (what is configured, starting and stopping),
//! `clusters` and `outbox` (what the engine has counted, read when somebody
//! asks), `statsd`.

pub(crate) mod clusters;
pub(crate) mod outbox;
mod statsd;

pub(crate) use clusters::of_clusters;

use crate::clusters::Plan;
use crate::gateway;
use crate::telemetry::Source;
use anyhow::{Context as _, Result};
use barnabas_engine::{Drops, Producer, Properties, librdkafka_version};
use barnabas_http::{ClientQuery, Health, Listener, Observed, Options, Server};
use barnabas_metrics::{
    ClientStatistics, Error, Format, LibrdkafkaStatistics, Meter, Registry, StatisticsNames,
    StatisticsOptions,
};
use statsd::Statsd;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// How long requests for metrics may take once the process ends.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// librdkafka's property of how often it writes statistics.
const INTERVAL: &str = "statistics.interval.ms";

/// What is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where they are shown; nowhere: not at all.
    pub(crate) listen: Vec<String>,
    /// Topics with series of their own.
    pub(crate) max_topics: usize,
    /// Whether librdkafka's statistics of partitions are shown.
    pub(crate) has_partitions: bool,
    /// How often librdkafka writes its statistics; zero: never.
    pub(crate) statistics_interval: Duration,
    pub(crate) statsd: Option<StatsdSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            max_topics: 500,
            has_partitions: false,
            statistics_interval: Duration::from_secs(5),
            statsd: None,
        }
    }
}

/// Where and how statsd is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatsdSettings {
    /// `host:port`.
    pub(crate) address: String,
    /// In front of each name.
    pub(crate) prefix: String,
    pub(crate) interval: Duration,
    /// The largest datagram.
    pub(crate) mtu: usize,
}

impl Default for StatsdSettings {
    fn default() -> Self {
        Self {
            address: "localhost:8125".to_owned(),
            prefix: "barnabas.".to_owned(),
            interval: Duration::from_secs(10),
            mtu: 1432,
        }
    }
}

impl Settings {
    /// Whether anybody is shown anything.
    pub(crate) fn is_on(&self) -> bool {
        !self.listen.is_empty() || self.statsd.is_some()
    }

    /// Has librdkafka's producers and groups write statistics, if they are to
    /// be shown, or sent by others, and nothing else is configured. Redis' consumers do not: there
    /// is one per connection, and each would keep some 10 KB of text.
    pub(crate) fn prepare<'a>(&self, plans: impl IntoIterator<Item = &'a mut Plan>, is_sent: bool) {
        let Some(interval) = self.interval(is_sent) else {
            return;
        };
        for plan in plans {
            let config = &mut plan.config;
            let is_given = |all: &[&Properties]| all.iter().any(|own| own.get(INTERVAL).is_some());
            if !is_given(&[&config.common, &config.producer]) {
                config.producer.set(INTERVAL, interval.as_str());
            }
            let of_groups = &mut plan.group_properties;
            if !is_given(&[&config.common, &config.consumer, of_groups]) {
                of_groups.set(INTERVAL, interval.as_str());
            }
        }
    }

    /// What librdkafka's property is to be; `None`: nobody looks.
    fn interval(&self, is_sent: bool) -> Option<String> {
        let is_wanted = (self.is_on() || is_sent) && !self.statistics_interval.is_zero();
        is_wanted.then(|| self.statistics_interval.as_millis().to_string())
    }

    /// Has clients of these properties write statistics, as
    /// [`prepare`](Self::prepare) does.
    pub(crate) fn prepare_properties(&self, properties: &mut Properties, is_sent: bool) {
        if let Some(interval) = self.interval(is_sent) {
            properties.set_default(INTERVAL, &interval);
        }
    }

    /// Takes the ports.
    ///
    /// # Errors
    /// One cannot be had.
    pub(crate) fn bind(&self) -> Result<Vec<TcpListener>> {
        let listeners = self.listen.iter().map(|address| gateway::bind(address));
        listeners.collect::<Result<_>>().context("metrics.listen")
    }
}

/// What front ends count.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) meters: Vec<Arc<Meter>>,
    /// Messages that were lost without anybody being told, by front end.
    pub(crate) drops: Vec<(&'static str, Arc<Drops>)>,
}

/// What is behind the front ends of a process.
pub(crate) trait Watched: Send + Sync + 'static {
    /// Has the registry read what the engine has counted; so many topics have
    /// series of their own.
    fn register(&self, registry: &Registry, max_topics: usize) -> Result<(), Error>;

    /// What librdkafka's clients have said last.
    fn said(&self) -> Vec<ClientStatistics>;

    /// Whether no more work is taken.
    fn is_stopping(&self) -> bool;

    /// One producer for each cluster, to ask whether it answers.
    fn probes(&self) -> Vec<Producer>;
}

/// The metrics, shown and pushed.
#[derive(Default)]
pub(crate) struct Metrics {
    server: Option<Server>,
    push: Option<JoinHandle<()>>,
    registry: Option<Registry>,
}

impl Metrics {
    /// Shows what there is on these ports, as configured; `is_sent`: somebody
    /// else is to have it ([`sources`](Self::sources)). Must be called inside
    /// a Tokio runtime.
    ///
    /// # Errors
    /// Metrics that contradict each other, or a socket that cannot be had.
    pub(crate) fn start(
        settings: &Settings,
        listeners: Vec<TcpListener>,
        watched: Arc<dyn Watched>,
        meters: Vec<Arc<Meter>>,
        is_sent: bool,
    ) -> Result<Self> {
        if !settings.is_on() && !is_sent {
            return Ok(Self::default());
        }
        let registry = registry(settings, &watched, meters).context("metrics")?;
        let push = settings.statsd.as_ref().map(|settings| {
            let statsd = Statsd::open(settings).context("statsd")?;
            anyhow::Ok(tokio::spawn(statsd.push(registry.clone())))
        });
        let push = push.transpose()?;
        let mut metrics = Self {
            server: None,
            push,
            registry: Some(registry.clone()),
        };
        if listeners.is_empty() {
            return Ok(metrics);
        }
        let shown = Shown {
            registry,
            watched,
            health: Health::default(),
        };
        let listeners = listeners.into_iter().map(Listener::Tcp).collect();
        let options = Options {
            stop_limit: STOP_LIMIT,
            ..Options::default()
        };
        let server = Server::start_metrics(listeners, Arc::new(shown), options)?;
        for address in server.addresses() {
            tracing::info!(component = "metrics", "Listening on {address}");
        }
        metrics.server = Some(server);
        Ok(metrics)
    }

    /// What others read them from.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let registry = self.registry.clone();
        let source = registry.map(|own| Box::new(move || own.families()) as Source);
        source.into_iter().collect()
    }

    /// Where they are shown.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.server.as_ref().map_or(&[], Server::addresses)
    }

    /// Resolves when a listener has died.
    pub(crate) async fn failed(&mut self) {
        match &mut self.server {
            Some(server) => server.failed().await,
            None => std::future::pending().await,
        }
        tracing::error!(component = "metrics", "A listener has died");
    }

    /// The last step of a process.
    pub(crate) async fn stop(self) {
        if let Some(push) = self.push {
            push.abort();
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Everything that is counted.
fn registry(
    settings: &Settings,
    watched: &Arc<dyn Watched>,
    meters: Vec<Arc<Meter>>,
) -> Result<Registry, Error> {
    let registry = Registry::new();
    let info = registry.gauges(
        "barnabas_build_info",
        "Which build this is, in its labels; always 1.",
        &["version", "commit", "librdkafka"],
    )?;
    let (version, commit) = (env!("CARGO_PKG_VERSION"), crate::kprf::COMMIT);
    info.with_label_values(&[version, commit, &librdkafka_version()])
        .set(1);
    registry.front_ends(meters)?;
    watched.register(&registry, settings.max_topics)?;
    let options = StatisticsOptions {
        names: StatisticsNames::Own,
        max_topics: settings.max_topics,
        has_partitions: settings.has_partitions,
    };
    let watched = Arc::clone(watched);
    registry.librdkafka(LibrdkafkaStatistics::new(options, move || watched.said())?)?;
    Ok(registry)
}

/// What the port shows.
struct Shown {
    registry: Registry,
    watched: Arc<dyn Watched>,
    health: Health,
}

impl Observed for Shown {
    fn text(&self, format: Format) -> String {
        self.registry.text(format)
    }

    fn statistics(&self, query: &ClientQuery) -> Option<Arc<str>> {
        let is_wanted = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        let said = self.watched.said().into_iter();
        let mut own = said.filter(|one| is_wanted(&query.cluster, &one.cluster));
        own.find(|one| is_wanted(&query.client, &one.client))
            .map(|one| one.json)
    }

    fn is_stopping(&self) -> bool {
        self.watched.is_stopping()
    }

    /// Whether any cluster answers: one that does not, refuses its own
    /// requests only.
    fn is_reachable(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        let mut asking = JoinSet::new();
        for producer in self.watched.probes() {
            asking.spawn(async move { producer.topic_names().await.is_ok() });
        }
        Box::pin(async move {
            while let Some(answer) = asking.join_next().await {
                if answer.unwrap_or(false) {
                    return true;
                }
            }
            false
        })
    }

    fn health(&self) -> &Health {
        &self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::Clusters;
    use crate::kafboy::Shown as OfKafboy;
    use barnabas_engine::{Cluster, ClusterConfig, Outbox};
    use barnabas_http::{Kafboy, KafboyOptions};
    use std::path::Path;

    #[test]
    fn what_is_configured_of_a_cluster_counts_more() {
        let given = |properties: &Properties| properties.get(INTERVAL).map(str::to_owned);
        let mut own = ClusterConfig::default();
        own.common.set(INTERVAL, "1");
        let mut plans = vec![Plan::new(ClusterConfig::default()), Plan::new(own)];
        Settings::default().prepare(&mut plans, false);
        assert_eq!(given(&plans[0].config.producer), None, "nobody looks");
        let settings = Settings {
            listen: vec!["127.0.0.1:0".to_owned()],
            ..Settings::default()
        };
        settings.prepare(&mut plans, false);
        let [bare, own] = plans.as_slice() else {
            panic!("{plans:?}");
        };
        let ours = Some("5000".to_owned());
        assert_eq!(given(&bare.config.producer), ours);
        assert_eq!(given(&bare.group_properties), ours);
        assert_eq!(given(&bare.config.consumer), None);
        assert_eq!(given(&own.config.producer), None);
        assert_eq!(given(&own.group_properties), None);
    }

    /// A row of the document for each metric that is not librdkafka's, if
    /// those are described elsewhere.
    fn rows(registry: &Registry, has_librdkafka: bool) -> Vec<String> {
        let described = registry.descriptions().into_iter();
        let described =
            described.filter(|own| has_librdkafka || !own.name.starts_with("barnabas_librdkafka_"));
        let described = described.map(|own| {
            let labels: Vec<String> = own.labels.iter().map(|own| format!("`{own}`")).collect();
            format!(
                "| `{}` | {} | {} | {} |",
                own.name,
                own.kind.word(),
                labels.join(", "),
                own.help
            )
        });
        described.collect()
    }

    #[tokio::test]
    async fn the_document_names_every_metric() {
        let mut config = ClusterConfig {
            name: "main".to_owned(),
            ..ClusterConfig::default()
        };
        // Nobody listens there.
        config.common.set("bootstrap.servers", "127.0.0.1:1");
        let clusters = Clusters::open("main".to_owned(), vec![Plan::new(config)], None).unwrap();
        let settings = Settings {
            listen: vec!["127.0.0.1:0".to_owned()],
            has_partitions: true,
            ..Settings::default()
        };
        let watched = of_clusters(&clusters, Vec::new());
        let registry = registry(&settings, &watched, Vec::new()).unwrap();
        let expected = rows(&registry, true);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let document = std::fs::read_to_string(path).unwrap();
        // What kprf's port has is compared by its own test.
        let own = document.split("\n## kafboy").next().unwrap_or_default();
        says(own, &expected);
    }

    /// Compares the tables of a part of the document.
    fn says(part: &str, expected: &[String]) {
        let own = part.lines().filter(|line| line.starts_with("| `barnabas_"));
        let own: Vec<&str> = own.collect();
        assert!(
            own == expected,
            "the tables should be\n{}",
            expected.join("\n")
        );
    }

    #[tokio::test]
    async fn the_document_names_every_metric_of_kafboys_port() {
        let mut config = ClusterConfig::default();
        // Nobody listens there.
        config.common.set("bootstrap.servers", "127.0.0.1:1");
        let cluster = Cluster::open(config).unwrap();
        let outbox = Outbox::builder(&cluster).start().unwrap();
        let kafboy = Kafboy::new(outbox, None, KafboyOptions::default()).unwrap();
        let watched: Arc<dyn Watched> = Arc::new(OfKafboy::new(&kafboy));
        let registry = registry(&Settings::default(), &watched, Vec::new()).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let document = std::fs::read_to_string(path).unwrap();
        let own = document.split("\n## kafboy").nth(1).unwrap_or_default();
        let own = own.split("\n## ").next().unwrap_or_default();
        says(own, &rows(&registry, false));
    }
}
