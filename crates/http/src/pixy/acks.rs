//! `POST /topics/<t>/acks` (contract, section 3.3; many at once: B4).

use super::Call;
use super::produce::{ReadError, read};
use crate::parameters::{Parameters, refused};
use crate::reply::{self, Reply};
use barnabas_engine::AckError;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// The largest body: some 100,000 positions.
const LARGEST_BODY: usize = 4 << 20;

#[derive(Deserialize)]
struct Position {
    partition: i32,
    offset: i64,
}

pub(super) async fn run(mut call: Call<'_>, topic: &str) -> Result<Reply, Box<Reply>> {
    let body = match read(call.request.body_mut(), LARGEST_BODY).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return Err(refused("the body is too large")),
        Err(ReadError::Failed(cause)) => {
            return Err(refused(format!("failed to read the request: {cause}")));
        }
    };
    let mut parameters = Parameters::default();
    if call.is_form() {
        parameters.add(&body).map_err(refused)?;
    }
    let query = call.request.uri().query().unwrap_or("");
    parameters.add(query.as_bytes()).map_err(refused)?;
    let group = parameters.group()?;
    let dispatcher = &call.proxy.dispatcher;
    if body.trim_ascii_start().starts_with(b"[") {
        let positions: Vec<Position> = serde_json::from_slice(&body)
            .map_err(|error| refused(format!("Failed to parse the request: err=({error})")))?;
        let mut results = Vec::with_capacity(positions.len());
        for position in positions {
            let result = dispatcher
                .ack(&group, topic, position.partition, position.offset)
                .await;
            results.push(match result {
                Ok(()) => json!({}),
                Err(error) => json!({"error": error.to_string()}),
            });
        }
        return Ok(reply::json(StatusCode::OK, &Value::Array(results)));
    }
    let position = parameters.position("partition", "offset")?;
    let Some((partition, offset)) = position.filter(|_| !parameters.has("noAck")) else {
        return Err(refused("partition and offset are required"));
    };
    match dispatcher.ack(&group, topic, partition, offset).await {
        Ok(()) => Ok(reply::json(StatusCode::OK, &json!({}))),
        Err(error @ AckError::BadOffset(_)) => Err(refused(error.to_string())),
        Err(error) => Ok(reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}
