//! ConsumeNAck.

use crate::errors;
use crate::proto::{ConsNAckRq, ConsRs, RecordHeader};
use crate::reply::Receipt;
use barnabas_engine::{AckMode, Consume, Delivered, Dispatcher, Proxies};
use std::future::poll_fn;
use std::task::Poll;
use tonic::{Response, Status};

pub(crate) async fn consume(
    proxies: &Proxies,
    request: ConsNAckRq,
) -> Result<Response<ConsRs>, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
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
    if proxies.is_stopping() {
        return Err(errors::shutting_down());
    }
    if has_ack {
        acknowledge(&proxy.dispatcher, &request).await;
    }
    let deliveries = proxy
        .dispatcher
        .consume(&Consume {
            group: &request.group,
            topic: &request.topic,
            mode,
            max: 1,
        })
        .await
        .map_err(|error| errors::of_consuming(&error))?;
    let Some(message) = deliveries.messages().first() else {
        return Err(Status::internal("no message"));
    };
    let mut response = Response::new(reply(message, proxy.options.has_headers));
    response.extensions_mut().insert(Receipt::new(deliveries));
    Ok(response)
}

/// Acknowledges the earlier message. That changes nothing for the reply, so
/// where it has to ask Kafka it does so while the next message is waited for
/// and, once begun, even if the client goes away.
async fn acknowledge(dispatcher: &Dispatcher, request: &ConsNAckRq) {
    let dispatcher = dispatcher.clone();
    let (group, topic) = (request.group.clone(), request.topic.clone());
    let (partition, offset) = (request.ack_partition, request.ack_offset);
    let mut acknowledged = Box::pin(async move {
        if let Err(error) = dispatcher.ack(&group, &topic, partition, offset).await {
            tracing::debug!(
                component = "grpc",
                group,
                topic,
                partition,
                offset,
                "Ack of a consume request not taken: {error}"
            );
        }
    });
    let is_done = poll_fn(|context| Poll::Ready(acknowledged.as_mut().poll(context).is_ready()));
    if !is_done.await {
        tokio::spawn(acknowledged);
    }
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
    use std::sync::Arc;

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
