//! The committed code is what the proto files say.

use crate::libraries::{INSTALLING, install, output, program};
use crate::support::PATIENCE;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn compile(proto: &str) -> FileDescriptorSet {
    protox::compile([proto], [source("proto")]).unwrap()
}

/// What the generator makes of a proto file, without protoc. It names its files after packages.
fn generate(proto: &str, package: &str) -> String {
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        // Its streams are served by hand, see `gateway`.
        .build_server(package == "_")
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(compile(proto))
        .unwrap();
    std::fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap()
}

/// Compares, or writes when asked to.
fn assert_committed(path: &str, generated: &[u8], proto: &str) {
    let path = source(path);
    if std::env::var_os("BARNABAS_GENERATE").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    assert!(
        std::fs::read(&path).is_ok_and(|committed| committed == generated),
        "{} is not what {proto} says: run `BARNABAS_GENERATE=1 cargo test -p barnabas-grpc \
         generated`",
        path.display()
    );
}

#[test]
fn the_committed_code_is_generated_from_the_proto_files() {
    for (proto, package, path) in [
        ("kafkapixy.proto", "_", "src/generated/kafkapixy.rs"),
        (
            "barnabas/v1/gateway.proto",
            "barnabas.v1",
            "src/generated/barnabas.v1.rs",
        ),
    ] {
        assert_committed(path, generate(proto, package).as_bytes(), proto);
    }
}

/// What reflection tells: both files, without comments.
#[test]
fn the_committed_descriptors_are_those_of_the_proto_files() {
    let files = ["kafkapixy.proto", "barnabas/v1/gateway.proto"];
    let mut set = protox::compile(files, [source("proto")]).unwrap();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    assert_committed(
        "src/generated/descriptors.bin",
        &set.encode_to_vec(),
        &files.join(" and "),
    );
}

/// The proto file of the new service passes the standard rules of buf, from npm. The old one is
/// frozen and breaks most of them.
#[test]
fn the_proto_file_is_linted() {
    let folder = install("buf", |folder| {
        let mut npm = program("npm", "npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder);
        output(npm, INSTALLING);
    });
    let platform = match std::env::consts::ARCH {
        "x86_64" => "buf-linux-x64",
        _ => "buf-linux-aarch64",
    };
    let buf = folder
        .join("node_modules/@bufbuild")
        .join(platform)
        .join("bin/buf");
    for command in ["lint", "build"] {
        let mut lint = Command::new(&buf);
        lint.arg(command).arg(source("proto"));
        assert_eq!(output(lint, PATIENCE * 3), "");
    }
    // It would say so.
    let mut lint = Command::new(&buf);
    let rules = r#"{"version":"v2","lint":{"use":["SERVICE_SUFFIX"]}}"#;
    lint.arg("lint")
        .arg(source("proto"))
        .args(["--config", rules]);
    assert!(!lint.output().unwrap().status.success());
}

/// The page for users names every code, and no other.
#[test]
fn the_error_codes_are_documented() {
    let proto = std::fs::read_to_string(source("proto/barnabas/v1/gateway.proto")).unwrap();
    let page = std::fs::read_to_string(source("../../docs/grpc-api.md")).unwrap();
    let defined: Vec<_> = proto
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ERROR_CODE_")?.split_once(" ="))
        .map(|(code, _)| format!("ERROR_CODE_{code}"))
        .filter(|code| code != "ERROR_CODE_UNSPECIFIED")
        .collect();
    let documented: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `ERROR_CODE_")?.split_once('`'))
        .map(|(code, _)| format!("ERROR_CODE_{code}"))
        .collect();
    assert_eq!(documented, defined);
}
