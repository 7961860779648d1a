//! What connections may do: TLS, HTTP/2, their number and their time, and
//! the ids of requests.

use crate::support::{Changes, PATIENCE, gateway, new_topic, start};
use barnabas_http::Options;
use barnabas_testkit::shared;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// An authority's certificate, and a configuration with one that it signed
/// for `localhost`.
fn certified() -> (String, Arc<rustls::ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for its own issuer if both names are one.
    let name = rcgen::DnType::CommonName;
    params.distinguished_name.push(name, "authority");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    (authority, Arc::new(config))
}

fn with(options: Options) -> Changes {
    Changes {
        options,
        ..Changes::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_on_tcp_and_never_on_unix_sockets() {
    let (authority, config) = certified();
    let folder = tempfile::tempdir().unwrap();
    let (socket, root) = (folder.path().join("socket"), folder.path().join("root.pem"));
    std::fs::write(&root, &authority).unwrap();
    let options = Options {
        tls: Some(config),
        ..Options::default()
    };
    let gateway = start(with(options), Some(&socket));
    let port = gateway.address.port();
    // Somebody who never says hello holds up nobody.
    let silent = TcpStream::connect(gateway.address).await.unwrap();
    let topic = new_topic("tls", 1);
    let path = format!("localhost:{port}/topics/{topic}/messages?sync");
    let certificate = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
    for (is_old, version) in [
        (false, reqwest::Version::HTTP_2),
        (true, reqwest::Version::HTTP_11),
    ] {
        let builder = reqwest::Client::builder()
            .tls_built_in_root_certs(false)
            .add_root_certificate(certificate.clone())
            .resolve("localhost", gateway.address);
        let builder = if is_old {
            builder.http1_only()
        } else {
            builder
        };
        let client = builder.build().unwrap();
        let request = client.post(format!("https://{path}")).body("x");
        let reply = request
            .header("content-type", "text/plain")
            .send()
            .await
            .unwrap();
        assert_eq!((reply.status().as_u16(), reply.version()), (200, version));
        assert!(reply.headers().contains_key("x-request-id"));
    }
    let curl = async |arguments: Vec<String>| {
        let output = tokio::task::spawn_blocking(move || {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--max-time", "20"]);
            curl.args(arguments).output().unwrap()
        });
        output.await.unwrap()
    };
    let own = |parts: &[&str]| parts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let url = format!("https://localhost:{port}/_ping");
    let pinned = curl(own(&["--cacert", root.to_str().unwrap(), &url])).await;
    assert_eq!(pinned.stdout, b"pong", "{pinned:?}");
    let unix = own(&[
        "--unix-socket",
        socket.to_str().unwrap(),
        "http://localhost/_ping",
    ]);
    assert_eq!(curl(unix).await.stdout, b"pong");
    let plain = curl(own(&[&format!("http://localhost:{port}/_ping")])).await;
    assert!(!plain.status.success(), "{plain:?}");
    drop(silent);
    gateway.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_needs_no_tls() {
    let gateway = gateway();
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let topic = new_topic("h2c", 1);
    let url = gateway.url(&format!("/topics/{topic}/messages?sync"));
    // Neither a length nor chunks.
    let body = reqwest::Body::from("x");
    let request = client
        .post(url)
        .header("content-type", "text/plain")
        .body(body);
    let reply = request.send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), reply.version()),
        (200, reqwest::Version::HTTP_2)
    );
    let group = barnabas_testkit::topic_name("h2c");
    let path = format!("/v1/groups/{group}/topics/{topic}/records?wait=20000");
    let reply = client.post(gateway.url(&path)).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.bytes().await.unwrap(), "x");
    crate::support::is_committed(&group, &topic, 1, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_has_an_id() {
    let gateway = gateway();
    let mut seen = Vec::new();
    for path in [
        "/_ping",
        "/nowhere",
        "/topics/t/acks",
        "/v1/nowhere",
        "/topics//t",
    ] {
        for sent in ["", "trace-7", "with blank", &"x".repeat(200)] {
            let ask = gateway.ask("GET", path);
            let ask = if sent.is_empty() {
                ask
            } else {
                ask.header("x-request-id", sent)
            };
            let reply = ask.send().await;
            let id = reply.all("x-request-id").concat();
            match sent {
                "trace-7" => assert_eq!(id, sent, "{path}"),
                _ => {
                    assert!(id.len() > 10 && !seen.contains(&id), "{path}: {id}");
                    seen.push(id);
                }
            }
        }
    }
}

/// Whether the server closes a connection.
async fn is_closed(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    end.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_a_free_place_is_used() {
    let gateway = start(
        with(Options {
            max_connections: 2,
            ..Options::default()
        }),
        None,
    );
    let ping = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(ping).await.unwrap();
        let mut status = [0; 15];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
        clients.push(client);
    }
    let mut third = TcpStream::connect(gateway.address).await.unwrap();
    assert!(is_closed(&mut third).await);
    clients.pop();
    // The server has to notice.
    let served = async {
        while gateway
            .client
            .get(gateway.url("/_ping"))
            .send()
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_do_not_come_end_their_connection() {
    let gateway = start(
        with(Options {
            client_timeout: Duration::from_millis(300),
            ..Options::default()
        }),
        None,
    );
    // Nothing; the beginning of both versions; half a head; idle after a
    // request.
    let whole = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
    for sent in ["", "P", "GET /_ping HTTP/1.1\r\nHo", whole] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        assert!(is_closed(&mut client).await, "{sent:?}");
    }
    // A request that waits for messages is not cut off.
    let topic = new_topic("heads", 1);
    let path = format!("/v1/groups/heads-{topic}/topics/{topic}/records?wait=1500");
    assert_eq!(gateway.ask("POST", &path).send().await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_reply_slowly_gets_all_of_it() {
    let topic = new_topic("slowly", 1);
    let value = vec![b'x'; 900_000];
    let kafka = shared();
    kafka.produce(&topic, None, None, Some(&value)).unwrap();
    let limit = Duration::from_secs(1);
    let gateway = start(
        Changes {
            send_buffer: Some(8_192),
            ..with(Options {
                client_timeout: limit,
                ..Options::default()
            })
        },
        None,
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let mut client = socket.connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/groups/slow-{topic}/topics/{topic}/records?wait=10000 HTTP/1.1\r\n\
         Host: x\r\nAccept: application/octet-stream\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut reply, begun) = (Vec::new(), Instant::now());
    while client.read_buf(&mut reply).await.unwrap() > 0 {
        let is_slow = begun.elapsed() < 2 * limit;
        if is_slow {
            tokio::time::sleep(limit / 20).await;
        }
    }
    assert!(begun.elapsed() > 2 * limit, "read too fast to tell");
    assert!(reply.ends_with(&value), "{} bytes", reply.len());
}

/// Half a body that does not go on takes its room all the same.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_one_bound() {
    let topic = new_topic("bodies", 1);
    let gateway = start(
        with(Options {
            max_bodies_bytes: 100_000,
            ..Options::default()
        }),
        None,
    );
    let (native, old) = (
        format!("/v1/topics/{topic}/records"),
        format!("/topics/{topic}/messages?sync"),
    );
    let started = async |kind: &str| {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!(
            "POST {native} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n\
             Content-Length: 90000\r\nConnection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&[b'x'; 80_000]).await.unwrap();
        client
    };
    // A value, and a line that has not ended.
    for kind in ["text/plain", "application/x-ndjson"] {
        let post = |path: &str| {
            gateway
                .client
                .post(gateway.url(path))
                .body("y".repeat(50_000))
        };
        // The server may not have read all of the first one when the second
        // comes; that one is in time then.
        let is_refused = async {
            loop {
                let first = started(kind).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                let reply = post(&native).send().await.unwrap();
                if reply.status() != 200 {
                    break (first, reply);
                }
            }
        };
        let (mut first, refused) = tokio::time::timeout(PATIENCE, is_refused).await.unwrap();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "1");
        let problem: serde_json::Value =
            serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["code"], "overloaded");
        let refused = post(&old).header("content-type", "text/plain").send();
        let refused = refused.await.unwrap();
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(
            refused.text().await.unwrap(),
            "{\n  \"error\": \"the bodies of other requests take all the room\"\n}"
        );
        first.write_all(&[b'x'; 10_000]).await.unwrap();
        let mut reply = Vec::new();
        first.read_to_end(&mut reply).await.unwrap();
        assert!(reply.starts_with(b"HTTP/1.1 200 OK"));
        let reply = post(&native).send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }
}
