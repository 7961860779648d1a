//! `POST /push` (contract, section 1).
//!
//! All records of a request are handed over in one go, before anything is
//! waited for. Then they belong to no request any more: who hangs up takes
//! back nothing.

use super::admission::Held;
use super::batch::Batch;
use super::handing::Handing;
use super::limiter::{self, Window};
use super::reply::{self as replies, Failure, Failures, ReplyShape};
use super::request::{ParseError, parse};
use super::rules::Rules;
use super::state::State;
use crate::body::{self, Pace, ReadError};
use crate::parameters::Parameters;
use crate::reply::{self, Reply};
use crate::sender::{self, Sender, token};
use barnabas_engine::{Access, Action, Durability, JournalError, RequestTrace, Sending};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What tokens' grants call the only cluster there is.
pub(super) const CLUSTER: &str = "kafka";
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

/// What a request says beside its body.
struct Asked {
    shape: ReplyShape,
    /// Unless its body says that it waits.
    durability: Durability,
}

/// A refusal of the whole request, before its records are looked at.
struct Rejected(StatusCode, String);

/// Whose records these are.
pub(super) struct Author<'a> {
    pub(super) access: &'a Access,
    pub(super) token: Option<&'a str>,
    /// What is counted of the client, if it has a limit.
    pub(super) window: Option<Arc<Window>>,
}

/// Answers one request.
pub(super) async fn push(
    state: &Arc<State>,
    sender: &Sender<'_>,
    head: &Parts,
    body: Incoming,
    trace: &RequestTrace,
) -> Reply {
    let mut rejected = match receive(state, sender, head, body, trace).await {
        Ok(reply) => return reply,
        Err(Rejected(status, text)) => reply::with_body(status, PLAIN, text),
    };
    if rejected.status() == StatusCode::UNAUTHORIZED {
        sender::ask_for_token(rejected.headers_mut());
    }
    state.metrics.rejected(rejected.status().as_u16());
    rejected
}

async fn receive(
    state: &Arc<State>,
    sender: &Sender<'_>,
    head: &Parts,
    mut incoming: Incoming,
    trace: &RequestTrace,
) -> Result<Reply, Rejected> {
    let rules = state.rules();
    let author = author(&rules, sender, head)?;
    if !is_json(head.headers.get(CONTENT_TYPE)) {
        let text = "The request's content-type is not supported";
        return Err(Rejected(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            text.to_owned(),
        ));
    }
    let asked = asked(state, &rules, head.uri.query())?;
    let mut held = state.admission.hold();
    let limit = state.options.max_body_bytes;
    let read = body::read_within(&mut incoming, limit, Pace::default(), |bytes| {
        held.grow(bytes)
    })
    .await;
    let body = match read {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return Err(too_large()),
        Err(ReadError::NoRoom) => {
            // Nothing is known of its records but that none is accepted.
            let reply = refused(state, &rules, &asked, 0, &[]);
            state.metrics.rejected(reply.status().as_u16());
            return Ok(reply);
        }
        Err(ReadError::Failed(text)) => {
            let text = format!("Request body read error: {text}");
            return Err(Rejected(StatusCode::BAD_REQUEST, text));
        }
    };
    let started = Instant::now();
    let handed_over = hand_over(state, &rules, &author, &body, &asked, held, trace).await?;
    // Only librdkafka's copy is left.
    drop(body);
    let HandedOver {
        count,
        durability,
        batch,
        mut failures,
        sendings,
    } = handed_over;
    let waits = durability == Durability::Kafka;
    if waits && let Some(batch) = batch {
        let failed = batch.settled().await;
        for (number, error) in &failed {
            if let Some(own) = sendings.get(number.topic) {
                own.failed_by(*error);
            }
        }
        let failed = failed
            .into_iter()
            .map(|(number, error)| (number.index, Failure::Kafka(error)));
        failures.extend(failed);
    }
    drop(sendings);
    failures.sort_unstable_by_key(|(index, _)| *index);
    if waits && let Some((_, failure)) = failures.first() {
        let error = failure.text();
        tracing::error!(
            component = "kprf",
            error,
            "got error when tried to push message in sync mode"
        );
    }
    // kprf knew no journal: "yes" means there that it is on disk, always.
    let is_told = !rules.is_strict || durability != Durability::Memory;
    let reply = if failures.is_empty() || !is_told {
        replies::well()
    } else {
        refused(state, &rules, &asked, count, &failures)
    };
    let after = started.elapsed();
    state
        .metrics
        .answered(reply.status().as_u16(), waits, after);
    if after >= rules.slow_request {
        note_slow(after);
    }
    Ok(reply)
}

fn refused(
    state: &State,
    rules: &Rules,
    asked: &Asked,
    count: usize,
    failures: &[(usize, Failure)],
) -> Reply {
    let drain = || state.admission.drain_seconds();
    replies::failed(asked.shape, rules.is_strict, count, failures, drain)
}

fn too_large() -> Rejected {
    let text = "The request payload is too large";
    Rejected(StatusCode::PAYLOAD_TOO_LARGE, text.to_owned())
}

/// `application/json` with any parameters, or none.
fn is_json(kind: Option<&HeaderValue>) -> bool {
    kind.is_none_or(|kind| {
        let kind = kind.as_bytes();
        let end = kind.iter().position(|byte| *byte == b';');
        let kind = kind.get(..end.unwrap_or(kind.len())).unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
    })
}

/// Whether the token, if there have to be tokens, may produce at all; to which
/// topics is asked of each.
fn author<'a>(rules: &Rules, sender: &Sender<'a>, head: &'a Parts) -> Result<Author<'a>, Rejected> {
    let access = sender.access;
    let token = token(head).filter(|_| !access.is_open());
    access
        .check(token, Action::Produce, CLUSTER, None)
        .map_err(|denied| Rejected(sender::status(denied), denied.to_string()))?;
    let window = (rules.client_limit > 0).then(|| {
        let now = limiter::now();
        rules
            .clients
            .window(token, sender.address, rules.max_clients, now)
    });
    Ok(Author {
        access,
        token,
        window,
    })
}

/// Reads the query; what is not known of it is accepted and ignored.
fn asked(state: &State, rules: &Rules, query: Option<&str>) -> Result<Asked, Rejected> {
    let mut asked = Asked {
        shape: rules.reply_shape,
        durability: rules.durability,
    };
    let Some(query) = query else {
        return Ok(asked);
    };
    let mut parameters = Parameters::default();
    let _ = parameters.add(query.as_bytes());
    match parameters.first("reply") {
        Some(b"documented") => asked.shape = ReplyShape::Documented,
        Some(b"program") => asked.shape = ReplyShape::Program,
        _ => {}
    }
    if let Some(named) = parameters.first("durability") {
        let name = String::from_utf8_lossy(named);
        let bad = |text: String| Rejected(StatusCode::BAD_REQUEST, text);
        asked.durability = match Durability::from_name(&name) {
            Some(Durability::Journal) if state.journal.is_none() => {
                let text = "there is no journal; it is configured by journal.dir";
                return Err(bad(text.to_owned()));
            }
            Some(durability) => durability,
            None => {
                let all = Durability::ALL.map(Durability::name).join(", ");
                return Err(bad(format!("there is no durability {name:?}, only {all}")));
            }
        };
    }
    Ok(asked)
}

/// What has become of a request's records so far.
struct HandedOver {
    count: usize,
    durability: Durability,
    /// `None`: none is under way.
    batch: Option<Arc<Batch>>,
    failures: Failures,
    /// What carries the request's trace on; topic by topic if there is any.
    sendings: Vec<Sending>,
}

/// Reads the records, looks at each, and hands over those that are in order:
/// to librdkafka, or to the disk, which is waited for.
async fn hand_over(
    state: &Arc<State>,
    rules: &Rules,
    author: &Author<'_>,
    body: &Bytes,
    asked: &Asked,
    mut held: Held<'_>,
    trace: &RequestTrace,
) -> Result<HandedOver, Rejected> {
    let request = parse(body).map_err(|error| match error {
        ParseError::Invalid(text) => {
            let text = format!("Request body deserialize error: {text}");
            Rejected(StatusCode::BAD_REQUEST, text)
        }
        ParseError::TooMany => too_large(),
    })?;
    let durability = match request.waits {
        true => Durability::Kafka,
        false => asked.durability,
    };
    let count = request.records.len();
    let mut handing = Handing::look_at(state, (rules, author), &request, durability, trace);
    let mut batch = None;
    if handing.admit(&mut held) {
        match (durability, &state.journal) {
            (Durability::Journal, Some(journal)) => {
                handing.keep(journal).await.map_err(|_| too_large())?;
            }
            // Nothing is ever answered as if it were on disk.
            (Durability::Journal, None) => {
                handing.refuse_all(Failure::of_journal(&JournalError::Closed));
            }
            _ => batch = handing.send(&mut held),
        }
    }
    handing.count_failures();
    Ok(HandedOver {
        count,
        durability,
        batch,
        failures: handing.failures,
        sendings: handing.sendings,
    })
}

fn note_slow(after: Duration) {
    let passed = format!("{:.3}ms", after.as_secs_f64() * 1e3);
    let request_id = random_id();
    tracing::warn!(
        component = "kprf",
        passed,
        request_id,
        "handle_push was too slow"
    );
}

/// A UUID of version 4 (RFC 9562).
fn random_id() -> String {
    // Seeded by the operating system.
    let high = RandomState::new().hash_one(0) & !0xf000 | 0x4000;
    let low = RandomState::new().hash_one(1) >> 2 | 1 << 63;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_kprf_took_for_it() {
        let sent = |kind: &'static str| is_json(Some(&HeaderValue::from_static(kind)));
        assert!(is_json(None));
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json ;x",
        ] {
            assert!(sent(kind), "{kind}");
        }
        for kind in ["application/x-www-form-urlencoded", "text/json", "", "json"] {
            assert!(!sent(kind), "{kind}");
        }
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        for _ in 0..100 {
            let id = random_id();
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        }
    }
}
