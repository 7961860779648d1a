//! `POST /v1/groups/{group}/topics/{topic}/acks`

use super::{Code, Problem, ok};
use crate::accept;
use crate::json::{Elements, MOST_ELEMENTS};
use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::AckError;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The largest body: some 30,000 positions.
const LARGEST_BODY: usize = 1 << 20;
const NDJSON: &str = "application/x-ndjson";

/// A record by its place.
#[derive(Deserialize)]
struct Position {
    partition: i32,
    offset: i64,
}

/// What was read of one position.
type Read = Result<(i32, i64), Problem>;

pub(super) async fn run(mut call: Call<'_>) -> Result<Reply, Problem> {
    let (kind, body) = call.read(&[reply::JSON, NDJSON], LARGEST_BODY).await?;
    // The form of the request, if the client does not mind.
    let offers = match kind {
        NDJSON => [NDJSON, reply::JSON],
        _ => [reply::JSON, NDJSON],
    };
    let Some(form) = accept::best(&call.head.headers, &offers) else {
        let text = "results are application/json or application/x-ndjson";
        return Err(Problem::new(Code::NotAcceptable, text));
    };
    let positions: Vec<Read> = match kind {
        NDJSON => {
            let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let lines = lines.filter(|line| !line.is_empty());
            let found: Vec<Read> = lines.take(MOST_ELEMENTS + 1).map(position).collect();
            if found.len() > MOST_ELEMENTS {
                return Err(too_many());
            }
            found
        }
        _ if body.trim_ascii_start().first() == Some(&b'[') => {
            match serde_json::from_slice::<Elements<&RawValue>>(&body).map_err(malformed)? {
                Elements::All(elements) => elements
                    .into_iter()
                    .map(|element| position(element.get().as_bytes()))
                    .collect(),
                Elements::TooMany => return Err(too_many()),
            }
        }
        _ => return single(&call, position(&body)?).await,
    };
    let readable: Vec<(i32, i64)> = positions
        .iter()
        .filter_map(|position| position.as_ref().ok().copied())
        .collect();
    let proxy = call.proxy;
    let mut outcomes = proxy
        .ack(call.group, call.topic, &readable)
        .await
        .into_iter();
    let mut has_refused = false;
    let results: Vec<Value> = positions
        .into_iter()
        .map(|position| {
            let outcome = match position {
                Ok((partition, offset)) => {
                    let missing = || Err(AckError::not_owned(call.group, call.topic, partition));
                    let outcome = outcomes.next().unwrap_or_else(missing);
                    outcome.map_or_else(
                        |error| Err((Some((partition, offset)), refused(&error))),
                        |is_new| Ok(acked(partition, offset, is_new)),
                    )
                }
                Err(problem) => Err((None, problem)),
            };
            outcome.unwrap_or_else(|(place, problem)| {
                has_refused = true;
                let mut shown = json!({
                    "result": "refused",
                    "code": problem.code.name(),
                    "detail": problem.detail,
                });
                if let (Some((partition, offset)), Some(members)) = (place, shown.as_object_mut()) {
                    members.insert("partition".to_owned(), partition.into());
                    members.insert("offset".to_owned(), offset.into());
                }
                shown
            })
        })
        .collect();
    let status = match has_refused {
        true => StatusCode::MULTI_STATUS,
        false => StatusCode::OK,
    };
    if form == NDJSON {
        let mut lines = String::new();
        for result in results {
            lines.push_str(&result.to_string());
            lines.push('\n');
        }
        return Ok(reply::with_body(status, NDJSON, lines));
    }
    Ok(reply::compact(status, reply::JSON, &results))
}

async fn single(call: &Call<'_>, (partition, offset): (i32, i64)) -> Result<Reply, Problem> {
    let proxy = call.proxy;
    let outcome = proxy
        .ack_one(call.group, call.topic, partition, offset)
        .await;
    match outcome {
        Ok(is_new) => ok(&acked(partition, offset, is_new)),
        Err(error) => Err(refused(&error)),
    }
}

fn acked(partition: i32, offset: i64, is_new: bool) -> Value {
    let result = if is_new { "acknowledged" } else { "known" };
    json!({"partition": partition, "offset": offset, "result": result})
}

fn position(text: &[u8]) -> Read {
    serde_json::from_slice(text)
        .map_err(malformed)
        .and_then(checked)
}

fn too_many() -> Problem {
    let text = format!("there are more than {MOST_ELEMENTS} positions");
    Problem::new(Code::PayloadTooLarge, text)
}

fn malformed(error: serde_json::Error) -> Problem {
    Problem::new(Code::InvalidBody, error.to_string())
}

/// Positions are not negative.
fn checked(position: Position) -> Read {
    let Position { partition, offset } = position;
    if partition < 0 || offset < 0 {
        let text = format!("partition and offset must not be negative: {partition}, {offset}");
        return Err(Problem::new(Code::InvalidBody, text));
    }
    Ok((partition, offset))
}

fn refused(error: &AckError) -> Problem {
    match error {
        AckError::NotOwned { partition, .. } => Problem::new(
            Code::NotOwned,
            format!("no replica of the group has partition {partition} now"),
        ),
        AckError::BadOffset(offset) => Problem::new(
            Code::BadOffset,
            format!("the partition has no offset {offset}"),
        ),
    }
}
