//! ConsumeNAck.

use crate::errors;
use crate::proto::{ConsNAckRq, ConsRs, RecordHeader};
use crate::proxies::Proxies;
use crate::reply::Receipt;
use barnabas_engine::{AckMode, Consume, Delivered, Dispatcher};
use std::future::poll_fn;
use std::task::Poll;
use tonic::{Response, Status};

pub(crate) async fn consume(
    proxies: &Proxies,
    request: ConsNAckRq,
) -> Result<Response<ConsRs>, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .ok_or_else(|| errors::unknown_cluster(&request.cluster))?;
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
    if proxy.is_consuming_disabled {
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
    let mut response = Response::new(reply(message, proxy.has_headers));
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
