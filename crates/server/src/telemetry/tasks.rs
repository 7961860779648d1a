//! When what is sent: spans in batches, again if the collector may take them
//! later; metrics at intervals, anew each time.

use super::client::{Client, Failure};
use super::{Exported, Source, metrics, spans};
use barnabas_engine::{FinishedSpan, SpanQueue};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often a batch is tried.
const TRIES: u32 = 5;
/// The pause after the first failure; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often a failure is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How spans are put together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batches {
    /// So many at most.
    pub(super) size: usize,
    /// A batch waits so long for the next span.
    pub(super) delay: Duration,
}

/// Spans as they come out of the queue.
#[allow(clippy::vec_box, reason = "they were put into boxes on their way in")]
type Batch = Vec<Box<FinishedSpan>>;

/// When metrics are sent.
pub(super) struct Every {
    pub(super) interval: Duration,
    /// When counting began.
    pub(super) since: SystemTime,
    pub(super) resource: Resource,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Failures, of which few are logged.
#[derive(Default)]
struct Log {
    failures: u64,
    told: Option<Instant>,
}

impl Log {
    fn failed(&mut self, client: &Client, failure: &Failure) {
        self.failures += 1;
        if self.told.is_none_or(|told| told.elapsed() >= LOG_INTERVAL) {
            self.told = Some(Instant::now());
            let (signal, failures) = (client.signal().name(), self.failures);
            let text = &failure.text;
            tracing::warn!(component = "otlp", signal, failures, "not sent: {text}");
        }
    }

    fn went_well(&mut self, client: &Client) {
        if std::mem::take(&mut self.failures) > 0 {
            self.told = None;
            let signal = client.signal().name();
            tracing::info!(component = "otlp", signal, "the collector takes again");
        }
    }
}

/// Resolves when the process ends.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error is the end, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Sends spans until the process ends, then those that are left.
pub(super) async fn send_spans(
    mut client: Client,
    mut queue: SpanQueue,
    exported: Arc<Exported>,
    resource: Resource,
    batches: Batches,
    mut stopping: watch::Receiver<bool>,
) {
    let mut log = Log::default();
    let mut is_open = true;
    while is_open {
        let mut batch = Vec::with_capacity(batches.size.min(64));
        {
            let gathering = gather(&mut queue, &mut batch, batches);
            tokio::pin!(gathering);
            tokio::select! {
                is_more = &mut gathering => is_open = is_more,
                () = told(&mut stopping) => is_open = false,
            }
        }
        if !is_open {
            return send_rest(&mut client, queue, batch, &exported, &resource, batches).await;
        }
        let count = batch.len() as u64;
        match send_batch(&mut client, &batch, &resource, &mut log, &mut stopping).await {
            Ok(answer) => note_partial(&exported, count, &answer),
            Err(()) => drop(exported.failed.fetch_add(count, Ordering::Relaxed)),
        }
    }
}

/// Fills a batch; false: there will be no more.
async fn gather(queue: &mut SpanQueue, batch: &mut Batch, batches: Batches) -> bool {
    let spans = &mut queue.spans;
    if spans.recv_many(batch, batches.size).await == 0 {
        return false;
    }
    let more = async {
        while batch.len() < batches.size {
            let room = batches.size - batch.len();
            if spans.recv_many(batch, room).await == 0 {
                return;
            }
        }
    };
    // What has come is in the batch.
    let _ = tokio::time::timeout(batches.delay, more).await;
    true
}

/// Sends a batch, again and again if that may help.
async fn send_batch(
    client: &mut Client,
    batch: &[Box<FinishedSpan>],
    resource: &Resource,
    log: &mut Log,
    stopping: &mut watch::Receiver<bool>,
) -> Result<Bytes, ()> {
    let request = spans::request(resource, batch);
    let mut pause = FIRST_PAUSE;
    for tried in 1..=TRIES {
        let failure = match client.send(&request).await {
            Ok(answer) => {
                log.went_well(client);
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        log.failed(client, &failure);
        let Some(wanted) = failure.again.filter(|_| tried < TRIES) else {
            break;
        };
        // Not all replicas at once.
        let jittered = pause.mul_f64(0.5 + fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(wanted.max(jittered)) => {}
            () = told(stopping) => {}
        }
        pause *= 2;
        if *stopping.borrow() {
            // This once, at the end.
            return client.send(&request).await.map_err(drop);
        }
    }
    Err(())
}

/// What was left, each batch once; whoever waits for this has a limit.
async fn send_rest(
    client: &mut Client,
    mut queue: SpanQueue,
    mut batch: Batch,
    exported: &Exported,
    resource: &Resource,
    batches: Batches,
) {
    queue.spans.close();
    loop {
        while batch.len() < batches.size
            && let Ok(span) = queue.spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        match client.send(&spans::request(resource, &batch)).await {
            Ok(answer) => note_partial(exported, count, &answer),
            Err(_) => drop(exported.failed.fetch_add(count, Ordering::Relaxed)),
        }
        batch.clear();
    }
}

/// Counts what was taken, and what the collector says it has not.
fn note_partial(exported: &Exported, count: u64, answer: &Bytes) {
    let partial = ExportTraceServiceResponse::decode(answer.clone());
    let rejected = partial.ok().and_then(|answer| answer.partial_success);
    let rejected = rejected.map_or(0, |own| u64::try_from(own.rejected_spans).unwrap_or(0));
    let rejected = rejected.min(count);
    exported.failed.fetch_add(rejected, Ordering::Relaxed);
    exported.well.fetch_add(count - rejected, Ordering::Relaxed);
}

/// Sends metrics until the process ends, and once more then.
pub(super) async fn send_metrics(mut client: Client, sources: Arc<Vec<Source>>, every: Every) {
    let Every {
        interval,
        since,
        resource,
        mut stopping,
    } = every;
    let mut log = Log::default();
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once, when there is little to tell.
    tick.tick().await;
    loop {
        let is_last = tokio::select! {
            _ = tick.tick() => false,
            () = told(&mut stopping) => true,
        };
        // Those who collect may have locks to wait for.
        let sources = Arc::clone(&sources);
        let read = tokio::task::spawn_blocking(move || {
            let families = sources.iter().map(|source| source());
            families.flatten().collect::<Vec<_>>()
        });
        let families = read.await.unwrap_or_default();
        for request in metrics::requests(&resource, &families, since, SystemTime::now()) {
            match client.send(&request).await {
                Ok(answer) => {
                    note_rejected(&answer);
                    log.went_well(&client);
                }
                // The next ones hold what these would have told.
                Err(failure) => {
                    log.failed(&client, &failure);
                    break;
                }
            }
        }
        if is_last {
            return;
        }
    }
}

fn note_rejected(answer: &Bytes) {
    let answer = ExportMetricsServiceResponse::decode(answer.clone());
    let partial = answer.ok().and_then(|answer| answer.partial_success);
    if let Some(partial) = partial.filter(|own| own.rejected_data_points > 0) {
        let rejected = partial.rejected_data_points;
        let text: String = partial.error_message.chars().take(200).collect();
        tracing::debug!(component = "otlp", rejected, "metrics not taken: {text}");
    }
}
