//! A real Kafka for tests that are not written in Rust.
//!
//! Starts one broker, prints `kafka <address>` and `control <address>`, and takes commands: on
//! standard input, and from whoever connects to the control address. One line is one command,
//! answered by one line, `ok`, `ok <json>` or `error <text>`. It ends, and Kafka with it, when its
//! standard input does; so nobody can leave it behind.
//!
//! Arguments: `--auto-create`, `--partitions N` (of topics that nobody has sized), `--benchmark`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use barnabas_testkit::{Cluster, Error, Record};
use serde_json::{Value, json};

const COMMANDS: &str = "topic NAME PARTITIONS [KEY=VALUE …] | grow NAME PARTITIONS | delete NAME | \
                        trim NAME PARTITION OFFSET | read NAME | ends NAME | stop | kill | start | pause | resume";

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("testkit-kafka: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    let cluster = start()?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let control = listener.local_addr().map_err(|error| error.to_string())?;
    let cluster = Arc::new(cluster);
    let shared = Arc::clone(&cluster);
    // Ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cluster = Arc::clone(&shared);
            thread::spawn(move || {
                if let Ok(input) = stream.try_clone() {
                    let _ = obey(&cluster, BufReader::new(input), stream);
                }
            });
        }
    });
    let mut output = io::stdout();
    let said = writeln!(
        output,
        "kafka {}\ncontrol {control}",
        cluster.bootstrap_servers()
    );
    said.and_then(|()| output.flush())
        .and_then(|()| obey(&cluster, io::stdin().lock(), output))
        .map_err(|error| error.to_string())
    // Whoever is still connected holds the cluster: the exit handler ends it.
}

fn start() -> Result<Cluster, String> {
    let mut builder = Cluster::builder();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        builder = match argument.as_str() {
            "--auto-create" => builder.auto_create_topics(true),
            "--benchmark" => builder.for_benchmark(),
            "--partitions" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                builder.default_partitions(number.ok_or("--partitions needs a number")?)
            }
            other => return Err(format!("no such argument: {other}")),
        };
    }
    builder.start().map_err(|error| error.to_string())
}

/// Answers command by command until the input ends.
fn obey(cluster: &Cluster, input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for line in input.lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        match execute(cluster, &words) {
            Ok(Value::Null) => writeln!(output, "ok")?,
            Ok(value) => writeln!(output, "ok {value}")?,
            Err(reason) => writeln!(output, "error {}", reason.replace('\n', " "))?,
        }
        output.flush()?;
    }
    Ok(())
}

fn execute(cluster: &Cluster, words: &[&str]) -> Result<Value, String> {
    let broker = cluster.broker(0);
    let done = |result: Result<(), Error>| {
        result
            .map(|()| Value::Null)
            .map_err(|error| error.to_string())
    };
    match words {
        ["topic", name, partitions, properties @ ..] => {
            let properties: Vec<(&str, &str)> = properties
                .iter()
                .filter_map(|property| property.split_once('='))
                .collect();
            done(cluster.create_topic_with(name, number(partitions)?, 1, &properties))
        }
        ["grow", name, partitions] => done(cluster.add_partitions(name, number(partitions)?)),
        ["delete", name] => done(cluster.delete_topic(name)),
        ["trim", name, partition, offset] => {
            done(cluster.delete_records(name, number(partition)?, number(offset)?.into()))
        }
        ["read", name] => cluster
            .read_all(name)
            .map(|records| records.iter().map(shown).collect())
            .map_err(|error| error.to_string()),
        ["ends", name] => cluster
            .end_offsets(name)
            .map(|ends| json!(ends))
            .map_err(|error| error.to_string()),
        ["stop"] => done(broker.stop()),
        ["kill"] => done(broker.kill()),
        ["start"] => done(broker.start()),
        ["pause"] => done(broker.pause()),
        ["resume"] => done(broker.resume()),
        _ => Err(format!("commands: {COMMANDS}")),
    }
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

/// Bytes as hexadecimal digits, because they need not be text.
fn shown(record: &Record) -> Value {
    let hex = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_ref()
            .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            .map_or(Value::Null, Value::String)
    };
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name, hex(value)]))
        .collect();
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": hex(&record.key),
        "value": hex(&record.value),
        "headers": headers,
    })
}
