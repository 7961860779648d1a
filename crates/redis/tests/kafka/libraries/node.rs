//! ioredis and node-redis, old and new, from npm.

use super::{converse, install, output, program};
use std::process::Command;

fn run(library: &str, major: u8, protocol: u8) {
    let folder = install("node", |folder| {
        let mut npm = program("npm", "npm");
        npm.args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder);
        output(npm);
    });
    let mut command: Command = program("node", "nodejs");
    command
        .arg(folder.join(format!("{library}.js")))
        .arg(major.to_string());
    converse(library, command, protocol);
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
