//! Partitions, unknown topics, counters.

use crate::support::{Gateway, Reply, bulk, error, eventually, new_topic, stored};
use barnabas_redis::Config;
use barnabas_testkit::{Quickest, shared, shared_auto_create, topic_name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a busy machine gets on top of the contract's 500 ms.
const SLACK: Duration = Duration::from_millis(500);

#[test]
fn keys_decide_the_partition_and_order_is_kept_in_it() {
    let gateway = Gateway::start();
    let topic = new_topic("keys", 4);
    let keys = ["k", "k1", "kk", "user-42", "a", "b", "c", "d"];
    let commands: Vec<Vec<String>> = (0..4_000)
        .map(|number| {
            let key = format!("topics:{topic}:{}", keys[number % keys.len()]);
            vec!["rpushx".to_owned(), key, number.to_string()]
        })
        .collect();
    let mut client = gateway.connect();
    for lot in commands.chunks(500) {
        client.send_all(lot);
        for _ in lot {
            assert_eq!(client.reply(), Reply::Integer(1));
        }
    }
    client.dump();
    let records = shared().read_all(&topic).unwrap();
    assert_eq!(records.len(), 4_000);
    let mut partitions: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    let mut last: BTreeMap<i32, usize> = BTreeMap::new();
    for record in &records {
        let number: usize = record.value_text().parse().unwrap();
        let before = last.insert(record.partition, number);
        assert!(before.is_none_or(|before| before < number), "{record:?}");
        let found = partitions.entry(record.key_text()).or_default();
        found.insert(record.partition);
    }
    // Measured on the old system.
    for (key, partition) in [("k", 1), ("k1", 1), ("kk", 3), ("user-42", 3)] {
        assert_eq!(partitions[key], BTreeSet::from([partition]), "{key}");
    }
    assert!(partitions.values().all(|found| found.len() == 1));
}

#[test]
fn values_and_keys_are_kept_as_they_are() {
    let gateway = Gateway::start();
    let topic = new_topic("binary", 1);
    let mut client = gateway.connect();
    let all: Vec<u8> = (0..=255).collect();
    let mut key = format!("foo:{topic}:").into_bytes();
    key.extend(all.iter().filter(|byte| **byte != b':'));
    assert_eq!(client.call(&[b"RPUSHX", &key[..], &all]), Reply::Integer(1));
    let empty_key = format!("topics:{topic}:");
    let reply = client.call(&["rpushx", &empty_key, ""]);
    assert_eq!(reply, Reply::Integer(1));
    // Several at once, and the form that a plain Redis has.
    let key = format!("topics:{topic}");
    let reply = client.call(&["rpushx", &key, "a", "b", "c"]);
    assert_eq!(reply, Reply::Integer(3));
    let reply = client.call(&["rpush", &format!("{key}:k"), "d", "e"]);
    assert_eq!(reply, Reply::Integer(2));
    client.dump();
    let records = shared().read_all(&topic).unwrap();
    assert_eq!(records[0].key.as_ref().map(Vec::len), Some(255));
    assert_eq!(records[0].value.as_deref(), Some(&all[..]));
    assert_eq!(records[1].key.as_deref(), Some(&b""[..]));
    assert_eq!(records[1].value.as_deref(), Some(&b""[..]));
    let rest: Vec<(Option<Vec<u8>>, String)> = records[2..]
        .iter()
        .map(|record| (record.key.clone(), record.value_text()))
        .collect();
    let k = Some(b"k".to_vec());
    let expected = [
        (None, "a"),
        (None, "b"),
        (None, "c"),
        (k.clone(), "d"),
        (k, "e"),
    ];
    assert_eq!(rest, expected.map(|(key, value)| (key, value.to_owned())));
}

#[test]
fn what_cannot_be_produced_is_refused_at_once() {
    let gateway = Gateway::start();
    let topic = new_topic("refused", 1);
    let mut client = gateway.connect();
    let form =
        "PROD First argument must be in the form of 'topics:<topic>' or 'topics:<topic>:<key>'";
    let cases: [(&[&str], &str); 7] = [
        (&["rpushx"], "PROD RPUSHX accepts 2 arguments, got 0"),
        (
            &["rpushx", "topics:t"],
            "PROD RPUSHX accepts 2 arguments, got 1",
        ),
        (&["rpushx", "topics", "x"], form),
        (&["rpushx", "topics:t:k:l", "x"], form),
        (
            &["rpushx", "topics:", "x"],
            "PROD Local: Invalid argument or configuration",
        ),
        (
            &["rpushx", "topics:no/such", "x"],
            "PROD Broker: Invalid topic",
        ),
        (
            &["rpush", "queue", "x"],
            "CONS You can only RPUSH to the 'acks' key",
        ),
    ];
    for (command, text) in cases {
        assert_eq!(client.call(command), error(text), "{command:?}");
    }
    assert_eq!(
        client.call(&["dump"]),
        Reply::Integer(0),
        "nothing accepted yet"
    );

    let key = format!("topics:{topic}");
    let large = "x".repeat(1_000_000);
    let too_large = error("PROD Broker: Message size too large");
    assert_eq!(client.call(&["rpushx", &key, &large]), too_large);
    // In a pipeline each gets its own answer.
    client.send_all(&[
        vec!["rpushx", &key, "before"],
        vec!["rpushx", &key, &large],
        vec!["rpushx", &key, "after"],
    ]);
    assert_eq!(client.reply(), Reply::Integer(1));
    assert_eq!(client.reply(), too_large);
    assert_eq!(client.reply(), Reply::Integer(1));
    let dump = |client: &mut crate::support::Client, command: &[&str]| client.call(command);
    assert_eq!(
        dump(&mut client, &["dump"]),
        error("PROD DUMP accepts 1 argument, got 0")
    );
    assert_eq!(
        dump(&mut client, &["dump", "1", "2"]),
        error("PROD DUMP accepts 1 argument, got 2")
    );
    assert_eq!(dump(&mut client, &["dump", "soon"]), error("PROD NaN"));
    client.dump();
    assert_eq!(shared().end_offsets(&topic).unwrap()[&0], 2);
}

#[test]
fn dump_waits_for_deliveries_and_not_for_linger() {
    let gateway = Gateway::with(shared(), Config::default(), |config| {
        config.producer.set("linger.ms", "60000");
    });
    let topic = new_topic("dump", 1);
    let mut client = gateway.connect();
    let mut other = gateway.connect();
    for number in 0..50 {
        client.produce(&topic, &number.to_string());
    }
    // No wait: the number of those under way.
    assert_eq!(client.call(&["dump", "0"]), Reply::Integer(50));
    assert_eq!(client.call(&["dump", "-1"]), Reply::Integer(50));
    assert_eq!(other.call(&["dump", "0"]), Reply::Integer(0));
    assert_eq!(other.stat("producer.messages.outstanding"), 50);
    let started = Instant::now();
    client.dump();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(shared().end_offsets(&topic).unwrap()[&0], 50);
    assert_eq!(other.stat("producer.messages.outstanding"), 0);
}

#[test]
fn a_missing_topic_is_reported_within_half_a_second_and_used_once_it_is_there() {
    let mut quickest = Quickest::of(5, Duration::from_millis(500) + SLACK);
    while quickest.is_missing() {
        quickest.took(report_of_a_missing_topic());
    }
}

fn report_of_a_missing_topic() -> Duration {
    let gateway = Gateway::start();
    let mut client = gateway.connect();
    // The bound is not about connecting to the broker.
    client.produce(&new_topic("known", 1), "x");
    client.dump();
    let topic = topic_name("missing");
    let key = format!("topics:{topic}");
    let push = ["rpushx", key.as_str(), "x"];
    let started = Instant::now();
    assert_eq!(client.call(&push), Reply::Integer(1));
    client.dump();
    let elapsed = started.elapsed();
    assert_eq!(client.stat("producer.delivery.errors"), 1);
    let unknown = error("PROD Local: Unknown topic");
    assert_eq!(client.call(&push), unknown);
    let own = client.pairs("stats:connection");
    let number = |name: &str| own[name].parse::<u64>().unwrap();
    assert_eq!((number("accepted"), number("delivered")), (2, 1));
    assert_eq!((number("failed"), number("outstanding")), (1, 0));
    assert_eq!(own["last_error"], "Local: Unknown topic");

    // The first of another connection is accepted, whatever this one knows.
    let mut other = gateway.connect();
    assert_eq!(other.call(&push), Reply::Integer(1));
    other.dump();
    assert_eq!(other.stat("producer.delivery.errors"), 2);
    assert_eq!(other.call(&push), unknown);

    shared().create_topic(&topic, 1).unwrap();
    for client in [&mut client, &mut other] {
        eventually("the new topic", || {
            (client.call(&push) == Reply::Integer(1)).then_some(())
        });
        client.dump();
    }
    assert_eq!(shared().end_offsets(&topic).unwrap()[&0], 2);
    assert_eq!(other.stat("producer.delivery.errors"), 2);
    elapsed
}

#[test]
fn many_missing_topics_wait_no_longer_than_one() {
    let gateway = Gateway::start();
    let mut client = gateway.connect();
    client.produce(&new_topic("known", 1), "x");
    client.dump();
    let mut push = |count: usize| {
        let started = Instant::now();
        client.send_all(&pushes(count));
        for _ in 0..count {
            assert_eq!(client.reply(), Reply::Integer(1));
        }
        client.dump();
        started.elapsed()
    };
    let mut failed = 0;
    let mut longer = Quickest::of(5, SLACK);
    while longer.is_missing() {
        // Where a broker takes its time over every answer, it does so over that of one as well.
        let one = push(1).max(Duration::from_millis(500));
        longer.took(push(300).saturating_sub(one));
        failed += 301;
    }
    assert_eq!(client.stat("producer.delivery.errors"), failed);
}

/// One message each to so many topics that do not exist.
fn pushes(count: usize) -> Vec<Vec<String>> {
    let prefix = topic_name("missing");
    let key = |number: usize| format!("topics:{prefix}-{number}");
    (0..count)
        .map(|number| vec!["rpushx".to_owned(), key(number), "x".to_owned()])
        .collect()
}

/// The contract gives a broker 300 ms. A busy one takes longer at times, and then the messages count
/// as failed; none is lost otherwise.
#[test]
fn many_topics_that_brokers_create_are_all_found() {
    let gateway = Gateway::on(shared_auto_create());
    let mut client = gateway.connect();
    let mut failed_before = 0;
    eventually("topics that were created in time", || {
        client.send_all(&pushes(5));
        for _ in 0..5 {
            assert_eq!(client.reply(), Reply::Integer(1));
        }
        client.dump();
        let failed = client.stat("producer.delivery.errors");
        let delivered = client.stat("producer.messages.delivered");
        let accepted = client.stat("producer.messages.accepted");
        assert_eq!(delivered + failed, accepted);
        (std::mem::replace(&mut failed_before, failed) == failed).then_some(())
    });
}

#[test]
fn a_topic_that_brokers_create_loses_nothing() {
    let gateway = Gateway::on(shared_auto_create());
    let mut clients = [gateway.connect(), gateway.connect()];
    let mut failed_before = 0;
    // As above, where the broker is slow.
    let topic = eventually("a topic that was created in time", || {
        let topic = topic_name("created");
        let key = format!("topics:{topic}");
        let mut is_refused = false;
        for number in 0..200 {
            let reply = clients[number % 2].call(&["rpushx", &key, &number.to_string()]);
            is_refused |= reply != Reply::Integer(1);
        }
        for client in &mut clients {
            client.dump();
        }
        let failed = clients[0].stat("producer.delivery.errors");
        let has_failed = std::mem::replace(&mut failed_before, failed) < failed;
        assert!(has_failed || !is_refused, "refused, and none had failed");
        (!has_failed).then_some(topic)
    });
    let expected: BTreeSet<String> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(stored(shared_auto_create(), &topic), expected);
}

#[test]
fn counters_count_and_can_be_zeroed() {
    let gateway = Gateway::start();
    let topic = new_topic("counters", 1);
    let mut client = gateway.connect();
    let _other = gateway.connect();
    for number in 0..7 {
        client.produce(&topic, &number.to_string());
    }
    client.dump();
    eventually("both connections", || {
        (client.stat("server.connections") == 2).then_some(())
    });
    let stats = client.pairs("stats");
    let number = |name: &str| stats[name].parse::<i64>().unwrap();
    assert_eq!(number("producer.messages.accepted"), 7);
    assert_eq!(number("producer.messages.delivered"), 7);
    assert_eq!(number("producer.messages.outstanding"), 0);
    assert!(number("server.commands") >= 8);
    let wrong = client.call(&["hgetall", "status"]);
    assert_eq!(wrong, error("ERR Expected key to be 'stats', got STATUS"));
    let wrong = client.call(&["del", &topic]);
    let text = format!(
        "ERR Expected key to be 'stats', got {}",
        topic.to_uppercase()
    );
    assert_eq!(wrong, error(&text));

    assert_eq!(client.call(&["DEL", "Stats"]), Reply::Integer(1));
    let stats = client.pairs("STATS");
    for (name, value) in &stats {
        match name.as_str() {
            "server.connections" => assert_eq!(value, "2"),
            // This very command may count already.
            "server.commands" => assert!(value.parse::<u64>().unwrap() < 8),
            _ => assert_eq!(value, "0", "{name}"),
        }
    }
    assert_eq!(
        shared().end_offsets(&topic).unwrap()[&0],
        7,
        "no topic is touched"
    );
}

#[test]
fn keys_lists_topics() {
    let gateway = Gateway::start();
    let prefix = topic_name("keys-list");
    for suffix in ["b", "a"] {
        shared()
            .create_topic(&format!("{prefix}.{suffix}"), 1)
            .unwrap();
    }
    let mut client = gateway.connect();
    let Reply::Array(all) = client.call(&["keys", "topics:"]) else {
        panic!("no list");
    };
    let own = [
        bulk(&format!("topics:{prefix}.a")),
        bulk(&format!("topics:{prefix}.b")),
    ];
    let place = all.iter().position(|key| *key == own[0]).unwrap();
    assert_eq!(all[place..place + 2], own, "sorted");
    let reply = client.call(&["keys", &format!("topics:{prefix}.*")]);
    assert_eq!(reply, Reply::Array(own.to_vec()));
    let reply = client.call(&["keys", "stats"]);
    assert_eq!(
        reply,
        error("ERR Expected argument to be 'topics:', got stats")
    );
}
