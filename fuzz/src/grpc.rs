//! Every gRPC method, with any frames and messages.
//!
//! - There is an answer with a status of gRPC's, and a text that can be read.
//! - The replies are whole frames.
//! - A deadline ends every request.

use crate::input::Input;
use crate::world::{PATIENCE, TOPIC, world};
use barnabas_grpc::{proto, v1};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::sync::Mutex;

const METHODS: [&str; 15] = [
    "/KafkaPixy/Produce",
    "/KafkaPixy/ConsumeNAck",
    "/KafkaPixy/Ack",
    "/KafkaPixy/GetOffsets",
    "/KafkaPixy/SetOffsets",
    "/KafkaPixy/ListTopics",
    "/KafkaPixy/ListConsumers",
    "/KafkaPixy/GetTopicMetadata",
    "/barnabas.v1.Gateway/Consume",
    "/barnabas.v1.Gateway/Produce",
    "/barnabas.v1.Gateway/Ack",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/KafkaPixy/None",
];

/// What stands before a message.
const PREFIX: usize = 5;
/// The highest of gRPC's status codes.
const MOST_STATUS: u32 = 16;

/// A byte chooses the method; with the next one the rest is framed message by
/// message, or the body as it is.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let method = METHODS[usize::from(input.byte()) % METHODS.len()];
    let body = match input.byte() % 2 {
        0 => {
            let mut body = Vec::new();
            while !input.is_empty() {
                let length = usize::from(input.short());
                frame(input.take(length), &mut body);
            }
            body
        }
        _ => input.rest().to_vec(),
    };
    let request = Request::post(format!("http://test{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "40m")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answered = async { tokio::time::timeout(PATIENCE, answer(request)).await };
    let answer = world().runtime.block_on(answered);
    let (status, message, mut frames) = answer.unwrap_or_else(|_| panic!("{method} hangs"));
    assert!(status <= MOST_STATUS, "{method}: {status}");
    assert!(message.is_ascii(), "{method}: {message}");
    while let Some((prefix, rest)) = frames.split_at_checked(PREFIX) {
        let (is_compressed, length) = prefix.split_at(1);
        assert_eq!(is_compressed, [0], "nobody asked for that");
        let length = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (_, rest) = rest.split_at_checked(length).expect("a whole frame");
        frames = Bytes::copy_from_slice(rest);
    }
    assert!(frames.is_empty(), "{method}: half a frame");
}

fn frame(message: &[u8], into: &mut Vec<u8>) {
    into.push(0);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(message);
}

/// The status, its text and the body.
async fn answer(request: Request<Full<Bytes>>) -> (u32, String, Bytes) {
    let mut requests = connected().await;
    let reply = requests.send_request(request).await.expect("an answer");
    let (head, body) = reply.into_parts();
    assert!(head.status.is_success(), "{}", head.status);
    let body = body.collect().await.expect("a whole body");
    let trailers = body.trailers().cloned().unwrap_or(head.headers);
    let text = |name| {
        let value = trailers
            .get(name)
            .map_or(b"".as_slice(), |value| value.as_bytes());
        String::from_utf8_lossy(value).into_owned()
    };
    let status = text("grpc-status").parse().expect("a status");
    (status, text("grpc-message"), body.to_bytes())
}

/// One connection for many requests, as clients have it.
async fn connected() -> SendRequest<Full<Bytes>> {
    static CONNECTION: Mutex<Option<SendRequest<Full<Bytes>>>> = Mutex::new(None);
    let kept = CONNECTION.lock().expect("no panic so far").clone();
    if let Some(kept) = kept.filter(|kept| !kept.is_closed()) {
        return kept;
    }
    let socket = tokio::net::TcpStream::connect(world().grpc).await;
    let socket = TokioIo::new(socket.expect("the front end accepts"));
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await;
    let (requests, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    *CONNECTION.lock().expect("no panic so far") = Some(requests.clone());
    requests
}

/// A request of each method, and what is none.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let topic = || TOPIC.to_owned();
    let group = || "g".to_owned();
    let produce = proto::ProdRq {
        topic: topic(),
        key_value: Bytes::from_static(b"k"),
        message: Bytes::from_static(b"v"),
        headers: vec![proto::RecordHeader {
            key: "a".to_owned(),
            value: Bytes::from_static(b"b"),
        }],
        ..Default::default()
    };
    let consume = proto::ConsNAckRq {
        topic: topic(),
        group: group(),
        ack_offset: 1,
        ..Default::default()
    };
    let ack = proto::AckRq {
        topic: topic(),
        group: group(),
        offset: 1,
        ..Default::default()
    };
    let position = v1::Position {
        partition: 1,
        offset: 1,
    };
    let starts = v1::consume_request::Frame::Start(v1::ConsumeStart {
        group: group(),
        topic: topic(),
        window: 9,
        ..Default::default()
    });
    let acks = v1::consume_request::Frame::Acks(v1::ConsumeAcks {
        positions: vec![position],
    });
    let consuming = [starts, acks].map(|frame| {
        let request = v1::ConsumeRequest { frame: Some(frame) };
        request.encode_to_vec()
    });
    let records = |number| v1::ProduceRequest {
        records: vec![v1::Record {
            number,
            topic: topic(),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            timestamp: Some(1),
            ..Default::default()
        }],
        ..Default::default()
    };
    let acking = v1::AckRequest {
        group: group(),
        topic: topic(),
        positions: vec![position],
        ..Default::default()
    };
    let mut seeds = Vec::new();
    for (number, messages) in [
        (0, vec![produce.encode_to_vec()]),
        (1, vec![consume.encode_to_vec()]),
        (2, vec![ack.encode_to_vec()]),
        (8, consuming.to_vec()),
        (
            9,
            vec![records(1).encode_to_vec(), records(2).encode_to_vec()],
        ),
        (10, vec![acking.encode_to_vec()]),
    ] {
        let mut seed = vec![number, 0];
        for message in messages {
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
            seed.extend_from_slice(&length.to_le_bytes());
            seed.extend_from_slice(&message);
        }
        seeds.push(seed);
    }
    // Topic and group are the second and third field of most others.
    for number in 0..u8::try_from(METHODS.len()).unwrap_or(0) {
        seeds.push([&[number, 0, 6, 0], &b"\x12\x01t\x1a\x01g"[..]].concat());
        seeds.push([&[number, 1], &b"\x00\x00\x00\x00\x07\x12"[..]].concat());
    }
    seeds
}
