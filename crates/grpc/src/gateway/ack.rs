//! Ack.

use super::{Caller, Gateway, MAX_POSITIONS};
use crate::errors;
use crate::v1::{AckRequest, AckResponse, AckResult};
use barnabas_engine::Action;
use std::pin::Pin;
use std::sync::Arc;
use tonic::server::UnaryService;
use tonic::{Request, Response, Status};

/// The method, as tonic calls it.
pub(super) struct Ack(pub(super) Arc<Gateway>);

impl UnaryService<AckRequest> for Ack {
    type Response = AckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AckResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<AckRequest>) -> Self::Future {
        let gateway = Arc::clone(&self.0);
        Box::pin(async move { ack(&gateway, request).await.map(Response::new) })
    }
}

async fn ack(gateway: &Gateway, request: Request<AckRequest>) -> Result<AckResponse, Status> {
    let caller = Caller::new(&gateway.access, request.metadata().as_ref());
    let wanted = request.get_ref();
    let proxy = caller.proxy(
        &gateway.proxies,
        &wanted.cluster,
        Action::Consume,
        Some(&wanted.topic),
    )?;
    if wanted.group.is_empty() {
        return Err(errors::empty_group());
    }
    let count = wanted.positions.len();
    if count > MAX_POSITIONS {
        return Err(super::too_many("positions", count, MAX_POSITIONS));
    }
    let positions: Vec<_> = wanted
        .positions
        .iter()
        .map(|position| (position.partition, position.offset))
        .collect();
    let (group, topic) = (&*wanted.group, &*wanted.topic);
    let results = if wanted.forwarded {
        proxy.dispatcher.ack(group, topic, &positions).await
    } else {
        proxy.ack(group, topic, &positions).await
    };
    let results = results.into_iter().map(|result| match result {
        Ok(is_new) => AckResult {
            error: None,
            was_acknowledged: !is_new,
        },
        Err(error) => AckResult {
            error: Some(errors::v1::of_acknowledging(&error)),
            was_acknowledged: false,
        },
    });
    Ok(AckResponse {
        results: results.collect(),
    })
}
