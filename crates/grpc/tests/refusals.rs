//! Every code and text of the contract, as far as it is built.

use crate::raw::Raw;
use crate::support::{
    Client, Gateway, ack, ack_and_next, assert_refused, auto_ack, fill, header, message, new_topic,
    next,
};
use barnabas_grpc::proto::{
    AckRq, ConsNAckRq, GetOffsetsRq, GetTopicMetadataRq, ListConsumersRq, ListTopicRq, ProdRq,
    SetOffsetsRq,
};
use barnabas_testkit::{shared, topic_name};
use prost::Message as _;
use std::time::Duration;
use tonic::{Code, Status};

/// All methods, with nothing but a cluster.
async fn all_methods(
    client: &mut Client,
    cluster: &str,
) -> Vec<(&'static str, Result<(), Status>)> {
    macro_rules! call {
        ($method:ident, $request:ident) => {
            (
                stringify!($method),
                client
                    .$method($request {
                        cluster: cluster.to_owned(),
                        ..$request::default()
                    })
                    .await
                    .map(|_| ()),
            )
        };
    }
    vec![
        call!(produce, ProdRq),
        call!(consume_n_ack, ConsNAckRq),
        call!(ack, AckRq),
        call!(get_offsets, GetOffsetsRq),
        call!(set_offsets, SetOffsetsRq),
        call!(list_topics, ListTopicRq),
        call!(list_consumers, ListConsumersRq),
        call!(get_topic_metadata, GetTopicMetadataRq),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_clusters() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    for (method, result) in all_methods(&mut client, "g9%d").await {
        println!("{method}");
        assert_refused(result, Code::InvalidArgument, "proxy `g9%d` does not exist");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_must_be_named() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let text = "one consumer group is expected, but 0 provided";
    assert_refused(
        client.consume_n_ack(auto_ack("", "t")).await,
        Code::InvalidArgument,
        text,
    );
    assert_refused(
        client.ack(ack("", "t", 0, 0)).await,
        Code::InvalidArgument,
        text,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn negative_acks() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    for (partition, offset, text) in [
        (-1, -2, "invalid ack: bad partition: -1"),
        (0, -2, "invalid ack: bad offset: -2"),
    ] {
        let request = ConsNAckRq {
            ack_partition: partition,
            ..ack_and_next("g", "t", offset)
        };
        assert_refused(
            client.consume_n_ack(request).await,
            Code::InvalidArgument,
            text,
        );
        assert_refused(
            client.ack(ack("g", "t", partition, offset)).await,
            Code::InvalidArgument,
            text,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_time() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let group = topic_name("nothing");
    for topic in [new_topic("nothing", 1), topic_name("missing")] {
        assert_refused(
            client.consume_n_ack(auto_ack(&group, &topic)).await,
            Code::NotFound,
            "long polling timeout",
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests() {
    let gateway = Gateway::with(|options| {
        options.dispatch.queued_requests = 1;
        options.dispatch.long_polling = Duration::from_secs(10);
    });
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("crowd"), new_topic("crowd", 1));
    // Making the group takes none of their time.
    fill(&topic, &["first"]);
    assert_eq!(next(&mut client, &auto_ack(&group, &topic)).await.0, 0);
    let polls: Vec<_> = (0..8)
        .map(|_| {
            let (mut client, request) = (client.clone(), auto_ack(&group, &topic));
            tokio::spawn(async move { client.consume_n_ack(request).await.unwrap_err() })
        })
        .collect();
    let mut refused = 0;
    for poll in polls {
        let status = poll.await.unwrap();
        if status.code() != Code::NotFound {
            refused += 1;
            assert_refused(
                Err::<(), _>(status),
                Code::ResourceExhausted,
                "Too many requests. Consider increasing `consumer.channel_buffer_size` \
                 (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L43)",
            );
        }
    }
    assert_eq!(refused, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn consuming_can_be_disabled() {
    let gateway = Gateway::with(|options| options.is_consuming_disabled = true);
    let mut client = gateway.client().await;
    assert_refused(
        client.consume_n_ack(auto_ack("g", "t")).await,
        Code::Unavailable,
        "service is disabled by configuration",
    );
    let topic = new_topic("disabled", 1);
    client.produce(message(&topic, "x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_must_exist() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    assert_refused(
        client.produce(message(&topic_name("missing"), "x")).await,
        Code::InvalidArgument,
        "kafka server: Request was for a topic or partition that does not exist on this broker.",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_need_a_kafka_that_has_them() {
    let gateway = Gateway::with(|options| options.has_headers = false);
    let mut client = gateway.client().await;
    let topic = new_topic("headless", 1);
    let request = ProdRq {
        headers: vec![header("a", b"b")],
        ..message(&topic, "x")
    };
    assert_refused(
        client.produce(request).await,
        Code::InvalidArgument,
        "headers are not supported with this version of Kafka. Consider changing `kafka.version` \
         (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L35)",
    );
    client.produce(message(&topic, "x")).await.unwrap();
}

/// A request that is this long when encoded.
fn of_length(topic: &str, length: usize) -> ProdRq {
    let mut request = message(topic, &"x".repeat(length));
    let excess = request.encoded_len() - length;
    request.message.truncate(length - excess);
    assert_eq!(request.encoded_len(), length);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_a_limit_and_messages_a_lower_one() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("oversize", 1);
    assert_refused(
        client.produce(of_length(&topic, 1_048_576)).await,
        Code::Internal,
        "kafka server: Message was too large, server rejected it to avoid allocation error.",
    );
    for length in [1_048_577, 1_048_578, 5_000_000, 20_000_000] {
        assert_refused(
            client.produce(of_length(&topic, length)).await,
            Code::ResourceExhausted,
            &format!("grpc: received message larger than max ({length} vs. 1048576)"),
        );
    }
    // The connection has not suffered.
    let reply = client.produce(message(&topic, "x")).await.unwrap();
    assert_eq!(reply.into_inner().offset, 0);
    assert_eq!(shared().read_all(&topic).unwrap().len(), 1);
}

/// 36 bytes, key and value; with headers librdkafka counts a few bytes less than the contract.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_message() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("largest", 1);
    let request = |length: usize| ProdRq {
        topic: topic.clone(),
        key_value: "foo".into(),
        message: "x".repeat(length).into(),
        ..ProdRq::default()
    };
    client.produce(request(999_961)).await.unwrap();
    assert_refused(
        client.produce(request(999_962)).await,
        Code::Internal,
        "kafka server: Message was too large, server rejected it to avoid allocation error.",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_kept() {
    let gateway = Gateway::with(|options| {
        options.dispatch.long_polling = Duration::from_secs(30);
    });
    let topic = new_topic("deadline", 1);
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let request = auto_ack(&topic_name("deadline"), &topic);
    let started = std::time::Instant::now();
    let status = raw
        .call("ConsumeNAck", &request, &[("grpc-timeout", "300m")])
        .await;
    assert_eq!(
        status,
        ("4".to_owned(), "context%20deadline%20exceeded".to_owned())
    );
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_and_broken_requests() {
    let gateway = Gateway::start();
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let (code, _) = raw.call("Nonsense", &message("t", "x"), &[]).await;
    assert_eq!(code, "12");
    // A message that ends inside its length, and one that is no message.
    for body in [&b"\x00\x00\x00"[..], b"\x00\x00\x00\x00\x03\xff\xff\xff"] {
        let (code, _) = raw.call_with("Produce", body.to_vec(), &[]).await;
        assert_eq!(code, "13", "{body:?}");
    }
}
