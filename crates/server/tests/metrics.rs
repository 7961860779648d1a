//! The metrics of a whole gateway, on real Kafka: scraped, and pushed to
//! statsd.

use crate::support::{PATIENCE, address, binary, curl, eventually, file, grpcurl, text};
use barnabas_testkit::{Gateway, shared, topic_name};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

/// All front ends on the shared broker, and what is given beside them.
fn start(more: &str) -> (tempfile::TempDir, Gateway) {
    let (folder, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters:\n  main:\n    properties: {{bootstrap.servers: '{}'}}\n    consume: \
             {{initial_offset: oldest, long_polling_timeout: 60s, ack_timeout: 1s}}\n    \
             consumer: {{auto.offset.reset: earliest}}\n\
             redis: {{listen: '127.0.0.1:0', cluster: main}}\n\
             http: {{listen: '127.0.0.1:0'}}\ngrpc: {{listen: '127.0.0.1:0'}}\n{more}\n",
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .listeners(4)
        .spawn()
        .unwrap();
    (folder, gateway)
}

fn scrape(metrics: &str) -> String {
    let (status, text) = curl(&[&format!("http://{metrics}/metrics")]);
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of a series; `None` if it is not there.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let found = lines.find(|(name, _)| *name == series);
    found.map(|(_, value)| value.parse().unwrap())
}

/// Waits until a series has this value.
fn until(metrics: &str, series: &str, expected: f64) {
    eventually(&format!("{series} is {expected}"), || {
        (value(&scrape(metrics), series) == Some(expected)).then_some(())
    });
}

/// Sends commands and reads so many bytes of replies.
fn redis(client: &mut TcpStream, commands: &str, bytes: usize) -> String {
    client.write_all(commands.as_bytes()).unwrap();
    let mut reply = vec![0; bytes];
    client.read_exact(&mut reply).unwrap();
    String::from_utf8(reply).unwrap()
}

#[test]
fn all_that_a_gateway_does_is_counted() {
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    let statsd_address = statsd.local_addr().unwrap();
    // Read all the time: the kernel keeps little, and what is lost does not
    // come again.
    let (tell, pushes) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 2_000];
        while let Ok(length) = statsd.recv(&mut bytes) {
            let datagram = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if tell.send(datagram).is_err() {
                return;
            }
        }
    });
    let journal = tempfile::tempdir().unwrap();
    let journalled = topic_name("metrics-journal");
    let (_folder, gateway) = start(&format!(
        "metrics: {{listen: '127.0.0.1:0', partitions: true, statistics_interval_ms: 200}}\n\
         statsd: {{address: '{}', interval_ms: 200, prefix: gw.}}\n\
         durability: {{default: memory, {journalled}: journal}}\njournal: {{dir: {}}}",
        statsd_address,
        text(journal.path())
    ));
    let (http, grpc) = (address(&gateway, 1), address(&gateway, 2));
    let metrics = address(&gateway, 3);
    let topic = topic_name("metrics");
    for name in [&topic, &journalled] {
        shared().create_topic(name, 1).unwrap();
    }
    let url = format!("http://{http}/topics/{topic}/messages");
    let post = |url: &str| curl(&["-H", "Content-Type: text/plain", "-d", "value", url]);

    // Three messages of five bytes and five of one: nothing of it is lost.
    for _ in 0..2 {
        assert_eq!(post(&format!("{url}?sync")).0, 200);
    }
    let message = format!(r#"{{"topic": "{topic}", "message": "dmFsdWU="}}"#);
    grpcurl(&grpc, "Produce", &message).unwrap();
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let push = format!("RPUSHX topics:{topic} x\r\n").repeat(5);
    assert_eq!(redis(&mut client, &push, 20), ":1\r\n".repeat(5));
    assert_eq!(redis(&mut client, "DUMP 30000\r\n", 4), ":0\r\n");
    assert!(redis(&mut client, "NONSENSE\r\n", 40).starts_with("-ERR unknown command"));
    let kept = format!("http://{http}/topics/{journalled}/messages");
    assert_eq!(post(&kept).0, 200);
    assert_eq!(curl(&[&format!("http://{http}/nowhere")]).0, 404);

    // One is acknowledged, one is not and comes again.
    let group = topic_name("metrics-group");
    let consume = format!("{url}?group={group}");
    assert_eq!(curl(&[&consume]).0, 200);
    let (status, body) = curl(&[&format!("{consume}&noAck")]);
    assert_eq!(status, 200, "{body}");
    let first: serde_json::Value = serde_json::from_str(&body).unwrap();
    let in_flight =
        format!("barnabas_unacknowledged_messages{{cluster=\"main\",topic=\"{topic}\"}}");
    until(&metrics, &in_flight, 1.0);
    let again =
        format!("barnabas_redelivered_messages_total{{cluster=\"main\",topic=\"{topic}\"}}");
    eventually("the message comes again", || {
        let (status, body) = curl(&[&format!("{consume}&noAck")]);
        assert_eq!(status, 200, "{body}");
        let next: serde_json::Value = serde_json::from_str(&body).unwrap();
        (next["offset"] == first["offset"]).then_some(())
    });
    let text = scrape(&metrics);
    assert!(
        value(&text, &again).is_some_and(|count| count >= 1.0),
        "{text}"
    );

    let text = scrape(&metrics);
    let of_topic = |name: &str| format!("{name}{{cluster=\"main\",topic=\"{topic}\"}}");
    let request = |front_end: &str, request: &str, status: &str| {
        format!(
            "barnabas_requests_total{{front_end=\"{front_end}\",request=\"{request}\",\
             status=\"{status}\"}}"
        )
    };
    let of_cluster = |name: &str| format!("{name}{{cluster=\"main\"}}");
    for (series, expected) in [
        (of_topic("barnabas_produced_messages_total"), 8.0),
        (of_topic("barnabas_produced_bytes_total"), 20.0),
        (of_topic("barnabas_produce_failed_messages_total"), 0.0),
        (of_topic("barnabas_produce_in_flight_messages"), 0.0),
        (of_topic("barnabas_acked_messages_total"), 1.0),
        (of_topic("barnabas_dead_letter_messages_total"), 0.0),
        (request("http", "POST /topics/{topic}/messages", "200"), 3.0),
        (request("http", "other", "404"), 1.0),
        (request("grpc", "KafkaPixy/Produce", "OK"), 1.0),
        (request("redis", "RPUSHX", "ok"), 5.0),
        (request("redis", "DUMP", "ok"), 1.0),
        (request("redis", "other", "error"), 1.0),
        (of_cluster("barnabas_journal_written_messages_total"), 1.0),
        (of_cluster("barnabas_producer_queue_messages"), 0.0),
        ("barnabas_connections{front_end=\"redis\"}".to_owned(), 1.0),
        (
            "barnabas_connections_total{front_end=\"redis\"}".to_owned(),
            1.0,
        ),
    ] {
        assert_eq!(value(&text, &series), Some(expected), "{series}: {text}");
    }
    for (series, least) in [
        (of_cluster("barnabas_journal_syncs_total"), 1.0),
        (of_cluster("barnabas_journal_bytes"), 1.0),
        (of_cluster("barnabas_journal_segments"), 1.0),
        (
            "barnabas_received_bytes_total{front_end=\"redis\"}".to_owned(),
            push.len() as f64,
        ),
        (
            "barnabas_sent_bytes_total{front_end=\"http\"}".to_owned(),
            100.0,
        ),
        (
            "barnabas_connections_total{front_end=\"grpc\"}".to_owned(),
            1.0,
        ),
        (
            "barnabas_request_duration_seconds_bucket{front_end=\"http\",\
             request=\"POST /topics/{topic}/messages\",le=\"30\"}"
                .to_owned(),
            3.0,
        ),
    ] {
        let found = value(&text, &series);
        assert!(
            found.is_some_and(|found| found >= least),
            "{series}: {found:?} {text}"
        );
    }
    assert!(text.contains("barnabas_build_info{commit="), "{text}");

    // Of what lies behind the acknowledged message librdkafka has heard.
    let lag = format!(
        "barnabas_consumer_lag_messages{{cluster=\"main\",group=\"{group}\",partition=\"0\",\
         topic=\"{topic}\"}}"
    );
    until(&metrics, &lag, 7.0);
    // librdkafka's own come every 200 ms.
    let transmitted = "barnabas_librdkafka_partition_txmsgs_total{client=\"producer\",\
                       cluster=\"main\",partition=\"0\",topic=\"TOPIC\"}";
    until(&metrics, &transmitted.replace("TOPIC", &topic), 8.0);
    let member = "barnabas_librdkafka_cgrp_state{client=\"group\",cluster=\"main\",state=\"up\"}";
    until(&metrics, member, 1.0);

    // statsd hears the same, as what has come since it heard last.
    let mut pushed = 0.0;
    let wanted = "gw.requests_total.redis.RPUSHX.ok:";
    let started = Instant::now();
    while pushed < 5.0 {
        assert!(started.elapsed() < PATIENCE, "{pushed}");
        let datagram = pushes.recv_timeout(PATIENCE).unwrap();
        assert!(datagram.len() <= 1432);
        for line in datagram.lines() {
            if let Some(count) = line.strip_prefix(wanted) {
                pushed += count.strip_suffix("|c").unwrap().parse::<f64>().unwrap();
            }
        }
    }
    assert_eq!(pushed, 5.0);

    drop(client);
    until(&metrics, "barnabas_connections{front_end=\"redis\"}", 0.0);
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}

#[test]
fn the_port_tells_of_health_and_raw_statistics() {
    let (_folder, gateway) =
        start("metrics: {listen: '127.0.0.1:0', statistics_interval_ms: 200}\n");
    let metrics = address(&gateway, 3);
    let get = |path: &str| curl(&[&format!("http://{metrics}{path}")]);
    assert_eq!(get("/health/live"), (200, "alive".to_owned()));
    assert_eq!(get("/health/ready"), (200, "ready".to_owned()));
    let producer = eventually("statistics", || {
        let (status, body) = get("/stats?cluster=main&client=producer");
        (status == 200).then_some(body)
    });
    let json: serde_json::Value = serde_json::from_str(&producer).unwrap();
    assert_eq!(json["type"], "producer");
    for path in [
        "/stats?cluster=none",
        "/stats?client=group",
        "/",
        "/metrics/",
    ] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    let accept = "accept: application/openmetrics-text";
    let (status, text) = curl(&["-H", accept, &format!("http://{metrics}/metrics")]);
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
}

/// rafka's consumers have no group task; they count, too, and their lag is
/// that of what they have acknowledged.
#[test]
fn the_old_programs_modes_have_it_too() {
    let topic = topic_name("metrics-rafka");
    shared().create_topic(&topic, 1).unwrap();
    let (_folder, path) = file(
        "librdkafka.json",
        &format!(
            r#"{{"general": {{"bootstrap.servers": "{}"}},
                 "consumer": {{"auto.offset.reset": "earliest"}},
                 "metrics": {{"listen": "127.0.0.1:0"}}}}"#,
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["rafka", "--host", "127.0.0.1", "--port", "0"])
        .args(["--config", text(&path)])
        .listeners(2)
        .spawn()
        .unwrap();
    let metrics = address(&gateway, 1);
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let push = format!("RPUSHX topics:{topic} x\r\n").repeat(3);
    assert_eq!(redis(&mut client, &push, 12), ":1\r\n".repeat(3));
    let group = topic_name("metrics-rafka-group");
    let named = format!("CLIENT SETNAME {group}:me\r\n");
    assert_eq!(redis(&mut client, &named, 8), "$2\r\nOK\r\n");
    let wanted = format!("BLPOP topics:{topic} 30000\r\n");
    client.write_all(wanted.as_bytes()).unwrap();
    // Six texts of two lines each, two numbers.
    let reply: Vec<String> = BufReader::new(&client)
        .lines()
        .take(15)
        .map(Result::unwrap)
        .collect();
    assert_eq!((reply[0].as_str(), reply[14].as_str()), ("*8", "x"));
    redis(&mut client, &format!("RPUSH acks {topic}:0:0\r\n"), 4);
    let cluster = "cluster=\"kafka\"";
    let of_topic = |name: &str| format!("{name}{{{cluster},topic=\"{topic}\"}}");
    until(&metrics, &of_topic("barnabas_consumed_messages_total"), 3.0);
    until(&metrics, &of_topic("barnabas_acked_messages_total"), 1.0);
    let lag = format!(
        "barnabas_consumer_lag_messages{{{cluster},group=\"{group}\",partition=\"0\",\
         topic=\"{topic}\"}}"
    );
    until(&metrics, &lag, 2.0);

    let (_folder, path) = file(
        "pixy.yaml",
        &format!(
            "grpc_addr: 127.0.0.1:0\ntcp_addr: 127.0.0.1:0\nmetrics: {{listen: \
             '127.0.0.1:0'}}\nproxies:\n  main:\n    kafka: {{seed_peers: ['{}']}}\n",
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kafka-pixy", "-config", text(&path)])
        .listeners(3)
        .spawn()
        .unwrap();
    let (http, metrics) = (address(&gateway, 0), address(&gateway, 2));
    assert_eq!(curl(&[&format!("http://{http}/_ping")]).0, 200);
    let ping = "barnabas_requests_total{front_end=\"http\",request=\"GET /_ping\",status=\"200\"}";
    until(&metrics, ping, 1.0);
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}
