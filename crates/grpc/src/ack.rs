//! Ack.

use crate::errors;
use crate::proto::{AckRq, AckRs};
use crate::service::Asked;
use barnabas_engine::Action;
use tonic::Status;

pub(crate) async fn ack(asked: &Asked<'_>, request: AckRq) -> Result<AckRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Consume, Some(&request.topic))?;
    errors::check_ack(request.partition, request.offset)?;
    if request.group.is_empty() {
        return Err(errors::empty_group());
    }
    proxy
        .ack_one(
            &request.group,
            &request.topic,
            request.partition,
            request.offset,
        )
        .await
        .map_err(|error| errors::of_acknowledging(&error))?;
    Ok(AckRs {})
}
