//! `cargo xtask test`

use crate::{packages, run};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

/// Runs every test; arguments after `--` are passed to the test binaries.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    packages::ensure()?;
    let mut command = run::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if !arguments.is_empty() {
        command.args(arguments);
    }
    command.stdout(Stdio::piped());
    println!("$ {}", run::shown(&command));
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut totals = Totals::default();
    if let Some(output) = child.stdout.take() {
        let mut out = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            out.write_all(&line)?;
            out.write_all(b"\n")?;
            totals.add(&String::from_utf8_lossy(&line));
        }
    }
    let status = child.wait()?;
    println!("{} passed, {} failed", totals.passed, totals.failed);
    if !status.success() {
        bail!("tests failed");
    }
    if totals.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Sums of the runners' closing lines.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
}

impl Totals {
    /// Counts `test result: ok. 3 passed; 0 failed; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |word: &str| -> u64 {
            result
                .split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(word))
                .find_map(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn closing_lines_are_summed() {
        let mut totals = Totals::default();
        totals.add("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        totals.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured");
        totals.add("12 passed");
        assert_eq!((totals.passed, totals.failed), (13, 2));
    }
}
