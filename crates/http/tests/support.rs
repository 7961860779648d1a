//! What the tests have in common.

use barnabas_engine::{
    Cluster, ClusterConfig, DispatchConfig, Dispatcher, InitialOffset, Peers, Properties, Proxies,
    Proxy, ProxyOptions, Replicas,
};
use barnabas_http::{Listener, Options, Server};
use barnabas_testkit::{self as testkit, shared};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// What a test changes.
pub(crate) struct Changes {
    pub(crate) has_headers: bool,
    pub(crate) is_consuming_disabled: bool,
    pub(crate) strict_async: bool,
    pub(crate) dispatch: DispatchConfig,
    pub(crate) options: Options,
    /// What the kernel keeps of a reply that is not read.
    pub(crate) send_buffer: Option<usize>,
    /// With a second cluster, `other`, of which no broker answers.
    pub(crate) has_other: bool,
    /// Who takes acknowledgements that do not belong here.
    pub(crate) peers: Option<Arc<dyn Peers>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            has_headers: true,
            is_consuming_disabled: false,
            strict_async: false,
            options: Options::default(),
            send_buffer: None,
            has_other: false,
            peers: None,
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

fn proxy(changes: &Changes, brokers: &str) -> Proxy {
    let mut config = ClusterConfig::default();
    config.common.set("bootstrap.servers", brokers);
    config
        .producer
        .set("linger.ms", "2")
        .set("partitioner", "fnv1a_random")
        .set("topic.metadata.propagation.max.ms", "2000");
    let cluster = Cluster::open(config).unwrap();
    let dispatch = changes.dispatch.clone();
    let dispatcher = Dispatcher::start(&cluster, dispatch, &Properties::new()).unwrap();
    let options = ProxyOptions {
        is_consuming_disabled: changes.is_consuming_disabled,
        has_headers: changes.has_headers,
        max_message_bytes: 1_000_000,
        strict_async: changes.strict_async,
    };
    let proxy = Proxy::new(&cluster, dispatcher, options).unwrap();
    match &changes.peers {
        Some(peers) => proxy.with_replicas(Replicas {
            peers: Arc::clone(peers),
            own_address: "own:1".to_owned(),
            cluster: "main".to_owned(),
        }),
        None => proxy,
    }
}

pub(crate) fn start(changes: Changes, unix: Option<&Path>) -> Gateway {
    let mut clusters = BTreeMap::new();
    let brokers = shared().bootstrap_servers();
    clusters.insert("main".to_owned(), proxy(&changes, &brokers));
    if changes.has_other {
        // Nobody listens there.
        clusters.insert("other".to_owned(), proxy(&changes, "127.0.0.1:1"));
    }
    let proxies = Proxies::new("main".to_owned(), clusters);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    if let Some(bytes) = changes.send_buffer {
        // Its connections inherit it.
        let socket = socket2::SockRef::from(&listener);
        socket.set_send_buffer_size(bytes).unwrap();
    }
    let mut listeners = vec![Listener::Tcp(listener)];
    if let Some(path) = unix {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listeners.push(Listener::Unix(listener));
    }
    let proxies = Arc::new(proxies.unwrap());
    let server = Server::start(listeners, Arc::clone(&proxies), changes.options).unwrap();
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

/// A request in the making.
pub(crate) struct Ask<'a> {
    gateway: &'a Gateway,
    request: reqwest::RequestBuilder,
}

impl Gateway {
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let method = method.parse().unwrap();
        Ask {
            gateway: self,
            request: self.client.request(method, self.url(path)),
        }
    }

    /// Takes records until there is one.
    pub(crate) async fn take(&self, path: &str, accept: &str) -> Full {
        let started = Instant::now();
        loop {
            let full = self.ask("POST", path).header("accept", accept).send().await;
            if full.status != 204 {
                assert_eq!(full.status, 200, "{}", full.text());
                return full;
            }
            assert!(started.elapsed() < PATIENCE, "nothing at {path}");
        }
    }
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn body(mut self, kind: &str, body: impl Into<String>) -> Self {
        let request = self.request.header("content-type", kind);
        self.request = request.body(body.into());
        self
    }

    pub(crate) async fn send(self) -> Full {
        let _alive = self.gateway;
        let response = self.request.send().await.unwrap();
        Full {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Full {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    /// The code of a problem, whose form is checked.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(self.all("content-type"), ["application/problem+json"]);
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(
            self.all("x-request-id"),
            [&problem["request_id"]],
            "{problem}"
        );
        let code = problem["code"].as_str().unwrap().to_owned();
        assert_eq!(problem["type"], format!("urn:barnabas:problem:{code}"));
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        code
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
