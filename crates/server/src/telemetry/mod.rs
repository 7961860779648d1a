//! OpenTelemetry: spans and metrics to a collector, by OTLP
//! (`docs/tracing.md`).
//!
//! Nothing here is on a request's way. Front ends put finished spans into a
//! bounded queue (`barnabas_engine::Tracer`); metrics are read when they are
//! due. A collector that is slow or gone costs spans, which are counted, and
//! nothing else.
//!
//! In reading order: `settings` (keys and variables), `spans` and `metrics`
//! (ours in OTLP's messages), `client` (a collector), `tasks` (when what is
//! sent).
//!
//! Of OpenTelemetry's crates only the messages are used: its SDK does not take
//! metrics that others have counted, and does not tell how many spans it has
//! dropped.

mod client;
mod metrics;
mod settings;
mod spans;
mod tasks;

pub(crate) use settings::Settings;

use barnabas_engine::{Tracer, Tracing};
use barnabas_metrics::{Description, Family, Kind, Registry};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long what is left may take to be sent at the end.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Metrics as they stand now.
pub(crate) type Source = Box<dyn Fn() -> Vec<Family> + Send + Sync>;

/// What has become of spans that were taken from the queue.
#[derive(Default)]
struct Exported {
    well: AtomicU64,
    failed: AtomicU64,
}

/// Runs while it lives; [`stop`](Self::stop) sends what is left.
pub(crate) struct Telemetry {
    tracing: Tracing,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// Goes to the metrics' task when their sources are known.
    metrics: Option<(client::Client, tasks::Every)>,
    own: Registry,
}

impl Telemetry {
    /// Must be called inside the Tokio runtime that is to carry it.
    ///
    /// # Errors
    /// A file of certificates that cannot be used; metrics of our own that
    /// contradict each other.
    pub(crate) fn start(settings: Settings) -> anyhow::Result<Self> {
        for warning in &settings.warnings {
            tracing::warn!(component = "otlp", "{warning}");
        }
        let resource = settings.resource();
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let own = Registry::new();
        let tracer = match settings.traces {
            None => Tracer::off(),
            Some(target) => {
                let (tracer, queue) = Tracer::new(settings.sampler, settings.queue);
                let exported = Arc::<Exported>::default();
                count(&own, &queue, &exported)?;
                let batches = tasks::Batches {
                    size: settings.batch,
                    delay: settings.delay,
                };
                let client = client::Client::new(target, client::Signal::Traces)?;
                let resource = resource.clone();
                tasks.spawn(tasks::send_spans(
                    client,
                    queue,
                    exported,
                    resource,
                    batches,
                    stopping.clone(),
                ));
                tracer
            }
        };
        let metrics = settings.metrics.map(|target| {
            let every = tasks::Every {
                interval: settings.interval,
                since: SystemTime::now(),
                resource,
                stopping,
            };
            let client = client::Client::new(target, client::Signal::Metrics);
            client.map(|client| (client, every))
        });
        Ok(Self {
            tracing: Tracing {
                propagates: settings.propagates,
                tracer,
            },
            tasks,
            stop,
            metrics: metrics.transpose()?,
            own,
        })
    }

    /// What front ends need.
    pub(crate) fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// Sends these metrics from now on, and our own with them.
    pub(crate) fn send_metrics(&mut self, mut sources: Vec<Source>) {
        if let Some((client, every)) = self.metrics.take() {
            let own = self.own.clone();
            sources.push(Box::new(move || own.families()));
            let sending = tasks::send_metrics(client, Arc::new(sources), every);
            self.tasks.spawn(sending);
        }
    }

    /// Sends what is left, within `limit` and within two seconds.
    pub(crate) async fn stop(mut self, limit: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit.min(STOP_LIMIT), ended)
            .await
            .is_err()
        {
            tracing::warn!(
                component = "otlp",
                "The collector has not taken what was left in time"
            );
        }
    }
}

/// Shows what becomes of spans.
fn count(
    registry: &Registry,
    queue: &barnabas_engine::SpanQueue,
    exported: &Arc<Exported>,
) -> anyhow::Result<()> {
    let spans = Description::new(
        Kind::Counter,
        "barnabas_otlp_spans_total",
        "Spans that the collector has taken (exported), that found the queue full (dropped), and \
         that the collector would not take (failed).",
        &["result"],
    );
    let (counts, exported) = (Arc::clone(&queue.counts), Arc::clone(exported));
    registry.snapshot(vec![spans], move |samples| {
        for (result, counter) in [
            ("exported", &exported.well),
            ("failed", &exported.failed),
            ("dropped", &counts.dropped),
        ] {
            samples.add(0, &[result], counter.load(Ordering::Relaxed) as f64);
        }
    })?;
    Ok(())
}
