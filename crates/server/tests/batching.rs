//! When batches leave, topic by topic, through the front ends of `barnabas serve`:
//! what Kafka has in one batch.

use crate::strategies::{Started, config, start};
use crate::support::{PATIENCE, address, curl, eventually, grpcurl};
use barnabas_testkit::{shared, topic_name};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Milliseconds; longer than any test waits, so that only the count counts.
const LONG: u32 = 200_000;

fn topic() -> String {
    let topic = topic_name("batching");
    shared().create_topic(&topic, 1).unwrap();
    topic
}

/// Pushes so many messages over one connection.
fn push(started: &Started, topic: &str, count: usize) -> TcpStream {
    let mut client = TcpStream::connect(address(&started.gateway, 0)).unwrap();
    client.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    let command = format!("RPUSHX topics:{topic} x\r\n");
    client.write_all(command.repeat(count).as_bytes()).unwrap();
    expect(&mut client, &":1\r\n".repeat(count));
    client
}

fn expect(client: &mut TcpStream, expected: &str) {
    let mut replies = vec![0; expected.len()];
    client.read_exact(&mut replies).unwrap();
    assert_eq!(String::from_utf8_lossy(&replies), expected);
}

/// Posts so many lines; the answer's status.
fn post(started: &Started, topic: &str, durability: &str, count: usize) -> u16 {
    let address = address(&started.gateway, 1);
    let url = format!("http://{address}/v1/topics/{topic}/records?durability={durability}");
    let kind = "Content-Type: application/x-ndjson";
    let (status, body) = curl(&["-H", kind, "--data-binary", &"x\n".repeat(count), &url]);
    assert!(body.contains(r#""refused":0"#), "{status} {body}");
    status
}

/// Waits until Kafka has as many as these batches have, and looks at its own.
fn arrive(topic: &str, expected: &[i32]) {
    let batches = eventually(&format!("{expected:?} are in Kafka"), || {
        let batches = shared().broker(0).batches(topic, 0).unwrap();
        (batches.iter().sum::<i32>() >= expected.iter().sum()).then_some(batches)
    });
    assert_eq!(batches, expected);
}

#[test]
fn a_batch_leaves_when_it_has_its_count() {
    let [own, rest] = [topic(), topic()];
    let counts = format!("{{{own}: 3, default: 2}}");
    let started = start(
        &format!("{{linger_ms: {LONG}, batch_messages: {counts}}}"),
        "",
    );
    push(&started, &own, 5);
    arrive(&own, &[3]);
    // The two are there, and had to wait for this one.
    assert_eq!(post(&started, &own, "memory", 1), 202);
    arrive(&own, &[3, 3]);
    assert_eq!(post(&started, &own, "memory", 7), 202);
    arrive(&own, &[3, 3, 3, 3]);
    push(&started, &own, 2);
    arrive(&own, &[3, 3, 3, 3, 3]);
    // Who asks for Kafka's word has it as soon as the batch is full.
    assert_eq!(post(&started, &own, "kafka", 3), 200);
    arrive(&own, &[3, 3, 3, 3, 3, 3]);

    push(&started, &rest, 3);
    arrive(&rest, &[2]);
    let produced = format!(r#"{{"topic": "{rest}", "message": "eA==", "async_mode": true}}"#);
    grpcurl(&address(&started.gateway, 2), "Produce", &produced).unwrap();
    arrive(&rest, &[2, 2]);
}

#[test]
fn a_batch_leaves_when_its_oldest_message_is_old_enough() {
    let [own, other] = [topic(), topic()];
    let started = start(&format!("{{linger_ms: {{{own}: 5000}}}}"), "");
    let begun = Instant::now();
    push(&started, &own, 2);
    push(&started, &other, 1);
    arrive(&other, &[1]);
    arrive(&own, &[2]);
    assert!(begun.elapsed() >= Duration::from_secs(5), "{begun:?}");
}

/// The journal sends by a producer of its own.
#[test]
fn the_journals_batches_leave_so_too() {
    let own = topic();
    let journal = tempfile::tempdir().unwrap();
    let more = format!(
        "durability: journal\njournal: {{dir: '{}'}}\n",
        journal.path().display()
    );
    let started = start(
        &format!("{{linger_ms: {{{own}: {LONG}}}, batch_messages: {{{own}: 3}}}}"),
        &more,
    );
    push(&started, &own, 5);
    arrive(&own, &[3]);
    assert_eq!(post(&started, &own, "journal", 1), 202);
    arrive(&own, &[3, 3]);
}

#[test]
fn batches_change_from_the_next_message_on() {
    let [own, other] = [topic(), topic()];
    let started = start(
        &format!("{{linger_ms: {LONG}, batch_messages: {{{own}: 100}}}}"),
        "",
    );
    push(&started, &own, 2);
    let counts = format!("batch_messages: {{{own}: 3, {other}: 2}}");
    started.reload(
        &config(&format!("{{linger_ms: {LONG}, {counts}}}"), ""),
        "configuration reloaded: clusters.default.produce.batch_messages",
    );
    push(&started, &own, 1);
    arrive(&own, &[3]);
    push(&started, &other, 3);
    arrive(&other, &[2]);

    let too_long = "clusters.default.produce.linger_ms: that of default must be less than";
    started.reload(
        &config(&format!("{{linger_ms: 900000, {counts}}}"), ""),
        too_long,
    );
    push(&started, &other, 1);
    arrive(&other, &[2, 2]);

    // What waits leaves with the next one, which does not fill the batch.
    push(&started, &own, 1);
    started.reload(
        &config(&format!("{{{counts}}}"), ""),
        "configuration reloaded: clusters.default.produce.linger_ms",
    );
    push(&started, &own, 1);
    eventually("both are in Kafka", || {
        let ends = shared().end_offsets(&own).unwrap();
        (ends[&0] == 5).then_some(())
    });
}

#[test]
fn nothing_waits_while_somebody_waits_for_deliveries() {
    let own = topic();
    let started = start(&format!("{{linger_ms: {{{own}: {LONG}}}}}"), "");
    let mut client = push(&started, &own, 2);
    client.write_all(b"DUMP 60000\r\n").unwrap();
    expect(&mut client, ":0\r\n");
    arrive(&own, &[2]);
    push(&started, &own, 1);
    let (status, _) = started.gateway.terminate().unwrap();
    assert!(status.success(), "{status:?}");
    arrive(&own, &[2, 1]);
}
