//! librdkafka's statistics as it writes them (its `STATISTICS.md`), as far as
//! they are used. What is missing reads as 0: brokers and versions differ.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What one client says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Client {
    /// Of all clients that the process has ever had, only this one's.
    pub(super) name: String,
    pub(super) age: i64,
    pub(super) replyq: i64,
    pub(super) msg_cnt: i64,
    pub(super) msg_size: i64,
    pub(super) msg_max: i64,
    pub(super) msg_size_max: i64,
    pub(super) tx: i64,
    pub(super) tx_bytes: i64,
    pub(super) rx: i64,
    pub(super) rx_bytes: i64,
    pub(super) txmsgs: i64,
    pub(super) txmsg_bytes: i64,
    pub(super) rxmsgs: i64,
    pub(super) rxmsg_bytes: i64,
    pub(super) simple_cnt: i64,
    pub(super) metadata_cache_cnt: i64,
    pub(super) brokers: BTreeMap<String, Broker>,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) cgrp: Option<ConsumerGroup>,
    pub(super) eos: Option<Eos>,
}

/// Of one broker.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Broker {
    pub(super) source: String,
    pub(super) state: String,
    pub(super) stateage: i64,
    pub(super) outbuf_cnt: i64,
    pub(super) outbuf_msg_cnt: i64,
    pub(super) waitresp_cnt: i64,
    pub(super) waitresp_msg_cnt: i64,
    pub(super) tx: i64,
    pub(super) txbytes: i64,
    pub(super) txerrs: i64,
    pub(super) txretries: i64,
    pub(super) txidle: i64,
    pub(super) req_timeouts: i64,
    pub(super) rx: i64,
    pub(super) rxbytes: i64,
    pub(super) rxerrs: i64,
    pub(super) rxcorriderrs: i64,
    pub(super) rxpartial: i64,
    pub(super) rxidle: i64,
    pub(super) zbuf_grow: i64,
    pub(super) buf_grow: i64,
    pub(super) wakeups: i64,
    pub(super) connects: i64,
    pub(super) disconnects: i64,
    /// How many requests of each kind were sent.
    pub(super) req: BTreeMap<String, i64>,
    pub(super) int_latency: Window,
    pub(super) outbuf_latency: Window,
    pub(super) rtt: Window,
    pub(super) throttle: Window,
}

/// Of one topic.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Topic {
    pub(super) age: i64,
    pub(super) metadata_age: i64,
    pub(super) batchsize: Window,
    pub(super) batchcnt: Window,
    pub(super) partitions: BTreeMap<String, Partition>,
}

/// Of one partition.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Partition {
    pub(super) leader: i64,
    pub(super) leader_epoch: i64,
    pub(super) desired: bool,
    pub(super) unknown: bool,
    pub(super) msgq_cnt: i64,
    pub(super) msgq_bytes: i64,
    pub(super) xmit_msgq_cnt: i64,
    pub(super) xmit_msgq_bytes: i64,
    pub(super) fetchq_cnt: i64,
    pub(super) fetchq_size: i64,
    pub(super) next_offset: i64,
    pub(super) stored_offset: i64,
    pub(super) committed_offset: i64,
    pub(super) lo_offset: i64,
    pub(super) hi_offset: i64,
    pub(super) ls_offset: i64,
    pub(super) consumer_lag: i64,
    pub(super) consumer_lag_stored: i64,
    pub(super) txmsgs: i64,
    pub(super) txbytes: i64,
    pub(super) rxmsgs: i64,
    pub(super) rxbytes: i64,
    pub(super) rx_ver_drops: i64,
    pub(super) msgs: i64,
    pub(super) msgs_inflight: i64,
    pub(super) next_ack_seq: i64,
    pub(super) next_err_seq: i64,
    pub(super) acked_msgid: i64,
}

/// Of a rolling window.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Window {
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) avg: i64,
    pub(super) sum: i64,
    pub(super) cnt: i64,
    pub(super) stddev: i64,
    pub(super) p50: i64,
    pub(super) p75: i64,
    pub(super) p90: i64,
    pub(super) p95: i64,
    pub(super) p99: i64,
    pub(super) p99_99: i64,
    pub(super) outofrange: i64,
}

/// Of a consumer's group.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConsumerGroup {
    pub(super) state: String,
    pub(super) stateage: i64,
    pub(super) join_state: String,
    pub(super) rebalance_age: i64,
    pub(super) rebalance_cnt: i64,
    pub(super) assignment_size: i64,
}

/// Of an idempotent producer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Eos {
    pub(super) idemp_state: String,
    pub(super) idemp_stateage: i64,
    pub(super) txn_state: String,
    pub(super) txn_stateage: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i64,
    pub(super) epoch_cnt: i64,
}
