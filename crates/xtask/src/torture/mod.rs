//! `cargo xtask torture [scenario|all] [--seconds N]`: clients of all front
//! ends at once, faults, and what the clients were told compared with what is
//! in Kafka.
//!
//! In reading order: `ledger` has what clients were told, and the checks;
//! `world` the brokers and gateways; `workload` the clients, `node` those of
//! the npm package; `faults` what is done to them; `report` the results.

mod faults;
mod ledger;
mod node;
mod report;
mod workload;
mod world;

use crate::run;
use crate::under_test::{self, BUILT};
use anyhow::{Context as _, Result};
use faults::{SCENARIOS, Scenario};
use ledger::Findings;
use report::Report;
use std::time::{Duration, Instant};
use workload::Workload;
use world::World;

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
    for scenario in &words.scenarios {
        eprintln!("torture: {}", scenario.name);
        let started = Instant::now();
        let mut outcome = attempt(scenario, &mut world, &binary, words.length);
        let has_failed = !outcome.as_ref().is_ok_and(|found| found.broken.is_empty());
        if has_failed && let Some(world) = &world {
            eprint!("{}", world.tails());
            world.kafka.keep_folder();
        }
        if let Ok(found) = &mut outcome {
            found.broken.sort();
        }
        report.add(scenario, outcome, started.elapsed());
        if has_failed {
            // What it has left behind is nobody else's trouble.
            world = None;
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

/// One scenario, in a world that is started unless there is one.
fn attempt(
    scenario: &Scenario,
    world: &mut Option<World>,
    binary: &std::path::Path,
    length: Duration,
) -> Result<Findings> {
    if world.is_none() {
        *world = Some(World::start(binary).context("the world does not start")?);
    }
    let world = world.as_mut().context("no world")?;
    world.forget_last_words();
    (scenario.run)(&mut Stage {
        world,
        name: scenario.name,
        length,
    })
}

/// What a scenario is played on.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a mut World,
    name: &'static str,
    length: Duration,
}

impl Stage<'_> {
    /// Lets the clients work, injects the fault, once and as often as there is
    /// time for, lets everybody find back, and checks. `fault` says what may
    /// be expected when it is over.
    pub(crate) fn play(
        &mut self,
        promises: ledger::Promises,
        mut fault: impl FnMut(&mut World, &mut Workload) -> Result<()>,
    ) -> Result<Findings> {
        let mut work = Workload::start(self.world, self.name)?;
        let started = Instant::now();
        work.flows().context("before the fault")?;
        self.world.settle(&work).context("before the fault")?;
        self.tell(started, "the fault begins");
        loop {
            fault(self.world, &mut work)?;
            work.flows().context("after the fault")?;
            if started.elapsed() >= self.length {
                break;
            }
        }
        self.tell(started, "the fault is over");
        self.world.settle(&work).context("after the fault")?;
        work.ledger.healed();
        work.flows().context("when all was well again")?;
        self.tell(started, "all is well again");
        let findings = self.conclude(work, promises);
        self.tell(started, "compared");
        findings
    }

    fn tell(&self, started: Instant, what: &str) {
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("torture: {}: {seconds:5.1} s: {what}", self.name);
    }

    /// Ends the clients and compares.
    pub(crate) fn conclude(
        &self,
        mut work: Workload,
        promises: ledger::Promises,
    ) -> Result<Findings> {
        work.stop_producing(self.world)?;
        let log = work.drain(self.world)?;
        let mut findings = work.ledger.check(&log, promises);
        work.stop(self.world)?;
        findings.broken.extend(self.world.casualties());
        Ok(findings)
    }
}

/// What was typed.
struct Words {
    scenarios: Vec<&'static Scenario>,
    length: Duration,
    write_docs: bool,
    is_built: bool,
    line: String,
}

impl Words {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut words = Self {
            scenarios: Vec::new(),
            length: Duration::ZERO,
            write_docs: false,
            is_built: false,
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
    fn every_scenario_has_a_name_of_its_own() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
