//! A name for each request, in its reply and in log lines about its failure.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where it stands, in requests and in replies.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client.
const LONGEST: usize = 128;

/// Makes ids: a number of this process that nobody can guess, and a counter.
pub(crate) struct RequestIds {
    prefix: u64,
    last: AtomicU64,
}

/// The id of one request.
#[derive(Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self {
            // Seeded by the operating system.
            prefix: RandomState::new().hash_one(std::process::id()),
            last: AtomicU64::new(0),
        }
    }

    /// The client's id if it is one that can be shown as it is, else a new
    /// one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(X_REQUEST_ID) {
            Some(sent) if is_sane(sent.as_bytes()) => RequestId(sent.clone()),
            _ => self.next(),
        }
    }

    fn next(&self) -> RequestId {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:012x}-{number:x}", self.prefix >> 16);
        // Hexadecimal digits are always allowed.
        let value = HeaderValue::try_from(text);
        RequestId(value.unwrap_or(HeaderValue::from_static("-")))
    }
}

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn into_value(self) -> HeaderValue {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ids_are_taken_over() {
        let ids = RequestIds::new();
        let of = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(sent).unwrap());
            ids.of(&headers).as_str().to_owned()
        };
        let longest = "x".repeat(LONGEST);
        for sane in ["a", "0b1c-7", &longest] {
            assert_eq!(of(sane), sane);
        }
        for other in ["", "a b", &format!("{longest}x")] {
            assert_ne!(of(other), other);
        }
        assert_ne!(ids.next().as_str(), ids.next().as_str());
        assert_ne!(ids.next().as_str(), RequestIds::new().next().as_str());
    }
}
