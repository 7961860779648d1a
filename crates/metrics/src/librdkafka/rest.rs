//! What kprf did not show (contract, `producer-http.md`, section 6.3). Names
//! are those of the JSON with units; what librdkafka calls an `int` ends in
//! `_total` and is a counter, what it calls an `int gauge` is a gauge.

use super::json::{Broker, Client, Eos, Partition, Topic};
use super::row::{Row, StateRow, WindowRow, counter, largest, level, number};

pub(super) static CLIENT: [Row<Client>; 6] = [
    number(
        "barnabas_librdkafka_age_microseconds_total",
        "Microseconds since the client was made.",
        |client| client.age,
    ),
    number(
        "barnabas_librdkafka_msg_max_total",
        "How many records librdkafka's queues may hold.",
        |client| client.msg_max,
    ),
    number(
        "barnabas_librdkafka_msg_size_max_bytes_total",
        "How many bytes of records librdkafka's queues may hold.",
        |client| client.msg_size_max,
    ),
    counter(
        "barnabas_librdkafka_rxmsgs_total",
        "Records consumed from all brokers, those passed over left out.",
        |client| client.rxmsgs,
    ),
    counter(
        "barnabas_librdkafka_rxmsg_bytes_total",
        "Bytes of the records consumed from all brokers, framing included.",
        |client| client.rxmsg_bytes,
    ),
    level(
        "barnabas_librdkafka_simple_cnt",
        "How many uses of the old consumer API are open; -1 where the new one is used.",
        |client| client.simple_cnt,
    ),
];

pub(super) static BROKER: [Row<Broker>; 9] = [
    number(
        "barnabas_librdkafka_broker_txidle_microseconds_total",
        "Microseconds since something was sent to the broker; -1 before the first time.",
        |broker| broker.txidle,
    ),
    number(
        "barnabas_librdkafka_broker_rxidle_microseconds_total",
        "Microseconds since something came from the broker; -1 before the first time.",
        |broker| broker.rxidle,
    ),
    counter(
        "barnabas_librdkafka_broker_rxcorriderrs_total",
        "Responses to requests that nobody waited for any more.",
        |broker| broker.rxcorriderrs,
    ),
    counter(
        "barnabas_librdkafka_broker_rxpartial_total",
        "Message sets that the broker sent only in part.",
        |broker| broker.rxpartial,
    ),
    counter(
        "barnabas_librdkafka_broker_zbuf_grow_total",
        "How often the buffer for decompression was made larger.",
        |broker| broker.zbuf_grow,
    ),
    counter(
        "barnabas_librdkafka_broker_buf_grow_total",
        "How often a buffer was made larger; librdkafka no longer counts it.",
        |broker| broker.buf_grow,
    ),
    counter(
        "barnabas_librdkafka_broker_wakeups_total",
        "How often the broker's thread was woken.",
        |broker| broker.wakeups,
    ),
    counter(
        "barnabas_librdkafka_broker_connects_total",
        "Attempts to connect to the broker, failed ones included.",
        |broker| broker.connects,
    ),
    counter(
        "barnabas_librdkafka_broker_disconnects_total",
        "Connections to the broker that ended.",
        |broker| broker.disconnects,
    ),
];

/// With the label `request`.
pub(super) const REQUESTS: (&str, &str) = (
    "barnabas_librdkafka_broker_req_total",
    "Requests sent to the broker, by kind.",
);

pub(super) static BROKER_WINDOWS: [WindowRow<Broker>; 4] = [
    WindowRow {
        name: "barnabas_librdkafka_broker_int_latency_microseconds",
        help: "Microseconds that records waited in librdkafka before a request was made of them",
        window: |broker| &broker.int_latency,
    },
    WindowRow {
        name: "barnabas_librdkafka_broker_outbuf_latency_microseconds",
        help: "Microseconds that requests to the broker waited before they were written",
        window: |broker| &broker.outbuf_latency,
    },
    WindowRow {
        name: "barnabas_librdkafka_broker_rtt_microseconds",
        help: "Microseconds from a request to the broker's response",
        window: |broker| &broker.rtt,
    },
    WindowRow {
        name: "barnabas_librdkafka_broker_throttle_milliseconds",
        help: "Milliseconds for which the broker throttled the client",
        window: |broker| &broker.throttle,
    },
];

pub(super) static TOPIC: [Row<Topic>; 1] = [largest(
    "barnabas_librdkafka_topic_age_milliseconds",
    "Milliseconds since the client came to know the topic.",
    |topic| topic.age,
)];

pub(super) static TOPIC_WINDOWS: [WindowRow<Topic>; 2] = [
    WindowRow {
        name: "barnabas_librdkafka_topic_batchsize_bytes",
        help: "Bytes per batch",
        window: |topic| &topic.batchsize,
    },
    WindowRow {
        name: "barnabas_librdkafka_topic_batchcnt",
        help: "Records per batch",
        window: |topic| &topic.batchcnt,
    },
];

/// Off unless asked for.
pub(super) static PARTITION: [Row<Partition>; 15] = [
    number(
        "barnabas_librdkafka_partition_leader_total",
        "Id of the leading broker; -1 without one.",
        |partition| partition.leader,
    ),
    number(
        "barnabas_librdkafka_partition_leader_epoch_total",
        "Epoch of the leader as the client knows it; -1 if it does not.",
        |partition| partition.leader_epoch,
    ),
    largest(
        "barnabas_librdkafka_partition_desired",
        "1 if the application has asked for the partition.",
        |partition| partition.desired.into(),
    ),
    largest(
        "barnabas_librdkafka_partition_unknown",
        "1 if the brokers do not list the partition.",
        |partition| partition.unknown.into(),
    ),
    level(
        "barnabas_librdkafka_partition_msgq_cnt",
        "Records that wait in the first queue.",
        |partition| partition.msgq_cnt,
    ),
    level(
        "barnabas_librdkafka_partition_msgq_bytes",
        "Bytes of the records that wait in the first queue.",
        |partition| partition.msgq_bytes,
    ),
    level(
        "barnabas_librdkafka_partition_xmit_msgq_cnt",
        "Records that are ready to be sent.",
        |partition| partition.xmit_msgq_cnt,
    ),
    level(
        "barnabas_librdkafka_partition_xmit_msgq_bytes",
        "Bytes of the records that are ready to be sent.",
        |partition| partition.xmit_msgq_bytes,
    ),
    counter(
        "barnabas_librdkafka_partition_txmsgs_total",
        "Records sent to the partition.",
        |partition| partition.txmsgs,
    ),
    counter(
        "barnabas_librdkafka_partition_txbytes_total",
        "Bytes of the records sent to the partition.",
        |partition| partition.txbytes,
    ),
    counter(
        "barnabas_librdkafka_partition_msgs_total",
        "Records handed over for the partition, or consumed from it.",
        |partition| partition.msgs,
    ),
    level(
        "barnabas_librdkafka_partition_msgs_inflight",
        "Records on the way to or from the broker.",
        |partition| partition.msgs_inflight,
    ),
    largest(
        "barnabas_librdkafka_partition_next_ack_seq",
        "The sequence number that the idempotent producer expects to be acknowledged next.",
        |partition| partition.next_ack_seq,
    ),
    largest(
        "barnabas_librdkafka_partition_next_err_seq",
        "The sequence number that the idempotent producer expects to fail next.",
        |partition| partition.next_err_seq,
    ),
    number(
        "barnabas_librdkafka_partition_acked_msgid_total",
        "Internal id of the record that was acknowledged last.",
        |partition| partition.acked_msgid,
    ),
];

/// With the state as the label `state`, and 1 as the value.
pub(super) static EOS_STATES: [StateRow<Eos>; 2] = [
    (
        "barnabas_librdkafka_eos_idemp_state",
        "State of the idempotent producer, in the label; always 1.",
        |eos| &eos.idemp_state,
    ),
    (
        "barnabas_librdkafka_eos_txn_state",
        "State of the transactional producer, in the label; always 1.",
        |eos| &eos.txn_state,
    ),
];

pub(super) static EOS: [Row<Eos>; 5] = [
    largest(
        "barnabas_librdkafka_eos_idemp_stateage_milliseconds",
        "Milliseconds since the idempotent producer's state changed.",
        |eos| eos.idemp_stateage,
    ),
    largest(
        "barnabas_librdkafka_eos_txn_stateage_milliseconds",
        "Milliseconds since the transactional producer's state changed.",
        |eos| eos.txn_stateage,
    ),
    largest(
        "barnabas_librdkafka_eos_producer_id",
        "Id that Kafka has given the producer; -1 without one.",
        |eos| eos.producer_id,
    ),
    largest(
        "barnabas_librdkafka_eos_producer_epoch",
        "Epoch of the producer's id; -1 without one.",
        |eos| eos.producer_epoch,
    ),
    counter(
        "barnabas_librdkafka_eos_epoch_cnt_total",
        "How often the producer was given an id.",
        |eos| eos.epoch_cnt,
    ),
];
