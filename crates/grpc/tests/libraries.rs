//! gRPC of another language, unchanged, with code of its own generator.

use crate::support::{Gateway, PATIENCE, committed, new_topic};
use barnabas_testkit::{Process, tools, topic_name};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// More than an installation takes on a busy machine.
const INSTALLING: Duration = Duration::from_secs(300);

/// What a command prints.
fn output(mut command: Command, limit: Duration) -> String {
    let shown = format!("{command:?}");
    // Files, because nobody reads pipes while this thread waits.
    let mut streams = [(); 2].map(|()| tempfile::tempfile().unwrap());
    command
        .stdout(streams[0].try_clone().unwrap())
        .stderr(streams[1].try_clone().unwrap());
    let ended = Process::spawn(command).unwrap().wait(limit);
    let [stdout, stderr] = streams.each_mut().map(|stream| {
        let mut text = Vec::new();
        stream.rewind().unwrap();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let has_succeeded = ended.as_ref().is_ok_and(ExitStatus::success);
    assert!(has_succeeded, "{shown}: {ended:?}\n{stdout}\n{stderr}");
    stdout
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python with gRPC from PyPI, and the folder of the code that it generates, installed unless
/// that has been done for the same files before.
fn python() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc-python");
    fs::create_dir_all(&folder).unwrap();
    // Another test process may be at it, too. A failure leaves no stamp.
    let installing = File::create(folder.join("lock")).unwrap();
    installing.lock().unwrap();
    let (environment, stubs) = (folder.join("environment"), folder.join("stubs"));
    let interpreter = environment.join("bin/python");
    let requirements = sources().join("tests/libraries/python/requirements.txt");
    let proto = sources().join("proto");
    let wanted = [&requirements, &proto.join("kafkapixy.proto")]
        .map(|file| fs::read_to_string(file).unwrap())
        .concat();
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return (interpreter, stubs);
    }
    for folder in [&environment, &stubs] {
        let _ = fs::remove_dir_all(folder);
    }
    fs::create_dir(&stubs).unwrap();
    let mut create = Command::new(tools::ensure_program("python3", "python3-venv").unwrap());
    create.args(["-m", "venv"]).arg(&environment);
    output(create, INSTALLING);
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["--require-hashes", "--only-binary", ":all:"])
        .arg("--requirement")
        .arg(requirements);
    output(pip, INSTALLING);
    let mut protoc = Command::new(&interpreter);
    protoc
        .args(["-m", "grpc_tools.protoc", "kafkapixy.proto"])
        .arg(format!("--proto_path={}", proto.display()))
        .arg(format!("--python_out={}", stubs.display()))
        .arg(format!("--grpc_python_out={}", stubs.display()));
    output(protoc, INSTALLING);
    fs::write(stamp, wanted).unwrap();
    (interpreter, stubs)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_python() {
    let gateway = Gateway::start();
    let (group, topic) = (topic_name("python"), new_topic("python", 1));
    let (address, of_group, of_topic) = (gateway.address(), group.clone(), topic.clone());
    let said = tokio::task::spawn_blocking(move || {
        let (interpreter, stubs) = python();
        let mut conversation = Command::new(interpreter);
        conversation
            .arg(sources().join("tests/libraries/python/conversation.py"))
            .arg(stubs)
            .args([address.to_string(), of_topic, of_group])
            .env("PYTHONIOENCODING", "utf-8");
        output(conversation, PATIENCE * 3)
    })
    .await
    .unwrap();
    let expected = format!(
        "sync 0\n\
         async -1 -1\n\
         sync 2\n\
         message 0 0 b'k' b'one' []\n\
         message 0 1 None b'two' [('Größe', b'\\x00\\xff')]\n\
         message 0 2 b'' b'three' []\n\
         error 5 long polling timeout\n\
         error 3 one consumer group is expected, but 0 provided\n\
         error 3 invalid ack: bad partition: -1\n\
         error 13 acks channel missing for {{100%d größer {topic} 0}}\n\
         error 3 proxy `nowhere` does not exist\n\
         error 8 grpc: received message larger than max ({} vs. 1048576)\n\
         error 8 grpc: received message larger than max ({} vs. 1048576)\n\
         error 4 Deadline Exceeded\n\
         sync 3\n\
         message 0 3 b'' b'four' []\n",
        // Tag and length of the topic and of the message.
        1_048_576 + 2 + topic.len() + 4,
        8_000_000 + 2 + topic.len() + 5,
    );
    // Both sides watch the deadline; either may be the one that says so.
    let said = said.replace("context deadline exceeded", "Deadline Exceeded");
    assert_eq!(said, expected);
    committed(&group, &topic, 4).await;
}
