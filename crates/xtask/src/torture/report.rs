//! Results as a table, as JSON, and as the page in the docs.

use super::faults::{SCENARIOS, Scenario};
use super::ledger::Findings;
use crate::{report, under_test};
use anyhow::Result;
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;

/// In front of the results in the docs: what is done and checked.
const PAGE: &str = include_str!("page.md");

struct Row {
    /// One, or several that shared clients.
    scenario: String,
    about: String,
    outcome: Result<Findings, String>,
    took: Duration,
    /// It has failed and was played again.
    is_repeated: bool,
}

impl Row {
    fn has_passed(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|found| found.broken.is_empty())
    }
}

/// The results of one run.
pub(crate) struct Report {
    line: String,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(line: &str) -> Self {
        Self {
            line: line.to_owned(),
            rows: Vec::new(),
        }
    }

    /// Adds a result, and says at once what is wrong.
    pub(crate) fn add(
        &mut self,
        scenarios: &[&Scenario],
        outcome: Result<Findings>,
        took: Duration,
    ) {
        let all = |of: fn(&Scenario) -> &'static str, between| {
            let parts: Vec<&str> = scenarios.iter().map(|scenario| of(scenario)).collect();
            parts.join(between)
        };
        let row = Row {
            scenario: all(|scenario| scenario.name, ", "),
            about: all(|scenario| scenario.about, "; "),
            outcome: outcome.map_err(|error| format!("{error:#}")),
            took,
            is_repeated: false,
        };
        match &row.outcome {
            Ok(found) => {
                for finding in &found.broken {
                    eprintln!("torture: {}: {finding}", row.scenario);
                }
            }
            Err(error) => eprintln!("torture: {}: {error}", row.scenario),
        }
        let passed = if row.has_passed() { "passed" } else { "FAILED" };
        eprintln!(
            "torture: {} {passed}, {:.0} s",
            row.scenario,
            took.as_secs_f64()
        );
        self.rows.push(row);
    }

    /// The last result does not count.
    pub(crate) fn play_again(&mut self) {
        eprintln!("torture: once more");
        if let Some(last) = self.rows.last_mut() {
            last.is_repeated = true;
        }
    }

    fn table(&self) -> String {
        let mut table = String::from(
            "| scenario | accepted | no answer | refused | deliveries | acked | left | \
             again | repeated | aside | result |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let result = match row.is_repeated {
                true => "failed, once more:",
                false => report::verdict(row.has_passed()),
            };
            // Writing to a String does not fail.
            let _ = match &row.outcome {
                Ok(found) => writeln!(
                    table,
                    "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {result} |",
                    row.scenario,
                    found.accepted,
                    found.unknown,
                    found.refused,
                    found.delivered,
                    found.acked,
                    found.left,
                    found.again,
                    found.repeated,
                    found.aside
                ),
                Err(_) => writeln!(table, "| `{}` | | | | | | | | | | {result} |", row.scenario),
            };
        }
        table
    }

    pub(crate) fn print(&self) {
        println!("{}", self.table());
    }

    pub(crate) fn write_json(&self) -> Result<()> {
        let rows = self.rows.iter().map(|row| {
            let found = row.outcome.as_ref().ok();
            let count = |of: fn(&Findings) -> u64| found.map(of);
            json!({
                "scenario": row.scenario,
                "about": row.about,
                "passed": row.has_passed(),
                "played_again": row.is_repeated,
                "error": row.outcome.as_ref().err(),
                "findings": found.map(|found| &found.broken),
                "seconds": row.took.as_secs_f64(),
                "accepted": count(|found| found.accepted as u64),
                "no_answer": count(|found| found.unknown),
                "refused": count(|found| found.refused),
                "deliveries": count(|found| found.delivered as u64),
                "acked": count(|found| found.acked as u64),
                "left": count(|found| found.left),
                "again": count(|found| found.again as u64),
                "repeated": count(|found| found.repeated as u64),
                "aside": count(|found| found.aside as u64),
            })
        });
        let document = json!({
            "command": self.command(),
            "machine": machine(),
            "scenarios": rows.collect::<Vec<_>>(),
        });
        report::write_json("torture/results", &document)
    }

    pub(crate) fn write_docs(&self) -> Result<()> {
        let mut page = PAGE.to_owned();
        page.push_str("\n## Scenarios\n\n| scenario | what happens |\n|---|---|\n");
        for scenario in SCENARIOS {
            let _ = writeln!(page, "| `{}` | {} |", scenario.name, scenario.about);
        }
        let _ = write!(
            page,
            "\n## Results\n\n`{}`; {}.\n\n{}",
            self.command(),
            machine(),
            self.table()
        );
        report::write_page("torture", &page)
    }

    /// The closing line; an error if anything has failed.
    pub(crate) fn close(&self) -> Result<()> {
        let counted = self.rows.iter().filter(|row| !row.is_repeated);
        let passed = counted.clone().filter(|row| row.has_passed()).count();
        report::close("torture", "scenarios", passed, counted.count())
    }

    fn command(&self) -> String {
        report::command("torture", &self.line)
    }
}

fn machine() -> String {
    let build = under_test::build_name(true);
    report::machine(&format!("{build}, Apache Kafka 4.1"))
}
