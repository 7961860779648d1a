//! redis-py, old and new, from PyPI.

use super::{converse, install, output, program, sources};
use crate::support::{Gateway, new_topic};
use barnabas_redis::{Config, ReplyForm};
use barnabas_testkit::{Process, shared, topic_name};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Python that has one major version of redis-py.
fn python(major: u8) -> PathBuf {
    let environment = format!("redis-py-{major}");
    let folder = install("python", |folder| {
        for major in [5, 8] {
            let environment = folder.join(format!("redis-py-{major}"));
            let mut create = program("python3", "python3-venv");
            create.args(["-m", "venv"]).arg(&environment);
            output(create);
            let mut pip = Command::new(environment.join("bin/pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check"])
                .args([
                    "--require-hashes",
                    "--only-binary",
                    ":all:",
                    "--requirement",
                ])
                .arg(folder.join(format!("redis-{major}.txt")));
            output(pip);
        }
    });
    folder.join(environment).join("bin/python")
}

fn run(major: u8, protocol: u8) {
    let mut command = Command::new(python(major));
    command.arg(sources("python").join("conversation.py"));
    converse("redis-py", command, protocol);
}

#[test]
fn redis_py_5_resp2() {
    run(5, 2);
}

#[test]
fn redis_py_5_resp3() {
    run(5, 3);
}

#[test]
fn redis_py_8_resp2() {
    run(8, 2);
}

#[test]
fn redis_py_8_resp3() {
    run(8, 3);
}

/// Section 13.2: with `reply: pair` a queue is a queue.
#[test]
fn a_queue_program_runs_unchanged_on_redis_and_on_barnabas() {
    let work = |port: u16, queue: &str, name: &[&str]| {
        let mut command = Command::new(python(8));
        command
            .arg(sources("python").join("jobs.py"))
            .args(["127.0.0.1", &port.to_string(), queue])
            .args(name);
        output(command)
    };
    let config = Config {
        reply: ReplyForm::Pair,
        ..Config::default()
    };
    let gateway = Gateway::with(shared(), config, |_| {});
    let queue = format!("topics:{}", new_topic("queue", 1));
    let name = format!("{}:one", topic_name("queue"));
    let on_barnabas = work(gateway.address().port(), &queue, &[&name]);

    let (_redis, port) = redis_server();
    let on_redis = work(port, &queue, &[]);
    assert_eq!(on_barnabas, on_redis);
    assert_eq!(on_redis.lines().count(), 21, "{on_redis}");
}

/// A redis-server that answers, and its port.
fn redis_server() -> (Process, u16) {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = program("redis-server", "redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null());
    let process = Process::spawn(command).unwrap();
    crate::support::eventually("redis-server listens", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    (process, port)
}
