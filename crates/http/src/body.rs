//! Reading bodies: bounded in size and in time, copied only if they come in
//! pieces.

use crate::inflate::Inflate;
use barnabas_engine::{Kept, Room, Taken};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// The longest pause within a body, unless configured.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// And so many bytes a second of one that is read as a whole, or of a line: who
/// sends a byte now and then would hold its place for ever.
const LEAST_RATE: u64 = 1_024;

/// What is reserved at most for a body that is announced.
const RESERVED: usize = 1 << 20;
/// And so many times what has come of it.
const AHEAD: usize = 16;
/// So much is inflated at a time.
const TURN: usize = 256 << 10;

/// What is read, and thrown away, of a body that is too large: a client that
/// does not listen while it sends would find its connection reset instead of
/// the reply (as nginx's `lingering_close`). No longer than this, no more than
/// so many bytes.
const LINGERING: Duration = Duration::from_secs(2);
const LINGERING_BYTES: usize = 16 << 20;

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It is larger than the limit, as far as it was read.
    TooLarge,
    /// Other bodies take all the room.
    NoRoom,
    /// The connection's words.
    Failed(String),
}

/// How long a client may take over what it sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pause: Duration,
    /// Since when it has been waited for; what has come needs no clock.
    begun: Option<Instant>,
    bytes: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(PAUSE_LIMIT)
    }
}

impl Pace {
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            pause,
            begun: None,
            bytes: 0,
        }
    }

    /// What is next is another thing.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.pause);
    }

    /// How long the next bytes may take.
    fn left(&mut self) -> Duration {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let all = self.pause + Duration::from_secs(self.bytes / LEAST_RATE);
        self.pause.min(all.saturating_sub(begun.elapsed()))
    }
}

/// The body of a request to the gateway. What of it is in memory takes room
/// among all bodies as long as this lives.
pub(crate) struct RequestBody<'a> {
    incoming: Incoming,
    taken: Taken<'a>,
    pace: Pace,
}

impl<'a> RequestBody<'a> {
    /// `pause` is the longest one within it.
    pub(crate) fn new(incoming: Incoming, bodies: &'a Arc<Room>, pause: Duration) -> Self {
        Self {
            pace: Pace::new(pause),
            incoming,
            taken: bodies.nothing(),
        }
    }

    /// Reads it; nothing beyond the limit is kept.
    pub(crate) async fn read(&mut self, limit: usize) -> Result<Bytes, ReadError> {
        let limit = self.limited(limit);
        let taken = &mut self.taken;
        read_within(&mut self.incoming, limit, self.pace, |bytes| {
            taken.grow(bytes)
        })
        .await
    }

    /// As [`read`](Self::read), of one that may be compressed: what it is
    /// inflated counts.
    pub(crate) async fn read_inflated(
        &mut self,
        inflate: Option<Inflate>,
        limit: usize,
    ) -> Result<Bytes, ReadError> {
        if inflate.is_none() {
            return self.read(limit).await;
        }
        let limit = self.limited(limit);
        let mut pieces = Pieces::new(self, inflate);
        let mut all = BytesMut::new();
        while let Some(piece) = pieces.next().await? {
            let refused = if all.len() + piece.len() > limit {
                ReadError::TooLarge
            } else if !pieces.grow(piece.len()) {
                ReadError::NoRoom
            } else {
                all.extend_from_slice(&piece);
                continue;
            };
            discard(&mut self.incoming).await;
            return Err(refused);
        }
        Ok(all.freeze())
    }

    /// What could never find room is too large.
    fn limited(&self, limit: usize) -> usize {
        usize::try_from(self.taken.most()).map_or(limit, |most| limit.min(most))
    }

    /// The room that was taken goes on to whoever keeps what was read.
    pub(crate) fn keep(&mut self) -> Kept {
        self.taken.keep()
    }
}

/// Reads a body; nothing beyond the limit is kept. Each piece has to find
/// room, too: `has_room` is asked with its bytes.
pub(crate) async fn read_within(
    body: &mut Incoming,
    limit: usize,
    pace: Pace,
    has_room: impl FnMut(u64) -> bool,
) -> Result<Bytes, ReadError> {
    let read = read_up_to(body, limit, pace, has_room).await;
    if matches!(read, Err(ReadError::TooLarge | ReadError::NoRoom)) {
        discard(body).await;
    }
    read
}

/// Reads on for a while and throws it away.
async fn discard(body: &mut Incoming) {
    let mut left = LINGERING_BYTES;
    let rest = async {
        while let Ok(Some(piece)) = piece(body, &mut Pace::default()).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGERING, rest).await;
}

async fn read_up_to(
    body: &mut Incoming,
    limit: usize,
    mut pace: Pace,
    mut has_room: impl FnMut(u64) -> bool,
) -> Result<Bytes, ReadError> {
    let announced = body.size_hint();
    let too_large = |bytes: u64| bytes > limit as u64;
    if too_large(announced.lower()) {
        return Err(ReadError::TooLarge);
    }
    let Some(first) = piece(body, &mut pace).await? else {
        return Ok(Bytes::new());
    };
    if too_large(first.len() as u64) {
        return Err(ReadError::TooLarge);
    }
    if !has_room(first.len() as u64) {
        return Err(ReadError::NoRoom);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    // What is announced is reserved once something has come, and up to a
    // bound: a client that announces much and sends little holds little. A
    // buffer that grows piece by piece would leave one of each size behind.
    let announced = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
    let mut all: Option<BytesMut> = None;
    while let Some(piece) = piece(body, &mut pace).await? {
        let all = all.get_or_insert_with(|| {
            let most = first.len().saturating_mul(AHEAD).min(RESERVED);
            let mut all = BytesMut::with_capacity(announced.min(most).max(first.len()));
            all.extend_from_slice(&first);
            all
        });
        if too_large((all.len() + piece.len()) as u64) {
            return Err(ReadError::TooLarge);
        }
        if !has_room(piece.len() as u64) {
            return Err(ReadError::NoRoom);
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.map_or(first, BytesMut::freeze))
}

/// A body piece by piece, of any length. Pieces take no room by themselves:
/// whoever keeps some says so.
pub(crate) struct Pieces<'a, 'b> {
    body: &'a mut RequestBody<'b>,
    inflate: Option<Inflate>,
    /// What has come and is still compressed.
    ahead: Bytes,
    has_ended: bool,
    /// Bytes inflated since others had their turn.
    worked: usize,
}

impl<'a, 'b> Pieces<'a, 'b> {
    pub(crate) fn new(body: &'a mut RequestBody<'b>, inflate: Option<Inflate>) -> Self {
        Self {
            body,
            inflate,
            ahead: Bytes::new(),
            has_ended: false,
            worked: 0,
        }
    }

    /// Room for so many bytes that are kept, or none.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        self.body.taken.grow(bytes as u64)
    }

    /// Reads on for a while and throws it away.
    pub(crate) async fn discard(&mut self) {
        discard(&mut self.body.incoming).await;
    }

    /// What comes next may take its own time.
    pub(crate) fn restart(&mut self) {
        self.body.pace.restart();
    }

    /// What was kept is gone.
    pub(crate) fn shrink(&mut self) {
        self.body.taken.give_back();
    }

    /// The next bytes, not compressed any more; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(inflate) = &mut self.inflate else {
            return piece(&mut self.body.incoming, &mut self.body.pace).await;
        };
        loop {
            let inflated = if !self.ahead.is_empty() {
                inflate.step(&mut self.ahead)
            } else if self.has_ended {
                return Ok(None);
            } else if let Some(piece) = piece(&mut self.body.incoming, &mut self.body.pace).await? {
                self.ahead = piece;
                continue;
            } else {
                self.has_ended = true;
                inflate.finish()
            };
            match inflated {
                Ok(inflated) if inflated.is_empty() => {}
                Ok(inflated) => {
                    self.worked += inflated.len();
                    if self.worked > TURN {
                        // The others of this thread get their turn: it takes
                        // little to make a machine inflate much.
                        self.worked = 0;
                        tokio::task::yield_now().await;
                    }
                    return Ok(Some(inflated.into()));
                }
                Err(error) => {
                    discard(&mut self.body.incoming).await;
                    return Err(ReadError::Failed(error.to_string()));
                }
            }
        }
    }
}

/// The next bytes; `None` at the end.
async fn piece(body: &mut Incoming, pace: &mut Pace) -> Result<Option<Bytes>, ReadError> {
    loop {
        let mut next = body.frame();
        // What is there already needs no clock.
        let ready = poll_fn(|context| Poll::Ready(Pin::new(&mut next).poll(context)));
        let frame = match ready.await {
            Poll::Ready(frame) => Ok(frame),
            Poll::Pending => tokio::time::timeout(pace.left(), next).await,
        };
        let frame = match frame {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(ReadError::Failed(error.to_string())),
            Ok(None) => return Ok(None),
            Err(_) => {
                return Err(ReadError::Failed(
                    "the client has stopped sending".to_owned(),
                ));
            }
        };
        if let Ok(data) = frame.into_data() {
            pace.bytes += data.len() as u64;
            return Ok(Some(data));
        }
    }
}
