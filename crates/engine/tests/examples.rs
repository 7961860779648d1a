//! The programs in `examples/` work as their documentation says.

use barnabas_testkit::{shared, topic_name};
use std::process::Command;

/// Builds and runs an example. Cargo has no variable for their paths, as it has
/// for binaries. With the whole workspace it is what `cargo test --workspace`
/// has built; alone, its dependencies would be built again with other features.
fn run(example: &str, arguments: &[&str]) -> String {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--example", example])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&build.stderr);
    assert!(build.status.success(), "{example}: {stderr}");
    let own = std::env::current_exe().unwrap();
    let profile = own.ancestors().nth(2).unwrap();
    let output = Command::new(profile.join("examples").join(example))
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_run_on_an_embedded_cluster() {
    let produced = run("produce", &[]);
    assert!(
        produced.starts_with("9 delivered, 0 failed\n"),
        "{produced}"
    );
    assert!(produced.contains("order 9 is orders ["), "{produced}");
    let outbox = run("outbox", &[]);
    assert!(outbox.starts_with("delivered to orders ["), "{outbox}");
    assert!(outbox.ends_with("0 messages are left\n"), "{outbox}");
    let consumed = run("consume", &[]);
    assert_eq!(consumed.matches("order ").count(), 5, "{consumed}");
    assert!(consumed.ends_with("5 acknowledged\n"), "{consumed}");
}

#[test]
fn the_examples_run_on_real_brokers() {
    let brokers = shared().bootstrap_servers();
    let (topic, group) = (topic_name("example"), topic_name("example"));
    shared().create_topic(&topic, 1).unwrap();
    let other = topic_name("example");
    shared().create_topic(&other, 1).unwrap();
    let sent = run("outbox", &[&brokers, &other]);
    assert!(sent.ends_with("0 messages are left\n"), "{sent}");
    assert_eq!(shared().end_offsets(&other).unwrap()[&0], 5);
    let produced = run("produce", &[&brokers, &topic]);
    assert!(
        produced.ends_with(&format!("order 9 is {topic} [0] at 9\n")),
        "{produced}"
    );
    let consumed = run("consume", &[&brokers, &topic, &group]);
    let expected: String = (0..10)
        .map(|number| format!("{topic} [0] {number}: order {number}\n"))
        .collect();
    assert_eq!(consumed, expected + "10 acknowledged\n");
    assert_eq!(shared().committed(&group, &topic).unwrap()[&0], 10);
}
