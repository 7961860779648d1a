//! Routes, methods, sockets: sections 1 and 2 of the contract.

use crate::support::{Changes, PATIENCE, answer, gateway, new_topic, start};
use barnabas_http::{Listener, Options, Server};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn routes_answer_as_the_old_system() {
    let gateway = gateway();
    let ping = gateway.get("/_ping").await;
    assert_eq!((ping.status, ping.body.as_str()), (200, "pong"));
    for path in [
        "/",
        "/topics/t/messages/",
        "/clusters/main/_ping",
        "/nowhere",
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body, "404 page not found\n");
    }
    for (method, path) in [
        ("HEAD", "/topics/t/messages"),
        ("PUT", "/topics/t/messages"),
        ("GET", "/topics/t/acks"),
        ("POST", "/_ping"),
    ] {
        let method = method.parse().unwrap();
        let request = gateway.client.request(method, gateway.url(path));
        let answer = answer(request).await;
        assert_eq!((answer.status, answer.body.as_str()), (405, ""), "{path}");
    }
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let moved = client.get(gateway.url("/topics//t/messages?group=g"));
    let moved = moved.send().await.unwrap();
    assert_eq!(moved.status(), 301);
    assert_eq!(moved.headers()["location"], "/topics/t/messages?group=g");
    gateway.proxies.refuse_work();
    let text = "service is shutting down";
    let path = "/topics/t/messages?group=g";
    gateway.get(path).await.is_error(503, text);
    assert_eq!(gateway.get("/_ping").await.body, "pong");
    gateway.server.stop().await;
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_works_on_both_kinds_of_sockets() {
    let folder = std::env::temp_dir().join(format!("barnabas-http-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("socket");
    let gateway = start(Changes::default(), Some(&socket));
    let topic = new_topic("curl", 1);
    let url = gateway.url(&format!("/topics/{topic}/messages?sync"));
    let path = socket.to_str().unwrap().to_owned();
    let answers = tokio::task::spawn_blocking(move || {
        let text = "Content-Type: text/plain";
        [
            curl(&["-X", "POST", "-H", text, "-d", "a", &url]),
            curl(&["-X", "POST", "-d", "msg=b", &url]),
            curl(&["--unix-socket", &path, "-d", "msg=c", &url]),
            curl(&[
                "-H",
                "Transfer-Encoding: chunked",
                "-H",
                text,
                "-d",
                "d",
                &url,
            ]),
            // No length and no body.
            curl(&["-X", "POST", "-H", text, "-H", "Content-Length:", &url]),
        ]
    });
    let answers = answers.await.unwrap();
    for (offset, answer) in answers.iter().take(4).enumerate() {
        let expected = format!("{{\n  \"partition\": 0,\n  \"offset\": {offset}\n}}");
        assert_eq!(*answer, expected);
    }
    assert_eq!(
        answers[4],
        "{\n  \"error\": \"missing Content-Length header\"\n}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_dies_is_noticed() {
    let proxies = Arc::clone(&gateway().proxies);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let same = listener.try_clone().unwrap();
    let listeners = vec![Listener::Tcp(listener)];
    let mut server = Server::start(listeners, proxies, Options::default()).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), server.failed());
    early.await.unwrap_err();
    // As if somebody closed it under the process.
    socket2::SockRef::from(&same)
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    let noticed = tokio::time::timeout(PATIENCE, server.failed());
    noticed.await.unwrap();
    server.stop().await;
}
