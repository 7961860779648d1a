//! The metrics port of kprf (contract, `producer-http.md`, section 6) and of
//! the gateway: metrics, librdkafka's raw statistics, and whether the process
//! lives and can do its work. It answers any method.

use crate::accept;
use crate::parameters::Parameters;
use crate::reply::{self, JSON, Reply};
use barnabas_metrics::Format;
use hyper::StatusCode;
use hyper::http::request::Parts;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long an answer about the cluster holds.
const HEALTH_HOLDS: Duration = Duration::from_secs(1);

static GATHERING: Semaphore = Semaphore::const_new(2);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Whether a cluster has answered, and when that was asked.
pub type Health = tokio::sync::Mutex<Option<(Instant, bool)>>;

/// What a metrics port shows.
pub trait Observed: Send + Sync + 'static {
    /// All metrics. Called by a thread that may take its time.
    fn text(&self, format: Format) -> String;

    /// What librdkafka has said last, of the client that the query asks for;
    /// `None` if it has said nothing, or there is none.
    fn statistics(&self, query: &ClientQuery) -> Option<Arc<str>>;

    /// Whether no more work is taken.
    fn is_stopping(&self) -> bool;

    /// Whether Kafka answers, within a few seconds.
    fn is_reachable(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;

    /// Where the answer to that is kept for a second.
    fn health(&self) -> &Health;
}

/// Which client's statistics are wanted: `?cluster=…&client=…`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientQuery {
    /// The cluster; `None`: any.
    pub cluster: Option<String>,
    /// What the client is for; `None`: any.
    pub client: Option<String>,
}

impl ClientQuery {
    fn of(head: &Parts) -> Self {
        let mut parameters = Parameters::default();
        let _ = parameters.add(head.uri.query().unwrap_or_default().as_bytes());
        let text = |name| {
            let value = parameters.first(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        Self {
            cluster: text("cluster"),
            client: text("client"),
        }
    }
}

pub(crate) async fn answer(shown: &Arc<dyn Observed>, head: &Parts) -> Reply {
    match head.uri.path() {
        "/metrics" => metrics(shown, head).await,
        "/stats" => statistics(&**shown, head),
        "/health/live" => health(StatusCode::OK, "alive"),
        "/health/ready" => ready(&**shown).await,
        _ => reply::empty(StatusCode::NOT_FOUND),
    }
}

/// Gathering takes milliseconds where there are many series, and no thread
/// that serves requests; scrapers take turns, so that many of them at once take
/// neither all threads nor a page of memory each.
async fn metrics(shown: &Arc<dyn Observed>, head: &Parts) -> Reply {
    let turn = GATHERING.acquire().await;
    let wanted = accept::best(&head.headers, &Format::OFFERED);
    let format = Format::of(wanted.unwrap_or_default());
    let shown = Arc::clone(shown);
    let gathering = tokio::task::spawn_blocking(move || {
        // Until it is done, whether the scraper waits or not.
        let _turn = turn;
        shown.text(format)
    });
    match gathering.await {
        Ok(text) => reply::with_body(StatusCode::OK, format.content_type(), text),
        // The runtime ends.
        Err(_) => reply::empty(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn statistics(shown: &dyn Observed, head: &Parts) -> Reply {
    match shown.statistics(&ClientQuery::of(head)) {
        Some(json) => reply::with_body(StatusCode::OK, JSON, json.as_bytes().to_vec()),
        None => {
            let text = "no statistics yet; statistics_interval_ms says how often they come";
            reply::with_body(StatusCode::NOT_FOUND, PLAIN, text)
        }
    }
}

/// Whether Kafka answers and work is taken.
async fn ready(shown: &dyn Observed) -> Reply {
    if shown.is_stopping() {
        return health(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    // Who asks meanwhile waits for the same answer.
    let mut known = shown.health().lock().await;
    let is_reachable = match *known {
        Some((asked, is_reachable)) if asked.elapsed() < HEALTH_HOLDS => is_reachable,
        _ => {
            let is_reachable = shown.is_reachable().await;
            *known = Some((Instant::now(), is_reachable));
            is_reachable
        }
    };
    match is_reachable {
        true => health(StatusCode::OK, "ready"),
        false => health(StatusCode::SERVICE_UNAVAILABLE, "no broker answers"),
    }
}

fn health(status: StatusCode, text: &'static str) -> Reply {
    reply::with_body(status, PLAIN, text)
}
