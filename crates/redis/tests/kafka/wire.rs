//! The conversation of the contract's section 10, byte for byte.

use crate::support::{Gateway, eventually};
use barnabas_testkit::{Cluster, NewRecord};
use std::time::Duration;

/// A cluster of its own: the replies of KEYS and the counters are about everything there is.
#[test]
fn what_old_clients_send_is_answered_byte_for_byte() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("orders", 3).unwrap();
    let mut gateway = Gateway::on(&kafka);
    produce(&gateway, &kafka);
    let mut second = consume(&gateway, &kafka);
    ask(&gateway, &kafka);

    // The server stops: a waiting consumer is told, then the connection ends.
    second.send_bytes(b"*3\r\n$5\r\nblpop\r\n$13\r\ntopics:orders\r\n$2\r\n60\r\n");
    assert!(!second.hears(Duration::from_millis(100)));
    gateway.drain();
    second.expect("-CONS Server shutdown\r\n");
    second.expect_end();
}

fn produce(gateway: &Gateway, kafka: &Cluster) {
    let mut producer = gateway.connect();
    producer.exchange("*1\r\n$4\r\nping\r\n", "+PONG\r\n");
    producer.exchange(
        "*3\r\n$6\r\nrpushx\r\n$13\r\ntopics:orders\r\n$7\r\npaid 17\r\n",
        ":1\r\n",
    );
    producer.exchange(
        "*3\r\n$6\r\nrpushx\r\n$20\r\ntopics:orders:cust-9\r\n$5\r\ncafé\r\n",
        ":1\r\n",
    );
    producer.exchange("*2\r\n$4\r\ndump\r\n$5\r\n20000\r\n", ":0\r\n");
    let records = kafka.read_all("orders").unwrap();
    let mut found: Vec<(Option<&[u8]>, String)> = records
        .iter()
        .map(|record| (record.key.as_deref(), record.value_text()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            (None, "paid 17".to_owned()),
            (Some(&b"cust-9"[..]), "café".to_owned())
        ]
    );
    // No such topic: the first is accepted and fails, the second is refused.
    let absent = "*3\r\n$6\r\nrpushx\r\n$13\r\ntopics:absent\r\n$1\r\nx\r\n";
    producer.exchange(absent, ":1\r\n");
    producer.exchange("*2\r\n$4\r\ndump\r\n$5\r\n20000\r\n", ":0\r\n");
    producer.exchange(absent, "-PROD Local: Unknown topic\r\n");
    producer.exchange("*1\r\n$4\r\nquit\r\n", "$2\r\nOK\r\n");
    producer.expect_end();
}

/// Partition 2 up to offset 40 and partition 0 up to offset 6 are behind the group, the rest is
/// before it.
fn consume(gateway: &Gateway, kafka: &Cluster) -> crate::support::Client {
    let ends = kafka.end_offsets("orders").unwrap();
    let fillers = |partition: i32, up_to: i64| {
        (ends[&partition]..up_to).map(move |_| NewRecord {
            partition: Some(partition),
            value: Some(b"filler"),
            ..NewRecord::default()
        })
    };
    kafka
        .produce_all("orders", fillers(2, 41).chain(fillers(0, 7)))
        .unwrap();
    let mut before = gateway.named("billing:w-0");
    before.next("orders");
    for (partition, end) in kafka.end_offsets("orders").unwrap() {
        let ack = format!("orders:{partition}:{}", end - 1);
        // The other partitions may come a moment later than the first message.
        eventually("the assignment", || {
            let reply = before.call(&["rpush", "acks", &ack]);
            (reply == crate::support::Reply::Integer(1)).then_some(())
        });
    }
    before.quit();
    kafka
        .produce("orders", Some(2), None, Some(b"paid 17"))
        .unwrap();

    let mut consumer = gateway.connect();
    let set_name = "*3\r\n$6\r\nclient\r\n$7\r\nsetname\r\n$11\r\nbilling:w-1\r\n";
    consumer.exchange(set_name, "$2\r\nOK\r\n");
    let mut rival = gateway.connect();
    rival.exchange(
        &set_name
            .to_uppercase()
            .replace("BILLING:W-1", "billing:w-1"),
        "-CONS id billing:w-1 is already taken\r\n",
    );
    consumer.exchange(
        "*3\r\n$5\r\nblpop\r\n$13\r\ntopics:orders\r\n$2\r\n20\r\n",
        "*8\r\n$5\r\ntopic\r\n$6\r\norders\r\n$9\r\npartition\r\n:2\r\n$6\r\noffset\r\n:41\r\n\
         $5\r\nvalue\r\n$7\r\npaid 17\r\n",
    );
    consumer.exchange(
        "*3\r\n$5\r\nrpush\r\n$4\r\nacks\r\n$11\r\norders:2:41\r\n",
        ":1\r\n",
    );
    for (length, timeout) in [(1, "1"), (3, "0.3"), (3, "1.0")] {
        consumer.exchange(
            &format!("*3\r\n$5\r\nblpop\r\n$13\r\ntopics:orders\r\n${length}\r\n{timeout}\r\n"),
            "*-1\r\n",
        );
    }
    kafka.produce("orders", Some(0), None, None).unwrap();
    consumer.exchange(
        "*3\r\n$5\r\nblpop\r\n$13\r\ntopics:orders\r\n$2\r\n20\r\n",
        "*8\r\n$5\r\ntopic\r\n$6\r\norders\r\n$9\r\npartition\r\n:0\r\n$6\r\noffset\r\n:7\r\n\
         $5\r\nvalue\r\n$-1\r\n",
    );
    consumer.exchange(
        "*3\r\n$5\r\nrpush\r\n$4\r\nacks\r\n$10\r\norders:0:7\r\n",
        ":1\r\n",
    );
    consumer.exchange("*1\r\n$4\r\nquit\r\n", "$2\r\nOK\r\n");
    consumer.expect_end();
    eventually("the commit", || {
        let committed = kafka.committed("billing", "orders").unwrap();
        let both = (committed.get(&2), committed.get(&0));
        (both == (Some(&42), Some(&8))).then_some(())
    });

    // A configuration of one's own, under the name that is free again.
    rival.exchange(set_name, "$2\r\nOK\r\n");
    rival.exchange(
        "*3\r\n$5\r\nblpop\r\n$44\r\ntopics:orders:{\"auto.offset.reset\":\"latest\"}\r\n$1\r\n1\r\n",
        "*-1\r\n",
    );
    rival
}

fn ask(gateway: &Gateway, kafka: &Cluster) {
    let mut redis = gateway.connect();
    redis.send_bytes(b"*2\r\n$7\r\nhgetall\r\n$5\r\nstats\r\n");
    // Old clients know three pairs, and that more may follow.
    redis.expect(
        "*24\r\n$27\r\nproducer.unflushed.messages\r\n$1\r\n0\r\n\
         $24\r\nproducer.delivery.errors\r\n$1\r\n1\r\n$23\r\nproducer.unknown.events\r\n$1\r\n0\r\n",
    );
    for _ in 0..18 {
        redis.reply();
    }
    let keys = "*2\r\n$4\r\nkeys\r\n$7\r\ntopics:\r\n";
    redis.exchange(
        keys,
        "*2\r\n$25\r\ntopics:__consumer_offsets\r\n$13\r\ntopics:orders\r\n",
    );
    redis.exchange("*2\r\n$3\r\ndel\r\n$5\r\nstats\r\n", ":1\r\n");
    assert_eq!(redis.stat("producer.delivery.errors"), 0);
    // It has deleted no topic.
    assert_eq!(kafka.topics().unwrap(), ["orders"]);
}
