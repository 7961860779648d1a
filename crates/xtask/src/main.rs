//! The project's chores, the same for a person, for CI and in the docs:
//! `cargo xtask test`, `cargo xtask ci`, `cargo xtask bench [name]`,
//! `cargo xtask torture [scenario]`, `cargo xtask hostile [attack]`.

#[cfg(feature = "bench")]
mod bench;
mod ci;
mod fuzz;
#[cfg(feature = "torture")]
mod hostile;
mod node;
mod packages;
mod run;
mod test;
#[cfg(feature = "torture")]
mod torture;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <chore>

  test [-- FILTER …]   every test: Rust, real brokers, clients of other languages
  ci                   format, clippy, deny, docs, test; what .ci/run calls
  bench [NAME]         measurements side by side with references
                       (--quick: fewer rounds; --write-docs: update docs/benchmarks.md)
  torture [SCENARIO …|all] [--seconds N] [--together] [--built]
                       faults under load, and what clients were told compared with
                       what is in Kafka (--together: scenarios share clients where they
                       can; --write-docs: write docs/torture.md)
  hostile [ATTACK …|all] [--seconds N] [--built]
                       well-behaved clients beside hostile ones; --built: the debug build
                       that is there (--write-docs: write docs/hostile.md)
  fuzz [TARGET] [--seconds N] [--merge]
                       looks for inputs with which a fuzz target fails; --merge keeps
                       those that reach more (docs/fuzzing.md)
  node-build [--release]
                       the npm package's native part, beside its loader
  node-test [FILE …]   the npm package's tests, on the Node of the PATH and on Node 22
  node-pack --out DIR  the npm package's tarballs: the root and this platform's
";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(compiled) = fuzz::wrap(&std::env::args().skip(1).collect::<Vec<_>>()) {
        return compiled;
    }
    let chore = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match chore.as_str() {
        "test" => test::run(&rest),
        "ci" => ci::run(),
        "bench" => bench(&rest),
        "torture" => torture(&rest),
        "hostile" => hostile(&rest),
        "fuzz" => fuzz::run(&rest),
        "node-build" => node::build(&rest),
        "node-pack" => node::pack(&rest),
        "node-test" => node::tests(&rest)?.iter_mut().try_for_each(run::checked),
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

#[cfg(feature = "torture")]
fn torture(arguments: &[String]) -> Result<()> {
    torture::run(arguments)
}

#[cfg(feature = "torture")]
fn hostile(arguments: &[String]) -> Result<()> {
    hostile::run(arguments)
}

#[cfg(not(feature = "torture"))]
fn torture(arguments: &[String]) -> Result<()> {
    with_clients("torture", arguments)
}

#[cfg(not(feature = "torture"))]
fn hostile(arguments: &[String]) -> Result<()> {
    with_clients("hostile", arguments)
}

/// Runs itself again with what faults, attacks and clients need.
#[cfg(not(feature = "torture"))]
fn with_clients(chore: &str, arguments: &[String]) -> Result<()> {
    let mut command = run::cargo();
    command
        .args(["run", "--quiet", "--package", "xtask"])
        .args(["--features", "torture", "--", chore])
        .args(arguments);
    run::checked(&mut command)
}
