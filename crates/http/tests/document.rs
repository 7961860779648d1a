//! The OpenAPI document: valid, and the same as what is served.

use crate::support::{gateway, new_topic};
use barnabas_testkit::tools;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

/// Every path of the document answers with exactly the methods that it has
/// there. That all routes are in it is a unit test: both are made from one
/// table.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_served() {
    let gateway = gateway();
    let topic = new_topic("document", 1);
    let document = gateway.ask("GET", "/v1/openapi.json").send().await;
    assert_eq!(document.all("content-type"), ["application/json"]);
    let document: Value = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/clusters/{cluster}/groups/{group}/topics/{topic}/records"));
    assert!(paths.contains_key("/topics/{topic}/messages"));
    for (path, item) in paths {
        let own = path
            .replace("{cluster}", "main")
            .replace("{group}", "document")
            .replace("{topic}", &topic);
        for method in METHODS {
            let is_documented = item.get(method.to_lowercase()).is_some();
            // A parameter that nobody knows, an empty body: nothing happens.
            let query = if path.starts_with("/v1") {
                "?nothing"
            } else {
                "?timestamp=x"
            };
            let status = gateway
                .ask(method, &format!("{own}{query}"))
                .send()
                .await
                .status;
            match method {
                "OPTIONS" if path.starts_with("/v1") => assert_eq!(status, 204, "{path}"),
                _ => assert_eq!(status != 405, is_documented, "{method} {path}: {status}"),
            }
            assert!(status != 404, "{method} {path}");
        }
    }
}

/// A Python with the validator, installed unless that has been done for the
/// same requirements before.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi");
    fs::create_dir_all(&folder).unwrap();
    // Another test process may be at it, too. A failure leaves no stamp.
    let installing = File::create(folder.join("lock")).unwrap();
    installing.lock().unwrap();
    let (environment, stamp) = (folder.join("environment"), folder.join("installed"));
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let interpreter = environment.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return interpreter;
    }
    let _ = fs::remove_dir_all(&environment);
    let python3 = tools::ensure_program("python3", "python3-venv").unwrap();
    run(Command::new(python3).args(["-m", "venv"]).arg(&environment));
    run(Command::new(environment.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["--require-hashes", "--only-binary", ":all:"])
        .arg("--requirement")
        .arg(requirements));
    fs::write(stamp, wanted).unwrap();
    interpreter
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid() {
    let gateway = gateway();
    let document = gateway.ask("GET", "/v1/openapi.json").send().await.body;
    let said = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("openapi.json");
        fs::write(&file, document).unwrap();
        run(Command::new(python())
            .args(["-m", "openapi_spec_validator", "--schema", "3.1"])
            .arg(&file))
    });
    let said = said.await.unwrap();
    assert!(said.trim_end().ends_with("OK"), "{said}");
}
