//! Produces ten messages and says what became of each lot:
//! `cargo run -p barnabas-engine --example produce [bootstrap.servers] [topic]`.
//!
//! Without arguments it starts an embedded cluster, whose data is gone when
//! the program ends.

use barnabas_engine::{CallerLimits, Cluster, ClusterConfig, EmbeddedCluster, Properties, Record};

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
    let cluster = Cluster::open(config)?;

    // Whoever asks for the same properties gets the same producer; a caller
    // is one user of it, with an account of its own.
    let producer = cluster.producer(&Properties::new())?;
    let mut caller = producer.caller(CallerLimits::default());

    let orders = caller.topic(topic.as_bytes())?;
    let values: Vec<String> = (0..9).map(|number| format!("order {number}")).collect();
    let sent = caller.send(
        &orders,
        values.iter().map(|value| Record {
            // One key, hence one partition, hence their order is kept.
            key: Some(b"customer-9"),
            value: Some(value.as_bytes()),
        }),
    );
    for (index, error) in sent.refused {
        eprintln!("message {index} was refused: {error}");
    }
    // Accepted is not delivered: this waits for Kafka's word on all of them.
    caller.settled().await;
    let report = caller.report();
    println!("{} delivered, {} failed", report.delivered, report.failed);
    if let Some(error) = report.last_error {
        eprintln!("the last failure: {error}");
    }

    // One message with everything a message can have, and its own answer.
    let place = producer
        .deliver(
            &topic,
            None,
            Record {
                key: Some(b"customer-9"),
                value: Some(b"order 9"),
            },
            &[("trace", Some(b"ab1"))],
            None,
        )
        .await?;
    println!(
        "order 9 is {topic} [{}] at {}",
        place.partition, place.offset
    );
    Ok(())
}
