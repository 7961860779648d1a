//! `GET` and `POST /topics/<t>/offsets` (contract, sections 3.4 and 3.5).

use super::no_room;
use crate::body::ReadError;
use crate::parameters::refused;
use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::{Error, GroupOffset, NewGroupOffset, SetOffsetsError, sarama_text_of};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

/// The largest body: some 20,000 partitions, or 500 with as much metadata as
/// Kafka takes.
const LARGEST_BODY: usize = 2 << 20;

pub(super) async fn read(call: &Call<'_>) -> Result<Reply, Box<Reply>> {
    let group = call.parameters.group()?;
    match call.proxy.admin.group_offsets(&group, call.topic).await {
        Ok(Some(offsets)) => {
            let shown: Vec<Value> = offsets.iter().map(show).collect();
            Ok(reply::json(StatusCode::OK, &shown))
        }
        Ok(None) => Ok(unknown_topic()),
        Err(error) => Ok(reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to get topic partitions: {}", sarama_text_of(&error)),
        )),
    }
}

fn show(offset: &GroupOffset) -> Value {
    let mut shown = json!({
        "partition": offset.partition,
        "begin": offset.begin,
        "end": offset.end,
        "count": offset.count(),
        "offset": offset.committed,
        "lag": offset.lag(),
    });
    if let Some(fields) = shown.as_object_mut() {
        if !offset.metadata.is_empty() {
            fields.insert("metadata".to_owned(), json!(offset.metadata));
        }
        if let Some(acked) = offset.sparse_acks() {
            fields.insert("sparse_acks".to_owned(), json!(acked));
        }
    }
    shown
}

pub(super) async fn write(mut call: Call<'_>) -> Result<Reply, Box<Reply>> {
    let topic = call.topic;
    let group = call.parameters.group()?;
    // JSON under any content type: curl calls everything a form.
    let body = match call.body.read(LARGEST_BODY).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => {
            return Err(refused("Failed to read the request: err=(too large)"));
        }
        Err(ReadError::NoRoom) => return Err(no_room()),
        Err(ReadError::Failed(cause)) => {
            return Err(refused(format!(
                "Failed to read the request: err=({cause})"
            )));
        }
    };
    let offsets = parse(&body)
        .map_err(|problem| refused(format!("Failed to parse the request: err=({problem})")))?;
    if offsets.is_empty() {
        return Ok(reply::json(StatusCode::OK, &json!({})));
    }
    match call.proxy.set_offsets(&group, topic, &offsets).await {
        Ok(()) => Ok(reply::json(StatusCode::OK, &json!({}))),
        Err(owned @ SetOffsetsError::Owned { .. }) => {
            Ok(reply::error(StatusCode::CONFLICT, owned.to_string()))
        }
        Err(SetOffsetsError::Engine(Error::Kafka { error })) if error.is_unknown_topic() => {
            Ok(unknown_topic())
        }
        Err(SetOffsetsError::Engine(error)) => Ok(reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            sarama_text_of(&error),
        )),
    }
}

fn unknown_topic() -> Reply {
    reply::error(StatusCode::NOT_FOUND, "Unknown topic")
}

/// The positions; names in any case, missing numbers are 0.
fn parse(body: &[u8]) -> Result<Vec<NewGroupOffset>, String> {
    let trimmed = body.trim_ascii_start();
    if let Some(first) = trimmed.first()
        && !matches!(
            first,
            b'[' | b'{' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'
        )
    {
        return Err(format!(
            "invalid character '{}' looking for beginning of value",
            char::from(*first)
        ));
    }
    let list: Option<Vec<Map<String, Value>>> =
        serde_json::from_slice(trimmed).map_err(|error| match error.is_eof() {
            true => "unexpected end of JSON input".to_owned(),
            false => error.to_string(),
        })?;
    list.unwrap_or_default().iter().map(position).collect()
}

fn position(fields: &Map<String, Value>) -> Result<NewGroupOffset, String> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map_or(&Value::Null, |(_, value)| value)
    };
    let number = |name: &str| match field(name) {
        Value::Null => Ok(0),
        value => value
            .as_i64()
            .ok_or_else(|| format!("{name} is no integer: {value}")),
    };
    let partition = number("partition")?;
    Ok(NewGroupOffset {
        partition: i32::try_from(partition)
            .map_err(|_| format!("partition is out of range: {partition}"))?,
        offset: number("offset")?,
        metadata: match field("metadata") {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => return Err(format!("metadata is no text: {other}")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_go_does() {
        let parsed = parse(br#" [{"Partition": 1, "OFFSET": 5, "lag": 3}, {"metadata": "m"}]"#);
        let new = |partition, offset, metadata: &str| NewGroupOffset {
            partition,
            offset,
            metadata: metadata.to_owned(),
        };
        assert_eq!(parsed, Ok(vec![new(1, 5, ""), new(0, 0, "m")]));
        assert_eq!(parse(b"null"), Ok(Vec::new()));
        assert_eq!(parse(b"[]"), Ok(Vec::new()));
        for cut in ["", "[", "[{"] {
            let problem = parse(cut.as_bytes()).unwrap_err();
            assert_eq!(problem, "unexpected end of JSON input", "{cut}");
        }
        let problem = parse(b"  group=x").unwrap_err();
        assert_eq!(
            problem,
            "invalid character 'g' looking for beginning of value"
        );
        assert!(parse(br#"[{"partition": 1.5}]"#).is_err());
        assert!(parse(br#"[{"partition": 99999999999}]"#).is_err());
    }
}
