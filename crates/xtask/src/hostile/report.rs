//! Results as a table, as JSON, and as the page in the docs.

use super::Watched;
use super::clients::KINDS;
use crate::{report, under_test};
use anyhow::Result;
use barnabas_testkit::hostile::{ATTACKS, Attack};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// In front of the results in the docs: what is done and checked.
const PAGE: &str = include_str!("page.md");
/// What well-behaved clients keep of their rate.
const RATIO: f64 = 0.8;
/// Input of a front end that may be in memory.
const ROOM: u64 = 256 << 20;
/// An idle connection.
const CONNECTION: u64 = 20_000;
/// Whatever else an attack may add.
const BESIDE: u64 = 128 << 20;

/// One attack.
pub(crate) struct Row {
    pub(super) attack: &'static Attack,
    pub(super) quiet: Watched,
    pub(super) during: Watched,
    /// Resident when it began.
    pub(super) begun: u64,
    pub(super) seen: Value,
    pub(super) is_alive: bool,
    pub(super) is_served_after: bool,
}

impl Row {
    /// Of each kind of client.
    fn ratios(&self) -> Vec<f64> {
        let rate = |watched: &Watched, done: u64| done as f64 / watched.seconds;
        let both = self.during.counts.0.iter().zip(&self.quiet.counts.0);
        both.map(|((during, _), (quiet, _))| {
            rate(&self.during, *during) / rate(&self.quiet, *quiet).max(f64::MIN_POSITIVE)
        })
        .collect()
    }

    fn ratio(&self) -> f64 {
        self.ratios().into_iter().fold(f64::INFINITY, f64::min)
    }

    fn failed(&self) -> u64 {
        self.during.counts.0.iter().map(|(_, failed)| failed).sum()
    }

    fn number(&self, key: &str) -> u64 {
        self.seen.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    fn bound(&self) -> u64 {
        self.begun + ROOM + CONNECTION * self.number("opened").min(10_000) + BESIDE
    }

    fn has_passed(&self) -> bool {
        self.ratio() >= RATIO
            && self.failed() == 0
            && self.during.resident <= self.bound()
            && self.is_alive
            && self.is_served_after
    }

    fn to_json(&self) -> Value {
        let kinds = KINDS.iter().zip(self.ratios()).enumerate();
        let kinds = kinds.map(|(index, (kind, ratio))| {
            let counts = |watched: &Watched| watched.counts.0.get(index).copied();
            json!({
                "kind": kind,
                "ratio": ratio,
                "undisturbed": counts(&self.quiet),
                "during": counts(&self.during),
            })
        });
        json!({
            "attack": self.attack.name,
            "about": self.attack.about,
            "passed": self.has_passed(),
            "ratio": self.ratio(),
            "failed": self.failed(),
            "clients": kinds.collect::<Vec<_>>(),
            "seconds": {"undisturbed": self.quiet.seconds, "during": self.during.seconds},
            "resident_before": self.begun,
            "resident": self.during.resident,
            "bound": self.bound(),
            "threads": {"undisturbed": self.quiet.threads, "during": self.during.threads},
            "descriptors": {
                "undisturbed": self.quiet.descriptors,
                "during": self.during.descriptors,
            },
            "attackers": self.seen,
            "is_the_same_process": self.is_alive,
            "serves_new_clients": self.is_served_after,
        })
    }
}

/// The results of one run.
pub(crate) struct Report {
    line: String,
    build: &'static str,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(line: &str, is_built: bool) -> Self {
        Self {
            line: line.to_owned(),
            build: under_test::build_name(is_built),
            rows: Vec::new(),
        }
    }

    /// Adds a result, and shows it at once.
    pub(crate) fn add(&mut self, row: Row) {
        let passed = if row.has_passed() { "passed" } else { "FAILED" };
        eprintln!(
            "hostile: {} {passed}: ratio {:.2}, {} failed, {} MiB of {}; {}",
            row.attack.name,
            row.ratio(),
            row.failed(),
            row.during.resident >> 20,
            row.bound() >> 20,
            row.seen
        );
        for (kind, ratio) in KINDS.iter().zip(row.ratios()) {
            if ratio < RATIO {
                eprintln!("hostile: {}: {kind}: {ratio:.2}", row.attack.name);
            }
        }
        self.rows.push(row);
    }

    fn table(&self) -> String {
        let mut table = String::from(
            "| attack | ratio | failed | resident, MiB | bound, MiB | threads | descriptors | \
             opened | ended | result |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let result = report::verdict(row.has_passed());
            // Writing to a String does not fail.
            let _ = writeln!(
                table,
                "| `{}` | {:.2} | {} | {} | {} | {} | {} | {} | {} | {result} |",
                row.attack.name,
                row.ratio(),
                row.failed(),
                row.during.resident >> 20,
                row.bound() >> 20,
                row.during.threads,
                row.during.descriptors,
                row.number("opened"),
                row.number("ended"),
            );
        }
        table
    }

    pub(crate) fn print(&self) {
        println!("{}", self.table());
    }

    pub(crate) fn write_json(&self) -> Result<()> {
        let document = json!({
            "command": self.command(),
            "machine": self.machine(),
            "attacks": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        });
        report::write_json("hostile/results", &document)
    }

    pub(crate) fn write_docs(&self) -> Result<()> {
        let mut page = PAGE.to_owned();
        page.push_str("\n## Attacks\n\n| attack | what attackers do |\n|---|---|\n");
        for attack in ATTACKS {
            let _ = writeln!(page, "| `{}` | {} |", attack.name, attack.about);
        }
        let _ = write!(
            page,
            "\n## Results\n\n`{}`; {}.\n\n{}",
            self.command(),
            self.machine(),
            self.table()
        );
        report::write_page("hostile", &page)
    }

    /// The closing line; an error if anything has failed.
    pub(crate) fn close(&self) -> Result<()> {
        let passed = self.rows.iter().filter(|row| row.has_passed()).count();
        report::close("hostile", "attacks", passed, self.rows.len())
    }

    fn command(&self) -> String {
        report::command("hostile", &self.line)
    }

    fn machine(&self) -> String {
        report::machine(&format!("{}, Apache Kafka 4.1", self.build))
    }
}
