//! A tonic service with the methods of `KafkaPixy` that does nothing, on
//! tonic's own server.

use anyhow::Result;
use barnabas_grpc::proto::kafka_pixy_server::{KafkaPixy, KafkaPixyServer};
use barnabas_grpc::proto::{
    AckRq, AckRs, ConsNAckRq, ConsRs, GetOffsetsRq, GetOffsetsRs, GetTopicMetadataRq,
    GetTopicMetadataRs, ListConsumersRq, ListConsumersRs, ListTopicRq, ListTopicRs, ProdRq, ProdRs,
    SetOffsetsRq, SetOffsetsRs,
};
use std::io::Write as _;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

struct Nothing;

macro_rules! methods {
    ($($name:ident: $request:ty => $response:ty,)*) => {
        #[tonic::async_trait]
        impl KafkaPixy for Nothing {
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Ok(Response::new(<$response>::default()))
            })*
        }
    };
}

methods! {
    produce: ProdRq => ProdRs,
    consume_n_ack: ConsNAckRq => ConsRs,
    ack: AckRq => AckRs,
    get_offsets: GetOffsetsRq => GetOffsetsRs,
    set_offsets: SetOffsetsRq => SetOffsetsRs,
    list_topics: ListTopicRq => ListTopicRs,
    list_consumers: ListConsumersRq => ListConsumersRs,
    get_topic_metadata: GetTopicMetadataRq => GetTopicMetadataRs,
}

/// Serves until it is killed, and prints where.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder()
            .add_service(KafkaPixyServer::new(Nothing))
            .serve_with_incoming(incoming)
            .await?;
        Ok(())
    })
}
