//! `POST /topics/<t>/acks` (contract, section 3.3; many at once: B4).

use super::no_room;
use crate::body::ReadError;
use crate::parameters::{Parameters, refused};
use crate::reply::{self, Reply};
use crate::service::Call;
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

pub(super) async fn run(mut call: Call<'_>) -> Result<Reply, Box<Reply>> {
    let body = match call.body.read(LARGEST_BODY).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return Err(refused("the body is too large")),
        Err(ReadError::NoRoom) => return Err(no_room()),
        Err(ReadError::Failed(cause)) => {
            return Err(refused(format!("failed to read the request: {cause}")));
        }
    };
    let mut parameters = Parameters::default();
    if call.is_form() {
        parameters.add(&body).map_err(refused)?;
    }
    let query = call.head.uri.query().unwrap_or("");
    parameters.add(query.as_bytes()).map_err(refused)?;
    let group = parameters.group()?;
    if body.trim_ascii_start().starts_with(b"[") {
        let positions: Vec<Position> = serde_json::from_slice(&body)
            .map_err(|error| refused(format!("Failed to parse the request: err=({error})")))?;
        let positions: Vec<(i32, i64)> = positions
            .iter()
            .map(|position| (position.partition, position.offset))
            .collect();
        let results = call.proxy.ack(&group, call.topic, &positions).await;
        let shown = results.into_iter().map(|result| match result {
            Ok(_) => json!({}),
            Err(error) => json!({"error": error.to_string()}),
        });
        return Ok(reply::json(StatusCode::OK, &Value::Array(shown.collect())));
    }
    let position = parameters.position("partition", "offset")?;
    let Some((partition, offset)) = position.filter(|_| !parameters.has("noAck")) else {
        return Err(refused("partition and offset are required"));
    };
    let proxy = call.proxy;
    match proxy.ack_one(&group, call.topic, partition, offset).await {
        Ok(_) => Ok(reply::json(StatusCode::OK, &json!({}))),
        Err(error @ AckError::BadOffset(_)) => Err(refused(error.to_string())),
        Err(error) => Ok(reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}
