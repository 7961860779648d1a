//! Tokens, bounds, names of requests.

use crate::raw::{Raw, framed};
use crate::support::{Client, Gateway, PATIENCE, auto_ack, connect, message, new_topic};
use barnabas_engine::{Access, Action, Grant};
use barnabas_grpc::proto::{
    AckRq, ConsNAckRq, GetOffsetsRq, GetTopicMetadataRq, ListConsumersRq, ListTopicRq,
    PartitionOffset, SetOffsetsRq,
};
use barnabas_testkit::topic_name;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Interceptor;
use tonic::{Code, Request};

fn grant(topics: &[&str], actions: &[Action]) -> Grant {
    Grant {
        clusters: vec!["main".to_owned()],
        topics: topics.iter().map(ToString::to_string).collect(),
        actions: actions.to_vec(),
    }
}

/// Codes of all methods for a topic, with a token or without.
async fn codes(client: &mut Client, token: Option<&str>, topic: &str) -> Vec<(&'static str, Code)> {
    let group = topic_name("token");
    macro_rules! code {
        ($method:ident, $message:expr) => {{
            let mut request = Request::new($message);
            if let Some(token) = token {
                let value = format!("Bearer {token}").parse().unwrap();
                request.metadata_mut().insert("authorization", value);
            }
            let code = match client.$method(request).await {
                Ok(_) => Code::Ok,
                Err(status) => status.code(),
            };
            (stringify!($method), code)
        }};
    }
    let (group, topic) = (group, topic.to_owned());
    let offset = PartitionOffset::default();
    vec![
        code!(produce, message(&topic, "x")),
        code!(
            consume_n_ack,
            ConsNAckRq {
                no_ack: true,
                ..auto_ack(&group, &topic)
            }
        ),
        code!(
            ack,
            AckRq {
                group: group.clone(),
                topic: topic.clone(),
                ..AckRq::default()
            }
        ),
        code!(
            get_offsets,
            GetOffsetsRq {
                group: group.clone(),
                topic: topic.clone(),
                ..GetOffsetsRq::default()
            }
        ),
        code!(
            set_offsets,
            SetOffsetsRq {
                group: topic_name("set"),
                topic: topic.clone(),
                offsets: vec![offset],
                ..SetOffsetsRq::default()
            }
        ),
        code!(
            list_consumers,
            ListConsumersRq {
                topic: topic.clone(),
                ..ListConsumersRq::default()
            }
        ),
        code!(
            get_topic_metadata,
            GetTopicMetadataRq {
                topic: topic.clone(),
                ..GetTopicMetadataRq::default()
            }
        ),
        code!(list_topics, ListTopicRq::default()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_asks_for_its_own_grant() {
    use Action::{Consume, Describe, Manage, Produce};
    let topic = new_topic("token", 1);
    let only = |action| grant(&[&topic], &[action]);
    let access = Access::only([
        ("p".to_owned(), vec![only(Produce)]),
        ("c".to_owned(), vec![only(Consume)]),
        ("d".to_owned(), vec![only(Describe)]),
        ("m".to_owned(), vec![only(Manage)]),
    ]);
    let gateway = Gateway::with(|options| options.server.access = Arc::new(access));
    let mut client = gateway.client().await;
    for token in [None, Some("nobody's")] {
        for (method, code) in codes(&mut client, token, &topic).await {
            assert_eq!(code, Code::Unauthenticated, "{method}");
        }
    }
    let allowed = [
        ("p", &["produce"][..]),
        ("c", &["consume_n_ack", "ack"]),
        (
            "d",
            &[
                "get_offsets",
                "list_consumers",
                "get_topic_metadata",
                "list_topics",
            ],
        ),
        ("m", &["set_offsets"]),
    ];
    for (token, methods) in allowed {
        for (method, code) in codes(&mut client, Some(token), &topic).await {
            let is_denied = code == Code::PermissionDenied;
            assert_eq!(
                is_denied,
                !methods.contains(&method),
                "{token} {method} {code:?}"
            );
        }
        for (method, code) in codes(&mut client, Some(token), "other").await {
            if method != "list_topics" {
                assert_eq!(code, Code::PermissionDenied, "{token} {method}");
            }
        }
    }
    // Whether a cluster exists is nobody's business without a token for it.
    let mut request = Request::new(message("t", "x"));
    request.get_mut().cluster = "nowhere".to_owned();
    let refused = client.produce(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// Puts a token into every request.
#[derive(Clone)]
struct Token(&'static str);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        let value = format!("bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_the_token_may_see() {
    let (mine, others) = (new_topic("mine", 1), new_topic("others", 1));
    let grants = vec![
        grant(&[&mine], &[Action::Describe]),
        grant(&[&others], &[Action::Produce]),
    ];
    let access = Access::only([("d".to_owned(), grants)]);
    let gateway = Gateway::with(|options| options.server.access = Arc::new(access));
    let endpoint = format!("http://{}", gateway.address());
    let channel = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut client = barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient::with_interceptor(
        channel,
        Token("d"),
    );
    let listed = client.list_topics(ListTopicRq::default()).await.unwrap();
    let listed: Vec<_> = listed.into_inner().topics.into_keys().collect();
    assert_eq!(listed, [mine]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_names() {
    let gateway = Gateway::start();
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let body = framed(&auto_ack("", "t"));
    let mut names = Vec::new();
    for own in [Some("order-7"), None, None] {
        let headers: Vec<_> = own.map(|name| ("x-request-id", name)).into_iter().collect();
        let reply = raw.begin("ConsumeNAck", body.clone(), &headers).await;
        names.push(reply.headers["x-request-id"].to_str().unwrap().to_owned());
    }
    assert_eq!(names[0], "order-7");
    assert_ne!(names[1], names[2]);
    // Streams, too.
    let reply = raw.open("/barnabas.v1.Gateway/Produce", Vec::new()).await;
    assert!(reply.headers.contains_key("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_waits_for_its_turn() {
    let gateway = Gateway::with(|options| options.server.max_connections = 1);
    let topic = new_topic("turn", 1);
    let mut first = gateway.client().await;
    first.produce(message(&topic, "a")).await.unwrap();
    let mut second = connect(gateway.address()).await.unwrap();
    let request = message(&topic, "b");
    let waiting = tokio::spawn(async move { second.produce(request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    drop(first);
    let served = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    served.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_too_many_waits_for_its_turn() {
    let gateway = Gateway::with(|options| {
        options.server.max_streams = 1;
        options.dispatch.long_polling = Duration::from_secs(10);
    });
    let topic = new_topic("streams", 1);
    let mut client = gateway.client().await;
    // The limit is known to the client after its first answer.
    client.produce(message(&topic, "a")).await.unwrap();
    let mut other = client.clone();
    let group = topic_name("streams");
    let poll = auto_ack(&group, &new_topic("empty", 1));
    let polling = tokio::spawn(async move { other.consume_n_ack(poll).await });
    gateway.until_waiting(&group, 1).await;
    client.produce(message(&topic, "b")).await.unwrap();
    assert!(polling.is_finished(), "two at the same time");
}
