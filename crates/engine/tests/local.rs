//! Consumers that keep their offsets themselves: batches, positions, pauses, ends.
//!
//! Contract: `node.md`, sections 6, 7 and 13.

use crate::support::{PATIENCE, fill, new_topic, properties};
use barnabas_engine::{
    Error, KafkaError, LocalBatch, LocalConfig, LocalConsumer, LocalSink, OffsetDirectory,
    Progress, WorkerSlot,
};
use barnabas_testkit::{Cluster, Quickest, shared, shared_auto_create, topic_name};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Partition and offset of each record; error number and partition of each mark.
type Came = (Vec<(i32, i64)>, Vec<(i32, i32)>);

/// What a sink was told.
#[derive(Debug)]
enum Told {
    Batch(Came),
    Log(i32, String, String),
    Error(KafkaError),
    Statistics(String),
}

struct Ear(mpsc::Sender<Told>);

impl LocalSink for Ear {
    fn batch(&mut self, batch: &LocalBatch<'_>) {
        let places = batch.records().map(|one| (one.partition(), one.offset()));
        let marks = batch
            .marks()
            .map(|mark| (mark.error.number(), mark.partition));
        let _ = self
            .0
            .send(Told::Batch((places.collect(), marks.collect())));
    }

    fn log(&mut self, level: i32, facility: &str, line: &str) {
        let _ = self
            .0
            .send(Told::Log(level, facility.to_owned(), line.to_owned()));
    }

    fn error(&mut self, error: KafkaError, _reason: &str, _is_fatal: bool) {
        let _ = self.0.send(Told::Error(error));
    }

    fn statistics(&mut self, json: String) {
        let _ = self.0.send(Told::Statistics(json));
    }
}

fn config(cluster: &Cluster, topic: &str, client: &[(&str, &str)]) -> LocalConfig {
    let mut client = properties(client);
    client.set("metadata.broker.list", cluster.bootstrap_servers());
    LocalConfig::new(topic, client)
}

fn open(config: LocalConfig) -> (LocalConsumer, mpsc::Receiver<Told>) {
    let (sender, told) = mpsc::channel();
    (LocalConsumer::open(config, Ear(sender)).unwrap(), told)
}

/// The next batch that has records or marks.
fn batch(told: &mpsc::Receiver<Told>) -> Came {
    loop {
        match told.recv_timeout(PATIENCE).expect("a batch comes") {
            Told::Batch(came) => return came,
            Told::Log(..) | Told::Error(_) | Told::Statistics(_) => {}
        }
    }
}

/// The next `count` records, misses, repeats, and what of the misses has expired.
fn read(
    consumer: &LocalConsumer,
    told: &mpsc::Receiver<Told>,
    progress: &mut Progress,
    count: usize,
) -> (Vec<(i32, i64)>, u64, u64, u64) {
    let mut seen = (Vec::new(), 0, 0, 0);
    while seen.0.len() < count {
        let (records, _) = batch(told);
        let start = |partition| consumer.log_start(partition);
        let summary = progress.hand_over(records.iter().copied(), start);
        seen.0.extend(records);
        seen.1 += summary.misses;
        seen.2 += summary.repeats;
        seen.3 += summary.expired;
        consumer.taken();
    }
    seen
}

/// Reads `count` records of partition 0 as an owner who has stored `stored`.
fn read_from(
    config: LocalConfig,
    stored: Option<i64>,
    count: usize,
) -> (Vec<(i32, i64)>, u64, u64, u64) {
    let (consumer, told) = open(config);
    let mut progress = Progress::new([(0, stored)]);
    consumer
        .start(&progress.expected().collect::<Vec<_>>())
        .unwrap();
    read(&consumer, &told, &mut progress, count)
}

fn places(partition: i32, offsets: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    offsets.map(|offset| (partition, offset)).collect()
}

#[test]
fn batches_are_full_or_their_time_is_over() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 25_000);
    let mut own = config(shared(), &topic, &[]);
    // Full ones leave at once; only the last one's time is over.
    own.linger = Duration::from_secs(8);
    let (consumer, told) = open(own);
    consumer.start(&[(0, 0)]).unwrap();
    let mut next = 0;
    for size in [10_000, 10_000, 5_000] {
        let (records, marks) = batch(&told);
        assert_eq!(records, places(0, next..next + size));
        assert_eq!(marks, []);
        next += size;
        consumer.taken();
    }
}

#[test]
fn a_lone_message_waits_no_longer_than_the_linger_time() {
    let topic = new_topic("local", 1);
    let (consumer, told) = open(config(shared(), &topic, &[]));
    consumer.start(&[(0, 0)]).unwrap();
    let mut offset = 0;
    let mut quickest = Quickest::of(20, Duration::from_millis(100));
    while quickest.is_missing() {
        shared()
            .produce(&topic, Some(0), None, Some(b"one"))
            .unwrap();
        let produced = Instant::now();
        assert_eq!(batch(&told).0, [(0, offset)]);
        quickest.took(produced.elapsed());
        offset += 1;
        consumer.taken();
    }
}

#[test]
fn where_a_worker_goes_on() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 10);
    let own = || config(shared(), &topic, &[]);
    // No file.
    assert_eq!(read_from(own(), None, 10), (places(0, 0..10), 0, 0, 0));
    // 3 was processed.
    assert_eq!(read_from(own(), Some(3), 6), (places(0, 4..10), 0, 0, 0));
    // The topic was made anew and is shorter.
    assert_eq!(read_from(own(), Some(899), 10), (places(0, 0..10), 0, 1, 0));
    // All was processed: the next message, and no reset.
    let (consumer, told) = open(own());
    let mut progress = Progress::new([(0, Some(9))]);
    consumer.start(&[(0, 10)]).unwrap();
    shared().produce(&topic, Some(0), None, None).unwrap();
    let seen = read(&consumer, &told, &mut progress, 1);
    assert_eq!(seen, (vec![(0, 10)], 0, 0, 0));
}

#[test]
fn what_has_expired_is_jumped_over_and_told() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 10);
    shared().delete_records(&topic, 0, 6).unwrap();
    let own = || config(shared(), &topic, &[]);
    assert_eq!(read_from(own(), Some(1), 4), (places(0, 6..10), 4, 0, 4));
    assert_eq!(read_from(own(), None, 4), (places(0, 6..10), 6, 0, 6));
}

#[test]
fn auto_offset_reset_decides_what_is_out_of_range() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 10);
    let own = |reset: &str| LocalConfig {
        of_topic: properties(&[("auto.offset.reset", reset)]),
        ..config(shared(), &topic, &[])
    };
    let (consumer, told) = open(own("error"));
    consumer.start(&[(0, 900)]).unwrap();
    let (records, marks) = batch(&told);
    assert_eq!((records, marks), (vec![], vec![(-140, 0)]));
    drop(consumer);
    let (consumer, told) = open(own("largest"));
    let mut progress = Progress::new([(0, Some(899))]);
    consumer.start(&[(0, 900)]).unwrap();
    // The reset is told before anything is fetched from the new place.
    let is_reset = |told: &Told| matches!(told, Told::Log(_, facility, _) if facility == "OFFSET");
    while !is_reset(&told.recv_timeout(PATIENCE).unwrap()) {}
    let mut sent = 10;
    let seen = loop {
        // Until the end was asked for, what comes lies below it.
        shared().produce(&topic, Some(0), None, None).unwrap();
        sent += 1;
        if let Ok(Told::Batch((records, _))) = told.recv_timeout(Duration::from_millis(200)) {
            break progress.hand_over(records, |_| None);
        }
    };
    assert_eq!((seen.misses, seen.repeats), (0, 1), "of {sent}");
    assert!(seen.jumps_back[0].offset >= 10, "{seen:?}");
}

#[test]
fn nothing_is_handed_over_while_paused() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 5);
    let (consumer, told) = open(config(shared(), &topic, &[]));
    consumer.start(&[(0, 0)]).unwrap();
    assert_eq!(batch(&told).0, places(0, 0..5));
    consumer.taken();
    consumer.pause();
    fill(&topic, 1, 5);
    let paused = told.recv_timeout(Duration::from_millis(300));
    assert!(!matches!(paused, Ok(Told::Batch(..))), "{paused:?}");
    consumer.resume();
    let mut progress = Progress::new([(0, Some(4))]);
    let seen = read(&consumer, &told, &mut progress, 5);
    assert_eq!(seen, (places(0, 5..10), 0, 0, 0));
}

#[test]
fn no_more_batches_are_handed_over_than_may_be_ahead() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 100);
    let mut own = config(shared(), &topic, &[]);
    (own.max_messages, own.linger) = (10, Duration::ZERO);
    let (consumer, told) = open(own);
    consumer.start(&[(0, 0)]).unwrap();
    let mut came = batch(&told).0;
    came.extend(batch(&told).0);
    let third = told.recv_timeout(Duration::from_millis(300));
    assert!(!matches!(third, Ok(Told::Batch(..))), "{third:?}");
    consumer.taken();
    while came.len() < 100 {
        came.extend(batch(&told).0);
        consumer.taken();
    }
    assert_eq!(came, places(0, 0..100));
}

#[test]
fn fetching_stops_at_the_limit_of_all_partitions() {
    let topic = new_topic("local", 4);
    fill(&topic, 4, 3_000);
    let mut own = config(
        shared(),
        &topic,
        &[
            ("queued.min.messages", "1000"),
            ("fetch.message.max.bytes", "1000"),
            ("statistics.interval.ms", "100"),
        ],
    );
    own.max_messages = 100;
    let (consumer, told) = open(own);
    let all: Vec<(i32, i64)> = (0..4).map(|id| (id, 0)).collect();
    consumer.start(&all).unwrap();
    // Two batches are out, and nobody takes them: the number settles.
    let mut seen = 0;
    let mut waiting = || loop {
        match told.recv_timeout(PATIENCE).unwrap() {
            Told::Statistics(json) => {
                let json: serde_json::Value = serde_json::from_str(&json).unwrap();
                let own = &json["topics"][&topic]["partitions"]["0"]["fetchq_cnt"];
                if let Some(count) = own.as_u64().filter(|count| *count > 0) {
                    break count;
                }
            }
            Told::Batch((records, _)) => seen += records.len(),
            Told::Log(..) | Told::Error(_) => {}
        }
    };
    let mut last = waiting();
    loop {
        let next = waiting();
        // Before there are as many, the same number only says that an answer is late.
        if next == last && last >= 900 {
            break;
        }
        last = next;
    }
    // Each broker may answer once more for each partition.
    assert!(last < 4_500, "{last}");
    for _ in 0..2 {
        consumer.taken();
    }
    let mut progress = Progress::new((0..4).map(|id| (id, None)));
    while seen < 12_000 {
        match told.recv_timeout(PATIENCE).unwrap() {
            Told::Batch((records, _)) => {
                seen += records.len();
                progress.hand_over(records, |_| None);
                consumer.taken();
            }
            Told::Log(..) | Told::Error(_) | Told::Statistics(_) => {}
        }
    }
    assert_eq!(seen, 12_000);
}

#[test]
fn ends_of_partitions_are_told_to_those_who_ask() {
    let topic = new_topic("local", 2);
    fill(&topic, 1, 3);
    let mut own = config(shared(), &topic, &[]);
    own.has_end_marks = true;
    let (consumer, told) = open(own);
    consumer.start(&[(0, 0), (1, 0)]).unwrap();
    let (mut records, mut ends) = (Vec::new(), Vec::new());
    while records.len() < 3 || ends.len() < 2 {
        let (more, marks) = batch(&told);
        records.extend(more);
        ends.extend(marks);
        consumer.taken();
    }
    ends.sort_unstable();
    assert_eq!(records, places(0, 0..3));
    assert_eq!(ends, [(-191, 0), (-191, 1)]);
}

#[test]
fn partitions_are_added_and_those_that_do_not_exist_are_waited_for() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 2);
    let own = config(
        shared(),
        &topic,
        &[("topic.metadata.refresh.interval.ms", "200")],
    );
    let (consumer, told) = open(own);
    consumer.start(&[(0, 0), (1, 0)]).unwrap();
    assert_eq!(consumer.partition_count(PATIENCE).unwrap(), 1);
    shared().add_partitions(&topic, 3).unwrap();
    shared().produce(&topic, Some(1), None, None).unwrap();
    shared().produce(&topic, Some(2), None, None).unwrap();
    consumer.start(&[(0, 0), (2, 0)]).unwrap();
    let mut came = Vec::new();
    while came.len() < 4 {
        came.extend(batch(&told).0);
        consumer.taken();
    }
    came.sort_unstable();
    assert_eq!(came, [(0, 0), (0, 1), (1, 0), (2, 0)]);
    assert_eq!(consumer.partition_count(PATIENCE).unwrap(), 3);
}

#[test]
fn a_topic_is_created_by_asking_for_it() {
    let topic = topic_name("local");
    let (consumer, _told) = open(config(shared_auto_create(), &topic, &[]));
    let asked = Instant::now();
    let count = loop {
        match consumer.partition_count(PATIENCE) {
            Ok(count) => break count,
            Err(Error::Kafka { .. }) if asked.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(count > 0);
    // Also when it is over.
    consumer.stop();
    assert_eq!(consumer.partition_count(PATIENCE).unwrap(), count);
}

/// Takes a batch, says so, and panics.
struct Panicking(mpsc::Sender<()>);

impl LocalSink for Panicking {
    fn batch(&mut self, _: &LocalBatch<'_>) {
        let _ = self.0.send(());
        panic!("as the test wants it");
    }
}

#[test]
fn nobody_waits_for_a_sink_that_has_panicked() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 1);
    let (sender, told) = mpsc::channel();
    let config = config(shared(), &topic, &[]);
    let consumer = LocalConsumer::open(config, Panicking(sender)).unwrap();
    consumer.start(&[(0, 0)]).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    let (sender, paused) = mpsc::channel();
    std::thread::spawn(move || {
        consumer.pause();
        sender.send(())
    });
    paused.recv_timeout(PATIENCE).expect("it is over");
}

#[test]
fn stopping_is_quick_and_final() {
    let mut quickest = Quickest::of(3, Duration::from_secs(2));
    while quickest.is_missing() {
        quickest.took(stop_while_fetching());
    }
}

fn stop_while_fetching() -> Duration {
    let topic = new_topic("local", 3);
    fill(&topic, 3, 1_000);
    // A broker that is not there is no reason to wait.
    let mut own = config(shared(), &topic, &[]);
    let brokers = format!("{},127.0.0.1:1", shared().bootstrap_servers());
    own.client.set("metadata.broker.list", brokers);
    own.max_messages = 100;
    let (consumer, told) = open(own);
    consumer.start(&[(0, 0), (1, 0), (2, 0)]).unwrap();
    batch(&told);
    let began = Instant::now();
    consumer.stop();
    let stopped = began.elapsed();
    // The sink is gone, and with it its end of the channel.
    while told.recv_timeout(PATIENCE).is_ok() {}
    consumer.stop();
    assert!(matches!(consumer.start(&[(0, 0)]), Err(Error::Closed)));
    stopped
}

#[test]
fn logs_and_errors_are_told_and_our_defaults_are_no_reason_for_warnings() {
    let topic = new_topic("local", 1);
    fill(&topic, 1, 1);
    let (consumer, told) = open(config(shared(), &topic, &[]));
    consumer.start(&[(0, 0)]).unwrap();
    let mut lines = Vec::new();
    loop {
        match told.recv_timeout(PATIENCE).unwrap() {
            Told::Batch(..) => break,
            Told::Log(level, facility, line) => lines.push((level, facility, line)),
            Told::Error(error) => panic!("{error:?}"),
            Told::Statistics(json) => panic!("nobody wants them: {json}"),
        }
    }
    lines.retain(|(level, ..)| *level <= 4);
    assert_eq!(lines, []);
    let own = LocalConfig::new(
        "t",
        properties(&[
            ("metadata.broker.list", "127.0.0.1:1"),
            ("queued.max.messages.kbytes", "3000000"),
        ]),
    );
    let (_consumer, told) = open(own);
    let (mut is_warned, mut has_failed) = (false, false);
    while !is_warned || !has_failed {
        match told.recv_timeout(PATIENCE).unwrap() {
            Told::Log(4, facility, line) if facility == "CONFWARN" => {
                assert!(line.contains("2097151"), "{line}");
                is_warned = true;
            }
            Told::Error(_) => has_failed = true,
            Told::Log(..) | Told::Batch(..) | Told::Statistics(_) => {}
        }
    }
}

#[test]
fn workers_go_on_where_their_files_say() {
    let topic = new_topic("local", 5);
    fill(&topic, 5, 200);
    let folder = tempfile::tempdir().unwrap();
    let directory = OffsetDirectory::new(folder.path(), &topic);
    let mut seen: Vec<(i32, i64)> = Vec::new();
    // Each slot comes three times, and reads a part each time.
    for slot in [0, 1, 0, 1, 0, 1] {
        let slot = WorkerSlot::new(2, slot).unwrap();
        let mut own = config(shared(), &topic, &[]);
        own.max_messages = 30;
        let (consumer, told) = open(own);
        let count = consumer.partition_count(PATIENCE).unwrap();
        let partitions = slot.partitions(&topic, count).unwrap();
        let stored = directory.read(&partitions).unwrap();
        let stored: Vec<_> = partitions.iter().copied().zip(stored).collect();
        let rest = |last: Option<i64>| 199 - last.unwrap_or(-1);
        let rest: i64 = stored.iter().map(|(_, last)| rest(*last)).sum();
        let mut progress = Progress::new(stored);
        let wanted = rest.min(300);
        let positions: Vec<_> = progress.expected().collect();
        consumer.start(&positions).unwrap();
        let mut came = 0;
        while came < wanted {
            let (records, _) = batch(&told);
            came += i64::try_from(records.len()).unwrap();
            let summary = progress.hand_over(records.iter().copied(), |_| None);
            assert_eq!((summary.misses, summary.repeats), (0, 0));
            directory.write(&progress.finish(summary.number)).unwrap();
            seen.extend(records);
            consumer.taken();
        }
    }
    seen.sort_unstable();
    let all: Vec<_> = (0..5).flat_map(|id| places(id, 0..200)).collect();
    assert_eq!(seen, all, "each once");
}
