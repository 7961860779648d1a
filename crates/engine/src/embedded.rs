//! A Kafka cluster inside this process, for trying things out.

use crate::error::Error;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// librdkafka's mock cluster: real sockets on the loopback interface, groups
/// and offsets, topics created on first use, everything in memory only and
/// each partition's log bounded (the oldest batches go first). Meant for
/// `barnabas dev` and for learning, never for data that matters.
pub struct EmbeddedCluster {
    cluster: MockCluster<'static, DefaultProducerContext>,
    bootstrap_servers: String,
}

impl EmbeddedCluster {
    /// Starts a cluster of `brokers` brokers; it ends when dropped.
    ///
    /// # Errors
    /// [`Error::Client`] when librdkafka cannot start it.
    pub fn start(brokers: u16) -> Result<Self, Error> {
        let cluster = MockCluster::new(i32::from(brokers)).map_err(|error| Error::Client {
            reason: error.to_string(),
        })?;
        let bootstrap_servers = cluster.bootstrap_servers();
        Ok(Self {
            cluster,
            bootstrap_servers,
        })
    }

    /// `host:port` of each broker, comma-separated.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Creates a topic with a chosen number of partitions (topics made on
    /// first use have four).
    ///
    /// # Errors
    /// [`Error::Client`] when librdkafka refuses.
    pub fn create_topic(&self, name: &str, partitions: u16) -> Result<(), Error> {
        self.cluster
            .create_topic(name, i32::from(partitions), 1)
            .map_err(|error| Error::Client {
                reason: error.to_string(),
            })
    }
}

impl std::fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCluster")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .finish_non_exhaustive()
    }
}
