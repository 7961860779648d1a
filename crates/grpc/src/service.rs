//! The methods of `KafkaPixy`.

use crate::access::Caller;
use crate::proto::kafka_pixy_server::KafkaPixy;
use crate::proto::{
    AckRq, AckRs, ConsNAckRq, ConsRs, GetOffsetsRq, GetOffsetsRs, GetTopicMetadataRq,
    GetTopicMetadataRs, ListConsumersRq, ListConsumersRs, ListTopicRq, ListTopicRs, ProdRq, ProdRs,
    SetOffsetsRq, SetOffsetsRs,
};
use crate::{ack, admin, consume, produce};
use barnabas_engine::{Access, Action, Drops, Proxies, Proxy, RequestTrace};
use http::HeaderMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What all requests have in common.
pub(crate) struct Service {
    proxies: Arc<Proxies>,
    access: Arc<Access>,
    lost: Arc<Drops>,
}

impl Service {
    pub(crate) fn new(proxies: Arc<Proxies>, access: Arc<Access>, lost: Arc<Drops>) -> Self {
        Self {
            proxies,
            access,
            lost,
        }
    }

    /// The one who sent a request, and what it says.
    fn open<T>(&self, request: Request<T>) -> (Asked<'_>, T) {
        let (metadata, mut extensions, message) = request.into_parts();
        let asked = Asked {
            proxies: &self.proxies,
            access: &self.access,
            headers: metadata.into_headers(),
            trace: extensions.remove().unwrap_or_default(),
        };
        (asked, message)
    }
}

/// What a method needs besides the message.
pub(crate) struct Asked<'a> {
    pub(crate) proxies: &'a Proxies,
    access: &'a Access,
    headers: HeaderMap,
    pub(crate) trace: RequestTrace,
}

impl Asked<'_> {
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller::new(self.access, &self.headers)
    }

    /// The cluster that the request names, if its sender may act there.
    pub(crate) fn proxy(
        &self,
        cluster: &str,
        action: Action,
        topic: Option<&str>,
    ) -> Result<&Arc<Proxy>, Status> {
        self.caller().proxy(self.proxies, cluster, action, topic)
    }
}

#[tonic::async_trait]
impl KafkaPixy for Service {
    async fn produce(&self, request: Request<ProdRq>) -> Result<Response<ProdRs>, Status> {
        let (asked, message) = self.open(request);
        produce::produce(&asked, &self.lost, message)
            .await
            .map(Response::new)
    }

    async fn consume_n_ack(
        &self,
        request: Request<ConsNAckRq>,
    ) -> Result<Response<ConsRs>, Status> {
        let (asked, message) = self.open(request);
        consume::consume(&asked, message).await
    }

    async fn ack(&self, request: Request<AckRq>) -> Result<Response<AckRs>, Status> {
        let (asked, message) = self.open(request);
        ack::ack(&asked, message).await.map(Response::new)
    }

    async fn get_offsets(
        &self,
        request: Request<GetOffsetsRq>,
    ) -> Result<Response<GetOffsetsRs>, Status> {
        let (asked, message) = self.open(request);
        admin::get_offsets(&asked, message).await.map(Response::new)
    }

    async fn set_offsets(
        &self,
        request: Request<SetOffsetsRq>,
    ) -> Result<Response<SetOffsetsRs>, Status> {
        let (asked, message) = self.open(request);
        admin::set_offsets(&asked, message).await.map(Response::new)
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicRq>,
    ) -> Result<Response<ListTopicRs>, Status> {
        let (asked, message) = self.open(request);
        admin::list_topics(&asked, message).await.map(Response::new)
    }

    async fn list_consumers(
        &self,
        request: Request<ListConsumersRq>,
    ) -> Result<Response<ListConsumersRs>, Status> {
        let (asked, message) = self.open(request);
        admin::list_consumers(&asked, message)
            .await
            .map(Response::new)
    }

    async fn get_topic_metadata(
        &self,
        request: Request<GetTopicMetadataRq>,
    ) -> Result<Response<GetTopicMetadataRs>, Status> {
        let (asked, message) = self.open(request);
        admin::get_topic_metadata(&asked, message)
            .await
            .map(Response::new)
    }
}
