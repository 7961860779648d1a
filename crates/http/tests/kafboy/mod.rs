//! kafboy's front end against real Kafka: contract `producer-http.md`,
//! section 8.

mod access;
mod bodies;
mod hooks;
mod limits;
mod metrics;
mod replies;
mod tracing;
mod wire;

use crate::support::{Full, new_topic};
use barnabas_engine::{Access, Cluster, ClusterConfig, Outbox, OutboxSettings};
use barnabas_http::{EditJson, Kafboy, KafboyOptions, Listener, Options, Server};
use barnabas_testkit::{Record, shared};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const WELL: &str = r#"{"ok":1}"#;
const JSON: &str = "application/json; charset=utf-8";
const FORM: &str = "application/x-www-form-urlencoded";

/// A front end and its outbox.
struct Gateway {
    address: SocketAddr,
    server: Server,
    outbox: Outbox,
    kafboy: Kafboy,
    client: reqwest::Client,
}

/// What a test changes.
struct Changes {
    brokers: String,
    settings: OutboxSettings,
    hook: Option<Arc<dyn EditJson>>,
    options: KafboyOptions,
    access: Arc<Access>,
}

impl Default for Changes {
    /// On the shared broker, with batches that leave soon.
    fn default() -> Self {
        Self {
            brokers: shared().bootstrap_servers(),
            settings: OutboxSettings {
                batch_ttl: Duration::from_millis(50).into(),
                sync_timeout: Duration::from_secs(60),
                ..OutboxSettings::default()
            },
            hook: None,
            options: KafboyOptions::default(),
            access: Arc::default(),
        }
    }
}

fn start(changes: Changes) -> Gateway {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", changes.brokers)
        .set("reconnect.backoff.max.ms", "500");
    let cluster = Cluster::open(config).unwrap();
    let builder = Outbox::builder(&cluster).settings(changes.settings);
    let outbox = builder.start().unwrap();
    let kafboy = Kafboy::new(outbox.clone(), changes.hook, changes.options).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners = vec![Listener::Tcp(listener)];
    let options = Options {
        access: changes.access,
        ..Options::default()
    };
    let server = Server::start_kafboy(listeners, &kafboy, options).unwrap();
    Gateway {
        address: server.addresses()[0],
        server,
        outbox,
        kafboy,
        client: reqwest::Client::new(),
    }
}

fn gateway() -> Gateway {
    start(Changes::default())
}

impl Gateway {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Posts a body of this type, or of none.
    async fn post(&self, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> Full {
        let mut request = self.client.post(self.url(path)).body(body.into());
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        full(request).await
    }

    async fn form(&self, path: &str, body: &str) -> Full {
        self.post(path, FORM, body).await
    }

    async fn stop(self) {
        self.server.stop().await;
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        self.outbox.drain(deadline).await;
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

/// What a reply says in kafboy's form.
#[track_caller]
fn says(reply: &Full, status: u16, body: &str) {
    assert_eq!((reply.status, reply.text().as_str()), (status, body));
    assert_eq!(reply.all("content-type"), [JSON]);
}

/// Keys and values of a topic, once there are so many.
async fn messages(topic: &str, count: usize) -> Vec<(Option<String>, String)> {
    let started = std::time::Instant::now();
    loop {
        let name = topic.to_owned();
        let read = tokio::task::spawn_blocking(move || shared().read_all(&name));
        let records: Vec<Record> = read.await.unwrap().unwrap();
        if records.len() >= count {
            let shown = |record: &Record| {
                let key = record.key.as_deref();
                let key = key.map(|key| String::from_utf8_lossy(key).into_owned());
                (key, record.value_text())
            };
            return records.iter().map(shown).collect();
        }
        assert!(
            started.elapsed() < crate::support::PATIENCE,
            "{} of {count}",
            records.len()
        );
    }
}

fn keyed(key: &str, value: &str) -> (Option<String>, String) {
    (Some(key.to_owned()), value.to_owned())
}

fn plain(value: &str) -> (Option<String>, String) {
    (None, value.to_owned())
}

fn topic() -> String {
    new_topic("kafboy", 1)
}
