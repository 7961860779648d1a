//! go-redis 9, from the Go module proxy.

use super::{converse, install, output, program};
use std::process::Command;

fn run(protocol: u8) {
    let folder = install("go", |folder| {
        let mut go = program("go", "golang");
        go.args(["build", "-mod=readonly", "-o", "conversation", "."])
            .current_dir(folder);
        output(go);
    });
    converse(
        "go-redis",
        Command::new(folder.join("conversation")),
        protocol,
    );
}

#[test]
fn go_redis_9_resp2() {
    run(2);
}

#[test]
fn go_redis_9_resp3() {
    run(3);
}
