//! Kafka that wants its clients to log in (contract, `consume-and-ack.md`, section 13, B6).

use crate::support::{address, binary, curl, file, run, stderr, text};
use barnabas_testkit::{Cluster, Gateway, topic_name};

/// The old program's file for one cluster with this `net.sasl`.
fn pixy(
    kafka: &Cluster,
    sasl: &str,
    dial_timeout: &str,
) -> (tempfile::TempDir, std::path::PathBuf) {
    file(
        "pixy.yaml",
        &format!(
            "tcp_addr: 127.0.0.1:0\ngrpc_addr: ''\nproxies:\n  main:\n    kafka: {{seed_peers: \
             ['{}']}}\n    net: {{dial_timeout: {dial_timeout}, sasl: {sasl}}}\n    consumer: \
             {{initial_offset: oldest, long_polling_timeout: 30s}}\n",
            kafka.sasl_bootstrap_servers()
        ),
    )
}

#[test]
fn every_mechanism_is_let_in_and_a_wrong_password_is_not() {
    let kafka = Cluster::builder().sasl("ann", "s3cret").start().unwrap();
    let topic = topic_name("sasl");
    kafka.create_topic(&topic, 1).unwrap();
    for (offset, sasl) in [
        // The handshake is done whatever the file says.
        "{enable: true, handshake: false, user: ann, password: s3cret}",
        "{enable: true, mechanism: SCRAM-SHA-256, user: ann, password: s3cret}",
        "{enable: true, mechanism: SCRAM-SHA-512, user: ann, password: s3cret}",
        "{enable: true, mechanism: OAUTHBEARER, properties: \
         {enable.sasl.oauthbearer.unsecure.jwt: 'true', sasl.oauthbearer.config: principal=ann}}",
    ]
    .into_iter()
    .enumerate()
    {
        let (_folder, path) = pixy(&kafka, sasl, "30s");
        let gateway = Gateway::spawn(&binary(), &["kafka-pixy", "-config", text(&path)]).unwrap();
        let url = format!("http://{}/topics/{topic}/messages", address(&gateway, 0));
        let plain = ["-H", "Content-Type: text/plain", "-d", "x"];
        let (status, body) = curl(&[&plain[..], &[&format!("{url}?sync")]].concat());
        assert_eq!(status, 200, "{sasl}: {body}");
        assert!(body.contains(&format!("\"offset\": {offset}")), "{body}");
        let group = topic_name("group");
        let (status, body) = curl(&[&format!("{url}?group={group}")]);
        assert_eq!(status, 200, "{sasl}: {body}");
        let (status, body) = curl(&[&format!("http://{}/topics/{topic}", address(&gateway, 0))]);
        assert_eq!(status, 200, "{sasl}: {body}");
        let (status, _) = gateway.terminate().unwrap();
        assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    }
    let wrong = "{enable: true, mechanism: SCRAM-SHA-512, user: ann, password: hunter2}";
    let (_folder, path) = pixy(&kafka, wrong, "15s");
    let output = run(&["kafka-pixy", "-config", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("uthentication failed"), "{said}");
    assert!(said.contains("Is your cluster reachable?"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
