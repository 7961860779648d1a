//! gRPC clients, by tonic: `KafkaPixy`, request by request, and the streams
//! of `barnabas.v1.Gateway`. All consumers are of one group.

use super::{BACKOFF, BATCH, PAUSE, REQUEST_LIMIT, Shared, Writer};
use crate::torture::ledger::{Durability, Place};
use anyhow::{Context as _, Result, bail};
use barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient;
use barnabas_grpc::proto::{AckRq, ConsNAckRq, ProdRq};
use barnabas_grpc::v1::consume_request::Frame;
use barnabas_grpc::v1::gateway_client::GatewayClient;
use barnabas_grpc::v1::{
    AckMode, AckRequest, ConsumeAcks, ConsumeRequest, ConsumeStart, Position, ProduceRequest,
    Record,
};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

const GROUP: &str = "grpc";
const STREAMS: usize = 2;
/// Of a stream that consumes.
const WINDOW: u32 = 200;
/// Frames that may have been on their way before one that is read, on a network that is
/// well: in the connection, behind it, and being made.
const FRAMES_AHEAD: usize = 6;

/// How a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sync,
    Async,
    Stream,
}

pub(super) fn producers(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    [
        ("grpc-sync", Way::Sync, Durability::Kafka),
        ("grpc-async", Way::Async, Durability::Journal),
        ("grpc-stream", Way::Stream, Durability::Kafka),
    ]
    .into_iter()
    .map(|(name, way, durability)| {
        tokio::spawn(produce(Writer::new(name, durability, shared), way))
    })
    .collect()
}

async fn connect(address: &str, roots: &str) -> Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?
        .tls_config(tls)?
        .connect_timeout(REQUEST_LIMIT)
        // A gateway whose network has gone says nothing.
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(REQUEST_LIMIT)
        .tcp_nodelay(true);
    Ok(endpoint.connect().await?)
}

async fn produce(mut writer: Writer, way: Way) {
    let shared = Arc::clone(&writer.shared);
    while shared.is_producing() {
        let result = match shared.next() {
            None => Err(anyhow::anyhow!("no gateway")),
            Some((gateway, address)) => match connect(&address.grpc, &shared.roots).await {
                Err(error) => Err(error),
                Ok(channel) if way == Way::Stream => {
                    produce_stream(&mut writer, gateway, channel).await
                }
                Ok(channel) => {
                    produce_unary(&mut writer, gateway, channel, way == Way::Async).await
                }
            },
        };
        if result.is_err() {
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

/// Until the connection or the gateway has trouble.
async fn produce_unary(
    writer: &mut Writer,
    gateway: usize,
    channel: Channel,
    is_async: bool,
) -> Result<()> {
    let shared = Arc::clone(&writer.shared);
    let mut client = KafkaPixyClient::new(channel);
    while shared.is_producing() {
        for value in writer.batch(1) {
            let request = ProdRq {
                topic: shared.topic.clone(),
                key_value: Bytes::from(value.key.clone()),
                message: Bytes::from(value.text()),
                async_mode: is_async,
                ..ProdRq::default()
            };
            let asked = Instant::now();
            match timeout(REQUEST_LIMIT, client.produce(request)).await {
                Ok(Ok(_)) => writer.accepted(value, gateway, asked),
                Ok(Err(status)) if is_refusal(&status) => {
                    writer.refused(&status.to_string());
                    bail!(status.to_string());
                }
                Ok(Err(status)) => {
                    writer.unknown(1);
                    bail!(status.to_string());
                }
                Err(_) => {
                    writer.unknown(1);
                    bail!("no answer");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Whether the gateway itself has said no.
fn is_refusal(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unknown | Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded
    )
}

/// Frame by frame, each with its results.
async fn produce_stream(writer: &mut Writer, gateway: usize, channel: Channel) -> Result<()> {
    let shared = Arc::clone(&writer.shared);
    let (up, frames) = mpsc::channel(4);
    let mut client = GatewayClient::new(channel);
    let opened = client.produce(ReceiverStream::new(frames));
    let mut down = timeout(REQUEST_LIMIT, opened).await??.into_inner();
    while shared.is_producing() {
        let batch = writer.batch(BATCH);
        let records = batch.iter().enumerate().map(|(index, value)| Record {
            number: index as u64,
            topic: shared.topic.clone(),
            key: Some(Bytes::from(value.key.clone())),
            value: Some(Bytes::from(value.text())),
            ..Record::default()
        });
        let frame = ProduceRequest {
            records: records.collect(),
            ..ProduceRequest::default()
        };
        let asked = Instant::now();
        let mut left: HashMap<u64, _> = (0..).zip(batch).collect();
        if up.send(frame).await.is_err() {
            writer.unknown(left.len());
            bail!("the stream has ended");
        }
        while !left.is_empty() {
            let answer = timeout(REQUEST_LIMIT, down.message()).await;
            let Ok(Ok(Some(answer))) = answer else {
                writer.unknown(left.len());
                bail!("the stream has ended: {answer:?}");
            };
            for result in answer.results {
                let Some(value) = left.remove(&result.number) else {
                    bail!("a result for no record");
                };
                match result.error {
                    None => writer.accepted(value, gateway, asked),
                    // It may be there, as with a lost answer.
                    Some(error) => writer.refused(&error.text),
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

pub(super) fn consumers(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    shared.ledger.group(GROUP);
    let mut tasks: Vec<JoinHandle<()>> = (0..STREAMS)
        .map(|_| tokio::spawn(consume(Arc::clone(shared), true)))
        .collect();
    tasks.push(tokio::spawn(consume(Arc::clone(shared), false)));
    tasks
}

async fn consume(shared: Arc<Shared>, is_stream: bool) {
    while shared.is_consuming() {
        let Some((_, address)) = shared.next() else {
            tokio::time::sleep(BACKOFF).await;
            continue;
        };
        let Ok(channel) = connect(&address.grpc, &shared.roots).await else {
            tokio::time::sleep(BACKOFF).await;
            continue;
        };
        let result = match is_stream {
            true => consume_streams(&shared, channel).await,
            false => consume_unary(&shared, channel).await,
        };
        if result.is_err() {
            shared.ledger.lost(GROUP);
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

/// One after the other on a connection.
async fn consume_streams(shared: &Shared, channel: Channel) -> Result<()> {
    let client = GatewayClient::new(channel);
    let mut is_next = false;
    while shared.is_consuming() {
        consume_stream(shared, client.clone(), is_next).await?;
        // What it had on its way when it ended comes again.
        shared.ledger.lost(GROUP);
        is_next = true;
    }
    Ok(())
}

/// A stream whose frames are acknowledged in turn on itself, where nothing is
/// answered, and by requests of their own.
async fn consume_stream(
    shared: &Shared,
    mut client: GatewayClient<Channel>,
    is_next: bool,
) -> Result<()> {
    let (up, frames) = mpsc::channel(16);
    let start = ConsumeStart {
        group: GROUP.to_owned(),
        topic: shared.topic.clone(),
        ack_mode: AckMode::Explicit.into(),
        window: WINDOW,
        ..ConsumeStart::default()
    };
    let frame = |frame| ConsumeRequest { frame: Some(frame) };
    up.send(frame(Frame::Start(start))).await?;
    let reader = shared.new_reader();
    let opened_at = Instant::now();
    let mut read = VecDeque::from([opened_at]);
    let opened = client.consume(ReceiverStream::new(frames));
    let mut down = timeout(REQUEST_LIMIT, opened).await??.into_inner();
    if is_next {
        // Only what comes before this one on the connection said that the last one is over.
        shared.ledger.lost_until_now(GROUP);
    }
    let mut is_answered = true;
    while shared.is_consuming() && !shared.ledger.is_of_the_fault(opened_at) {
        let Ok(got) = timeout(Duration::from_secs(1), down.message()).await else {
            continue;
        };
        let got = got?.context("the stream has ended")?;
        let asked = read.front().copied().unwrap_or(opened_at);
        let asked = shared.ledger.streamed(opened_at, asked);
        read.push_back(Instant::now());
        if read.len() > FRAMES_AHEAD {
            read.pop_front();
        }
        let mut places = Vec::new();
        for message in got.messages {
            let value = message.value.unwrap_or_default();
            let place = Place {
                partition: message.partition,
                offset: message.offset,
                value: String::from_utf8(value.to_vec())?,
            };
            if shared.take(GROUP, &place, reader, asked) {
                places.push(place);
            }
        }
        if places.is_empty() {
            continue;
        }
        let positions = places.iter().map(position).collect();
        is_answered = !is_answered;
        if is_answered {
            let request = AckRequest {
                group: GROUP.to_owned(),
                topic: shared.topic.clone(),
                positions,
                ..AckRequest::default()
            };
            let answer = timeout(REQUEST_LIMIT, client.ack(request)).await;
            let Ok(Ok(answer)) = answer else {
                hope(shared, &places);
                bail!("no answer to acknowledgements: {answer:?}");
            };
            for (place, result) in places.iter().zip(answer.into_inner().results) {
                if result.error.is_none() {
                    shared.ledger.acked(GROUP, place);
                }
            }
        } else {
            hope(shared, &places);
            let acks = frame(Frame::Acks(ConsumeAcks { positions }));
            up.send(acks).await?;
        }
    }
    Ok(())
}

fn hope(shared: &Shared, places: &[Place]) {
    for place in places {
        shared.ledger.hoped(GROUP, place);
    }
}

fn position(place: &Place) -> Position {
    Position {
        partition: place.partition,
        offset: place.offset,
    }
}

/// One message and one acknowledgement at a time.
async fn consume_unary(shared: &Shared, channel: Channel) -> Result<()> {
    let mut client = KafkaPixyClient::new(channel);
    let reader = shared.new_reader();
    while shared.is_consuming() {
        let request = ConsNAckRq {
            topic: shared.topic.clone(),
            group: GROUP.to_owned(),
            no_ack: true,
            ..ConsNAckRq::default()
        };
        let asked = Instant::now();
        let answer = timeout(REQUEST_LIMIT, client.consume_n_ack(request)).await?;
        let message = match answer {
            Ok(message) => message.into_inner(),
            // Nothing came in time.
            Err(status) if status.code() == Code::NotFound => continue,
            Err(status) => bail!(status.to_string()),
        };
        let place = Place {
            partition: message.partition,
            offset: message.offset,
            value: String::from_utf8(message.message.to_vec())?,
        };
        if !shared.take(GROUP, &place, reader, asked) {
            continue;
        }
        let request = AckRq {
            topic: shared.topic.clone(),
            group: GROUP.to_owned(),
            partition: place.partition,
            offset: place.offset,
            ..AckRq::default()
        };
        match timeout(REQUEST_LIMIT, client.ack(request)).await {
            Ok(Ok(_)) => shared.ledger.acked(GROUP, &place),
            Ok(Err(status)) if is_refusal(&status) => {}
            other => {
                hope(shared, std::slice::from_ref(&place));
                bail!("no answer to an acknowledgement: {other:?}");
            }
        }
    }
    Ok(())
}
