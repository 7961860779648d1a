//! What the tests have in common.

use barnabas_engine::{
    Cluster, ClusterConfig, DispatchConfig, Dispatcher, InitialOffset, Properties, Proxies, Proxy,
    ProxyOptions,
};
use barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient;
use barnabas_grpc::proto::{AckRq, ConsNAckRq, ConsRs, ProdRq, RecordHeader};
use barnabas_grpc::v1::gateway_client::GatewayClient;
use barnabas_grpc::{Options as ServerOptions, Server};
use barnabas_testkit::{shared, topic_name};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long anything may take that has no bound of its own: a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Client = KafkaPixyClient<Channel>;

/// What a test changes of its front end.
pub(crate) struct Options {
    pub(crate) brokers: String,
    pub(crate) producer: Properties,
    pub(crate) dispatch: DispatchConfig,
    pub(crate) is_consuming_disabled: bool,
    pub(crate) has_headers: bool,
    pub(crate) strict_async: bool,
    pub(crate) server: ServerOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: shared().bootstrap_servers(),
            producer: Properties::new(),
            dispatch: DispatchConfig {
                long_polling: Duration::from_secs(1),
                commit_interval: Duration::from_millis(100),
                initial_offset: InitialOffset::Oldest,
                ..DispatchConfig::default()
            },
            is_consuming_disabled: false,
            has_headers: true,
            strict_async: false,
            server: ServerOptions::default(),
        }
    }
}

/// A front end with one cluster, `main`.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) dispatcher: Dispatcher,
}

impl Gateway {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        change(&mut options);
        let mut config = ClusterConfig::default();
        config
            .common
            .set("bootstrap.servers", &*options.brokers)
            .set("reconnect.backoff.max.ms", "500");
        config
            .producer
            .set("partitioner", "fnv1a_random")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "60000")
            .set("topic.metadata.propagation.max.ms", "1000");
        for (name, value) in options.producer.iter() {
            config.producer.set(name, value);
        }
        config
            .consumer
            .set("session.timeout.ms", "45000")
            .set("heartbeat.interval.ms", "200");
        let cluster = Cluster::open(config).unwrap();
        let dispatcher = Dispatcher::start(&cluster, options.dispatch, &Properties::new()).unwrap();
        let proxy_options = ProxyOptions {
            is_consuming_disabled: options.is_consuming_disabled,
            has_headers: options.has_headers,
            max_message_bytes: 1_000_000,
            strict_async: options.strict_async,
        };
        let proxy = Proxy::new(&cluster, dispatcher.clone(), proxy_options).unwrap();
        let by_name = BTreeMap::from([("main".to_owned(), proxy)]);
        let proxies = Arc::new(Proxies::new("main".to_owned(), by_name).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            server: Server::start(listener, Arc::clone(&proxies), options.server).unwrap(),
            proxies,
            dispatcher,
        }
    }

    /// Resolves when so many requests of a group that has its partitions wait
    /// for messages.
    pub(crate) async fn until_waiting(&self, group: &str, count: usize) {
        let started = Instant::now();
        loop {
            let groups = self.dispatcher.statistics();
            let own = groups.iter().filter(|own| own.group == group);
            let waiting: usize = own.map(|own| own.waiting).sum();
            if waiting == count {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{waiting} wait");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    pub(crate) async fn client(&self) -> Client {
        connect(self.address()).await.unwrap()
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Result<Client, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    Ok(KafkaPixyClient::new(endpoint.connect().await?))
}

pub(crate) type Streams = GatewayClient<Channel>;

/// A client of `barnabas.v1.Gateway`.
pub(crate) async fn streams(gateway: &Gateway) -> Streams {
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.address())).unwrap();
    GatewayClient::new(endpoint.connect().await.unwrap())
}

/// A topic on the shared broker that no other test uses.
pub(crate) fn new_topic(prefix: &str, partitions: i32) -> String {
    let topic = topic_name(prefix);
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// Writes messages without keys to partition 0, past the front end.
pub(crate) fn fill(topic: &str, values: &[&str]) {
    for value in values {
        shared()
            .produce(topic, Some(0), None, Some(value.as_bytes()))
            .unwrap();
    }
}

/// A message to produce, without a key.
pub(crate) fn message(topic: &str, value: &str) -> ProdRq {
    ProdRq {
        topic: topic.to_owned(),
        key_undefined: true,
        message: value.to_owned().into(),
        ..ProdRq::default()
    }
}

pub(crate) fn header(name: &str, value: &'static [u8]) -> RecordHeader {
    RecordHeader {
        key: name.to_owned(),
        value: value.into(),
    }
}

pub(crate) fn no_ack(group: &str, topic: &str) -> ConsNAckRq {
    ConsNAckRq {
        topic: topic.to_owned(),
        group: group.to_owned(),
        no_ack: true,
        ..ConsNAckRq::default()
    }
}

pub(crate) fn auto_ack(group: &str, topic: &str) -> ConsNAckRq {
    ConsNAckRq {
        no_ack: false,
        auto_ack: true,
        ..no_ack(group, topic)
    }
}

/// Acknowledges a message of partition 0 and asks for the next.
pub(crate) fn ack_and_next(group: &str, topic: &str, offset: i64) -> ConsNAckRq {
    ConsNAckRq {
        no_ack: false,
        ack_offset: offset,
        ..no_ack(group, topic)
    }
}

pub(crate) fn ack(group: &str, topic: &str, partition: i32, offset: i64) -> AckRq {
    AckRq {
        topic: topic.to_owned(),
        group: group.to_owned(),
        partition,
        offset,
        ..AckRq::default()
    }
}

/// The next message, however long joining takes.
pub(crate) async fn get(client: &mut Client, request: &ConsNAckRq) -> ConsRs {
    let started = Instant::now();
    loop {
        match client.consume_n_ack(request.clone()).await {
            Ok(reply) => return reply.into_inner(),
            Err(status) if status.code() == Code::NotFound => {
                assert!(started.elapsed() < PATIENCE, "nothing of {}", request.topic);
            }
            Err(status) => panic!("{status:?}"),
        }
    }
}

/// Offset and value of the next message.
pub(crate) async fn next(client: &mut Client, request: &ConsNAckRq) -> (i64, String) {
    let message = get(client, request).await;
    (message.offset, text(&message.message))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until the group has committed this offset of partition 0.
pub(crate) async fn committed(group: &str, topic: &str, offset: i64) {
    let started = Instant::now();
    loop {
        let found = shared().committed(group, topic).unwrap().get(&0).copied();
        if found == Some(offset) {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{group} has committed {found:?}, not {offset}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Code and text of a refusal.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    message: &str,
) {
    let status = result.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, message));
}
