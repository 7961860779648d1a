//! How long BLPOP waits: never early, and hardly late.

use crate::support::{Client, Gateway, LATE, new_topic};
use barnabas_testkit::{Quickest, shared, topic_name};
use std::time::{Duration, Instant};

#[test]
fn blpop_waits_as_long_as_it_was_told() {
    let gateway = Gateway::start();
    let topic = new_topic("timeouts", 1);
    let key = format!("topics:{topic}");
    let named = || gateway.named(&format!("{}:one", topic_name("timeouts")));
    let wait = |client: &mut Client, timeout: &[&str], told: Duration| {
        let command = [&["blpop", key.as_str()], timeout].concat();
        let started = Instant::now();
        client.send(&command);
        client.expect("*-1\r\n");
        let elapsed = started.elapsed();
        assert!(elapsed >= told, "{timeout:?}: {elapsed:?}");
        elapsed
    };
    // While the group is being joined: another one each time.
    let told = Duration::from_millis(300);
    let mut quickest = Quickest::of(5, told + LATE);
    while quickest.is_missing() {
        quickest.took(wait(&mut named(), &["0.3"], told));
    }
    let mut client = named();
    let cases: [(&[&str], u64); 6] = [
        (&["0.05"], 50),
        (&["0.3"], 300),
        (&["1"], 1_000),
        (&["1.0"], 1_000),
        (&[], 5_000),
        (&["soon"], 5_000),
    ];
    for (timeout, milliseconds) in cases {
        let told = Duration::from_millis(milliseconds);
        let mut quickest = Quickest::of(5, told + LATE);
        while quickest.is_missing() {
            quickest.took(wait(&mut client, timeout, told));
        }
    }
}

#[test]
fn blpop_without_limit_waits_for_a_message() {
    let gateway = Gateway::start();
    let topic = new_topic("no-limit", 1);
    let mut client = gateway.named(&format!("{}:one", topic_name("no-limit")));
    client.send(&["blpop", &format!("topics:{topic}"), "0"]);
    // Longer than a client would be told "nothing" by mistake: zero is no time-out.
    assert!(!client.hears(Duration::from_millis(1_200)));
    shared().produce(&topic, None, None, Some(b"late")).unwrap();
    assert!(client.hears(crate::support::PATIENCE));
    let message = crate::support::Message::from_reply(&client.reply());
    assert_eq!(message.value, "late");
    // One that waits so ends with its connection, and its name is free.
    client.send(&["blpop", &format!("topics:{topic}"), "0"]);
    drop(client);
}
