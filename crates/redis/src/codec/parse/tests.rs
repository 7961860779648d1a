use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits::FULL;

fn parse_all(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ParseError> {
    let mut parser = Parser::default();
    let mut commands = Vec::new();
    let mut start = 0;
    while let Frame::Command { end } = parser.next(input, start, LIMITS)? {
        commands.push(arguments(&parser, input));
        start = end;
    }
    Ok(commands)
}

fn arguments(parser: &Parser, buffer: &[u8]) -> Vec<Vec<u8>> {
    (0..parser.count())
        .map(|index| parser.argument(buffer, index).unwrap().to_vec())
        .collect()
}

fn texts(input: &[u8]) -> Vec<Vec<String>> {
    parse_all(input)
        .unwrap()
        .into_iter()
        .map(|command| {
            command
                .into_iter()
                .map(|argument| String::from_utf8_lossy(&argument).into_owned())
                .collect()
        })
        .collect()
}

#[test]
fn nothing_is_kept_of_empty_lines() {
    let mut parser = Parser::default();
    for (input, kept) in [
        (&b"\r\n\n*0\r\n"[..], &b""[..]),
        (b"\r\n\r\nPI", b"PI"),
        (b"*0\r\n*-1\r\n*1\r\n$4\r\nPI", b"*1\r\n$4\r\nPI"),
    ] {
        assert_eq!(parser.next(input, 0, LIMITS), Ok(Frame::Incomplete));
        assert_eq!(input.get(parser.start()..), Some(kept));
    }
    // It goes on where it stopped once the rest is at the front.
    parser.rebase(9);
    let rest = b"*1\r\n$4\r\nPING\r\n";
    let end = rest.len();
    assert_eq!(parser.next(rest, 0, LIMITS), Ok(Frame::Command { end }));
    assert_eq!(arguments(&parser, rest), [b"PING"]);
}

#[test]
fn how_long_the_buffer_will_be_is_known_from_an_arguments_header() {
    let mut parser = Parser::default();
    let input = b"PING\r\n*3\r\n$4\r\nECHO\r\n$1000\r\nxx";
    assert_eq!(parser.next(input, 0, LIMITS), Ok(Frame::Command { end: 6 }));
    assert_eq!(parser.wanted(), 0);
    assert_eq!(parser.next(input, 6, LIMITS), Ok(Frame::Incomplete));
    // With the line's end behind the argument.
    assert_eq!(parser.wanted(), input.len() - 2 + 1_000 + 2);
    parser.rebase(6);
    assert_eq!(parser.wanted(), input.len() - 6 + 1_000);
    // The next argument has none yet.
    let mut whole = input[6..].to_vec();
    whole.resize(whole.len() + 998, b'x');
    whole.extend(b"\r\n$7");
    assert_eq!(parser.next(&whole, 0, LIMITS), Ok(Frame::Incomplete));
    assert_eq!(parser.wanted(), 0);
}

#[test]
fn arrays_and_inline_commands_mix() {
    assert_eq!(
        texts(b"*1\r\n$4\r\nPING\r\nPING\r\n  ping  hello\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"),
        vec![
            vec!["PING"],
            vec!["PING"],
            vec!["ping", "hello"],
            vec!["ECHO", ""],
        ]
    );
}

#[test]
fn nothing_is_skipped_silently_except_nothing() {
    assert_eq!(texts(b"\r\n*0\r\n\n*-1\r\nPING\r\n"), vec![vec!["PING"]]);
}

#[test]
fn quoting_is_that_of_redis() {
    assert_eq!(
        texts(b"set \"a b\\x41\\n\\\"\" 'c\\'d\\n' \"\"\r\n"),
        vec![vec!["set", "a bA\n\"", "c'd\\n", ""]]
    );
    for bad in [&b"a \"b\r\n"[..], b"a 'b\r\n", b"a \"b\"c\r\n"] {
        assert_eq!(parse_all(bad), Err(ParseError::UnbalancedQuotes));
    }
}

#[test]
fn every_broken_frame_has_its_text() {
    let cases: [(&[u8], &str); 17] = [
        (
            b"*x\r\n",
            "ERR Protocol error: invalid multibulk length (Expect Number)",
        ),
        (
            b"*\r\n",
            "ERR Protocol error: invalid multibulk length (Expect Number)",
        ),
        (
            b"*-2\r\n",
            "ERR Protocol error: invalid multibulk length (TooManyArg)",
        ),
        (
            b"*1025\r\n",
            "ERR Protocol error: invalid multibulk length (TooManyArg)",
        ),
        (
            b"*99999999999\r\n",
            "ERR Protocol error: invalid multibulk length (TooManyArg)",
        ),
        (
            b"*1\n",
            "ERR Protocol error: expected CRLF (Expect Newline)",
        ),
        (
            b"*1\rx",
            "ERR Protocol error: expected CRLF (Expect Newline)",
        ),
        (
            b"*1\r\nPING\r\n",
            "ERR Protocol error: expected '$', got 'P' (Expect TypeChar)",
        ),
        (
            b"*1\r\n*1\r\n",
            "ERR Protocol error: expected '$', got '*' (Expect TypeChar)",
        ),
        (
            b"*1\r\n\x01",
            "ERR Protocol error: expected '$', got '\\x01' (Expect TypeChar)",
        ),
        (
            b"*1\r\n$x\r\n",
            "ERR Protocol error: invalid bulk length (Invalid bulk size)",
        ),
        (
            b"*1\r\n$-1\r\n",
            "ERR Protocol error: invalid bulk length (Invalid bulk size)",
        ),
        (
            b"*1\r\n$32768001\r\n",
            "ERR Protocol error: invalid bulk length (Invalid bulk size)",
        ),
        (
            b"*1\r\n$4\nPING\r\n",
            "ERR Protocol error: expected CRLF (Expect Newline)",
        ),
        (
            b"*1\r\n$4\r\nPINGxx",
            "ERR Protocol error: expected CRLF (Expect Newline)",
        ),
        (
            b"*1\r\n$4\r\nPING\rx",
            "ERR Protocol error: expected CRLF (Expect Newline)",
        ),
        (
            b"a \"\r\n",
            "ERR Protocol error: unbalanced quotes in request",
        ),
    ];
    for (input, text) in cases {
        assert_eq!(
            parse_all(input).unwrap_err().to_string(),
            text,
            "{}",
            String::from_utf8_lossy(input)
        );
    }
    for input in [&b"POST / HTTP/1.1\r\n"[..], b"Host: a\r\n", b"host: a\n"] {
        assert_eq!(parse_all(input), Err(ParseError::CrossProtocol));
    }
}

#[test]
fn lengths_are_judged_from_the_header() {
    // An endless header is refused without waiting for its end.
    let endless = [b"*1\r\n$".to_vec(), vec![b'1'; 64]].concat();
    assert_eq!(parse_all(&endless), Err(ParseError::BulkLength));
    let endless = [b"*".to_vec(), vec![b'1'; 64]].concat();
    assert_eq!(parse_all(&endless), Err(ParseError::CountIsNoNumber));
    assert_eq!(parse_all(b"*1\r\n$32768000\r\n"), Ok(vec![]));
    // All bulks of one command together.
    let mut input = b"*3\r\n".to_vec();
    for _ in 0..2 {
        input.extend_from_slice(b"$32768000\r\n");
        input.resize(input.len() + 32_768_000, b'x');
        input.extend_from_slice(b"\r\n");
    }
    assert_eq!(parse_all(&input), Ok(vec![]));
    input.extend_from_slice(b"$2000000\r\n");
    assert_eq!(parse_all(&input), Err(ParseError::BulkLength));
}

#[test]
fn a_long_inline_line_is_refused() {
    let longest = [vec![b'a'; 65_536], b"\r\n".to_vec()].concat();
    assert_eq!(parse_all(&longest).unwrap().len(), 1);
    assert_eq!(parse_all(&vec![b'a'; 65_537]), Err(ParseError::LineTooLong));
    let longer = [vec![b'a'; 65_537], b"\n".to_vec()].concat();
    assert_eq!(parse_all(&longer), Err(ParseError::LineTooLong));
}

#[test]
fn before_login_the_limits_are_small() {
    let mut parser = Parser::default();
    let limits = Limits::BEFORE_LOGIN;
    assert_eq!(
        parser.next(b"*11\r\n", 0, limits),
        Err(ParseError::TooManyArguments)
    );
    assert_eq!(
        Parser::default().next(b"*1\r\n$16385\r\n", 0, limits),
        Err(ParseError::BulkLength)
    );
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        wire.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        wire.extend_from_slice(argument);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

proptest! {
    #[test]
    fn what_is_encoded_is_parsed_in_any_pieces(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 1..6),
        cuts in prop::collection::vec(1usize..30, 1..20),
    ) {
        let wire: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        let mut parser = Parser::default();
        let mut buffer: Vec<u8> = Vec::new();
        let mut seen = Vec::new();
        let mut rest = wire.as_slice();
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let take = (*cuts.next().unwrap()).min(rest.len());
            buffer.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            let mut start = 0;
            while let Frame::Command { end } = parser.next(&buffer, start, LIMITS).unwrap() {
                seen.push(arguments(&parser, &buffer));
                start = end;
            }
            // As a connection does it: used bytes go, the rest moves up.
            buffer.drain(..start);
            parser.rebase(start);
        }
        prop_assert_eq!(seen, commands);
    }

    #[test]
    fn garbage_never_panics(input in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_all(&input);
    }

    #[test]
    fn garbage_of_the_alphabet_never_panics(input in "[*$0-9\r\n\"'x\\\\ -]{0,80}") {
        let _ = parse_all(input.as_bytes());
    }
}
