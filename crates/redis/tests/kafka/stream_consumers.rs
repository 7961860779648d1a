//! Section 13.3: who a consumer of streams is, what it may hold, and when it ends.

use crate::streams::{Reader, entries, offsets, start, wait_until_committed};
use crate::support::{
    Client, Gateway, LATE, PATIENCE, Reply, bulk, error, eventually, fill, new_topic,
};
use barnabas_redis::Config;
use barnabas_testkit::{NewRecord, Quickest, shared, topic_name};
use std::time::{Duration, Instant};

/// A gateway whose idle consumers end soon.
fn impatient(idle: Duration) -> Gateway {
    let config = Config {
        stream_idle: idle,
        ..Config::default()
    };
    Gateway::with_streams(shared(), config)
}

#[test]
fn a_consumer_belongs_to_no_connection() {
    let gateway = start();
    let (topic, group) = (new_topic("pool", 1), topic_name("pool"));
    fill(&topic, 1, 9);
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut pool: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    let mut ids = Vec::new();
    for client in &mut pool {
        ids.extend(client.read_count(&of, 3).into_iter().map(|entry| entry.id));
    }
    // Every connection sees all that the consumer holds, behind the id that is given.
    for client in &mut pool {
        assert_eq!(
            offsets(&client.read_group(&of, &["BLOCK", "0"], "0")),
            (0..9).collect::<Vec<_>>()
        );
        assert_eq!(
            offsets(&client.read_group(&of, &["COUNT", "2"], "5-0")),
            [6, 7]
        );
    }
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(pool[2].xack(&of, &all[..4]), 4);
    drop(pool);
    // A crash: what was not acknowledged is found again.
    let mut client = gateway.connect();
    assert_eq!(offsets(&client.read_group(&of, &[], "0")), [4, 5, 6, 7, 8]);
    // Another consumer of the group has got none of them.
    let other = Reader {
        name: "other",
        ..of
    };
    assert_eq!(client.read_group(&other, &[], "0"), []);
    assert_eq!(client.read_group(&other, &["BLOCK", "100"], ">"), []);
    assert_eq!(client.xack(&of, &all[4..]), 5);
    wait_until_committed(&of, 9);
}

#[test]
fn names_are_claimed_like_those_of_connections() {
    let gateway = start();
    let (topic, group) = (new_topic("claims", 1), topic_name("claims"));
    let key = format!("topics:{topic}");
    let name = format!("{group}:c");
    let taken = error(&format!("CONS id {name} is already taken"));
    let read = ["XREADGROUP", "GROUP", &group, "c", "STREAMS", &key, ">"];

    let mut named = gateway.named(&name);
    let mut other = gateway.connect();
    assert_eq!(other.call(&read), taken);
    // Its own is no obstacle, and then the name is the consumer's.
    assert_eq!(named.call(&read), Reply::NullArray);
    assert_eq!(other.call(&read), Reply::NullArray);
    assert_eq!(other.call(&["CLIENT", "SETNAME", &name]), taken);
    named.quit();
    // It comes back and finds its consumer.
    let mut named = gateway.connect();
    named.set_name(&name);
    named.quit();
    let delete = ["XGROUP", "DELCONSUMER", &key, &group, "c"];
    assert_eq!(other.call(&delete), Reply::Integer(0));

    // Without a connection of that name it is nobody else's.
    assert_eq!(other.call(&read), Reply::NullArray);
    let mut third = gateway.connect();
    assert_eq!(third.call(&["CLIENT", "SETNAME", &name]), taken);
    assert_eq!(other.call(&delete), Reply::Integer(0));
    third.set_name(&name);

    for (consumer, text) in [
        (
            "a\nb",
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        (
            &*"x".repeat(1_025),
            "ERR Names of groups and consumers may have up to 1024 bytes",
        ),
    ] {
        let reply = other.call(&["XREADGROUP", "GROUP", "g", consumer, "STREAMS", &key, ">"]);
        assert_eq!(reply, error(text));
    }
    let reply = other.call(&["XREADGROUP", "GROUP", "", "c", "STREAMS", &key, ">"]);
    assert_eq!(reply, error("CONS Broker: Invalid group.id"));
}

#[test]
fn a_silent_consumer_is_succeeded() {
    // Far longer than reading and acknowledging takes, or the busy one is idle as well.
    const IDLE: Duration = Duration::from_secs(10);
    let gateway = impatient(IDLE);
    let (topic, group) = (new_topic("idle", 1), topic_name("idle"));
    fill(&topic, 1, 202);
    let silent = Reader {
        group: &group,
        name: "silent",
        topic: &topic,
    };
    let busy = Reader {
        name: "busy",
        ..silent
    };
    let heir = Reader {
        name: "heir",
        ..silent
    };
    let mut client = gateway.connect();
    assert_eq!(offsets(&client.read_count(&silent, 1)), [0]);
    // Before it is heard of for the last time.
    let since = Instant::now();
    assert_eq!(offsets(&client.read_count(&silent, 1)), [1]);
    let held = client.read_count(&busy, 200);
    // XACK keeps the one alive whose entries it is about, and not the other.
    let mut got = Vec::new();
    let mut acked = 0;
    while got.len() < 2 {
        assert_eq!(client.xack(&busy, &[&held[acked].id]), 1);
        acked += 1;
        got.extend(client.read_group(&heir, &["BLOCK", "200"], ">"));
        assert!(since.elapsed() < PATIENCE, "nobody succeeds");
    }
    assert!(since.elapsed() >= IDLE, "{:?}", since.elapsed());
    assert_eq!(offsets(&got), [0, 1]);
    assert_eq!(client.read_group(&silent, &[], "0"), []);
    let left = client.read_group(&busy, &["COUNT", "200"], "0");
    assert_eq!(left.len(), 200 - acked);
}

#[test]
fn waiting_is_not_idling() {
    let gateway = impatient(Duration::from_millis(500));
    let (topic, group) = (new_topic("waiting", 1), topic_name("waiting"));
    let name = format!("{group}:c");
    let mut client = gateway.connect();
    let mut other = gateway.connect();
    let since = Instant::now();
    client.send(&[
        "XREADGROUP",
        "GROUP",
        &group,
        "c",
        "BLOCK",
        "6000",
        "STREAMS",
        &format!("topics:{topic}"),
        ">",
    ]);
    let taken = error(&format!("CONS id {name} is already taken"));
    // Sooner the name would be free, and then this connection's.
    other.until_blocked(1);
    while since.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(other.call(&["CLIENT", "SETNAME", &name]), taken);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.reply(), Reply::NullArray);
    // Then it is.
    eventually("the name is free", || {
        (other.call(&["CLIENT", "SETNAME", &name]) == bulk("OK")).then_some(())
    });
}

#[test]
fn a_consumer_that_is_deleted_leaves_its_entries_to_others() {
    let gateway = start();
    let (topic, group) = (new_topic("delete", 1), topic_name("delete"));
    let key = format!("topics:{topic}");
    fill(&topic, 1, 3);
    let first = Reader {
        group: &group,
        name: "first",
        topic: &topic,
    };
    let second = Reader {
        name: "second",
        ..first
    };
    let mut client = gateway.connect();
    client.read_count(&first, 3);
    client.xack(&first, &["1-0"]);
    let delete = ["XGROUP", "DELCONSUMER", &key, &group, "first"];
    assert_eq!(client.call(&delete), Reply::Integer(2));
    assert_eq!(client.call(&delete), Reply::Integer(0));
    assert_eq!(offsets(&client.read_count(&second, 2)), [0, 2]);
    // One that waits for entries begins anew.
    let mut waiting = gateway.connect();
    waiting.send(&[
        "XREADGROUP",
        "GROUP",
        &group,
        "third",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ]);
    let create = ["XGROUP", "CREATECONSUMER", &key, &group, "third"];
    eventually("it waits", || match client.call(&create) {
        Reply::Integer(0) => Some(()),
        _ => {
            // Made here, before it came.
            client.call(&["XGROUP", "DELCONSUMER", &key, &group, "third"]);
            None
        }
    });
    assert_eq!(
        client.call(&["XGROUP", "DELCONSUMER", &key, &group, "third"]),
        Reply::Integer(0)
    );
    client.xadd(&topic, "late");
    let reply = waiting.reply();
    assert_eq!(offsets(&entries(&reply)[0].1), [3]);
    let third = Reader {
        name: "third",
        ..first
    };
    assert_eq!(offsets(&client.read_group(&third, &[], "0")), [3]);
    assert_eq!(client.call(&create), Reply::Integer(0));
}

#[test]
fn delivery_is_the_acknowledgement_with_noack() {
    let gateway = start();
    let (topic, group) = (new_topic("noack", 1), topic_name("noack"));
    fill(&topic, 1, 5);
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    let mut got = Vec::new();
    eventually("all of them", || {
        got.extend(client.read_group(&of, &["NOACK", "COUNT", "5", "BLOCK", "1000"], ">"));
        (got.len() == 5).then_some(())
    });
    assert_eq!(client.read_group(&of, &[], "0"), []);
    wait_until_committed(&of, 5);
}

#[test]
fn a_consumer_holds_ten_thousand_entries_at_most() {
    let gateway = start();
    let (topic, group) = (new_topic("entries", 2), topic_name("entries"));
    fill(&topic, 2, 5_100);
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    let got = client.read_count(&of, 10_000);
    assert_eq!(got.len(), 10_000);
    let told = Duration::from_millis(300);
    let mut quickest = Quickest::of(5, told + LATE);
    while quickest.is_missing() {
        let since = Instant::now();
        assert_eq!(client.read_group(&of, &["BLOCK", "300"], ">"), []);
        let elapsed = since.elapsed();
        assert!(elapsed >= told, "{elapsed:?}");
        quickest.took(elapsed);
    }
    // Others get theirs; and room is used at once, by one who waits already.
    let other = Reader {
        name: "other",
        ..of
    };
    assert_eq!(client.read_count(&other, 50).len(), 50);
    let mut waiting = gateway.connect();
    waiting.send(&[
        "XREADGROUP",
        "GROUP",
        &group,
        "c",
        "BLOCK",
        "20000",
        "STREAMS",
        &format!("topics:{topic}"),
        ">",
    ]);
    assert!(!waiting.hears(Duration::from_millis(200)));
    assert_eq!(client.xack(&of, &[&got[17].id, &got[18].id]), 2);
    let reply = waiting.reply();
    assert_eq!(entries(&reply)[0].1.len(), 2);
    // Nothing is held that was acknowledged by itself.
    assert_eq!(
        client.read_group(&of, &["NOACK", "COUNT", "10"], ">").len(),
        10
    );
}

#[test]
fn a_consumer_holds_64_mib_at_most() {
    let gateway = start();
    let (topic, group) = (new_topic("held-bytes", 1), topic_name("held-bytes"));
    let value = vec![b'x'; 900_000];
    let records = (0..80).map(|_| NewRecord {
        partition: Some(0),
        value: Some(value.as_slice()),
        ..NewRecord::default()
    });
    shared().produce_all(&topic, records).unwrap();
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    let mut got = 0;
    eventually("as much as it may hold", || {
        got += client.read_group(&of, &["BLOCK", "2000"], ">").len();
        (got * value.len() >= 64 << 20).then_some(())
    });
    // The last one may go beyond.
    assert_eq!(got, 75);
    assert_eq!(client.read_group(&of, &["BLOCK", "200"], ">"), []);
}
