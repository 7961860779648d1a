//! Asking about topics, on a thread of Node's pool.

use barnabas_engine::{ClusterView, ViewError};
use napi::{Env, Task};
use napi_derive::napi;
use std::time::Duration;

/// How long the cluster has to answer (contract: `node.md`, section 11).
const PATIENCE: Duration = Duration::from_secs(1);

/// A question about a topic: how it is asked, and its name.
pub struct Question {
    ask: Box<Ask>,
}

type Ask = dyn FnMut(Duration) -> Result<ClusterView, ViewError> + Send;

impl Question {
    pub(crate) fn new(
        ask: impl FnMut(Duration) -> Result<ClusterView, ViewError> + Send + 'static,
    ) -> Self {
        Self { ask: Box::new(ask) }
    }
}

impl Task for Question {
    type Output = ClusterView;
    type JsValue = Metadata;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        (self.ask)(PATIENCE).map_err(|error| napi::Error::from_reason(error.to_string()))
    }

    fn resolve(&mut self, _env: Env, view: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(view.into())
    }
}

/// What a broker has said.
#[napi(object)]
pub struct Metadata {
    /// The broker that has answered.
    #[napi(js_name = "orig_broker_id")]
    pub origin: i32,
    /// Its name in the log.
    #[napi(js_name = "orig_broker_name")]
    pub origin_name: String,
    /// All brokers.
    pub brokers: Vec<Broker>,
    /// The topics that were asked about.
    pub topics: Vec<Topic>,
}

/// A broker.
#[napi(object)]
pub struct Broker {
    /// Its node id.
    pub id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
}

/// A topic.
#[napi(object)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Kafka's error number.
    pub error: i32,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[napi(object)]
pub struct Partition {
    /// Its number.
    pub id: i32,
    /// Kafka's error number.
    pub error: i32,
    /// The broker that leads it; -1: none.
    pub leader: i32,
    /// The brokers that keep it.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isrs: Vec<i32>,
}

impl From<ClusterView> for Metadata {
    fn from(view: ClusterView) -> Self {
        Self {
            origin: view.origin.id,
            origin_name: view.origin.host,
            brokers: view
                .brokers
                .into_iter()
                .map(|broker| Broker {
                    id: broker.id,
                    host: broker.host,
                    port: broker.port,
                })
                .collect(),
            topics: view
                .topics
                .into_iter()
                .map(|topic| Topic {
                    topic: topic.name,
                    error: topic.error,
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| Partition {
                            id: partition.id,
                            error: partition.error,
                            leader: partition.leader,
                            replicas: partition.replicas,
                            isrs: partition.in_sync,
                        })
                        .collect(),
                })
                .collect(),
        }
    }
}
