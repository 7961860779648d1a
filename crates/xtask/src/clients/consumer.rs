//! Clients that consume and acknowledge, in each way that there is.

use super::{Redis, Reply, channel, http_client};
use crate::served::PATIENCE;
use anyhow::{Context as _, Result, bail};
use barnabas_grpc::v1::consume_request::Frame;
use barnabas_grpc::v1::gateway_client::GatewayClient;
use barnabas_grpc::v1::{
    AckMode, ConsumeAcks, ConsumeRequest, ConsumeResponse, ConsumeStart, Position,
};
use barnabas_testkit::hostile::Target;
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// How long a consumer waits for messages before it says that there are none.
pub(crate) const WAIT: Duration = Duration::from_secs(2);
/// What it takes at once.
const MOST: usize = 500;
/// Of a gRPC stream.
const WINDOW: u32 = 5_000;

/// How to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `BLPOP`, whose connection is a member of the group.
    List,
    /// `XREADGROUP` and `XACK`.
    Stream,
    /// The native HTTP API, acknowledged with the reply.
    Http,
    /// `barnabas.v1.Gateway/Consume` with acknowledgements.
    Grpc,
}

impl Way {
    /// The group of the consumers of this way.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::List => "redis-list",
            Self::Stream => "redis-stream",
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }

    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "Redis `BLPOP`",
            Self::Stream => "Redis `XREADGROUP`",
            Self::Http => "HTTP",
            Self::Grpc => "gRPC stream",
        }
    }
}

/// A message.
pub(crate) struct Delivery {
    /// `BLPOP` with `reply: pair` does not say it.
    pub(crate) partition: Option<i32>,
    pub(crate) value: Bytes,
}

/// One of a group.
pub(crate) enum Consumer {
    List {
        redis: Redis,
        key: String,
    },
    Stream {
        redis: Redis,
        key: String,
        group: String,
        name: String,
    },
    Http {
        http: reqwest::Client,
        url: String,
    },
    Grpc {
        up: mpsc::Sender<ConsumeRequest>,
        down: Streaming<ConsumeResponse>,
    },
}

impl Consumer {
    pub(crate) async fn connect(target: &Target, way: Way, group: &str) -> Result<Self> {
        let topic = &target.topic;
        match way {
            Way::List => {
                let mut redis = Redis::connect(target.redis).await?;
                let name = format!("{group}:{}", redis.port()?);
                let reply = redis
                    .call(&[b"CLIENT", b"SETNAME", name.as_bytes()])
                    .await?;
                if let Reply::Error(error) = reply {
                    bail!(error);
                }
                let key = format!("topics:{topic}");
                Ok(Self::List { redis, key })
            }
            Way::Stream => {
                let redis = Redis::connect(target.redis).await?;
                Ok(Self::Stream {
                    name: redis.port()?.to_string(),
                    redis,
                    key: format!("topics:{topic}"),
                    group: group.to_owned(),
                })
            }
            Way::Http => Ok(Self::Http {
                http: http_client()?,
                url: format!(
                    "http://{}/v1/groups/{group}/topics/{topic}/records?max={MOST}&wait={}",
                    target.http,
                    WAIT.as_millis()
                ),
            }),
            Way::Grpc => {
                let mut client = GatewayClient::new(channel(target).await?);
                let (up, frames) = mpsc::channel(64);
                let start = ConsumeStart {
                    group: group.to_owned(),
                    topic: topic.clone(),
                    ack_mode: AckMode::Explicit.into(),
                    window: WINDOW,
                    ..ConsumeStart::default()
                };
                up.send(frame(Frame::Start(start))).await?;
                let opened = client.consume(ReceiverStream::new(frames));
                let down = opened.await?.into_inner();
                Ok(Self::Grpc { up, down })
            }
        }
    }

    /// The next messages, acknowledged; none if none came in time.
    ///
    /// # Errors
    /// Whatever is no reply, also none at all.
    pub(crate) async fn next(&mut self) -> Result<Vec<Delivery>> {
        let reply = tokio::time::timeout(PATIENCE, self.ask());
        reply.await.context("no reply")?
    }

    async fn ask(&mut self) -> Result<Vec<Delivery>> {
        match self {
            Self::List { redis, key } => {
                let wait = WAIT.as_secs().to_string();
                let reply = redis
                    .call(&[b"BLPOP", key.as_bytes(), wait.as_bytes()])
                    .await?;
                // The next one acknowledges it.
                match reply {
                    Reply::Null => Ok(Vec::new()),
                    Reply::Array(parts) => {
                        let value = parts.last().context("no value")?.bytes();
                        Ok(vec![Delivery {
                            partition: None,
                            value: Bytes::copy_from_slice(value),
                        }])
                    }
                    other => bail!("BLPOP: {other:?}"),
                }
            }
            Self::Stream {
                redis,
                key,
                group,
                name,
            } => read(redis, key.as_bytes(), group.as_bytes(), name.as_bytes()).await,
            Self::Http { http, url } => {
                let reply = http.post(&*url).send().await?.error_for_status()?;
                if reply.status() == reqwest::StatusCode::NO_CONTENT {
                    return Ok(Vec::new());
                }
                let list: serde_json::Value = serde_json::from_slice(&reply.bytes().await?)?;
                let records = list.as_array().context("no list of records")?;
                let records = records.iter().map(|record| {
                    let partition = record.get("partition").and_then(|one| one.as_i64());
                    let value = record.get("value").and_then(|value| value.as_str());
                    Ok(Delivery {
                        partition: Some(i32::try_from(partition.context("no partition")?)?),
                        value: Bytes::from(value.context("no value")?.to_owned()),
                    })
                });
                records.collect()
            }
            Self::Grpc { up, down } => {
                let Ok(got) = tokio::time::timeout(WAIT, down.message()).await else {
                    return Ok(Vec::new());
                };
                let got = got?.context("the stream has ended")?;
                let positions = got.messages.iter().map(|message| Position {
                    partition: message.partition,
                    offset: message.offset,
                });
                let positions: Vec<_> = positions.collect();
                if !positions.is_empty() {
                    up.send(frame(Frame::Acks(ConsumeAcks { positions })))
                        .await?;
                }
                let messages = got.messages.into_iter().map(|message| Delivery {
                    partition: Some(message.partition),
                    value: message.value.unwrap_or_default(),
                });
                Ok(messages.collect())
            }
        }
    }
}

impl Consumer {
    /// Goes for good. A stream's consumer would stay for a minute otherwise.
    pub(crate) async fn leave(self) -> Result<()> {
        if let Self::Stream {
            mut redis,
            key,
            group,
            name,
        } = self
        {
            let words: [&[u8]; 5] = [
                b"XGROUP",
                b"DELCONSUMER",
                key.as_bytes(),
                group.as_bytes(),
                name.as_bytes(),
            ];
            if let Reply::Error(error) = redis.call(&words).await? {
                bail!("XGROUP: {error}");
            }
        }
        Ok(())
    }
}

fn frame(frame: Frame) -> ConsumeRequest {
    ConsumeRequest { frame: Some(frame) }
}

/// Entries of a stream.
async fn read(redis: &mut Redis, key: &[u8], group: &[u8], name: &[u8]) -> Result<Vec<Delivery>> {
    let (count, wait) = (MOST.to_string(), WAIT.as_millis().to_string());
    let reply = redis
        .call(&[
            b"XREADGROUP",
            b"GROUP",
            group,
            name,
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            wait.as_bytes(),
            b"STREAMS",
            key,
            b">",
        ])
        .await?;
    if let Reply::Error(error) = reply {
        bail!("XREADGROUP: {error}");
    }
    // Streams, of each its key and its entries; of those the id and the fields.
    let stream = reply.elements().first().map_or(&[][..], Reply::elements);
    let entries = stream.last().map_or(&[][..], Reply::elements);
    let mut deliveries = Vec::with_capacity(entries.len());
    let mut ack: Vec<&[u8]> = vec![b"XACK", key, group];
    for entry in entries {
        let [id, fields] = entry.elements() else {
            bail!("no entry: {entry:?}");
        };
        let text = std::str::from_utf8(id.bytes())?;
        let (_, partition) = text.split_once('-').context("no id")?;
        let mut fields = fields.elements().chunks(2);
        let value = fields.find_map(|field| match field {
            [name, value] if name.bytes() == b"value" => Some(value.bytes()),
            _ => None,
        });
        deliveries.push(Delivery {
            partition: Some(partition.parse()?),
            value: Bytes::copy_from_slice(value.context("no value")?),
        });
        ack.push(id.bytes());
    }
    if !deliveries.is_empty()
        && let Reply::Error(error) = redis.call(&ack).await?
    {
        bail!("XACK: {error}");
    }
    Ok(deliveries)
}
