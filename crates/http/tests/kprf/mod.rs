//! kprf's front end against real Kafka: contract `producer-http.md`.

mod access;
mod journal;
mod limits;
mod metrics;
mod outages;
mod records;
mod replies;
mod statistics;
mod tracing;

use crate::support::{Answer, Full};
use barnabas_engine::{Access, Cluster, ClusterConfig, Durabilities, JournalOptions, Properties};
use barnabas_http::{Kprf, KprfOptions, KprfProducers, Listener, Options, Server};
use barnabas_testkit::{Record, shared};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const WELL: &str = r#"{"status":"ok","errors":[]}"#;
const PUSH: &str = "/push";

/// A front end with its metrics port.
struct Gateway {
    address: SocketAddr,
    metrics: SocketAddr,
    server: Server,
    page: Server,
    kprf: Kprf,
    cluster: Cluster,
    client: reqwest::Client,
}

/// On these brokers, with these properties before the usual ones.
fn start(brokers: &str, options: KprfOptions, own: &[(&str, &str)]) -> Gateway {
    start_with(brokers, options, own, None)
}

/// On the shared broker, for those who may use it.
fn start_with_access(options: KprfOptions, access: Arc<Access>) -> Gateway {
    let brokers = shared().bootstrap_servers();
    start_all(&brokers, options, &[], None, access)
}

/// The same with a journal.
fn start_with(
    brokers: &str,
    options: KprfOptions,
    own: &[(&str, &str)],
    journal: Option<JournalOptions>,
) -> Gateway {
    start_all(brokers, options, own, journal, Arc::default())
}

fn start_all(
    brokers: &str,
    options: KprfOptions,
    own: &[(&str, &str)],
    journal: Option<JournalOptions>,
    access: Arc<Access>,
) -> Gateway {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", brokers)
        .set("reconnect.backoff.max.ms", "500");
    // Of the journal's.
    config
        .producer
        .set("topic.metadata.propagation.max.ms", "2000");
    let cluster = Cluster::open(config).unwrap();
    let mut waiting = Properties::new();
    waiting
        .set("linger.ms", "10")
        .set("message.max.bytes", "1048576")
        .set("message.timeout.ms", "60000")
        .set("statistics.interval.ms", "100");
    for (name, value) in own {
        waiting.set(*name, *value);
    }
    KprfProducers::add_defaults(&mut waiting);
    let mut patient = waiting.clone();
    patient.set("message.timeout.ms", "0");
    cluster
        .set_durability(Durabilities::default(), journal)
        .unwrap();
    let producers = KprfProducers {
        waiting: cluster.producer(&waiting).unwrap(),
        patient: cluster.producer(&patient).unwrap(),
        journal: cluster.journal().cloned(),
    };
    let kprf = Kprf::new(producers, options).unwrap();
    let listener = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        vec![Listener::Tcp(listener)]
    };
    let own = Options {
        access,
        ..Options::default()
    };
    let server = Server::start_kprf(listener(), &kprf, own).unwrap();
    let page = Server::start_kprf_metrics(listener(), &kprf, Options::default()).unwrap();
    Gateway {
        address: server.addresses()[0],
        metrics: page.addresses()[0],
        server,
        page,
        kprf,
        cluster,
        client: reqwest::Client::new(),
    }
}

/// On the shared broker.
fn gateway(options: KprfOptions) -> Gateway {
    start(&shared().bootstrap_servers(), options, &[])
}

impl Gateway {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&self, path: &str, body: impl Into<String>) -> Full {
        let request = self.client.post(self.url(path));
        let request = request.header("content-type", "application/json");
        full(request.body(body.into())).await
    }

    async fn push(&self, body: Value) -> Answer {
        let full = self.send(PUSH, body.to_string()).await;
        Answer {
            status: full.status,
            body: full.text(),
        }
    }

    /// The metrics port's reply.
    async fn look(&self, path: &str) -> Full {
        full(self.client.get(format!("http://{}{path}", self.metrics))).await
    }

    /// The value of a series; `None` if it is not there.
    async fn value(&self, series: &str) -> Option<f64> {
        let text = self.look("/metrics").await.text();
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let found = lines.find(|(name, _)| *name == series);
        found.map(|(_, value)| value.parse().unwrap())
    }

    async fn stop(self) {
        self.server.stop().await;
        self.page.stop().await;
        self.cluster.flush(Duration::from_secs(10)).await;
    }
}

async fn full(request: reqwest::RequestBuilder) -> Full {
    let response = request.send().await.unwrap();
    Full {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

/// A request that waits, or not.
fn request(topic: &str, values: &[&str], waits: bool) -> Value {
    let records: Vec<Value> = values
        .iter()
        .map(|value| json!({"topic": topic, "data": value}))
        .collect();
    json!({"records": records, "wait_for_send": waits})
}

/// What has become of the topic, once it has so many records.
async fn records(topic: &str, count: usize) -> Vec<Record> {
    let started = std::time::Instant::now();
    loop {
        let name = topic.to_owned();
        let read = tokio::task::spawn_blocking(move || shared().read_all(&name));
        let records = read.await.unwrap().unwrap();
        if records.len() >= count {
            return records;
        }
        assert!(
            started.elapsed() < crate::support::PATIENCE,
            "{} of {count}",
            records.len()
        );
    }
}
