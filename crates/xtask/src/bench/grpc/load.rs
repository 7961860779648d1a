//! Clients, by tonic. Prints one line of JSON at its end.

use super::PAYLOAD;
use anyhow::{Context as _, Result, bail};
use barnabas_grpc::proto::ProdRq;
use barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient;
use barnabas_grpc::v1::consume_request::Frame;
use barnabas_grpc::v1::gateway_client::GatewayClient;
use barnabas_grpc::v1::{
    AckMode, ConsumeAcks, ConsumeRequest, ConsumeStart, Position, ProduceRequest, Record,
};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Records in a frame.
const FRAME: u64 = 500;

/// Bytes that records are cut from: more than compression looks back.
const NOISE: usize = 1 << 20;

/// The window of the consumer.
const WINDOW: u32 = 10_000;

/// Nothing may take longer between two frames.
const PATIENCE: Duration = Duration::from_secs(60);

/// `unary ADDRESS TOPIC async|sync CONNECTIONS COUNT`,
/// `produce ADDRESS TOPIC COUNT`, `consume ADDRESS TOPIC GROUP COUNT`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (count, took) = runtime.block_on(async {
        match words.as_slice() {
            ["unary", address, topic, mode, connections, count] => {
                let request = ProdRq {
                    topic: (*topic).to_owned(),
                    key_undefined: true,
                    message: payload(&noise(), 0),
                    async_mode: *mode == "async",
                    ..ProdRq::default()
                };
                unary(address, request, connections.parse()?, count.parse()?).await
            }
            ["produce", address, topic, count] => produce(address, topic, count.parse()?).await,
            ["consume", address, topic, group, count] => {
                consume(address, topic, group, count.parse()?).await
            }
            other => bail!("no such load: {other:?}"),
        }
    })?;
    println!(
        "{}",
        serde_json::json!({"count": count, "seconds": took.as_secs_f64()})
    );
    Ok(())
}

/// What records are cut from. Records that are all the same would be compressed
/// to next to nothing, which Kafka-Pixy's defaults do: a fetch of a megabyte
/// would have more of them than anybody's.
fn noise() -> Bytes {
    (0..NOISE).map(|_| fastrand::alphanumeric() as u8).collect()
}

fn payload(noise: &Bytes, number: u64) -> Bytes {
    let start = number as usize * PAYLOAD % (NOISE - PAYLOAD);
    noise.slice(start..start + PAYLOAD)
}

async fn connect(address: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20);
    Ok(endpoint.connect().await?)
}

/// One request at a time on each connection.
async fn unary(
    address: &str,
    request: ProdRq,
    connections: usize,
    count: u64,
) -> Result<(u64, Duration)> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(KafkaPixyClient::new(connect(address).await?));
    }
    let left = Arc::new(AtomicU64::new(count));
    let start = Instant::now();
    let workers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (left, request) = (Arc::clone(&left), request.clone());
            tokio::spawn(async move {
                let take = |left: u64| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    client.produce(request.clone()).await?;
                }
                Ok::<_, tonic::Status>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok((count, start.elapsed()))
}

async fn produce(address: &str, topic: &str, count: u64) -> Result<(u64, Duration)> {
    let mut client = GatewayClient::new(connect(address).await?);
    let (up, frames) = mpsc::channel(4);
    let (topic, noise) = (topic.to_owned(), noise());
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let mut number = 0;
        while number < count {
            let end = (number + FRAME).min(count);
            let records = (number..end).map(|number| Record {
                number,
                topic: topic.clone(),
                value: Some(payload(&noise, number)),
                ..Record::default()
            });
            let frame = ProduceRequest {
                cluster: String::new(),
                records: records.collect(),
            };
            if up.send(frame).await.is_err() {
                return;
            }
            number = end;
        }
    });
    let mut down = client
        .produce(ReceiverStream::new(frames))
        .await?
        .into_inner();
    let mut confirmed = 0;
    while let Some(frame) = tokio::time::timeout(PATIENCE, down.message()).await?? {
        for result in &frame.results {
            if let Some(error) = &result.error {
                bail!("record {}: {}", result.number, error.text);
            }
        }
        confirmed += frame.results.len() as u64;
    }
    let took = start.elapsed();
    sending.await?;
    if confirmed != count {
        bail!("{confirmed} of {count} records have results");
    }
    Ok((count, took))
}

/// Reads and acknowledges all there is, from the first message on: joining
/// the group is not measured.
async fn consume(address: &str, topic: &str, group: &str, count: u64) -> Result<(u64, Duration)> {
    let mut client = GatewayClient::new(connect(address).await?);
    let (up, frames) = mpsc::channel(64);
    let start = ConsumeStart {
        group: group.to_owned(),
        topic: topic.to_owned(),
        ack_mode: AckMode::Explicit.into(),
        window: WINDOW,
        ..ConsumeStart::default()
    };
    let frame = |frame| ConsumeRequest { frame: Some(frame) };
    up.send(frame(Frame::Start(start))).await?;
    let mut down = client
        .consume(ReceiverStream::new(frames))
        .await?
        .into_inner();
    // The next offset of each partition: whoever gets each exactly once
    // gets them without gaps.
    let mut next: HashMap<i32, i64> = HashMap::new();
    let (mut seen, mut since) = (0, Instant::now());
    while seen < count {
        let got = tokio::time::timeout(PATIENCE, down.message()).await??;
        let got = got.context("the stream has ended")?;
        if let Some(refused) = got.refused.first() {
            bail!("an ack was refused: {refused:?}");
        }
        if seen == 0 {
            since = Instant::now();
        }
        let mut positions = Vec::with_capacity(got.messages.len());
        for message in &got.messages {
            let expected = next.entry(message.partition).or_default();
            if message.offset != *expected {
                bail!(
                    "partition {}: offset {} instead of {expected}",
                    message.partition,
                    message.offset
                );
            }
            *expected += 1;
            positions.push(Position {
                partition: message.partition,
                offset: message.offset,
            });
        }
        seen += positions.len() as u64;
        up.send(frame(Frame::Acks(ConsumeAcks { positions })))
            .await?;
    }
    let took = since.elapsed();
    // The acknowledgements are taken before the stream ends.
    drop(up);
    while let Some(frame) = tokio::time::timeout(PATIENCE, down.message()).await?? {
        if !frame.messages.is_empty() || !frame.refused.is_empty() {
            bail!("more than expected came: {frame:?}");
        }
    }
    Ok((count, took))
}
