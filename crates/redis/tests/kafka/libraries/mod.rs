//! Client libraries of other languages, unchanged, each in every protocol it has (section 14).
//!
//! Every program in `../../libraries` holds the same conversation; its README shows it. One file
//! per language: how its libraries are installed and its programs are run.

mod go;
mod java;
mod node;
mod python;
mod redis_rs;
mod redis_rs_streams;
mod redis_tools;
mod ruby;

use crate::support::{Gateway, eventually, new_topic};
use barnabas_redis::{Config, Secret};
use barnabas_testkit::{Process, shared, tools, topic_name};
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

const PASSWORD: &str = "correct horse";

/// More than an installation, or all waits of a program, take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// One gateway for all of them, with a password.
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let config = Config {
        password: Some(Secret::new(PASSWORD.to_owned())),
        ..Config::default()
    };
    Gateway::with(shared(), config, |_| {})
});

/// One with groups for streams.
fn gateway_with_streams() -> Gateway {
    let config = Config {
        password: Some(Secret::new(PASSWORD.to_owned())),
        ..Config::default()
    };
    Gateway::with_streams(shared(), config)
}

/// One client's conversation.
struct Conversation {
    name: String,
    topic: String,
}

impl Conversation {
    fn new(client: &str) -> Self {
        Self {
            name: format!("{}:worker", topic_name(client)),
            topic: new_topic(client, 1),
        }
    }

    /// What every client prints.
    fn transcript(&self, protocol: u8) -> String {
        let Self { name, topic } = self;
        format!(
            "connected {name} 2 {protocol}\n\
             ping PONG\n\
             produced 1 1 2\n\
             outstanding 0\n\
             accepted 4\n\
             message {topic} 0 0 one\n\
             message {topic} 0 1 café\n\
             message {topic} 0 2 three\n\
             message {topic} 0 3 four\n\
             acked 1 1 1\n\
             nothing\n\
             error CONS Cannot parse topics from `nonsense`\n\
             error PROD Broker: Invalid topic\n\
             ping PONG\n\
             same connection\n\
             connected {name} 2 {protocol}\n\
             pair topics:{topic} four\n\
             produced 1\n\
             pair topics:{topic} five\n\
             nothing\n\
             produced 1\n\
             pair topics:{topic} six\n\
             acked 1\n"
        )
    }

    /// What Kafka has afterwards, whoever spoke.
    fn check_kafka(&self) {
        let records = shared().read_all(&self.topic).unwrap();
        let found: Vec<_> = records
            .iter()
            .map(|record| (record.key.as_deref(), record.value_text()))
            .collect();
        let expected = [
            (None, "one"),
            (Some(&b"cust-9"[..]), "café"),
            (None, "three"),
            (None, "four"),
            (None, "five"),
            (None, "six"),
        ]
        .map(|(key, value)| (key, value.to_owned()));
        assert_eq!(found, expected);
        self.check_committed(6);
    }

    /// A client that just goes away does not wait for its last commit.
    fn check_committed(&self, offset: i64) {
        let (group, _) = self.name.split_once(':').unwrap();
        eventually("the acknowledged offset is committed", || {
            let committed = shared().committed(group, &self.topic).unwrap();
            (committed.get(&0) == Some(&offset)).then_some(())
        });
    }
}

/// Lets a program hold the conversation.
fn converse(client: &str, mut program: Command, protocol: u8) {
    let conversation = Conversation::new(client);
    let address = GATEWAY.address();
    program
        .args([address.ip().to_string(), address.port().to_string()])
        .args([PASSWORD, &conversation.name, &conversation.topic])
        .arg(protocol.to_string());
    assert_eq!(output(program), conversation.transcript(protocol));
    conversation.check_kafka();
}

/// Section 13.3 and acceptance 12: a stream is a stream. A program prints the
/// same on Redis and on Barnabas.
fn stream_of_orders(protocol: u8, program: impl Fn() -> Command) {
    let name = topic_name("orders");
    let work = |port: u16| {
        let mut command = program();
        command
            .args(["127.0.0.1", &port.to_string(), PASSWORD])
            .args([&name, &format!("topics:{name}"), &protocol.to_string()]);
        output(command)
    };
    let gateway = gateway_with_streams();
    let on_barnabas = work(gateway.address().port());
    let (_redis, port) = redis_server();
    let on_redis = work(port);
    assert_eq!(on_barnabas, on_redis);
    assert_eq!(
        on_redis,
        "created True\n\
         error BUSYGROUP Consumer Group name already exists\n\
         length 12 stream\n\
         got order-0 order-1 order-2 order-3 order-4 order-5 order-6 order-7\n\
         fields customer-0 north\n\
         acked 3\nacked 1\n\
         pending order-2 order-3 order-5 order-7\n\
         behind order-5 order-7\n\
         acked 4\n\
         got order-8 order-9 order-10 order-11\n\
         acked 1\nacked 1\nacked 1\nacked 1\n\
         nothing []\n\
         pending \n\
         group 1 0 0\n\
         deleted 0\ndestroyed True\ndestroyed False\n"
    );
}

/// A redis-server that answers, and its port.
fn redis_server() -> (Process, u16) {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = program("redis-server", "redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--requirepass", PASSWORD])
        .stdout(Stdio::null());
    let process = Process::spawn(command).unwrap();
    eventually("redis-server listens", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    (process, port)
}

/// What a command prints; it must succeed, and come to an end.
fn output(command: Command) -> String {
    output_of(command, "")
}

/// What a command prints that reads `input`.
fn output_of(command: Command, input: &str) -> String {
    tools::output(command, input, LIMIT).unwrap_or_else(|error| panic!("{error}"))
}

/// A program that the machine must have.
fn program(name: &str, package: &str) -> Command {
    Command::new(tools::ensure_program(name, package).unwrap())
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/libraries")
        .join(language)
}

/// Copies a language's folder into the target folder and installs what its manifest names there,
/// unless that has been done for the same files before.
fn install(language: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    std::fs::create_dir_all(&clients).unwrap();
    // One after the other, as each takes both cores; another test process may be at it, too. A
    // failure leaves no stamp, and its own message.
    let installing = std::fs::File::create(clients.join("lock")).unwrap();
    installing.lock().unwrap();
    let folder = clients.join(language);
    let stamp = folder.join("installed");
    let mut wanted = String::new();
    let files = files(&sources(language));
    for file in &files {
        let content = std::fs::read_to_string(sources(language).join(file)).unwrap();
        writeln!(wanted, "== {}\n{content}", file.display()).unwrap();
    }
    if std::fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return folder;
    }
    let _ = std::fs::remove_dir_all(&folder);
    for file in &files {
        let copy = folder.join(file);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(sources(language).join(file), copy).unwrap();
    }
    install(&folder);
    std::fs::write(stamp, wanted).unwrap();
    folder
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
