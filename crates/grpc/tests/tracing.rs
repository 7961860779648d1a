//! The traces that requests belong to, from metadata to record and back
//! (`docs/tracing.md`).

use crate::support::{Gateway, PATIENCE, auto_ack, header, message, new_topic, streams};
use barnabas_engine::{FinishedSpan, Sampler, SpanKind, SpanQueue, Tracer, Tracing};
use barnabas_grpc::proto::ProdRq;
use barnabas_grpc::v1::{
    AckMode, ConsumeRequest, ConsumeStart, Header, ProduceRequest, Record, consume_request,
};
use barnabas_testkit::{shared, topic_name};
use std::time::Instant;
use tonic::{Code, Request};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

fn recording() -> (Tracing, SpanQueue) {
    let sampler = Sampler {
        ratio: 0.0,
        asks_parent: true,
    };
    let (tracer, queue) = Tracer::new(sampler, 100);
    let tracing = Tracing {
        propagates: true,
        tracer,
    };
    (tracing, queue)
}

fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", PARENT.parse().unwrap());
    metadata.insert("tracestate", "a=1".parse().unwrap());
    request
}

/// The `traceparent` of each record.
fn parents(topic: &str) -> Vec<Vec<String>> {
    let records = shared().read_all(topic).unwrap();
    let parents = |record: &barnabas_testkit::Record| {
        let headers = record.headers.iter();
        let own = headers.filter(|(name, _)| name == "traceparent");
        own.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
            .collect()
    };
    records.iter().map(parents).collect()
}

/// The next span.
async fn span(queue: &mut SpanQueue) -> FinishedSpan {
    let next = tokio::time::timeout(PATIENCE, queue.spans.recv());
    *next.await.expect("no span").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn single_requests_carry_traces_there_and_back() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("trace", 1);
    client.produce(traced(message(&topic, "1"))).await.unwrap();
    let own = ProdRq {
        headers: vec![header("traceparent", OTHER.as_bytes())],
        ..message(&topic, "2")
    };
    client.produce(traced(own)).await.unwrap();
    client.produce(message(&topic, "3")).await.unwrap();
    assert_eq!(parents(&topic), [vec![PARENT], vec![OTHER], vec![]]);
    let consume = auto_ack(&topic_name("group"), &topic);
    for expected in [Some(PARENT), Some(OTHER), None] {
        let started = Instant::now();
        let reply = loop {
            match client.consume_n_ack(consume.clone()).await {
                Ok(reply) => break reply,
                Err(status) => assert_eq!(status.code(), Code::NotFound),
            }
            assert!(started.elapsed() < PATIENCE);
        };
        let found = reply.metadata().get("traceparent");
        assert_eq!(found.map(|found| found.to_str().unwrap()), expected);
        let state = reply.metadata().get("tracestate");
        assert_eq!(state.is_some(), expected == Some(PARENT));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_s_trace_is_that_of_records_without_one() {
    let (tracing, mut queue) = recording();
    let gateway = Gateway::with(|options| options.server.tracing = tracing);
    let mut client = streams(&gateway).await;
    let topic = new_topic("trace-stream", 1);
    let record = |number, own: Option<&'static str>| Record {
        number,
        topic: topic.clone(),
        value: Some("x".into()),
        headers: own
            .map(|own| Header {
                name: "traceparent".to_owned(),
                value: Some(own.into()),
            })
            .into_iter()
            .collect(),
        ..Record::default()
    };
    let frame = ProduceRequest {
        records: vec![record(0, None), record(1, Some(OTHER)), record(2, None)],
        ..ProduceRequest::default()
    };
    let replies = client.produce(traced(tokio_stream::iter([frame]))).await;
    let mut replies = replies.unwrap().into_inner();
    let mut results = 0;
    while let Some(frame) = replies.message().await.unwrap() {
        assert!(frame.results.iter().all(|result| result.error.is_none()));
        results += frame.results.len();
    }
    assert_eq!(results, 3);
    let sent = span(&mut queue).await;
    let served = span(&mut queue).await;
    assert_eq!(
        (&*sent.name, sent.kind),
        (&*format!("send {topic}"), SpanKind::Producer)
    );
    assert_eq!(served.name, "barnabas.v1.Gateway/Produce");
    assert_eq!(sent.parent, Some(served.context.span_id));
    let own = String::from_utf8(sent.context.to_traceparent().to_vec()).unwrap();
    assert_eq!(
        parents(&topic),
        [vec![own.clone()], vec![OTHER.to_owned()], vec![own]]
    );

    let start = ConsumeRequest {
        frame: Some(consume_request::Frame::Start(ConsumeStart {
            group: topic_name("group"),
            topic: topic.clone(),
            ack_mode: AckMode::Auto.into(),
            window: 10,
            ..ConsumeStart::default()
        })),
    };
    let (up, frames) = tokio::sync::mpsc::channel(1);
    up.send(start).await.unwrap();
    let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
    let mut down = client.consume(traced(frames)).await.unwrap().into_inner();
    let mut links = Vec::new();
    let mut messages = 0;
    while messages < 3 {
        messages += down.message().await.unwrap().unwrap().messages.len();
        let received = span(&mut queue).await;
        assert_eq!(
            (&*received.name, received.kind),
            (&*format!("receive {topic}"), SpanKind::Consumer)
        );
        links.extend(received.links.iter().map(|link| link.context));
    }
    let other = barnabas_engine::SpanContext::parse(OTHER.as_bytes()).unwrap();
    assert_eq!(links, [sent.context, other, sent.context]);
    drop(up);
    while down.message().await.unwrap().is_some() {}
    assert_eq!(span(&mut queue).await.name, "barnabas.v1.Gateway/Consume");
}
