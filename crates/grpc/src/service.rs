//! The methods of `KafkaPixy`.

use crate::lost::Lost;
use crate::proto::kafka_pixy_server::KafkaPixy;
use crate::proto::{
    AckRq, AckRs, ConsNAckRq, ConsRs, GetOffsetsRq, GetOffsetsRs, GetTopicMetadataRq,
    GetTopicMetadataRs, ListConsumersRq, ListConsumersRs, ListTopicRq, ListTopicRs, ProdRq, ProdRs,
    SetOffsetsRq, SetOffsetsRs,
};
use crate::proxies::Proxies;
use crate::{ack, consume, errors, produce};
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

    /// The five administrative methods, until the engine has what they need.
    fn not_built_yet<T>(&self, cluster: &str) -> Result<Response<T>, Status> {
        match self.proxies.get(cluster) {
            Some(_) => Err(Status::unimplemented("not built yet")),
            None => Err(errors::unknown_cluster(cluster)),
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
        self.not_built_yet(&request.get_ref().cluster)
    }

    async fn set_offsets(
        &self,
        request: Request<SetOffsetsRq>,
    ) -> Result<Response<SetOffsetsRs>, Status> {
        self.not_built_yet(&request.get_ref().cluster)
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicRq>,
    ) -> Result<Response<ListTopicRs>, Status> {
        self.not_built_yet(&request.get_ref().cluster)
    }

    async fn list_consumers(
        &self,
        request: Request<ListConsumersRq>,
    ) -> Result<Response<ListConsumersRs>, Status> {
        self.not_built_yet(&request.get_ref().cluster)
    }

    async fn get_topic_metadata(
        &self,
        request: Request<GetTopicMetadataRq>,
    ) -> Result<Response<GetTopicMetadataRs>, Status> {
        self.not_built_yet(&request.get_ref().cluster)
    }
}
