//! `cargo xtask bench [name]`: measurements side by side with references, in
//! turn in one run, because the machines are noisy and only ratios hold.

mod client;
mod grpc;
mod http;
mod node;
mod produce;
mod redis;
mod report;
mod streams;
mod web;

use crate::run;
use anyhow::{Result, bail};
use report::Report;
use std::path::PathBuf;

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
    let mut report = Report::new(name);
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
    report.print();
    report.write_json()?;
    if has("--write-docs") {
        report.write_docs()?;
    }
    Ok(())
}

/// The release build of what is measured, or what `GATEWAY_BINARY` names.
fn build() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("GATEWAY_BINARY") {
        return Ok(binary.into());
    }
    run::checked(run::cargo().args(["build", "--release", "--package", "barnabas-server"]))?;
    Ok(release_folder().join("barnabas"))
}

/// Where release builds are.
fn release_folder() -> PathBuf {
    run::target().join("release")
}
