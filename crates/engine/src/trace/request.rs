//! What a request does with its trace: it is described itself, what it sends
//! carries the trace on, and what it receives links to the traces that sent
//! it.

use super::context::{BAGGAGE, PARENT_LENGTH, SpanContext, TRACEPARENT, TRACESTATE, TraceContext};
use super::span::{Attribute, Link, Span, SpanKind};
use super::tracer::{Tracer, random_span};
use crate::dispatch::Delivered;
use crate::error::{Error, KafkaError};
use crate::outbox::Header;
use crate::producer::{Delivery, Record};
use crate::proxies::Proxy;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::time::Instant;

/// Links of one span: OpenTelemetry's own limit.
const MOST_LINKS: usize = 128;

/// What is configured of tracing, for front ends. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// Contexts go from requests into records, and back.
    pub propagates: bool,
    /// Makes the spans.
    pub tracer: Tracer,
}

impl Default for Tracing {
    /// Contexts are propagated; there are no spans.
    fn default() -> Self {
        Self {
            propagates: true,
            tracer: Tracer::off(),
        }
    }
}

impl Tracing {
    /// Whether a request's headers need not even be looked at.
    pub fn is_off(&self) -> bool {
        !self.propagates && self.tracer.is_off()
    }

    /// A request has come, with this context. Its span is there if the trace
    /// is recorded, and ends where the caller drops it.
    pub fn begin(
        &self,
        context: TraceContext,
        name: impl FnOnce() -> Cow<'static, str>,
    ) -> (RequestTrace, Option<Span>) {
        let own = self.tracer.sample(context.parent);
        let span = own.map(|own| {
            let parent = context.parent.map(|parent| parent.span_id);
            let state = context.state.clone();
            Span::begin(&self.tracer, own, parent, state, SpanKind::Server, name())
        });
        let request = RequestTrace {
            // What is recorded needs the tracer; all else does not.
            tracer: match own {
                Some(_) => self.tracer.clone(),
                None => Tracer::off(),
            },
            own,
            context: match self.propagates {
                true => context,
                // Its state goes on with the spans.
                false => TraceContext {
                    baggage: None,
                    ..context
                },
            },
            propagates: self.propagates,
        };
        (request, span)
    }
}

/// The trace of one request. Nothing is allocated to clone it.
#[derive(Debug, Clone, Default)]
pub struct RequestTrace {
    tracer: Tracer,
    /// The request's span.
    own: Option<SpanContext>,
    context: TraceContext,
    propagates: bool,
}

impl RequestTrace {
    /// Records are about to be sent to a topic.
    pub fn sending(&self, topic: &str) -> Sending {
        let span = self.own.map(|own| {
            let name = format!("send {}", shown(topic));
            let mut span = self.child(own, SpanKind::Producer, name);
            span.set("messaging.system", "kafka");
            span.set("messaging.operation.name", "send");
            span.set("messaging.operation.type", "send");
            span.set("messaging.destination.name", Attribute::of(topic));
            span
        });
        let parent = span.as_ref().map(Span::context).or(self.context.parent);
        let parent = parent.filter(|_| self.propagates);
        Sending {
            parent: parent.map(SpanContext::to_traceparent),
            context: match self.propagates {
                true => self.context.clone(),
                false => TraceContext::default(),
            },
            span: span.map(Mutex::new),
        }
    }

    /// Records of a topic have been received for a group by who began to ask
    /// at that time.
    pub fn received(&self, group: &str, topic: &str, asked: Instant, records: &[Delivered]) {
        let Some(own) = self.own.filter(|_| !records.is_empty()) else {
            return;
        };
        let name = format!("receive {}", shown(topic));
        let mut span = self.child(own, SpanKind::Consumer, name);
        span.began_at(asked);
        span.set("messaging.system", "kafka");
        span.set("messaging.operation.name", "receive");
        span.set("messaging.operation.type", "receive");
        span.set("messaging.destination.name", Attribute::of(topic));
        span.set("messaging.consumer.group.name", Attribute::of(group));
        match records {
            [one] => {
                let partition = one.partition.to_string();
                span.set("messaging.destination.partition.id", partition);
                span.set("messaging.kafka.offset", one.offset);
            }
            many => span.set("messaging.batch.message_count", number(many.len())),
        }
        let links = records.iter().filter_map(|record| {
            let context = record.record.trace().parent?;
            Some(Link { context })
        });
        span.link(links.take(MOST_LINKS).collect());
    }

    /// The context that a single received record brings back to whoever has
    /// asked for it; empty where contexts are not propagated.
    pub fn of_received(&self, records: &[Delivered]) -> TraceContext {
        match records {
            [one] if self.propagates => one.record.trace(),
            _ => TraceContext::default(),
        }
    }

    /// Whether its spans are recorded.
    pub fn is_recorded(&self) -> bool {
        self.own.is_some()
    }

    /// The bytes that a record gets from it, names included; 0: none.
    pub fn header_bytes(&self) -> u64 {
        if !self.propagates {
            return 0;
        }
        let length = |name: &str, value: Option<usize>| value.map_or(0, |value| name.len() + value);
        let parent = self.own.or(self.context.parent).map(|_| PARENT_LENGTH);
        let state = self.context.state.as_deref().map(<[u8]>::len);
        let baggage = self.context.baggage.as_deref().map(<[u8]>::len);
        let bytes =
            length(TRACEPARENT, parent) + length(TRACESTATE, state) + length(BAGGAGE, baggage);
        bytes as u64
    }

    fn child(&self, own: SpanContext, kind: SpanKind, name: String) -> Span {
        let context = own.child(random_span());
        let state = self.context.state.clone();
        let parent = Some(own.span_id);
        Span::begin(&self.tracer, context, parent, state, kind, name)
    }
}

/// A topic's name, not longer than names are; it need not be one.
fn shown(topic: &str) -> &str {
    let end = topic.floor_char_boundary(249);
    topic.get(..end).unwrap_or_default()
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Records that carry a trace on. Where it is recorded, this is the span of
/// sending them, which ends when this is dropped.
#[derive(Debug, Default)]
pub struct Sending {
    parent: Option<[u8; PARENT_LENGTH]>,
    context: TraceContext,
    span: Option<Mutex<Span>>,
}

impl Sending {
    /// Adds the context to the headers of a record, unless they have one
    /// already, in whatever case: who has written it knows better.
    pub fn add_to<'a>(&'a self, headers: &mut Vec<Header<'a>>) {
        let has = |headers: &[Header<'a>], name: &str| {
            let mut names = headers.iter().map(|(own, _)| own);
            names.any(|own| own.eq_ignore_ascii_case(name))
        };
        if let Some(parent) = &self.parent
            && !has(headers, TRACEPARENT)
        {
            headers.push((TRACEPARENT, Some(parent)));
            if let Some(state) = self
                .context
                .state
                .as_deref()
                .filter(|_| !has(headers, TRACESTATE))
            {
                headers.push((TRACESTATE, Some(state)));
            }
        }
        if let Some(baggage) = self.context.baggage.as_deref()
            && !has(headers, BAGGAGE)
        {
            headers.push((BAGGAGE, Some(baggage)));
        }
    }

    /// [`add_to`](Self::add_to) where the cluster has headers, and the record
    /// is not too large with them.
    pub fn add_where_it_fits<'a>(
        &'a self,
        proxy: &Proxy,
        record: Record<'_>,
        headers: &mut Vec<Header<'a>>,
    ) {
        if self.is_empty() || !proxy.options.has_headers {
            return;
        }
        let count = headers.len();
        self.add_to(headers);
        if proxy.check_size(record, headers).is_err() {
            headers.truncate(count);
        }
    }

    /// What a record without headers gets.
    pub fn headers(&self) -> Vec<Header<'_>> {
        let mut headers = Vec::new();
        self.add_to(&mut headers);
        headers
    }

    /// Whether records get nothing from it.
    pub fn is_empty(&self) -> bool {
        self.parent.is_none() && self.context.baggage.is_none()
    }

    /// How many records it was.
    pub fn count(&self, records: usize) {
        if let Some(span) = &self.span {
            let records = number(records);
            span.lock().set("messaging.batch.message_count", records);
        }
    }

    /// Where the only record is.
    pub fn written(&self, place: Delivery) {
        if let Some(span) = &self.span {
            let mut span = span.lock();
            let partition = place.partition.to_string();
            span.set("messaging.destination.partition.id", partition);
            if place.offset >= 0 {
                span.set("messaging.kafka.offset", place.offset);
            }
        }
    }

    /// It has failed.
    pub fn failed(&self, error: &Error) {
        match error {
            Error::Kafka { error } => self.failed_by(*error),
            Error::Closed => self.failed_as("closed", || error.to_string()),
            Error::Journal { .. } => self.failed_as("journal", || error.to_string()),
            _ => self.failed_as("_OTHER", || error.to_string()),
        }
    }

    /// Kafka has refused it, or librdkafka.
    pub fn failed_by(&self, error: KafkaError) {
        self.fail(|span| {
            let name = error.name_and_text();
            let name = name.split(' ').next().unwrap_or_default();
            span.set("error.type", Attribute::of(name));
            span.fail(&error.text());
        });
    }

    /// It has failed: in a word of which there are few, and in many.
    pub fn failed_as(&self, kind: &'static str, text: impl FnOnce() -> String) {
        self.fail(|span| {
            span.set("error.type", kind);
            span.fail(&text());
        });
    }

    /// The first failure is told; there may be as many as records.
    fn fail(&self, tell: impl FnOnce(&mut Span)) {
        if let Some(span) = &self.span {
            let mut span = span.lock();
            if !span.has_failed() {
                tell(&mut span);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::ConsumedRecord;
    use crate::trace::{Sampler, SpanQueue, SpanStatus};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn context(parent: &'static str) -> TraceContext {
        TraceContext::read([parent.as_bytes()], [&b"a=1"[..]], [&b"k=v"[..]])
    }

    fn recording(capacity: usize) -> (Tracing, SpanQueue) {
        let sampler = Sampler {
            ratio: 0.0,
            asks_parent: true,
        };
        let (tracer, queue) = Tracer::new(sampler, capacity);
        let tracing = Tracing {
            propagates: true,
            tracer,
        };
        (tracing, queue)
    }

    fn headers(sending: &Sending, own: &[&'static str]) -> Vec<(String, String)> {
        let mut headers: Vec<Header<'_>> =
            own.iter().map(|own| (*own, Some(&b"own"[..]))).collect();
        sending.add_to(&mut headers);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let added = headers.iter().skip(own.len());
        added
            .map(|(name, value)| ((*name).to_owned(), text(value.unwrap())))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn contexts_are_passed_on_as_they_are_where_nothing_is_recorded() {
        let tracing = Tracing::default();
        let (request, span) = tracing.begin(context(PARENT), || panic!("no span, no name"));
        assert!(span.is_none());
        let all = [
            pair("traceparent", PARENT),
            pair("tracestate", "a=1"),
            pair("baggage", "k=v"),
        ];
        let sending = request.sending("t");
        assert_eq!(headers(&sending, &[]), all);
        let length: usize = all
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert_eq!(request.header_bytes(), length as u64);
        assert_eq!(headers(&sending, &["TraceParent"]), all[2..]);
        assert_eq!(headers(&sending, &["traceparent", "Baggage"]), []);
        // A state belongs to the parent beside it.
        assert_eq!(
            headers(&sending, &["tracestate"]),
            [all[0].clone(), all[2].clone()]
        );
        let off = Tracing {
            propagates: false,
            ..Tracing::default()
        };
        let (request, _) = off.begin(context(PARENT), || panic!("no span, no name"));
        assert!(off.is_off() && request.sending("t").is_empty());
    }

    #[test]
    fn spans_of_a_request_are_parts_of_each_other() {
        let (tracing, mut queue) = recording(10);
        let (request, server) = tracing.begin(context(PARENT), || "POST /x".into());
        let parent = SpanContext::parse(PARENT.as_bytes()).unwrap();
        let sending = request.sending("t");
        let carried = headers(&sending, &[]).swap_remove(0).1;
        sending.failed_as("x", || "no".to_owned());
        sending.failed_as("y", || panic!("told once"));
        drop(sending);
        let sent = queue.spans.try_recv().unwrap();
        assert_eq!(carried.as_bytes(), sent.context.to_traceparent());
        assert_eq!((&*sent.name, sent.kind), ("send t", SpanKind::Producer));
        assert_eq!(sent.status, SpanStatus::Error("no".to_owned()));
        let server = server.unwrap();
        assert_eq!(sent.parent, Some(server.context().span_id));
        drop(server);
        let served = queue.spans.try_recv().unwrap();
        assert_eq!(served.parent, Some(parent.span_id));
        assert_eq!(served.state.as_deref(), Some(&b"a=1"[..]));
        assert_eq!(served.context.trace_id, parent.trace_id);
        assert!(served.end >= served.start && sent.start >= served.start);
    }

    #[test]
    fn received_records_are_linked_and_bring_their_context_back() {
        let record = |parent: &'static str| Delivered {
            partition: 3,
            offset: 7,
            number: 1,
            record: Arc::new(ConsumedRecord {
                key: None,
                value: None,
                headers: vec![(Bytes::from_static(b"traceparent"), Some(parent.into()))],
                timestamp: None,
            }),
        };
        let (tracing, mut queue) = recording(10);
        let (request, _server) = tracing.begin(context(PARENT), || "x".into());
        let one = [record(UNSAMPLED)];
        let sent = SpanContext::parse(UNSAMPLED.as_bytes());
        request.received("g", "t", Instant::now(), &one);
        assert_eq!(request.of_received(&one).parent(), sent);
        let span = queue.spans.try_recv().unwrap();
        assert_eq!((&*span.name, span.kind), ("receive t", SpanKind::Consumer));
        assert_eq!(span.links.first().map(|link| link.context), sent);
        let offset = ("messaging.kafka.offset", Attribute::Number(7));
        assert!(span.attributes.contains(&offset));
        let many: Vec<_> = (0..200).map(|_| record(PARENT)).collect();
        request.received("g", "t", Instant::now(), &many);
        assert_eq!(queue.spans.try_recv().unwrap().links.len(), MOST_LINKS);
        assert!(request.of_received(&many).is_empty());
        request.received("g", "t", Instant::now(), &[]);
        assert!(queue.spans.try_recv().is_err(), "nothing was received");
    }

    #[test]
    fn nothing_is_made_of_a_trace_that_is_not_recorded() {
        let (tracing, mut queue) = recording(10);
        let (request, span) = tracing.begin(context(UNSAMPLED), || panic!("no span, no name"));
        assert!(span.is_none());
        let sending = request.sending("t");
        assert_eq!(headers(&sending, &[])[0], pair("traceparent", UNSAMPLED));
        drop(sending);
        assert!(queue.spans.try_recv().is_err());
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (tracing, mut queue) = recording(2);
        for _ in 0..5 {
            drop(tracing.begin(context(PARENT), || "x".into()).1);
        }
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counts = Arc::clone(&queue.counts);
        assert_eq!((count(&counts.queued), count(&counts.dropped)), (2, 3));
        assert!(queue.spans.try_recv().is_ok());
        drop(tracing.begin(context(PARENT), || "x".into()).1);
        assert_eq!(count(&counts.queued), 3);
        // Nobody takes them any more.
        drop(queue);
        drop(tracing.begin(context(PARENT), || "x".into()).1);
        assert_eq!(count(&counts.dropped), 4);
    }

    #[test]
    fn texts_are_cut() {
        let (tracing, mut queue) = recording(2);
        let (request, _span) = tracing.begin(context(PARENT), || "x".into());
        drop(request.sending(&"\u{e9}".repeat(5_000)));
        let span = queue.spans.try_recv().unwrap();
        assert!(span.name.len() < 256);
        let long = |(_, value): &(_, Attribute)| matches!(value, Attribute::Text(text) if text.len() > 256);
        assert!(!span.attributes.iter().any(long));
    }
}
