//! The decoder of Redis requests.
//!
//! - However the bytes are cut into pieces, the commands and the error are the
//!   same.
//! - A command that is written again as an array of bulk strings is read as the
//!   same command.
//! - Nothing exceeds the limits; without a login, those before a login.

use crate::input::Input;
use barnabas_redis::fuzzing::{Decoded, decode};

/// The input is two places to cut, and the bytes.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (first, second) = (input.short(), input.short());
    let bytes = input.rest();
    for is_logged_in in [true, false] {
        let whole = decode([bytes], is_logged_in);
        let (left, rest) = bytes.split_at(usize::from(first).min(bytes.len()));
        let (middle, right) = rest.split_at(usize::from(second).min(rest.len()));
        let pieces = decode([left, middle, right], is_logged_in);
        assert_eq!(pieces, whole, "cut at {first} and {second} beyond");
        // Byte by byte looks at everything each time.
        if bytes.len() <= 256 {
            assert_eq!(decode(bytes.chunks(1), is_logged_in), whole, "byte by byte");
        }
        check(&whole, is_logged_in);
    }
}

fn check(decoded: &Decoded, is_logged_in: bool) {
    let (most_arguments, most_bytes) = match is_logged_in {
        true => (1_024, 67_108_864),
        false => (10, 16_384),
    };
    let mut written = Vec::new();
    for command in &decoded.commands {
        assert!((1..=most_arguments).contains(&command.len()));
        assert!(command.iter().map(Vec::len).sum::<usize>() <= most_bytes);
        write(command, &mut written);
    }
    let again = decode([&*written], is_logged_in);
    assert_eq!(again.commands, decoded.commands);
    assert_eq!(again.error, None);
    if let Some(error) = &decoded.error {
        assert!(!error.contains(['\r', '\n']), "{error:?}");
    }
}

/// As clients write commands.
pub(crate) fn write(command: &[Vec<u8>], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for argument in command {
        into.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        into.extend_from_slice(argument);
        into.extend_from_slice(b"\r\n");
    }
}

/// Arrays, inline commands, both, and what is refused.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "*1\r\n$4\r\nPING\r\n",
        "*3\r\n$6\r\nRPUSHX\r\n$8\r\ntopics:t\r\n$3\r\na\r\n\r\n",
        "PING\r\nset 'a\\'b' \"\\x41\\n\\q\" c\n\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\n",
        "*2\r\n$-1\r\n",
        "*1025\r\n",
        "*2\r\n$99999999999\r\n",
        "POST / HTTP/1.1\r\n",
        "x \"y\"z\r\n",
    ]
    .iter()
    .map(|text| [&[5, 0, 3, 0], text.as_bytes()].concat())
    .collect()
}
