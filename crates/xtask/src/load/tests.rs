//! The chores with few clients and for seconds, on the debug build.

use super::{Options, fleet, idle, mixed, overload, soak};
use crate::report::{Place, Report};
use crate::under_test;
use std::time::Duration;

fn small() -> Options {
    Options {
        parts: Vec::new(),
        connections: 150,
        length: Duration::from_secs(1),
        soak: Duration::from_secs(5),
        is_built: true,
        write_docs: false,
        line: String::new(),
    }
}

fn report() -> Report {
    Report::new(Place {
        json: "load/test".to_owned(),
        page: "load",
        heading: "Test".to_owned(),
        words: String::new(),
    })
}

#[test]
fn idle_and_mixed_connections_are_served() -> anyhow::Result<()> {
    let (binary, mut report) = (under_test::debug()?, report());
    idle::run(&binary, &small(), &mut report)?;
    mixed::run(&binary, &small(), &mut report)?;
    report.close("load")
}

#[test]
fn who_is_too_much_is_told_so() -> anyhow::Result<()> {
    let [_, at_once, _] = overload::CASES;
    overload::one(&under_test::debug()?, &small(), at_once, &mut report())
}

#[test]
fn streams_go_on_for_as_long_as_they_are_soaked() -> anyhow::Result<()> {
    let mut report = report();
    soak::run(&under_test::debug()?, &small(), &mut report)?;
    report.close("soak")
}

#[test]
fn a_fleet_delivers_and_survives_a_kill() -> anyhow::Result<()> {
    fleet::small(&under_test::debug()?, &small(), &mut report())
}

#[test]
fn options_are_numbers_behind_their_names() -> anyhow::Result<()> {
    let parsed = |line: &str| {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&arguments)
    };
    let options = parsed("--connections 500 --seconds 3 --minutes 2 --built --write-docs")?;
    let times = (options.length.as_secs(), options.soak.as_secs());
    assert_eq!((options.connections, times), (500, (3, 120)));
    assert!(options.is_built && options.write_docs);
    assert_eq!(
        options.line,
        "--connections 500 --seconds 3 --minutes 2 --built"
    );
    assert_eq!(options.judge(true), None);
    assert_eq!(parsed("")?.judge(false), Some(false));
    assert!(parsed("overload")?.has("overload") && !parsed("overload")?.has("connections"));
    assert!(parsed("--connections").is_err());
    assert!(parsed("much").is_err());
    Ok(())
}
