//! HTTP/2 as an attacker writes it.

/// What an HTTP/2 client says first, settings that change nothing, and that the server's are
/// known: its windows count from then on.
pub(super) const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// The largest payload that may be sent unasked (RFC 9113, section 4.2).
pub(super) const FRAME: usize = 16_384;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = Vec::with_capacity(9 + payload.len());
    frame.extend_from_slice(length.get(1..).unwrap_or_default());
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The settings frame with one setting.
pub(super) fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    frame(0x4, 0, 0, &payload)
}

pub(super) fn ping() -> Vec<u8> {
    frame(0x6, 0, 0, b"whatever")
}

pub(super) fn pong(ping: [u8; 8]) -> Vec<u8> {
    frame(0x6, 0x1, 0, &ping)
}

/// CANCEL.
pub(super) fn reset(stream: u32) -> Vec<u8> {
    frame(0x3, 0, stream, &8_u32.to_be_bytes())
}

pub(super) fn data(stream: u32, bytes: &[u8], is_last: bool) -> Vec<u8> {
    frame(0x0, if is_last { END_STREAM } else { 0 }, stream, bytes)
}

/// A request whose body follows, unless it is the last of it.
pub(super) fn headers(stream: u32, block: &[u8], is_last: bool) -> Vec<u8> {
    let end = if is_last { END_STREAM } else { 0 };
    frame(0x1, END_HEADERS | end, stream, block)
}

/// A request's headers of which more are to come.
pub(super) fn open_headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(0x1, 0, stream, block)
}

pub(super) fn continuation(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(0x9, 0, stream, block)
}

/// Names and values, each literally and without a place in the table (RFC 7541, section 6.2.2).
pub(super) fn block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer of seven bits' prefix (RFC 7541, section 5.1).
fn length(length: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(u8::try_from(length).unwrap_or(0));
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap_or(0));
}

/// The headers of a gRPC call.
pub(super) fn call(method: &str) -> Vec<u8> {
    block([
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ])
}

/// The headers of an HTTP request.
pub(super) fn request(method: &str, path: &str) -> Vec<u8> {
    block([
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
    ])
}

/// In front of a gRPC message of so many bytes.
pub(super) fn prefix(is_compressed: bool, bytes: u32) -> Vec<u8> {
    let mut prefix = vec![u8::from(is_compressed)];
    prefix.extend_from_slice(&bytes.to_be_bytes());
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_fields_are_as_the_rfcs_have_them() {
        assert_eq!(reset(3), b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08");
        assert_eq!(block([("a", "bc")]), b"\0\x01a\x02bc");
        let long = "x".repeat(1_337 + 127);
        // RFC 7541, C.1.2, with another prefix.
        let wire = block([("a", &*long)]);
        assert_eq!(
            wire.get(..6),
            Some(&[0, 1, b'a', 127, 0b1011_1001, 0b0000_1010][..])
        );
    }
}
