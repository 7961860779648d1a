//! Names come back.

use crate::support::{Client, Gateway, Reply, bulk, error, eventually, fill, new_topic};
use barnabas_testkit::{Quickest, shared, topic_name};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a busy machine gets on top of the contract's 100 ms.
const SLACK: Duration = Duration::from_millis(300);

#[test]
fn a_name_is_free_as_soon_as_quit_is_answered() {
    let gateway = Gateway::start();
    for round in 0..1_000 {
        let mut client = gateway.connect();
        let reply = client.call(&["CLIENT", "SETNAME", "group:name"]);
        assert_eq!(reply, bulk("OK"), "round {round}");
        // The next one comes before the end of the file does.
        assert_eq!(client.call(&["QUIT"]), bulk("OK"));
    }
}

#[test]
fn a_name_is_held_once_and_its_holder_may_say_it_again() {
    let gateway = Gateway::start();
    let mut holder = gateway.named("g:1");
    let mut other = gateway.connect();
    let set = |client: &mut Client, name: &str| client.call(&["client", "setname", name]);
    assert_eq!(
        set(&mut other, "g:1"),
        error("CONS id g:1 is already taken")
    );
    assert_eq!(set(&mut holder, "g:1"), bulk("OK"));
    let text = "CONS Client ID is already set to g:1";
    assert_eq!(set(&mut holder, "g:2"), error(text));
    assert_eq!(holder.call(&["client", "getname"]), bulk("g:1"));
    assert_eq!(set(&mut other, "g:2"), bulk("OK"));
    assert_eq!(
        set(&mut other, "g:1"),
        error("CONS id g:1 is already taken")
    );
    // Without QUIT: whoever asks next waits for the clean-up instead of failing.
    drop(holder);
    gateway.named("g:1").quit();
}

#[test]
fn a_client_that_vanishes_while_it_waits_frees_its_name_and_its_partitions() {
    let gateway = Gateway::start();
    let topic = new_topic("vanish", 2);
    let group = topic_name("vanish");
    let name = format!("{group}:victim");
    let mut other = gateway.named(&format!("{group}:heir"));
    // Regularly, and with unread replies, which makes it a reset.
    for ends_with_reset in [false, true] {
        let mut is_free = Quickest::of(5, Duration::from_millis(100) + SLACK);
        // Nobody waits for the end of its session, which takes 45.
        let mut has_left = Quickest::of(5, Duration::from_secs(5));
        while is_free.is_missing() || has_left.is_missing() {
            let mut victim = gateway.named(&name);
            assert_eq!(victim.pop(&topic, "0.1"), None);
            eventually("two members with a partition each", || {
                assert_eq!(other.pop(&topic, "0.1"), None);
                let members = shared().group_members(&group).unwrap();
                let share = |count| {
                    members
                        .iter()
                        .filter(|one| one.assigned.len() == count)
                        .count()
                };
                (members.len() == 2 && share(1) == 2).then_some(())
            });
            if ends_with_reset {
                victim.send(&["ping"]);
            }
            victim.send(&["blpop", &format!("topics:{topic}"), "60"]);
            // More commands wait behind it than the sockets hold.
            victim.send_all(&vec![vec!["ping"]; 20_000]);
            eventually("a waiting client", || {
                let Reply::Bulk(list) = other.call(&["client", "list"]) else {
                    panic!("no list");
                };
                let list = String::from_utf8(list).unwrap();
                let waits = |line: &str| line.contains(&name) && line.contains("flags=b");
                list.lines().any(waits).then_some(())
            });
            drop(victim);
            let dropped = Instant::now();
            let successor = gateway.named(&name);
            is_free.took(dropped.elapsed());
            successor.quit();

            // It has left the group, too.
            fill(&topic, 2, 1);
            let mut partitions = BTreeSet::new();
            while partitions.len() < 2 {
                let message = other.next(&topic);
                other.ack(&message);
                partitions.insert(message.partition);
            }
            has_left.took(dropped.elapsed());
        }
    }
}
