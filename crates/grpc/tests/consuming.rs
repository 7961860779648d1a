//! ConsumeNAck.

use crate::support::{
    Gateway, ack_and_next, auto_ack, committed, fill, get, new_topic, next, no_ack, text,
};
use barnabas_grpc::proto::{ConsNAckRq, RecordHeader};
use barnabas_testkit::{NewRecord, shared, topic_name};
use bytes::Bytes;

#[tokio::test(flavor = "multi_thread")]
async fn auto_ack_acknowledges_what_it_returns() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("auto"), new_topic("auto", 1));
    fill(&topic, &["a", "b", "c"]);
    let request = auto_ack(&group, &topic);
    for (offset, value) in [(0, "a"), (1, "b"), (2, "c")] {
        assert_eq!(
            next(&mut client, &request).await,
            (offset, value.to_owned())
        );
        committed(&group, &topic, offset + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_loop_acknowledges_the_previous_message() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("loop"), new_topic("loop", 1));
    fill(&topic, &["a", "b", "c"]);
    assert_eq!(next(&mut client, &no_ack(&group, &topic)).await.0, 0);
    assert_eq!(
        next(&mut client, &ack_and_next(&group, &topic, 0)).await.0,
        1
    );
    assert_eq!(
        next(&mut client, &ack_and_next(&group, &topic, 1)).await.0,
        2
    );
    committed(&group, &topic, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ack_beats_auto_ack_beats_the_pair() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("beats"), new_topic("beats", 1));
    fill(&topic, &["a", "b", "c"]);
    // Numbers that would be refused if they were read.
    let bad = ConsNAckRq {
        ack_partition: -1,
        ack_offset: -1,
        ..no_ack(&group, &topic)
    };
    let both = ConsNAckRq {
        auto_ack: true,
        ..bad.clone()
    };
    assert_eq!(next(&mut client, &both).await.0, 0);
    let auto = ConsNAckRq {
        no_ack: false,
        ..both
    };
    assert_eq!(next(&mut client, &auto).await.0, 1);
    // 1 was acknowledged, 0 was not.
    assert_eq!(
        next(&mut client, &ack_and_next(&group, &topic, 0)).await.0,
        2
    );
    committed(&group, &topic, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_ack_does_not_change_the_reply() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("refused"), new_topic("refused", 1));
    fill(&topic, &["a", "b"]);
    // Nothing is owned yet; then there is no such offset, nor such a partition.
    let request = ack_and_next(&group, &topic, 7);
    assert_eq!(next(&mut client, &request).await.0, 0);
    let request = ConsNAckRq {
        ack_partition: 5,
        ..request
    };
    assert_eq!(next(&mut client, &request).await.0, 1);
    assert_eq!(
        shared().committed(&group, &topic).unwrap().get(&0),
        Some(&0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_message_arrives() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("all"), new_topic("all", 1));
    let records = [
        NewRecord {
            key: Some(b"k"),
            value: Some(b"\x00\xff"),
            headers: vec![("b", Some(&b"2"[..])), ("a", None)],
            ..NewRecord::default()
        },
        NewRecord {
            key: Some(b""),
            value: Some(b""),
            ..NewRecord::default()
        },
        NewRecord::default(),
    ];
    shared().produce_all(&topic, records).unwrap();
    let request = auto_ack(&group, &topic);

    let full = get(&mut client, &request).await;
    assert_eq!((full.partition, full.offset), (0, 0));
    assert_eq!((&*full.key_value, full.key_undefined), (&b"k"[..], false));
    assert_eq!(&*full.message, b"\x00\xff");
    let header = |name: &str, value: &'static [u8]| RecordHeader {
        key: name.to_owned(),
        value: Bytes::from_static(value),
    };
    assert_eq!(full.headers, [header("b", b"2"), header("a", b"")]);

    let empty = get(&mut client, &request).await;
    assert_eq!((&*empty.key_value, empty.key_undefined), (&b""[..], false));
    assert!(empty.message.is_empty() && empty.headers.is_empty());

    let tombstone = get(&mut client, &request).await;
    assert_eq!(
        (&*tombstone.key_value, tombstone.key_undefined),
        (&b""[..], true)
    );
    assert!(tombstone.message.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_do_not_exist_for_an_old_kafka() {
    let gateway = Gateway::with(|options| options.has_headers = false);
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("old"), new_topic("old", 1));
    let record = NewRecord {
        value: Some(b"x"),
        headers: vec![("a", Some(&b"1"[..]))],
        ..NewRecord::default()
    };
    shared().produce_all(&topic, [record]).unwrap();
    let message = get(&mut client, &auto_ack(&group, &topic)).await;
    assert_eq!(text(&message.message), "x");
    assert_eq!(message.headers, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_arrive() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("large"), new_topic("large", 1));
    let large = "x".repeat(999_000);
    fill(&topic, &[&large, &large, "end"]);
    let request = auto_ack(&group, &topic);
    for offset in 0..2 {
        let (found, value) = next(&mut client, &request).await;
        assert_eq!(found, offset);
        assert!(value == large);
    }
    assert_eq!(next(&mut client, &request).await, (2, "end".to_owned()));
    committed(&group, &topic, 3).await;
}

/// More polls than hyper's default limit of streams, on one connection.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_hundreds_of_polls() {
    let gateway = Gateway::with(|options| {
        options.dispatch.queued_requests = 1_000;
        options.dispatch.long_polling = crate::support::PATIENCE;
    });
    let client = gateway.client().await;
    let (group, topic) = (topic_name("many"), new_topic("many", 1));
    let polls: Vec<_> = (0..300)
        .map(|_| {
            let (mut client, request) = (client.clone(), auto_ack(&group, &topic));
            tokio::spawn(async move { next(&mut client, &request).await.0 })
        })
        .collect();
    let values: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let records = values.iter().map(|value| NewRecord {
        value: Some(value.as_bytes()),
        ..NewRecord::default()
    });
    shared().produce_all(&topic, records).unwrap();
    let mut offsets = Vec::new();
    for poll in polls {
        offsets.push(poll.await.unwrap());
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..300).collect::<Vec<_>>());
    committed(&group, &topic, 300).await;
}
