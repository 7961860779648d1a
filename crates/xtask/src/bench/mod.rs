//! `cargo xtask bench [name]`: measurements side by side with references, in
//! turn in one run, because the machines are noisy and only ratios hold.

mod client;
mod redis;
mod report;

use anyhow::{Result, bail};
use report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of A and B in turn.
    rounds: usize,
    /// Divides the numbers of messages.
    divisor: usize,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
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
        "redis" => redis::run(effort, &mut report)?,
        other => bail!("no such measurement: {other}; there is: redis"),
    }
    report.print();
    report.write_json()?;
    if has("--write-docs") {
        report.write_docs()?;
    }
    Ok(())
}
