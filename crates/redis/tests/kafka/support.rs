//! The gateway in this process, and a client that speaks bytes.

use barnabas_engine::{
    AckPolicy, Cluster, ClusterConfig, DispatchConfig, Dispatcher, InitialOffset, Properties,
    Proxy, ProxyOptions,
};
use barnabas_redis::{Config, Drained, Server};
use barnabas_testkit as testkit;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long anything may take that has no bound of its own: a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How late a wait may end: the contract's 50 ms are for a machine of one's own, and here other
/// tests and brokers share it.
pub(crate) const LATE: Duration = Duration::from_millis(300);

/// A gateway with the configuration of rafka's own tests: earliest, commits every second, short
/// group time-outs.
pub(crate) struct Gateway {
    runtime: Runtime,
    server: Option<Server>,
    /// The groups of streams.
    proxy: Option<Arc<Proxy>>,
    pub(crate) cluster: Cluster,
    address: SocketAddr,
}

impl Gateway {
    /// On the shared broker, which does not create topics.
    pub(crate) fn start() -> Self {
        Self::on(testkit::shared())
    }

    pub(crate) fn on(kafka: &testkit::Cluster) -> Self {
        Self::with(kafka, Config::default(), |_| {})
    }

    pub(crate) fn with(
        kafka: &testkit::Cluster,
        config: Config,
        adjust: impl FnOnce(&mut ClusterConfig),
    ) -> Self {
        Self::build(kafka, config, adjust, None)
    }

    /// One with groups for streams, which begin with the oldest message.
    pub(crate) fn with_streams(kafka: &testkit::Cluster, config: Config) -> Self {
        Self::build(kafka, config, |_| {}, Some(dispatching()))
    }

    pub(crate) fn build(
        kafka: &testkit::Cluster,
        config: Config,
        adjust: impl FnOnce(&mut ClusterConfig),
        dispatch: Option<DispatchConfig>,
    ) -> Self {
        let mut properties = rafkas_test_configuration(&kafka.bootstrap_servers());
        adjust(&mut properties);
        let cluster = Cluster::open(properties).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, proxy) = {
            let _inside = runtime.enter();
            let proxy = dispatch.map(|dispatch| Arc::new(proxy(&cluster, dispatch)));
            let server = Server::start(vec![listener], config, cluster.clone(), proxy.clone());
            (server.unwrap(), proxy)
        };
        Self {
            proxy,
            address: server.addresses()[0],
            server: Some(server),
            cluster,
            runtime,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A connection with a name.
    pub(crate) fn named(&self, name: &str) -> Client {
        let mut client = self.connect();
        client.set_name(name);
        client
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it as a signal would, all but the producers' last flush.
    pub(crate) fn drain(&mut self) -> Drained {
        let server = self.server.take().expect("drained once");
        self.runtime.block_on(server.drain())
    }

    /// Leaves the groups of streams, after `drain`: everything is committed.
    pub(crate) fn stop_groups(&mut self) {
        let proxy = self.proxy.take().expect("stopped once");
        let dispatcher = &proxy.dispatcher;
        self.runtime
            .block_on(dispatcher.stop(async { tokio::time::sleep(PATIENCE).await }));
    }

    pub(crate) fn flush(&self, limit: Duration) -> u64 {
        self.runtime.block_on(self.cluster.flush(limit))
    }
}

/// How groups of streams are served: as the program does, but from the beginning, and with commits
/// that a test need not wait for.
pub(crate) fn dispatching() -> DispatchConfig {
    DispatchConfig {
        acks: AckPolicy {
            max_pending: 20_000,
            ..AckPolicy::default()
        },
        queued_requests: 1_000_000,
        subscription_timeout: Duration::from_secs(60),
        commit_interval: Duration::from_millis(100),
        initial_offset: InitialOffset::Oldest,
        ..DispatchConfig::default()
    }
}

fn proxy(cluster: &Cluster, dispatch: DispatchConfig) -> Proxy {
    let dispatcher = Dispatcher::start(cluster, dispatch, &Properties::new()).unwrap();
    let options = ProxyOptions {
        is_consuming_disabled: false,
        has_headers: true,
        max_message_bytes: usize::MAX,
        strict_async: false,
    };
    Proxy::new(cluster, dispatcher, options).unwrap()
}

pub(crate) fn rafkas_test_configuration(brokers: &str) -> ClusterConfig {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", brokers)
        // librdkafka waits up to ten seconds before it looks at a broker again.
        .set("reconnect.backoff.max.ms", "500");
    config
        .consumer
        .set("auto.offset.reset", "earliest")
        .set("auto.commit.interval.ms", "1000")
        .set("session.timeout.ms", "45000")
        .set("heartbeat.interval.ms", "200");
    config
}

/// What a client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    NullBulk,
    Array(Vec<Reply>),
    NullArray,
}

pub(crate) fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

pub(crate) fn error(text: &str) -> Reply {
    Reply::Error(text.to_owned())
}

/// A message as BLPOP gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

impl Message {
    /// Out of an array of eight.
    pub(crate) fn from_reply(reply: &Reply) -> Self {
        let Reply::Array(parts) = reply else {
            panic!("{reply:?} is no message");
        };
        let text = |index: usize| match &parts[index] {
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?} at {index}"),
        };
        let number = |index: usize| match &parts[index] {
            Reply::Integer(number) => *number,
            other => panic!("{other:?} at {index}"),
        };
        assert_eq!(parts.len(), 8, "{parts:?}");
        let names = [text(0), text(2), text(4), text(6)];
        assert_eq!(names, ["topic", "partition", "offset", "value"]);
        Self {
            topic: text(1),
            partition: number(3),
            offset: number(5),
            value: text(7),
        }
    }

    pub(crate) fn ack(&self) -> String {
        format!("{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// A connection that sends and reads bytes.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, arguments);
        self.send_bytes(&bytes);
    }

    /// Another end of the same connection, to write with.
    pub(crate) fn try_clone(&self) -> Self {
        Self {
            stream: self.stream.try_clone().unwrap(),
            unread: Vec::new(),
        }
    }

    /// Sends many commands in one go.
    pub(crate) fn send_all<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) {
        let mut bytes = Vec::new();
        for command in commands {
            encode(&mut bytes, command);
        }
        self.send_bytes(&bytes);
    }

    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        self.send(arguments);
        self.reply()
    }

    pub(crate) fn reply(&mut self) -> Reply {
        loop {
            let mut at = 0;
            if let Some(reply) = decode(&self.unread, &mut at) {
                self.unread.drain(..at);
                return reply;
            }
            assert!(self.fill(), "end of file after {:?}", self.shown());
        }
    }

    /// Whether a reply comes within `limit`; it is left to be read.
    pub(crate) fn hears(&mut self, limit: Duration) -> bool {
        if !self.unread.is_empty() {
            return true;
        }
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let mut one = [0];
        let heard = match self.stream.peek(&mut one) {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                false
            }
            Err(error) => panic!("{error}"),
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        heard
    }

    /// Reads exactly these bytes.
    pub(crate) fn expect(&mut self, expected: &str) {
        while self.unread.len() < expected.len() && self.fill() {}
        let length = expected.len().min(self.unread.len());
        let read: Vec<u8> = self.unread.drain(..length).collect();
        assert_eq!(String::from_utf8_lossy(&read), expected);
    }

    /// Sends these bytes and reads exactly those.
    pub(crate) fn exchange(&mut self, request: &str, expected: &str) {
        self.send_bytes(request.as_bytes());
        self.expect(expected);
    }

    /// The server has closed, and has said nothing more before.
    pub(crate) fn expect_end(&mut self) {
        while self.fill() {}
        assert_eq!(self.shown(), "");
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// Reads what is there; false at the end of the file.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, unread {:?}", self.shown()),
        }
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        assert_eq!(
            self.call(&["client", "setname", name]),
            bulk("OK"),
            "{name}"
        );
    }

    /// Ends with QUIT, which is answered before the end.
    pub(crate) fn quit(mut self) {
        assert_eq!(self.call(&["quit"]), bulk("OK"));
        self.expect_end();
    }

    /// One BLPOP of `topics:<topics>`; `None` when nothing came in time.
    pub(crate) fn pop(&mut self, topics: &str, seconds: &str) -> Option<Message> {
        match self.call(&["blpop", &format!("topics:{topics}"), seconds]) {
            Reply::NullArray => None,
            message => Some(Message::from_reply(&message)),
        }
    }

    /// The next message, however long joining the group takes.
    pub(crate) fn next(&mut self, topics: &str) -> Message {
        let started = Instant::now();
        loop {
            if let Some(message) = self.pop(topics, "1") {
                return message;
            }
            assert!(started.elapsed() < PATIENCE, "nothing on {topics}");
        }
    }

    pub(crate) fn ack(&mut self, message: &Message) {
        let reply = self.call(&["rpush", "acks", &message.ack()]);
        assert_eq!(reply, Reply::Integer(1), "{message:?}");
    }

    /// Produces one message and reads that it was accepted.
    pub(crate) fn produce(&mut self, topic: &str, value: &str) {
        let key = format!("topics:{topic}");
        assert_eq!(self.call(&["rpushx", &key, value]), Reply::Integer(1));
    }

    /// Waits for all deliveries of this connection.
    pub(crate) fn dump(&mut self) {
        assert_eq!(self.call(&["dump", "30000"]), Reply::Integer(0));
    }

    /// `HGETALL stats`, or another key of that kind.
    pub(crate) fn pairs(&mut self, key: &str) -> BTreeMap<String, String> {
        let Reply::Array(parts) = self.call(&["hgetall", key]) else {
            panic!("no pairs");
        };
        let text = |reply: &Reply| match reply {
            Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{other:?}"),
        };
        parts
            .chunks(2)
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect()
    }

    /// Waits until so many clients wait for messages, which the server has asked for by then.
    pub(crate) fn until_blocked(&mut self, count: usize) {
        let line = format!("blocked_clients:{count}\r\n");
        eventually("so many wait", || match self.call(&["INFO", "clients"]) {
            Reply::Bulk(info) => String::from_utf8(info)
                .unwrap()
                .contains(&line)
                .then_some(()),
            other => panic!("{other:?}"),
        });
    }

    pub(crate) fn stat(&mut self, name: &str) -> i64 {
        self.pairs("stats")[name].parse().unwrap()
    }
}

fn encode<A: AsRef<[u8]>>(bytes: &mut Vec<u8>, arguments: &[A]) {
    write!(bytes, "*{}\r\n", arguments.len()).unwrap();
    for argument in arguments {
        let argument = argument.as_ref();
        write!(bytes, "${}\r\n", argument.len()).unwrap();
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// One RESP2 reply at `at`, which is moved behind it; `None` while it is incomplete.
fn decode(bytes: &[u8], at: &mut usize) -> Option<Reply> {
    let rest = &bytes[*at..];
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&rest[1..end]).unwrap();
    let after = *at + end + 2;
    let number = || line.parse::<i64>().unwrap();
    let (reply, next) = match rest[0] {
        b'+' => (Reply::Simple(line.to_owned()), after),
        b'-' => (Reply::Error(line.to_owned()), after),
        b':' => (Reply::Integer(number()), after),
        b'$' if number() < 0 => (Reply::NullBulk, after),
        b'$' => {
            let length = usize::try_from(number()).unwrap();
            let value = bytes.get(after..after + length)?.to_vec();
            bytes.get(after + length..after + length + 2)?;
            (Reply::Bulk(value), after + length + 2)
        }
        b'*' if number() < 0 => (Reply::NullArray, after),
        b'*' => {
            let mut next = after;
            let parts: Option<Vec<Reply>> =
                (0..number()).map(|_| decode(bytes, &mut next)).collect();
            (Reply::Array(parts?), next)
        }
        other => panic!("{:?} begins no reply", char::from(other)),
    };
    *at = next;
    Some(reply)
}

/// Waits until `holds` has a value.
pub(crate) fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A topic on the shared broker that no other test uses.
pub(crate) fn new_topic(prefix: &str, partitions: i32) -> String {
    let topic = testkit::topic_name(prefix);
    testkit::shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// Puts `count` numbered messages into each partition of a topic of the shared broker.
pub(crate) fn fill(topic: &str, partitions: i32, count: usize) {
    let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let records = (0..partitions).flat_map(|partition| {
        numbers.iter().map(move |number| testkit::NewRecord {
            partition: Some(partition),
            value: Some(number.as_bytes()),
            ..testkit::NewRecord::default()
        })
    });
    testkit::shared().produce_all(topic, records).unwrap();
}

/// The values in a topic; a set, because what is delivered at least once may be there twice.
pub(crate) fn stored(kafka: &testkit::Cluster, topic: &str) -> BTreeSet<String> {
    let started = Instant::now();
    loop {
        match kafka.read_all(topic) {
            Ok(records) => return records.iter().map(|record| record.value_text()).collect(),
            // A broker that has just come back may not lead its partitions yet.
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
