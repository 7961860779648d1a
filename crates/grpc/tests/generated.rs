//! The committed code is what the proto file says.

use prost_types::FileDescriptorSet;
use std::path::Path;

/// What the generator makes of the proto file, without protoc.
fn generate() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files: FileDescriptorSet = protox::compile(["kafkapixy.proto"], [&folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    // Named after the package; there is none.
    std::fs::read_to_string(out.path().join("_.rs")).unwrap()
}

#[test]
fn the_committed_code_is_generated_from_the_proto_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated/kafkapixy.rs");
    let generated = generate();
    if std::env::var_os("BARNABAS_GENERATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == generated,
        "{} is not what proto/kafkapixy.proto says: run `BARNABAS_GENERATE=1 cargo test -p \
         barnabas-grpc generated`",
        path.display()
    );
}
