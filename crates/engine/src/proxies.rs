//! Clusters by name, as Kafka-Pixy's users configure and address them, and
//! its wording of Kafka's errors.
//!
//! Contract: `pixy-api.md`, sections 2 and 5.

use crate::admin::Admin;
use crate::cluster::Cluster;
use crate::dispatch::Dispatcher;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::producer::{Producer, Record, Submitted};
use crate::properties::Properties;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Pause before a message that found no room is handed over again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What is configured of a cluster beside its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyOptions {
    /// Consuming is switched off.
    pub is_consuming_disabled: bool,
    /// The version of Kafka has record headers.
    pub has_headers: bool,
    /// The largest message, with what surrounds it
    /// ([`Proxy::message_size`]).
    pub max_message_bytes: usize,
}

/// One cluster.
pub struct Proxy {
    /// Where messages are produced.
    pub producer: Producer,
    /// Where messages are consumed.
    pub dispatcher: Dispatcher,
    /// Where topics and groups are described.
    pub admin: Admin,
    /// What is configured of it.
    pub options: ProxyOptions,
    /// Who looks for room in the producer's full queue; the others stand
    /// behind: a crowd would take the processor from those who make room.
    room: tokio::sync::Mutex<()>,
}

impl Proxy {
    /// Puts the clients of a cluster together.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn new(
        cluster: &Cluster,
        dispatcher: Dispatcher,
        options: ProxyOptions,
    ) -> Result<Self, Error> {
        Ok(Self {
            producer: cluster.producer(&Properties::new())?,
            dispatcher,
            admin: cluster.admin()?,
            options,
            room: tokio::sync::Mutex::default(),
        })
    }

    /// The size of a message as the limit counts it: key, value, and 36 bytes
    /// (26 before Kafka 0.11) around them; 10 bytes more for each header.
    pub fn message_size(&self, record: Record<'_>, headers: &[(&str, Option<&[u8]>)]) -> usize {
        let around = if self.options.has_headers { 36 } else { 26 };
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers: usize = headers
            .iter()
            .map(|(name, value)| name.len() + length(*value) + 10)
            .sum();
        around + length(record.key) + length(record.value) + headers
    }

    /// Hands a record over; what finds no room waits for it.
    ///
    /// # Errors
    /// As [`Producer::submit`], "message too large" also by the configured
    /// limit, and [`Error::Closed`] when the process ends meanwhile.
    pub async fn submit(
        &self,
        proxies: &Proxies,
        topic: &str,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<Submitted, Error> {
        if self.message_size(record, headers) > self.options.max_message_bytes {
            return Err(KafkaError::from_code(ErrorCode::MessageSizeTooLarge).into());
        }
        let hand_over = || self.producer.submit(topic, None, record, headers, None);
        let is_full = |submitted: &Result<Submitted, Error>| matches!(submitted, Err(Error::Kafka { error }) if error.is(ErrorCode::QueueFull));
        let mut submitted = hand_over();
        if is_full(&submitted) {
            let _turn = self.room.lock().await;
            submitted = hand_over();
            while is_full(&submitted) {
                if proxies.is_stopping() {
                    return Err(Error::Closed);
                }
                tokio::time::sleep(FULL_PAUSE).await;
                submitted = hand_over();
            }
        }
        submitted
    }
}

/// All clusters.
pub struct Proxies {
    default: String,
    by_name: BTreeMap<String, Proxy>,
    is_stopping: AtomicBool,
}

/// A cluster that is not configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("proxy `{0}` does not exist")]
pub struct UnknownProxy(pub String);

impl Proxies {
    /// `default` is the one that requests without a name are for.
    ///
    /// # Errors
    /// [`UnknownProxy`] if the default one is not among them.
    pub fn new(default: String, by_name: BTreeMap<String, Proxy>) -> Result<Self, UnknownProxy> {
        if !by_name.contains_key(&default) {
            return Err(UnknownProxy(default));
        }
        Ok(Self {
            default,
            by_name,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// The cluster of that name; the empty name is the default one.
    ///
    /// # Errors
    /// [`UnknownProxy`]
    pub fn get(&self, name: &str) -> Result<&Proxy, UnknownProxy> {
        let name = if name.is_empty() { &self.default } else { name };
        self.by_name
            .get(name)
            .ok_or_else(|| UnknownProxy(name.to_owned()))
    }

    /// From now on producing and consuming are refused, while all else goes
    /// on: step 1 of the contract's shutdown (`consume-and-ack.md`, section
    /// 8). Those who wait for messages are [`Dispatcher::stop`]'s.
    pub fn refuse_work(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Whether [`refuse_work`](Self::refuse_work) was called.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// What the old system says while it ends.
pub const SHUTTING_DOWN: &str = "service is shutting down";

/// What it says where consuming is switched off.
pub const CONSUMING_DISABLED: &str = "service is disabled by configuration";

/// What the old system says when a client has too many requests waiting.
pub const TOO_MANY_REQUESTS: &str = "Too many requests. Consider increasing \
    `consumer.channel_buffer_size` \
    (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L43)";

/// What it says to record headers on a version of Kafka that has none.
pub const HEADERS_UNSUPPORTED: &str = "headers are not supported with this version of Kafka. \
    Consider changing `kafka.version` \
    (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L35)";

const UNKNOWN_TOPIC: &str = "kafka server: Request was for a topic or partition that does not \
     exist on this broker.";
const NO_LEADER: &str = "kafka server: In the middle of a leadership election, there is \
     currently no leader for this partition and hence it is unavailable for writes.";
const TIMED_OUT: &str =
    "kafka server: Request exceeded the user-specified time limit in the request.";
const TOO_LARGE: &str =
    "kafka server: Message was too large, server rejected it to avoid allocation error.";
const METADATA_TOO_LARGE: &str = "kafka server: Specified a string larger than the configured \
     maximum for offset metadata.";
const INVALID_TOPIC: &str =
    "kafka server: The request attempted to perform an operation on an invalid topic.";
const TOO_FEW_REPLICAS: &str = "kafka server: Messages are rejected since there are fewer \
     in-sync replicas than required.";
const EMPTY_GROUP: &str = "kafka server: The provided group id was empty.";
const UNKNOWN_MEMBER: &str =
    "kafka server: The provided member is not known in the current generation.";
const REBALANCE: &str =
    "kafka server: A rebalance for the group is in progress. Please re-join the group.";
const TOPIC_FORBIDDEN: &str = "kafka server: The client is not authorized to access this topic.";
const GROUP_FORBIDDEN: &str = "kafka server: The client is not authorized to access this group.";
const NO_BROKERS: &str = "kafka: client has run out of available brokers to talk to (Is your \
     cluster reachable?)";

/// Kafka's errors in the words of the old system's library (sarama); those
/// that it has no words for, in librdkafka's.
pub fn sarama_text(error: KafkaError) -> String {
    use ErrorCode as E;
    const TEXTS: [(ErrorCode, &str); 16] = [
        (E::UnknownTopicOrPartition, UNKNOWN_TOPIC),
        (E::UnknownTopic, UNKNOWN_TOPIC),
        (E::UnknownPartition, UNKNOWN_TOPIC),
        (E::LeaderNotAvailable, NO_LEADER),
        (E::RequestTimedOut, TIMED_OUT),
        (E::MessageTimedOut, TIMED_OUT),
        (E::MessageSizeTooLarge, TOO_LARGE),
        (E::OffsetMetadataTooLarge, METADATA_TOO_LARGE),
        (E::InvalidTopic, INVALID_TOPIC),
        (E::NotEnoughReplicas, TOO_FEW_REPLICAS),
        (E::InvalidGroupId, EMPTY_GROUP),
        (E::UnknownMemberId, UNKNOWN_MEMBER),
        (E::RebalanceInProgress, REBALANCE),
        (E::TopicAuthorizationFailed, TOPIC_FORBIDDEN),
        (E::GroupAuthorizationFailed, GROUP_FORBIDDEN),
        (E::AllBrokersDown, NO_BROKERS),
    ];
    TEXTS
        .iter()
        .find(|(code, _)| error.is(*code))
        .map_or_else(|| format!("kafka: {error}"), |(_, text)| (*text).to_owned())
}

/// [`sarama_text`] of any error of the engine.
pub fn sarama_text_of(error: &Error) -> String {
    match error {
        Error::Kafka { error } | Error::Consume { error, .. } => sarama_text(*error),
        Error::Closed => SHUTTING_DOWN.to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_errors_have_the_texts_of_sarama() {
        let text = |code| sarama_text(KafkaError::from_code(code));
        assert_eq!(text(ErrorCode::UnknownTopic), UNKNOWN_TOPIC);
        assert_eq!(text(ErrorCode::LeaderNotAvailable), NO_LEADER);
        assert_eq!(
            text(ErrorCode::MessageTimedOut),
            text(ErrorCode::RequestTimedOut)
        );
        assert_eq!(text(ErrorCode::AllBrokersDown), NO_BROKERS);
        assert_eq!(text(ErrorCode::QueueFull), "kafka: Local: Queue full");
    }
}
