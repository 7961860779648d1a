//! How fast one thread produces through the outbox, to be held against
//! `kcat -P` on the same broker:
//! `cargo run --release -p barnabas-engine --example outbox_rate <bootstrap.servers> <topic> [count]`.
//!
//! Prints messages per second up to Kafka's last answer, and the time of the
//! producing thread per message while the client's queue has room.

use barnabas_engine::{Cluster, ClusterConfig, Outbox, OutboxSettings, ProduceError, Strategy};
use std::time::{Duration, Instant};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().ok_or("bootstrap.servers are missing")?;
    let topic = arguments.next().ok_or("the topic is missing")?;
    let count: u32 = arguments
        .next()
        .map_or(Ok(5_000_000), |text| text.parse())?;

    let mut config = ClusterConfig::default();
    config.common.set("bootstrap.servers", brokers);
    let outbox = Outbox::builder(&Cluster::open(config)?)
        .settings(OutboxSettings {
            strategy: Strategy::StickyRoundRobin.into(),
            max_buffered_bytes: 1 << 30,
            ..OutboxSettings::default()
        })
        .start()?;
    let topic = outbox.topic(&topic)?;
    topic.prepare().await?;

    let value = [b'x'; 100];
    let begun = Instant::now();
    let mut waited = Duration::ZERO;
    for _ in 0..count {
        loop {
            match topic.produce_async(&value[..]).all() {
                Ok(_) => break,
                Err(ProduceError::Full { .. }) => {
                    let full = Instant::now();
                    std::thread::sleep(Duration::from_micros(100));
                    waited += full.elapsed();
                }
                Err(other) => return Err(other.into()),
            }
        }
    }
    let produced = begun.elapsed();
    let left = outbox.flush(Instant::now() + Duration::from_secs(60)).await;
    let took = begun.elapsed();
    println!(
        "{:.0} messages/s, {left} left; {:.0} ns each to hand over",
        f64::from(count) / took.as_secs_f64(),
        (produced.saturating_sub(waited)).as_nanos() as f64 / f64::from(count),
    );
    Ok(())
}
