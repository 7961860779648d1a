//! Produce.

use crate::errors;
use crate::lost::Lost;
use crate::proto::{ProdRq, ProdRs};
use barnabas_engine::{Proxies, Record, sarama_text_of};
use std::sync::Arc;
use tonic::Status;

/// The reply in async mode.
const QUEUED: ProdRs = ProdRs {
    partition: -1,
    offset: -1,
};

pub(crate) async fn produce(
    proxies: &Proxies,
    lost: &Arc<Lost>,
    request: ProdRq,
) -> Result<ProdRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
    if proxies.is_stopping() {
        return Err(errors::shutting_down());
    }
    if !proxy.options.has_headers && !request.headers.is_empty() {
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
    let submitted = proxy
        .submit(proxies, &request.topic, record, &headers)
        .await;
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
                    lost.add(&request.topic, &sarama_text_of(&error));
                }
            });
        }
        Err(error) => lost.add(&request.topic, &sarama_text_of(&error)),
    }
    Ok(QUEUED)
}
