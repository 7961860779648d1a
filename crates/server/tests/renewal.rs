//! Gateways whose librdkafka client fails for good (KIP-360) go on by themselves,
//! on librdkafka's mock: real brokers cannot be made to lose their place.

use crate::support::{PATIENCE, address, binary, curl, eventually, file, text};
use barnabas_testkit::Gateway;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

fn mock() -> MockCluster<'static, Context> {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    mock
}

/// The broker's next answer to a producer ends its client.
fn fail(mock: &MockCluster<'static, Context>) {
    let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];
    mock.request_errors(RDKafkaApiKey::Produce, &lost);
}

fn hears(gateway: &Gateway, read: impl Fn(&Gateway) -> String, times: usize) {
    eventually("the log tells of it", || {
        let told = "a client has failed for good, a new one goes on";
        (read(gateway).matches(told).count() == times).then_some(())
    });
}

#[test]
fn every_front_end_of_serve_goes_on() {
    let mock = mock();
    let (_folder, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters: {{default: {{properties: {{bootstrap.servers: '{}'}}}}}}\nredis: {{listen: \
             '127.0.0.1:0'}}\nhttp: {{listen: '127.0.0.1:0'}}\n",
            mock.bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .env("BARNABAS_METRICS__LISTEN", "127.0.0.1:0")
        .listeners(3)
        .spawn()
        .unwrap();
    let http = address(&gateway, 1);
    let native = || curl(&["-d", "x", &format!("http://{http}/v1/topics/t/records")]);
    let pixy = || {
        let url = format!("http://{http}/topics/t/messages?sync");
        curl(&["-H", "Content-Type: text/plain", "-d", "x", &url])
    };
    let mut client = TcpStream::connect(address(&gateway, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut redis = |command: &str| {
        client
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let mut reply = [0; 4];
        client.read_exact(&mut reply).unwrap();
        String::from_utf8(reply.to_vec()).unwrap()
    };
    assert_eq!(native().0, 200);
    assert_eq!(redis("RPUSHX topics:t a"), ":1\r\n");
    assert_eq!(redis("DUMP 30000"), ":0\r\n");

    fail(&mock);
    let (status, said) = native();
    assert!(status >= 500, "it is in nobody's hands: {status} {said}");
    hears(&gateway, Gateway::stderr, 1);
    // The same connections and topics.
    eventually("the next client takes a message", || {
        (native().0 == 200).then_some(())
    });
    assert_eq!(pixy().0, 200);
    assert_eq!(redis("RPUSHX topics:t b"), ":1\r\n");
    assert_eq!(redis("DUMP 30000"), ":0\r\n");
    let (_, page) = curl(&[&format!("http://{}/metrics", address(&gateway, 2))]);
    let replaced = "barnabas_producer_failed_clients_total{cluster=\"default\"} 1\n";
    assert!(page.contains(replaced), "{page}");
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}

#[test]
fn kprf_goes_on() {
    let mock = mock();
    let (_folder, path) = file(
        "kprf.yaml",
        &format!(
            "http: {{listen: 127.0.0.1, port: 0, metrics_port: 0}}\nkafka: {{brokers: ['{}']}}\n",
            mock.bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kprf", "-c", text(&path)])
        .listeners(0)
        .spawn()
        .unwrap();
    let port = eventually("it listens", || {
        let log = gateway.stdout();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("starting main http server"))?;
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["port"].as_u64()
    });
    let push = |wait: bool| {
        let body = format!(
            "{{\"records\": [{{\"topic\": \"t\", \"data\": \"a\"}}], \"wait_for_send\": {wait}}}"
        );
        let url = format!("http://127.0.0.1:{port}/push");
        curl(&["-H", "Content-Type: application/json", "-d", &body, &url])
    };
    for (wait, failures) in [(true, 1), (false, 2)] {
        // Kafka has it, so that it is the next record that ends the client.
        let before = push(true);
        assert!(before.0 < 300, "{before:?}");
        fail(&mock);
        let during = push(wait);
        match wait {
            true => assert_eq!(during.0, 500, "{during:?}"),
            // It was taken before.
            false => assert!(during.0 < 300, "{during:?}"),
        }
        hears(&gateway, Gateway::stdout, failures);
        eventually("the next client takes a record", || {
            (push(true).0 < 300).then_some(())
        });
    }
}
