//! Who may edit what was posted before it is produced (contract, section 8,
//! "Edit-JSON hook").
//!
//! A hook may take its time, so it never runs on a thread that serves
//! connections; as many run at the same time as there are processors.

use super::posted::{Content, form, is_document};
use super::reply::Refusal;
use crate::meter::Failure;
use barnabas_metrics::Meter;
use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Edits what is posted. Called by many threads.
pub trait EditJson: Send + Sync + 'static {
    /// What is to become of a request.
    ///
    /// # Errors
    /// It has failed, or taken too long.
    fn post(&self, request: &HookRequest) -> Result<HookOutcome, HookFailure>;

    /// A request was answered with an error. Not called when all places are
    /// taken.
    ///
    /// # Errors
    /// As those of [`post`](Self::post); they are logged.
    fn error(&self, status: u16, text: &str) -> Result<(), HookFailure>;
}

/// What was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRequest {
    /// The topic in the path, decoded; it may be none that Kafka allows.
    pub topic: String,
    /// The path.
    pub path: String,
    /// What stands behind its question mark.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// A form, decoded; of anything else nothing.
    pub pairs: Vec<HookPair>,
    /// The body as it came.
    pub raw: Bytes,
}

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPair {
    /// What stands before the `=`.
    pub name: Vec<u8>,
    /// What stands behind it; `None`: there is none (kafboy's `true`).
    pub value: Option<Vec<u8>>,
}

/// A message that a hook has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookMessage {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What a hook wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOutcome {
    /// What the client is to be told.
    pub answer: HookAnswer,
    /// To be produced before that, whatever the answer.
    pub records: Vec<HookRecord>,
}

/// A message that nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRecord {
    /// `None`: the topic in the path.
    pub topic: Option<String>,
    /// Key and value.
    pub message: HookMessage,
    /// Into the topic's batch, or at once.
    pub is_batched: bool,
}

/// What a client is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// What becomes of these messages, produced in the route's mode.
    Produce {
        /// `None`: the topic in the path.
        topic: Option<String>,
        /// In order.
        messages: Vec<HookMessage>,
    },
    /// 200 with this body, JSON.
    Reply(Vec<u8>),
    /// 400 with this text; `None`: with something that is no text.
    Error(Option<String>),
    /// The empty list.
    Empty,
    /// Something else.
    Unexpected,
}

/// Why a hook has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookFailure {
    /// In its words.
    Crashed(String),
    /// It was stopped.
    TimedOut,
}

/// A hook, and how many may run.
pub(super) struct Hook {
    editor: Arc<dyn EditJson>,
    places: Arc<Semaphore>,
    timeout: Duration,
    meter: Arc<Meter>,
}

/// A request before anything is made of it: many may wait for their turn.
pub(super) struct Asked {
    topic: String,
    uri: Uri,
    headers: HeaderMap,
    content: Content,
    body: Bytes,
}

impl Asked {
    pub(super) fn new(head: &Parts, topic: &str, content: Content, body: &Bytes) -> Self {
        Self {
            topic: topic.to_owned(),
            uri: head.uri.clone(),
            headers: head.headers.clone(),
            content,
            body: body.clone(),
        }
    }

    /// # Errors
    /// A form that cannot be decoded.
    fn request(self) -> Result<HookRequest, Refusal> {
        let pairs = match self.content {
            Content::Form if !is_document(&self.body) => form(&self.body)?,
            _ => Vec::new(),
        };
        let pairs = pairs.into_iter().map(|(name, value)| HookPair {
            name: name.into_owned(),
            value: value.map(|value| value.into_owned()),
        });
        let pairs = pairs.collect();
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        });
        Ok(HookRequest {
            path: self.uri.path().to_owned(),
            query: self.uri.query().unwrap_or_default().to_owned(),
            headers: headers.collect(),
            pairs,
            topic: self.topic,
            raw: self.body,
        })
    }
}

impl Hook {
    pub(super) fn new(editor: Arc<dyn EditJson>, timeout: Duration, meter: &Arc<Meter>) -> Self {
        let places = available_parallelism().map_or(2, usize::from);
        Self {
            editor,
            places: Arc::new(Semaphore::new(places)),
            timeout,
            meter: Arc::clone(meter),
        }
    }

    /// Its word on a request.
    pub(super) async fn post(&self, asked: Asked) -> Result<HookOutcome, Refusal> {
        let topic = asked.topic.clone();
        let work = async {
            // They are never closed.
            let place = Arc::clone(&self.places).acquire_owned().await.ok();
            let editor = Arc::clone(&self.editor);
            let run = move || {
                let outcome = asked.request().map(|request| editor.post(&request));
                drop(place);
                outcome
            };
            // A panic is the hook's.
            let ran = tokio::task::spawn_blocking(run).await;
            ran.unwrap_or_else(|error| Ok(Err(HookFailure::Crashed(error.to_string()))))
        };
        let failure = match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(Ok(outcome))) => return Ok(outcome),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => HookFailure::TimedOut,
        };
        self.meter.failed(Failure::Hook as usize);
        match failure {
            HookFailure::TimedOut => {
                tracing::error!(component = "kafboy", topic, "the hook took too long");
                Err(Refusal::timeout())
            }
            HookFailure::Crashed(text) => {
                tracing::error!(component = "kafboy", topic, "the hook failed: {text}");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Err(Refusal::new(status, "the hook failed"))
            }
        }
    }

    /// Tells it of a request that was answered with an error.
    pub(super) fn error(&self, refusal: &Refusal) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return;
        };
        let editor = Arc::clone(&self.editor);
        let (status, text) = (refusal.status.as_u16(), refusal.text.clone());
        let meter = Arc::clone(&self.meter);
        tokio::task::spawn_blocking(move || {
            if let Err(failure) = editor.error(status, &text) {
                meter.failed(Failure::Hook as usize);
                tracing::error!(component = "kafboy", "the hook failed: {failure:?}");
            }
            drop(place);
        });
    }
}
