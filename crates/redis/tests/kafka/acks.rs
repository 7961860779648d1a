//! What Kafka has when.

use crate::support::{Gateway, Reply, error, eventually, fill, new_topic};
use barnabas_redis::Config;
use barnabas_testkit::{Quickest, shared, topic_name};
use std::time::{Duration, Instant};

fn committed(group: &str, topic: &str) -> Option<i64> {
    shared().committed(group, topic).unwrap().get(&0).copied()
}

/// What QUIT or the end of a connection commits may be on its way for a moment more.
fn until_committed(group: &str, topic: &str, offset: i64) {
    eventually("the commit", || {
        (committed(group, topic) == Some(offset)).then_some(())
    });
}

#[test]
fn an_ack_is_committed_within_the_interval() {
    let gateway = Gateway::start();
    let topic = new_topic("interval", 1);
    let group = topic_name("interval");
    fill(&topic, 1, 4);
    let mut client = gateway.named(&format!("{group}:one"));
    let mut acked = 0;
    // A second by configuration, and two for the machine.
    let mut quickest = Quickest::of(3, Duration::from_secs(3));
    while quickest.is_missing() {
        let message = client.next(&topic);
        let since = Instant::now();
        client.ack(&message);
        acked += 1;
        eventually("the commit", || {
            (committed(&group, &topic) == Some(acked)).then_some(())
        });
        quickest.took(since.elapsed());
    }
    // Without a further ack nothing changes, also when the connection ends without a word.
    client.next(&topic);
    drop(client);
    eventually("the end of the group", || {
        shared()
            .group_members(&group)
            .unwrap()
            .is_empty()
            .then_some(())
    });
    assert_eq!(committed(&group, &topic), Some(acked));
}

#[test]
fn what_was_not_acked_comes_again() {
    let gateway = Gateway::start();
    let topic = new_topic("again", 1);
    let group = topic_name("again");
    let name = format!("{group}:one");
    fill(&topic, 1, 10);
    let mut client = gateway.named(&name);
    let seen: Vec<_> = (0..5).map(|_| client.next(&topic)).collect();
    for message in &seen[..3] {
        client.ack(message);
    }
    client.quit();
    until_committed(&group, &topic, 3);

    let mut client = gateway.named(&name);
    assert_eq!(client.next(&topic), seen[3]);
    assert_eq!(client.next(&topic), seen[4]);
    client.ack(&seen[3]);
    drop(client);
    // The end of the connection commits as well.
    until_committed(&group, &topic, 4);
    let mut client = gateway.named(&name);
    assert_eq!(client.next(&topic), seen[4]);
}

#[test]
fn the_last_ack_wins_and_covers_all_before() {
    let gateway = Gateway::start();
    let topic = new_topic("last-wins", 1);
    let group = topic_name("last-wins");
    let name = format!("{group}:one");
    fill(&topic, 1, 10);
    let mut client = gateway.named(&name);
    client.next(&topic);
    let ack = |offset: i64| format!("{topic}:0:{offset}");
    let one = Reply::Integer(1);
    assert_eq!(client.call(&["rpush", "acks", &ack(7)]), one);
    until_committed(&group, &topic, 8);
    assert_eq!(client.call(&["rpush", "acks", &ack(2)]), one);
    client.quit();
    until_committed(&group, &topic, 3);

    let mut client = gateway.named(&name);
    assert_eq!(client.next(&topic).offset, 3);
    // Beyond the end is accepted, and so is -1, which means the very first message.
    assert_eq!(client.call(&["rpush", "acks", &ack(1_000)]), one);
    assert_eq!(client.call(&["rpush", "acks", &ack(-1)]), one);
    client.quit();
    until_committed(&group, &topic, 0);
}

#[test]
fn acks_are_stored_together_or_not_at_all() {
    let gateway = Gateway::start();
    let topic = new_topic("together", 1);
    let group = topic_name("together");
    fill(&topic, 1, 10);
    let mut client = gateway.named(&format!("{group}:one"));
    let ack = |offset: i64| format!("{topic}:0:{offset}");
    let nobody = format!("CONS No consumer registered for Client {group}:one");
    assert_eq!(client.call(&["rpush", "acks", &ack(1)]), error(&nobody));
    client.next(&topic);
    for (bad, text) in [
        ("nonsense".to_owned(), "CONS Cannot parse ack: 'nonsense'"),
        (ack(-2), "CONS offset cannot be negative, got -1"),
        ("unheard-of:0:1".to_owned(), "CONS Local: Unknown partition"),
        (format!("{topic}:9:1"), "CONS Local: Unknown partition"),
    ] {
        assert_eq!(client.call(&["rpush", "acks", &bad]), error(text));
        let both = client.call(&["rpush", "acks", &ack(5), &bad]);
        assert_eq!(both, error(text), "after a good one");
        let both = client.call(&["rpush", "acks", &bad, &ack(5)]);
        assert_eq!(both, error(text), "before a good one");
    }
    let acks = [ack(1), ack(2), ack(3)];
    let reply = client.call(&["rpush", "acks", &acks[0], &acks[1], &acks[2]]);
    assert_eq!(reply, Reply::Integer(3));
    assert_eq!(client.stat("consumer.acks.stored"), 3);
    client.quit();
    until_committed(&group, &topic, 4);
}

#[test]
fn a_batch_acks_the_last_of_each_partition() {
    let gateway = Gateway::start();
    let topic = new_topic("batch", 3);
    let group = topic_name("batch");
    fill(&topic, 3, 20);
    let mut client = gateway.named(&format!("{group}:one"));
    let mut last = std::collections::BTreeMap::new();
    for _ in 0..60 {
        let message = client.next(&topic);
        last.insert(message.partition, message);
    }
    for message in last.values() {
        client.ack(message);
    }
    client.quit();
    eventually("the commit", || {
        let committed = shared().committed(&group, &topic).unwrap();
        committed.into_values().eq([20, 20, 20]).then_some(())
    });
}

#[test]
fn the_old_systems_commit_settings_are_honoured() {
    let topic = new_topic("settings", 1);
    fill(&topic, 1, 10);
    // The group remembers nothing; acks are answered nevertheless.
    let gateway = Gateway::with(shared(), Config::default(), |config| {
        config.consumer.set("enable.auto.commit", "false");
    });
    let group = topic_name("no-commit");
    for _ in 0..2 {
        let mut client = gateway.named(&format!("{group}:one"));
        let message = client.next(&topic);
        assert_eq!(message.offset, 0);
        client.ack(&message);
        client.quit();
        assert_eq!(committed(&group, &topic), None);
    }
    // Delivery is the ack; by the connection's own configuration.
    let group = topic_name("auto-store");
    let own = format!("{topic}:{{\"enable.auto.offset.store\":true,\"enable.auto.commit\":true}}");
    let mut client = gateway.named(&format!("{group}:one"));
    for offset in 0..4 {
        assert_eq!(client.next(&own).offset, offset);
    }
    let without_effect = client.call(&["rpush", "acks", &format!("{topic}:0:8")]);
    assert_eq!(without_effect, Reply::Integer(1));
    client.quit();
    until_committed(&group, &topic, 4);
}
