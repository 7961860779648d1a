//! Ending: the first signal drains, the second ends at once.

use super::{binary, file, text};
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
        .wait_for_stderr("Connection refused", Duration::from_secs(10))
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
    gateway
        .wait_for_stderr("draining", Duration::from_secs(10))
        .unwrap();
    // The thread that waits for the second signal starts right after.
    std::thread::sleep(Duration::from_millis(100));
    gateway.signal(Signal::Interrupt).unwrap();
    let status = gateway.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", gateway.stderr());
}
