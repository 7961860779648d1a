//! Traces: to which one a request belongs, and what is told of it.
//!
//! Two things that do not need each other:
//!
//! - **Propagation.** A trace's context comes with a request and goes into the
//!   headers of its records, from where consumers get it back (W3C Trace
//!   Context and Baggage). It is nothing but bytes that are checked and copied,
//!   and on unless switched off.
//! - **Spans.** With a [`Tracer`], requests of sampled traces are described by
//!   spans, which whoever made the tracer takes from a bounded queue and sends
//!   somewhere. What finds no room is dropped and counted: nothing here ever
//!   waits. A request that is not sampled allocates nothing for it.
//!
//! In reading order: `context` (the headers), `request` (what a request does
//! with them), `span`, `tracer` (sampling, the queue).

mod context;
mod request;
mod span;
mod tracer;

pub use context::{BAGGAGE, SpanContext, TRACEPARENT, TRACESTATE, TraceContext};
pub use request::{RequestTrace, Sending, Tracing};
pub use span::{Attribute, FinishedSpan, Link, Span, SpanKind, SpanStatus};
pub use tracer::{Sampler, SpanCounts, SpanQueue, Tracer};
