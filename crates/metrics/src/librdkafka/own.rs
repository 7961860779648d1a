//! What kprf shows under names of its own, and what only consumers have: the
//! gateway's names follow the rule of the rest (`rest`).

use super::json::{Broker, Client, ConsumerGroup, Partition, Topic};
use super::row::{Row, StateRow, counter, largest, level};

pub(super) static CLIENT: [Row<Client>; 10] = [
    level(
        "barnabas_librdkafka_replyq",
        "Reports and events of librdkafka that wait to be polled.",
        |client| client.replyq,
    ),
    level(
        "barnabas_librdkafka_msg_cnt",
        "Records in librdkafka's queues, those in flight included.",
        |client| client.msg_cnt,
    ),
    level(
        "barnabas_librdkafka_msg_size_bytes",
        "Bytes of the records in librdkafka's queues.",
        |client| client.msg_size,
    ),
    counter(
        "barnabas_librdkafka_tx_total",
        "Requests sent to all brokers.",
        |client| client.tx,
    ),
    counter(
        "barnabas_librdkafka_tx_bytes_total",
        "Bytes sent to all brokers.",
        |client| client.tx_bytes,
    ),
    counter(
        "barnabas_librdkafka_rx_total",
        "Responses received from all brokers.",
        |client| client.rx,
    ),
    counter(
        "barnabas_librdkafka_rx_bytes_total",
        "Bytes received from all brokers.",
        |client| client.rx_bytes,
    ),
    counter(
        "barnabas_librdkafka_txmsgs_total",
        "Records transmitted to all brokers.",
        |client| client.txmsgs,
    ),
    counter(
        "barnabas_librdkafka_txmsg_bytes_total",
        "Bytes of the records transmitted to all brokers, framing included.",
        |client| client.txmsg_bytes,
    ),
    largest(
        "barnabas_librdkafka_metadata_cache_cnt",
        "Topics in the metadata cache.",
        |client| client.metadata_cache_cnt,
    ),
];

pub(super) static BROKER: [Row<Broker>; 14] = [
    largest(
        "barnabas_librdkafka_broker_state",
        "State of the connection: 0 init, 1 down, 2 connecting, 3 authenticating, 4 asking for API versions, 5 authentication handshake, 6 up, 7 updating; the most advanced of several clients.",
        |broker| super::kprf::broker_state(&broker.state),
    ),
    largest(
        "barnabas_librdkafka_broker_stateage_microseconds",
        "Microseconds since the state changed last.",
        |broker| broker.stateage,
    ),
    level(
        "barnabas_librdkafka_broker_outbuf_cnt",
        "Requests that wait to be sent to the broker.",
        |broker| broker.outbuf_cnt,
    ),
    level(
        "barnabas_librdkafka_broker_outbuf_msg_cnt",
        "Records that wait to be sent to the broker.",
        |broker| broker.outbuf_msg_cnt,
    ),
    level(
        "barnabas_librdkafka_broker_waitresp_cnt",
        "Requests sent to the broker and not answered yet.",
        |broker| broker.waitresp_cnt,
    ),
    level(
        "barnabas_librdkafka_broker_waitresp_msg_cnt",
        "Records sent to the broker and not answered yet.",
        |broker| broker.waitresp_msg_cnt,
    ),
    counter(
        "barnabas_librdkafka_broker_tx_total",
        "Requests sent to the broker.",
        |broker| broker.tx,
    ),
    counter(
        "barnabas_librdkafka_broker_txbytes_total",
        "Bytes sent to the broker.",
        |broker| broker.txbytes,
    ),
    counter(
        "barnabas_librdkafka_broker_txerrs_total",
        "Sends to the broker that failed.",
        |broker| broker.txerrs,
    ),
    counter(
        "barnabas_librdkafka_broker_txretries_total",
        "Requests to the broker that were tried again.",
        |broker| broker.txretries,
    ),
    counter(
        "barnabas_librdkafka_broker_req_timeouts_total",
        "Requests that the broker did not answer in time.",
        |broker| broker.req_timeouts,
    ),
    counter(
        "barnabas_librdkafka_broker_rx_total",
        "Responses received from the broker.",
        |broker| broker.rx,
    ),
    counter(
        "barnabas_librdkafka_broker_rxbytes_total",
        "Bytes received from the broker.",
        |broker| broker.rxbytes,
    ),
    counter(
        "barnabas_librdkafka_broker_rxerrs_total",
        "Receives from the broker that failed.",
        |broker| broker.rxerrs,
    ),
];

pub(super) static TOPIC: [Row<Topic>; 1] = [largest(
    "barnabas_librdkafka_topic_metadata_age_milliseconds",
    "Milliseconds since the topic's metadata came.",
    |topic| topic.metadata_age,
)];

/// Off unless asked for.
pub(super) static PARTITION: [Row<Partition>; 13] = [
    level(
        "barnabas_librdkafka_partition_fetchq_cnt",
        "Records fetched and not yet taken.",
        |partition| partition.fetchq_cnt,
    ),
    level(
        "barnabas_librdkafka_partition_fetchq_size_bytes",
        "Bytes of the records fetched and not yet taken.",
        |partition| partition.fetchq_size,
    ),
    largest(
        "barnabas_librdkafka_partition_next_offset",
        "The offset to be fetched next.",
        |partition| partition.next_offset,
    ),
    largest(
        "barnabas_librdkafka_partition_stored_offset",
        "The offset to be committed; -1001 without one.",
        |partition| partition.stored_offset,
    ),
    largest(
        "barnabas_librdkafka_partition_committed_offset",
        "The offset committed last; -1001 without one.",
        |partition| partition.committed_offset,
    ),
    largest(
        "barnabas_librdkafka_partition_lo_offset",
        "The oldest offset.",
        |partition| partition.lo_offset,
    ),
    largest(
        "barnabas_librdkafka_partition_hi_offset",
        "The offset to be written next.",
        |partition| partition.hi_offset,
    ),
    largest(
        "barnabas_librdkafka_partition_ls_offset",
        "The end of what readers of committed records may read.",
        |partition| partition.ls_offset,
    ),
    largest(
        "barnabas_librdkafka_partition_consumer_lag",
        "Records behind the committed offset; -1 if it is not known.",
        |partition| partition.consumer_lag,
    ),
    largest(
        "barnabas_librdkafka_partition_consumer_lag_stored",
        "Records behind the offset to be committed; -1 if it is not known.",
        |partition| partition.consumer_lag_stored,
    ),
    counter(
        "barnabas_librdkafka_partition_rxmsgs_total",
        "Records consumed from the partition.",
        |partition| partition.rxmsgs,
    ),
    counter(
        "barnabas_librdkafka_partition_rxbytes_total",
        "Bytes consumed from the partition.",
        |partition| partition.rxbytes,
    ),
    counter(
        "barnabas_librdkafka_partition_rx_ver_drops_total",
        "Records dropped because the position had changed meanwhile.",
        |partition| partition.rx_ver_drops,
    ),
];

pub(super) static GROUP_STATES: [StateRow<ConsumerGroup>; 2] = [
    (
        "barnabas_librdkafka_cgrp_state",
        "How many clients have this state towards the coordinator of their group.",
        |group| &group.state,
    ),
    (
        "barnabas_librdkafka_cgrp_join_state",
        "How many clients have this state as members of their group.",
        |group| &group.join_state,
    ),
];

pub(super) static GROUP: [Row<ConsumerGroup>; 4] = [
    largest(
        "barnabas_librdkafka_cgrp_stateage_milliseconds",
        "Milliseconds since the state changed.",
        |group| group.stateage,
    ),
    largest(
        "barnabas_librdkafka_cgrp_rebalance_age_milliseconds",
        "Milliseconds since the last rebalance.",
        |group| group.rebalance_age,
    ),
    counter(
        "barnabas_librdkafka_cgrp_rebalance_cnt_total",
        "Rebalances.",
        |group| group.rebalance_cnt,
    ),
    level(
        "barnabas_librdkafka_cgrp_assignment_size",
        "Partitions assigned.",
        |group| group.assignment_size,
    ),
];
