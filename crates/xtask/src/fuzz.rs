//! `cargo xtask fuzz`

use crate::run;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How long each target runs unless said otherwise.
const SECONDS: u64 = 600;

/// What libFuzzer needs: counters at every edge and the operands of
/// comparisons, as `cargo fuzz` asks for them; and speed, without losing the
/// checks of arithmetic. All of it is stable. The address sanitizer is not, and
/// the code is safe Rust but for the calls of librdkafka.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Copt-level=1",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Set while cargo calls this program in front of rustc.
const WRAPPING: &str = "XTASK_FUZZ_RUSTC";

/// An input that takes longer, in seconds, is a finding; so is more memory, in
/// MiB.
const TIMEOUT: &str = "-timeout=90";
const MEMORY: &str = "-rss_limit_mb=4096";
/// Larger inputs find no more and slow everything down.
const LENGTH: &str = "-max_len=4096";

/// What was typed.
struct Arguments {
    /// All, if there is none.
    target: Option<String>,
    seconds: u64,
    merges: bool,
}

impl Arguments {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut parsed = Self {
            target: None,
            seconds: SECONDS,
            merges: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--merge" => parsed.merges = true,
                "--seconds" => {
                    let seconds = arguments.next().context("--seconds needs a number")?;
                    parsed.seconds = seconds.parse().context("--seconds")?;
                }
                other if other.starts_with('-') || parsed.target.is_some() => {
                    bail!("unexpected argument: {other}")
                }
                name => parsed.target = Some(name.to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// Lets libFuzzer look for inputs with which a target fails; with `--merge`,
/// keeps those that reach what no other reaches.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments = Arguments::parse(arguments)?;
    let known = targets()?;
    let chosen = match arguments.target {
        Some(name) if known.contains(&name) => vec![name],
        Some(name) => bail!("no target {name}; there are {}", known.join(", ")),
        None => known,
    };
    run::checked(&mut cargo("build")?)?;
    for name in &chosen {
        fuzz(name, arguments.seconds)?;
        if arguments.merges {
            merge(name)?;
        }
    }
    Ok(())
}

fn corpus() -> PathBuf {
    run::root().join("fuzz/corpus")
}

/// Each has a folder in the corpus.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(corpus())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Cargo calls `xtask rustc …` then, for the crates of the workspace only: so
/// these have the flags, and everything that they stand on, librdkafka and
/// OpenSSL among it, is the one that tests use, and not built again.
pub(crate) fn wrap(arguments: &[String]) -> Option<Result<()>> {
    std::env::var_os(WRAPPING)?;
    let (rustc, rest) = arguments.split_first()?;
    let mut command = Command::new(rustc);
    command.args(rest);
    // Else it is asked for its version.
    if rest.iter().any(|argument| argument == "--crate-name") {
        command.args(FLAGS);
    }
    Some(match command.status().context("cannot start rustc") {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => Err(error),
    })
}

fn cargo(verb: &str) -> Result<Command> {
    let mut command = run::cargo();
    command
        .args([verb, "--package", "barnabas-fuzz"])
        .args(["--features", "libfuzzer"])
        .env("RUSTC_WORKSPACE_WRAPPER", std::env::current_exe()?)
        .env(WRAPPING, "1");
    Ok(command)
}

/// libFuzzer with one of the targets; a corpus may follow.
fn libfuzzer(name: &str) -> Result<Command> {
    let mut command = cargo("run")?;
    command
        .arg("--")
        .args([TIMEOUT, MEMORY, LENGTH])
        .env("FUZZ_TARGET", name)
        .env("FUZZ_SEEDS", folder(name).join("seeds"));
    Ok(command)
}

/// Where this target's finds go.
fn folder(name: &str) -> PathBuf {
    run::root().join("target/fuzz-finds").join(name)
}

fn fuzz(name: &str, seconds: u64) -> Result<()> {
    let finds = folder(name);
    let (grown, seeds) = (finds.join("corpus"), finds.join("seeds"));
    std::fs::create_dir_all(&grown)?;
    let mut command = libfuzzer(name)?;
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", finds.display()))
        .arg("-print_final_stats=1");
    let dictionary = run::root().join(format!("fuzz/dictionaries/{name}.txt"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.args([grown, seeds, corpus().join(name)]);
    run::checked(&mut command).with_context(|| {
        format!(
            "{name} has failed: the input is in {}; once it is understood and mended, it \
             belongs into fuzz/corpus/{name}",
            finds.display()
        )
    })
}

/// The smallest inputs that reach all that was reached take the place of
/// those that are committed; what once failed stays.
fn merge(name: &str) -> Result<()> {
    let (committed, grown) = (corpus().join(name), folder(name).join("corpus"));
    let merged = folder(name).join("merged");
    let _ = std::fs::remove_dir_all(&merged);
    std::fs::create_dir_all(&merged)?;
    let mut command = libfuzzer(name)?;
    command.arg("-set_cover_merge=1").arg(&merged);
    run::checked(command.arg(&committed).arg(&grown))?;
    for path in files(&committed)? {
        if is_found(&path) {
            std::fs::remove_file(path)?;
        }
    }
    let mut is_kept: Vec<Vec<u8>> = Vec::new();
    for path in files(&committed)? {
        is_kept.push(std::fs::read(path)?);
    }
    for path in files(&merged)? {
        let bytes = std::fs::read(&path)?;
        if let Some(file) = path.file_name().filter(|_| !is_kept.contains(&bytes)) {
            std::fs::write(committed.join(file), bytes)?;
        }
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect()
}

/// libFuzzer names what it finds by its hash.
fn is_found(path: &Path) -> bool {
    const DIGITS: usize = 40;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn arguments_are_read_in_any_order() {
        let parsed = parse(&["--seconds", "5", "resp", "--merge"]).unwrap();
        assert_eq!(parsed.target.as_deref(), Some("resp"));
        assert!(parsed.merges);
        assert_eq!(parsed.seconds, 5);
        assert_eq!(parse(&[]).unwrap().seconds, SECONDS);
        for wrong in [
            &["--seconds"][..],
            &["--seconds", "x"],
            &["a", "b"],
            &["-x"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_reaches_more_is_told_from_what_has_failed() {
        assert!(is_found(Path::new(
            "x/adc83b19e793491b1c6ea0fd8b46cd9f32e592fc"
        )));
        assert!(!is_found(Path::new("x/a-bad-name")));
        assert!(!is_found(Path::new(
            "x/overflow-in-a-name-that-is-forty-letters"
        )));
    }
}
