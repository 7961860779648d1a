//! A client of each front end that behaves well: raw RESP, reqwest and tonic.

mod consumer;
mod redis;

pub(crate) use consumer::{Consumer, Way};
pub(crate) use redis::{Redis, Reply};

use crate::served::PATIENCE;
use anyhow::{Context as _, Result, bail};
use barnabas_grpc::proto::ProdRq;
use barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient;
use barnabas_testkit::hostile::{FrontEnd, Target};
use bytes::Bytes;
use std::time::{Duration, SystemTime};
use tonic::transport::{Channel, Endpoint};

/// All of them, in the order of tables.
pub(crate) const FRONT_ENDS: [FrontEnd; 3] = [FrontEnd::Redis, FrontEnd::Http, FrontEnd::Grpc];

/// As tables call them.
pub(crate) fn name(front_end: FrontEnd) -> &'static str {
    match front_end {
        FrontEnd::Redis => "Redis",
        FrontEnd::Http => "HTTP",
        FrontEnd::Grpc => "gRPC",
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was taken.
    Taken,
    /// There is no room for it now, in the protocol's words.
    Refused(&'static str),
}

/// When a message is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// When Kafka has it. `RPUSHX` goes by the gateway's `durability`.
    Kafka,
    /// At once.
    Memory,
}

/// A connection that produces.
pub(crate) enum Client {
    Redis(Redis),
    Http(reqwest::Client, String),
    Grpc(KafkaPixyClient<Channel>),
}

impl Client {
    pub(crate) async fn connect(target: &Target, front_end: FrontEnd) -> Result<Self> {
        Ok(match front_end {
            FrontEnd::Redis => Self::Redis(Redis::connect(target.redis).await?),
            FrontEnd::Http => Self::Http(http_client()?, format!("http://{}", target.http)),
            FrontEnd::Grpc => Self::Grpc(KafkaPixyClient::new(channel(target).await?)),
        })
    }

    /// Produces one message.
    ///
    /// # Errors
    /// Anything else than an answer that it was taken or finds no room, also none at all.
    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        message: Bytes,
        wait: Wait,
    ) -> Result<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.ask(topic, message, wait));
        answer.await.context("no answer")?
    }

    async fn ask(&mut self, topic: &str, message: Bytes, wait: Wait) -> Result<Answer> {
        match self {
            Self::Redis(redis) => {
                let key = format!("topics:{topic}");
                match redis.call(&[b"RPUSHX", key.as_bytes(), &message]).await? {
                    Reply::Integer(1) => Ok(Answer::Taken),
                    Reply::Error(error) if error.contains("Queue full") => {
                        Ok(Answer::Refused("Queue full"))
                    }
                    other => bail!("RPUSHX: {other:?}"),
                }
            }
            Self::Http(http, base) => {
                let durability = match wait {
                    Wait::Kafka => "",
                    Wait::Memory => "?durability=memory",
                };
                let url = format!("{base}/v1/topics/{topic}/records{durability}");
                let reply = http.post(url).body(message).send().await?;
                let status = reply.status();
                let has_pause = reply.headers().contains_key("retry-after");
                let text = reply.text().await?;
                match status.as_u16() {
                    200 | 202 => Ok(Answer::Taken),
                    429 if has_pause => Ok(Answer::Refused("429")),
                    503 if has_pause => Ok(Answer::Refused("503")),
                    _ => bail!("{status}: {text}"),
                }
            }
            Self::Grpc(grpc) => {
                let request = ProdRq {
                    topic: topic.to_owned(),
                    key_undefined: true,
                    message,
                    async_mode: wait == Wait::Memory,
                    ..ProdRq::default()
                };
                match grpc.produce(request).await {
                    Ok(_) => Ok(Answer::Taken),
                    Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                        Ok(Answer::Refused("RESOURCE_EXHAUSTED"))
                    }
                    Err(status) => bail!("{status}"),
                }
            }
        }
    }
}

fn http_client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .tcp_nodelay(true)
        // The gateway says when a connection has been idle for too long.
        .pool_idle_timeout(None)
        .build()?)
}

async fn channel(target: &Target) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", target.grpc))?;
    Ok(endpoint.tcp_nodelay(true).connect().await?)
}

/// Digits that a message begins with: when it was made, in nanoseconds.
const STAMP: usize = 20;

/// A message of this size that says when it was made.
pub(crate) fn message(bytes: usize) -> Bytes {
    let mut text = format!("{:0STAMP$}", now().as_nanos());
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(STAMP)));
    text.into()
}

/// How long ago it was made.
pub(crate) fn age(message: &[u8]) -> Result<Duration> {
    let stamp = message.get(..STAMP).context("no stamp")?;
    let made: u64 = std::str::from_utf8(stamp)?.parse()?;
    Ok(now().saturating_sub(Duration::from_nanos(made)))
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{age, message};

    #[test]
    fn a_message_says_when_it_was_made() -> anyhow::Result<()> {
        let made = message(100);
        assert_eq!(made.len(), 100);
        assert!(age(&made)?.as_secs() < 3_600);
        assert!(age(b"x").is_err());
        Ok(())
    }
}
