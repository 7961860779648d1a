//! Administration: topics, what groups have committed, who is in them.
//!
//! - `clients`: the librdkafka clients behind it and the threads that wait for
//!   them;
//! - `topics`, `offsets`, `groups`: one file per subject;
//! - `protocol`: what members of groups tell each other, as bytes.
//!
//! Everything goes through `rdkafka`. What it cannot do is said at the method
//! that would need it.

mod clients;
mod groups;
mod offsets;
mod protocol;
mod topics;

pub use groups::{GroupDescription, MemberDescription};
pub use offsets::{GroupOffset, NewGroupOffset};
pub use topics::PartitionDescription;

use self::clients::Clients;
use crate::dispatch::Dispatcher;
use crate::error::{Error, KafkaError};
use crate::properties::Properties;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError as RdkafkaError;
use std::sync::OnceLock;
use std::time::Duration;

/// How long the broker gets for an administrative request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// The ids of its partitions.
    pub partitions: Vec<i32>,
}

/// Creates, deletes and describes topics; reads and sets what groups have
/// committed; tells who is in them. Joins no group and creates no topic but
/// by [`Admin::create_topic`].
///
/// Two librdkafka clients, each from the first question on that needs it, and
/// one more during each call about the offsets of a group. Calls that
/// are `async` may be cancelled, the request itself is not taken back.
pub struct Admin {
    properties: Properties,
    /// Made by the first question that needs it: with its threads it costs
    /// megabytes, and many processes only produce and consume.
    client: OnceLock<AdminClient<DefaultClientContext>>,
    clients: Clients,
    /// Who knows the groups where the cluster does not tell: the one in
    /// memory, which keeps no configurations either.
    embedded: Option<Dispatcher>,
}

impl Admin {
    pub(crate) fn new(properties: &Properties) -> Result<Self, Error> {
        if let Some(problem) = properties.problems().into_iter().next() {
            return Err(problem);
        }
        Ok(Self {
            properties: properties.clone(),
            client: OnceLock::new(),
            clients: Clients::new(properties),
            embedded: None,
        })
    }

    fn client(&self) -> Result<&AdminClient<DefaultClientContext>, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut config = ClientConfig::new();
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        let made = config.create().map_err(convert)?;
        // Of two made at the same time one goes again.
        Ok(self.client.get_or_init(|| made))
    }

    /// The cluster is [`EmbeddedCluster`](crate::EmbeddedCluster): what it
    /// cannot be asked is answered from what this process knows, or refused
    /// at once; librdkafka would wait for a broker that can.
    pub(crate) fn on_embedded(&mut self, groups: Dispatcher) {
        self.embedded = Some(groups);
    }

    fn refuse_if_embedded(&self, what: &str) -> Result<(), Error> {
        match self.embedded {
            None => Ok(()),
            Some(_) => Err(Error::Client {
                reason: format!("the cluster in memory {what}"),
            }),
        }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// Kafka's code, e.g. "Broker: Topic already exists".
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u16,
        replication: u16,
    ) -> Result<(), Error> {
        self.refuse_if_embedded("creates topics only when they are first used")?;
        let topic = NewTopic::new(
            name,
            i32::from(partitions),
            TopicReplication::Fixed(i32::from(replication)),
        );
        let results = self
            .client()?
            .create_topics([&topic], &options())
            .await
            .map_err(convert)?;
        first(results)
    }

    /// Creates a topic with as many partitions and copies as the brokers have
    /// by default.
    ///
    /// # Errors
    /// Kafka's code, e.g. "Broker: Topic already exists".
    pub async fn create_default_topic(&self, name: &str) -> Result<(), Error> {
        // Kafka's word for the default (KIP-464).
        let topic = NewTopic::new(name, -1, TopicReplication::Fixed(-1));
        let results = self
            .client()?
            .create_topics([&topic], &options())
            .await
            .map_err(convert)?;
        first(results)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// Kafka's code.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.refuse_if_embedded("deletes no topics")?;
        let results = self
            .client()?
            .delete_topics(&[name], &options())
            .await
            .map_err(convert)?;
        first(results)
    }

    /// All topics, internal ones too, by name. Blocks up to `timeout`.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn topics(&self, timeout: Duration) -> Result<Vec<TopicDescription>, Error> {
        let metadata = self
            .client()?
            .inner()
            .fetch_metadata(None, timeout)
            .map_err(convert)?;
        let mut topics: Vec<TopicDescription> = metadata
            .topics()
            .iter()
            .map(|topic| TopicDescription {
                name: topic.name().to_owned(),
                partitions: topic.partitions().iter().map(|p| p.id()).collect(),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// The first offset kept and the next offset to be written of a
    /// partition. Blocks up to `timeout`.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn watermarks(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), Error> {
        self.client()?
            .inner()
            .fetch_watermarks(topic, partition, timeout)
            .map_err(convert)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT))
}

fn first(results: Vec<rdkafka::admin::TopicResult>) -> Result<(), Error> {
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(KafkaError::from_code(code).into()),
        _ => Ok(()),
    }
}

fn convert(error: RdkafkaError) -> Error {
    let code = match error {
        // `rdkafka` does not count this as a code.
        RdkafkaError::AdminOp(code) => Some(code),
        _ => error.rdkafka_error_code(),
    };
    match code {
        Some(code) => KafkaError::from_code(code).into(),
        None => Error::Client {
            reason: error.to_string(),
        },
    }
}
