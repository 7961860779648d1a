//! Spans: what is told of one piece of work of a trace.

use super::context::SpanContext;
use super::tracer::Tracer;
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The longest text of an attribute, in bytes: paths may be much longer.
const LONGEST_TEXT: usize = 256;

/// What a span is to the others of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request is answered.
    Server,
    /// Records are sent.
    Producer,
    /// Records have been received.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Text, cut after 256 bytes.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for Attribute {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Attribute {
    fn from(mut text: String) -> Self {
        text.truncate(cut(&text));
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl Attribute {
    /// Copies no more of a text than is kept.
    pub fn of(text: &str) -> Self {
        Self::Text(Cow::Owned(
            text.get(..cut(text)).unwrap_or_default().to_owned(),
        ))
    }
}

fn cut(text: &str) -> usize {
    text.floor_char_boundary(LONGEST_TEXT)
}

/// A span of another trace, or of this one, that a span has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which one. Its `tracestate` is left out: it is not needed to find the
    /// trace, and others decide on its length.
    pub context: SpanContext,
}

/// How it has gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SpanStatus {
    /// Nothing is wrong.
    #[default]
    Unset,
    /// It has failed, in so many words.
    Error(String),
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSpan {
    /// Itself.
    pub context: SpanContext,
    /// The span that it is a part of.
    pub parent: Option<NonZeroU64>,
    /// The trace's `tracestate`.
    pub state: Option<Arc<[u8]>>,
    /// What it is called.
    pub name: Cow<'static, str>,
    /// What it is to the others.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is known of it, by the names of OpenTelemetry's conventions.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// At most 128.
    pub links: Vec<Link>,
    /// How it has gone.
    pub status: SpanStatus,
}

/// A span that goes on. It ends, and is handed over, when it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    began: Instant,
    data: Option<Box<FinishedSpan>>,
    context: SpanContext,
}

impl Span {
    pub(super) fn begin(
        tracer: &Tracer,
        context: SpanContext,
        parent: Option<NonZeroU64>,
        state: Option<Arc<[u8]>>,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
    ) -> Self {
        let start = SystemTime::now();
        Self {
            tracer: tracer.clone(),
            began: Instant::now(),
            context,
            data: Some(Box::new(FinishedSpan {
                context,
                parent,
                state,
                name: name.into(),
                kind,
                start,
                end: start,
                attributes: Vec::with_capacity(8),
                links: Vec::new(),
                status: SpanStatus::Unset,
            })),
        }
    }

    /// Which one it is.
    pub fn context(&self) -> SpanContext {
        self.context
    }

    /// Calls it otherwise.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(data) = &mut self.data {
            data.name = name.into();
        }
    }

    /// Adds what is known of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Attribute>) {
        if let Some(data) = &mut self.data {
            data.attributes.push((name, value.into()));
        }
    }

    /// It has failed.
    pub fn fail(&mut self, text: &str) {
        if let Some(data) = &mut self.data {
            let text = text.get(..cut(text)).unwrap_or_default();
            data.status = SpanStatus::Error(text.to_owned());
        }
    }

    /// Whether it has.
    pub(super) fn has_failed(&self) -> bool {
        let data = self.data.as_ref();
        data.is_some_and(|data| data.status != SpanStatus::Unset)
    }

    /// It began then.
    pub(super) fn began_at(&mut self, began: Instant) {
        let earlier = self.began.saturating_duration_since(began);
        self.began = began;
        if let Some(data) = &mut self.data {
            data.start = data.start.checked_sub(earlier).unwrap_or(data.start);
        }
    }

    pub(super) fn link(&mut self, links: Vec<Link>) {
        if let Some(data) = &mut self.data {
            data.links = links;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            // The clock may be set meanwhile; a duration is never negative.
            let end = data.start.checked_add(self.began.elapsed());
            data.end = end.unwrap_or(data.start);
            self.tracer.take(data);
        }
    }
}
