//! Client libraries of other languages, unchanged, each in every protocol it has (section 14).
//!
//! Every program in `../../libraries` holds the same conversation; its README shows it. One file
//! per language: how its libraries are installed and its programs are run.

mod go;
mod java;
mod node;
mod python;
mod redis_rs;
mod redis_tools;
mod ruby;

use crate::support::{Gateway, eventually, new_topic};
use barnabas_redis::{Config, Secret};
use barnabas_testkit::{shared, topic_name};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

const PASSWORD: &str = "correct horse";

/// One gateway for all of them, with a password.
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let config = Config {
        password: Some(Secret::new(PASSWORD.to_owned())),
        ..Config::default()
    };
    Gateway::with(shared(), config, |_| {})
});

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
    fn transcript(&self) -> String {
        let topic = &self.topic;
        format!(
            "ping PONG\n\
             produced 1 1 1\n\
             outstanding 0\n\
             message {topic} 0 0 one\n\
             message {topic} 0 1 café\n\
             acked 1 1\n\
             error CONS Cannot parse topics from `nonsense`\n\
             ping PONG\n\
             pair topics:{topic} one\n\
             pair topics:{topic} café\n\
             pair topics:{topic} three\n"
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
            (None, "one".to_owned()),
            (None, "café".to_owned()),
            (Some(&b"cust-9"[..]), "three".to_owned()),
        ];
        assert_eq!(found, expected);
        // Two acknowledged, and two followed by another BLPOP.
        let (group, _) = self.name.split_once(':').unwrap();
        for group in [group, &format!("pair-{group}")] {
            eventually("the acknowledged offsets are committed", || {
                let committed = shared().committed(group, &self.topic).unwrap();
                (committed.get(&0) == Some(&2)).then_some(())
            });
        }
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
    assert_eq!(output(program), conversation.transcript());
    conversation.check_kafka();
}

/// What a command prints; it must succeed.
fn output(mut command: Command) -> String {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{shown}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

/// A program that the machine must have.
fn program(name: &str, package: &str) -> Command {
    Command::new(barnabas_testkit::tools::ensure_program(name, package).unwrap())
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/libraries")
        .join(language)
}

/// Copies a language's folder into the target folder and installs what its manifest names there,
/// unless that has been done for the same files before.
fn install(language: &str, install: impl FnOnce(&Path)) -> PathBuf {
    // One after the other: each takes both cores.
    static INSTALLING: Mutex<()> = Mutex::new(());
    // A failure leaves no stamp, and its own message.
    let _installing = INSTALLING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("clients")
        .join(language);
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
