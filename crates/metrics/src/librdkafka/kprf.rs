//! The names that kprf gave (contract, `producer-http.md`, section 6.2).

use super::json::{Broker, Client, Topic};
use super::row::{Row, counter, largest, level};

pub(super) static CLIENT: [Row<Client>; 10] = [
    level(
        "kafka_producer_reply_queue_size",
        "Reports and events of librdkafka that wait to be polled.",
        |client| client.replyq,
    ),
    level(
        "kafka_producer_current_messages_in_queue",
        "Records in librdkafka's queues, those in flight included.",
        |client| client.msg_cnt,
    ),
    level(
        "kafka_producer_current_messages_in_queue_bytes",
        "Bytes of the records in librdkafka's queues.",
        |client| client.msg_size,
    ),
    counter(
        "kafka_producer_total_requests_count",
        "Requests sent to all brokers.",
        |client| client.tx,
    ),
    counter(
        "kafka_producer_total_bytes_sent",
        "Bytes sent to all brokers.",
        |client| client.tx_bytes,
    ),
    counter(
        "kafka_producer_total_responses_received",
        "Responses received from all brokers.",
        |client| client.rx,
    ),
    counter(
        "kafka_producer_total_bytes_received",
        "Bytes received from all brokers.",
        |client| client.rx_bytes,
    ),
    counter(
        "kafka_producer_total_messages_sent",
        "Records transmitted to all brokers.",
        |client| client.txmsgs,
    ),
    counter(
        "kafka_producer_total_messages_bytes_sent",
        "Bytes of the records transmitted to all brokers, framing included.",
        |client| client.txmsg_bytes,
    ),
    largest(
        "kafka_producer_metadata_cache_topics_count",
        "Topics in the metadata cache.",
        |client| client.metadata_cache_cnt,
    ),
];

pub(super) static BROKER: [Row<Broker>; 14] = [
    largest(
        "kafka_producer_broker_state",
        "State of the connection: 0 init, 1 down, 2 connecting, 3 authenticating, 4 asking for API \
         versions, 5 authentication handshake, 6 up, 7 updating.",
        |broker| broker_state(&broker.state),
    ),
    largest(
        "kafka_producer_broker_state_age",
        "Microseconds since the state changed last.",
        |broker| broker.stateage,
    ),
    level(
        "kafka_producer_broker_outbuf_count",
        "Requests that wait to be sent to the broker.",
        |broker| broker.outbuf_cnt,
    ),
    level(
        "kafka_producer_broker_outbuf_msg_count",
        "Records that wait to be sent to the broker.",
        |broker| broker.outbuf_msg_cnt,
    ),
    level(
        "kafka_producer_broker_waitresp_count",
        "Requests sent to the broker and not answered yet.",
        |broker| broker.waitresp_cnt,
    ),
    level(
        "kafka_producer_broker_waitresp_msg_count",
        "Records sent to the broker and not answered yet.",
        |broker| broker.waitresp_msg_cnt,
    ),
    counter(
        "kafka_producer_broker_requests_sent",
        "Requests sent to the broker.",
        |broker| broker.tx,
    ),
    counter(
        "kafka_producer_broker_requests_sent_bytes",
        "Bytes sent to the broker.",
        |broker| broker.txbytes,
    ),
    counter(
        "kafka_producer_broker_transmission_errors",
        "Sends to the broker that failed.",
        |broker| broker.txerrs,
    ),
    counter(
        "kafka_producer_broker_request_retries",
        "Requests to the broker that were tried again.",
        |broker| broker.txretries,
    ),
    counter(
        "kafka_producer_request_timeouts",
        "Requests that the broker did not answer in time.",
        |broker| broker.req_timeouts,
    ),
    counter(
        "kafka_producer_broker_responses_count",
        "Responses received from the broker.",
        |broker| broker.rx,
    ),
    counter(
        "kafka_producer_broker_bytes_received",
        "Bytes received from the broker.",
        |broker| broker.rxbytes,
    ),
    counter(
        "kafka_producer_broker_errors_count",
        "Receives from the broker that failed.",
        |broker| broker.rxerrs,
    ),
];

pub(super) static TOPIC: [Row<Topic>; 3] = [
    largest(
        "kafka_producer_topic_metadata_age",
        "Milliseconds since the topic's metadata came.",
        |topic| topic.metadata_age,
    ),
    largest(
        "kafka_producer_topic_batchsize_avg",
        "Mean bytes per batch in librdkafka's last window.",
        |topic| topic.batchsize.avg,
    ),
    largest(
        "kafka_producer_topic_batchcount_avg",
        "Mean records per batch in librdkafka's last window.",
        |topic| topic.batchcnt.avg,
    ),
];

/// The number that kprf gave to the state of a connection; states that it did
/// not know count as what comes nearest.
pub fn broker_state(state: &str) -> i64 {
    match state {
        "INIT" => 0,
        "CONNECT" | "TRY_CONNECT" | "SSL_HANDSHAKE" => 2,
        "AUTH" | "AUTH_LEGACY" | "AUTH_REQ" | "REAUTH" => 3,
        "APIVERSION_QUERY" => 4,
        "AUTH_HANDSHAKE" => 5,
        "UP" => 6,
        "UPDATE" => 7,
        _ => 1,
    }
}
