//! Streams of producers.

use crate::support::{Gateway, PATIENCE, Streams, new_topic, streams};
use barnabas_engine::{Access, Action, Grant};
use barnabas_grpc::v1::{
    ErrorCode, Header, ProduceRequest, ProduceResponse, ProduceResult, Record,
};
use barnabas_testkit::{shared, topic_name};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

struct Producer {
    up: mpsc::Sender<ProduceRequest>,
    down: Streaming<ProduceResponse>,
}

impl Producer {
    async fn open(client: &mut Streams) -> Result<Self, Status> {
        let (up, frames) = mpsc::channel(1);
        let down = client.produce(ReceiverStream::new(frames)).await?;
        Ok(Self {
            up,
            down: down.into_inner(),
        })
    }

    async fn send(&self, records: Vec<Record>) {
        let frame = ProduceRequest {
            records,
            ..ProduceRequest::default()
        };
        self.up.send(frame).await.unwrap();
    }

    async fn frame(&mut self) -> Result<Option<ProduceResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.down.message())
            .await
            .expect("no frame")
    }

    /// Results by number; each comes once.
    async fn results(&mut self, count: usize) -> BTreeMap<u64, ProduceResult> {
        let mut results = BTreeMap::new();
        while results.len() < count {
            for result in self.frame().await.unwrap().unwrap().results {
                assert!(results.insert(result.number, result).is_none());
            }
        }
        results
    }
}

fn record(number: u64, topic: &str, value: &str) -> Record {
    Record {
        number,
        topic: topic.to_owned(),
        value: Some(value.to_owned().into()),
        ..Record::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_has_its_result() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let topic = new_topic("stream", 1);
    let mut producer = Producer::open(&mut client).await.unwrap();
    let count = 5_000;
    for frame in 0..count / 100 {
        let numbers = frame * 100..(frame + 1) * 100;
        let records = numbers.map(|number| record(1_000 + number, &topic, &number.to_string()));
        producer.send(records.collect()).await;
    }
    let results = producer.results(5_000).await;
    for (offset, (number, result)) in results.iter().enumerate() {
        assert_eq!(*number, 1_000 + offset as u64);
        assert_eq!(result.error, None);
        assert_eq!((result.partition, result.offset), (0, offset as i64));
        assert!(result.timestamp.is_some());
    }
    let written = shared().read_all(&topic).unwrap();
    let values: Vec<_> = written.iter().map(|record| record.value.clone()).collect();
    let expected: Vec<_> = (0..count)
        .map(|number| Some(number.to_string().into_bytes()))
        .collect();
    assert_eq!(values, expected);
    // Closing ends the stream.
    let Producer { up, mut down } = producer;
    drop(up);
    let end = tokio::time::timeout(PATIENCE, down.message())
        .await
        .unwrap();
    assert!(end.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_record_is_written() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let topic = new_topic("whole", 4);
    let mut producer = Producer::open(&mut client).await.unwrap();
    let whole = Record {
        number: u64::MAX,
        topic: topic.clone(),
        partition: Some(3),
        key: Some("".into()),
        value: None,
        headers: vec![
            Header {
                name: "Größe".to_owned(),
                value: Some(b"\x00\xff"[..].into()),
            },
            Header {
                name: "null".to_owned(),
                value: None,
            },
        ],
        timestamp: Some(1_234_567),
    };
    producer.send(vec![whole]).await;
    let results = producer.results(1).await;
    let result = &results[&u64::MAX];
    assert_eq!((result.partition, result.offset), (3, 0));
    let written = &shared().read_all(&topic).unwrap()[0];
    assert_eq!(written.partition, 3);
    assert_eq!(written.key.as_deref(), Some(&b""[..]));
    assert_eq!(written.value, None);
    assert_eq!(written.timestamp, Some(1_234_567));
    let headers: Vec<_> = written
        .headers
        .iter()
        .map(|(name, value)| (&**name, value.as_deref()))
        .collect();
    assert_eq!(headers, [("Größe", Some(&b"\x00\xff"[..])), ("null", None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_records_harm_no_other() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (topic, missing) = (new_topic("mixed", 1), topic_name("missing"));
    let mut producer = Producer::open(&mut client).await.unwrap();
    let of_partition = |number, partition| Record {
        partition: Some(partition),
        ..record(number, &topic, "x")
    };
    producer
        .send(vec![
            record(1, &topic, "first"),
            record(2, &missing, "x"),
            record(3, &topic, &"x".repeat(1_000_000)),
            of_partition(4, 7),
            of_partition(5, -1),
            record(6, "no/topic", "x"),
            record(7, &topic, "last"),
        ])
        .await;
    let results = producer.results(7).await;
    let codes: Vec<_> = results
        .values()
        .map(|result| result.error.as_ref().map(|error| error.code()))
        .collect();
    let unknown = Some(ErrorCode::UnknownTopicOrPartition);
    let large = Some(ErrorCode::MessageTooLarge);
    assert_eq!(codes[..5], [None, unknown, large, unknown, unknown]);
    assert!(codes[5].is_some() && codes[6].is_none());
    let text = &results[&3].error.as_ref().unwrap().text;
    assert_eq!(
        text,
        "kafka server: Message was too large, server rejected it to avoid allocation error."
    );
    assert_eq!(results[&7].offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_stream() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let unknown = ProduceRequest {
        cluster: "nowhere".to_owned(),
        records: Vec::new(),
    };
    let many = ProduceRequest {
        records: vec![Record::default(); 16_385],
        ..ProduceRequest::default()
    };
    let oversize = ProduceRequest {
        records: vec![record(1, "t", &"x".repeat(1_100_000))],
        ..ProduceRequest::default()
    };
    for (frame, code, message) in [
        (
            unknown,
            Code::InvalidArgument,
            "proxy `nowhere` does not exist",
        ),
        (
            many,
            Code::InvalidArgument,
            "too many records: 16385, at most 16384",
        ),
        (
            oversize,
            Code::ResourceExhausted,
            "grpc: received message larger than max (1100013 vs. 1048576)",
        ),
    ] {
        let mut producer = Producer::open(&mut client).await.unwrap();
        producer.up.send(frame).await.unwrap();
        let status = producer.frame().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message));
    }
}

/// Results are not read, so neither are records any more, and nothing grows.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_cannot_write() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let topic = new_topic("unread", 1);
    let mut producer = Producer::open(&mut client).await.unwrap();
    let mut sent = 0;
    let value = "x".repeat(10);
    loop {
        let numbers = sent..sent + 1_000;
        let records = numbers
            .map(|number| record(number, &topic, &value))
            .collect();
        let sending = tokio::time::timeout(Duration::from_secs(3), producer.send(records));
        if sending.await.is_err() {
            break;
        }
        sent += 1_000;
        assert!(sent < 1_000_000, "it is never stopped");
    }
    // What was taken has its results, and then it goes on.
    let results = producer.results(usize::try_from(sent).unwrap()).await;
    assert!(results.values().all(|result| result.error.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_sends_the_results_first() {
    let gateway = Gateway::with(|options| {
        options.producer.set("linger.ms", "5000");
    });
    let mut client = streams(&gateway).await;
    let topic = new_topic("ending", 1);
    let mut producer = Producer::open(&mut client).await.unwrap();
    producer.send(vec![record(1, &topic, "x")]).await;
    let started = std::time::Instant::now();
    let producing = &gateway.proxies.get("main").unwrap().producer;
    while producing.statistics().accepted == 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.proxies.refuse_work();
    producer.send(vec![record(2, &topic, "x")]).await;
    let results = producer.results(2).await;
    assert_eq!(results[&1].error, None);
    let refused = results[&2].error.as_ref().unwrap();
    assert_eq!(refused.code(), ErrorCode::ShuttingDown);
    assert_eq!(refused.text, "service is shutting down");
    let status = producer.frame().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let refused = Producer::open(&mut client).await.map(|_| ());
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_each_topic() {
    let topic = new_topic("granted", 1);
    let grant = Grant {
        clusters: vec!["main".to_owned()],
        topics: vec![topic.clone()],
        actions: vec![Action::Produce],
    };
    let access = Arc::new(Access::only([("writer".to_owned(), vec![grant])]));
    let gateway = Gateway::with(|options| options.server.access = access);
    let mut client = streams(&gateway).await;
    let refused = Producer::open(&mut client).await.map(|_| ());
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let records = vec![record(1, &topic, "x"), record(2, "other", "x")];
    let frame = ProduceRequest {
        records,
        ..ProduceRequest::default()
    };
    let mut request = tonic::Request::new(tokio_stream::iter([frame]));
    let metadata = request.metadata_mut();
    metadata.insert("authorization", "Bearer writer".parse().unwrap());
    let down = client.produce(request).await.unwrap().into_inner();
    let mut producer = Producer {
        up: mpsc::channel(1).0,
        down,
    };
    let results = producer.results(2).await;
    assert_eq!(results[&1].error, None);
    let refused = results[&2].error.as_ref().unwrap();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    assert_eq!(refused.text, "the token does not allow this");
}
