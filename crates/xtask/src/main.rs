//! The project's chores, the same for a person, for CI and in the docs:
//! `cargo xtask test`, `cargo xtask ci`, `cargo xtask bench [name]`,
//! `cargo xtask torture [scenario]`, `cargo xtask hostile [attack]`,
//! `cargo xtask load`, `cargo xtask soak`, `cargo xtask fleet`.

#[cfg(feature = "bench")]
mod bench;
mod ci;
#[cfg(feature = "torture")]
mod clients;
mod fuzz;
#[cfg(feature = "torture")]
mod hostile;
#[cfg(feature = "torture")]
mod load;
mod node;
mod packages;
#[cfg(any(feature = "bench", feature = "torture"))]
mod report;
mod run;
#[cfg(feature = "torture")]
mod served;
mod test;
#[cfg(feature = "torture")]
mod torture;
#[cfg(any(feature = "bench", feature = "torture"))]
mod under_test;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <chore>

  test [-- FILTER …]   every test: Rust, real brokers, clients of other languages
  ci                   format, clippy, deny, docs, each fault of torture once, test;
                       what .ci/run calls
  bench [NAME]         measurements side by side with references
                       (--quick: fewer rounds; --write-docs: update docs/benchmarks.md)
  torture [SCENARIO …|all] [--seconds N] [--together] [--again] [--built]
                       faults under load, and what clients were told compared with
                       what is in Kafka (--together: scenarios share clients where they
                       can; --again: what fails is played once more; --write-docs: write
                       docs/torture.md)
  hostile [ATTACK …|all] [--seconds N] [--built]
                       well-behaved clients beside hostile ones; --built: the debug build
                       that is there (--write-docs: write docs/hostile.md)
  load [connections] [overload] [--connections N] [--seconds N] [--built]
                       idle, mixed and too much load (--write-docs: update docs/load.md)
  soak [--minutes N] [--built]
                       half of what is possible while groups rebalance, and whether
                       anything grows or stands still (--write-docs: update docs/load.md)
  fleet [--seconds N] [--built]
                       one, two and three gateways on one group: rate, failover, pauses
                       (--write-docs: update docs/fleet.md)
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
        "load" | "soak" | "fleet" => load(&chore, &rest),
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

#[cfg(feature = "torture")]
fn load(chore: &str, arguments: &[String]) -> Result<()> {
    load::run(chore, arguments)
}

#[cfg(not(feature = "torture"))]
fn load(chore: &str, arguments: &[String]) -> Result<()> {
    with_clients(chore, arguments)
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
