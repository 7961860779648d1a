//! What the tests have in common.

use barnabas_engine::{
    Cluster, ClusterConfig, DispatchConfig, Dispatcher, InitialOffset, Properties, Proxies, Proxy,
    ProxyOptions,
};
use barnabas_http::{Listener, Server};
use barnabas_testkit::{self as testkit, shared};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test changes.
pub(crate) struct Changes {
    pub(crate) has_headers: bool,
    pub(crate) is_consuming_disabled: bool,
    pub(crate) dispatch: DispatchConfig,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            has_headers: true,
            is_consuming_disabled: false,
            dispatch: DispatchConfig {
                long_polling: Duration::from_secs(1),
                commit_interval: Duration::from_millis(100),
                initial_offset: InitialOffset::Oldest,
                ..DispatchConfig::default()
            },
        }
    }
}

/// A front end on the shared broker, its one cluster called `main`.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) client: reqwest::Client,
}

pub(crate) fn start(changes: Changes, unix: Option<&Path>) -> Gateway {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", shared().bootstrap_servers());
    config
        .producer
        .set("linger.ms", "2")
        .set("partitioner", "fnv1a_random")
        .set("topic.metadata.propagation.max.ms", "2000");
    let cluster = Cluster::open(config).unwrap();
    let dispatcher = Dispatcher::start(&cluster, changes.dispatch, &Properties::new()).unwrap();
    let options = ProxyOptions {
        is_consuming_disabled: changes.is_consuming_disabled,
        has_headers: changes.has_headers,
        max_message_bytes: 1_000_000,
    };
    let proxy = Proxy::new(&cluster, dispatcher, options).unwrap();
    let proxies = Proxies::new(
        "main".to_owned(),
        BTreeMap::from([("main".to_owned(), proxy)]),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut listeners = vec![Listener::Tcp(listener)];
    if let Some(path) = unix {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listeners.push(Listener::Unix(listener));
    }
    let proxies = Arc::new(proxies.unwrap());
    let server = Server::start(listeners, Arc::clone(&proxies)).unwrap();
    Gateway {
        address: server.addresses()[0],
        server,
        proxies,
        client: reqwest::Client::new(),
    }
}

pub(crate) fn gateway() -> Gateway {
    start(Changes::default(), None)
}

impl Gateway {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<String>) -> Answer {
        let body = body.into();
        let request = self.client.post(self.url(path));
        // The library leaves the length of nothing out.
        let request = request.header("content-length", body.len());
        let request = request.header("content-type", kind).body(body);
        answer(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.client.get(self.url(path))).await
    }

    /// Repeats a request for messages until something comes.
    pub(crate) async fn consume(&self, topic: &str, query: &str) -> Value {
        let started = Instant::now();
        loop {
            let answer = self.get(&format!("/topics/{topic}/messages?{query}")).await;
            if answer.status != 408 {
                assert_eq!(answer.status, 200, "{}", answer.body);
                return answer.json();
            }
            assert_eq!(answer.json()["error"], "long polling timeout");
            assert!(started.elapsed() < PATIENCE, "nothing of {topic}");
        }
    }
}

/// Status and body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, text: &str) {
        assert_eq!(
            (self.status, self.json()["error"].as_str()),
            (status, Some(text))
        );
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        body: response.text().await.unwrap(),
    }
}

pub(crate) fn new_topic(prefix: &str, partitions: i32) -> String {
    let topic = testkit::topic_name(prefix);
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// Waits until a group has committed this for partition 0.
pub(crate) async fn is_committed(group: &str, topic: &str, offset: i64, metadata: &str) {
    let started = Instant::now();
    loop {
        let committed = shared().committed_with_metadata(group, topic).unwrap();
        if committed.get(&0) == Some(&(offset, metadata.to_owned())) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{committed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
