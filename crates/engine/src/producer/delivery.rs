//! The thread that books delivery reports.

use super::caller::Account;
use super::{Delivery, Shared, UNFLUSHED_AFTER};
use crate::error::{Error, KafkaError};
use crate::native::{DeliveryReport, Event, EventKind};
use slab::Slab;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often accounts of dropped callers are looked at, and how soon the
/// thread notices that it is to end.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// Failed deliveries are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>, is_ending: &AtomicBool) {
    let queue = shared.client.main_queue();
    let mut cleaned = Instant::now();
    let mut log = FailureLog::default();
    while !is_ending.load(Ordering::Acquire) {
        if let Some(event) = queue.poll(HOUSEKEEPING) {
            match event.kind() {
                EventKind::DeliveryReports => book(shared, event, &mut log),
                EventKind::Error => note_error(shared, &event),
                _ => {}
            }
        }
        if cleaned.elapsed() >= HOUSEKEEPING {
            release_retired(shared);
            log.write_if_due();
            cleaned = Instant::now();
        }
    }
}

/// Neighbouring reports of one caller, booked together.
#[derive(Default)]
struct Run {
    opaque: usize,
    messages: u64,
    bytes: u64,
    failed: u64,
    error: Option<KafkaError>,
}

impl Run {
    /// Books the run: first in the producer's counters, so that whoever sees
    /// its messages settled finds them counted.
    fn settle(&self, shared: &Shared, accounts: &Slab<Arc<Account>>) {
        if self.messages == 0 {
            return;
        }
        count(shared, self.messages - self.failed, self.failed);
        if let Some(account) = accounts.get(self.opaque >> 1) {
            account.settle(self.messages, self.bytes, self.failed, self.error);
        }
    }
}

fn count(shared: &Shared, delivered: u64, failed: u64) {
    let counters = &shared.counters;
    if delivered > 0 {
        counters.delivered.fetch_add(delivered, Ordering::AcqRel);
    }
    if failed > 0 {
        counters.failed.fetch_add(failed, Ordering::AcqRel);
    }
}

fn book(shared: &Arc<Shared>, mut event: Event, log: &mut FailureLog) {
    let mut gone: Option<String> = None;
    let mut run = Run::default();
    {
        let accounts = shared.accounts.read();
        event.each_delivery(|report| {
            let error = report.error();
            let failed = u64::from(error != 0);
            if failed > 0 {
                log.add(&report);
                if KafkaError::from_raw(error).is_unknown_topic() {
                    gone = Some(report.topic());
                }
            }
            let opaque = report.opaque();
            if opaque & 1 == 1 {
                count(shared, 1 - failed, failed);
                answer(shared, &report);
                return;
            }
            if opaque != run.opaque {
                run.settle(shared, &accounts);
                run = Run {
                    opaque,
                    ..Run::default()
                };
            }
            run.messages += 1;
            run.bytes += report.bytes();
            if failed > 0 {
                run.failed += 1;
                run.error = Some(KafkaError::from_raw(error));
            }
        });
        run.settle(shared, &accounts);
    }
    if let Some(topic) = gone {
        shared.topic_is_gone(&topic);
    }
    if shared.somebody_wants_room.swap(false, Ordering::AcqRel) {
        shared.progress.notify_waiters();
    }
}

/// Tells the one who waits for this message.
fn answer(shared: &Shared, report: &DeliveryReport<'_>) {
    let Some(ticket) = shared.tickets.lock().try_remove(report.opaque() >> 1) else {
        return;
    };
    let result = match report.error() {
        0 => Ok(Delivery {
            partition: report.partition(),
            offset: report.offset(),
            timestamp: report.timestamp(),
        }),
        code => Err(Error::from(KafkaError::from_raw(code))),
    };
    // The one who waited may have gone.
    let _ = ticket.result.send(result);
}

fn note_error(shared: &Shared, event: &Event) {
    let text = event.error_text();
    // An idle connection that a broker or firewall closes is no event worth
    // an alarm.
    if !text.contains("Connection reset by peer") {
        shared
            .counters
            .unknown_events
            .fetch_add(1, Ordering::Relaxed);
    }
    if event.is_fatal() {
        tracing::error!(component = "producer", "fatal: {text}");
    } else if shared
        .news
        .is_worth_a_line(KafkaError::from_raw(event.error()), &text)
    {
        tracing::warn!(component = "producer", "{text}");
    }
}

/// Frees the slots of dropped callers with nothing outstanding, and counts
/// what others have left unflushed. Only this thread frees slots, so that a
/// report never meets a slot of somebody else.
fn release_retired(shared: &Shared) {
    let mut retired = shared.retired.lock();
    if retired.is_empty() {
        return;
    }
    let mut accounts = shared.accounts.write();
    retired.retain_mut(|entry| {
        let outstanding = entry.account.outstanding();
        if outstanding == 0 {
            accounts.try_remove(entry.slot);
            return false;
        }
        if !entry.is_counted && entry.since.elapsed() >= UNFLUSHED_AFTER {
            entry.is_counted = true;
            shared
                .counters
                .unflushed
                .fetch_add(outstanding, Ordering::Relaxed);
            tracing::warn!(
                component = "producer",
                "{outstanding} messages are still undelivered {} s after their connection closed",
                UNFLUSHED_AFTER.as_secs()
            );
        }
        true
    });
}

/// One log line for many failures; never the payload.
#[derive(Default)]
struct FailureLog {
    count: u64,
    last: Option<(String, i32, KafkaError)>,
    written: Option<Instant>,
}

impl FailureLog {
    fn add(&mut self, report: &DeliveryReport<'_>) {
        self.count += 1;
        if self.last.is_none() {
            let error = KafkaError::from_raw(report.error());
            self.last = Some((report.topic(), report.partition(), error));
        }
    }

    fn write_if_due(&mut self) {
        let is_due = self
            .written
            .is_none_or(|written| written.elapsed() >= LOG_INTERVAL);
        if !is_due {
            return;
        }
        if let Some((topic, partition, error)) = self.last.take() {
            tracing::error!(
                component = "producer",
                "{} messages were not delivered, first to {topic} [{partition}]: {error}",
                self.count
            );
            self.count = 0;
            self.written = Some(Instant::now());
        }
    }
}
