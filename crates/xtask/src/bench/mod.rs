//! `cargo xtask bench [name]`: measurements side by side with references, in
//! turn in one run, because the machines are noisy and only ratios hold.

mod client;
mod grpc;
mod http;
mod node;
mod produce;
mod redis;
mod streams;
mod web;

use crate::report::{self, Place, Report};
use anyhow::{Result, bail};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of A and B in turn.
    rounds: usize,
    /// Divides the numbers of messages.
    divisor: usize,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    // Parts of a measurement that are processes of their own.
    match arguments.split_first() {
        Some((role, rest)) if role == grpc::LOAD => return grpc::load(rest),
        Some((role, _)) if role == grpc::REFERENCE => return grpc::reference(),
        _ => {}
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let effort = if has("--quick") {
        Effort {
            rounds: 1,
            divisor: 10,
        }
    } else {
        Effort {
            rounds: 5,
            divisor: 1,
        }
    };
    let name = arguments
        .iter()
        .find(|argument| !argument.starts_with("--"))
        .map_or("redis", String::as_str);
    let mut report = Report::new(Place {
        json: format!("bench/{name}"),
        page: "benchmarks",
        heading: format!("`{}`", report::command("bench", name)),
        words: String::new(),
    });
    match name {
        "grpc" => grpc::run(effort, &mut report)?,
        "redis" => redis::run(effort, &mut report)?,
        "http" => http::run(effort, &mut report)?,
        "node" => node::run(effort, &mut report)?,
        "produce" => produce::run(effort, &mut report)?,
        "streams" => streams::run(effort, &mut report)?,
        other => {
            bail!(
                "no such measurement: {other}; there are: grpc, http, node, produce, redis, streams"
            )
        }
    }
    let machine = report::machine("Apache Kafka 4.1.0, Redis 7.0");
    report.publish(&machine, has("--write-docs"))
}
