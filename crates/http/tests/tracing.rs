//! The traces that requests belong to, from request to record and back
//! (`docs/tracing.md`).

use crate::support::{Changes, Gateway, gateway, new_topic, start};
use barnabas_engine::{FinishedSpan, Sampler, SpanKind, SpanQueue, SpanStatus, Tracer, Tracing};
use barnabas_http::Options;
use barnabas_testkit::{Record, shared, topic_name};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const TEXT: &str = "text/plain";

/// A gateway that records what its clients record.
fn recording() -> (Gateway, SpanQueue) {
    let sampler = Sampler {
        ratio: 0.0,
        asks_parent: true,
    };
    let (tracer, queue) = Tracer::new(sampler, 100);
    let options = Options {
        tracing: Tracing {
            propagates: true,
            tracer,
        },
        ..Options::default()
    };
    let changes = Changes {
        options,
        ..Changes::default()
    };
    (start(changes, None), queue)
}

/// The headers of the records of a topic.
fn headers(topic: &str) -> Vec<Vec<(String, String)>> {
    let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
    let of = |record: &Record| {
        let headers = record.headers.iter();
        headers
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    };
    shared().read_all(topic).unwrap().iter().map(of).collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Those that are sent with each request, as a record has them.
fn carried() -> Vec<(String, String)> {
    vec![
        pair("traceparent", PARENT),
        pair("tracestate", "a=1,b=2"),
        pair("baggage", "user=7"),
    ]
}

/// Produces with a trace; the request must go well.
async fn send(gateway: &Gateway, path: &str, more: &[(&str, &str)], kind: &str, body: &str) {
    let mut request = gateway.ask("POST", path);
    for (name, value) in carried() {
        if !more.iter().any(|(own, _)| *own == name) {
            request = request.header(&name, &value);
        }
    }
    for (name, value) in more {
        request = request.header(name, value);
    }
    let reply = request.body(kind, body).send().await;
    assert!(
        matches!(reply.status, 200 | 202),
        "{path}: {}",
        reply.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_produce_carries_the_trace_into_the_records() {
    let gateway = gateway();
    let topic = new_topic("trace-in", 1);
    let pixy = format!("/topics/{topic}/messages?sync");
    let native = format!("/v1/topics/{topic}/records");
    send(&gateway, &pixy, &[], TEXT, "1").await;
    let batch = r#"[{"value": "Mg=="}, {"value": "Mw=="}]"#;
    let batches = format!("/topics/{topic}/batches");
    send(&gateway, &batches, &[], "application/json", batch).await;
    send(&gateway, &native, &[], TEXT, "4").await;
    send(&gateway, &native, &[], "application/x-ndjson", "5\n6\n").await;
    let array = r#"[{"value": "7"}]"#;
    let objects = format!("{native}?as=records");
    send(&gateway, &objects, &[], "application/json", array).await;
    assert_eq!(headers(&topic), vec![carried(); 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_record_says_itself_counts() {
    let gateway = gateway();
    let topic = new_topic("trace-own", 1);
    let pixy = format!("/topics/{topic}/messages?sync");
    // "own" in base64; the old system's names begin with capitals.
    send(
        &gateway,
        &pixy,
        &[("x-kafka-traceparent", "b3du")],
        TEXT,
        "1",
    )
    .await;
    let native = format!("/v1/topics/{topic}/records");
    let own = [("kafka-header", "traceparent=own")];
    send(&gateway, &native, &own, TEXT, "2").await;
    let baggage = pair("baggage", "user=7");
    assert_eq!(
        headers(&topic),
        [
            vec![pair("Traceparent", "own"), baggage.clone()],
            vec![pair("traceparent", "own"), baggage],
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_switched_off_or_does_not_fit_is_left_out() {
    let topic = new_topic("trace-not", 1);
    let pixy = format!("/topics/{topic}/messages?sync");
    {
        let gateway = gateway();
        let bad = [("traceparent", "00-0AF7-b7-01"), ("baggage", "\t")];
        send(&gateway, &pixy, &bad, TEXT, "1").await;
        let longest = format!("a={}", "x".repeat(2_000));
        let bad = [("tracestate", "A=1"), ("baggage", longest.as_str())];
        send(&gateway, &pixy, &bad, TEXT, "2").await;
        // As large as a message may be without it.
        let largest = "x".repeat(1_000_000 - 36);
        send(&gateway, &pixy, &[], TEXT, &largest).await;
    }
    for changes in [
        Changes {
            has_headers: false,
            ..Changes::default()
        },
        Changes {
            options: Options {
                tracing: Tracing {
                    propagates: false,
                    ..Tracing::default()
                },
                ..Options::default()
            },
            ..Changes::default()
        },
    ] {
        let gateway = start(changes, None);
        send(&gateway, &pixy, &[], TEXT, "3").await;
    }
    let found = headers(&topic);
    assert_eq!(found.len(), 5);
    for (index, headers) in found.iter().enumerate() {
        let expected: &[_] = match index {
            1 => &[pair("traceparent", PARENT)],
            _ => &[],
        };
        assert_eq!(headers, expected, "{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_record_gets_its_trace() {
    let gateway = gateway();
    let topic = new_topic("trace-out", 1);
    let path = format!("/topics/{topic}/messages?sync");
    for value in ["1", "2", "3", "4"] {
        send(&gateway, &path, &[], TEXT, value).await;
    }
    let reply = gateway.ask("POST", &path).body(TEXT, "5").send().await;
    assert_eq!(reply.status, 200);
    let group = topic_name("group");
    let native = format!("/v1/groups/{group}/topics/{topic}/records?wait=1000");
    for accept in ["application/octet-stream", "application/json"] {
        let taken = gateway.take(&native, accept).await;
        assert_eq!(taken.all("traceparent"), [PARENT]);
        assert_eq!(taken.all("tracestate"), ["a=1,b=2"]);
        assert!(taken.all("baggage").is_empty());
    }
    let pixy = format!("/topics/{topic}/messages?group={group}");
    let taken = gateway.ask("GET", &pixy).send().await;
    assert_eq!(
        (taken.status, taken.all("traceparent")),
        (200, vec![PARENT])
    );
    let batch = gateway.ask("GET", &format!("{pixy}&max=1")).send().await;
    assert_eq!((batch.status, batch.all("traceparent")), (200, vec![]));
    assert!(batch.text().contains("traceparent"), "in the message");
    let without = gateway.ask("GET", &pixy).send().await;
    assert_eq!((without.status, without.all("traceparent")), (200, vec![]));
}

fn attribute(span: &FinishedSpan, name: &str) -> Option<String> {
    let mut found = span.attributes.iter().filter(|(own, _)| *own == name);
    found.next().map(|(_, value)| match value {
        barnabas_engine::Attribute::Text(text) => text.clone().into_owned(),
        barnabas_engine::Attribute::Number(number) => number.to_string(),
    })
}

/// The spans of a request, its own one last.
fn spans(queue: &mut SpanQueue) -> Vec<FinishedSpan> {
    std::iter::from_fn(|| queue.spans.try_recv().ok())
        .map(|span| *span)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_recorded_traces_have_spans() {
    let (gateway, mut queue) = recording();
    let topic = new_topic("trace-spans", 1);
    let native = format!("/v1/topics/{topic}/records");
    send(&gateway, &native, &[], TEXT, "1").await;
    let found = spans(&mut queue);
    let [sent, served] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(served.name, "POST /v1/topics/{topic}/records");
    assert_eq!(served.kind, SpanKind::Server);
    let parent = barnabas_engine::SpanContext::parse(PARENT.as_bytes()).unwrap();
    assert_eq!(served.parent, Some(parent.span_id));
    assert_eq!(
        attribute(served, "http.response.status_code").unwrap(),
        "200"
    );
    assert_eq!(
        attribute(served, "http.route").unwrap(),
        "/v1/topics/{topic}/records"
    );
    assert_eq!(attribute(served, "url.path").unwrap(), native);
    assert_eq!(
        (&*sent.name, sent.kind),
        (&*format!("send {topic}"), SpanKind::Producer)
    );
    assert_eq!(sent.parent, Some(served.context.span_id));
    // The record names the span that has sent it.
    let carried = String::from_utf8(sent.context.to_traceparent().to_vec()).unwrap();
    assert_eq!(headers(&topic)[0][0], pair("traceparent", &carried));

    let group = topic_name("group");
    let take = format!("/v1/groups/{group}/topics/{topic}/records?wait=20000");
    let taking = gateway.ask("POST", &take).header("traceparent", PARENT);
    let taken = taking.send().await;
    assert_eq!(
        (taken.status, taken.all("traceparent")),
        (200, vec![&*carried])
    );
    let found = spans(&mut queue);
    let [received, _] = &found[..] else {
        panic!("{found:?}");
    };
    let expected = (format!("receive {topic}"), SpanKind::Consumer);
    assert_eq!(
        (received.name.clone().into_owned(), received.kind),
        expected
    );
    assert_eq!(received.links[0].context, sent.context);
    assert_eq!(
        attribute(received, "messaging.consumer.group.name"),
        Some(group)
    );
    assert_eq!(attribute(received, "messaging.kafka.offset").unwrap(), "0");

    // Neither unsampled nor without a trace: the sampler asks the parent.
    send(&gateway, &native, &[("traceparent", UNSAMPLED)], TEXT, "2").await;
    let reply = gateway.ask("POST", &native).body(TEXT, "3").send().await;
    assert_eq!(reply.status, 200);
    assert!(spans(&mut queue).is_empty());
    assert_eq!(headers(&topic)[1][0], pair("traceparent", UNSAMPLED));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_show_in_the_spans() {
    let (gateway, mut queue) = recording();
    let missing = topic_name("trace-missing");
    let path = format!("/topics/{missing}/messages?sync");
    let request = gateway.ask("POST", &path).header("traceparent", PARENT);
    // Brokers of the tests make no topics on use.
    let reply = request.body(TEXT, "1").send().await;
    assert_eq!(reply.status, 404, "{}", reply.text());
    let found = spans(&mut queue);
    let [sent, served] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(
        attribute(sent, "error.type")
            .unwrap()
            .starts_with("Unknown")
    );
    assert!(matches!(&sent.status, SpanStatus::Error(text) if !text.is_empty()));
    // A client's mistake is no failure of the server.
    assert_eq!(served.status, SpanStatus::Unset);
    assert_eq!(
        attribute(served, "http.response.status_code").unwrap(),
        "404"
    );
    gateway.proxies.refuse_work();
    let request = gateway.ask("POST", &path).header("traceparent", PARENT);
    assert_eq!(request.body(TEXT, "1").send().await.status, 503);
    let found = spans(&mut queue);
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0].status, SpanStatus::Error(_)));
}
