//! `barnabas journal`: a look into journals from outside, and sending what is
//! left in them.

use crate::cli::{JournalCommand, ReplayOptions};
use crate::config::{self, Keeping, Source};
use crate::logging;
use anyhow::{Context as _, Result, bail};
use barnabas_engine::{Cluster, Durabilities, JournalOptions, JournalReport, inspect};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn run(command: &JournalCommand) -> Result<()> {
    match command {
        JournalCommand::Inspect { dir, json } => show(dir, *json),
        JournalCommand::Verify { dir } => verify(dir),
        JournalCommand::Replay(options) => replay(options),
    }
}

/// The journals in a directory: itself, or those below it, one for each
/// cluster.
fn journals(directory: &Path) -> Result<Vec<PathBuf>> {
    let is_journal = |path: &Path| path.join("lock").is_file();
    if is_journal(directory) {
        return Ok(vec![directory.to_owned()]);
    }
    let shown = directory.display();
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if is_journal(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("there is no journal in {shown}");
    }
    found.sort();
    Ok(found)
}

fn show(directory: &Path, as_json: bool) -> Result<()> {
    let mut documents = Vec::new();
    for path in journals(directory)? {
        let report = inspect(&path, |_, _, _| {})?;
        if as_json {
            documents.push(document(&path, &report));
        } else {
            print!("{}", text(&path, &report));
        }
    }
    if as_json {
        println!("{}", serde_json::to_string_pretty(&documents)?);
    }
    Ok(())
}

fn text(path: &Path, report: &JournalReport) -> String {
    let bytes: u64 = report.segments.iter().map(|one| one.bytes).sum();
    let mut lines = vec![format!(
        "{}: {} segments, {bytes} bytes; undelivered {}, missing {}, refused by Kafka {}",
        path.display(),
        report.segments.len(),
        report.undelivered,
        report.missing,
        report.refused
    )];
    lines.extend(
        report
            .checkpoint_problem
            .iter()
            .map(|problem| format!("  {problem}")),
    );
    for one in &report.segments {
        let name = one.path.file_name().unwrap_or_default().to_string_lossy();
        let mut line = format!(
            "  {name}: {} bytes, {} records, undelivered {}",
            one.bytes, one.records, one.undelivered
        );
        for (from, to) in &one.damaged {
            line += &format!(", damaged from {from} to {to}");
        }
        if let Some(from) = one.torn_at {
            line += &format!(", torn at {from}");
        }
        lines.push(line);
    }
    for (topic, one) in &report.topics {
        lines.push(format!(
            "  topic {topic}: {} records, {} bytes, undelivered {}",
            one.records, one.bytes, one.undelivered
        ));
    }
    lines.join("\n") + "\n"
}

fn document(path: &Path, report: &JournalReport) -> Value {
    let segments: Vec<Value> = report
        .segments
        .iter()
        .map(|one| {
            json!({
                "path": one.path,
                "base": one.base,
                "bytes": one.bytes,
                "records": one.records,
                "undelivered": one.undelivered,
                "damaged": one.damaged,
                "torn_at": one.torn_at,
            })
        })
        .collect();
    let topics: serde_json::Map<String, Value> = report
        .topics
        .iter()
        .map(|(topic, one)| {
            let value = json!({
                "records": one.records,
                "bytes": one.bytes,
                "undelivered": one.undelivered,
            });
            (topic.clone(), value)
        })
        .collect();
    json!({
        "directory": path,
        "undelivered": report.undelivered,
        "missing": report.missing,
        "refused": report.refused,
        "checkpoint_problem": report.checkpoint_problem,
        "is_sound": report.is_sound(),
        "segments": segments,
        "topics": topics,
    })
}

fn verify(directory: &Path) -> Result<()> {
    let mut damaged = Vec::new();
    for path in journals(directory)? {
        let report = inspect(&path, |_, _, _| {})?;
        if report.is_sound() {
            let records: u64 = report.segments.iter().map(|one| one.records).sum();
            println!("{}: {records} records, nothing is wrong", path.display());
        } else {
            damaged.push(text(&path, &report));
        }
    }
    if !damaged.is_empty() {
        bail!("damaged:\n{}", damaged.concat().trim_end());
    }
    Ok(())
}

fn replay(options: &ReplayOptions) -> Result<()> {
    let source = Source {
        config: Some(options.config.clone()),
        env_file: None,
    };
    let resolved = config::load(&source)?;
    logging::start(resolved.log.format, &resolved.log.level)?;
    let keeping = match (&options.dir, resolved.keeping.journal) {
        (Some(dir), None) => Keeping {
            journal: Some(JournalOptions::new(dir)),
            ..Keeping::default()
        },
        (Some(dir), Some(mut journal)) => {
            journal.directory.clone_from(dir);
            Keeping {
                journal: Some(journal),
                ..Keeping::default()
            }
        }
        (None, journal) => Keeping {
            journal,
            ..Keeping::default()
        },
    };
    let Some(journal) = &keeping.journal else {
        bail!("{}: has no journal.dir", options.config.display());
    };
    let existing = journals(&journal.directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let is_wanted = |name: &str| options.cluster.as_ref().is_none_or(|wanted| wanted == name);
    let mut left = 0;
    let mut has_sent = false;
    for plan in resolved.clusters {
        let name = plan.config.name.clone();
        let Some(own) = keeping.journal_of(&name) else {
            continue;
        };
        if !is_wanted(&name) || !existing.contains(&own.directory) {
            continue;
        }
        has_sent = true;
        let directory = own.directory.clone();
        let cluster = Cluster::open(plan.config)?;
        left += runtime.block_on(send(&cluster, own, options.timeout))?;
        let Some(journal) = cluster.journal() else {
            continue;
        };
        journal.close();
        let counted = journal.statistics();
        println!(
            "{}: {} messages sent, {} refused by Kafka, {} damaged, {} left",
            directory.display(),
            counted.delivered,
            counted.refused,
            counted.damaged,
            counted.undelivered
        );
    }
    if !has_sent {
        bail!(
            "{}: no journal of a configured cluster",
            journal.directory.display()
        );
    }
    if left > 0 {
        bail!("{left} messages are left");
    }
    // librdkafka's threads may wait for a broker that is gone.
    std::process::exit(0)
}

/// Returns how many messages are left when the time is over.
async fn send(cluster: &Cluster, own: JournalOptions, limit: Option<u64>) -> Result<u64> {
    cluster.set_durability(Durabilities::default(), Some(own))?;
    let Some(journal) = cluster.journal() else {
        return Ok(0);
    };
    match limit {
        Some(seconds) => {
            let limit = Duration::from_secs(seconds);
            let _ = tokio::time::timeout(limit, journal.drained()).await;
        }
        None => journal.drained().await,
    }
    Ok(journal.undelivered())
}
