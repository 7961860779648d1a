//! grpcio, from PyPI.

use super::{INSTALLING, install, output, program, sources};
use crate::support::{Gateway, PATIENCE, committed, new_topic};
use barnabas_testkit::topic_name;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with gRPC, and the folder of the code that it generates.
fn python() -> (PathBuf, PathBuf) {
    let folder = install("python", |folder| {
        let (environment, stubs) = (folder.join("environment"), folder.join("stubs"));
        let mut create = program("python3", "python3-venv");
        create.args(["-m", "venv"]).arg(&environment);
        output(create, INSTALLING);
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"])
            .args(["--require-hashes", "--only-binary", ":all:"])
            .arg("--requirement")
            .arg(folder.join("requirements.txt"));
        output(pip, INSTALLING);
        fs::create_dir(&stubs).unwrap();
        let mut protoc = Command::new(interpreter(folder));
        protoc
            .args(["-m", "grpc_tools.protoc"])
            .args(["kafkapixy.proto", "barnabas/v1/gateway.proto"])
            .arg(format!(
                "--proto_path={}",
                sources().join("proto").display()
            ))
            .arg(format!("--python_out={}", stubs.display()))
            .arg(format!("--grpc_python_out={}", stubs.display()));
        output(protoc, INSTALLING);
    });
    (interpreter(&folder), folder.join("stubs"))
}

fn interpreter(folder: &Path) -> PathBuf {
    folder.join("environment/bin/python")
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
         message 0 3 b'' b'four' []\n\
         result 1 0 4\n\
         result 2 0 5\n\
         result 3 error 2\n\
         streamed 4 b'key' b'five' [('h', b'\\x00')]\n\
         streamed 5 None None []\n\
         refused 99 9 bad offset: 99\n\
         end\n",
        // Tag and length of the topic and of the message.
        1_048_576 + 2 + topic.len() + 4,
        8_000_000 + 2 + topic.len() + 5,
    );
    // Both sides watch the deadline; either may be the one that says so.
    let said = said.replace("context deadline exceeded", "Deadline Exceeded");
    assert_eq!(said, expected);
    committed(&group, &topic, 6).await;
}
