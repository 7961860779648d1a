//! ConsumeNAck.

use crate::errors;
use crate::proto::{ConsNAckRq, ConsRs, RecordHeader};
use crate::reply::Receipt;
use crate::service::Asked;
use crate::trace;
use barnabas_engine::{AckError, AckMode, Action, Consume, Delivered, Proxy};
use std::sync::Arc;
use std::time::Instant;
use tonic::{Response, Status};

pub(crate) async fn consume(
    asked: &Asked<'_>,
    request: ConsNAckRq,
) -> Result<Response<ConsRs>, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Consume, Some(&request.topic))?;
    let (mode, has_ack) = match (request.no_ack, request.auto_ack) {
        (true, _) => (AckMode::Explicit, false),
        (false, true) => (AckMode::Auto, false),
        (false, false) => (AckMode::Explicit, true),
    };
    if has_ack {
        errors::check_ack(request.ack_partition, request.ack_offset)?;
    }
    if request.group.is_empty() {
        return Err(errors::empty_group());
    }
    if proxy.options.is_consuming_disabled {
        return Err(errors::consuming_disabled());
    }
    if asked.proxies.is_stopping() {
        return Err(errors::shutting_down());
    }
    if has_ack {
        acknowledge(proxy, &request);
    }
    let began = Instant::now();
    let deliveries = proxy
        .dispatcher
        .consume(&Consume::one(&request.group, &request.topic, mode))
        .await
        .map_err(|error| errors::of_consuming(&error))?;
    let messages = deliveries.messages();
    let (group, topic) = (&request.group, &request.topic);
    asked.trace.received(group, topic, began, messages);
    let context = asked.trace.of_received(messages);
    let Some(message) = messages.first() else {
        return Err(Status::internal("no message"));
    };
    let mut response = Response::new(reply(message, proxy.options.has_headers));
    if proxy.options.has_headers {
        trace::bring_back(response.metadata_mut(), &context);
    }
    response.extensions_mut().insert(Receipt::new(deliveries));
    Ok(response)
}

/// Acknowledges the earlier message. That changes nothing for the reply.
fn acknowledge(proxy: &Arc<Proxy>, request: &ConsNAckRq) {
    let (partition, offset) = (request.ack_partition, request.ack_offset);
    let refused = move |group: &str, topic: &str, error: AckError| {
        tracing::debug!(
            component = "grpc",
            group,
            topic,
            partition,
            offset,
            "Ack of a consume request not taken: {error}"
        );
    };
    proxy.ack_aside(&request.group, &request.topic, (partition, offset), refused);
}

fn reply(message: &Delivered, has_headers: bool) -> ConsRs {
    let record = &message.record;
    let headers = if has_headers {
        record
            .headers
            .iter()
            .map(|(name, value)| RecordHeader {
                key: String::from_utf8_lossy(name).into_owned(),
                value: value.clone().unwrap_or_default(),
            })
            .collect()
    } else {
        Vec::new()
    };
    ConsRs {
        partition: message.partition,
        offset: message.offset,
        key_value: record.key.clone().unwrap_or_default(),
        key_undefined: record.key.is_none(),
        message: record.value.clone().unwrap_or_default(),
        headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_engine::ConsumedRecord;
    use bytes::Bytes;

    #[test]
    fn header_names_that_are_not_utf8_are_replaced() {
        let record = ConsumedRecord {
            key: None,
            value: None,
            headers: vec![
                (
                    Bytes::from_static(b"a\xffb"),
                    Some(Bytes::from_static(b"\xff")),
                ),
                (Bytes::from_static(b"null"), None),
            ],
            timestamp: None,
        };
        let message = Delivered {
            partition: 1,
            offset: 2,
            number: 1,
            record: Arc::new(record),
        };
        let reply = reply(&message, true);
        assert_eq!((reply.partition, reply.offset), (1, 2));
        assert!(reply.key_undefined && reply.key_value.is_empty() && reply.message.is_empty());
        let headers: Vec<_> = reply
            .headers
            .iter()
            .map(|header| (&*header.key, &*header.value))
            .collect();
        assert_eq!(headers, [("a\u{fffd}b", &b"\xff"[..]), ("null", b"")]);
    }
}
