//! `cargo xtask ci`

use crate::{node, packages, run, test};
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The release of cargo-deny that the pinned toolchain builds.
const CARGO_DENY: &str = "0.20.2";

/// A stage's name and what it does.
type Stage = (&'static str, fn() -> Result<()>);

const STAGES: &[Stage] = &[
    ("packages", packages::ensure),
    ("format", format),
    ("clippy", clippy),
    ("deny", deny),
    ("docs", docs),
    ("torture", torture),
    // Last: standard output ends with its lines.
    ("test", || test::run(&[])),
];

/// Runs all stages in turn and stops at the first that fails.
pub(crate) fn run() -> Result<()> {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut result = Ok(());
    for (name, stage) in STAGES {
        println!("== {name}");
        let start = Instant::now();
        result = stage().with_context(|| format!("stage {name} failed"));
        times.push((name, start.elapsed()));
        if result.is_err() {
            break;
        }
    }
    // To standard error: standard output ends with the test runners' lines.
    for (name, time) in times {
        eprintln!("{name:<10} {:>7.1} s", time.as_secs_f64());
    }
    result
}

fn format() -> Result<()> {
    run::checked(run::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run::checked(run::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

fn docs() -> Result<()> {
    run::checked(
        run::cargo()
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Each fault once. What is built for it is what the tests are built of, with the
/// same features: with others librdkafka would be built again.
fn torture() -> Result<()> {
    let mut build = run::cargo();
    build.arg("build").args(test::WITH_TORTURE);
    run::checked(build.args(["--bins", "--tests"]))?;
    node::fetch()?;
    node::build(&[])?;
    let program = run::target().join("debug/xtask");
    let words = ["torture", "all", "--together", "--again", "--built"];
    run::checked(Command::new(program).args(words))
}

fn deny() -> Result<()> {
    let folder = run::root().join("target/tools");
    let program = cargo_deny(&folder)?;
    run::checked(
        Command::new(program)
            .current_dir(run::root())
            .args(["check", "licenses", "bans", "sources"]),
    )
}

/// The pinned cargo-deny, built once into the target folder.
fn cargo_deny(folder: &std::path::Path) -> Result<PathBuf> {
    let program = folder.join("bin/cargo-deny");
    let wanted = format!("cargo-deny {CARGO_DENY}");
    let is_there = Command::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(wanted.as_bytes()));
    if !is_there {
        run::checked(
            run::cargo()
                .args(["install", "--quiet", "--locked", "--force"])
                .args(["--version", CARGO_DENY])
                .arg("--root")
                .arg(folder)
                .arg("cargo-deny"),
        )?;
    }
    Ok(program)
}
