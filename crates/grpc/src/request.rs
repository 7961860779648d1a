//! What is looked at before a request is decoded: its size, its deadline, its
//! name.

use barnabas_engine::{Kept, Room};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tonic::Status;

/// The most that a request's message may be when encoded (contract,
/// section 4).
pub(crate) const MAX_MESSAGE: usize = 1_048_576;

/// So many bytes a second of a message are waited for, beside the pause that is
/// allowed: who sends a byte now and then would hold it for ever.
const LEAST_RATE: u64 = 1_024;

/// What a call has of its own for a message: tonic's buffer.
const CALL_BYTES: u64 = 8 << 10;

/// Who looks so much later than he was woken has not been looking.
const NEGLECT: Duration = Duration::from_secs(1);

/// What messages that have come in part may take, all together, and how long.
#[derive(Clone)]
pub(crate) struct Incoming {
    room: Arc<Room>,
    pause: Duration,
}

impl Incoming {
    pub(crate) fn new(max_bytes: u64, pause: Duration) -> Self {
        Self {
            room: Arc::new(Room::new(max_bytes)),
            pause,
        }
    }
}

/// A message of which more is to come.
struct Waiting {
    /// How long it has been waited for before.
    spent: Duration,
    /// Since when it is waited for now, and when that is too long. While nobody
    /// asks for it, it may take any time.
    asked: Option<(Instant, Pin<Box<Sleep>>)>,
    kept: Kept,
}

impl Waiting {
    fn new(incoming: &Incoming) -> Self {
        Self {
            spent: Duration::ZERO,
            asked: None,
            kept: incoming.room.keep_nothing(),
        }
    }

    /// Nobody has asked when it was too late: it was this side that kept it
    /// waiting, and its client may have been unable to go on.
    fn notice_neglect(&mut self) {
        let now = Instant::now();
        if let Some((_, limit)) = &self.asked
            && now > limit.deadline() + NEGLECT
        {
            self.asked = None;
        }
    }

    /// Resolves when the next of it is too late.
    fn poll_late(&mut self, pause: Duration, come: u64, context: &mut Context<'_>) -> Poll<()> {
        self.notice_neglect();
        let (_, limit) = self.asked.get_or_insert_with(|| {
            let now = Instant::now();
            let all = pause + Duration::from_secs(come / LEAST_RATE);
            let left = pause.min(all.saturating_sub(self.spent));
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        limit.as_mut().poll(context)
    }
}

/// A flag and the length of the message.
const PREFIX: usize = 5;

/// A request's body whose messages are looked at as they pass, and refused
/// when they are too large before more of them is read. tonic would do so
/// with another code and text, which cannot be configured. Of what has come in
/// part tonic keeps the beginning, as long as the client likes: it has to find
/// room here, and to go on.
pub(crate) struct Checked<B> {
    inner: B,
    /// The beginning of a prefix.
    prefix: [u8; PREFIX],
    /// How much of it there is.
    known: usize,
    /// What has come of the message behind it.
    come: usize,
    /// What is still to come.
    left: usize,
    incoming: Incoming,
    waiting: Option<Waiting>,
}

impl<B> Checked<B> {
    /// `is_expected`: the client is to send its message at once.
    pub(crate) fn new(inner: B, incoming: &Incoming, is_expected: bool) -> Self {
        Self {
            inner,
            prefix: [0; PREFIX],
            known: 0,
            come: 0,
            left: 0,
            incoming: incoming.clone(),
            waiting: is_expected.then(|| Waiting::new(incoming)),
        }
    }

    /// Whether there is the beginning of a message without its end.
    fn is_inside(&self) -> bool {
        self.known > 0 || self.left > 0
    }

    /// What tonic has of a message without its end.
    fn come_bytes(&self) -> u64 {
        match self.left {
            0 => 0,
            _ => self.come as u64,
        }
    }

    /// Room for the beginning of a message.
    fn keep(&mut self) -> Result<(), Status> {
        if !self.is_inside() {
            self.waiting = None;
            return Ok(());
        }
        let kept = self.come_bytes() + CALL_BYTES;
        let incoming = &self.incoming;
        let waiting = self.waiting.get_or_insert_with(|| Waiting::new(incoming));
        waiting.notice_neglect();
        if let Some((since, _)) = waiting.asked.take() {
            waiting.spent += since.elapsed();
        }
        match waiting.kept.hold(kept) {
            true => Ok(()),
            false => Err(Status::resource_exhausted(
                "the messages of other requests take all the room",
            )),
        }
    }

    fn look_at(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while let Some((next, rest)) = data.split_first() {
            if self.left > 0 {
                let passing = self.left.min(data.len());
                self.left -= passing;
                self.come += passing;
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
                (self.known, self.come, self.left) = (0, 0, length);
                // Another message has its own time.
                self.waiting = None;
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
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            let come = this.come_bytes();
            if let Some(waiting) = &mut this.waiting {
                ready!(waiting.poll_late(this.incoming.pause, come, context));
                return Poll::Ready(Some(Err(Status::unavailable(
                    "the rest of a message has not come in time",
                ))));
            }
            return Poll::Pending;
        };
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
            if let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) {
                this.look_at(data)?;
                this.keep()?;
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

    fn body(
        frames: &[&[u8]],
    ) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = frames
            .iter()
            .map(|frame| Ok(Frame::data(Bytes::copy_from_slice(frame))))
            .collect();
        StreamBody::new(tokio_stream::iter(frames))
    }

    /// Everything that passes, or why it does not.
    async fn pass(frames: &[&[u8]]) -> Result<Vec<u8>, Status> {
        let incoming = Incoming::new(1 << 20, Duration::from_secs(60));
        let collected = Checked::new(body(frames), &incoming, true).collect().await;
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

    /// Sends this, and nothing more.
    async fn stop_after(text: &'static [u8], is_expected: bool) -> Result<(), Status> {
        use tokio_stream::StreamExt as _;

        let incoming = Incoming::new(CALL_BYTES + 100, Duration::from_secs(60));
        let first = Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(text)));
        let stream = tokio_stream::iter([first]).chain(tokio_stream::pending());
        let mut body = Checked::new(StreamBody::new(stream), &incoming, is_expected);
        let passing = async {
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok(())
        };
        let hour = Duration::from_secs(3_600);
        tokio::time::timeout(hour, passing).await.unwrap_or(Ok(()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_goes_on_in_time() {
        for (text, is_expected, is_refused) in [
            (&b"\x00\x00\x00\x00\x03ab"[..], false, true),
            (b"\x00\x00", false, true),
            (b"", true, true),
            // Between messages of a stream, and before the first one.
            (b"\x00\x00\x00\x00\x02ab", false, false),
            (b"\x00\x00\x00\x00\x02ab", true, false),
            (b"", false, false),
        ] {
            let ended = stop_after(text, is_expected).await;
            assert_eq!(ended.is_err(), is_refused, "{text:?} {is_expected}");
            if let Err(status) = ended {
                assert_eq!(status.code(), tonic::Code::Unavailable);
            }
        }
    }

    #[tokio::test]
    async fn messages_in_part_have_one_bound() {
        let incoming = Incoming::new(2 * CALL_BYTES + 100, Duration::from_secs(60));
        let begin = async |frames: &[&[u8]]| {
            let mut body = Checked::new(body(frames), &incoming, false);
            for _ in frames {
                body.frame().await.unwrap()?;
            }
            Ok::<_, Status>(body)
        };
        // 80 of 90 bytes; a whole one of 90; 30 of 90.
        let large = [&b"\x00\x00\x00\x00\x5a"[..], &[b'x'; 80]].concat();
        let whole = [&b"\x00\x00\x00\x00\x5a"[..], &[b'x'; 90]].concat();
        let small = [&b"\x00\x00\x00\x00\x5a"[..], &[b'x'; 30]].concat();
        let first = begin(&[&large]).await.unwrap();
        assert!(begin(&[&whole]).await.is_ok());
        let refused = begin(&[&small]).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(first);
        let second = begin(&[&small, &[b'y'; 50]]).await.unwrap();
        assert!(begin(&[&small]).await.is_err());
        drop(second);
        // It has its end; the next one begins.
        let both = begin(&[&large, &[b'y'; 10], &small]).await.unwrap();
        assert!(begin(&[&small]).await.is_ok());
        drop(both);
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
