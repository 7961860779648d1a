//! What all measurements share: the table with its targets, JSON beside it,
//! and a page in the docs.

use crate::run;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::Command;

/// One line of the result.
struct Row {
    measure: String,
    target: String,
    result: String,
    is_met: Option<bool>,
    figures: Value,
}

/// Where the results of a run go.
pub(crate) struct Place {
    /// Below `target`, without its extension.
    pub(crate) json: String,
    /// Below `docs`, without its extension.
    pub(crate) page: &'static str,
    /// Of the section of that page, which takes the place of its last one.
    pub(crate) heading: String,
    /// Between heading and table.
    pub(crate) words: String,
}

/// The results of one run.
pub(crate) struct Report {
    place: Place,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
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
        figures: Value,
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
            // Writing to a String does not fail.
            let _ = writeln!(
                table,
                "| {} | {} | {} | {met} |",
                row.measure, row.target, row.result
            );
        }
        table
    }

    /// Prints the table, and writes what else is to be written.
    pub(crate) fn publish(&self, machine: &str, has_docs: bool) -> Result<()> {
        print!("{}", self.table());
        let rows = self.rows.iter().map(|row| {
            json!({
                "measure": row.measure,
                "target": row.target,
                "result": row.result,
                "met": row.is_met,
                "figures": row.figures,
            })
        });
        let rows: Vec<Value> = rows.collect();
        write_json(
            &self.place.json,
            &json!({ "machine": machine, "rows": rows }),
        )?;
        if has_docs {
            self.write_docs(machine)?;
        }
        Ok(())
    }

    fn write_docs(&self, machine: &str) -> Result<()> {
        let path = run::root().join(format!("docs/{}.md", self.place.page));
        let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let heading = format!("{SECTION}{}\n", self.place.heading);
        let section = format!(
            "{heading}\n{}Machine: {machine}.\n\n{}",
            self.place.words,
            self.table()
        );
        std::fs::write(&path, with_section(&page, &heading, &section))
            .with_context(|| path.display().to_string())
    }

    /// An error if a target is missed.
    #[cfg(feature = "torture")]
    pub(crate) fn close(&self, chore: &str) -> Result<()> {
        let targets: Vec<bool> = self.rows.iter().filter_map(|row| row.is_met).collect();
        let met = targets.iter().filter(|is_met| **is_met).count();
        println!(
            "{}: {met} of {} targets met",
            self.place.heading,
            targets.len()
        );
        if met < targets.len() {
            bail!("{chore}: not all targets were met");
        }
        Ok(())
    }
}

/// What begins a section of a page.
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

/// Writes `target/<place>.json`.
pub(crate) fn write_json(place: &str, document: &Value) -> Result<()> {
    let path = run::root().join(format!("target/{place}.json"));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, serde_json::to_string_pretty(document)?)
        .with_context(|| path.display().to_string())?;
    println!("written: {}", path.display());
    Ok(())
}

/// Writes `docs/<name>.md`.
#[cfg(feature = "torture")]
pub(crate) fn write_page(name: &str, page: &str) -> Result<()> {
    let path = run::root().join(format!("docs/{name}.md"));
    std::fs::write(&path, page).with_context(|| path.display().to_string())
}

/// The closing line; an error unless all have passed.
pub(crate) fn close(chore: &str, what: &str, passed: usize, all: usize) -> Result<()> {
    println!("{chore}: {passed} of {all} {what} passed");
    if passed < all || all == 0 {
        bail!("{chore}: not all {what} passed");
    }
    Ok(())
}

/// How a result is shown in a table.
pub(crate) fn verdict(has_passed: bool) -> &'static str {
    if has_passed { "passed" } else { "**failed**" }
}

/// What was typed, as one repeats it.
pub(crate) fn command(chore: &str, line: &str) -> String {
    format!("cargo xtask {chore} {line}").trim().to_owned()
}

/// The machine in one line, and what was measured on it.
pub(crate) fn machine(what: &str) -> String {
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
    format!("{cores} cores, {model}, {kernel}; {what}")
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
