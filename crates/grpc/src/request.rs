//! What is checked before a request is decoded: its size and its deadline.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::Status;

/// The most that a request's message may be when encoded (contract,
/// section 4).
pub(crate) const MAX_MESSAGE: usize = 1_048_576;

/// A flag and the length of the message.
const PREFIX: usize = 5;

/// A request's body whose first bytes have been looked at.
pub(crate) struct Begun<B> {
    first: Option<Bytes>,
    rest: B,
}

/// Waits for the message's length and refuses it if it is too large. tonic
/// would do so with another code and text, which cannot be configured.
pub(crate) async fn begin<B>(mut body: B) -> Result<Begun<B>, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut first = Bytes::new();
    while first.len() < PREFIX {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let data = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                // Trailers: there is no message. tonic has a word for that.
                Err(_) => break,
            },
            Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
            None => break,
        };
        first = if first.is_empty() {
            data
        } else {
            let mut both = BytesMut::from(first);
            both.extend_from_slice(&data);
            both.freeze()
        };
    }
    if let Some((_, length)) = first
        .first_chunk::<PREFIX>()
        .and_then(|prefix| prefix.split_first())
        && let Ok(length) = <[u8; 4]>::try_from(length)
        && let Ok(length) = usize::try_from(u32::from_be_bytes(length))
        && length > MAX_MESSAGE
    {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message larger than max ({length} vs. {MAX_MESSAGE})"
        )));
    }
    Ok(Begun {
        first: Some(first).filter(|first| !first.is_empty()),
        rest: body,
    })
}

impl<B: Body<Data = Bytes> + Unpin> Body for Begun<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
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

    #[tokio::test]
    async fn the_length_is_found_however_the_body_is_cut() {
        // 1,048,577 and 1,048,576.
        let above: [&[&[u8]]; 3] = [
            &[b"\x00\x00\x10\x00\x01"],
            &[b"\x00\x00", b"\x10\x00", b"\x01more"],
            &[b"", b"\x00", b"\x00\x10\x00\x01"],
        ];
        for frames in above {
            let refused = begin(body(frames)).await.err().unwrap();
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
            assert_eq!(
                refused.message(),
                "grpc: received message larger than max (1048577 vs. 1048576)"
            );
        }
        let below: [&[&[u8]]; 4] = [
            &[b"\x00\x00\x10\x00\x00", b"more"],
            &[b"\x00\x00\x10", b"\x00\x00more"],
            &[b"\x00\x00"],
            &[],
        ];
        for frames in below {
            let begun = begin(body(frames)).await.ok().unwrap();
            let all = begun.collect().await.unwrap().to_bytes();
            assert_eq!(all, frames.concat());
        }
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
