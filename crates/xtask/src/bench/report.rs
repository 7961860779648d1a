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

    /// Puts the result into the page in the docs, in the place of the last one
    /// of this name.
    pub(crate) fn write_docs(&self) -> Result<()> {
        let path = run::root().join("docs/benchmarks.md");
        let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let heading = format!("{SECTION}`cargo xtask bench {}`\n", self.name);
        let section = format!("{heading}\nMachine: {}.\n\n{}", machine(), self.table());
        std::fs::write(&path, with_section(&page, &heading, &section))
            .with_context(|| path.display().to_string())
    }
}

/// What begins a section of the page.
const SECTION: &str = "\n## ";

/// The page with this section in the place of the one with its heading, or at
/// its end.
fn with_section(page: &str, heading: &str, section: &str) -> String {
    let Some(start) = page.find(heading) else {
        return format!("{page}{section}");
    };
    let (before, old) = page.split_at(start);
    let end = old
        .get(heading.len()..)
        .and_then(|rest| rest.find(SECTION))
        .map_or(old.len(), |end| end + heading.len());
    let after = old.get(end..).unwrap_or_default();
    format!("{before}{section}{after}")
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

#[cfg(test)]
mod tests {
    use super::with_section;

    #[test]
    fn a_result_takes_the_place_of_its_last_one() {
        let page = with_section("# All\n", "\n## a\n", "\n## a\n\n1\n");
        let page = with_section(&page, "\n## b\n", "\n## b\n\n2\n");
        assert_eq!(page, "# All\n\n## a\n\n1\n\n## b\n\n2\n");
        let page = with_section(&page, "\n## a\n", "\n## a\n\n3\n");
        assert_eq!(page, "# All\n\n## a\n\n3\n\n## b\n\n2\n");
        let page = with_section(&page, "\n## b\n", "\n## b\n\n4\n");
        assert_eq!(page, "# All\n\n## a\n\n3\n\n## b\n\n4\n");
    }
}
