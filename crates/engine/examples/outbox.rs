//! Produces through the outbox, whether Kafka is there or not:
//! `cargo run -p barnabas-engine --example outbox [bootstrap.servers] [topic]`.
//!
//! Without arguments it starts an embedded cluster, whose data is gone when
//! the program ends.

use barnabas_engine::{
    Cluster, ClusterConfig, EmbeddedCluster, Event, Events, Outbox, OutboxSettings, Payload,
    PerTopic, Strategy,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Says on stderr what happens.
struct Narrator;

impl Events for Narrator {
    fn happened(&self, event: &Event) {
        eprintln!("{} {:?}: {:?}", event.topic, event.partition, event.what);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut embedded = None;
    let brokers = match arguments.next() {
        Some(brokers) => brokers,
        None => embedded
            .insert(EmbeddedCluster::start(1)?)
            .bootstrap_servers()
            .to_owned(),
    };
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());

    let mut config = ClusterConfig::default();
    config.common.set("bootstrap.servers", brokers);
    let outbox = Outbox::builder(&Cluster::open(config)?)
        .settings(OutboxSettings {
            // By the key for this topic, anywhere for all others.
            strategy: PerTopic::all(Strategy::Random).with(topic.as_str(), Strategy::Murmur2),
            batch_ttl: Duration::from_millis(50).into(),
            ..OutboxSettings::default()
        })
        .listener(Arc::new(Narrator))
        .start()?;
    let orders = outbox.topic(&topic)?;

    // Admitted: in memory and on its way, however long Kafka is away.
    orders.produce_async(("customer-9", "by itself")).all()?;

    // The same, with others of its partition in one batch.
    let values = ["first", "second", "third"];
    let batch: Payload<'_> = values.iter().map(|value| ("customer-9", *value)).collect();
    orders.produce_async_batched(batch).all()?;

    // What Kafka says, in time or not at all.
    for outcome in orders.produce_sync(("customer-9", "at once")).await {
        let place = outcome?;
        println!("delivered to {topic} [{}]", place.partition);
    }

    let left = outbox.drain(Instant::now() + Duration::from_secs(30)).await;
    println!("{left} messages are left");
    Ok(())
}
