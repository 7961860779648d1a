//! Spans and metrics to a collector, and what a bad one does to the gateway
//! (`docs/tracing.md`).

use crate::collector::{Collector, attribute};
use crate::support::{address, binary, eventually, file, text};
use crate::tls::certificates;
use barnabas_testkit::{Gateway, Stalls, shared, topic_name};
use opentelemetry_proto::tonic::metrics::v1::metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn new_topic() -> String {
    let topic = topic_name("telemetry");
    shared().create_topic(&topic, 1).unwrap();
    topic
}

/// `barnabas serve` with HTTP and gRPC.
fn serve(more: &str, environment: &[(&str, &str)]) -> (tempfile::TempDir, Gateway) {
    let brokers = shared().bootstrap_servers();
    let text_of_file = format!(
        "clusters:\n  main:\n    properties: {{bootstrap.servers: '{brokers}'}}\n    consume: \
         {{initial_offset: oldest}}\nredis: {{listen: []}}\nhttp: {{listen: '127.0.0.1:0'}}\n\
         grpc: {{listen: '127.0.0.1:0'}}\n{more}\n"
    );
    let (folder, path) = file("barnabas.yaml", &text_of_file);
    let mut builder = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .env("BARNABAS_JOURNAL__DIR", folder.path().join("journal"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .listeners(2);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    (folder, builder.spawn().unwrap())
}

/// Posts a value as part of the trace.
async fn post(client: &reqwest::Client, url: &str, value: &str) -> reqwest::Response {
    let request = client.post(url).header("content-type", "text/plain");
    let request = request.header("traceparent", PARENT);
    request.body(value.to_owned()).send().await.unwrap()
}

/// Spans of this name, once there are so many.
fn spans(collector: &Collector, name: &str, count: usize) -> Vec<Span> {
    eventually(name, || {
        let all = collector.spans().into_iter();
        let found: Vec<Span> = all.filter(|span| span.name == name).collect();
        (found.len() >= count).then_some(found)
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_through_kafka_and_its_spans_to_a_collector() {
    let collector = Collector::grpc().await;
    let (_folder, gateway) = serve(
        &format!(
            "otlp: {{endpoint: 'http://{}', protocol: grpc, headers: {{api-key: s3cret}}, \
             sample_ratio: 0, service_name: gate, interval_ms: 100}}",
            collector.address
        ),
        &[(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )],
    );
    let client = reqwest::Client::new();
    let topic = new_topic();
    let base = format!("http://{}", address(&gateway, 0));
    let records = format!("{base}/v1/topics/{topic}/records");
    let journal = format!("{records}?durability=journal");
    for url in [&records, &journal] {
        let reply = post(&client, url, "value").await;
        assert!(reply.status().is_success(), "{:?}", reply.text().await);
    }
    let route = "POST /v1/topics/{topic}/records";
    let served = spans(&collector, route, 2);
    let sent = spans(&collector, &format!("send {topic}"), 2);
    for (served, sent) in served.iter().zip(&sent) {
        assert_eq!(hexadecimal(&served.trace_id), TRACE);
        assert_eq!(hexadecimal(&served.parent_span_id), "b7ad6b7169203331");
        assert_eq!((served.kind, sent.kind), (2, 4), "server and producer");
        assert_eq!(sent.parent_span_id, served.span_id);
        assert!(sent.start_time_unix_nano >= served.start_time_unix_nano);
        assert!(sent.end_time_unix_nano <= served.end_time_unix_nano);
    }
    // Kafka has them, those of the journal, too.
    let written = eventually("two records", || {
        let found = shared().read_all(&topic).unwrap();
        (found.len() == 2).then_some(found)
    });
    let carried = |span: &Span| {
        let span_id = hexadecimal(&span.span_id);
        format!("00-{TRACE}-{span_id}-01")
    };
    for (record, span) in written.iter().zip(&sent) {
        let expected = ("traceparent".to_owned(), Some(carried(span).into_bytes()));
        assert_eq!(record.headers, [expected]);
    }

    // Whoever takes one gets its trace, and links to it.
    let group = topic_name("group");
    let take = format!("{base}/v1/groups/{group}/topics/{topic}/records?wait=60000");
    let taken = post(&client, &take, "").await;
    assert_eq!(taken.status(), 200);
    assert_eq!(taken.headers()["traceparent"], carried(&sent[0]));
    let received = spans(&collector, &format!("receive {topic}"), 1).remove(0);
    assert_eq!(received.kind, 5, "consumer");
    assert_eq!(received.links[0].span_id, sent[0].span_id);
    assert_eq!(hexadecimal(&received.links[0].trace_id), TRACE);
    let group_name = attribute(&received.attributes, "messaging.consumer.group.name");
    assert_eq!(group_name, Some(group));

    // Without a trace there is none: the ratio is 0. Spans come in the order
    // of their ends.
    assert_eq!(
        client
            .get(format!("{base}/_ping"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    for (name, expected) in [
        ("service.name", "gate"),
        ("deployment.environment.name", "test"),
    ] {
        assert_eq!(collector.resource(name).as_deref(), Some(expected));
    }
    assert!(collector.resource("service.instance.id").is_some());
    let exported = ("result", "exported");
    eventually("our own metrics", || {
        let exported = collector.counter("barnabas_otlp_spans_total", exported);
        exported.filter(|exported| *exported > 0.0)
    });
    let fence = post(&client, &records, "fence").await;
    assert!(fence.status().is_success());
    spans(&collector, route, 3);
    let names: Vec<String> = collector.spans().into_iter().map(|own| own.name).collect();
    assert!(!names.iter().any(|name| name == "GET /_ping"), "{names:?}");
    assert!(
        collector
            .keys()
            .iter()
            .all(|key| key.as_deref() == Some("s3cret"))
    );
    let (status, _) = gateway.terminate().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn kprf_and_kafka_pixy_take_the_standard_variables() {
    let collector = Collector::http().await;
    let endpoint = format!("http://{}/", collector.address);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%33cret"),
        ("OTEL_SERVICE_NAME", "theirs"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ];
    let brokers = shared().bootstrap_servers();
    let (_folder, path) = file(
        "kprf.yaml",
        &format!(
            "http: {{listen: 127.0.0.1, port: 0, metrics_port: 0}}\nkafka: {{brokers: ['{brokers}'], \
             statistics_interval_ms: 100}}\n"
        ),
    );
    let mut builder = Gateway::builder(binary())
        .args(["kprf", "-c", text(&path)])
        .listeners(0);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let kprf = builder.spawn().unwrap();
    let port = eventually("kprf's port", || {
        let log = kprf.stdout();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["msg"] == "starting main http server")?;
        line["port"].as_u64()
    });
    let client = reqwest::Client::new();
    let topic = new_topic();
    let push = json!({"records": [{"topic": topic, "data": "1"}], "wait_for_send": true});
    let url = format!("http://127.0.0.1:{port}/push");
    assert_eq!(post(&client, &url, &push.to_string()).await.status(), 415);
    let request = client.post(&url).header("traceparent", PARENT);
    let request = request.header("content-type", "application/json");
    let reply = request.body(push.to_string()).send().await.unwrap();
    assert_eq!(reply.status(), 200, "{:?}", reply.text().await);
    let sent = spans(&collector, &format!("send {topic}"), 1).remove(0);
    assert_eq!(hexadecimal(&sent.trace_id), TRACE);
    let record = shared().read_all(&topic).unwrap().remove(0);
    let carried = String::from_utf8(record.headers[0].1.clone().unwrap()).unwrap();
    assert_eq!(
        carried,
        format!("00-{TRACE}-{}-01", hexadecimal(&sent.span_id))
    );
    // Whatever is registered, of each kind.
    eventually("kprf's metrics", || {
        let requests = "barnabas_http_requests_total";
        (collector.counter(requests, ("code", "200")) == Some(1.0)
            && collector.counter(requests, ("code", "415")) == Some(1.0))
        .then_some(())
    });
    let duration = collector.metric("http_requests_duration").unwrap().data;
    let Some(metric::Data::Histogram(duration)) = duration else {
        panic!("{duration:?}");
    };
    let point = &duration.data_points[0];
    assert_eq!(point.explicit_bounds, [5.0, 10.0, 20.0, 40.0, 80.0]);
    assert_eq!(
        (point.bucket_counts.len(), point.bucket_counts.iter().sum()),
        (6, point.count)
    );
    eventually("a gauge", || {
        let queue = collector
            .metric("kafka_internal_queue_size")
            .map(|own| own.data);
        matches!(queue, Some(Some(metric::Data::Gauge(_)))).then_some(())
    });
    assert_eq!(
        collector.resource("service.name").as_deref(),
        Some("theirs")
    );
    assert!(
        collector
            .keys()
            .iter()
            .all(|key| key.as_deref() == Some("s3cret"))
    );
    assert!(kprf.terminate().unwrap().0.success());

    let (_folder, path) = file(
        "pixy.yaml",
        &format!(
            "grpc_addr: ''\ntcp_addr: 127.0.0.1:0\nproxies: {{default: {{kafka: {{seed_peers: \
             ['{brokers}']}}}}}}\notlp: {{service_name: pixy}}\n"
        ),
    );
    let mut builder = Gateway::builder(binary()).args(["kafka-pixy", "-config", text(&path)]);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let pixy = builder.spawn().unwrap();
    let url = format!("http://{}/topics/{topic}/messages?sync", pixy.address());
    assert_eq!(post(&client, &url, "2").await.status(), 200);
    spans(&collector, "POST /topics/{topic}/messages", 1);
    assert_eq!(collector.resource("service.name").as_deref(), Some("pixy"));
    assert!(pixy.terminate().unwrap().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafboys_requests_are_parts_of_their_traces() {
    let collector = Collector::http().await;
    let brokers = shared().bootstrap_servers();
    let (_folder, path) = file(
        "kafboy.yaml",
        &format!(
            "kafboy: {{kafboy_http_listen: 127.0.0.1, kafboy_http_port: 0}}\nekaf: \
             {{ekaf_bootstrap_broker: '{brokers}'}}\notlp: {{endpoint: 'http://{}', \
             sample_ratio: 0, service_name: boy, interval_ms: 100}}\n",
            collector.address
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kafboy", "-c", text(&path)])
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .spawn()
        .unwrap();
    let client = reqwest::Client::new();
    let topic = new_topic();
    let url = format!("http://{}/sync/{topic}", address(&gateway, 0));
    let reply = post(&client, &url, "value").await;
    assert_eq!(reply.status(), 200);
    let sent = spans(&collector, &format!("send {topic}"), 1).remove(0);
    let served = spans(&collector, "POST /sync/:topic", 1).remove(0);
    assert_eq!(hexadecimal(&served.trace_id), TRACE);
    assert_eq!((served.kind, sent.kind), (2, 4), "server and producer");
    assert_eq!(sent.parent_span_id, served.span_id);
    let of = |span: &Span, name| attribute(&span.attributes, name);
    assert_eq!(of(&served, "http.route").as_deref(), Some("/sync/:topic"));
    let place = "messaging.destination.partition.id";
    assert_eq!(of(&sent, place).as_deref(), Some("0"));
    // The record names the span that has sent it.
    let record = shared().read_all(&topic).unwrap().remove(0);
    let carried = String::from_utf8(record.headers[0].1.clone().unwrap()).unwrap();
    let expected = format!("00-{TRACE}-{}-01", hexadecimal(&sent.span_id));
    assert_eq!((record.headers.len(), carried), (1, expected));

    // What is refused is told by its span.
    let missing = topic_name("telemetry-missing");
    let url = format!("http://{}/sync/{missing}", address(&gateway, 0));
    assert_eq!(post(&client, &url, "value").await.status(), 500);
    let failed = spans(&collector, &format!("send {missing}"), 1).remove(0);
    let kind = of(&failed, "error.type");
    assert_eq!(kind.as_deref(), Some("unknown_topic"));
    eventually("its metrics", || {
        let requests = "barnabas_requests_total";
        let well = collector.counter(requests, ("status", "200"));
        let produced = collector.counter("barnabas_produced_messages_total", ("topic", &topic));
        (well == Some(1.0) && produced == Some(1.0)).then_some(())
    });
    assert_eq!(collector.resource("service.name").as_deref(), Some("boy"));
    assert!(gateway.terminate().unwrap().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_the_end_is_sent() {
    let collector = Collector::grpc().await;
    let endpoint = format!("http://{}", collector.address);
    let (_folder, gateway) = serve(
        "otlp: {protocol: grpc}",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
        ],
    );
    let url = format!("http://{}/_ping", address(&gateway, 0));
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
    assert!(collector.spans().is_empty());
    assert!(gateway.terminate().unwrap().0.success());
    let names: Vec<_> = collector
        .spans()
        .into_iter()
        .map(|span| span.name)
        .collect();
    assert_eq!(names, ["GET /_ping"]);
    assert!(collector.metric("barnabas_otlp_spans_total").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_collector_that_is_trusted_gets_anything() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let chain = CertificateDer::from_pem_file(at("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(at("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let collector = Collector::https(config).await;
    let endpoint = format!("https://localhost:{}", collector.address.port());
    let otlp = format!("otlp: {{endpoint: '{endpoint}'}}");
    // Those that the system trusts do not sign for tests.
    let (_folder, gateway) = serve(&otlp, &[]);
    let url = format!("http://{}/_ping", address(&gateway, 0));
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
    let patience = Duration::from_secs(30);
    let said = gateway.wait_for_stderr("not sent: ", patience).unwrap();
    assert!(said.contains("certificate"), "{said}");
    assert!(gateway.terminate().unwrap().0.success());
    assert!(collector.keys().is_empty());
    let ca = at("ca.pem");
    let (_folder, gateway) = serve(&otlp, &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca)]);
    let url = format!("http://{}/_ping", address(&gateway, 0));
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
    spans(&collector, "GET /_ping", 1);
    assert!(gateway.terminate().unwrap().0.success());
}

/// What a collector does that is none.
enum Bad {
    /// Nobody listens.
    Down,
    /// It takes connections and says nothing.
    Hangs,
    /// It says something else.
    Refuses,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_collector_costs_spans_and_nothing_else() {
    const REQUESTS: usize = 3_000;
    let collector = Collector::grpc().await;
    let metrics = format!("http://{}", collector.address);
    let client = reqwest::Client::new();
    for bad in [Bad::Down, Bad::Hangs, Bad::Refuses] {
        // Its port stays its own, or other tests' collectors would get what is meant for it.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let mut address_of_bad = socket.local_addr().unwrap().as_socket().unwrap();
        let mut other = None;
        match bad {
            Bad::Down => {}
            // It never accepts: the kernel does.
            Bad::Hangs => socket.listen(128).unwrap(),
            Bad::Refuses => {
                // It speaks HTTP/1.1 only.
                let refusing = Collector::http().await;
                address_of_bad = refusing.address;
                other = Some(refusing);
            }
        }
        let traces = format!("http://{address_of_bad}");
        let (_folder, gateway) = serve(
            "shutdown: {deadline: 10s}",
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &traces),
                ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &metrics),
                ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "200"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
            ],
        );
        let topic = new_topic();
        let base = format!("http://{}", address(&gateway, 0));
        let url = format!("{base}/v1/topics/{topic}/records?durability=memory");
        assert_eq!(post(&client, &url, "first").await.status(), 202);
        let before = gateway.resident_bytes().unwrap();
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (client, url) = (client.clone(), url.clone());
            workers.spawn(async move {
                for _ in 0..REQUESTS / 10 {
                    assert_eq!(post(&client, &url, "more").await.status(), 202);
                }
            });
        }
        workers.join_all().await;
        // Two spans each; most found no room.
        let least = (2 * REQUESTS / 2) as f64;
        let dropped = ("result", "dropped");
        eventually("dropped spans", || {
            let dropped = collector.counter("barnabas_otlp_spans_total", dropped);
            dropped.filter(|dropped| *dropped > least)
        });
        let grown = gateway.resident_bytes().unwrap().saturating_sub(before);
        assert!(grown < 50 << 20, "{grown} bytes more");
        let (started, stalls) = (Instant::now(), Stalls::watch());
        assert!(gateway.terminate().unwrap().0.success());
        let after = started.elapsed();
        let bound = Duration::from_secs(10) + stalls.total();
        assert!(after < bound, "{after:?} to stop");
        let found = shared().read_all(&topic).unwrap();
        assert_eq!(found.len(), REQUESTS + 1, "nothing was lost");
        drop(other);
    }
}
