//! Nothing stays behind: not after SIGKILL, not from a `static`, not after a panic.
//!
//! Each test runs this test binary again, filtered to itself, with a variable that makes it play
//! the part of the process that ends.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use barnabas_testkit::{Cluster, Gateway, shared};

const PART: &str = "BARNABAS_TESTKIT_LEFTOVERS_PART";

fn plays_the_part() -> bool {
    env::var_os(PART).is_some()
}

fn play(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", &format!("leftovers::{test}")])
        .env(PART, "1");
    command
}

fn say(word: &str, value: impl std::fmt::Display) {
    println!("\n{word}={value}");
}

fn said(output: &str, word: &str) -> Option<String> {
    output
        .lines()
        .find_map(|line| Some(line.strip_prefix(word)?.strip_prefix('=')?.to_owned()))
}

fn said_by(output: &Output, word: &str) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    said(&stdout, word).unwrap_or_else(|| panic!("no {word} in {output:?}"))
}

/// Reads the child's output until it has said all of `words`.
fn listen(child: &mut Child, words: &[&str]) -> Vec<String> {
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        text.push_str(&line.unwrap());
        text.push('\n');
        let found: Vec<String> = words.iter().filter_map(|word| said(&text, word)).collect();
        if found.len() == words.len() {
            return found;
        }
    }
    panic!("the child ended: {text}");
}

/// Whether there is such a process that is more than a zombie; the reaper of orphans may be slow.
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

fn assert_ends(pid: &str) {
    let started = Instant::now();
    while runs(pid) {
        assert!(started.elapsed() < Duration::from_secs(10), "{pid} runs on");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The folder of the cluster that a broker belongs to.
fn folder(cluster: &Cluster) -> PathBuf {
    let log = cluster.broker(0).log_path().unwrap();
    log.ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn a_process_killed_with_sigkill_leaves_no_child() {
    if plays_the_part() {
        let cluster = Cluster::builder().start().unwrap();
        let gateway = Gateway::spawn(
            Path::new("/bin/sh"),
            &["-c", "echo Listening on 127.0.0.1:1 >&2; exec sleep 600"],
        )
        .unwrap();
        say("broker", cluster.broker(0).pid().unwrap());
        say("gateway", gateway.pid());
        // Not even SIGSTOP keeps it.
        cluster.broker(0).pause().unwrap();
        say("folder", folder(&cluster).display());
        thread::sleep(Duration::from_secs(600));
        return;
    }
    let mut child = play("a_process_killed_with_sigkill_leaves_no_child")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let [broker, gateway, folder] = &listen(&mut child, &["broker", "gateway", "folder"])[..]
    else {
        panic!("three words were asked for");
    };
    assert!(runs(broker) && runs(gateway));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ends(broker);
    assert_ends(gateway);

    // Nobody could remove the folder then; whoever starts a cluster next does.
    let cluster = Cluster::builder().start().unwrap();
    assert!(!Path::new(folder).exists());
    drop(cluster);
}

#[test]
fn a_child_does_not_end_with_the_thread_that_started_it() {
    let gateway = thread::spawn(|| {
        Gateway::spawn(
            Path::new("/bin/sh"),
            &["-c", "echo Listening on 127.0.0.1:1 >&2; exec sleep 600"],
        )
        .unwrap()
    })
    .join()
    .unwrap();
    // The kernel sends the signal while the thread ends, which join has waited for.
    assert_eq!(gateway.status().unwrap(), None);
}

#[test]
fn a_cluster_in_a_static_ends_with_the_process() {
    if plays_the_part() {
        say("broker", shared().broker(0).pid().unwrap());
        say("folder", folder(shared()).display());
        return;
    }
    let output = play("a_cluster_in_a_static_ends_with_the_process")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ends(&said_by(&output, "broker"));
    assert!(!Path::new(&said_by(&output, "folder")).exists());
}

#[test]
fn a_panic_ends_the_cluster_and_keeps_its_folder() {
    if plays_the_part() {
        let cluster = Cluster::builder().start().unwrap();
        say("broker", cluster.broker(0).pid().unwrap());
        say("folder", folder(&cluster).display());
        panic!("as a failing test does");
    }
    let output = play("a_panic_ends_the_cluster_and_keeps_its_folder")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_ends(&said_by(&output, "broker"));
    let folder = said_by(&output, "folder");
    assert!(Path::new(&folder).join("broker-0/broker.log").exists());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("kept for a day: {folder}")),
        "{stderr}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}
