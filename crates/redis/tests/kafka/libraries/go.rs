//! go-redis 9, from the Go module proxy.

use super::{converse, install, output, program, stream_of_orders};
use std::path::PathBuf;
use std::process::Command;

/// The folder with the programs.
fn programs() -> PathBuf {
    install("go", |folder| {
        for (name, package) in [("conversation", "."), ("stream-of-orders", "./orders")] {
            let mut go = program("go", "golang");
            go.args(["build", "-mod=readonly", "-o", name, package])
                .current_dir(folder);
            output(go);
        }
    })
}

fn run(protocol: u8) {
    let program = Command::new(programs().join("conversation"));
    converse("go-redis", program, protocol);
}

#[test]
fn go_redis_9_resp2() {
    run(2);
}

#[test]
fn go_redis_9_resp3() {
    run(3);
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_go_redis_9() {
    let program = programs().join("stream-of-orders");
    stream_of_orders(3, || Command::new(&program));
}
