//! Section 13.3: XREADGROUP's waits: how long they last, what ends them, and that nothing is missed or
//! lost by them.

use crate::streams::{Reader, committed, entries, offsets, start};
use crate::support::{
    Client, Gateway, LATE, PATIENCE, Reply, bulk, dispatching, error, eventually, fill, new_topic,
};
use barnabas_redis::Config;
use barnabas_testkit::{NewRecord, Quickest, shared, topic_name};
use std::time::{Duration, Instant};

#[test]
fn xreadgroup_waits_as_long_as_it_was_told() {
    let gateway = start();
    let (topic, group) = (new_topic("block", 1), topic_name("block"));
    let key = format!("topics:{topic}");
    let mut client = gateway.connect();
    let read = |client: &mut Client, group: &str, options: &[&str]| {
        let start = ["XREADGROUP", "GROUP", group, "c"];
        client.send(&[&start[..], options, &["STREAMS", &key, ">"]].concat());
    };
    let wait = |client: &mut Client, group: &str, options: &[&str], told: Duration| {
        let started = Instant::now();
        read(client, group, options);
        client.expect("*-1\r\n");
        let elapsed = started.elapsed();
        assert!(elapsed >= told, "{options:?}: {elapsed:?}");
        elapsed
    };
    // While the group is being joined: another one each time.
    let told = Duration::from_millis(300);
    let mut quickest = Quickest::of(5, told + LATE);
    while quickest.is_missing() {
        let group = topic_name("block");
        quickest.took(wait(&mut client, &group, &["BLOCK", "300"], told));
    }
    for (options, milliseconds) in [
        (&["BLOCK", "50"][..], 50),
        (&[], 0),
        (&["BLOCK", "1"], 1),
        (&["BLOCK", "1000"], 1_000),
    ] {
        let told = Duration::from_millis(milliseconds);
        let mut quickest = Quickest::of(5, told + LATE);
        while quickest.is_missing() {
            quickest.took(wait(&mut client, &group, options, told));
        }
    }
    read(&mut client, &group, &["BLOCK", "0"]);
    assert!(!client.hears(Duration::from_millis(1_200)));
    gateway.connect().xadd(&topic, "late");
    assert_eq!(entries(&client.reply())[0].1[0].value(), "late");
}

#[test]
fn inside_a_transaction_nothing_is_waited_for() {
    let gateway = start();
    let mut quickest = Quickest::of(3, Duration::from_secs(5));
    while quickest.is_missing() {
        quickest.took(transaction_that_reads(&gateway));
    }
}

fn transaction_that_reads(gateway: &Gateway) -> Duration {
    let (topic, group) = (new_topic("multi", 1), topic_name("multi"));
    let key = format!("topics:{topic}");
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    client.xadd(&topic, "first");
    client.read_count(&of, 1);
    let read = vec![
        "XREADGROUP",
        "GROUP",
        &group,
        "c",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ];
    let started = Instant::now();
    client.send_all(&[
        vec!["MULTI"],
        read.clone(),
        vec!["XACK", &key, &group, "0-0"],
        vec!["XADD", &key, "*", "value", "second"],
        vec!["EXEC"],
    ]);
    for _ in 0..4 {
        assert!(matches!(client.reply(), Reply::Simple(_)));
    }
    let expected = [Reply::NullArray, Reply::Integer(1), bulk("1-0")];
    assert_eq!(client.reply(), Reply::Array(expected.to_vec()));
    started.elapsed()
}

#[test]
fn who_hangs_up_while_waiting_gets_nothing() {
    let gateway = start();
    let (topic, group) = (new_topic("hang-up", 1), topic_name("hang-up"));
    let key = format!("topics:{topic}");
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    client.xadd(&topic, "first");
    client.read_count(&of, 1);
    let read = [
        "XREADGROUP",
        "GROUP",
        &group,
        "gone",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ];
    let mut quickest = Quickest::of(3, Duration::from_secs(2));
    while quickest.is_missing() {
        let mut gone = gateway.connect();
        gone.send(&read);
        client.until_blocked(1);
        let since = Instant::now();
        drop(gone);
        eventually("the hang-up is noticed", || {
            (client.stat("server.connections") == 1).then_some(())
        });
        quickest.took(since.elapsed());
    }
    client.xadd(&topic, "second");
    assert_eq!(offsets(&client.read_count(&of, 1)), [1]);

    // CLIENT KILL ends a wait, too.
    let mut killed = gateway.connect();
    let Reply::Integer(id) = killed.call(&["CLIENT", "ID"]) else {
        panic!("no id");
    };
    killed.send(&read);
    client.until_blocked(1);
    let kill = ["CLIENT", "KILL", "ID", &id.to_string()];
    assert_eq!(client.call(&kill), Reply::Integer(1));
    eventually("it has ended", || {
        (client.stat("server.connections") == 1).then_some(())
    });
    client.xadd(&topic, "third");
    assert_eq!(offsets(&client.read_count(&of, 1)), [2]);
}

/// A reply that nobody takes: its entries go to somebody else.
#[test]
fn entries_of_a_reply_that_is_not_written_come_again() {
    let gateway = start();
    let (topic, group) = (new_topic("unwritten", 1), topic_name("unwritten"));
    let value = vec![b'x'; 900_000];
    let records = (0..17).map(|_| NewRecord {
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
    let key = format!("topics:{topic}");
    let mut client = gateway.connect();
    let mut silent = gateway.connect();
    // It asks for more than its socket holds, reads nothing, and goes away.
    let read = [
        "XREADGROUP",
        "GROUP",
        &group,
        "silent",
        "COUNT",
        "1",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ];
    silent.send_all(&vec![read.to_vec(); 17]);
    assert!(silent.hears(PATIENCE));
    let gone = Reader {
        name: "silent",
        ..of
    };
    let mut held = 0;
    eventually("its socket is full", || {
        let before = std::mem::replace(&mut held, client.read_group(&gone, &[], "0").len());
        (held > 0 && held == before).then_some(())
    });
    drop(silent);
    let mut got = Vec::new();
    eventually("each entry has somebody", || {
        got.extend(offsets(&client.read_group(&of, &["BLOCK", "500"], ">")));
        let mut all = offsets(&client.read_group(&gone, &[], "0"));
        all.extend(&got);
        all.sort_unstable();
        (all == (0..17).collect::<Vec<_>>()).then_some(())
    });
    assert!(!got.is_empty(), "the socket has taken everything");
}

#[test]
fn a_stopping_server_lets_acknowledgements_in() {
    let mut quickest = Quickest::of(3, Duration::from_secs(3));
    while quickest.is_missing() {
        quickest.took(drain_with_acknowledgements());
    }
}

fn drain_with_acknowledgements() -> Duration {
    let mut gateway = start();
    let (topic, group) = (new_topic("stop", 1), topic_name("stop"));
    let key = format!("topics:{topic}");
    fill(&topic, 1, 3);
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    client.read_count(&of, 3);
    let mut waiting = gateway.connect();
    let read = [
        "XREADGROUP",
        "GROUP",
        &group,
        "w",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ];
    waiting.send(&read);
    client.until_blocked(1);
    let stopped = error("CONS Server shutdown");
    let drained = std::thread::scope(|scope| {
        let drained = scope.spawn(|| {
            let since = Instant::now();
            gateway.drain();
            since.elapsed()
        });
        assert_eq!(waiting.reply(), stopped);
        // Nothing new, but what was delivered is acknowledged.
        assert_eq!(client.call(&read), stopped);
        assert_eq!(client.xack(&of, &["0-0", "1-0", "2-0"]), 3);
        drained.join().unwrap()
    });
    client.expect_end();
    gateway.stop_groups();
    assert_eq!(committed(&of, 0), Some(3));
    drained
}

#[test]
fn a_stopping_server_does_not_wait_for_the_silent() {
    let mut quickest = Quickest::of(3, Duration::from_secs(8));
    while quickest.is_missing() {
        quickest.took(drain_with_a_silent_consumer());
    }
}

fn drain_with_a_silent_consumer() -> Duration {
    let mut gateway = start();
    let (topic, group) = (new_topic("silent", 1), topic_name("silent"));
    fill(&topic, 1, 3);
    let of = Reader {
        group: &group,
        name: "c",
        topic: &topic,
    };
    let mut client = gateway.connect();
    client.read_count(&of, 3);
    client.xack(&of, &["1-0"]);
    let since = Instant::now();
    gateway.drain();
    gateway.stop_groups();
    let elapsed = since.elapsed();
    assert_eq!(committed(&of, 0), Some(0));
    // The next process begins with what was not acknowledged, and with nothing else.
    let gateway = start();
    let mut client = gateway.connect();
    assert_eq!(offsets(&client.read_count(&of, 2)), [0, 2]);
    elapsed
}

/// New groups begin at the end: nothing is missed that comes after the first request.
#[test]
fn a_group_need_not_exist() {
    let dispatch = barnabas_engine::DispatchConfig {
        initial_offset: barnabas_engine::InitialOffset::Newest,
        ..dispatching()
    };
    let gateway = Gateway::build(shared(), Config::default(), |_| {}, Some(dispatch));
    let (topic, group) = (new_topic("new-group", 1), topic_name("new-group"));
    fill(&topic, 1, 3);
    let mut client = gateway.connect();
    let key = format!("topics:{topic}");
    client.send(&[
        "XREADGROUP",
        "GROUP",
        &group,
        "c",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ]);
    let mut other = gateway.connect();
    other.until_blocked(1);
    other.xadd(&topic, "new");
    assert_eq!(entries(&client.reply())[0].1[0].value(), "new");
    // A topic that does not exist yet is waited for.
    let later = topic_name("later");
    let key = format!("topics:{later}");
    client.send(&[
        "XREADGROUP",
        "GROUP",
        &group,
        "c",
        "BLOCK",
        "0",
        "STREAMS",
        &key,
        ">",
    ]);
    other.until_blocked(1);
    shared().create_topic(&later, 1).unwrap();
    other.xadd(&later, "x");
    assert_eq!(entries(&client.reply())[0].1[0].value(), "x");
}
