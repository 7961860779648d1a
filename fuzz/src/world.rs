//! What the whole-loop targets talk to: every front end, as the gateway has
//! them, on a cluster in this process. Started once; all limits are small, so
//! that a request ends soon whatever it asks for.

use barnabas_engine::{
    Cluster, ClusterConfig, DispatchConfig, Dispatcher, EmbeddedCluster, InitialOffset, Outbox,
    OutboxSettings, Properties, Proxies, Proxy, ProxyOptions,
};
use barnabas_http::{
    Kafboy, KafboyOptions, Kprf, KprfOptions, KprfProducers, Listener, Options,
    Server as HttpServer,
};
use barnabas_redis::{Config as RedisConfig, Secret, Server as RedisServer};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;

/// What takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A topic that there is.
pub(crate) const TOPIC: &str = "t";
/// The password where there is one.
pub(crate) const PASSWORD: &str = "hunter2";

/// Where everything listens.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) redis: SocketAddr,
    /// Requires a login.
    pub(crate) guarded_redis: SocketAddr,
    /// Kafka-Pixy's REST API and the native one.
    pub(crate) gateway: SocketAddr,
    pub(crate) kprf: SocketAddr,
    pub(crate) kafboy: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) grpc: SocketAddr,
    _servers: Servers,
}

/// They stop when dropped.
struct Servers {
    _redis: [RedisServer; 2],
    _http: [HttpServer; 4],
    _grpc: barnabas_grpc::Server,
}

/// The one of this process.
pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(start)
}

fn start() -> World {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let inside = runtime.enter();
    let cluster = open(&embedded());
    let proxy = proxy(&cluster);
    let for_redis = Arc::new(self::proxy(&cluster));
    let redis = |config: RedisConfig| {
        let proxy = Some(Arc::clone(&for_redis));
        let config = RedisConfig {
            threads: 1,
            ..config
        };
        RedisServer::start(vec![listener()], config, cluster.clone(), proxy)
            .expect("a Redis front end")
    };
    let redis_servers = [
        redis(RedisConfig::default()),
        redis(RedisConfig {
            password: Some(Secret::new(PASSWORD.to_owned())),
            ..RedisConfig::default()
        }),
    ];
    let proxies = BTreeMap::from([("main".to_owned(), proxy)]);
    let proxies = Arc::new(Proxies::new("main".to_owned(), proxies).expect("a cluster"));
    let listeners = || vec![Listener::Tcp(listener())];
    let gateway = HttpServer::start(listeners(), Arc::clone(&proxies), Options::default());
    let kprf = kprf(&cluster);
    let kafboy = kafboy(&cluster);
    let http = [
        gateway,
        HttpServer::start_kprf(listeners(), &kprf, Options::default()),
        HttpServer::start_kafboy(listeners(), &kafboy, Options::default()),
        HttpServer::start_kprf_metrics(listeners(), &kprf, Options::default()),
    ]
    .map(|server| server.expect("an HTTP front end"));
    let grpc = barnabas_grpc::Server::start(listener(), proxies, barnabas_grpc::Options::default())
        .expect("a gRPC front end");
    let [gateway, kprf, kafboy, metrics] = http.each_ref().map(|own| own.addresses()[0]);
    let [redis, guarded_redis] = redis_servers.each_ref().map(|own| own.addresses()[0]);
    drop(inside);
    World {
        runtime,
        redis,
        guarded_redis,
        gateway,
        kprf,
        kafboy,
        metrics,
        grpc: grpc.addresses()[0],
        _servers: Servers {
            _redis: redis_servers,
            _http: http,
            _grpc: grpc,
        },
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn open(brokers: &str) -> Cluster {
    let mut config = ClusterConfig::default();
    config.common.set("bootstrap.servers", brokers);
    config
        .producer
        .set("linger.ms", "1")
        .set("message.timeout.ms", "1000")
        .set("topic.metadata.propagation.max.ms", "500");
    config
        .consumer
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500");
    Cluster::open(config).expect("a cluster")
}

fn proxy(cluster: &Cluster) -> Proxy {
    let dispatch = DispatchConfig {
        long_polling: Duration::from_millis(30),
        subscription_timeout: Duration::from_secs(5),
        commit_interval: Duration::from_millis(50),
        retry_backoff: Duration::from_millis(50),
        revoke_wait: Duration::from_millis(100),
        initial_offset: InitialOffset::Oldest,
        // Each is a client with threads of its own.
        max_groups: 4,
        ..DispatchConfig::default()
    };
    let dispatcher = Dispatcher::start(cluster, dispatch, &Properties::new()).expect("groups");
    let options = ProxyOptions {
        is_consuming_disabled: false,
        has_headers: true,
        max_message_bytes: 1_000_000,
        strict_async: false,
    };
    let proxy = Proxy::new(cluster, dispatcher, options).expect("a proxy");
    proxy.on_embedded()
}

fn kprf(cluster: &Cluster) -> Kprf {
    let mut waiting = Properties::new();
    KprfProducers::add_defaults(&mut waiting);
    let mut patient = waiting.clone();
    patient.set("message.timeout.ms", "2000");
    let producers = KprfProducers {
        waiting: cluster.producer(&waiting).expect("a producer"),
        patient: cluster.producer(&patient).expect("a producer"),
        journal: None,
    };
    Kprf::new(producers, KprfOptions::default()).expect("kprf")
}

fn kafboy(cluster: &Cluster) -> Kafboy {
    let settings = OutboxSettings {
        batch_ttl: Duration::from_millis(2).into(),
        sync_timeout: Duration::from_secs(1),
        unknown_topic_grace: Duration::from_millis(200),
        unknown_topic_memory: Duration::from_secs(1),
        ..OutboxSettings::default()
    };
    let outbox = Outbox::builder(cluster).settings(settings).start();
    let outbox = outbox.expect("an outbox");
    Kafboy::new(outbox, None, KafboyOptions::default()).expect("kafboy")
}

/// A cluster in memory, on a thread of its own, which it may not leave.
fn embedded() -> String {
    let (told, started) = mpsc::channel();
    std::thread::spawn(move || {
        let cluster = EmbeddedCluster::start(1).expect("a cluster in memory");
        cluster.create_topic(TOPIC, 4).expect("a topic");
        let _ = told.send(cluster.bootstrap_servers().to_owned());
        loop {
            std::thread::park();
        }
    });
    started.recv().expect("a cluster in memory")
}
