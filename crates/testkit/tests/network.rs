//! What stands between the brokers and those who ask them.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use barnabas_testkit::{Cluster, Conditions, Link, NewRecord, topic_name};

/// Whatever has to happen happens by then.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(to: SocketAddr, limit: Duration) -> io::Result<Duration> {
    let asked = Instant::now();
    TcpStream::connect_timeout(&to, limit)?;
    Ok(asked.elapsed())
}

#[test]
fn packets_are_late_lost_and_dropped_as_is_said() {
    let kafka = Cluster::builder().isolated().start().unwrap();
    let network = kafka.network().unwrap();
    let broker: SocketAddr = kafka.bootstrap_servers().parse().unwrap();
    connect(broker, PATIENCE).unwrap();

    let delay = Duration::from_millis(200);
    network.set(
        Link::Brokers,
        Conditions {
            delay,
            ..Conditions::default()
        },
    );
    // There and back.
    assert!(connect(broker, PATIENCE).unwrap() >= delay * 2);

    network.set(Link::Brokers, Conditions::silent());
    let error = connect(broker, Duration::from_secs(2)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);

    // The other link is another one.
    network.restore();
    network.set(Link::Gateways, Conditions::silent());
    connect(broker, PATIENCE).unwrap();

    // What is lost is sent again.
    let rough = Conditions {
        loss: 0.05,
        jitter: Duration::from_millis(20),
        ..Conditions::default()
    };
    network.set(Link::Brokers, rough);
    let topic = topic_name("rough");
    kafka.create_topic(&topic, 1).unwrap();
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let records = expected.iter().map(|value| NewRecord {
        value: Some(value.as_bytes()),
        ..NewRecord::default()
    });
    kafka.produce_all(&topic, records).unwrap();
    let read = kafka.read_all(&topic).unwrap();
    let values: Vec<String> = read.iter().map(|record| record.value_text()).collect();
    assert_eq!(values, expected);
}
