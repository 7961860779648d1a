//! Which web pages' scripts may use the API (Fetch standard, "CORS protocol").
//!
//! Own few lines instead of `tower-http`'s layer: that answers any path and
//! any method from one list, while the routes here know their own methods,
//! and it would be the only part of the server that needs tower.

use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};

/// What scripts may read of a reply beside what they always may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Kafka-Topic, Kafka-Partition, Kafka-Offset, Kafka-Timestamp, Kafka-Key, Kafka-Header, \
     Kafka-Tombstone, Kafka-Omitted, Allow, Location, Retry-After, X-Request-Id, \
     Idempotent-Replayed",
);
/// How long a browser may remember the answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// The origins that are allowed.
pub(crate) struct Cors {
    is_open: bool,
    origins: Vec<String>,
}

impl Cors {
    pub(crate) fn new(origins: &[String]) -> Self {
        Self {
            is_open: origins.iter().any(|origin| origin == "*"),
            origins: origins.to_vec(),
        }
    }

    /// Whether this asks what a script may send. Such requests carry no
    /// token; the answer needs none.
    pub(crate) fn is_preflight(&self, headers: &HeaderMap) -> bool {
        self.allowed(headers).is_some() && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// What a script may send where these methods are known.
    pub(crate) fn answer_preflight(
        &self,
        asked: &HeaderMap,
        methods: &HeaderValue,
        reply: &mut HeaderMap,
    ) {
        reply.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        // Headers of records have any names.
        if let Some(headers) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            reply.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        reply.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }

    /// Tells the browser that the script may read the reply.
    pub(crate) fn mark(&self, asked: &HeaderMap, reply: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        if !self.is_open {
            reply.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = self.allowed(asked) {
            reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            reply.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        if self.is_open {
            return Some(ANY);
        }
        let is_listed = self
            .origins
            .iter()
            .any(|own| own.as_bytes().eq_ignore_ascii_case(origin.as_bytes()));
        is_listed.then(|| origin.clone())
    }
}
