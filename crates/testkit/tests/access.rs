//! What users may do.

use std::time::{Duration, Instant};

use barnabas_testkit::{Cluster, Operation, topic_name};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Whatever has to happen happens by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this user's consumer is told first.
fn read(kafka: &Cluster, topic: &str) -> Result<String, KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.sasl_bootstrap_servers())
        .set("security.protocol", "sasl_plaintext")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "ann")
        .set("sasl.password", "s3cret")
        .set("group.id", "none")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    let message = consumer.poll(PATIENCE).expect("an answer")?;
    let value = rdkafka::Message::payload(&message).unwrap_or_default();
    Ok(String::from_utf8_lossy(value).into_owned())
}

/// Asks until it is so: brokers learn of rules one after the other.
fn eventually(holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
    }
}

#[test]
fn a_right_is_taken_away_and_given_back() {
    let builder = Cluster::builder().sasl("ann", "s3cret").access_control();
    let kafka = builder.start().unwrap();
    let topic = topic_name("access");
    kafka.create_topic(&topic, 1).unwrap();
    kafka.produce(&topic, Some(0), None, Some(b"x")).unwrap();
    eventually(|| read(&kafka, &topic).is_ok_and(|value| value == "x"));

    kafka.deny("ann", Operation::Read, &topic).unwrap();
    eventually(|| {
        read(&kafka, &topic).is_err_and(|error| {
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
        })
    });
    // Who does not log in may do everything.
    assert_eq!(kafka.read_all(&topic).unwrap().len(), 1);
    kafka.allow("ann", Operation::Read, &topic).unwrap();
    eventually(|| read(&kafka, &topic).is_ok());

    // That which is not taken away stays.
    kafka.deny("ann", Operation::Write, &topic).unwrap();
    eventually(|| read(&kafka, &topic).is_ok_and(|value| value == "x"));
}
