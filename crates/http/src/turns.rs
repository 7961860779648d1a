//! Whose turn it is on a connection, and for how long.

use hyper::Version;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked, within the time that a request's head may take,
/// whether one has come.
const LOOKS: u32 = 4;

/// Either a client's, whose request is awaited and may not be for ever, or
/// ours.
#[derive(Default)]
pub(crate) struct Turns {
    /// Beginnings and ends of requests, and writes that have got on.
    count: AtomicU64,
    /// Requests that have not been answered; of HTTP/2 there may be several.
    running: AtomicU64,
    is_http2: AtomicBool,
}

/// A request that has not been answered.
pub(crate) struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Turns {
    /// It is ours until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> Turn {
        if version == Version::HTTP_2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        Turn(Arc::clone(self))
    }

    /// A write has got on: a client that reads its reply slowly is not one that
    /// is silent.
    pub(crate) fn written(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves when no request has come and nothing was written for `limit`,
    /// or up to a quarter of it later: looked at now and then, which costs
    /// requests nothing. Never on HTTP/2, whose clients are asked for signs of
    /// life, but `rests` is called then.
    pub(crate) async fn none_for(&self, limit: Duration, rests: impl Fn()) {
        let (mut seen, mut looks) = (0, 0);
        while looks < LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            let count = self.count.load(Ordering::Relaxed);
            let is_awaited = self.running.load(Ordering::Relaxed) == 0 && count == seen;
            looks = if is_awaited { looks + 1 } else { 0 };
            seen = count;
            if looks == LOOKS && self.is_http2.load(Ordering::Relaxed) {
                looks = 0;
                rests();
            }
        }
    }
}
