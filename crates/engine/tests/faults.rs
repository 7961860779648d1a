//! The outbox while the cluster changes below it: leaders move, topics go and
//! come, brokers slow their clients down.

use crate::outbox::{flush, outbox_at};
use crate::support::{PATIENCE, eventually, numbers};
use barnabas_engine::{
    Delivery, Happening, Mode, NewRecord, Outbox, OutboxSettings, OutboxTopic, Outcome,
    ProduceSink, Strategy, TopicState,
};
use barnabas_testkit::{Cluster, Record};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keys of a load.
const KEYS: usize = 7;

/// What became of each record, by number: told exactly once.
#[derive(Default)]
struct Fates(Mutex<BTreeMap<u64, Outcome>>);

impl ProduceSink for Fates {
    fn settled(&self, number: u64, outcome: Outcome) {
        let before = self.0.lock().unwrap().insert(number, outcome);
        assert!(before.is_none(), "{number} is told of twice");
    }
}

/// Produces keyed numbers until it is stopped, batched and not.
struct Load {
    fates: Arc<Fates>,
    count: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    fn on(topic: &OutboxTopic) -> Self {
        let fates = Arc::new(Fates::default());
        let count = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (fates, count, is_over) =
                (Arc::clone(&fates), Arc::clone(&count), Arc::clone(&is_over));
            let topic = topic.clone();
            move || {
                while !is_over.load(Ordering::Acquire) {
                    let number = count.load(Ordering::Acquire);
                    let key = (number % KEYS).to_string();
                    let value = number.to_string();
                    let mode = [Mode::Async, Mode::AsyncBatched][number / 50 % 2];
                    let record = NewRecord::keyed(key.as_bytes(), value.as_bytes());
                    let sink: Arc<dyn ProduceSink> = Arc::<Fates>::clone(&fates);
                    let hearer = Some((sink, number as u64));
                    assert_eq!(topic.produce(mode, record, hearer).all().unwrap(), 1);
                    count.store(number + 1, Ordering::Release);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self {
            fates,
            count,
            is_over,
            thread,
        }
    }

    /// Waits until so many more are produced.
    async fn produced(&self, more: usize) {
        let goal = self.count.load(Ordering::Acquire) + more;
        eventually("the load goes on", || {
            (self.count.load(Ordering::Acquire) >= goal).then_some(())
        })
        .await;
    }

    /// Ends it, and returns what became of each, once that is known.
    async fn end(self, outbox: &Outbox) -> Vec<Outcome> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().unwrap();
        flush(outbox).await;
        let count = self.count.load(Ordering::Acquire);
        let fates = eventually("all are told of", || {
            let fates = self.fates.0.lock().unwrap();
            (fates.len() == count).then(|| fates.clone())
        })
        .await;
        fates.into_values().collect()
    }
}

fn settings() -> OutboxSettings {
    OutboxSettings {
        strategy: Strategy::Murmur2.into(),
        max_batch_messages: 10.into(),
        batch_ttl: Duration::from_millis(20).into(),
        ..OutboxSettings::default()
    }
}

/// The numbers of each key in the order of its partition.
fn by_key(records: &[Record]) -> BTreeMap<String, Vec<usize>> {
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for record in records {
        let number = record.value_text().parse().unwrap();
        found.entry(record.key_text()).or_default().push(number);
    }
    found
}

async fn is_up(topic: &OutboxTopic) {
    eventually("it is up", || {
        (topic.info().state == TopicState::Up).then_some(())
    })
    .await;
}

/// The leader of some partitions is killed under load, and comes back; then
/// another one hands over in order.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_move_and_nothing_is_lost_or_out_of_order() {
    let kafka = Cluster::builder().brokers(3).start().unwrap();
    kafka
        .create_topic_with("moved", 3, 3, &[("min.insync.replicas", "2")])
        .unwrap();
    let (outbox, _) = outbox_at(&kafka.bootstrap_servers(), settings());
    let topic = outbox.topic("moved").unwrap();
    topic.prepare().await.unwrap();
    let load = Load::on(&topic);
    load.produced(300).await;
    let before = kafka.leaders("moved").unwrap();
    kafka.broker(before[&0]).kill().unwrap();
    let moved = eventually("another one leads", || {
        let leaders = kafka.leaders("moved").ok()?;
        let leader = *leaders.get(&0)?;
        (leader >= 0 && leader != before[&0]).then_some(leaders)
    })
    .await;
    load.produced(500).await;
    kafka.broker(before[&0]).start().unwrap();
    load.produced(300).await;
    kafka.broker(moved[&0]).stop().unwrap();
    load.produced(500).await;
    kafka.broker(moved[&0]).start().unwrap();
    is_up(&topic).await;
    load.produced(300).await;
    let fates = load.end(&outbox).await;
    assert!(fates.iter().all(Result::is_ok), "{:?}", topic.info());
    let found = by_key(&kafka.read_all("moved").unwrap());
    for key in 0..KEYS {
        let expected: Vec<usize> = (key..fates.len()).step_by(KEYS).collect();
        assert_eq!(found[&key.to_string()], expected, "key {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_goes_on() {
    made_again(3).await;
}

/// What waits for a partition that is gone goes to another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_may_be_smaller() {
    made_again(2).await;
}

/// A topic is deleted under load, and made again within its grace: what was in
/// it is gone, all the rest is in the new one, in order.
async fn made_again(partitions: i32) {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("again", 3).unwrap();
    let (outbox, _) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            unknown_topic_grace: 3 * PATIENCE,
            ..settings()
        },
    );
    let topic = outbox.topic("again").unwrap();
    topic.prepare().await.unwrap();
    let load = Load::on(&topic);
    eventually("some are in Kafka", || {
        (load.fates.0.lock().unwrap().len() >= 100).then_some(())
    })
    .await;
    kafka.delete_topic("again").unwrap();
    eventually("it is gone", || {
        (topic.info().state == TopicState::Starting).then_some(())
    })
    .await;
    load.produced(300).await;
    kafka.create_topic("again", partitions).unwrap();
    is_up(&topic).await;
    load.produced(500).await;
    let fates = load.end(&outbox).await;
    assert_eq!(outbox.info().bytes, 0);
    let records = kafka.read_all("again").unwrap();
    let at: BTreeMap<(i32, i64), usize> = records
        .iter()
        .map(|record| {
            let number = record.value_text().parse().unwrap();
            ((record.partition, record.offset), number)
        })
        .collect();
    let is_there = |number: usize, delivery: &Delivery| {
        at.get(&(delivery.partition, delivery.offset)) == Some(&number)
    };
    // From the last that is not there on, all are.
    let missing: Vec<usize> = fates
        .iter()
        .enumerate()
        .filter(|(number, fate)| {
            !fate
                .as_ref()
                .is_ok_and(|delivery| is_there(*number, delivery))
        })
        .map(|(number, _)| number)
        .collect();
    println!(
        "{} of {} went with the old topic",
        missing.len(),
        fates.len()
    );
    let failed: Vec<&Outcome> = fates.iter().filter(|fate| fate.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    // What was confirmed before it went, and nothing that came later.
    let last = missing.last().copied().unwrap_or_default();
    assert!((99..fates.len() - 750).contains(&last), "{last}");
    for partition in 0..partitions {
        let own: Vec<Record> = records
            .iter()
            .filter(|record| record.partition == partition)
            .cloned()
            .collect();
        for (key, numbers) in by_key(&own) {
            assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
        }
    }
    assert_eq!(
        records.len(),
        fates.len() - missing.len(),
        "nothing is there twice"
    );
}

/// A broker that answers late because of a quota is no broker that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slowed_down_is_not_down() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("slow", 1).unwrap();
    kafka.limit_producers(100_000).unwrap();
    let (outbox, log) = outbox_at(&kafka.bootstrap_servers(), settings());
    let topic = outbox.topic("slow").unwrap();
    topic.prepare().await.unwrap();
    let begun = Instant::now();
    let padding = "x".repeat(10_000);
    for number in numbers(0..250) {
        let value = format!("{number} {padding}");
        assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
    }
    let left = outbox.flush(begun + 6 * PATIENCE).await;
    assert_eq!(left, 0, "{:?}", topic.info());
    let took = begun.elapsed();
    println!("2.5 MB at 100 kB/s took {took:?}");
    assert!(
        took > Duration::from_secs(5),
        "it was slowed down: {took:?}"
    );
    let downs = log.find(|what| match what {
        Happening::WorkerDown { reason } => Some(Arc::clone(reason)),
        _ => None,
    });
    assert_eq!(downs, [] as [Arc<str>; 0]);
    let records = kafka.read_all("slow").unwrap();
    let found: Vec<String> = records
        .iter()
        .map(|record| record.value_text().split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(found, numbers(0..250));
}
