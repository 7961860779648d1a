//! The project's chores, the same for a person, for CI and in the docs:
//! `cargo xtask test`, `cargo xtask ci`, `cargo xtask bench [name]`.

#[cfg(feature = "bench")]
mod bench;
mod ci;
mod packages;
mod run;
mod test;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <chore>

  test [-- FILTER …]   every test: Rust, real brokers, clients of other languages
  ci                   format, clippy, deny, docs, test; what .ci/run calls
  bench [NAME]         measurements side by side with references
                       (--quick: fewer rounds; --write-docs: update docs/benchmarks.md)
";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let chore = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match chore.as_str() {
        "test" => test::run(&rest),
        "ci" => ci::run(),
        "bench" => bench(&rest),
        "" | "help" | "-h" | "--help" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("no such chore: {other}\n{USAGE}"),
    }
}

#[cfg(feature = "bench")]
fn bench(arguments: &[String]) -> Result<()> {
    bench::run(arguments)
}

/// Runs itself again with what measuring needs.
#[cfg(not(feature = "bench"))]
fn bench(arguments: &[String]) -> Result<()> {
    let mut command = run::cargo();
    command
        .args(["run", "--release", "--quiet", "--package", "xtask"])
        .args(["--features", "bench", "--", "bench"])
        .args(arguments);
    run::checked(&mut command)
}
