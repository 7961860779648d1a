//! Clusters by name, as Kafka-Pixy's users configure and address them, and
//! its wording of Kafka's errors.
//!
//! Contract: `pixy-api.md`, sections 2 and 5.

use crate::dispatch::Dispatcher;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::producer::Producer;
use std::collections::BTreeMap;

/// One cluster.
pub struct Proxy {
    /// Where messages are produced.
    pub producer: Producer,
    /// Where messages are consumed.
    pub dispatcher: Dispatcher,
    /// Consuming is switched off by configuration.
    pub is_consuming_disabled: bool,
    /// Whether the configured version of Kafka has record headers.
    pub has_headers: bool,
    /// The largest message, with what surrounds it
    /// ([`Proxy::message_size`]).
    pub max_message_bytes: usize,
}

impl Proxy {
    /// The size of a message as the limit counts it: key, value, and 36 bytes
    /// (26 before Kafka 0.11) around them; 10 bytes more for each header.
    pub fn message_size(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        let around = if self.has_headers { 36 } else { 26 };
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers: usize = headers
            .iter()
            .map(|(name, value)| name.len() + length(*value) + 10)
            .sum();
        around + length(key) + length(value) + headers
    }
}

/// All clusters.
pub struct Proxies {
    default: String,
    by_name: BTreeMap<String, Proxy>,
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
        Ok(Self { default, by_name })
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

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Proxy)> {
        self.by_name.iter().map(|(name, proxy)| (&**name, proxy))
    }
}

/// What the old system says when a client has too many requests waiting.
pub const TOO_MANY_REQUESTS: &str = "Too many requests. Consider increasing \
    `consumer.channel_buffer_size` \
    (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L43)";

/// What it says to record headers on a version of Kafka that has none.
pub const HEADERS_UNSUPPORTED: &str = "headers are not supported with this version of Kafka. \
    Consider changing `kafka.version` \
    (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L35)";

/// Kafka's errors in the words of the old system's library (sarama); those
/// that it has no words for, in librdkafka's.
pub fn sarama_text(error: KafkaError) -> String {
    const WORDS: [(&[ErrorCode], &str); 12] = [
        (
            &[
                ErrorCode::UnknownTopicOrPartition,
                ErrorCode::UnknownTopic,
                ErrorCode::UnknownPartition,
            ],
            "Request was for a topic or partition that does not exist on this broker.",
        ),
        (
            &[ErrorCode::LeaderNotAvailable],
            "In the middle of a leadership election, there is currently no leader for this \
             partition and hence it is unavailable for writes.",
        ),
        (
            &[ErrorCode::RequestTimedOut, ErrorCode::MessageTimedOut],
            "Request exceeded the user-specified time limit in the request.",
        ),
        (
            &[ErrorCode::MessageSizeTooLarge],
            "Message was too large, server rejected it to avoid allocation error.",
        ),
        (
            &[ErrorCode::OffsetMetadataTooLarge],
            "Specified a string larger than the configured maximum for offset metadata.",
        ),
        (
            &[ErrorCode::InvalidTopic],
            "The request attempted to perform an operation on an invalid topic.",
        ),
        (
            &[ErrorCode::NotEnoughReplicas],
            "Messages are rejected since there are fewer in-sync replicas than required.",
        ),
        (
            &[ErrorCode::InvalidGroupId],
            "The provided group id was empty.",
        ),
        (
            &[ErrorCode::UnknownMemberId],
            "The provided member is not known in the current generation.",
        ),
        (
            &[ErrorCode::RebalanceInProgress],
            "A rebalance for the group is in progress. Please re-join the group.",
        ),
        (
            &[ErrorCode::TopicAuthorizationFailed],
            "The client is not authorized to access this topic.",
        ),
        (
            &[ErrorCode::GroupAuthorizationFailed],
            "The client is not authorized to access this group.",
        ),
    ];
    if error.is(ErrorCode::AllBrokersDown) {
        return "kafka: client has run out of available brokers to talk to \
                (Is your cluster reachable?)"
            .to_owned();
    }
    WORDS
        .iter()
        .find(|(codes, _)| codes.iter().any(|code| error.is(*code)))
        .map_or_else(
            || format!("kafka: {error}"),
            |(_, words)| format!("kafka server: {words}"),
        )
}

/// [`sarama_text`] of any error of the engine.
pub fn sarama_text_of(error: &Error) -> String {
    match error {
        Error::Kafka { error } => sarama_text(*error),
        other => other.to_string(),
    }
}
