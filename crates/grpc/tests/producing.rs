//! Produce.

use crate::support::{Gateway, PATIENCE, assert_refused, header, message, new_topic};
use barnabas_grpc::proto::ProdRq;
use barnabas_testkit::{Record, shared, topic_name};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tonic::Code;

/// All records, once there are so many.
async fn records(topic: &str, count: usize) -> Vec<Record> {
    let started = Instant::now();
    loop {
        let records = shared().read_all(topic).unwrap();
        if records.len() >= count || started.elapsed() > crate::support::PATIENCE {
            return records;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_is_the_default_and_tells_where() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("sync", 1);
    for offset in 0..3 {
        let reply = client.produce(message(&topic, "x")).await.unwrap();
        let reply = reply.into_inner();
        assert_eq!((reply.partition, reply.offset), (0, offset));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn async_mode_answers_minus_one_and_writes_in_order() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("async", 1);
    for number in 0..10 {
        let request = ProdRq {
            async_mode: true,
            ..message(&topic, &number.to_string())
        };
        let reply = client.produce(request).await.unwrap().into_inner();
        assert_eq!((reply.partition, reply.offset), (-1, -1));
    }
    let found: Vec<_> = records(&topic, 10)
        .await
        .iter()
        .map(Record::value_text)
        .collect();
    let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn async_mode_hides_failures() {
    let gateway = Gateway::with(|options| options.has_headers = false);
    let mut client = gateway.client().await;
    let topic = new_topic("hidden", 1);
    let refused = [
        message(&topic_name("missing"), "x"),
        message("no name for a topic", "x"),
        message(&topic, &"x".repeat(1_000_001)),
        ProdRq {
            headers: vec![header("a", b"b")],
            ..message(&topic, "x")
        },
    ];
    for request in refused {
        let request = ProdRq {
            async_mode: true,
            ..request
        };
        let reply = client.produce(request).await.unwrap().into_inner();
        assert_eq!((reply.partition, reply.offset), (-1, -1));
    }
    client.produce(message(&topic, "end")).await.unwrap();
    let found = records(&topic, 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].value_text(), "end");
    // Nobody is told, but they are counted. The missing topic is known to be missing last.
    let expected = [
        ("unknown_topic", 1),
        ("too_large", 1),
        ("headers_unsupported", 1),
        ("timed_out", 0),
        ("other", 1),
    ];
    let counts = || -> Vec<(&str, u64)> {
        let counts = gateway.server.dropped();
        counts
            .map(|(reason, count)| (reason.name(), count))
            .collect()
    };
    let started = Instant::now();
    while counts() != expected {
        assert!(started.elapsed() < PATIENCE, "{:?}", counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_async_mode_tells_what_is_known_at_once() {
    let gateway = Gateway::with(|options| {
        options.has_headers = false;
        options.strict_async = true;
    });
    let mut client = gateway.client().await;
    let topic = new_topic("strict", 1);
    let refused = [
        message(&topic, &"x".repeat(1_000_001)),
        ProdRq {
            headers: vec![header("a", b"b")],
            ..message(&topic, "x")
        },
    ];
    for request in refused {
        let mut codes = Vec::new();
        for async_mode in [false, true] {
            let request = ProdRq {
                async_mode,
                ..request.clone()
            };
            codes.push(client.produce(request).await.unwrap_err().code());
        }
        assert_eq!(codes[0], codes[1], "as who waits for Kafka");
    }
    let request = ProdRq {
        async_mode: true,
        ..message(&topic, "x")
    };
    assert_eq!(
        client.produce(request).await.unwrap().into_inner().offset,
        -1
    );
    assert_eq!(records(&topic, 1).await.len(), 1);
    assert!(gateway.server.dropped().all(|(_, count)| count == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_there_unless_it_is_said_to_be_undefined() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("keys", 10);
    // Partitions of 10 from the contract's table.
    let keys: [(&'static [u8], i32); 5] = [
        (b"", 5),
        (b"foo", 3),
        (b"user-42", 9),
        (b"\xff\xfe", 0),
        (b"qqk42v", 8),
    ];
    for (key, partition) in keys {
        let request = ProdRq {
            topic: topic.clone(),
            key_value: Bytes::from_static(key),
            ..ProdRq::default()
        };
        let reply = client.produce(request).await.unwrap().into_inner();
        assert_eq!(reply.partition, partition, "{key:?}");
    }
    let mut found: Vec<_> = records(&topic, keys.len())
        .await
        .into_iter()
        .map(|record| (record.partition, record.key.unwrap(), record.value.unwrap()))
        .collect();
    found.sort();
    let mut expected = keys.map(|(key, partition)| (partition, key.to_vec(), Vec::new()));
    expected.sort();
    assert_eq!(found, expected);

    // A value that comes with an undefined key is none.
    let topic = new_topic("keyless", 1);
    let request = ProdRq {
        key_value: Bytes::from_static(b"foo"),
        ..message(&topic, "x")
    };
    client.produce(request).await.unwrap();
    assert_eq!(records(&topic, 1).await[0].key, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_kept_byte_for_byte_and_in_order() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("headers", 1);
    let request = ProdRq {
        headers: vec![
            header("trace-ID", b"\x00\xff"),
            header("Größe", b"1"),
            header("trace-ID", b""),
            header("", b"nameless"),
        ],
        ..message(&topic, "x")
    };
    client.produce(request).await.unwrap();
    let headers = records(&topic, 1).await.remove(0).headers;
    let expected: [(&str, &[u8]); 4] = [
        ("trace-ID", b"\x00\xff"),
        ("Größe", b"1"),
        ("trace-ID", b""),
        ("", b"nameless"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), Some(value.to_vec())));
    assert_eq!(headers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_have_names_and_one_is_the_default() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("clusters", 1);
    for (offset, cluster) in ["", "main"].into_iter().enumerate() {
        let request = ProdRq {
            cluster: cluster.to_owned(),
            ..message(&topic, "x")
        };
        let reply = client.produce(request).await.unwrap().into_inner();
        assert_eq!(reply.offset, i64::try_from(offset).unwrap());
    }
}

/// Callers wait for room in the producer's queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_nobody() {
    let gateway = Gateway::with(|options| {
        options
            .producer
            .set("queue.buffering.max.messages", "10")
            .set("linger.ms", "20");
    });
    let client = gateway.client().await;
    let topic = new_topic("full", 1);
    let producing: Vec<_> = (0..200)
        .map(|number| {
            let mut client = client.clone();
            let request = ProdRq {
                async_mode: number % 2 == 0,
                ..message(&topic, &number.to_string())
            };
            tokio::spawn(async move { client.produce(request).await })
        })
        .collect();
    for produced in producing {
        produced.await.unwrap().unwrap();
    }
    assert_eq!(records(&topic, 200).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_times_out() {
    let gateway = Gateway::with(|options| {
        options.brokers = "127.0.0.1:9".to_owned();
        options.producer.set("message.timeout.ms", "5000");
    });
    let mut client = gateway.client().await;
    assert_refused(
        client.produce(message("any", "x")).await,
        Code::Internal,
        "kafka server: Request exceeded the user-specified time limit in the request.",
    );
}
