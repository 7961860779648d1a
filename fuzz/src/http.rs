//! Every route of every HTTP front end, with any query, headers and body.
//!
//! - There is an answer, soon, and it is well-formed: hyper's client reads it.
//! - What says that it is JSON is JSON; an error of the native API is a problem
//!   with its own status.
//! - Neither the native API nor the metrics port says that it has failed itself
//!   (500). The old programs' word for many a wrong request is that, and so it
//!   is here.

use crate::input::Input;
use crate::world::{PATIENCE, TOPIC, World, world};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;

/// A front end, and how its routes begin. An empty one leaves the path to the
/// input.
struct Api {
    address: fn(&World) -> SocketAddr,
    routes: &'static [&'static str],
}

const APIS: [Api; 4] = [
    Api {
        address: |world| world.gateway,
        routes: &[
            "",
            "/_ping",
            "/topics",
            "/topics/{topic}",
            "/topics/{topic}/messages",
            "/topics/{topic}/batches",
            "/topics/{topic}/acks",
            "/topics/{topic}/offsets",
            "/topics/{topic}/consumers",
            "/clusters/main/topics/{topic}/messages",
            "/v1/openapi.json",
            "/v1/clusters",
            "/v1/clusters/main",
            "/v1/topics",
            "/v1/topics/{topic}",
            "/v1/topics/{topic}/records",
            "/v1/groups",
            "/v1/groups/g",
            "/v1/groups/g/topics/{topic}/records",
            "/v1/groups/g/topics/{topic}/acks",
            "/v1/groups/g/topics/{topic}/offsets",
            "/v1/clusters/main/topics/{topic}/records",
        ],
    },
    Api {
        address: |world| world.kprf,
        routes: &["", "/push"],
    },
    Api {
        address: |world| world.kafboy,
        routes: &[
            "",
            "/async/{topic}",
            "/sync/{topic}",
            "/batch/async/{topic}",
            "/batch/sync/{topic}",
            "/safe/sync/{topic}",
            "/safe/batch/async/{topic}",
            "/disco",
            "/echo_post",
        ],
    },
    Api {
        address: |world| world.metrics,
        routes: &["", "/metrics", "/stats", "/health/live", "/health/ready"],
    },
];

const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::DELETE,
    Method::PUT,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
];

/// Three bytes choose the API, the method and the route; a line continues the
/// path; lines up to an empty one are headers; the rest is the body.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let api = &APIS[usize::from(input.byte()) % APIS.len()];
    let method = METHODS[usize::from(input.byte()) % METHODS.len()].clone();
    let route = api.routes[usize::from(input.byte()) % api.routes.len()];
    let path = format!(
        "{}{}",
        route.replace("{topic}", TOPIC),
        String::from_utf8_lossy(input.line())
    );
    let mut request = Request::builder()
        .method(method.clone())
        .uri(&path)
        .header("host", "test");
    loop {
        let line = input.line();
        if line.is_empty() {
            break;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().trim_ascii();
        // What says how the body is sent is the client's.
        let is_framing = [&b"content-length"[..], b"transfer-encoding", b"connection"]
            .iter()
            .chain(&[&b"upgrade"[..], b"expect", b"te", b"host"])
            .any(|framing| name.eq_ignore_ascii_case(framing));
        if !is_framing {
            request = request.header(name, value);
        }
    }
    let body = Bytes::copy_from_slice(input.rest());
    // What is no request cannot be sent.
    let Ok(request) = request.body(Full::new(body)) else {
        return;
    };
    if !path.starts_with('/') {
        return;
    }
    let address = (api.address)(world());
    let answered = async { tokio::time::timeout(PATIENCE, answer(address, request)).await };
    let answer = world().runtime.block_on(answered);
    let (status, kind, body) = answer.unwrap_or_else(|_| panic!("{method} {path} hangs"));
    let is_ours = path.starts_with("/v1/") || std::ptr::eq(api, &APIS[3]);
    if status == StatusCode::INTERNAL_SERVER_ERROR && is_ours {
        panic!("{method} {path}: {status} {}", body.escape_ascii());
    }
    if kind.contains("json") && !kind.contains("ndjson") && method != Method::HEAD {
        let said: Value = serde_json::from_slice(&body).unwrap_or_else(|error| {
            panic!("{method} {path}: {error}: {}", body.escape_ascii());
        });
        if kind.contains("problem") {
            assert_eq!(said["status"], status.as_u16(), "{said}");
        }
    }
}

/// The status, the content type and the body.
async fn answer(address: SocketAddr, request: Request<Full<Bytes>>) -> (StatusCode, String, Bytes) {
    let socket = tokio::net::TcpStream::connect(address).await;
    let socket = TokioIo::new(socket.expect("the front end accepts"));
    let connected = hyper::client::conn::http1::handshake(socket).await;
    let (mut sender, connection) = connected.expect("a connection");
    let connection = tokio::spawn(connection);
    let reply = sender.send_request(request).await.expect("an answer");
    let status = reply.status();
    let kind = reply.headers().get("content-type");
    let kind = String::from_utf8_lossy(kind.map_or(b"", |kind| kind.as_bytes())).into_owned();
    let body = reply.into_body().collect().await.expect("a whole body");
    drop(sender);
    let _ = connection.await;
    (status, kind, body.to_bytes())
}

/// A request of each kind that the routes know.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |api: u8, method: Method, route: &str, rest: &[u8]| {
        let routes = APIS[usize::from(api)].routes;
        let route = routes.iter().position(|own| *own == route).unwrap_or(0);
        let method = METHODS.iter().position(|own| *own == method).unwrap_or(0);
        let mut seed = vec![api, method as u8, route as u8];
        seed.extend_from_slice(rest);
        seeds.push(seed);
    };
    let (get, post) = (Method::GET, Method::POST);
    for (number, api) in (0..).zip(&APIS) {
        for route in api.routes {
            add(number, get.clone(), route, b"?group=g&pretty=1\n\n");
        }
    }
    let messages = "/topics/{topic}/messages";
    add(
        0,
        post.clone(),
        messages,
        b"?key=k&sync\ncontent-type: text/plain\n\nvalue",
    );
    add(
        0,
        post.clone(),
        messages,
        b"?\ncontent-type: application/x-www-form-urlencoded\n\nmsg=a%20b&key=%ff",
    );
    add(
        0,
        post.clone(),
        messages,
        b"?sync\nX-Kafka-a: YWJj\n\nvalue",
    );
    add(
        0,
        get.clone(),
        messages,
        b"?group=g&ackPartition=0&ackOffset=0\n\n",
    );
    add(0, get.clone(), messages, b"?group=g&noAck\n\n");
    add(
        0,
        post.clone(),
        "/topics/{topic}/batches",
        b"\ncontent-type: application/json\n\n[{\"key\":\"k\",\"value\":{\"a\":1}},{\"value\":null}]",
    );
    add(
        0,
        post.clone(),
        "/topics/{topic}/acks",
        b"?group=g&partition=0&offset=0\n\n",
    );
    add(
        0,
        post.clone(),
        "/topics/{topic}/offsets",
        b"?group=g\n\n[{\"partition\":0,\"offset\":1,\"metadata\":\"\"}]",
    );
    let records = "/v1/topics/{topic}/records";
    for body in [
        &b"\ncontent-type: application/json\n\n[{\"key\":\"k\",\"key_encoding\":\"base64\",\"value\":{\"a\":1},\"value_encoding\":\"json\",\"headers\":[{\"name\":\"a\",\"value\":\"b\"}],\"partition\":0,\"timestamp\":7}]"[..],
        b"?durability=memory\ncontent-type: application/x-ndjson\n\n{\"value\":\"a\"}\n{\"value\":\"Yg==\",\"value_encoding\":\"base64\"}\n",
        b"?key=k\ncontent-type: application/octet-stream\nkafka-header: a=b\nkafka-timestamp: 7\nidempotency-key: \"a\"\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\nvalue",
        b"\ncontent-type: text/plain\ncontent-encoding: gzip\n\n\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0\x43\xbe\xb7\xe8\x01\0\0\0",
        b"\ncontent-type: text/plain\ncontent-encoding: deflate, zstd\n\n(\xb5/\xfd\x04\0\x09\0\0a\xb8\xa5\xd1\x0c",
    ] {
        add(0, post.clone(), records, body);
    }
    let group = "/v1/groups/g/topics/{topic}/records";
    add(
        0,
        get.clone(),
        group,
        b"?max=3&wait=10ms&max_bytes=9&values=text&ack=explicit\naccept: application/x-ndjson\n\n",
    );
    add(
        0,
        post.clone(),
        "/v1/groups/g/topics/{topic}/acks",
        b"\ncontent-type: application/json\n\n[{\"partition\":0,\"offset\":0}]",
    );
    add(
        0,
        Method::PUT,
        "/v1/groups/g/topics/{topic}/offsets",
        b"\ncontent-type: application/json\n\n{\"offsets\":[{\"partition\":0,\"offset\":0,\"metadata\":\"\"},{\"partition\":1,\"to\":\"latest\"}],\"timestamp\":1}",
    );
    add(
        0,
        post.clone(),
        "/v1/topics",
        b"\ncontent-type: application/json\n\n{\"name\":\"n\",\"partitions\":2,\"replication\":1}",
    );
    for body in [
        &b"\ncontent-type: application/json\n\n{\"records\":[{\"topic\":\"t\",\"data\":\"x\",\"key\":\"k\",\"partition\":0}],\"wait_for_send\":true}"[..],
        b"\ncontent-type: application/json\n\n{\"records\":[{\"topic\":\"t\",\"data\":\"a\\n\\u0041\"},{\"topic\":\"u\",\"data\":\"b\"}]}",
        b"\ncontent-type: application/json\ncontent-encoding: br\n\n{",
    ] {
        add(1, post.clone(), "/push", body);
    }
    for route in APIS[2].routes {
        add(
            2,
            post.clone(),
            route,
            b"?key=k\ncontent-type: application/json\n\n{\"a\":1}",
        );
        add(
            2,
            post.clone(),
            route,
            b"\ncontent-type: application/x-www-form-urlencoded\n\nmessage=a&key=b&c=%7B%7D",
        );
        add(
            2,
            post.clone(),
            route,
            b"\ncontent-type: application/json\n\n[\"a\",{\"b\":[null]}]",
        );
    }
    seeds
}
