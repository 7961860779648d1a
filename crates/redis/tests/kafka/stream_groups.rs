//! Section 13.3: groups, acknowledgements, and several streams at once.

use crate::streams::{Entry, Reader, array, committed, entries, start, wait_until_committed};
use crate::support::{Client, PATIENCE, Reply, bulk, error, eventually, fill, new_topic};
use barnabas_testkit::{NewRecord, shared, topic_name};
use std::collections::BTreeSet;
use std::time::Instant;

#[test]
fn acknowledgements_out_of_order_never_skip_an_entry() {
    let gateway = start();
    let (topic, group) = (new_topic("order", 1), topic_name("order"));
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    fill(&topic, 1, 6);
    let mut client = gateway.connect();
    let got = client.read_count(&of, 6);
    let ids: Vec<&str> = got.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["0-0", "1-0", "2-0", "3-0", "4-0", "5-0"]);
    assert_eq!(got[3].value(), "3");
    assert_eq!(client.xack(&of, &["4-0", "1-0", "5-0"]), 3);
    wait_until_committed(&of, 0);
    assert_eq!(client.xack(&of, &["0-0", "1-0"]), 1);
    wait_until_committed(&of, 2);
    // Nothing is acknowledged when one of them is no id.
    let key = format!("topics:{topic}");
    let bad = error("ERR Invalid stream ID specified as stream command argument");
    for id in ["x", "3-", "-1-0", "3-0-0", ""] {
        assert_eq!(client.call(&["XACK", &key, &group, "2-0", id]), bad, "{id}");
    }
    let pending = client.read_group(&of, &[], "0");
    assert_eq!(
        pending.iter().map(Entry::offset).collect::<Vec<_>>(),
        [2, 3]
    );
    // What does not exist is not acknowledged.
    assert_eq!(client.xack(&of, &["99-0", "0-7", "2-0", "3-0"]), 2);
    wait_until_committed(&of, 6);
    let nobody = Reader {
        group: "nobody",
        ..of
    };
    assert_eq!(client.xack(&nobody, &["0-0"]), 0);
    assert_eq!(
        client.call(&["XACK", "orders", &group, "0-0"]),
        error("ERR Expected key to be 'topics:<topic>', got orders")
    );
}

#[test]
fn groups_begin_where_they_are_told() {
    let gateway = start();
    let (topic, group) = (new_topic("create", 2), topic_name("create"));
    let key = format!("topics:{topic}");
    fill(&topic, 2, 3);
    let mut client = gateway.connect();
    let create = |client: &mut Client, group: &str, id: &str| {
        client.call(&["XGROUP", "CREATE", &key, group, id])
    };
    let ok = Reply::Simple("OK".to_owned());
    assert_eq!(create(&mut client, &group, "$"), ok);
    let offsets = shared().committed(&group, &topic).unwrap();
    assert_eq!((offsets[&0], offsets[&1]), (3, 3));
    assert_eq!(
        create(&mut client, &group, "0"),
        error("BUSYGROUP Consumer Group name already exists")
    );
    let early = topic_name("early");
    assert_eq!(create(&mut client, &early, "0"), ok);
    let offsets = shared().committed(&early, &topic).unwrap();
    assert_eq!((offsets[&0], offsets[&1]), (0, 0));
    assert_eq!(
        create(&mut client, "other", "5-1"),
        error("ERR Invalid stream ID specified as stream command argument")
    );
    // Who begins at the end gets what comes then.
    shared()
        .produce(&topic, Some(1), None, Some(b"new"))
        .unwrap();
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let got = client.read_count(&of, 1);
    assert_eq!((got[0].id.as_str(), got[0].value()), ("3-1", "new"));
    let of = Reader {
        group: &early,
        name: "c",
        topic: &topic,
    };
    assert_eq!(client.read_count(&of, 7).len(), 7);
    // Members make a group exist, too.
    assert_eq!(
        create(&mut client, &early, "0"),
        error("BUSYGROUP Consumer Group name already exists")
    );
    // A group without members can be moved.
    let moved = topic_name("moved");
    assert_eq!(create(&mut client, &moved, "$"), ok);
    assert_eq!(client.call(&["XGROUP", "SETID", &key, &moved, "0"]), ok);
    let offsets = shared().committed(&moved, &topic).unwrap();
    assert_eq!((offsets[&0], offsets[&1]), (0, 0));
}

#[test]
fn groups_make_topics_and_are_destroyed() {
    let mut gateway = start();
    let (topic, group) = (topic_name("mkstream"), topic_name("mkstream"));
    let key = format!("topics:{topic}");
    let mut client = gateway.connect();
    let ok = Reply::Simple("OK".to_owned());
    let missing = error(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to \
         use the MKSTREAM option to create an empty stream automatically.",
    );
    assert_eq!(
        client.call(&["XGROUP", "CREATE", &key, &group, "$"]),
        missing
    );
    assert_eq!(client.call(&["XGROUP", "DESTROY", &key, &group]), missing);
    assert_eq!(
        client.call(&["XINFO", "GROUPS", &key]),
        error("ERR no such key")
    );
    assert_eq!(client.call(&["XLEN", &key]), Reply::Integer(0));
    assert_eq!(
        client.call(&["TYPE", &key]),
        Reply::Simple("none".to_owned())
    );
    assert_eq!(
        client.call(&["XGROUP", "CREATE", &key, &group, "0", "MKSTREAM"]),
        ok
    );
    assert_eq!(
        client.call(&["TYPE", &key]),
        Reply::Simple("stream".to_owned())
    );
    assert_eq!(
        client.call(&["XGROUP", "DESTROY", &key, "nobody"]),
        Reply::Integer(0)
    );

    for value in ["one", "two", "three"] {
        client.xadd(&topic, value);
    }
    for command in ["XLEN", "LLEN"] {
        assert_eq!(client.call(&[command, &key]), Reply::Integer(3));
    }
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    assert_eq!(client.read_count(&of, 2).len(), 2);
    assert_eq!(client.xack(&of, &["0-0"]), 1);
    wait_until_committed(&of, 1);
    let info = client.call(&["XINFO", "GROUPS", &key]);
    let expected = [
        bulk("name"),
        bulk(&group),
        bulk("consumers"),
        Reply::Integer(1),
        bulk("pending"),
        Reply::Integer(1),
        bulk("last-delivered-id"),
        bulk("0-0"),
        bulk("entries-read"),
        Reply::Integer(1),
        bulk("lag"),
        Reply::Integer(2),
    ];
    assert_eq!(array(&info).len(), 1, "{info:?}");
    assert_eq!(array(&array(&info)[0]), expected);

    // While this process is a member, with an entry that nobody acknowledges.
    assert_eq!(
        client.call(&["XGROUP", "DESTROY", &key, &group]),
        Reply::Integer(1)
    );
    assert_eq!(committed(&of, 0), None);
    assert_eq!(array(&client.call(&["XINFO", "GROUPS", &key])).len(), 0);
    assert_eq!(
        client.call(&["XGROUP", "DESTROY", &key, &group]),
        Reply::Integer(0)
    );
    // It can begin anew.
    assert_eq!(client.call(&["XGROUP", "CREATE", &key, &group, "0"]), ok);
    assert_eq!(client.read_count(&of, 3).len(), 3);
    gateway.drain();
    gateway.stop_groups();
}

#[test]
fn several_topics_are_read_together() {
    let gateway = start();
    let topics: Vec<String> = (0..3).map(|_| new_topic("several", 2)).collect();
    let keys: Vec<String> = topics
        .iter()
        .map(|topic| format!("topics:{topic}"))
        .collect();
    let group = topic_name("several");
    let mut client = gateway.connect();
    let command = |block: &'static str, ids: [&'static str; 3]| {
        let mut words = vec![
            "XREADGROUP",
            "GROUP",
            &group,
            "c",
            "BLOCK",
            block,
            "STREAMS",
        ];
        words.extend(keys.iter().map(String::as_str));
        words.extend(ids);
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let new = command("1000", [">"; 3]);
    assert_eq!(client.call(&new), Reply::NullArray);
    let mut got = BTreeSet::new();
    for topic in &topics[1..] {
        fill(topic, 2, 10);
    }
    eventually("the entries of two topics", || {
        for (key, entries) in entries(&client.call(&new)) {
            got.extend(entries.into_iter().map(|entry| (key.clone(), entry)));
        }
        (got.len() == 40).then_some(())
    });
    let of: BTreeSet<&String> = got.iter().map(|(key, _)| key).collect();
    assert_eq!(of, keys[1..].iter().collect());
    // History of all, and of a single topic: it is the same consumer's.
    let old = entries(&client.call(&command("0", ["0", "0", "7-9"])));
    let counts: Vec<usize> = old.iter().map(|(_, entries)| entries.len()).collect();
    assert_eq!(counts, [0, 20, 4]);
    let one = Reader {
        group: &group,
        name: "c",
        topic: &topics[2],
    };
    assert_eq!(client.read_group(&one, &["COUNT", "3"], "0").len(), 3);
    // Mixed, nothing is waited for.
    fill(&topics[0], 1, 1);
    let started = Instant::now();
    let mixed = eventually("old and new", || {
        let mixed = entries(&client.call(&command("0", [">", "0", "0"])));
        (mixed.len() == 3).then_some(mixed)
    });
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(mixed[0].1.len(), 1);
}

#[test]
fn a_reply_has_a_limit_of_bytes() {
    let gateway = start();
    let (topic, group) = (new_topic("bytes", 1), topic_name("bytes"));
    let value = vec![b'x'; 900_000];
    let records = (0..25).map(|_| NewRecord {
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
    let mut got = Vec::new();
    eventually("all entries", || {
        let entries = client.read_group(&of, &["COUNT", "100", "BLOCK", "1000"], ">");
        let bytes: usize = entries.iter().map(|entry| entry.value().len()).sum();
        assert!(bytes <= 16 << 20, "{bytes}");
        got.extend(entries.iter().map(Entry::offset));
        (got.len() >= 25).then_some(())
    });
    // What did not fit came next, once.
    got.sort_unstable();
    assert_eq!(got, (0..25).collect::<Vec<_>>());
    let old = client.read_group(&of, &[], "0");
    assert_eq!(old.len(), 18, "a limit of old entries as well");
}
