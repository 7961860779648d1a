//! Which traces are recorded, and the queue of their spans.

use super::context::SpanContext;
use super::span::FinishedSpan;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Of the traces that begin here, or whose beginner is not asked: from 0
    /// to 1. By the trace's id, so that all who ask alike decide alike.
    pub ratio: f64,
    /// Traces that come from elsewhere are recorded if their sender does so.
    pub asks_parent: bool,
}

impl Sampler {
    /// Whether a trace is recorded.
    fn samples(self, trace_id: NonZeroU128, parent: Option<SpanContext>) -> bool {
        if let Some(parent) = parent.filter(|_| self.asks_parent) {
            return parent.is_sampled();
        }
        if self.ratio >= 1.0 {
            return true;
        }
        // As OpenTelemetry's TraceIdRatioBased: 63 of the lower 64 bits.
        let place = (trace_id.get() & u128::from(u64::MAX)) as u64 >> 1;
        (place as f64) < self.ratio * (1_u64 << 63) as f64
    }
}

/// Makes spans. Clones are the same tracer; one that is off makes none.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    sampler: Sampler,
    queue: mpsc::Sender<Box<FinishedSpan>>,
    counts: Arc<SpanCounts>,
}

/// What has become of spans since the start.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// Put into the queue.
    pub queued: AtomicU64,
    /// Found it full.
    pub dropped: AtomicU64,
}

/// Where finished spans come out.
#[derive(Debug)]
pub struct SpanQueue {
    /// The spans.
    pub spans: mpsc::Receiver<Box<FinishedSpan>>,
    /// What has become of them.
    pub counts: Arc<SpanCounts>,
}

impl Tracer {
    /// With a queue of at most `capacity` spans.
    pub fn new(sampler: Sampler, capacity: usize) -> (Self, SpanQueue) {
        let (queue, spans) = mpsc::channel(capacity.max(1));
        let counts = Arc::<SpanCounts>::default();
        let inner = Inner {
            sampler,
            queue,
            counts: Arc::clone(&counts),
        };
        (Self(Some(Arc::new(inner))), SpanQueue { spans, counts })
    }

    /// Makes no spans.
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether it makes none.
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// The first span here of a trace, if it is recorded.
    pub(super) fn sample(&self, parent: Option<SpanContext>) -> Option<SpanContext> {
        let inner = self.0.as_ref()?;
        let trace_id = parent.map_or_else(random_trace, |parent| parent.trace_id);
        inner.sampler.samples(trace_id, parent).then(|| {
            let span_id = random_span();
            match parent {
                Some(parent) => parent.child(span_id),
                None => SpanContext::root(trace_id, span_id),
            }
        })
    }

    pub(super) fn take(&self, span: Box<FinishedSpan>) {
        let Some(inner) = &self.0 else { return };
        let counter = match inner.queue.try_send(span) {
            Ok(()) => &inner.counts.queued,
            Err(_) => &inner.counts.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Seeded by the operating system, thread by thread.
pub(super) fn random_span() -> NonZeroU64 {
    NonZeroU64::new(fastrand::u64(1..)).unwrap_or(NonZeroU64::MIN)
}

fn random_trace() -> NonZeroU128 {
    NonZeroU128::new(fastrand::u128(1..)).unwrap_or(NonZeroU128::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(flags: u8) -> Option<SpanContext> {
        Some(SpanContext {
            trace_id: random_trace(),
            span_id: random_span(),
            flags,
        })
    }

    #[test]
    fn parents_decide_where_they_are_asked() {
        let sample = |ratio, asks_parent, parent| {
            let (tracer, _queue) = Tracer::new(Sampler { ratio, asks_parent }, 1);
            tracer.sample(parent)
        };
        assert_eq!(sample(1.0, true, parent(0)), None);
        let sampled = parent(1);
        let child = sample(0.0, true, sampled).unwrap();
        assert_eq!(Some(child.trace_id), sampled.map(|own| own.trace_id));
        assert_ne!(Some(child.span_id), sampled.map(|own| own.span_id));
        assert!(child.is_sampled());
        assert!(sample(1.0, false, parent(0)).is_some_and(SpanContext::is_sampled));
        assert_eq!(sample(0.0, false, sampled), None);
        assert!(sample(1.0, true, None).is_some());
        assert_eq!(sample(0.0, true, None), None);
        assert_eq!(Tracer::off().sample(sampled), None);
    }

    #[test]
    fn the_ratio_is_that_of_the_traces_and_the_same_everywhere() {
        let (tracer, _queue) = Tracer::new(
            Sampler {
                ratio: 0.25,
                asks_parent: false,
            },
            1,
        );
        let count = (0..20_000)
            .filter(|_| tracer.sample(None).is_some())
            .count();
        // 5,000 expected; ten standard deviations are 612.
        assert!((4_388..=5_612).contains(&count), "{count}");
        let own = parent(0);
        let first = tracer.sample(own).is_some();
        assert!((0..10).all(|_| tracer.sample(own).is_some() == first));
    }
}
