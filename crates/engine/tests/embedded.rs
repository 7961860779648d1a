//! The cluster in memory.

use crate::support::{at, caller, join, numbers, open, read, send_all, settle, values};
use barnabas_engine::EmbeddedCluster;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_cluster_takes_messages_and_gives_them_back() {
    let embedded = EmbeddedCluster::start(2).unwrap();
    assert_eq!(embedded.bootstrap_servers().split(',').count(), 2);
    embedded.create_topic("made", 7).unwrap();
    let cluster = open(embedded.bootstrap_servers());
    let topics = cluster
        .admin()
        .unwrap()
        .topics(Duration::from_secs(10))
        .unwrap();
    let made = topics.iter().find(|topic| topic.name == "made").unwrap();
    assert_eq!(made.partitions.len(), 7);

    // Not made before: it appears on first use.
    let mut caller = caller(&cluster);
    let topic = caller.topic(b"first-use").unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..20)));
    settle(&caller).await;
    assert_eq!(caller.report().failed, 0);

    let consumer = join(&cluster, "group", "one", "first-use", &[]);
    let seen = read(&consumer, 20).await;
    let mut values: Vec<usize> = seen
        .iter()
        .map(|seen| seen.value.parse().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, (0..20).collect::<Vec<_>>());
    // It remembers acknowledgements as long as it lives.
    for seen in &seen {
        consumer
            .store(&[at("first-use", seen.partition, seen.offset + 1)])
            .unwrap();
    }
    consumer.close().done().await;
    send_all(
        &mut caller,
        &topic,
        crate::support::values(&numbers(20..21)),
    );
    settle(&caller).await;
    let consumer = join(&cluster, "group", "two", "first-use", &[]);
    assert_eq!(read(&consumer, 1).await[0].value, "20");
}
