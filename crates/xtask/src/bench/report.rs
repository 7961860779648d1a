//! Results as a table, as JSON, and as the page in the docs.

use crate::run;
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::process::Command;

/// One line of the result.
pub(crate) struct Row {
    measure: String,
    target: String,
    result: String,
    is_met: Option<bool>,
    figures: serde_json::Value,
}

/// The results of one run.
pub(crate) struct Report {
    name: String,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rows: Vec::new(),
        }
    }

    /// Adds a line; `is_met` is `None` for figures without a target.
    pub(crate) fn add(
        &mut self,
        measure: impl Into<String>,
        target: impl Into<String>,
        result: impl Into<String>,
        is_met: Option<bool>,
        figures: serde_json::Value,
    ) {
        let row = Row {
            measure: measure.into(),
            target: target.into(),
            result: result.into(),
            is_met,
            figures,
        };
        eprintln!("{}: {} ({})", row.measure, row.result, row.target);
        self.rows.push(row);
    }

    fn table(&self) -> String {
        let mut table = String::from("| measure | target | result | met |\n|---|---|---|---|\n");
        for row in &self.rows {
            let met = match row.is_met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let _ = writeln!(
                table,
                "| {} | {} | {} | {met} |",
                row.measure, row.target, row.result
            );
        }
        table
    }

    pub(crate) fn print(&self) {
        print!("{}", self.table());
    }

    pub(crate) fn write_json(&self) -> Result<()> {
        let rows: Vec<serde_json::Value> = self
            .rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "measure": row.measure,
                    "target": row.target,
                    "result": row.result,
                    "met": row.is_met,
                    "figures": row.figures,
                })
            })
            .collect();
        let folder = run::root().join("target/bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.name));
        let document = serde_json::json!({ "machine": machine(), "rows": rows });
        std::fs::write(&path, serde_json::to_string_pretty(&document)?)
            .with_context(|| path.display().to_string())?;
        println!("written: {}", path.display());
        Ok(())
    }

    pub(crate) fn write_docs(&self) -> Result<()> {
        let path = run::root().join("docs/benchmarks.md");
        let page = format!(
            "# Measurements\n\n\
             The last result of `cargo xtask bench {name} --write-docs`, which wrote this page.\n\
             Everything runs on one machine, in turn in one run: the gateway, a real Kafka\n\
             broker behind it, the reference, and the load. Absolute figures are those of that\n\
             machine and hour; what counts are the ratios (medians of the rounds) and the\n\
             processor time per message.\n\n\
             Machine: {machine}.\n\n{table}\n\
             To repeat it: `cargo xtask bench {name}` (about five minutes; `--quick` for a\n\
             glance). The figures of each round are in `target/bench/{name}.json`.\n",
            name = self.name,
            machine = machine(),
            table = self.table()
        );
        std::fs::write(&path, page).with_context(|| path.display().to_string())
    }
}

/// The machine in one line.
fn machine() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim().to_owned())
        .unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = Command::new("uname")
        .arg("-sr")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    format!("{cores} cores, {model}, {kernel}; Apache Kafka 4.1.0, Redis 7.0")
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
