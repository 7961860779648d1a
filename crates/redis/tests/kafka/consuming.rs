//! Subscriptions, forms of replies, errors.

use crate::support::{Gateway, Reply, bulk, error, eventually, fill, new_topic};
use barnabas_redis::{Config, ReplyForm};
use barnabas_testkit::{NewRecord, Quickest, shared, shared_auto_create, topic_name};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[test]
fn one_connection_reads_several_topics() {
    let gateway = Gateway::start();
    let topics = [new_topic("several", 1), new_topic("several", 2)];
    fill(&topics[0], 1, 5);
    fill(&topics[1], 2, 5);
    let list = topics.join(",");
    let mut client = gateway.named(&format!("{}:list", topic_name("several")));
    let seen: BTreeSet<(String, i64)> = (0..15)
        .map(|_| client.next(&list))
        .map(|message| (message.topic, message.partition))
        .collect();
    assert_eq!(seen.len(), 3);

    // As further keys.
    let name = format!("{}:keys", topic_name("several"));
    let mut client = gateway.named(&name);
    let keys = topics.each_ref().map(|topic| format!("topics:{topic}"));
    let mut seen = BTreeSet::new();
    while seen.len() < 15 {
        match client.call(&["blpop", &keys[0], &keys[1], "5"]) {
            Reply::NullArray => {}
            message => {
                seen.insert(crate::support::Message::from_reply(&message));
            }
        }
    }
    // The order of the list counts: another one is another consumer.
    let swapped = format!("{},{}", topics[1], topics[0]);
    let refusal = format!(
        "CONS Client '{name}' has Consumer '{name}|{list}' registered (new consID: '{name}|{swapped}')"
    );
    let reply = client.call(&["blpop", &format!("topics:{swapped}"), "1"]);
    assert_eq!(reply, error(&refusal));
    assert_eq!(client.pop(&list, "0.05"), None);
}

#[test]
fn a_regular_expression_subscribes_to_what_matches_now_and_later() {
    let gateway = Gateway::start();
    let prefix = topic_name("regex");
    let create = |name: &str, partitions| {
        shared().create_topic(name, partitions).unwrap();
        fill(name, partitions, 1);
    };
    let (now, later) = (format!("{prefix}.a"), format!("{prefix}.b"));
    create(&now, 1);
    create(&format!("x{prefix}.c"), 1);
    let expression = format!("^{prefix}[.].*");
    let mut client = gateway.named(&format!("{}:one", topic_name("regex")));
    // How soon new topics are seen is librdkafka's setting, not ours.
    let own = format!("{expression}:{{\"topic.metadata.refresh.interval.ms\":500}}");
    assert_eq!(client.next(&own).topic, now);
    create(&later, 1);
    assert_eq!(client.next(&expression).topic, later);
    assert_eq!(client.pop(&expression, "0.3"), None);
}

#[test]
fn a_topic_that_is_made_later_is_consumed_without_reconnecting() {
    let gateway = Gateway::start();
    // The contract says five seconds; the machine gets two more.
    let mut quickest = Quickest::of(3, Duration::from_secs(7));
    while quickest.is_missing() {
        quickest.took(topic_that_is_made_later(&gateway));
    }
}

fn topic_that_is_made_later(gateway: &Gateway) -> Duration {
    let topic = topic_name("later");
    let mut client = gateway.named(&format!("{}:one", topic_name("later")));
    assert_eq!(client.pop(&topic, "0.5"), None, "no error either");
    assert_eq!(client.pop(&topic, "1.5"), None);
    shared().create_topic(&topic, 2).unwrap();
    let created = Instant::now();
    fill(&topic, 2, 1);
    let partitions: BTreeSet<i64> = [client.next(&topic), client.next(&topic)]
        .iter()
        .map(|message| message.partition)
        .collect();
    let elapsed = created.elapsed();
    assert_eq!(partitions.len(), 2);
    assert_eq!(client.stat("consumer.errors"), 0);
    elapsed
}

#[test]
fn a_topic_that_does_not_exist_can_be_consumed_where_brokers_create_it() {
    let gateway = Gateway::on(shared_auto_create());
    let topic = topic_name("made");
    let mut client = gateway.named(&format!("{}:one", topic_name("made")));
    assert_eq!(client.pop(&topic, "0.5"), None);
    let mut producer = gateway.connect();
    let key = format!("topics:{topic}");
    // A busy broker takes longer than the 300 ms of the contract at times, and then it has failed.
    eventually("a message that is delivered", || {
        producer.call(&["rpushx", &key, "first"]);
        producer.dump();
        (producer.stat("producer.messages.delivered") > 0).then_some(())
    });
    assert_eq!(client.next(&topic).value, "first");
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_and_harms_nothing() {
    let gateway = Gateway::start();
    let topic = new_topic("wrong", 1);
    fill(&topic, 1, 1);
    let name = format!("{}:one", topic_name("wrong"));
    let mut client = gateway.named(&name);
    let mut text = |json: &str| {
        let key = format!("topics:{topic}:{json}");
        match client.call(&["blpop", &key, "1"]) {
            Reply::Error(text) => text,
            other => panic!("{json}: {other:?}"),
        }
    };
    for json in ["{", "[]", "7", "{\"a\":1,}", "nul"] {
        let text = text(json);
        let start = format!("CONS Error parsing configuration from '{json}'; ");
        assert!(text.starts_with(&start), "{text}");
    }
    let refused =
        format!("CONS Failed to register Consumer '{name}|{topic}' for Client '{name}': ");
    for (json, reason) in [
        ("{\"auto.offset.rest\":\"latest\"}", "auto.offset.rest"),
        ("{\"auto.offset.reset\":\"sometimes\"}", "auto.offset.reset"),
        ("{\"auto.offset.reset\":null}", "auto.offset.reset"),
        ("{\"auto.offset.reset\":[\"latest\"]}", "auto.offset.reset"),
        ("{\"barnabas.answer\":\"full\"}", "barnabas.answer"),
        ("{\"barnabas.reply\":\"half\"}", "barnabas.reply"),
        // Refused only when librdkafka sees all of them together.
        (
            "{\"session.timeout.ms\":6000,\"max.poll.interval.ms\":1000}",
            "max.poll.interval.ms",
        ),
    ] {
        let text = text(json);
        assert!(text.starts_with(&refused), "{text}");
        assert!(text[refused.len()..].contains(reason), "{text}");
    }
    // None of these has made a consumer: another list may follow, and this one works.
    let empty = client.call(&["blpop", &format!("topics:{topic},"), "1"]);
    assert!(matches!(empty, Reply::Error(text) if text.contains("empty")));
    let own = format!(
        "{topic}:{{\"group.id\":\"another\",\"{{topic}}.auto.offset.reset\":\"earliest\"}}"
    );
    assert_eq!(client.next(&own).value, "0");
    let group = name.split(':').next().unwrap();
    assert_eq!(shared().group_members(group).unwrap().len(), 1);
    // Applied only once, but it must always parse.
    let reply = client.call(&["blpop", &format!("topics:{topic}:{{"), "1"]);
    assert!(matches!(reply, Reply::Error(text) if text.starts_with("CONS Error parsing")));
}

#[test]
fn a_client_that_is_silent_too_long_is_told_and_joins_again() {
    let gateway = Gateway::start();
    let topic = new_topic("silent", 1);
    let group = topic_name("silent");
    fill(&topic, 1, 3);
    let mut client = gateway.named(&format!("{group}:one"));
    let own = format!("{topic}:{{\"session.timeout.ms\":6000,\"max.poll.interval.ms\":6000}}");
    let first = client.next(&own);
    client.ack(&first);
    eventually("the end of the group", || {
        shared()
            .group_members(&group)
            .unwrap()
            .is_empty()
            .then_some(())
    });
    let Reply::Error(text) = client.call(&["blpop", &format!("topics:{topic}"), "5"]) else {
        panic!("no error");
    };
    let by = text
        .strip_prefix("CONS Poll Application maximum poll interval (6000ms) exceeded by ")
        .and_then(|rest| rest.strip_suffix("ms"))
        .unwrap_or_else(|| panic!("{text}"));
    by.parse::<u64>().unwrap();
    assert_eq!(client.next(&topic).offset, 1);
    assert_eq!(client.stat("consumer.errors"), 1);
}

#[test]
fn pairs_are_acked_by_the_next_blpop() {
    let topic = new_topic("pair", 1);
    let group = topic_name("pair");
    fill(&topic, 1, 5);
    let name = format!("{group}:one");
    let key = format!("topics:{topic}");
    let pair = |value: &str| Reply::Array(vec![bulk(&key), bulk(value)]);
    let committed = || shared().committed(&group, &topic).unwrap().get(&0).copied();
    {
        let gateway = Gateway::start();
        let mut client = gateway.named(&name);
        let own = format!("{key}:{{\"barnabas.reply\":\"pair\"}}");
        let first = eventually("a message", || match client.call(&["blpop", &own, "1"]) {
            Reply::NullArray => None,
            reply => Some(reply),
        });
        assert_eq!(first, pair("0"));
        assert_eq!(client.call(&["blpop", &own, "1"]), pair("1"));
        assert_eq!(client.call(&["blpop", &own, "1"]), pair("2"));
        // The last one is not acked by QUIT.
        client.quit();
        eventually("the commit", || (committed() == Some(2)).then_some(()));
    }
    // The whole gateway can be set so.
    let config = Config {
        reply: ReplyForm::Pair,
        ..Config::default()
    };
    let gateway = Gateway::with(shared(), config, |_| {});
    let mut client = gateway.named(&name);
    let next = eventually("a message", || match client.call(&["blpop", &key, "1"]) {
        Reply::NullArray => None,
        reply => Some(reply),
    });
    assert_eq!(next, pair("2"), "it comes again");
    let last = ["rpush", "acks", "last"];
    assert_eq!(client.call(&last), Reply::Integer(1));
    // Nor by the end of the connection.
    assert_eq!(client.call(&["blpop", &key, "1"]), pair("3"));
    drop(client);
    eventually("the end of the group", || {
        shared()
            .group_members(&group)
            .unwrap()
            .is_empty()
            .then_some(())
    });
    assert_eq!(committed(), Some(3));
}

#[test]
fn full_replies_have_key_timestamp_and_headers() {
    let gateway = Gateway::start();
    let topic = new_topic("full", 1);
    let group = topic_name("full");
    let records = [
        NewRecord {
            key: Some(b"k:\r\n"),
            value: Some(b""),
            headers: vec![
                ("trace", Some(b"ab1")),
                ("none", None),
                ("trace", Some(b"")),
            ],
            timestamp: Some(1_600_000_000_123),
            ..NewRecord::default()
        },
        NewRecord {
            timestamp: Some(7),
            ..NewRecord::default()
        },
    ];
    shared().produce_all(&topic, records).unwrap();
    let mut client = gateway.named(&format!("{group}:one"));
    let last = ["rpush", "acks", "last"];
    let refusal = error("CONS Cannot parse ack: 'last'");
    assert_eq!(client.call(&last), refusal, "no consumer");
    let key = format!("topics:{topic}:{{\"barnabas.reply\":\"full\"}}");
    let message = eventually("a message", || match client.call(&["blpop", &key, "1"]) {
        Reply::NullArray => {
            assert_eq!(client.call(&last), refusal, "nothing delivered yet");
            None
        }
        reply => Some(reply),
    });
    let expected = |offset, value, key, timestamp, headers| {
        Reply::Array(vec![
            bulk("topic"),
            bulk(&topic),
            bulk("partition"),
            Reply::Integer(0),
            bulk("offset"),
            Reply::Integer(offset),
            bulk("value"),
            value,
            bulk("key"),
            key,
            bulk("timestamp"),
            Reply::Integer(timestamp),
            bulk("headers"),
            Reply::Array(headers),
        ])
    };
    let headers = vec![
        bulk("trace"),
        bulk("ab1"),
        bulk("none"),
        Reply::NullBulk,
        bulk("trace"),
        bulk(""),
    ];
    assert_eq!(
        message,
        expected(0, bulk(""), bulk("k:\r\n"), 1_600_000_000_123, headers)
    );
    let tombstone = client.call(&["blpop", &key, "5"]);
    assert_eq!(
        tombstone,
        expected(1, Reply::NullBulk, Reply::NullBulk, 7, vec![])
    );
    assert_eq!(client.call(&last), Reply::Integer(1));
    client.quit();
    eventually("the commit", || {
        let committed = shared().committed(&group, &topic).unwrap();
        (committed.get(&0) == Some(&2)).then_some(())
    });
}

#[test]
fn a_connection_may_produce_and_consume() {
    let gateway = Gateway::start();
    let topic = new_topic("both", 1);
    let mut client = gateway.named(&format!("{}:one", topic_name("both")));
    for number in 0..20 {
        client.produce(&topic, &number.to_string());
        let message = client.next(&topic);
        assert_eq!(message.value, number.to_string());
        client.ack(&message);
    }
    assert_eq!(client.stat("consumer.messages.delivered"), 20);
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let gateway = Gateway::start();
    let topic = new_topic("pipelined", 1);
    fill(&topic, 1, 200);
    let mut client = gateway.named(&format!("{}:one", topic_name("pipelined")));
    assert_eq!(client.next(&topic).offset, 0);
    let key = format!("topics:{topic}");
    let mut commands = Vec::new();
    for offset in 0..99 {
        commands.push(vec!["blpop".to_owned(), key.clone(), "5".to_owned()]);
        commands.push(vec!["ping".to_owned(), offset.to_string()]);
    }
    client.send_all(&commands);
    for offset in 0..99 {
        let message = crate::support::Message::from_reply(&client.reply());
        assert_eq!(message.offset, offset + 1);
        assert_eq!(client.reply(), bulk(&offset.to_string()));
    }
    // Everything answered is on the wire before the server waits.
    client.send_all(&[vec!["ping"], vec!["blpop", "topics:never-made", "60"]]);
    assert_eq!(client.reply(), Reply::Simple("PONG".to_owned()));
    // That was an error, as the list is another one.
    assert!(matches!(client.reply(), Reply::Error(_)));
    client.send_all(&[vec!["ping"], vec!["blpop", &key, "5"], vec!["ping"]]);
    assert_eq!(client.reply(), Reply::Simple("PONG".to_owned()));
}
