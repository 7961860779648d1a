//! Whose turn it is on a connection, and for how long.

use hyper::Version;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked, within the time that a request's head may take,
/// whether one has come.
const LOOKS: u32 = 4;

/// Either a client's, whose request is awaited and may not be for ever, or
/// ours.
#[derive(Default)]
pub(crate) struct Turns {
    /// Beginnings and ends of requests, and two for each write that has got
    /// on. HTTP/1 has one request at a time, so that an even number is the
    /// client's turn.
    count: AtomicU64,
    is_http2: AtomicBool,
}

impl Turns {
    pub(crate) fn begin(&self, version: Version) {
        if version == Version::HTTP_2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// A write has got on: a client that reads its reply slowly is not one that
    /// is silent.
    pub(crate) fn written(&self) {
        self.count.fetch_add(2, Ordering::Relaxed);
    }

    /// Resolves when no request has come and nothing was written for `limit`,
    /// or up to a quarter of it later: looked at now and then, which costs
    /// requests nothing. Never on HTTP/2, whose clients are asked for signs of
    /// life.
    pub(crate) async fn none_for(&self, limit: Duration) {
        let (mut seen, mut looks) = (0, 0);
        while looks < LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            if self.is_http2.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            let count = self.count.load(Ordering::Relaxed);
            let is_awaited = count.is_multiple_of(2) && count == seen;
            looks = if is_awaited { looks + 1 } else { 0 };
            seen = count;
        }
    }
}
