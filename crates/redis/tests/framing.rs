//! Section 1: what is a frame, what is not, and who notices.

use crate::support::{Client, encode, shared};
use std::net::Shutdown;

/// Sends bytes; another connection works before, during and after.
#[track_caller]
fn beside_another(input: &[u8], and_then: impl FnOnce(&mut Client)) {
    let mut other = shared().connect();
    other.ask("PING", "+PONG\r\n");
    let mut client = shared().connect();
    client.send(input);
    other.ask("PING", "+PONG\r\n");
    and_then(&mut client);
    other.ask("PING", "+PONG\r\n");
}

#[test]
fn broken_frames_are_answered_and_end_the_connection() {
    let too_long = vec![b'a'; 65_537];
    let cases: [(&[u8], &str); 18] = [
        (b"*x\r\n", "invalid multibulk length (Expect Number)"),
        (b"*\r\n", "invalid multibulk length (Expect Number)"),
        (b"*-2\r\n", "invalid multibulk length (TooManyArg)"),
        (b"*1025\r\n", "invalid multibulk length (TooManyArg)"),
        (b"*2147483648\r\n", "invalid multibulk length (TooManyArg)"),
        (
            b"*99999999999999999999\r\n",
            "invalid multibulk length (TooManyArg)",
        ),
        (b"*1\r\n+4\r\n", "expected '$', got '+' (Expect TypeChar)"),
        (b"*1\r\n*1\r\n", "expected '$', got '*' (Expect TypeChar)"),
        (b"*1\r\n\x00", "expected '$', got '\\x00' (Expect TypeChar)"),
        (b"*1\nPING", "expected CRLF (Expect Newline)"),
        (b"*1\r\n$4\nPING", "expected CRLF (Expect Newline)"),
        (b"*1\r\n$4\r\nPINGxx", "expected CRLF (Expect Newline)"),
        (b"*1\r\n$x\r\n", "invalid bulk length (Invalid bulk size)"),
        (b"*1\r\n$-1\r\n", "invalid bulk length (Invalid bulk size)"),
        (
            b"*1\r\n$32768001\r\n",
            "invalid bulk length (Invalid bulk size)",
        ),
        (&too_long, "too big inline request (LineTooLong)"),
        (b"ping \"a\r\n", "unbalanced quotes in request"),
        (b"ping 'a'b\r\n", "unbalanced quotes in request"),
    ];
    for (input, text) in cases {
        beside_another(input, |client| {
            client.expect(&format!("-ERR Protocol error: {text}\r\n"));
            client.expect_end();
        });
    }
}

#[test]
fn empty_frames_are_skipped() {
    for input in ["*0\r\n", "*-1\r\n", "\r\n", "\n", "   \r\n", "*-1\r\n\r\n"] {
        beside_another(input.as_bytes(), |client| {
            client.send("PING\r\n");
            client.expect("+PONG\r\n");
            client.ask("PING", "+PONG\r\n");
        });
    }
}

#[test]
fn other_protocols_get_no_answer() {
    for input in ["POST / HTTP/1.1\r\n", "Host: localhost\r\n", "host:\r\n"] {
        beside_another(input.as_bytes(), Client::expect_end);
    }
}

#[test]
fn the_end_of_input_gets_no_answer() {
    for input in ["", "*1\r\n$4\r\nPI", "PIN"] {
        beside_another(input.as_bytes(), |client| {
            client.stream.shutdown(Shutdown::Write).unwrap();
            client.expect_end();
        });
    }
}

#[test]
fn what_is_complete_is_answered_before_the_rest_comes() {
    let mut client = shared().connect();
    client.send("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhe");
    client.expect("+PONG\r\n");
    client.send("llo\r\n");
    client.expect("$5\r\nhello\r\n");
}

#[test]
fn pipelines_are_answered_in_order() {
    let mut client = shared().connect();
    let mut input = Vec::new();
    let mut expected = String::new();
    for number in 0..1_000 {
        input.extend(encode(&["ECHO", &format!("{number:05}")]));
        expected.push_str(&format!("$5\r\n{number:05}\r\n"));
    }
    client.send(&input);
    client.expect(&expected);
}

#[test]
fn inline_commands_are_split_as_redis_does() {
    let mut client = shared().connect();
    client
        .send("ping\nPiNg\r\necho \"a\\r\\n\\x41\\\"b\"\r\necho 'it\\'s \\n'\r\n  echo   x  \r\n");
    client.expect("+PONG\r\n+PONG\r\n$6\r\na\r\nA\"b\r\n$7\r\nit's \\n\r\n$1\r\nx\r\n");
    // Inline commands and arrays mix.
    client.send("ping\r\n*1\r\n$4\r\nPING\r\nping\r\n");
    client.expect("+PONG\r\n+PONG\r\n+PONG\r\n");
}

#[test]
fn the_largest_frames_are_taken() {
    let mut client = shared().connect();
    // One bulk of the largest size.
    let largest = "x".repeat(32_768_000);
    client.ask_words(&["ECHO", &largest], &format!("$32768000\r\n{largest}\r\n"));
    // As many arguments as there may be.
    let words = vec!["PING"; 1_024];
    client.ask_words(
        &words,
        "-ERR wrong number of arguments for 'ping' command\r\n",
    );
    // The longest inline line.
    let word = "x".repeat(65_536 - 5);
    client.send(format!("echo {word}\r\n"));
    client.expect(&format!("${}\r\n{word}\r\n", word.len()));
}

#[test]
fn all_bulks_of_a_command_together_are_limited() {
    beside_another(b"*4\r\n$4\r\nECHO\r\n", |client| {
        let largest = vec![b'x'; 32_768_000];
        for _ in 0..2 {
            client.send("$32768000\r\n");
            client.send(&largest);
            client.send("\r\n");
        }
        client.send("$1572861\r\n");
        client.expect("-ERR Protocol error: invalid bulk length (Invalid bulk size)\r\n");
        client.expect_end();
    });
}
