//! Ending: the first signal drains, the second ends at once.

use crate::support::{PATIENCE, binary, file, text};
use barnabas_testkit::{Gateway, Signal};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn sigterm_drains_and_ends_with_zero() {
    let gateway = Gateway::spawn(&binary(), &["dev", "--port", "0"]).unwrap();
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.write_all(b"RPUSHX topics:t x\r\n").unwrap();
    let mut reply = [0; 4];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b":1\r\n");
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}

#[test]
fn rafka_mode_logs_as_rafka_does() {
    let (_folder, path) = file(
        "librdkafka.json",
        r#"{"general": {"bootstrap.servers": "127.0.0.1:1"}}"#,
    );
    let arguments = ["rafka", "-c", text(&path), "--host", "127.0.0.1", "-p", "0"];
    let gateway = Gateway::spawn(&binary(), &arguments).unwrap();
    let listening = &gateway.listening()[0];
    assert_eq!(listening.component.as_deref(), Some("server"));
    // librdkafka's own lines belong to the client that they are about.
    let log = gateway
        .wait_for_stderr("Connection refused", PATIENCE)
        .unwrap();
    let line = log.lines().find(|line| line.contains("refused")).unwrap();
    assert!(line.starts_with("[producer] "), "{line}");
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}

/// With its broker gone, a gateway with queued messages takes five seconds to
/// give them up; a second signal does not wait.
#[test]
fn a_second_signal_ends_at_once_with_one() {
    let (_folder, path) = file(
        "librdkafka.json",
        r#"{"general": {"bootstrap.servers": "127.0.0.1:1"}}"#,
    );
    let arguments = ["rafka", "-c", text(&path), "--host", "127.0.0.1", "-p", "0"];
    let gateway = Gateway::spawn(&binary(), &arguments).unwrap();
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.write_all(b"RPUSHX topics:t x\r\n").unwrap();
    let mut reply = [0; 4];
    client.read_exact(&mut reply).unwrap();
    gateway.signal(Signal::Terminate).unwrap();
    gateway.wait_for_stderr("draining", PATIENCE).unwrap();
    // The thread that waits for the second signal starts right after.
    std::thread::sleep(Duration::from_millis(100));
    gateway.signal(Signal::Interrupt).unwrap();
    let status = gateway.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", gateway.stderr());
}

/// The old program's shutdown: exit code 0, no pid file, no socket left.
#[test]
fn kafka_pixy_serves_and_ends_as_the_old_program() {
    let kafka = barnabas_testkit::shared();
    let folder = tempfile::tempdir().unwrap();
    let (pid_file, socket) = (folder.path().join("pid"), folder.path().join("socket"));
    let arguments = [
        "kafka-pixy",
        "-kafkaPeers",
        &kafka.bootstrap_servers(),
        "--tcpAddr=127.0.0.1:0",
        "-grpcAddr=",
        "-unixAddr",
        text(&socket),
        "-pidFile",
        text(&pid_file),
        "-zookeeperPeers=localhost:2181",
    ];
    let gateway = Gateway::spawn(&binary(), &arguments).unwrap();
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid, gateway.pid().to_string());
    let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    client
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\npong"), "{reply}");
    assert!(gateway.stderr().contains("ZooKeeper is no longer needed"));
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    assert!(!pid_file.exists());
    assert!(!socket.exists());
}

#[test]
fn kafka_pixy_says_that_no_broker_answers() {
    let (_folder, path) = file(
        "pixy.yaml",
        "tcp_addr: 127.0.0.1:0\ngrpc_addr: ''\nproxies:\n  lost:\n    kafka: {seed_peers: \
         ['127.0.0.1:1']}\n    net: {dial_timeout: 1s}\n",
    );
    let output = std::process::Command::new(binary())
        .args(["kafka-pixy", "-config", text(&path)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "failed to spawn proxy, name=lost: failed to create Kafka client: kafka: \
                    client has run out of available brokers to talk to (Is your cluster \
                    reachable?)";
    assert!(said.contains(expected), "{said}");
}
