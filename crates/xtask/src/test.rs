//! `cargo xtask test`

use crate::{node, packages, run};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

/// What has to pass on Kafka 3.9 as well as on 4.1 (contract:
/// `consume-and-ack.md`, B3): the integration tests of the engine, which are
/// all that is asked of brokers, of HTTP and of gRPC. By the names of the test
/// binaries, because a choice of packages would change the features of their
/// dependencies, and build those again.
const AGAIN_ON_3_9: [&str; 4] = ["--test", "main", "--test", "grpc"];

/// Torture's own tests are of what it needs brokers for: its checks.
pub(crate) const WITH_TORTURE: [&str; 3] = ["--workspace", "--features", "xtask/torture"];

/// Runs every test, and some again on an older Kafka. With arguments, which
/// are cargo's, and after `--` those of the test binaries, runs once what they
/// choose.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    packages::ensure()?;
    let mut totals = Totals::default();
    let mut is_success = count(cargo_test().args(arguments), &mut totals)?;
    if arguments.is_empty() {
        let mut again = cargo_test();
        again.args(AGAIN_ON_3_9).env("KAFKA_UNDER_TEST", "3.9");
        is_success &= count(&mut again, &mut totals)?;
        for mut tests in node::tests(&[])? {
            is_success &= count(&mut tests, &mut totals)?;
        }
    }
    println!("{} passed, {} failed", totals.passed, totals.failed);
    if !is_success {
        bail!("tests failed");
    }
    if totals.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn cargo_test() -> Command {
    let mut command = run::cargo();
    command.arg("test").args(WITH_TORTURE).arg("--no-fail-fast");
    command
}

/// Runs a command, shows what it writes, and counts its tests; whether it has
/// succeeded.
fn count(command: &mut Command, totals: &mut Totals) -> Result<bool> {
    command.stdout(Stdio::piped());
    println!("$ {}", run::shown(command));
    let mut child = command.spawn().context("cannot start cargo")?;
    if let Some(output) = child.stdout.take() {
        let mut out = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            out.write_all(&line)?;
            out.write_all(b"\n")?;
            totals.add(&String::from_utf8_lossy(&line));
        }
    }
    Ok(child.wait()?.success())
}

/// Sums of the runners' closing lines.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
}

impl Totals {
    /// Counts `test result: ok. 3 passed; 0 failed; …`, and the closing lines
    /// of Node's runner, `ℹ pass 3` and `ℹ fail 0`.
    fn add(&mut self, line: &str) {
        let number_of = |word: &str| -> Option<u64> {
            let line = line.trim_start_matches(['ℹ', '#', ' ']);
            line.strip_prefix(word)?.trim().parse().ok()
        };
        self.passed += number_of("pass ").unwrap_or(0);
        self.failed += number_of("fail ").unwrap_or(0);
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
        for line in ["ℹ tests 9", "ℹ pass 8", "ℹ fail 1", "# pass 1", "passed 4"] {
            totals.add(line);
        }
        assert_eq!((totals.passed, totals.failed), (22, 3));
    }
}
