//! ioredis and node-redis, old and new, from npm.

use super::{converse, install, output, program, stream_of_orders};
use std::process::Command;

/// A program in the folder of those that are installed.
fn node(name: &str, major: u8) -> Command {
    let folder = install("node", |folder| {
        let mut npm = program("npm", "npm");
        npm.args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder);
        output(npm);
    });
    let mut command: Command = program("node", "nodejs");
    command
        .arg(folder.join(format!("{name}.js")))
        .arg(major.to_string());
    command
}

fn run(library: &str, major: u8, protocol: u8) {
    converse(library, node(library, major), protocol);
}

#[test]
fn ioredis_5() {
    run("ioredis", 5, 2);
}

#[test]
fn ioredis_6_resp2() {
    run("ioredis", 6, 2);
}

#[test]
fn ioredis_6_resp3() {
    run("ioredis", 6, 3);
}

#[test]
fn node_redis_4() {
    run("node-redis", 4, 2);
}

#[test]
fn node_redis_6_resp2() {
    run("node-redis", 6, 2);
}

#[test]
fn node_redis_6_resp3() {
    run("node-redis", 6, 3);
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_ioredis_5() {
    stream_of_orders(2, || node("orders", 5));
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_ioredis_6() {
    stream_of_orders(3, || node("orders", 6));
}
