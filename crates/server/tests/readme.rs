//! The session in the README works as shown.

use crate::support::binary;
use barnabas_testkit::{Gateway, tools};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is typed and what comes back, from the README's session.
fn session() -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text
        .split("```")
        .find(|block| block.trim_start().starts_with("$ redis-cli"))
        .expect("a block that begins with $ redis-cli");
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        if let Some((_, typed)) = line.split_once("6380> ") {
            steps.push((typed.to_owned(), Vec::new()));
        } else if let Some((_, shown)) = steps.last_mut() {
            shown.push(line.to_owned());
        }
    }
    steps
}

#[test]
fn the_readmes_session_works_as_shown() {
    let steps = session();
    assert_eq!(steps.len(), 4, "{steps:?}");
    let gateway = Gateway::spawn(&binary(), &["dev", "--port", "0"]).unwrap();
    let cli = tools::ensure_program("redis-cli", "redis-tools").unwrap();
    let typed: String = steps
        .iter()
        .map(|(typed, _)| format!("{typed}\n"))
        .collect();
    let enter = || -> Vec<String> {
        let mut child = Command::new(&cli)
            .args(["-p", &gateway.port().to_string(), "--no-raw"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(typed.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            // How long a command took, which redis-cli shows when it took long.
            .filter(|line| !line.is_empty() && !line.ends_with("s)"))
            .map(str::to_owned)
            .collect()
    };
    let got = enter();
    let mut expected: Vec<String> = steps
        .into_iter()
        .flat_map(|(_, shown)| shown)
        .filter(|line| !line.is_empty())
        .collect();
    // The partition is random, as the README says.
    let partition = expected
        .iter()
        .position(|line| line.starts_with("4) (integer)"))
        .unwrap();
    expected[partition].clone_from(&got[partition]);
    assert_eq!(got, expected);
    assert!(got[partition].starts_with("4) (integer)"));
    // And once more: the group is there already.
    assert_eq!(enter().len(), expected.len());
}
