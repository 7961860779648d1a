//! A gateway in this process, and a client that speaks bytes.

use barnabas_engine::{Cluster, ClusterConfig, EmbeddedCluster};
use barnabas_redis::{Config, Drained, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long a reply may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with a cluster of its own.
pub(crate) struct Gateway {
    runtime: Runtime,
    server: Option<Server>,
    pub(crate) kafka: Kafka,
    pub(crate) address: SocketAddr,
}

impl Gateway {
    pub(crate) fn start(config: Config) -> Self {
        let kafka = Kafka::start();
        let mut cluster = ClusterConfig::default();
        cluster.common.set("bootstrap.servers", &kafka.servers);
        cluster.consumer.set("auto.offset.reset", "earliest");
        // When a member has left, the mock lets the others wait for nearly
        // the whole session; first members wait three seconds.
        cluster.consumer.set("session.timeout.ms", "6000");
        cluster.consumer.set("heartbeat.interval.ms", "500");
        let cluster = Cluster::open(cluster).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = {
            let _inside = runtime.enter();
            Server::start(vec![listener], config, cluster, None).unwrap()
        };
        Self {
            address: server.addresses()[0],
            server: Some(server),
            kafka,
            runtime,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.address).unwrap())
    }

    /// A connection in RESP3.
    pub(crate) fn connect_resp3(&self) -> Client {
        let mut client = self.connect();
        client.send_words(&["HELLO", "3"]);
        assert!(matches!(client.value(), Value::Map(_)));
        client
    }

    /// Stops the gateway as a signal would.
    pub(crate) fn drain(mut self) -> Drained {
        self.runtime.block_on(self.server.take().unwrap().drain())
    }
}

/// A mock cluster on a thread of its own, which it may not leave.
pub(crate) struct Kafka {
    servers: String,
    topics: mpsc::Sender<(String, u16, mpsc::Sender<()>)>,
}

impl Kafka {
    fn start() -> Self {
        let (topics, requests) = mpsc::channel::<(String, u16, mpsc::Sender<()>)>();
        let (told, started) = mpsc::channel();
        std::thread::spawn(move || {
            let cluster = EmbeddedCluster::start(1).unwrap();
            told.send(cluster.bootstrap_servers().to_owned()).unwrap();
            for (name, partitions, created) in requests {
                cluster.create_topic(&name, partitions).unwrap();
                let _ = created.send(());
            }
        });
        Self {
            servers: started.recv().unwrap(),
            topics,
        }
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: u16) {
        let (told, created) = mpsc::channel();
        self.topics
            .send((name.to_owned(), partitions, told))
            .unwrap();
        created.recv().unwrap();
    }
}

/// The gateway of all tests that do not mind each other.
pub(crate) fn shared() -> &'static Gateway {
    static SHARED: OnceLock<Gateway> = OnceLock::new();
    SHARED.get_or_init(|| Gateway::start(Config::default()))
}

/// A word that no other test uses.
pub(crate) fn unique(word: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("{word}-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// A client; `S` is the socket or a TLS session on it.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    /// Read but not looked at.
    waiting: Vec<u8>,
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::with(stream)
    }

    /// This side's address, which is the id of an anonymous connection.
    pub(crate) fn address(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn with(stream: S) -> Self {
        Self {
            stream,
            waiting: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn send_words(&mut self, words: &[&str]) {
        self.send(encode(words));
    }

    /// Sends words separated by blanks and expects exactly these bytes.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, expected: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        self.ask_words(&words, expected);
    }

    #[track_caller]
    pub(crate) fn ask_words(&mut self, words: &[&str], expected: &str) {
        self.send_words(words);
        self.expect_after(expected, &format!("{words:?}"));
    }

    /// Expects exactly these bytes next.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &str) {
        self.expect_after(expected, "what was sent");
    }

    #[track_caller]
    fn expect_after(&mut self, expected: &str, cause: &str) {
        while self.waiting.len() < expected.len() {
            let is_wrong_already = !expected.as_bytes().starts_with(&self.waiting);
            if is_wrong_already || self.read_more().unwrap_or(0) == 0 {
                break;
            }
        }
        let length = expected.len().min(self.waiting.len());
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(
            shown(&self.waiting[..length]),
            expected,
            "after {cause}; all that came: {:?}",
            shown(&self.waiting)
        );
        self.waiting.drain(..length);
    }

    fn read_more(&mut self) -> std::io::Result<usize> {
        let mut buffer = [0; 65_536];
        let count = self.stream.read(&mut buffer)?;
        self.waiting.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Expects the end of the connection, with nothing before it.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        match self.read_more() {
            Ok(0) if self.waiting.is_empty() => {}
            // Closed while we had sent more than was read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!(
                "{other:?}, not the end; {:?}",
                String::from_utf8_lossy(&self.waiting)
            ),
        }
    }

    /// The next line without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let line = self.peek_line();
        self.waiting.drain(..line.len() + 2);
        line
    }

    /// The next line, which stays to be read.
    #[track_caller]
    pub(crate) fn peek_line(&mut self) -> String {
        loop {
            if let Some(length) = self.waiting.windows(2).position(|pair| pair == b"\r\n") {
                return String::from_utf8(self.waiting[..length].to_vec()).unwrap();
            }
            assert_ne!(self.read_more().unwrap(), 0, "the end, not a line");
        }
    }

    fn take(&mut self, count: usize) -> String {
        while self.waiting.len() < count + 2 {
            assert_ne!(self.read_more().unwrap(), 0, "the end, not a string");
        }
        let bytes: Vec<u8> = self.waiting.drain(..count + 2).collect();
        assert_eq!(&bytes[count..], b"\r\n");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// The reply to a command, whatever it is.
    #[track_caller]
    pub(crate) fn call(&mut self, command: &str) -> Value {
        let words: Vec<&str> = command.split(' ').collect();
        self.send_words(&words);
        self.value()
    }

    /// The next reply.
    #[track_caller]
    pub(crate) fn value(&mut self) -> Value {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().unwrap();
        match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number()),
            "_" => Value::Null,
            "$" | "*" if number() == -1 => Value::Null,
            "$" => Value::Bulk(self.take(rest.parse().unwrap())),
            "=" => {
                let text = self.take(rest.parse().unwrap());
                Value::Bulk(text.strip_prefix("txt:").unwrap().to_owned())
            }
            "*" | ">" | "~" => Value::Array((0..number()).map(|_| self.value()).collect()),
            "%" => {
                let pairs = (0..number()).map(|_| (self.value(), self.value()));
                Value::Map(pairs.collect())
            }
            other => panic!("reply of kind {other}"),
        }
    }
}

/// A reply whose exact bytes do not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(String),
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The text of a bulk or simple string, or of an error.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Bulk(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    #[track_caller]
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("{other:?} is no integer"),
        }
    }

    /// The elements of an array.
    #[track_caller]
    pub(crate) fn elements(&self) -> &[Value] {
        match self {
            Self::Array(elements) => elements,
            other => panic!("{other:?} is no array"),
        }
    }

    /// The value of a name in a map, flat or not.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &Value {
        let found = match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| key.text() == name)
                .map(|(_, value)| value),
            Self::Array(flat) => flat
                .chunks(2)
                .find(|pair| pair[0].text() == name)
                .map(|pair| &pair[1]),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// A command as clients send it.
pub(crate) fn encode(words: &[&str]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        wire.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    wire
}

/// A bulk string as the server sends it.
pub(crate) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Asks again until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
