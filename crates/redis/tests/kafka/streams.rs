//! Section 13.3: entries, groups, ids, and what Kafka has of them.

use crate::support::{Client, Gateway, PATIENCE, Reply, bulk, error, eventually, new_topic};
use barnabas_redis::Config;
use barnabas_testkit::{Quickest, shared, shared_auto_create, topic_name};
use std::time::{Duration, Instant};

pub(crate) fn start() -> Gateway {
    Gateway::with_streams(shared(), Config::default())
}

/// An entry as XREADGROUP gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// Without the time, which is Kafka's.
    pub(crate) fields: Vec<(String, String)>,
}

impl Entry {
    pub(crate) fn value(&self) -> &str {
        &self.fields[0].1
    }

    pub(crate) fn offset(&self) -> i64 {
        self.id.split_once('-').unwrap().0.parse().unwrap()
    }
}

pub(crate) fn offsets(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(Entry::offset).collect()
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?} is no text"),
    }
}

pub(crate) fn array(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(parts) => parts,
        other => panic!("{other:?} is no array"),
    }
}

/// The entries of a reply by stream; none of a null.
pub(crate) fn entries(reply: &Reply) -> Vec<(String, Vec<Entry>)> {
    if *reply == Reply::NullArray {
        return Vec::new();
    }
    let entry = |reply: &Reply| {
        let fields = array(&array(reply)[1]).chunks(2);
        let fields = fields.map(|pair| (text(&pair[0]), text(&pair[1])));
        Entry {
            id: text(&array(reply)[0]),
            fields: fields.filter(|(name, _)| name != "timestamp").collect(),
        }
    };
    let streams = array(reply).iter();
    streams
        .map(|stream| {
            let list = array(&array(stream)[1]).iter().map(entry).collect();
            (text(&array(stream)[0]), list)
        })
        .collect()
}

impl Client {
    /// XREADGROUP of one topic.
    pub(crate) fn read_group(&mut self, of: &Reader<'_>, options: &[&str], id: &str) -> Vec<Entry> {
        let key = format!("topics:{}", of.topic);
        let start = ["XREADGROUP", "GROUP", of.group, of.name];
        let end = ["STREAMS", &key, id];
        let reply = self.call(&[&start[..], options, &end[..]].concat());
        let mut streams = entries(&reply);
        match streams.pop() {
            None => Vec::new(),
            Some((found, entries)) => {
                assert_eq!((found, streams.len()), (key, 0));
                entries
            }
        }
    }

    /// So many new entries, however long joining the group takes.
    pub(crate) fn read_count(&mut self, of: &Reader<'_>, count: usize) -> Vec<Entry> {
        let started = Instant::now();
        let mut got = Vec::new();
        while got.len() < count {
            let left = (count - got.len()).to_string();
            let options = ["COUNT", left.as_str(), "BLOCK", "1000"];
            got.extend(self.read_group(of, &options, ">"));
            assert!(started.elapsed() < PATIENCE, "{} of {count}", got.len());
        }
        got
    }

    pub(crate) fn xack(&mut self, of: &Reader<'_>, ids: &[&str]) -> i64 {
        let key = format!("topics:{}", of.topic);
        let start = ["XACK", &key, of.group];
        match self.call(&[&start[..], ids].concat()) {
            Reply::Integer(count) => count,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn xadd(&mut self, topic: &str, value: &str) -> String {
        let key = format!("topics:{topic}");
        text(&self.call(&["XADD", &key, "*", "value", value]))
    }
}

/// Group, consumer and topic.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) group: &'a str,
    pub(crate) name: &'a str,
    pub(crate) topic: &'a str,
}

pub(crate) fn committed(of: &Reader<'_>, partition: i32) -> Option<i64> {
    let offsets = shared().committed(of.group, of.topic).unwrap();
    offsets.get(&partition).copied()
}

pub(crate) fn wait_until_committed(of: &Reader<'_>, offset: i64) {
    eventually("the lowest unacknowledged offset is committed", || {
        (committed(of, 0) == Some(offset)).then_some(())
    });
}

/// The example of the contract, byte for byte; offsets and partitions are the topic's.
#[test]
fn the_example_of_the_contract() {
    let gateway = start();
    let topic = new_topic("example", 3);
    let group = topic_name("billing");
    let mut client = gateway.connect();
    let key = format!("topics:{topic}");
    let frame = |words: &[&str]| {
        let words: Vec<String> = words
            .iter()
            .map(|w| format!("${}\r\n{w}\r\n", w.len()))
            .collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    };
    let add = frame(&[
        "XADD", &key, "*", "value", "paid 17", "key", "cust-9", "trace", "ab1",
    ]);
    client.send_bytes(add.as_bytes());
    let Reply::Bulk(id) = client.reply() else {
        panic!("no id");
    };
    let id = String::from_utf8(id).unwrap();
    let (offset, partition) = id.split_once('-').unwrap();
    assert_eq!(offset, "0");
    let stored = &shared().read_all(&topic).unwrap()[0];
    assert_eq!(stored.partition.to_string(), partition);
    assert_eq!(stored.key.as_deref(), Some(&b"cust-9"[..]));
    assert_eq!(stored.value_text(), "paid 17");
    let timestamp = stored.timestamp.unwrap();

    let of = Reader {
        group: &group,
        name: "w-1",
        topic: &topic,
    };
    let read = frame(&[
        "XREADGROUP",
        "GROUP",
        &group,
        "w-1",
        "BLOCK",
        "1000",
        "STREAMS",
        &key,
        ">",
    ]);
    eventually("an entry", || {
        client.send_bytes(read.as_bytes());
        if client.hears(PATIENCE) {
            match client.reply() {
                Reply::NullArray => None,
                other => {
                    assert_eq!(entries(&other)[0].1[0].id, id);
                    Some(())
                }
            }
        } else {
            None
        }
    });
    // The same entry once more, as it is on the wire.
    let history = frame(&["XREADGROUP", "GROUP", &group, "w-1", "STREAMS", &key, "0"]);
    let fields = frame(&[
        "value",
        "paid 17",
        "key",
        "cust-9",
        "trace",
        "ab1",
        "timestamp",
        &timestamp.to_string(),
    ]);
    let entry = format!("*1\r\n*2\r\n${}\r\n{id}\r\n{fields}", id.len());
    let in_resp2 = format!("*1\r\n*2\r\n${}\r\n{key}\r\n{entry}", key.len());
    client.exchange(&history, &in_resp2);
    // RESP3: a map.
    let mut modern = gateway.connect();
    modern.send(&["HELLO", "3"]);
    assert!(modern.hears(PATIENCE));
    let hello = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n$5\r\nproto\r\n:3\r\n\
         $2\r\nid\r\n:2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
         $7\r\nmodules\r\n*0\r\n";
    modern.expect(hello);
    modern.exchange(
        &history,
        &format!("%1\r\n${}\r\n{key}\r\n{entry}", key.len()),
    );
    let none = frame(&["XREADGROUP", "GROUP", &group, "w-1", "STREAMS", &key, ">"]);
    modern.exchange(&none, "_\r\n");

    let ack = frame(&["XACK", &key, &group, &id]);
    client.exchange(&ack, ":1\r\n");
    client.exchange(&ack, ":0\r\n");
    client.exchange(&none, "*-1\r\n");
    client.exchange(
        &history,
        &format!("*1\r\n*2\r\n${}\r\n{key}\r\n*0\r\n", key.len()),
    );
    let partition: i32 = partition.parse().unwrap();
    eventually("the acknowledgement is committed", || {
        (committed(&of, partition) == Some(1)).then_some(())
    });
}

#[test]
fn every_part_of_a_record_is_a_field() {
    let gateway = start();
    let topic = new_topic("fields", 2);
    let key = format!("topics:{topic}");
    let group = topic_name("fields");
    let mut client = gateway.connect();
    // Binary, empty and absent parts; headers keep their order and may come twice.
    let binary: &[u8] = b"\x00\r\n\xff";
    let add: [&[u8]; 21] = [
        b"xadd",
        key.as_bytes(),
        b"nomkstream",
        b"maxlen",
        b"~",
        b"1000",
        b"*",
        b"header:value",
        b"h1",
        b"key",
        binary,
        b"trace",
        b"",
        b"value",
        binary,
        b"trace",
        b"2",
        b"partition",
        b"1",
        b"timestamp",
        b"1234567",
    ];
    assert_eq!(client.call(&add), bulk("0-1"));
    // No value: a tombstone.
    assert_eq!(
        client.call(&["XADD", &key, "*", "partition", "1", "key", ""]),
        bulk("1-1")
    );
    assert_eq!(
        client.call(&["XADD", &key, "*", "value", "", "partition", "1"]),
        bulk("2-1")
    );
    let stored = shared().read_all(&topic).unwrap();
    assert_eq!(stored.len(), 3);
    assert_eq!(stored[0].value.as_deref(), Some(binary));
    assert_eq!(stored[0].key.as_deref(), Some(binary));
    assert_eq!(stored[0].timestamp, Some(1_234_567));
    assert_eq!(stored[1].value, None);
    assert_eq!(stored[1].key.as_deref(), Some(&b""[..]));
    assert_eq!(stored[2].value.as_deref(), Some(&b""[..]));
    assert_eq!(stored[2].key, None);

    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    client.read_count(&of, 3);
    let reply = client.call(&["XREADGROUP", "GROUP", &group, "c", "STREAMS", &key, "0"]);
    let list = array(&array(&array(&reply)[0])[1]);
    let fields = |index: usize| array(&array(&list[index])[1]).to_vec();
    let binary = Reply::Bulk(binary.to_vec());
    assert_eq!(
        fields(0),
        [
            bulk("value"),
            binary.clone(),
            bulk("key"),
            binary,
            bulk("header:value"),
            bulk("h1"),
            bulk("trace"),
            bulk(""),
            bulk("trace"),
            bulk("2"),
            bulk("timestamp"),
            bulk("1234567"),
        ]
    );
    assert_eq!(fields(1)[..3], [bulk("key"), bulk(""), bulk("timestamp")]);
    assert_eq!(fields(2)[..3], [bulk("value"), bulk(""), bulk("timestamp")]);
}

#[test]
fn what_xadd_refuses_is_said_and_the_next_one_works() {
    let gateway = start();
    let bound = Duration::from_secs(5);
    let (mut said, mut known) = (Quickest::of(3, bound), Quickest::of(3, bound));
    while said.is_missing() || known.is_missing() {
        let (refused, found) = refusals_of_xadd(&gateway);
        said.took(refused);
        known.took(found);
    }
}

/// How long it took to say them all, and to know a topic that was made later.
fn refusals_of_xadd(gateway: &Gateway) -> (Duration, Duration) {
    let topic = new_topic("refusals", 1);
    let key = format!("topics:{topic}");
    let missing = format!("topics:{}", topic_name("missing"));
    let mut client = gateway.connect();
    let large = "x".repeat(1_000_001);
    let too_small =
        "ERR The ID specified in XADD is equal or smaller than the target stream top item";
    let wrong = "ERR wrong number of arguments for 'xadd' command";
    let cases: [(&[&str], &str); 11] = [
        (
            &[&key, "*", "value", &large],
            "PROD Broker: Message size too large",
        ),
        (
            &[&key, "*", "value", "x", "partition", "9"],
            "PROD Local: Unknown partition",
        ),
        (&[&key, "5-1", "value", "x"], too_small),
        (
            &[&key, "soon", "value", "x"],
            "ERR Invalid stream ID specified as stream command argument",
        ),
        (&[&key, "*", "value"], wrong),
        (&[&key, "*", "value", "x", "key"], wrong),
        (&[&key], wrong),
        (
            &["topics:", "*", "value", "x"],
            "PROD Local: Invalid argument or configuration",
        ),
        (
            &["topics:a/b", "*", "value", "x"],
            "PROD Broker: Invalid topic",
        ),
        (
            &["orders", "*", "value", "x"],
            "ERR Expected key to be 'topics:<topic>', got orders",
        ),
        (&[&missing, "*", "value", "x"], "PROD Local: Unknown topic"),
    ];
    // All in one go, with good ones between: answers keep their order.
    let mut commands = Vec::new();
    for (arguments, _) in &cases {
        commands.push([&["XADD"], *arguments].concat());
        commands.push(vec!["XADD", &key, "*", "value", "good"]);
    }
    commands.push(vec!["PING"]);
    let started = Instant::now();
    client.send_all(&commands);
    for (index, (arguments, expected)) in cases.iter().enumerate() {
        assert_eq!(client.reply(), error(expected), "{:?}", arguments.get(1));
        assert_eq!(client.reply(), bulk(&format!("{index}-0")));
    }
    assert_eq!(client.reply(), Reply::Simple("PONG".to_owned()));
    let said = started.elapsed();
    // Where nothing is to be made, nothing is said.
    assert_eq!(
        client.call(&["XADD", &missing, "NOMKSTREAM", "*", "value", "x"]),
        Reply::NullBulk
    );
    // Made later, it is used.
    shared()
        .create_topic(missing.strip_prefix("topics:").unwrap(), 1)
        .unwrap();
    let made = Instant::now();
    eventually("the topic is known", || {
        let reply = client.call(&["XADD", &missing, "*", "value", "x"]);
        matches!(reply, Reply::Bulk(_)).then_some(())
    });
    (said, made.elapsed())
}

#[test]
fn a_topic_is_created_where_brokers_do_so() {
    let gateway = Gateway::with_streams(shared_auto_create(), Config::default());
    let mut client = gateway.connect();
    // A busy broker takes longer than the 300 ms of the contract at times.
    let id = eventually("a topic that was created in time", || {
        let key = format!("topics:{}", topic_name("made"));
        let nothing = client.call(&["XADD", &key, "NOMKSTREAM", "*", "value", "x"]);
        assert_eq!(nothing, Reply::NullBulk);
        match client.call(&["XADD", &key, "*", "value", "x"]) {
            Reply::Bulk(id) => Some(id),
            Reply::Error(text) if text.contains("Unknown topic") => None,
            other => panic!("{other:?}"),
        }
    });
    assert!(id.starts_with(b"0-"));
}

#[test]
fn a_thousand_entries_are_on_their_way_together() {
    let gateway = start();
    let topic = new_topic("pipeline", 4);
    let key = format!("topics:{topic}");
    let mut client = gateway.connect();
    client.xadd(&topic, "first");
    const COUNT: usize = 20_000;
    let numbers: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let commands: Vec<Vec<&str>> = numbers
        .iter()
        .map(|number| vec!["XADD", &key, "*", "value", number, "partition", "2"])
        .collect();
    let mut replies = Vec::with_capacity(COUNT);
    std::thread::scope(|scope| {
        let mut writer = client.try_clone();
        scope.spawn(move || writer.send_all(&commands));
        for _ in 0..COUNT {
            replies.push(text(&client.reply()));
        }
    });
    // Answered in order: the ids of one partition ascend with the numbers.
    let offsets = |id: &String| id.split_once('-').unwrap().0.parse::<i64>().unwrap();
    assert!(
        replies
            .windows(2)
            .all(|two| offsets(&two[0]) + 1 == offsets(&two[1]))
    );
    let records = shared().read_all(&topic).unwrap();
    let stored: Vec<_> = records
        .iter()
        .filter(|record| record.partition == 2 && record.value_text() != "first")
        .map(|record| record.value_text())
        .collect();
    assert_eq!(stored, numbers);

    // Ten thousand in a transaction are, too: else this would take a minute.
    let mut commands = vec![vec!["MULTI"]];
    commands.extend(
        numbers[..9_999]
            .iter()
            .map(|n| vec!["XADD", &key, "*", "value", n]),
    );
    commands.extend([vec!["PING"], vec!["EXEC"]]);
    client.send_all(&commands);
    for _ in 0..10_001 {
        assert!(matches!(client.reply(), Reply::Simple(_)));
    }
    let executed = client.reply();
    let executed = array(&executed);
    assert_eq!(executed.len(), 10_000);
    assert!(
        executed[..9_999]
            .iter()
            .all(|reply| matches!(reply, Reply::Bulk(_)))
    );
    assert_eq!(executed[9_999], Reply::Simple("PONG".to_owned()));
}

/// Without a broker that answers, more than a thousand are taken before the first is answered; the
/// client that goes away is not waited for.
#[test]
fn entries_under_way_wait_for_nobody() {
    let kafka = barnabas_testkit::Cluster::builder().start().unwrap();
    let topic = topic_name("paused");
    kafka.create_topic(&topic, 1).unwrap();
    let mut quickest = Quickest::of(3, Duration::from_secs(5));
    while quickest.is_missing() {
        if !kafka.broker(0).is_running().unwrap() {
            kafka.broker(0).start().unwrap();
        }
        let mut gateway = Gateway::with_streams(&kafka, Config::default());
        let mut client = gateway.connect();
        client.xadd(&topic, "first");
        kafka.broker(0).stop().unwrap();
        let key = format!("topics:{topic}");
        let commands: Vec<Vec<&str>> = (0..2_000)
            .map(|_| vec!["XADD", &key, "*", "value", "x"])
            .collect();
        client.send_all(&commands);
        let mut other = gateway.connect();
        eventually("they are all accepted", || {
            (other.stat("producer.messages.accepted") == 2_001).then_some(())
        });
        assert!(!client.hears(Duration::from_millis(100)));
        drop(client);
        eventually("the connection has ended", || {
            (other.stat("server.connections") == 1).then_some(())
        });
        drop(other);
        let started = Instant::now();
        gateway.drain();
        quickest.took(started.elapsed());
    }
}

#[test]
fn without_groups_entries_can_still_be_added() {
    let gateway = Gateway::start();
    let topic = new_topic("no-groups", 1);
    let key = format!("topics:{topic}");
    let mut client = gateway.connect();
    assert_eq!(client.xadd(&topic, "x"), "0-0");
    assert_eq!(client.call(&["XLEN", &key]), Reply::Integer(1));
    let refused = error(
        "ERR Consumer groups of streams are not served here: this server was started without them",
    );
    let commands: [&[&str]; 4] = [
        &["XREADGROUP", "GROUP", "g", "c", "STREAMS", &key, ">"],
        &["XACK", &key, "g", "0-0"],
        &["XGROUP", "CREATE", &key, "g", "$"],
        &["XINFO", "GROUPS", &key],
    ];
    for command in commands {
        assert_eq!(client.call(command), refused, "{command:?}");
    }
}

#[test]
fn counters_and_descriptions_know_streams() {
    let gateway = start();
    let (topic, group) = (new_topic("counters", 1), topic_name("counters"));
    let key = format!("topics:{topic}");
    let mut watcher = gateway.connect();
    assert_eq!(watcher.call(&["MONITOR"]), Reply::Simple("OK".to_owned()));
    let mut client = gateway.connect();
    client.xadd(&topic, "a");
    client.xadd(&topic, "b");
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    client.read_count(&of, 2);
    client.xack(&of, &["0-0"]);
    for (name, count) in [
        ("producer.messages.accepted", 2),
        ("producer.messages.delivered", 2),
        ("consumer.messages.delivered", 2),
        ("consumer.acks.stored", 1),
    ] {
        assert_eq!(client.stat(name), count, "{name}");
    }
    let info = text(&client.call(&["INFO", "kafka"]));
    assert!(info.contains("stream_consumers:1\r\n"), "{info}");
    let Reply::Simple(line) = watcher.reply() else {
        panic!("no line");
    };
    assert!(
        line.ends_with(&format!(r#""XADD" "{key}" "*" "value" "a""#)),
        "{line}"
    );
    for command in ["xadd", "xreadgroup", "xack", "xgroup", "xlen", "xinfo"] {
        let info = client.call(&["COMMAND", "INFO", command]);
        assert_eq!(array(&array(&info)[0])[0], bulk(command));
    }
    let unknown = "ERR unknown subcommand 'STREAM'. Try XINFO HELP.";
    assert_eq!(client.call(&["XINFO", "STREAM", &key]), error(unknown));
    for (words, name) in [
        (&["XACK", key.as_str(), "g"][..], "xack"),
        (
            &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "topics:t"],
            "xreadgroup",
        ),
        (&["XLEN"], "xlen"),
        (&["XGROUP", "CREATE", "k"], "xgroup|create"),
    ] {
        let text = format!("ERR wrong number of arguments for '{name}' command");
        assert_eq!(client.call(words), error(&text));
    }
}
