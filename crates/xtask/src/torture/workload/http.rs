//! HTTP clients, by reqwest: the native API and Kafka-Pixy's, each producing
//! into Kafka and into the journal, each with a group of its own.

use super::{BACKOFF, BATCH, PAUSE, REQUEST_LIMIT, SIP, Shared, Writer};
use crate::torture::ledger::{Durability, Place, Value};
use anyhow::Result;
use reqwest::{Certificate, Client, ClientBuilder, StatusCode};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinHandle;

const NATIVE: &str = "http-v1";
const PIXY: &str = "http-pixy";
const CONSUMERS: usize = 2;

/// Which of the two APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Native,
    Pixy,
}

impl Api {
    fn group(self) -> &'static str {
        match self {
            Self::Native => NATIVE,
            Self::Pixy => PIXY,
        }
    }
}

/// One that trusts these.
pub(crate) fn client(roots: &str) -> Result<Client> {
    let roots = Certificate::from_pem_bundle(roots.as_bytes())?;
    let client = roots
        .into_iter()
        .fold(Client::builder(), ClientBuilder::add_root_certificate);
    // What is negotiated would depend on what else is built.
    Ok(client.http1_only().timeout(REQUEST_LIMIT).build()?)
}

pub(super) fn producers(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    [
        ("http-v1-kafka", Api::Native, Durability::Kafka),
        ("http-v1-journal", Api::Native, Durability::Journal),
        ("http-pixy-sync", Api::Pixy, Durability::Kafka),
        ("http-pixy-async", Api::Pixy, Durability::Journal),
    ]
    .into_iter()
    .map(|(name, api, durability)| {
        let writer = Writer::new(name, durability, shared);
        Ok(tokio::spawn(produce(
            writer,
            client(&shared.roots)?,
            api,
            durability,
        )))
    })
    .collect()
}

async fn produce(mut writer: Writer, client: Client, api: Api, durability: Durability) {
    let shared = Arc::clone(&writer.shared);
    while shared.is_producing() {
        let Some((gateway, address)) = shared.next() else {
            tokio::time::sleep(BACKOFF).await;
            continue;
        };
        let base = format!("https://{}", address.http);
        let batch = writer.batch(if api == Api::Native { BATCH } else { 1 });
        let request = match api {
            Api::Native => native(&client, &base, &shared.topic, durability, &batch),
            Api::Pixy => pixy(&client, &base, &shared.topic, durability, &batch),
        };
        let asked = Instant::now();
        let Some((status, body)) = sent(request).await else {
            writer.unknown(batch.len());
            tokio::time::sleep(BACKOFF).await;
            continue;
        };
        if !status.is_success() {
            batch.iter().for_each(|_| writer.refused(&body));
            tokio::time::sleep(BACKOFF).await;
            continue;
        }
        let results: Json = serde_json::from_str(&body).unwrap_or_default();
        for (index, value) in batch.into_iter().enumerate() {
            let result = results.get(index).and_then(|one| one.get("result"));
            match result.and_then(Json::as_str) {
                Some("refused") => writer.refused(&body),
                // Kafka-Pixy's replies have no results.
                _ => writer.accepted(value, gateway, asked),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A reply as a whole.
async fn sent(request: reqwest::RequestBuilder) -> Option<(StatusCode, String)> {
    let reply = request.send().await.ok()?;
    let status = reply.status();
    Some((status, reply.text().await.ok()?))
}

fn native(
    client: &Client,
    base: &str,
    topic: &str,
    durability: Durability,
    batch: &[Value],
) -> reqwest::RequestBuilder {
    let durability = match durability {
        Durability::Journal => "journal",
        Durability::Kafka => "kafka",
    };
    let records = batch
        .iter()
        .map(|value| json!({"key": value.key, "value": value.text()}));
    let url = format!("{base}/v1/topics/{topic}/records?as=records&durability={durability}");
    client
        .post(url)
        .header("content-type", "application/json")
        .body(Json::Array(records.collect()).to_string())
}

fn pixy(
    client: &Client,
    base: &str,
    topic: &str,
    durability: Durability,
    batch: &[Value],
) -> reqwest::RequestBuilder {
    let sync = match durability {
        Durability::Journal => "",
        Durability::Kafka => "&sync",
    };
    let (key, text) = batch
        .first()
        .map_or_else(Default::default, |value| (value.key.clone(), value.text()));
    client
        .post(format!("{base}/topics/{topic}/messages?key={key}{sync}"))
        .header("content-type", "text/plain")
        .body(text)
}

pub(super) fn consumers(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let mut tasks = Vec::new();
    for api in [Api::Native, Api::Pixy] {
        shared.ledger.group(api.group());
        for _ in 0..CONSUMERS {
            let consumer = Consumer {
                shared: Arc::clone(shared),
                client: client(&shared.roots)?,
                api,
                reader: shared.new_reader(),
            };
            tasks.push(tokio::spawn(consumer.run()));
        }
    }
    Ok(tasks)
}

/// Asks one gateway, and acknowledges at the next, as behind a balancer.
struct Consumer {
    shared: Arc<Shared>,
    client: Client,
    api: Api,
    reader: u64,
}

impl Consumer {
    async fn run(self) {
        while self.shared.is_consuming() {
            let Some((_, address)) = self.shared.next() else {
                tokio::time::sleep(BACKOFF).await;
                continue;
            };
            let asked = Instant::now();
            let request = self.take(&format!("https://{}", address.http));
            let Some((status, body)) = sent(request).await else {
                self.shared.ledger.lost(self.api.group());
                tokio::time::sleep(BACKOFF).await;
                continue;
            };
            if status != StatusCode::OK {
                if !matches!(status.as_u16(), 204 | 408) {
                    tokio::time::sleep(BACKOFF).await;
                }
                continue;
            }
            let messages: Json = serde_json::from_str(&body).unwrap_or_default();
            let mut places = Vec::new();
            for message in messages.as_array().into_iter().flatten() {
                let Some(place) = self.place(message) else {
                    continue;
                };
                if self
                    .shared
                    .take(self.api.group(), &place, self.reader, asked)
                {
                    places.push(place);
                }
            }
            self.acknowledge(places).await;
            tokio::time::sleep(SIP).await;
        }
    }

    fn take(&self, base: &str) -> reqwest::RequestBuilder {
        let (group, topic) = (self.api.group(), &self.shared.topic);
        match self.api {
            Api::Native => self.client.post(format!(
                "{base}/v1/groups/{group}/topics/{topic}/records?max=50&ack=explicit&wait=500"
            )),
            Api::Pixy => self.client.get(format!(
                "{base}/topics/{topic}/messages?group={group}&noAck&max=50"
            )),
        }
    }

    fn place(&self, message: &Json) -> Option<Place> {
        let value = message.get("value")?.as_str()?;
        let value = match self.api {
            Api::Native => value.to_owned(),
            Api::Pixy => {
                use base64::Engine as _;
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(value)
                    .ok()?;
                String::from_utf8(bytes).ok()?
            }
        };
        Some(Place {
            partition: i32::try_from(message.get("partition")?.as_i64()?).ok()?,
            offset: message.get("offset")?.as_i64()?,
            value,
        })
    }

    /// Until somebody has taken or refused all of them, as a client does that
    /// must not lose its work. What is refused comes again.
    async fn acknowledge(&self, places: Vec<Place>) {
        let group = self.api.group();
        let topic = &self.shared.topic;
        let positions = places
            .iter()
            .map(|place| json!({"partition": place.partition, "offset": place.offset}));
        let body = Json::Array(positions.collect()).to_string();
        while !places.is_empty() && self.shared.is_consuming() {
            let Some((_, address)) = self.shared.next() else {
                tokio::time::sleep(BACKOFF).await;
                continue;
            };
            let base = format!("https://{}", address.http);
            let url = match self.api {
                Api::Native => format!("{base}/v1/groups/{group}/topics/{topic}/acks"),
                Api::Pixy => format!("{base}/topics/{topic}/acks?group={group}"),
            };
            let request = self
                .client
                .post(url)
                .header("content-type", "application/json")
                .body(body.clone());
            let answer = sent(request).await;
            let Some((_, text)) = answer.filter(|(status, _)| status.is_success()) else {
                // Nobody knows; it is said once more.
                places
                    .iter()
                    .for_each(|place| self.shared.ledger.hoped(group, place));
                tokio::time::sleep(BACKOFF).await;
                continue;
            };
            let results: Json = serde_json::from_str(&text).unwrap_or_default();
            for (index, place) in places.iter().enumerate() {
                if results
                    .get(index)
                    .is_some_and(|result| self.is_taken(result))
                {
                    self.shared.ledger.acked(group, place);
                }
            }
            return;
        }
    }

    fn is_taken(&self, result: &Json) -> bool {
        match self.api {
            Api::Native => result
                .get("result")
                .and_then(Json::as_str)
                .is_some_and(|result| matches!(result, "acknowledged" | "known")),
            Api::Pixy => result.is_object() && result.get("error").is_none(),
        }
    }
}
