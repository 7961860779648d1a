//! Ack.

use crate::errors;
use crate::proto::{AckRq, AckRs};
use barnabas_engine::Proxies;
use tonic::Status;

pub(crate) async fn ack(proxies: &Proxies, request: AckRq) -> Result<AckRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
    errors::check_ack(request.partition, request.offset)?;
    if request.group.is_empty() {
        return Err(errors::empty_group());
    }
    proxy
        .dispatcher
        .ack(
            &request.group,
            &request.topic,
            request.partition,
            request.offset,
        )
        .await
        .map_err(|error| errors::of_acknowledging(&error))?;
    Ok(AckRs {})
}
