//! `cargo xtask torture [scenario|all] [--seconds N]`: clients of all front
//! ends at once, faults, and what the clients were told compared with what is
//! in Kafka.
//!
//! In reading order: `ledger` has what clients were told, and the checks;
//! `world` the brokers and gateways, `certificates` what they show, `sick` what one
//! of them has to put up with; `workload` the clients, `node` those of
//! the npm package; `faults` what is done to them; `report` the results.

mod certificates;
mod faults;
mod ledger;
mod node;
mod report;
mod sick;
mod workload;
mod world;

use crate::run;
use crate::under_test::{self, BUILT};
use anyhow::{Context as _, Result};
use barnabas_testkit::Stalls;
use faults::{SCENARIOS, Scenario};
use ledger::Findings;
use report::Report;
use std::time::{Duration, Instant};
use workload::Workload;
use world::World;

/// Scenarios share clients where they can: quicker, and one failure hides the next.
pub(crate) const TOGETHER: &str = "--together";
/// What fails is played once more, in another world, and only that counts, unless something
/// is lost or there twice, and the machine did not stand still, or has panicked: where the
/// machine may do so for longer than clients wait.
pub(crate) const AGAIN: &str = "--again";

/// For which a machine may stand still and brokers believe in each other: a third less than
/// `broker.session.timeout.ms`.
const STANDSTILL: Duration = Duration::from_secs(2);

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words = Words::parse(arguments)?;
    if !words.is_built {
        run::checked(run::cargo().args(["build", "--package", "barnabas-server"]))?;
        crate::node::fetch()?;
        crate::node::build(&[])?;
    }
    let binary = under_test::debug()?;
    let mut report = Report::new(&words.line);
    let mut world: Option<World> = None;
    for scenarios in words.plays() {
        for tries_left in (0..words.tries).rev() {
            let started = Instant::now();
            let mut outcome = attempt(scenarios, &mut world, &binary, words.length);
            let has_failed = !outcome.as_ref().is_ok_and(|found| found.broken.is_empty());
            let is_certain = outcome.as_ref().is_ok_and(|found| found.is_certain);
            if has_failed && let Some(world) = &world {
                eprint!("{}", world.tails());
                world.kafka.keep_folder();
            }
            if let Ok(found) = &mut outcome {
                found.broken.sort();
            }
            report.add(scenarios, outcome, started.elapsed());
            if !has_failed {
                break;
            }
            // What it has left behind is nobody else's trouble.
            world = None;
            if is_certain || tries_left == 0 {
                break;
            }
            report.play_again();
        }
    }
    drop(world);
    report.print();
    report.write_json()?;
    if words.write_docs {
        report.write_docs()?;
    }
    report.close()
}

/// Scenarios that share their clients, in a world that is started unless there is one.
fn attempt(
    scenarios: &[&Scenario],
    world: &mut Option<World>,
    binary: &std::path::Path,
    length: Duration,
) -> Result<Findings> {
    if world.is_none() {
        *world = Some(World::start(binary).context("the world does not start")?);
    }
    let world = world.as_mut().context("no world")?;
    world.forget_last_words();
    play(world, scenarios, length)
}

/// Lets the clients work, injects each fault, once and as often as there is time
/// for, lets everybody find back, and checks.
fn play(world: &mut World, scenarios: &[&Scenario], length: Duration) -> Result<Findings> {
    let first = scenarios.first().context("no scenario")?;
    let started = Instant::now();
    let stalls = Stalls::watch();
    let tell = |what: &str| {
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("torture: {seconds:5.1} s: {what}");
    };
    let mut work = Workload::start(world, first.name)?;
    work.flows().context("before the fault")?;
    world.settle(&work).context("before the fault")?;
    work.ledger.settled();
    let mut turn = 0;
    loop {
        for scenario in scenarios {
            tell(scenario.name);
            let injected = (scenario.inject)(world, &mut work, turn);
            injected.context(scenario.name)?;
            let goes_on = work.flows();
            goes_on.with_context(|| format!("after {}", scenario.name))?;
        }
        turn += 1;
        if started.elapsed() >= length {
            break;
        }
    }
    tell("the fault is over");
    world.settle(&work).context("after the fault")?;
    if first.promises.replies_may_be_lost {
        work.ledger.may_lose();
    }
    work.ledger.healed();
    work.flows().context("when all was well again")?;
    tell("all is well again");
    work.stop_producing(world)?;
    let log = work.drain(world, first.promises)?;
    let mut findings = work.ledger.check(&log, &world.set_aside()?, first.promises);
    work.stop(world)?;
    // Brokers may have been taken for gone, and what was on its way come twice.
    findings.is_certain &= stalls.longest() < STANDSTILL;
    findings.add_certain("processes are not well", &world.casualties());
    tell("compared");
    Ok(findings)
}

/// What was typed.
struct Words {
    scenarios: Vec<&'static Scenario>,
    length: Duration,
    write_docs: bool,
    is_built: bool,
    together: bool,
    tries: usize,
    line: String,
}

impl Words {
    /// Which scenarios share their clients: each has its own, or, if that is asked for,
    /// those that stand beside each other and promise the same have the same.
    fn plays(&self) -> impl Iterator<Item = &[&'static Scenario]> {
        let share = |one: &&Scenario, other: &&Scenario| {
            self.together && one.promises == other.promises && !one.is_alone && !other.is_alone
        };
        self.scenarios.chunk_by(share)
    }

    fn parse(arguments: &[String]) -> Result<Self> {
        let mut words = Self {
            scenarios: Vec::new(),
            length: Duration::ZERO,
            write_docs: false,
            is_built: false,
            together: false,
            tries: 1,
            line: arguments
                .iter()
                .filter(|word| !matches!(word.as_str(), BUILT | "--write-docs"))
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" "),
        };
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(word) = rest.next() {
            match word {
                "all" => words.scenarios.extend(SCENARIOS),
                "--seconds" => {
                    let seconds = rest.next().context("--seconds N")?;
                    words.length = Duration::from_secs(seconds.parse()?);
                }
                "--write-docs" => words.write_docs = true,
                BUILT => words.is_built = true,
                TOGETHER => words.together = true,
                AGAIN => words.tries = 2,
                name => {
                    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
                    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
                    words.scenarios.push(found.with_context(|| {
                        format!(
                            "no such scenario: {name}; there are: all, {}",
                            names.join(", ")
                        )
                    })?);
                }
            }
        }
        if words.scenarios.is_empty() {
            words.scenarios.extend(SCENARIOS);
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::{SCENARIOS, Words};

    fn parsed(line: &str) -> anyhow::Result<Words> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Words::parse(&arguments)
    }

    #[test]
    fn scenarios_are_chosen_by_name() -> anyhow::Result<()> {
        for (line, count) in [
            ("", SCENARIOS.len()),
            ("all", SCENARIOS.len()),
            ("kill-brokers", 1),
        ] {
            assert_eq!(parsed(line)?.scenarios.len(), count, "{line}");
        }
        let words = parsed("kill-brokers --seconds 60 --built")?;
        assert_eq!((words.length.as_secs(), words.is_built), (60, true));
        assert_eq!(words.line, "kill-brokers --seconds 60");
        assert!(parsed("kill-everybody").is_err());
        assert!(parsed("--seconds").is_err());
        Ok(())
    }

    #[test]
    fn scenarios_that_promise_the_same_share_clients_if_asked_to() -> anyhow::Result<()> {
        let names = |line: &str| {
            let words = parsed(line)?;
            let plays = words.plays();
            let plays = plays.map(|play| play.iter().map(|one| one.name).collect());
            Ok::<Vec<Vec<&str>>, anyhow::Error>(plays.collect())
        };
        let line = "kill-brokers pause-brokers recreate-topic slow-disk full-disk";
        assert_eq!(names(line)?.len(), 5);
        assert_eq!(
            names(&format!("{line} --together"))?,
            [
                &["kill-brokers", "pause-brokers"][..],
                &["recreate-topic"],
                &["slow-disk", "full-disk"]
            ]
        );
        Ok(())
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
