//! `cargo xtask load`, `soak` and `fleet`: as many clients as there may be,
//! more load than there is room for, half of it for long, and several
//! gateways.
//!
//! In reading order: `idle`, `mixed` and `overload` (with `share`, a part of a
//! processor) are `load`; `soak` and `fleet` are chores of their own; `tally` has
//! what clients have seen.

mod fleet;
mod idle;
mod mixed;
mod overload;
mod share;
mod soak;
mod tally;
#[cfg(test)]
mod tests;

use crate::report::{self, Place, Report};
use crate::served;
use crate::under_test::{self, BUILT};
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::{Cluster, Gateway};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Of every topic.
const PARTITIONS: i32 = 12;
/// Of a message.
const BYTES: usize = 200;

/// What `load` consists of.
const PARTS: [&str; 2] = ["connections", "overload"];

pub(crate) fn run(chore: &str, arguments: &[String]) -> Result<()> {
    served::raise_file_limit();
    let options = Options::parse(arguments)?;
    let binary = under_test::either(options.is_built)?;
    let place = |page, section: &str| Place {
        json: match page {
            "load" => format!("load/{}", section.to_lowercase()),
            other => format!("load/{other}"),
        },
        page,
        heading: section.to_owned(),
        words: format!("`{}`\n\n", report::command(chore, &options.line)),
    };
    let reports = match chore {
        "load" => {
            let mut reports = Vec::new();
            if options.has("connections") {
                let mut report = Report::new(place("load", "Load"));
                idle::run(&binary, &options, &mut report)?;
                mixed::run(&binary, &options, &mut report)?;
                reports.push(report);
            }
            if options.has("overload") {
                let mut report = Report::new(place("load", "Overload"));
                overload::run(&binary, &options, &mut report)?;
                reports.push(report);
            }
            reports
        }
        "soak" => {
            let mut report = Report::new(place("load", "Soak"));
            soak::run(&binary, &options, &mut report)?;
            vec![report]
        }
        _ => {
            let mut report = Report::new(place("fleet", "Measured"));
            fleet::run(&binary, &options, &mut report)?;
            vec![report]
        }
    };
    let build = under_test::build_name(options.is_built);
    let machine = report::machine(&format!("{build}, Apache Kafka 4.1"));
    for report in &reports {
        report.publish(&machine, options.write_docs)?;
    }
    reports.iter().try_for_each(|report| report.close(chore))
}

/// What was typed.
#[derive(Debug, Clone)]
struct Options {
    /// Of `load`; all if none is named.
    parts: Vec<String>,
    connections: usize,
    /// How long each measurement takes.
    length: Duration,
    /// How long the soak takes.
    soak: Duration,
    is_built: bool,
    write_docs: bool,
    line: String,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let typed = arguments.iter().map(String::as_str);
        let shown = typed.clone().filter(|word| *word != "--write-docs");
        let mut options = Self {
            parts: Vec::new(),
            connections: 10_000,
            length: Duration::from_secs(30),
            soak: Duration::from_secs(30 * 60),
            is_built: false,
            write_docs: false,
            line: shown.collect::<Vec<_>>().join(" "),
        };
        let mut rest = typed;
        while let Some(word) = rest.next() {
            let mut number = || {
                let number = rest.next().with_context(|| format!("{word} N"))?;
                Ok::<_, anyhow::Error>(number.parse::<u64>()?.max(1))
            };
            match word {
                "--connections" => options.connections = usize::try_from(number()?)?,
                "--seconds" => options.length = Duration::from_secs(number()?),
                "--minutes" => options.soak = Duration::from_secs(60 * number()?),
                "--write-docs" => options.write_docs = true,
                BUILT => options.is_built = true,
                part if PARTS.contains(&part) => options.parts.push(part.to_owned()),
                other => bail!("what is {other}?"),
            }
        }
        Ok(options)
    }
}

impl Options {
    fn has(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|one| one == part)
    }

    /// Whether figures are compared with targets: few clients, or a few seconds
    /// of many, say nothing about them.
    fn judge(&self, is_met: bool) -> Option<bool> {
        let is_large = self.connections >= 1_000 && self.length >= Duration::from_secs(10);
        is_large.then_some(is_met)
    }
}

/// One broker that can take what this machine can send.
fn kafka() -> Result<Cluster> {
    let kafka = Cluster::builder()
        .for_benchmark()
        .heap_mb(512)
        .start_timeout(served::PATIENCE)
        .start()?;
    Ok(kafka)
}

/// Resident memory when it does not change any more.
fn settled(gateway: &Gateway) -> Result<u64> {
    const STEPS: usize = 10;
    const LIMIT: Duration = Duration::from_secs(20);

    let started = Instant::now();
    let mut last = Vec::new();
    loop {
        last.push(gateway.resident_bytes()?);
        let tail = last.iter().rev().take(STEPS);
        let (least, most) = tail.fold((u64::MAX, 0), |(least, most), one| {
            (least.min(*one), most.max(*one))
        });
        if last.len() >= STEPS && most - least <= most / 500 || started.elapsed() > LIMIT {
            return Ok(most);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until `holds`.
fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !holds()? {
        if started.elapsed() > served::PATIENCE {
            bail!("waited {:?} in vain for {what}", served::PATIENCE);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Thousands of bytes, as memory per connection is told.
fn kilobytes(bytes: f64) -> String {
    format!("{:.1} kB", bytes / 1e3)
}

type Binary = PathBuf;
