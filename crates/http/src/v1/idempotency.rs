//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request
//! that is repeated with its key is answered as it was the first time, and not
//! done again.
//!
//! Keys are those of one process, in memory: another replica, or this one after
//! a restart, knows none of them. Within a process a key counts for a window
//! after its answer; no key is forgotten before that. When there are too many,
//! new ones are refused, rather than old ones forgotten: their requests could
//! be repeated without anybody noticing.
//!
//! Neither keys nor tokens nor bodies are kept, but their hashes, which nobody
//! outside can compute.

use super::{Code, Problem};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The request's header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// What a reply that is given again has.
pub(crate) const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// The longest key.
const LONGEST: usize = 255;
/// What all answers together may take; then new keys are refused.
const MOST_BYTES: usize = 64 << 20;

/// How long answers are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyOptions {
    /// How long after its answer a key counts.
    pub window: Duration,
    /// Keys at the same time, those of requests under way included.
    pub max_keys: usize,
}

impl Default for IdempotencyOptions {
    /// Five minutes, 100,000 keys.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            max_keys: 100_000,
        }
    }
}

/// A hash of 128 bits.
type Digest = [u64; 2];

/// What a request was answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With JSON.
    Json(StatusCode, Bytes),
    Problem(Problem),
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Self::Json(_, body) => body.len(),
            Self::Problem(problem) => problem.detail.len(),
        }
    }
}

/// The keys of all requests.
pub(crate) struct Keys {
    options: IdempotencyOptions,
    seeds: [RandomState; 2],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Digest, Entry>,
    /// Answered ones, the oldest first.
    answered: VecDeque<(Instant, Digest)>,
    /// Of all answers.
    bytes: usize,
}

enum Entry {
    UnderWay,
    Answered { request: Digest, answer: Answer },
}

/// What a key says about its request.
pub(crate) enum Found {
    /// It is the first.
    First(Claim),
    /// It has been answered; if the request is the same, so again.
    Answered(Seen),
}

/// An answer that waits for the same request.
pub(crate) struct Seen {
    request: Digest,
    answer: Answer,
}

impl Seen {
    /// The answer.
    ///
    /// # Errors
    /// The request is another one.
    pub(crate) fn answer_to(self, request: Digest) -> Result<Answer, Problem> {
        if request != self.request {
            let text = "the key was used for a request that differs in its body, parameters or \
                        headers; another request needs another key";
            return Err(Problem::new(Code::IdempotencyKeyReused, text));
        }
        Ok(self.answer)
    }
}

/// A request under way. Its key is free again when this goes without an
/// answer.
pub(crate) struct Claim {
    keys: Arc<Keys>,
    key: Digest,
    has_ended: bool,
}

impl Claim {
    /// The same request is answered so from now on.
    pub(crate) fn answered(self, request: Digest, answer: &Answer) {
        self.answered_at(request, answer, Instant::now());
    }

    fn answered_at(mut self, request: Digest, answer: &Answer, now: Instant) {
        self.has_ended = true;
        let mut state = self.keys.state.lock();
        state.bytes += answer.bytes();
        let entry = Entry::Answered {
            request,
            answer: answer.clone(),
        };
        state.entries.insert(self.key, entry);
        state.answered.push_back((now, self.key));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.has_ended {
            self.keys.state.lock().entries.remove(&self.key);
        }
    }
}

impl Keys {
    pub(crate) fn new(options: IdempotencyOptions) -> Self {
        Self {
            options,
            seeds: [RandomState::new(), RandomState::new()],
            state: Mutex::default(),
        }
    }

    /// A hash that is the same for the same parts.
    pub(crate) fn digest(&self, parts: &impl Hash) -> Digest {
        self.seeds.each_ref().map(|seed| seed.hash_one(parts))
    }

    /// Looks up a key, and claims it if it is new.
    ///
    /// # Errors
    /// Its first request is under way, or there are too many keys.
    pub(crate) fn claim(self: &Arc<Self>, key: Digest) -> Result<Found, Problem> {
        self.claim_at(key, Instant::now())
    }

    fn claim_at(self: &Arc<Self>, key: Digest, now: Instant) -> Result<Found, Problem> {
        let mut state = self.state.lock();
        state.forget(now, self.options.window);
        match state.entries.get(&key) {
            Some(Entry::UnderWay) => {
                let text = "the first request with this key is not answered yet";
                return Err(Problem::new(Code::IdempotencyKeyInUse, text));
            }
            Some(Entry::Answered { request, answer }) => {
                return Ok(Found::Answered(Seen {
                    request: *request,
                    answer: answer.clone(),
                }));
            }
            None => {}
        }
        if state.entries.len() >= self.options.max_keys || state.bytes >= MOST_BYTES {
            let oldest = state.answered.front();
            let left = oldest.map_or(Duration::from_secs(1), |(then, _)| {
                (*then + self.options.window).saturating_duration_since(now)
            });
            let text = "there are too many keys within the window; without one, requests are \
                        answered as ever";
            let seconds = left.as_secs_f64().ceil().max(1.0) as u64;
            return Err(Problem::new(Code::IdempotencyKeysExhausted, text).retry_after(seconds));
        }
        state.entries.insert(key, Entry::UnderWay);
        Ok(Found::First(Claim {
            keys: Arc::clone(self),
            key,
            has_ended: false,
        }))
    }
}

impl State {
    fn forget(&mut self, now: Instant, window: Duration) {
        while let Some((then, key)) = self.answered.front()
            && now.saturating_duration_since(*then) >= window
        {
            if let Some(Entry::Answered { answer, .. }) = self.entries.remove(key) {
                self.bytes = self.bytes.saturating_sub(answer.bytes());
            }
            self.answered.pop_front();
        }
    }
}

/// The key that a request carries: a string as in RFC 9651 (`"…"`), or the
/// same without its quotation marks, as most clients write it.
///
/// # Errors
/// It is there more than once, empty, too long, or no such string.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let wrong = |text: &str| {
        let text = format!("the header Idempotency-Key {text}");
        Err(Problem::new(Code::InvalidParameter, text))
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return wrong("is there more than once");
    }
    let Ok(text) = value.to_str() else {
        return wrong("must be visible ASCII characters");
    };
    let text = text.trim_ascii();
    let key = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or_default(),
        None => text,
    };
    if key.is_empty() || key.len() > LONGEST || key.contains(['"', '\\']) {
        return wrong(&format!(
            "must be 1 to {LONGEST} characters, \"in quotation marks\", without such within"
        ));
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(max_keys: usize) -> Arc<Keys> {
        Arc::new(Keys::new(IdempotencyOptions {
            window: Duration::from_secs(10),
            max_keys,
        }))
    }

    fn answer(text: &'static str) -> Answer {
        Answer::Json(StatusCode::OK, Bytes::from_static(text.as_bytes()))
    }

    fn first(keys: &Arc<Keys>, key: &str, now: Instant) -> Claim {
        match keys.claim_at(keys.digest(&key), now) {
            Ok(Found::First(claim)) => claim,
            Ok(Found::Answered(_)) => panic!("{key} is answered"),
            Err(problem) => panic!("{problem:?}"),
        }
    }

    fn code(keys: &Arc<Keys>, key: &str, now: Instant) -> Option<Code> {
        let claimed = keys.claim_at(keys.digest(&key), now);
        claimed.err().map(|problem| problem.code)
    }

    #[test]
    fn an_answer_counts_for_its_request_and_window() {
        let (keys, start) = (keys(10), Instant::now());
        let claim = first(&keys, "k", start);
        assert_eq!(code(&keys, "k", start), Some(Code::IdempotencyKeyInUse));
        let (same, other) = (keys.digest(&"body"), keys.digest(&"other"));
        claim.answered_at(same, &answer("first"), start);
        let late = start + Duration::from_millis(9_999);
        for (request, expected) in [(same, None), (other, Some(Code::IdempotencyKeyReused))] {
            let Ok(Found::Answered(seen)) = keys.claim_at(keys.digest(&"k"), late) else {
                panic!("it is answered");
            };
            let found = seen.answer_to(request);
            assert_eq!(found.err().map(|problem| problem.code), expected);
        }
        drop(first(&keys, "k", late + Duration::from_millis(1)));
        assert_eq!(keys.state.lock().bytes, 0);
        assert!(keys.state.lock().entries.is_empty());
    }

    #[test]
    fn without_an_answer_a_key_is_free_again() {
        let (keys, start) = (keys(10), Instant::now());
        drop(first(&keys, "k", start));
        drop(first(&keys, "k", start));
        assert!(keys.state.lock().answered.is_empty());
    }

    #[test]
    fn too_many_keys_are_refused_and_none_is_forgotten() {
        let (keys, start) = (keys(2), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let request = keys.digest(&"");
        first(&keys, "a", start).answered_at(request, &answer("a"), start);
        let second = first(&keys, "b", at(3));
        let Err(problem) = keys.claim_at(keys.digest(&"c"), at(3)) else {
            panic!("a third one");
        };
        assert_eq!(problem.code, Code::IdempotencyKeysExhausted);
        assert_eq!(problem.seconds(), Some(7), "when the first one goes");
        let known = keys.claim_at(keys.digest(&"a"), at(3));
        assert!(matches!(known, Ok(Found::Answered(_))));
        drop(second);
        let large = Answer::Json(StatusCode::OK, vec![0; MOST_BYTES].into());
        first(&keys, "c", at(3)).answered_at(request, &large, at(3));
        // There would be room for another one, but not for its answer.
        let full = Some(Code::IdempotencyKeysExhausted);
        assert_eq!(code(&keys, "d", at(10)), full);
        drop(first(&keys, "d", at(13)));
    }

    #[test]
    fn keys_are_strings_with_or_without_quotation_marks() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
            }
            key_of(&headers).map(|key| key.map(str::to_owned))
        };
        assert!(matches!(read(&[]), Ok(None)));
        for text in ["8e03978e-40d5", "\"8e03978e-40d5\"", " \"8e03978e-40d5\" "] {
            assert_eq!(read(&[text]).unwrap().as_deref(), Some("8e03978e-40d5"));
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in [
            &[""][..],
            &["\"\""],
            &["\"a"],
            &["a\"b"],
            &["\"\\a\""],
            &["a", "a"],
            &[&long],
        ] {
            assert_eq!(
                read(bad).unwrap_err().code,
                Code::InvalidParameter,
                "{bad:?}"
            );
        }
    }
}
