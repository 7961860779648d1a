//! What is looked at before a request is decoded: its size, its deadline, its
//! name.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;

/// The most that a request's message may be when encoded (contract,
/// section 4).
pub(crate) const MAX_MESSAGE: usize = 1_048_576;

/// A flag and the length of the message.
const PREFIX: usize = 5;

/// A request's body whose messages are looked at as they pass, and refused
/// when they are too large before more of them is read. tonic would do so
/// with another code and text, which cannot be configured.
pub(crate) struct Checked<B> {
    inner: B,
    /// The beginning of a prefix.
    prefix: [u8; PREFIX],
    /// How much of it there is.
    known: usize,
    /// What is still to come of the message behind it.
    left: usize,
}

impl<B> Checked<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            prefix: [0; PREFIX],
            known: 0,
            left: 0,
        }
    }

    fn look_at(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while let Some((next, rest)) = data.split_first() {
            if self.left > 0 {
                let passing = self.left.min(data.len());
                self.left -= passing;
                data = data.split_at_checked(passing).map_or(&[], |(_, rest)| rest);
                continue;
            }
            if let Some(slot) = self.prefix.get_mut(self.known) {
                *slot = *next;
            }
            self.known += 1;
            data = rest;
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length) as usize;
                if length > MAX_MESSAGE {
                    return Err(too_large(length));
                }
                (self.known, self.left) = (0, length);
            }
        }
        Ok(())
    }
}

fn too_large(length: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({length} vs. {MAX_MESSAGE})"
    ))
}

impl<B> Body for Checked<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
            if let Some(data) = frame.data_ref() {
                self.look_at(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The name of a request, for logs on both sides.
pub(crate) const ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are replaced by one of our own.
const LONGEST_ID: usize = 128;

/// Names requests that come without a name.
pub(crate) struct RequestIds {
    /// Of this server, so that two do not give the same name.
    prefix: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self {
            // Seeded by the system's randomness.
            prefix: RandomState::new().hash_one(std::process::id()),
            next: AtomicU64::new(0),
        }
    }
}

impl RequestIds {
    /// The request's own, or a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = headers.get(ID_HEADER)
            && (1..=LONGEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
        {
            return id.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; 32];
        let digits = [self.prefix, number]
            .into_iter()
            .flat_map(|half| (0..16).rev().map(move |place| half >> (4 * place) & 0xf));
        for (slot, digit) in text.iter_mut().zip(digits) {
            // A digit is below sixteen.
            *slot = b"0123456789abcdef"
                .get(digit as usize)
                .copied()
                .unwrap_or(b'0');
        }
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
    }
}

/// How long the client waits: at most eight digits and a unit. Nonsense is
/// no deadline.
pub(crate) fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    if !is_number {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, StreamBody};

    fn body(frames: &[&[u8]]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let frames: Vec<_> = frames
            .iter()
            .map(|frame| Ok(Frame::data(Bytes::copy_from_slice(frame))))
            .collect();
        StreamBody::new(tokio_stream::iter(frames))
    }

    /// Everything that passes, or why it does not.
    async fn pass(frames: &[&[u8]]) -> Result<Vec<u8>, Status> {
        let collected = Checked::new(body(frames)).collect().await;
        collected.map(|collected| collected.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn lengths_are_found_however_the_body_is_cut() {
        // 1,048,577 and 1,048,576; a message of two bytes before the former.
        let above: [&[&[u8]]; 4] = [
            &[b"\x00\x00\x10\x00\x01"],
            &[b"\x00\x00", b"\x10\x00", b"\x01more"],
            &[b"", b"\x00", b"\x00\x10\x00\x01"],
            &[b"\x00\x00\x00\x00\x02a", b"b\x00\x00\x10", b"\x00\x01"],
        ];
        for frames in above {
            let refused = pass(frames).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
            assert_eq!(
                refused.message(),
                "grpc: received message larger than max (1048577 vs. 1048576)"
            );
        }
        let below: [&[&[u8]]; 5] = [
            &[b"\x00\x00\x10\x00\x00", b"more"],
            &[b"\x00\x00\x10", b"\x00\x00more"],
            &[b"\x00\x00\x00\x00\x01\xff\x00\x00\x00\x00\x00", b"\x00"],
            &[b"\x00\x00"],
            &[],
        ];
        for frames in below {
            assert_eq!(pass(frames).await.unwrap(), frames.concat());
        }
    }

    #[test]
    fn ids() {
        let ids = RequestIds::default();
        let id = |text: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(ID_HEADER, http::HeaderValue::from_bytes(text).unwrap());
            ids.of(&headers)
        };
        assert_eq!(id(b"abc-1"), "abc-1");
        let mut own = vec![ids.of(&HeaderMap::new())];
        for unfit in [&b""[..], b"a b", b"\xff", &[b'x'; 129]] {
            own.push(id(Box::leak(Box::from(unfit))));
        }
        own.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        own.dedup();
        assert_eq!(own.len(), 5);
        assert!(own.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn deadlines() {
        let parse = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_static(text));
            deadline(&headers)
        };
        assert_eq!(parse("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("4S"), Some(Duration::from_secs(4)));
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "1", "+1S", "1s", "123456789S", "1.5S"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }
}
