//! Pipelining, and requests that come in pieces.

use super::{gateway, keyed, messages, topic};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn request(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads until so many replies with these bodies have come, in order.
async fn expect(socket: &mut TcpStream, bodies: &[&str]) {
    let mut text = String::new();
    let is_there = |text: &str| {
        let mut rest = text;
        bodies.iter().all(|body| {
            let end = format!("\r\n\r\n{body}");
            match rest.find(&end) {
                Some(at) => {
                    rest = &rest[at + end.len()..];
                    true
                }
                None => false,
            }
        })
    };
    while !is_there(&text) {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(crate::support::PATIENCE, socket.read(&mut bytes));
        let count = read.await.expect("a reply").unwrap();
        assert_ne!(count, 0, "closed after {text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert_eq!(text.matches("HTTP/1.1 ").count(), bodies.len(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_keep_their_order_however_they_come() {
    let gateway = gateway();
    let topic = topic();
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let path = format!("/async/{topic}");
    // All at once, more than kafboy's 150 on one connection.
    let all: String = (0..200)
        .map(|number| request(&path, &format!("k={number}")))
        .collect();
    socket.write_all(all.as_bytes()).await.unwrap();
    expect(&mut socket, &[r#"{"ok":1}"#; 200]).await;
    // A body in a packet of its own, then everything byte by byte.
    let whole = request(&path, "k=200");
    let (head, body) = whole.split_at(whole.len() - 5);
    socket.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    socket.write_all(body.as_bytes()).await.unwrap();
    expect(&mut socket, &[r#"{"ok":1}"#]).await;
    let bytes = request(&path, "k=201") + &request("/echo_post", "a=b") + &request(&path, "k=202");
    for byte in bytes.as_bytes() {
        socket.write_all(&[*byte]).await.unwrap();
    }
    expect(&mut socket, &[r#"{"ok":1}"#, r#"{"a":"b"}"#, r#"{"ok":1}"#]).await;
    let expected: Vec<_> = (0..203)
        .map(|number| keyed("k", &number.to_string()))
        .collect();
    assert_eq!(messages(&topic, 203).await, expected);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_does_not_spoil_the_next_request() {
    let gateway = gateway();
    let topic = topic();
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let all = [
        request("/async/bad+topic", "k=1"),
        request("/nothing", "k=1"),
        request("/async/t", "k=%zz"),
        request(&format!("/sync/{topic}"), "k=1"),
    ];
    socket.write_all(all.concat().as_bytes()).await.unwrap();
    expect(
        &mut socket,
        &[
            r#"{"error":"invalid"}"#,
            "",
            r#"{"error":"invalid URL escape \"%zz\""}"#,
            r#"[{"ok":true}]"#,
        ],
    )
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_none() {
    let gateway = gateway();
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /async/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let all = format!("{head}3\r\na=1\r\nno number\r\n");
    socket.write_all(all.as_bytes()).await.unwrap();
    expect(&mut socket, &[r#"{"error":"no_body"}"#]).await;
    gateway.stop().await;
}
