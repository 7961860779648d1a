//! redis-py, old and new, from PyPI.

use super::{
    Conversation, PASSWORD, converse, install, output, program, redis_server, sources,
    stream_of_orders,
};
use crate::support::Gateway;
use barnabas_redis::{Config, ReplyForm, Secret};
use barnabas_testkit::shared;
use std::path::PathBuf;
use std::process::Command;

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
    let conversation = Conversation::new("queue");
    let key = format!("topics:{}", conversation.topic);
    let work = |port: u16| {
        let mut command = Command::new(python(8));
        command
            .arg(sources("python").join("jobs.py"))
            .args(["127.0.0.1", &port.to_string(), PASSWORD])
            .args([&conversation.name, &key]);
        output(command)
    };
    let config = Config {
        reply: ReplyForm::Pair,
        password: Some(Secret::new(PASSWORD.to_owned())),
        ..Config::default()
    };
    let gateway = Gateway::with(shared(), config, |_| {});
    let on_barnabas = work(gateway.address().port());

    let (_redis, port) = redis_server();
    let on_redis = work(port);
    assert_eq!(on_barnabas, on_redis);
    let mut expected = String::new();
    for (worker, numbers) in [("first", 0..20), ("second", 20..40)] {
        expected.extend(numbers.map(|number| format!("{worker} {key} job {number}\n")));
        expected += &format!("{worker} None\n");
    }
    assert_eq!(on_redis, expected);
    conversation.check_committed(40);
}

fn orders(major: u8, protocol: u8) {
    stream_of_orders(protocol, || {
        let mut command = Command::new(python(major));
        command.arg(sources("python").join("streams.py"));
        command
    });
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_redis_py_5() {
    orders(5, 2);
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_redis_py_8() {
    orders(8, 3);
}
