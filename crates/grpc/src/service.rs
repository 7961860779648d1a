//! The methods of `KafkaPixy`.

use crate::lost::Lost;
use crate::proto::kafka_pixy_server::KafkaPixy;
use crate::proto::{
    AckRq, AckRs, ConsNAckRq, ConsRs, GetOffsetsRq, GetOffsetsRs, GetTopicMetadataRq,
    GetTopicMetadataRs, ListConsumersRq, ListConsumersRs, ListTopicRq, ListTopicRs, ProdRq, ProdRs,
    SetOffsetsRq, SetOffsetsRs,
};
use crate::{ack, admin, consume, produce};
use barnabas_engine::Proxies;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What all requests have in common.
pub(crate) struct Service {
    proxies: Arc<Proxies>,
    lost: Arc<Lost>,
}

impl Service {
    pub(crate) fn new(proxies: Arc<Proxies>) -> Self {
        Self {
            proxies,
            lost: Arc::default(),
        }
    }
}

#[tonic::async_trait]
impl KafkaPixy for Service {
    async fn produce(&self, request: Request<ProdRq>) -> Result<Response<ProdRs>, Status> {
        produce::produce(&self.proxies, &self.lost, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn consume_n_ack(
        &self,
        request: Request<ConsNAckRq>,
    ) -> Result<Response<ConsRs>, Status> {
        consume::consume(&self.proxies, request.into_inner()).await
    }

    async fn ack(&self, request: Request<AckRq>) -> Result<Response<AckRs>, Status> {
        ack::ack(&self.proxies, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_offsets(
        &self,
        request: Request<GetOffsetsRq>,
    ) -> Result<Response<GetOffsetsRs>, Status> {
        admin::get_offsets(&self.proxies, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn set_offsets(
        &self,
        request: Request<SetOffsetsRq>,
    ) -> Result<Response<SetOffsetsRs>, Status> {
        admin::set_offsets(&self.proxies, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicRq>,
    ) -> Result<Response<ListTopicRs>, Status> {
        admin::list_topics(&self.proxies, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_consumers(
        &self,
        request: Request<ListConsumersRq>,
    ) -> Result<Response<ListConsumersRs>, Status> {
        admin::list_consumers(&self.proxies, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_topic_metadata(
        &self,
        request: Request<GetTopicMetadataRq>,
    ) -> Result<Response<GetTopicMetadataRs>, Status> {
        admin::get_topic_metadata(&self.proxies, request.into_inner())
            .await
            .map(Response::new)
    }
}
