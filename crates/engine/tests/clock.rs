//! The time of day, which may be set at any moment.

use crate::support::{PATIENCE, caller, new_topic, numbers, open, send_all, settle, values};
use std::fs;
use std::time::Instant;

/// A wait by the time of day takes as much longer as the clock is set back.
/// `vendor/monotonic-waits.patch` has librdkafka wait by the other clock.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_by_the_time_of_day() {
    let topic = new_topic("clock", 1);
    let cluster = open(&barnabas_testkit::shared().bootstrap_servers());
    let mut caller = caller(&cluster);
    let topic = caller.topic(topic.as_bytes()).unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..10)));
    settle(&caller).await;
    // Threads come and go, and most of them sleep most of the time.
    let started = Instant::now();
    let mut by_the_other_clock = 0;
    while by_the_other_clock < 100 {
        assert!(started.elapsed() < PATIENCE, "{by_the_other_clock} waits");
        for (name, clock) in timed_waits() {
            assert_eq!(clock, Clock::Monotonic, "{name}");
            by_the_other_clock += i32::from(name.starts_with("rdk:"));
        }
    }
}

#[derive(Debug, PartialEq)]
enum Clock {
    Monotonic,
    TimeOfDay,
}

/// The names of this process's threads that wait for a while, and the clock
/// by which they do: futex(2)'s `FUTEX_WAIT_BITSET`, which the C library waits
/// with for conditions.
fn timed_waits() -> Vec<(String, Clock)> {
    const FUTEX: &str = "202";
    const WAIT_BITSET: u64 = 9;
    const PRIVATE: u64 = 0x80;
    const CLOCK_REALTIME: u64 = 0x100;
    let mut waits = Vec::new();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap().path();
        let (Ok(name), Ok(call)) = (
            fs::read_to_string(thread.join("comm")),
            fs::read_to_string(thread.join("syscall")),
        ) else {
            continue; // It has ended.
        };
        // Its number, and its arguments: the word, what is done, the value, until when.
        let call: Vec<&str> = call.split_whitespace().collect();
        let [FUTEX, _, what, _, until, ..] = call[..] else {
            continue;
        };
        let what = u64::from_str_radix(&what[2..], 16).unwrap() & !PRIVATE;
        if until != "0x0" && what & !CLOCK_REALTIME == WAIT_BITSET {
            let clock = match what & CLOCK_REALTIME {
                0 => Clock::Monotonic,
                _ => Clock::TimeOfDay,
            };
            waits.push((name.trim().to_owned(), clock));
        }
    }
    waits
}
