//! The thread that books delivery reports.

use super::caller::Account;
use super::receivers::{Received, Tag};
use super::renewal::{Clients, reason_of};
use super::tallies::{LastTally, Reported};
use super::tickets::{self, Answers};
use super::{Shared, UNFLUSHED_AFTER};
use crate::error::KafkaError;
use crate::native::{DeliveryReport, Event, EventKind};
use parking_lot::RwLockReadGuard;
use slab::Slab;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often accounts of dropped callers are looked at. Whoever ends the
/// thread wakes it.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// The same while a client that has failed still has messages.
const WITH_DEAD: Duration = Duration::from_millis(5);

/// Failed deliveries are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>, is_ending: &AtomicBool) {
    let mut clients = Clients::of(shared);
    let mut cleaned = Instant::now();
    let mut log = FailureLog::default();
    let mut received = Received::default();
    let mut answers = Answers::default();
    let mut tally = LastTally::default();
    while !is_ending.load(Ordering::Acquire) {
        let mut is_fatal = false;
        let mut take = |event: Event| match event.kind() {
            EventKind::DeliveryReports => {
                book(
                    shared,
                    event,
                    &mut log,
                    &mut received,
                    &mut answers,
                    &mut tally,
                );
            }
            EventKind::Error => {
                is_fatal |= event.is_fatal();
                note_error(shared, &event);
            }
            EventKind::Statistics => shared.client_statistics.publish(event.statistics()),
            _ => {}
        };
        let limit = match clients.have_dead() {
            true => WITH_DEAD,
            false => HOUSEKEEPING,
        };
        if let Some(event) = clients.queue.poll(limit) {
            take(event);
        }
        for queue in clients.dead_queues() {
            while let Some(event) = queue.poll(Duration::ZERO) {
                take(event);
            }
        }
        if is_fatal || clients.have_dead() || cleaned.elapsed() >= HOUSEKEEPING {
            clients.look_after(shared);
        }
        if cleaned.elapsed() >= HOUSEKEEPING {
            release_retired(shared);
            log.write_if_due();
            cleaned = Instant::now();
        }
    }
}

type Accounts<'a> = RwLockReadGuard<'a, Slab<Arc<Account>>>;

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
    fn settle<'a>(&self, shared: &'a Shared, accounts: &mut Option<Accounts<'a>>) {
        if self.messages == 0 {
            return;
        }
        count(shared, self.messages - self.failed, self.failed);
        let accounts = accounts.get_or_insert_with(|| shared.accounts.read());
        if let Some(account) = accounts.get(self.opaque >> 1) {
            account.settle(self.messages, self.bytes, self.failed, self.error);
        }
    }
}

pub(super) fn count(shared: &Shared, delivered: u64, failed: u64) {
    let counters = &shared.counters;
    if delivered > 0 {
        counters.delivered.fetch_add(delivered, Ordering::AcqRel);
    }
    if failed > 0 {
        counters.failed.fetch_add(failed, Ordering::AcqRel);
    }
}

fn book(
    shared: &Arc<Shared>,
    mut event: Event,
    log: &mut FailureLog,
    received: &mut Received,
    answers: &mut Answers,
    tally: &mut LastTally,
) {
    let mut is_gone = false;
    let mut reported = Reported::default();
    let mut run = Run::default();
    {
        // Locked once for many runs, and not while a sink is told.
        let mut accounts: Option<Accounts<'_>> = None;
        event.each_delivery(|report| {
            let error = report.error();
            let failed = u64::from(error != 0);
            if reported.delivered + reported.failed == 0 {
                tally.meet(&shared.tallies, report.topic_name());
            }
            reported.delivered += 1 - failed;
            reported.failed += failed;
            reported.bytes += report.bytes() * (1 - failed);
            if failed > 0 {
                let error = KafkaError::from_raw(error);
                // What is to be sent once more is not lost.
                if Tag::of(report.opaque()).is_none() || !shared.is_returned(error) {
                    log.add(&report);
                }
                // The messages of one event are all of one topic
                // (`rd_kafka_dr_msgq0`). Whoever hears of it may ask anew.
                if !is_gone && shared.is_of_absence(error) {
                    is_gone = true;
                    accounts = None;
                    shared.topic_is_gone(&report.topic());
                }
            }
            let opaque = report.opaque();
            if let Some(tag) = Tag::of(opaque) {
                accounts = None;
                received.add(shared, tag, &report);
                return;
            }
            if let Some(ticket) = tickets::parts(opaque) {
                accounts = None;
                answers.add(shared, ticket, &report);
                return;
            }
            if opaque != run.opaque {
                run.settle(shared, &mut accounts);
                run = Run {
                    opaque,
                    ..Run::default()
                };
            }
            run.messages += 1;
            run.bytes += report.bytes();
            if failed > 0 {
                run.failed += 1;
                run.error = Some(reason_of(KafkaError::from_raw(error)));
            }
        });
        run.settle(shared, &mut accounts);
    }
    received.settle(shared);
    answers.tell(shared);
    tally.add(&reported);
    // librdkafka's queue holds a message until its report is freed.
    drop(event);
    if shared.somebody_wants_room.swap(false, Ordering::AcqRel) {
        shared.progress.notify_waiters();
    }
}

fn note_error(shared: &Shared, event: &Event) {
    let text = event.error_text();
    shared
        .receivers
        .alarm(KafkaError::from_raw(event.error()), &text);
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
    } else if shared.news.is_worth_a_line(&text) {
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
