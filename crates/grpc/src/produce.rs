//! Produce.

use crate::errors;
use crate::proto::{ProdRq, ProdRs};
use crate::service::Asked;
use barnabas_engine::{Action, CLUSTER_UNREACHABLE, DeliverySink, Drops, Record};
use std::sync::Arc;
use tonic::Status;

/// The reply in async mode.
const QUEUED: ProdRs = ProdRs {
    partition: -1,
    offset: -1,
};

pub(crate) async fn produce(
    asked: &Asked<'_>,
    lost: &Arc<Drops>,
    request: ProdRq,
) -> Result<ProdRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Produce, Some(&request.topic))?;
    if asked.proxies.is_stopping() {
        return Err(errors::shutting_down());
    }
    if !proxy.options.has_headers && !request.headers.is_empty() {
        if request.async_mode && !proxy.options.strict_async {
            lost.with_headers(&request.topic);
            return Ok(QUEUED);
        }
        return Err(errors::headers_unsupported());
    }
    let record = Record {
        key: (!request.key_undefined).then_some(&*request.key_value),
        value: Some(&*request.message),
    };
    let mut headers: Vec<(&str, Option<&[u8]>)> = request
        .headers
        .iter()
        .map(|header| (&*header.key, Some(&*header.value)))
        .collect();
    let sending = asked.trace.sending(&request.topic);
    sending.add_where_it_fits(proxy, record, &mut headers);
    if request.async_mode {
        let sink: Arc<dyn DeliverySink> = Arc::<Drops>::clone(lost);
        let submitted = proxy
            .produce(asked.proxies, &request.topic, record, &headers, None, &sink)
            .await;
        if let Err(error) = &submitted {
            sending.failed(error);
        }
        return match submitted {
            Ok(()) => Ok(QUEUED),
            Err(error) if proxy.tells(&request.topic, &error) => Err(errors::of_producing(&error)),
            Err(error) => {
                lost.refused(&request.topic, &error);
                Ok(QUEUED)
            }
        };
    }
    // Others may be here because there is a journal.
    if !proxy.is_reachable() {
        return Err(Status::unavailable(CLUSTER_UNREACHABLE));
    }
    let submitted = proxy
        .submit(asked.proxies, &request.topic, record, &headers)
        .await;
    let delivered = match submitted {
        Ok(submitted) => submitted.delivered().await,
        Err(error) => Err(error),
    };
    match delivered {
        Ok(delivery) => {
            sending.written(delivery);
            Ok(ProdRs {
                partition: delivery.partition,
                offset: delivery.offset,
            })
        }
        Err(error) => {
            sending.failed(&error);
            Err(errors::of_producing(&error))
        }
    }
}
