#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::super::{Aside, Asked, Durability, Ledger, Place, Value};
use super::{Findings, Promises};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const STRICT: Promises = Promises {
    journal_may_repeat: false,
    journal_may_set_aside: false,
    acked_may_return: false,
    replies_may_be_lost: false,
    ack_timeout: Duration::from_secs(5),
};

fn value(writer: &str, number: u64) -> Value {
    Value {
        writer: writer.to_owned(),
        key: format!("{writer}-0"),
        number,
    }
}

fn place(offset: i64, value: &Value) -> Place {
    Place {
        partition: 0,
        offset,
        value: value.text(),
    }
}

/// Moments, in milliseconds from a common beginning.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.0 + Duration::from_millis(milliseconds)
    }
}

/// Two writers with three messages each, all of them in Kafka, delivered and
/// acknowledged.
fn good(clock: &Clock) -> (Ledger, Vec<Place>) {
    let ledger = Ledger::default();
    ledger.writer("xadd", Durability::Kafka);
    ledger.writer("rpushx", Durability::Journal);
    ledger.group("v1");
    let mut log = Vec::new();
    for number in 0..3 {
        for writer in ["xadd", "rpushx"] {
            let value = value(writer, number);
            let offset = log.len() as i64;
            log.push(place(offset, &value));
            ledger.accepted(value, 0, clock.at(0));
        }
    }
    for (index, place) in log.iter().enumerate() {
        let now = index as u64 * 10;
        let came = clock.at(now + 2);
        ledger.delivered_at("v1", place.clone(), 1, clock.at(now + 1), came);
        ledger.acked_at("v1", place, clock.at(now + 3));
    }
    (ledger, log)
}

fn only(findings: Findings, words: &str) {
    assert_eq!(findings.broken.len(), 1, "{:?}", findings.broken);
    assert!(
        findings.broken.iter().all(|one| one.contains(words)),
        "{:?}",
        findings.broken
    );
}

#[test]
fn what_is_as_promised_is_not_found() {
    let (ledger, log) = good(&Clock::new());
    let findings = ledger.check(&log, &Aside::default(), STRICT);
    assert_eq!(findings.broken, Vec::<String>::new());
    assert_eq!(
        (findings.accepted, findings.delivered, findings.acked),
        (6, 6, 6)
    );
}

#[test]
fn a_lost_message_is_found() {
    let (ledger, mut log) = good(&Clock::new());
    log.remove(2);
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "1 accepted messages are not in Kafka",
    );
}

#[test]
fn a_message_of_before_counts_no_more() {
    let clock = Clock::new();
    let (ledger, mut log) = good(&clock);
    log.remove(2);
    ledger.0.lock().unwrap().begins = Some(clock.at(1));
    assert_eq!(
        ledger.check(&log, &Aside::default(), STRICT).broken,
        Vec::<String>::new()
    );
}

/// Delivers and acknowledges one more.
fn take(ledger: &Ledger, clock: &Clock, place: &Place) {
    ledger.delivered_at("v1", place.clone(), 1, clock.at(200), clock.at(201));
    ledger.acked_at("v1", place, clock.at(202));
}

#[test]
fn what_was_refused_has_to_be_kept_where_that_may_be() {
    let clock = Clock::new();
    let (ledger, mut log) = good(&clock);
    let lost = log.pop().unwrap();
    let refused = Promises {
        journal_may_set_aside: true,
        ..STRICT
    };
    let kept = Aside(vec![format!("\0{}\u{30}", lost.value)]);
    let findings = ledger.check(&log, &kept, refused);
    assert_eq!((findings.broken, findings.aside), (Vec::new(), 1));
    for (aside, promises) in [(&kept, STRICT), (&Aside::default(), refused)] {
        let findings = ledger.check(&log, aside, promises);
        assert_eq!(findings.aside, 0);
        only(findings, "1 accepted messages are not in Kafka");
    }
}

#[test]
fn a_doubled_message_is_found() {
    let clock = Clock::new();
    for (writer, may_repeat, is_found) in [
        ("xadd", false, true),
        ("xadd", true, true),
        ("rpushx", false, true),
        ("rpushx", true, false),
    ] {
        let (ledger, mut log) = good(&clock);
        let double = place(6, &value(writer, 0));
        take(&ledger, &clock, &double);
        log.push(double);
        let promises = Promises {
            journal_may_repeat: may_repeat,
            ..STRICT
        };
        let findings = ledger.check(&log, &Aside::default(), promises);
        if is_found {
            only(findings, "1 records are in Kafka more than once");
        } else {
            assert_eq!(findings.broken, Vec::<String>::new());
            assert_eq!(findings.repeated, 1);
        }
    }
}

#[test]
fn a_reordered_message_is_found() {
    let clock = Clock::new();
    let ledger = Ledger::default();
    ledger.writer("xadd", Durability::Kafka);
    let (first, second) = (value("xadd", 1), value("xadd", 2));
    let log = [place(0, &second), place(1, &first)];
    ledger.accepted(first, 0, clock.at(0));
    ledger.accepted(second, 1, clock.at(0));
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "stand before earlier ones",
    );
    // Two journals have no common order, one has.
    for (other, is_found) in [(1, false), (0, true)] {
        let ledger = Ledger::default();
        ledger.writer("xadd", Durability::Journal);
        ledger.accepted(value("xadd", 1), 0, clock.at(0));
        ledger.accepted(value("xadd", 2), other, clock.at(0));
        assert_eq!(
            ledger
                .check(&log, &Aside::default(), STRICT)
                .broken
                .is_empty(),
            !is_found
        );
    }
}

#[test]
fn what_was_never_delivered_is_found() {
    let (ledger, mut log) = good(&Clock::new());
    // Nobody was told yes for it, but it is there.
    log.push(place(6, &value("xadd", 99)));
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "1 records were never delivered",
    );
}

#[test]
fn an_unacknowledged_record_has_to_come_again() {
    let clock = Clock::new();
    let (ledger, mut log) = good(&clock);
    let left = place(6, &value("xadd", 99));
    ledger.delivered_at("v1", left.clone(), 1, clock.at(100), clock.at(101));
    ledger.left("v1");
    log.push(left.clone());
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "1 unacknowledged records did not come again",
    );
    take(&ledger, &clock, &left);
    assert_eq!(
        ledger.check(&log, &Aside::default(), STRICT).broken,
        Vec::<String>::new()
    );
}

#[test]
fn what_was_acknowledged_must_not_come_again() {
    let clock = Clock::new();
    let lossy = Promises {
        acked_may_return: true,
        ..STRICT
    };
    let again = |ledger: &Ledger, log: &[Place]| {
        let first = log.first().unwrap().clone();
        ledger.delivered_at("v1", first, 2, clock.at(100), clock.at(101));
    };
    let (ledger, log) = good(&clock);
    again(&ledger, &log);
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "came again after",
    );
    let findings = ledger.check(&log, &Aside::default(), lossy);
    assert_eq!((findings.broken.len(), findings.again), (0, 1));

    // Committed before the fault: no excuse. Later: that was within the bound.
    ledger.committed("v1", &BTreeSet::from([(0, 0)]));
    for (since, is_found) in [(clock.at(50), true), (clock.at(150), false)] {
        let mut book = ledger.0.lock().unwrap();
        let group = book.groups.get_mut("v1").unwrap();
        let noted = &mut group.stories.values_mut().next().unwrap().safe_since;
        assert!(noted.replace(since).is_some());
        drop(book);
        assert_eq!(
            ledger
                .check(&log, &Aside::default(), lossy)
                .broken
                .is_empty(),
            !is_found
        );
    }

    // Acknowledged while the group came together: within the bound; later: not.
    for (settled, is_found) in [(clock.at(60), false), (clock.at(0), true)] {
        let (ledger, log) = good(&clock);
        again(&ledger, &log);
        ledger.0.lock().unwrap().is_settled_since = Some(settled);
        let findings = ledger.check(&log, &Aside::default(), STRICT);
        assert_eq!(!findings.broken.is_empty(), is_found);
    }

    // Acknowledged when all was well again: none either.
    let (ledger, log) = good(&clock);
    ledger.healed();
    let late = place(0, &value("xadd", 0));
    ledger.0.lock().unwrap().is_healed_since = Some(clock.at(0));
    ledger.delivered_at("v1", late, 2, clock.at(100), clock.at(101));
    only(
        ledger.check(&log, &Aside::default(), lossy),
        "came again after",
    );
}

#[test]
fn a_delivery_that_was_under_way_is_no_return() {
    let clock = Clock::new();
    let (ledger, log) = good(&clock);
    let first = log.first().unwrap().clone();
    // Asked for before the acknowledgement.
    ledger.delivered_at("v1", first, 2, clock.at(2), clock.at(101));
    assert_eq!(
        ledger.check(&log, &Aside::default(), STRICT).broken,
        Vec::<String>::new()
    );
}

#[test]
fn a_late_acknowledgement_crosses_its_redelivery() {
    let clock = Clock::new();
    let ledger = Ledger::default();
    let value = value("xadd", 0);
    let place = place(0, &value);
    ledger.delivered_at("v1", place.clone(), 1, clock.at(0), clock.at(1));
    ledger.acked_at("v1", &place, clock.at(5_000));
    ledger.delivered_at("v1", place.clone(), 2, clock.at(5_001), clock.at(5_002));
    assert_eq!(
        ledger.check(&[place], &Aside::default(), STRICT).broken,
        Vec::<String>::new()
    );
}

#[test]
fn first_deliveries_are_in_order() {
    let clock = Clock::new();
    let (ledger, mut log) = good(&clock);
    let (early, late) = (place(6, &value("xadd", 8)), place(7, &value("xadd", 9)));
    take(&ledger, &clock, &late);
    ledger.delivered_at("v1", early.clone(), 1, clock.at(300), clock.at(301));
    ledger.acked_at("v1", &early, clock.at(302));
    log.extend([early, late.clone()]);
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "came before earlier ones",
    );
    // With a reply lost in between nothing can be said.
    ledger
        .0
        .lock()
        .unwrap()
        .groups
        .get_mut("v1")
        .unwrap()
        .lost_between = Some((clock.at(150), clock.at(250)));
    assert_eq!(
        ledger.check(&log, &Aside::default(), STRICT).broken,
        Vec::<String>::new()
    );
    // What was produced after that was in none.
    for number in [8, 9] {
        ledger.accepted(value("xadd", number), 0, clock.at(251));
    }
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "came before earlier ones",
    );
}

/// A gateway that has not heard of the end of a connection goes on to send.
#[test]
fn replies_may_be_lost_until_all_is_well_again() {
    let (ledger, mut log) = good(&Clock::new());
    ledger.may_lose();
    let clock = Clock::new();
    let (early, late) = (place(6, &value("xadd", 8)), place(7, &value("xadd", 9)));
    for number in [8, 9] {
        ledger.accepted(value("xadd", number), 0, Instant::now());
    }
    take(&ledger, &clock, &late);
    ledger.delivered_at("v1", early.clone(), 1, clock.at(300), clock.at(301));
    ledger.acked_at("v1", &early, clock.at(302));
    log.extend([early, late]);
    only(
        ledger.check(&log, &Aside::default(), STRICT),
        "came before earlier ones",
    );
    ledger.may_lose();
    assert_eq!(
        ledger.check(&log, &Aside::default(), STRICT).broken,
        Vec::<String>::new()
    );
}

/// What was sent before the acknowledgement may come long after on a stream that nothing
/// passed on for a while, and on no other one.
#[test]
fn streams_that_a_fault_has_stopped_bring_what_was_sent_before() {
    let opened = Instant::now();
    let ledger = Ledger::default();
    let sent_after = |opened, asked| ledger.streamed(opened, asked).sent_after;
    assert_eq!(sent_after(opened, opened), opened);
    ledger.may_lose();
    let fault = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    let asked = Instant::now();
    assert!(sent_after(opened, asked) <= fault);
    assert_eq!(ledger.streamed(opened, asked).at, asked);
    // Opened before the fault is over.
    assert!(sent_after(asked, asked) <= fault);
    assert!(!ledger.is_of_the_fault(opened), "it is not over");
    ledger.may_lose();
    ledger.healed();
    assert!(sent_after(opened, asked) <= fault);
    assert!(ledger.is_of_the_fault(opened));
    std::thread::sleep(Duration::from_millis(1));
    let later = Instant::now();
    assert_eq!(sent_after(later, later), later);
    assert!(!ledger.is_of_the_fault(later));
    // What is known to have been sent before the fault.
    assert_eq!(sent_after(opened, opened), opened);
}

/// Sent before the acknowledgement, though it came later: no return, and no excuse for others.
#[test]
fn what_was_under_way_on_a_stream_is_no_return() {
    let clock = Clock::new();
    let (ledger, log) = good(&clock);
    let first = log.first().unwrap().clone();
    let asked = Asked {
        at: clock.at(10_000),
        sent_after: clock.at(2),
    };
    ledger.delivered_at("v1", first.clone(), 2, asked, clock.at(10_001));
    let check = || ledger.check(&log, &Aside::default(), STRICT);
    assert_eq!(check().broken, Vec::<String>::new());
    ledger.delivered_at("v1", first, 3, clock.at(20_000), clock.at(20_001));
    only(check(), "came again after");
}
