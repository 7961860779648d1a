//! Produce.

use crate::errors;
use crate::lost::Lost;
use crate::proto::{ProdRq, ProdRs};
use crate::proxies::Proxies;
use barnabas_engine::{Error, ErrorCode, Record, Submitted};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// The reply in async mode.
const QUEUED: ProdRs = ProdRs {
    partition: -1,
    offset: -1,
};

/// Before a full queue is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Callers wait for room in the producer's queue (contract,
/// `consume-and-ack.md`, section 12, `producer.channel_buffer_size`).
fn is_full(submitted: &Result<Submitted, Error>) -> bool {
    matches!(submitted, Err(Error::Kafka { error }) if error.is(ErrorCode::QueueFull))
}

pub(crate) async fn produce(
    proxies: &Proxies,
    lost: &Arc<Lost>,
    request: ProdRq,
) -> Result<ProdRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .ok_or_else(|| errors::unknown_cluster(&request.cluster))?;
    if proxies.is_stopping() {
        return Err(errors::shutting_down());
    }
    if !proxy.has_headers && !request.headers.is_empty() {
        let refused = errors::headers_unsupported();
        if request.async_mode {
            lost.add(&request.topic, refused.message());
            return Ok(QUEUED);
        }
        return Err(refused);
    }
    let record = Record {
        key: (!request.key_undefined).then_some(&*request.key_value),
        value: Some(&*request.message),
    };
    let headers: Vec<(&str, Option<&[u8]>)> = request
        .headers
        .iter()
        .map(|header| (&*header.key, Some(&*header.value)))
        .collect();
    let hand_over = || {
        proxy
            .producer
            .submit(&request.topic, None, record, &headers, None)
    };
    let mut submitted = hand_over();
    if is_full(&submitted) {
        // One looks for room, the others stand behind it: a crowd of them
        // would take the processor from those who make room.
        let _turn = proxies.room(&request.cluster).await;
        submitted = hand_over();
        while is_full(&submitted) {
            if proxies.is_stopping() {
                return Err(errors::shutting_down());
            }
            tokio::time::sleep(PAUSE).await;
            submitted = hand_over();
        }
    }
    if !request.async_mode {
        let delivered = match submitted {
            Ok(submitted) => submitted.delivered().await,
            Err(error) => Err(error),
        };
        return match delivered {
            Ok(delivery) => Ok(ProdRs {
                partition: delivery.partition,
                offset: delivery.offset,
            }),
            Err(error) => Err(errors::of_producing(&error)),
        };
    }
    match submitted {
        Ok(submitted) => {
            let lost = Arc::clone(lost);
            tokio::spawn(async move {
                if let Err(error) = submitted.delivered().await {
                    lost.add(&request.topic, &errors::engine_text(&error));
                }
            });
        }
        Err(error) => lost.add(&request.topic, &errors::engine_text(&error)),
    }
    Ok(QUEUED)
}
