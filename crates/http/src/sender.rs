//! Whose request it is: its token, what is said without a good one, and what
//! ports need that have an API of their own (kprf, kafboy).

use barnabas_engine::{Access, Denied, Tracing, bearer_token};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use std::net::IpAddr;

/// Who sends requests, and what counts for them.
pub(crate) struct Sender<'a> {
    /// What tokens may do.
    pub(crate) access: &'a Access,
    /// What becomes of a request's trace.
    pub(crate) tracing: &'a Tracing,
    /// Where the connection comes from.
    pub(crate) address: Option<IpAddr>,
}

/// The token that a request carries.
pub(crate) fn token(head: &Parts) -> Option<&str> {
    bearer_token(head.headers.get(AUTHORIZATION)?.to_str().ok()?)
}

/// The status of a request that its token does not allow.
pub(crate) fn status(denied: Denied) -> StatusCode {
    match denied {
        Denied::Unauthenticated => StatusCode::UNAUTHORIZED,
        Denied::Forbidden => StatusCode::FORBIDDEN,
    }
}

/// Has a reply say what is wanted of whoever has no good token.
pub(crate) fn ask_for_token(headers: &mut HeaderMap) {
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
}
