//! gRPC for Go and grpcurl, from the Go module proxy.

use super::{INSTALLING, install, output, output_of, program, sources};
use crate::support::{Gateway, PATIENCE, committed, new_topic};
use barnabas_testkit::topic_name;
use prost::Message as _;
use prost_types::compiler::{CodeGeneratorRequest, CodeGeneratorResponse};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs, built, with code that Go's own plugins generate.
fn built() -> PathBuf {
    install("go", |folder| {
        for (proto, module) in [
            ("kafkapixy.proto", "github.com/mailgun/kafka-pixy"),
            ("barnabas/v1/gateway.proto", "barnabas"),
        ] {
            for plugin in ["protoc-gen-go", "protoc-gen-go-grpc"] {
                generate(folder, plugin, proto, module);
            }
        }
        for (program, package) in [
            ("conversation", "."),
            ("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"),
        ] {
            let mut go = go(folder);
            go.args(["build", "-mod=readonly", "-o", program, package]);
            output(go, INSTALLING);
        }
    })
}

fn go(folder: &Path) -> Command {
    let mut go = program("go", "golang");
    go.current_dir(folder);
    go
}

/// What protoc does with a plugin: a request on its standard input, files in its answer.
fn generate(folder: &Path, plugin: &str, proto: &str, module: &str) {
    let set = protox::compile([proto], [sources().join("proto")]).unwrap();
    let request = CodeGeneratorRequest {
        file_to_generate: vec![proto.to_owned()],
        parameter: Some(format!("module={module}")),
        proto_file: set.file,
        ..CodeGeneratorRequest::default()
    };
    let mut go = go(folder);
    go.args(["tool", plugin]);
    let answer = output_of(go, &request.encode_to_vec(), INSTALLING);
    let answer = CodeGeneratorResponse::decode(&*answer).unwrap();
    assert_eq!(answer.error, None);
    for file in answer.file {
        let path = folder.join(file.name());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.content()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_go() {
    let gateway = Gateway::start();
    let (group, topic) = (topic_name("go"), new_topic("go", 1));
    let (address, of_group, of_topic) = (gateway.address(), group.clone(), topic.clone());
    let said = tokio::task::spawn_blocking(move || {
        let mut conversation = Command::new(built().join("conversation"));
        conversation.args([address.to_string(), of_topic, of_group]);
        output(conversation, PATIENCE * 3)
    })
    .await
    .unwrap();
    // Go prints a message in a way that it changes at times, to be relied on by nobody.
    let said = said.replace("  ", " ");
    let headers = r#"[key:"Größe" value:"\x00\xff"]"#;
    let expected = format!(
        "sync 0 0\n\
         sync 0 1\n\
         async -1 -1\n\
         message 0 0 k false one {headers}\n\
         message 0 1 k false two {headers}\n\
         message 0 2 true three []\n\
         error 5 long polling timeout\n\
         error 3 proxy `nowhere` does not exist\n\
         group true 1\n\
         offset 0 0 3 3 2 1 note\n\
         topic 1\n\
         metadata 1 1\n\
         result 0 ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION\n\
         result 1 0 3 true\n\
         result 2 0 4 true\n\
         result 3 0 5 true\n\
         result 4 0 6 true\n\
         result 5 0 7 true\n\
         streamed 0 0 \"k\" \"one\" false\n\
         streamed 0 1 \"k\" \"two\" false\n\
         streamed 0 2 \"\" \"three\" false\n\
         streamed 0 3 \"\" \"streamed 1\" false\n\
         streamed 0 4 \"\" \"streamed 2\" false\n\
         streamed 0 5 \"\" \"streamed 3\" false\n\
         streamed 0 6 \"\" \"streamed 4\" false\n\
         streamed 0 7 \"gone\" \"\" true\n\
         refused 1000 ERROR_CODE_BAD_OFFSET bad offset: 1000\n\
         end true\n\
         health SERVING\n"
    );
    assert_eq!(said, expected);
    committed(&group, &topic, 3).await;
    committed(&format!("{group}-stream"), &topic, 8).await;
}

/// grpcurl knows nothing but the address.
#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_finds_services_by_reflection() {
    let gateway = Gateway::start();
    let topic = new_topic("grpcurl", 1);
    let address = gateway.address().to_string();
    let proxies = std::sync::Arc::clone(&gateway.proxies);
    tokio::task::spawn_blocking(move || {
        let folder = built();
        let grpcurl = |arguments: &[&str]| {
            let mut grpcurl = Command::new(folder.join("grpcurl"));
            grpcurl.arg("-plaintext").args(arguments);
            output(grpcurl, PATIENCE)
        };
        let services = grpcurl(&[&address, "list"]);
        for service in [
            "KafkaPixy",
            "barnabas.v1.Gateway",
            "grpc.reflection.v1.ServerReflection",
        ] {
            assert!(services.lines().any(|line| line == service), "{services}");
        }
        let described = grpcurl(&[&address, "describe", "barnabas.v1.Gateway.Produce"]);
        assert!(
            described.contains("stream .barnabas.v1.ProduceRequest"),
            "{described}"
        );
        let data = format!(r#"{{"topic": "{topic}", "message": "b25l"}}"#);
        let produced = grpcurl(&["-d", &data, "-format-error", &address, "KafkaPixy/Produce"]);
        // Zeros are left out.
        assert_eq!(produced.trim(), "{}");
        let health = ["-d", "{}", &address, "grpc.health.v1.Health/Check"];
        assert!(grpcurl(&health).contains("\"SERVING\""));
        proxies.refuse_work();
        let started = std::time::Instant::now();
        while !grpcurl(&health).contains("\"NOT_SERVING\"") {
            assert!(started.elapsed() < PATIENCE);
        }
    })
    .await
    .unwrap();
}
