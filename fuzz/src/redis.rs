//! The whole loop of the Redis front end: a connection says anything, without
//! a break, and hangs up.
//!
//! - Every reply is well-formed, and the last one complete.
//! - There is at most one reply per command, unless the client asks to be told
//!   things.
//! - The connection ends soon after its client has closed its half.
//! - The next client is served.

use crate::input::Input;
use crate::resp::write;
use crate::world::{PASSWORD, PATIENCE, TOPIC, world};
use barnabas_redis::fuzzing::decode;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// Replies nest no deeper.
const MOST_DEPTH: usize = 16;

/// The first byte chooses the listener and how often the bytes are cut, the
/// rest is what the client says.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    let said = input.rest();
    let is_guarded = choice & 1 == 1;
    let address = match is_guarded {
        true => world().guarded_redis,
        false => world().redis,
    };
    let pieces = match choice & 6 {
        0 => said.len(),
        2 => said.len().div_ceil(2),
        4 => said.len().div_ceil(7),
        _ => 1,
    };
    // One system call per piece.
    let pieces = pieces.max(said.len().div_ceil(64)).max(1);
    let heard = talk(address, said.chunks(pieces));
    let replies = count(&heard);
    let decoded = decode([said], true);
    let is_talkative = decoded.commands.iter().flatten().any(|word| {
        let word = word.to_ascii_lowercase();
        word == b"monitor" || word.ends_with(b"subscribe")
    });
    if !is_talkative {
        let most = decoded.commands.len() + usize::from(decoded.error.is_some()) + 1;
        assert!(
            replies <= most,
            "{replies} replies: {}",
            heard.escape_ascii()
        );
    }
    let after = talk(world().redis, [&b"*1\r\n$4\r\nPING\r\n"[..]]);
    assert_eq!(after, b"+PONG\r\n", "{}", after.escape_ascii());
}

/// Says all of it, closes this half, and hears the other side out.
fn talk<'a>(address: SocketAddr, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the front end accepts");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    for piece in pieces {
        // It may have ended already, for what was wrong.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => {}
        // Input that was not read any more.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset) => {}
        Err(error) => panic!("{error}: it does not end; said {}", heard.escape_ascii()),
    }
    heard
}

/// How many replies these are.
fn count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        bytes = value(bytes, 0).unwrap_or_else(|problem| {
            panic!("{problem} at the end of {}", bytes.escape_ascii());
        });
        count += 1;
    }
    count
}

/// What is behind one value, in either protocol.
fn value(bytes: &[u8], depth: usize) -> Result<&[u8], &'static str> {
    if depth > MOST_DEPTH {
        return Err("too deep");
    }
    let (kind, rest) = bytes.split_first().ok_or("nothing")?;
    let length = rest.iter().position(|byte| *byte == b'\r');
    let (line, rest) = rest.split_at(length.ok_or("no line end")?);
    let mut rest = rest.strip_prefix(b"\r\n").ok_or("no line end")?;
    let number = || -> Result<i64, &'static str> {
        let text = std::str::from_utf8(line).map_err(|_| "no text")?;
        text.parse().map_err(|_| "no number")
    };
    match kind {
        b'+' | b'-' => match line.contains(&b'\n') {
            true => Err("a line end in a line"),
            false => Ok(rest),
        },
        b':' => number().map(|_| rest),
        b'_' if line.is_empty() => Ok(rest),
        b'#' if matches!(line, b"t" | b"f") => Ok(rest),
        b',' | b'(' => Ok(rest),
        b'$' | b'=' | b'*' if number()? == -1 => Ok(rest),
        b'$' | b'=' => {
            let length = usize::try_from(number()?).map_err(|_| "a negative length")?;
            let (_, rest) = rest.split_at_checked(length).ok_or("a cut string")?;
            rest.strip_prefix(b"\r\n").ok_or("a string that goes on")
        }
        b'*' | b'~' | b'>' | b'%' => {
            let count = number()?.max(0) * if *kind == b'%' { 2 } else { 1 };
            for _ in 0..count {
                rest = value(rest, depth + 1)?;
            }
            Ok(rest)
        }
        _ => Err("an unknown kind"),
    }
}

/// Each command as clients say it.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let key = format!("topics:{TOPIC}");
    let lines = [
        format!("RPUSHX {key} one|RPUSHX {key}:key two|DUMP 500"),
        format!("BLPOP {key} 1|RPUSH acks {TOPIC}:0:0|QUIT"),
        format!("BLPOP {key}:{{\"auto.offset.reset\":\"earliest\"}} 1"),
        format!("XADD {key} * k v|XADD {key} NOMKSTREAM MAXLEN ~ 10 * k v f w"),
        format!("XREADGROUP GROUP g c COUNT 2 BLOCK 20 STREAMS {key} >"),
        format!("XGROUP CREATE {key} g $ MKSTREAM|XACK {key} g 1-0|XINFO GROUPS {key}"),
        format!("XGROUP SETID {key} g 0|XGROUP DELCONSUMER {key} g c|XGROUP DESTROY {key} g"),
        format!("XLEN {key}|LLEN {key}|TYPE {key}|TTL {key}|EXISTS {key} x"),
        "KEYS *|KEYS topics:|SCAN 0 MATCH topics:* COUNT 10|DBSIZE|GET x".to_owned(),
        "HGETALL stats|HGETALL stats:connection|DEL stats|CONFIG RESETSTAT".to_owned(),
        format!("AUTH {PASSWORD}|AUTH default {PASSWORD}|ACL WHOAMI|PING"),
        format!("HELLO 3 AUTH default {PASSWORD} SETNAME a:b|CLIENT GETNAME|CLIENT INFO"),
        "HELLO 2|CLIENT SETNAME g:c|CLIENT SETINFO LIB-NAME x|CLIENT LIST|CLIENT ID".to_owned(),
        "CLIENT LIST TYPE normal|CLIENT LIST ID 1 2|CLIENT KILL ID 99|CLIENT REPLY ON".to_owned(),
        "COMMAND|COMMAND COUNT|COMMAND DOCS ping|COMMAND GETKEYS XLEN x".to_owned(),
        "CONFIG GET *|CONFIG SET a b|INFO|INFO server|TIME|ROLE|LATENCY LATEST".to_owned(),
        format!("MULTI|PING|RPUSHX {key} x|EXEC|MULTI|DISCARD|WATCH a|UNWATCH"),
        "SUBSCRIBE a b|PSUBSCRIBE c*|PING|UNSUBSCRIBE|PUNSUBSCRIBE|RESET".to_owned(),
        "MONITOR|ECHO x|SELECT 3|MODULE LIST|SLOWLOG GET|CLUSTER INFO|READONLY|HELP".to_owned(),
    ];
    let mut seeds = Vec::new();
    for (number, line) in (0..).zip(&lines) {
        let mut said = vec![u8::from(line.contains(PASSWORD))];
        for command in line.split('|') {
            match number % 4 {
                // As people type them.
                3 => said.extend_from_slice(format!("{command}\r\n").as_bytes()),
                _ => {
                    let words = command.split(' ').map(|word| word.as_bytes().to_vec());
                    write(&words.collect::<Vec<_>>(), &mut said);
                }
            }
        }
        seeds.push(said);
    }
    seeds
}
