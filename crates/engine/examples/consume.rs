//! Reads a topic as a member of a group and acknowledges each message, until
//! nothing new has come for three seconds:
//! `cargo run -p barnabas-engine --example consume [bootstrap.servers] [topic] [group]`.
//!
//! Run it again, and it goes on behind what it has acknowledged. Without
//! arguments it starts an embedded cluster and puts five messages there first.

use barnabas_engine::{
    CallerLimits, Cluster, ClusterConfig, EmbeddedCluster, Position, Properties, Record,
};
use std::time::Duration;

/// How long nothing has to come before the program ends.
const SILENCE: Duration = Duration::from_secs(3);

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
    let group = arguments.next().unwrap_or_else(|| "billing".to_owned());

    let mut config = ClusterConfig::default();
    config.common.set("bootstrap.servers", brokers);
    // A group that has never been here begins with the oldest message.
    config.consumer.set("auto.offset.reset", "earliest");
    let cluster = Cluster::open(config)?;
    if embedded.is_some() {
        put_something_there(&cluster, &topic).await?;
    }

    let mut properties = Properties::new();
    properties.set("group.id", group);
    // Returns at once; joining the group goes on behind.
    let consumer = cluster.consumer(&properties, &[topic.as_str()])?;

    let mut acknowledged = 0;
    // The first message takes as long as joining does.
    let mut patience = Duration::from_secs(30);
    while let Ok(message) = tokio::time::timeout(patience, consumer.next()).await {
        let message = message?;
        println!(
            "{} [{}] {}: {}",
            message.topic(),
            message.partition(),
            message.offset(),
            String::from_utf8_lossy(message.value().unwrap_or(b"(tombstone)"))
        );
        // Stored now; committed every `auto.commit.interval.ms` and at the
        // end. What is not stored comes again.
        consumer.store(&[Position {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset() + 1,
        }])?;
        acknowledged += 1;
        patience = SILENCE;
    }
    consumer.close().done().await;
    println!("{acknowledged} acknowledged");
    Ok(())
}

async fn put_something_there(
    cluster: &Cluster,
    topic: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let producer = cluster.producer(&Properties::new())?;
    let mut caller = producer.caller(CallerLimits::default());
    let topic = caller.topic(topic.as_bytes())?;
    let values: Vec<String> = (0..5).map(|number| format!("order {number}")).collect();
    caller.send(
        &topic,
        values.iter().map(|value| Record {
            key: None,
            value: Some(value.as_bytes()),
        }),
    );
    caller.settled().await;
    Ok(())
}
