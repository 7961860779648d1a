//! Groups over several connections.

use crate::support::{Client, Gateway, Message, PATIENCE, eventually, fill, new_topic};
use barnabas_testkit::{Quickest, shared, topic_name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Waits until the group has `count` members that hold as many partitions each.
fn wait_for_shares(group: &str, count: usize, each: usize, mut pop: impl FnMut()) {
    eventually("a share for each member", || {
        pop();
        let members = shared().group_members(group).unwrap();
        let holds = |member: &barnabas_testkit::GroupMember| member.assigned.len() == each;
        (members.len() == count && members.iter().all(holds)).then_some(())
    });
}

#[test]
fn an_idle_consumer_does_not_hold_up_its_group() {
    let gateway = Gateway::start();
    // The contract says five seconds; the machine gets three more.
    let mut quickest = Quickest::of(3, Duration::from_secs(8));
    while quickest.is_missing() {
        quickest.took(half_beside_an_idle_consumer(&gateway));
    }
}

fn half_beside_an_idle_consumer(gateway: &Gateway) -> Duration {
    let topic = new_topic("idle", 4);
    let group = topic_name("idle");
    fill(&topic, 4, 10);
    let mut first = gateway.named(&format!("{group}:silent"));
    first.next(&topic);

    // From here on the first one says nothing.
    let mut second = gateway.named(&format!("{group}:busy"));
    let started = Instant::now();
    let mut seen: BTreeSet<Message> = BTreeSet::new();
    while seen.len() < 2 * 10 {
        seen.extend(second.pop(&topic, "1"));
        assert!(started.elapsed() < PATIENCE, "{}", seen.len());
    }
    let elapsed = started.elapsed();
    let partitions: BTreeSet<i64> = seen.iter().map(|message| message.partition).collect();
    assert_eq!(partitions.len(), 2, "half of the topic");
    assert_eq!(
        second.pop(&topic, "0.5"),
        None,
        "the rest is the first one's"
    );
    // The first one is still there.
    first.next(&topic);
    elapsed
}

#[test]
fn connections_of_a_group_share_a_topic() {
    let gateway = Gateway::start();
    let topic = new_topic("share", 4);
    let group = topic_name("share");
    let mut members: Vec<Client> = (0..4)
        .map(|index| gateway.named(&format!("{group}:{index}")))
        .collect();
    for member in &mut members {
        assert_eq!(member.pop(&topic, "0.05"), None);
    }
    wait_for_shares(&group, 4, 1, || {
        for member in &mut members {
            assert_eq!(member.pop(&topic, "0.05"), None);
        }
    });
    fill(&topic, 4, 100);
    let mut all: BTreeSet<Message> = BTreeSet::new();
    for member in &mut members {
        let mut last = BTreeMap::new();
        for _ in 0..100 {
            let message = member.next(&topic);
            let before = last.insert(message.partition, message.offset);
            assert!(before.is_none_or(|before| before < message.offset));
            member.ack(&message);
            assert!(all.insert(message), "nobody got it twice");
        }
        assert_eq!(last.len(), 1, "a partition each: {last:?}");
    }
    let expected: BTreeSet<Message> = (0..4)
        .flat_map(|partition| {
            let topic = topic.clone();
            (0..100).map(move |offset| Message {
                topic: topic.clone(),
                partition,
                offset,
                value: offset.to_string(),
            })
        })
        .collect();
    assert_eq!(all, expected);
}

/// What consumers that come and go have seen.
#[derive(Default)]
struct Seen {
    values: Mutex<BTreeSet<String>>,
    is_done: AtomicBool,
}

impl Seen {
    fn count(&self) -> usize {
        self.values.lock().unwrap().len()
    }

    /// Reads and acks until `enough`, or until all is over.
    fn read(&self, client: &mut Client, topic: &str, enough: usize) {
        let started = Instant::now();
        let mut count = 0;
        while count < enough && !self.is_done.load(Ordering::Acquire) {
            assert!(started.elapsed() < 6 * PATIENCE, "{} seen", self.count());
            let Some(message) = client.pop(topic, "0.2") else {
                continue;
            };
            count += 1;
            // Refused if the partition has gone in between; then it comes again elsewhere.
            client.call(&["rpush", "acks", &message.ack()]);
            self.values.lock().unwrap().insert(message.value);
        }
    }
}

#[test]
fn connections_that_come_and_go_lose_nothing() {
    const TOTAL: usize = 3_000;
    let gateway = Gateway::start();
    let topic = new_topic("come-and-go", 4);
    let group = topic_name("come-and-go");
    let seen = Seen::default();
    let produced = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = gateway.connect();
            let key = |number: usize| format!("topics:{topic}:{}", number % 32);
            while produced.load(Ordering::Acquire) < TOTAL {
                let number = produced.load(Ordering::Acquire);
                // A window: the consumers change while messages come.
                if number > seen.count() + 300 {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                let reply = producer.call(&["rpushx", &key(number), &number.to_string()]);
                assert_eq!(reply, crate::support::Reply::Integer(1));
                produced.fetch_add(1, Ordering::AcqRel);
            }
            producer.dump();
        });
        scope.spawn(|| {
            let mut steady = gateway.named(&format!("{group}:steady"));
            seen.read(&mut steady, &topic, usize::MAX);
        });
        scope.spawn(|| {
            for round in 0..4 {
                let mut visitor = gateway.named(&format!("{group}:visitor"));
                seen.read(&mut visitor, &topic, 100);
                if round % 2 == 0 {
                    visitor.quit();
                } else {
                    // Also without a word, and in the middle of a wait.
                    visitor.send(&["blpop", &format!("topics:{topic}"), "60"]);
                    drop(visitor);
                }
            }
        });
        eventually_done(&seen, TOTAL);
        seen.is_done.store(true, Ordering::Release);
    });
    let expected: BTreeSet<String> = (0..TOTAL).map(|number| number.to_string()).collect();
    assert_eq!(*seen.values.lock().unwrap(), expected);
}

fn eventually_done(seen: &Seen, total: usize) {
    let started = Instant::now();
    while seen.count() < total {
        if started.elapsed() > 6 * PATIENCE {
            seen.is_done.store(true, Ordering::Release);
            panic!("{} of {total} seen", seen.count());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
