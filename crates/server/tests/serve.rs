//! `barnabas serve` with every front end, on real Kafka.

use crate::support::{
    PATIENCE, address, binary, curl, eventually, file, finish_curl, finish_grpcurl, grpcurl,
    start_curl, start_grpcurl, text,
};
use barnabas_testkit::{Gateway, Stalls, shared, topic_name};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// All front ends, on the shared broker and on a cluster that is not there.
fn start(more: &str) -> (tempfile::TempDir, Gateway) {
    let (folder, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters:\n  main:\n    properties: {{bootstrap.servers: '{}'}}\n    produce: \
             {{partitioner: roundrobin}}\n    consume: {{initial_offset: oldest, \
             long_polling_timeout: 60s}}\n  lost: {{properties: {{bootstrap.servers: \
             '127.0.0.1:1'}}}}\nredis: {{listen: '127.0.0.1:0', cluster: main}}\ngrpc: {{listen: \
             '127.0.0.1:0'}}\n{more}\n",
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .env("BARNABAS_HTTP__LISTEN", "127.0.0.1:0")
        .env("BARNABAS_HTTP__UNIX", socket(folder.path()))
        .listeners(3)
        .spawn()
        .unwrap();
    (folder, gateway)
}

fn socket(folder: &Path) -> String {
    text(&folder.join("http.sock")).to_owned()
}

fn new_topic(partitions: i32) -> String {
    let topic = topic_name("serve");
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

fn post(url: &str) -> (u16, String) {
    curl(&["-H", "Content-Type: text/plain", "-d", "value", url])
}

/// Until a first question has got no answer, nobody knows.
fn is_unreachable(url: &str) {
    eventually("the cluster is known not to answer", || {
        let (status, body) = curl(&[url]);
        assert!([500, 503].contains(&status), "{status}: {body}");
        (status == 503).then_some(())
    });
}

fn redis(gateway: &Gateway, commands: &str) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(commands.as_bytes()).unwrap();
    client
}

#[test]
fn every_front_end_serves_the_same_clusters() {
    let (folder, gateway) = start("");
    let (http, grpc) = (address(&gateway, 1), address(&gateway, 2));
    let topic = new_topic(3);
    let messages = |cluster: &str| format!("http://{http}{cluster}/topics/{topic}/messages");

    // One producer for all of them: the partitions take turns across front ends.
    let (status, body) = post(&format!("{}?sync", messages("")));
    assert_eq!(status, 200, "{body}");
    let produced = format!(r#"{{"topic": "{topic}", "message": "eA=="}}"#);
    let reply = grpcurl(&grpc, "Produce", &produced).unwrap();
    assert!(reply.contains("\"partition\": 1"), "{reply}");
    let mut client = redis(&gateway, &format!("RPUSHX topics:{topic} x\r\n"));
    client.read_exact(&mut [0; 4]).unwrap();
    let record = eventually("the third record", || {
        let records = shared().read_all(&topic).unwrap();
        records.into_iter().find(|record| record.partition == 2)
    });
    assert_eq!(record.value_text(), "x");

    let group = topic_name("group");
    let mut partitions = Vec::new();
    for url in [messages(""), messages("/clusters/main"), messages("")] {
        let (status, body) = curl(&[&format!("{url}?group={group}")]);
        assert_eq!(status, 200, "{body}");
        let message: serde_json::Value = serde_json::from_str(&body).unwrap();
        partitions.push(message["partition"].as_i64().unwrap());
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);

    // B30: one that is not there yet is in nobody's way.
    is_unreachable(&format!("http://{http}/clusters/lost/topics"));
    let (status, body) = post(&format!("{}?sync", messages("/clusters/lost")));
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("Is your cluster reachable?"), "{body}");
    let refused = grpcurl(&grpc, "ListTopics", r#"{"cluster": "lost"}"#).unwrap_err();
    assert!(refused.contains("Unavailable"), "{refused}");
    let (status, body) = post(&messages("/clusters/none"));
    assert_eq!(status, 400, "{body}");
    let socket = socket(folder.path());
    let (status, body) = curl(&["--unix-socket", &socket, "http://x/_ping"]);
    assert_eq!((status, body.as_str()), (200, "pong"));
    drop(client);
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    assert!(!Path::new(&socket).exists());
}

/// Requests that wait on every front end are told, and nobody waits for them.
#[test]
fn sigterm_tells_everybody_who_waits() {
    let (_folder, gateway) = start("");
    let (http, grpc) = (address(&gateway, 1), address(&gateway, 2));
    let topic = new_topic(1);
    let group = topic_name("group");
    let url = format!("http://{http}/topics/{topic}/messages?group={group}-http");
    let over_http = start_curl(&[&url]);
    let request = format!(r#"{{"topic": "{topic}", "group": "{group}-grpc", "auto_ack": true}}"#);
    let over_grpc = start_grpcurl(&grpc, "ConsumeNAck", &request);
    let commands = format!("CLIENT SETNAME {group}-redis:one\r\nBLPOP topics:{topic} 60\r\n");
    let mut client = redis(&gateway, &commands);
    eventually("all three are in their groups", || {
        let log = gateway.stderr();
        let has_joined = |end: &str| {
            let name = format!("{group}-{end}");
            log.lines()
                .any(|line| line.contains("assigned: ") && line.contains(&name))
        };
        ["http", "grpc", "redis"]
            .into_iter()
            .all(has_joined)
            .then_some(())
    });

    let (status, took) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    assert!(took < Duration::from_secs(17), "{took:?}");
    assert!(
        !gateway.stderr().contains("deadline"),
        "{}",
        gateway.stderr()
    );
    let (status, body) = finish_curl(over_http);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("service is shutting down"), "{body}");
    let refused = finish_grpcurl(over_grpc).unwrap_err();
    assert!(refused.contains("Unavailable"), "{refused}");
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "$2\r\nOK\r\n-CONS Server shutdown\r\n");
}

/// While the process drains, acknowledgements are taken and work is not.
#[test]
fn a_drain_waits_for_acknowledgements() {
    let (_folder, gateway) = start("");
    let http = address(&gateway, 1);
    let (topic, group) = (new_topic(1), topic_name("group"));
    let url = format!("http://{http}/topics/{topic}");
    let (status, body) = post(&format!("{url}/messages?sync"));
    assert_eq!(status, 200, "{body}");
    let (status, body) = curl(&[&format!("{url}/messages?group={group}&noAck")]);
    assert_eq!(status, 200, "{body}");
    gateway.signal(barnabas_testkit::Signal::Terminate).unwrap();
    gateway.wait_for_stderr("draining", PATIENCE).unwrap();
    eventually("work is refused", || {
        let (status, _) = post(&format!("{url}/messages?sync"));
        assert!([200, 503].contains(&status));
        (status == 503).then_some(())
    });
    let (acked, stalls) = (Instant::now(), Stalls::watch());
    let ack = format!("{url}/acks?group={group}&partition=0&offset=0");
    let (status, body) = curl(&["-X", "POST", &ack]);
    assert_eq!(status, 200, "{body}");
    let status = gateway.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    // Not until ten of the seventeen seconds are over.
    assert!(
        acked.elapsed() < Duration::from_secs(8) + stalls.total(),
        "{:?}",
        acked.elapsed()
    );
    let committed = shared().committed(&group, &topic).unwrap();
    assert!(committed[&0] >= 1, "{committed:?}");
}

/// Kafka-Pixy's file with all that is new: a cluster that is not there, partitions in turn, a
/// group that begins at a time.
#[test]
fn kafka_pixy_starts_if_one_cluster_answers() {
    let topic = new_topic(3);
    let (_folder, path) = file(
        "pixy.yaml",
        &format!(
            "tcp_addr: 127.0.0.1:0\ngrpc_addr: 127.0.0.1:0\ndefault_cluster: main\nproxies:\n  \
             lost:\n    kafka: {{seed_peers: ['127.0.0.1:1']}}\n    net: {{dial_timeout: 1s}}\n  \
             main:\n    kafka: {{seed_peers: ['{}']}}\n    producer: {{partitioner: roundrobin}}\n    \
             consumer: {{initial_offset: 2020-01-01T00:00:00Z, long_polling_timeout: 30s}}\n",
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kafka-pixy", "-config", text(&path)])
        .listeners(2)
        .spawn()
        .unwrap();
    let url = format!("http://{}/topics/{topic}/messages", address(&gateway, 0));
    for partition in [0, 1, 2, 0] {
        let (status, body) = post(&format!("{url}?sync&key=same"));
        assert_eq!(status, 200, "{body}");
        let expected = format!("\"partition\": {partition}");
        assert!(body.contains(&expected), "{body}");
    }
    let (status, body) = curl(&[&format!("{url}?group={}", topic_name("group"))]);
    assert_eq!(status, 200, "{body}");
    gateway
        .wait_for_stderr("cluster lost does not answer", PATIENCE)
        .unwrap();
    is_unreachable(&format!(
        "http://{}/clusters/lost/topics",
        address(&gateway, 0)
    ));
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}
