//! The thread that takes what librdkafka has to say.

use super::Shared;
use crate::error::KafkaError;
use crate::native::{Event, EventKind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the thread waits for an event; it is woken when it is to end.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Shared) {
    let queue = shared.client.main_queue();
    while !shared.is_ending.load(Ordering::Acquire) {
        let Some(event) = queue.poll(PATIENCE) else {
            continue;
        };
        match event.kind() {
            EventKind::DeliveryReports => book(shared, event),
            EventKind::Error => shared.observer.error(
                KafkaError::from_raw(event.error()),
                &event.error_text(),
                event.is_fatal(),
            ),
            EventKind::Statistics => shared.observer.statistics(event.statistics()),
            _ => {}
        }
    }
}

fn book(shared: &Shared, mut event: Event) {
    let mut run = Run::default();
    let mut ended = 0;
    event.each_delivery(|report| {
        ended += 1;
        let opaque = report.opaque();
        if opaque != 0 {
            shared.tickets.report(opaque, &report);
        }
        let code = report.error();
        if code != run.code {
            run.tell(shared);
            run = Run { code, messages: 0 };
        }
        run.messages += 1;
    });
    // librdkafka's queue holds a message until its report is freed.
    drop(event);
    // First, because who sees that nothing is outstanding may close.
    run.tell(shared);
    let before = shared.in_client.fetch_sub(ended, Ordering::AcqRel);
    shared.pump();
    if before == ended && shared.is_drained() {
        shared.observer.drained();
    }
}

/// Neighbouring reports with the same code.
#[derive(Default)]
struct Run {
    code: i32,
    messages: u64,
}

impl Run {
    fn tell(&self, shared: &Shared) {
        if self.messages > 0 && (self.code != 0 || shared.reports_successes) {
            let error = KafkaError::from_raw(self.code);
            shared.observer.ended(error, self.messages);
        }
    }
}
