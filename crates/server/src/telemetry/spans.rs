//! Spans in OTLP's messages.

use barnabas_engine::{Attribute, FinishedSpan, Link, SpanContext, SpanKind, SpanStatus};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, span, status,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Flags of a span: the sampling flags, and that it is known whether the
/// parent is remote (`SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`, and that it is).
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// A request to take these.
pub(super) fn request(
    resource: &Resource,
    spans: &[Box<FinishedSpan>],
) -> ExportTraceServiceRequest {
    let spans = ScopeSpans {
        scope: Some(scope()),
        spans: spans.iter().map(|span| of(span)).collect(),
        ..ScopeSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![spans],
            ..ResourceSpans::default()
        }],
    }
}

fn of(own: &FinishedSpan) -> Span {
    let is_remote = match own.kind {
        // Its parent is whoever has sent the request.
        SpanKind::Server if own.parent.is_some() => IS_REMOTE,
        _ => 0,
    };
    Span {
        trace_id: trace_id(own.context),
        span_id: span_id(own.context),
        trace_state: state(own.state.as_deref()),
        parent_span_id: own
            .parent
            .map_or_else(Vec::new, |parent| parent.get().to_be_bytes().to_vec()),
        flags: u32::from(own.context.flags) | HAS_IS_REMOTE | is_remote,
        name: own.name.clone().into_owned(),
        kind: match own.kind {
            SpanKind::Server => span::SpanKind::Server,
            SpanKind::Producer => span::SpanKind::Producer,
            SpanKind::Consumer => span::SpanKind::Consumer,
        }
        .into(),
        start_time_unix_nano: nanoseconds(own.start),
        end_time_unix_nano: nanoseconds(own.end),
        attributes: own
            .attributes
            .iter()
            .map(|(name, value)| attribute(name, value))
            .collect(),
        links: own.links.iter().map(link).collect(),
        status: match &own.status {
            SpanStatus::Unset => None,
            SpanStatus::Error(message) => Some(Status {
                message: message.clone(),
                code: status::StatusCode::Error.into(),
            }),
        },
        ..Span::default()
    }
}

fn link(own: &Link) -> span::Link {
    span::Link {
        trace_id: trace_id(own.context),
        span_id: span_id(own.context),
        flags: u32::from(own.context.flags) | HAS_IS_REMOTE | IS_REMOTE,
        ..span::Link::default()
    }
}

fn trace_id(context: SpanContext) -> Vec<u8> {
    context.trace_id.get().to_be_bytes().to_vec()
}

fn span_id(context: SpanContext) -> Vec<u8> {
    context.span_id.get().to_be_bytes().to_vec()
}

fn state(state: Option<&[u8]>) -> String {
    String::from_utf8_lossy(state.unwrap_or_default()).into_owned()
}

fn attribute(name: &str, value: &Attribute) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => Value::StringValue(text.clone().into_owned()),
        Attribute::Number(number) => Value::IntValue(*number),
    };
    key_value(name, value)
}

/// A text by name.
pub(super) fn text(name: &str, text: &str) -> KeyValue {
    key_value(name, Value::StringValue(text.to_owned()))
}

fn key_value(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Who has made spans and metrics.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "barnabas".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Since 1970, as OTLP has all times.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
