//! What bodies look like (JSON Schema, as OpenAPI 3.1 has it).

use crate::v1::{Code, TYPE_PREFIX};
use serde_json::{Map, Value, json};

/// All schemas by name.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for group in [general(), pixy(), v1()] {
        if let Value::Object(schemas) = group {
            all.extend(schemas);
        }
    }
    Value::Object(all)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object whose members are all required, but those whose names end in
/// `?`.
fn object(members: &[(&str, Value)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema) in members {
        let own = name.trim_end_matches('?');
        if own == *name {
            required.push(own);
        }
        properties.insert(own.to_owned(), schema.clone());
    }
    let mut shown = json!({"type": "object", "properties": properties});
    if let (false, Some(object)) = (required.is_empty(), shown.as_object_mut()) {
        object.insert("required".to_owned(), required.into());
    }
    shown
}

fn array(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn integers() -> Value {
    array(int32())
}

fn text() -> Value {
    json!({"type": "string"})
}

fn base64() -> Value {
    json!({"type": "string", "contentEncoding": "base64"})
}

fn base64_or_null() -> Value {
    json!({"type": ["string", "null"], "contentEncoding": "base64"})
}

fn int32() -> Value {
    json!({"type": "integer", "format": "int32"})
}

fn int64() -> Value {
    json!({"type": "integer", "format": "int64"})
}

fn int64_or_null() -> Value {
    json!({"type": ["integer", "null"], "format": "int64"})
}

fn by_name(schema: Value) -> Value {
    json!({"type": "object", "additionalProperties": schema})
}

fn one_of(schemas: &[Value]) -> Value {
    json!({"oneOf": schemas})
}

fn general() -> Value {
    json!({
        "Any": {"description": "Any JSON."},
        "Empty": {"type": "object", "maxProperties": 0},
        "Text": text(),
    })
}

fn pixy() -> Value {
    let place = object(&[("partition", int32()), ("offset", int64())]);
    let header = object(&[("key", text()), ("value", base64())]);
    let error = object(&[("error", text())]);
    let partition = object(&[
        ("partition", int32()),
        ("leader", int32()),
        ("replicas", integers()),
        ("isr", integers()),
    ]);
    let config = object(&[("version", int32()), ("config", by_name(text()))]);
    let topic = object(&[("config?", config), ("partitions?", array(partition))]);
    let offset = object(&[
        ("partition", int32()),
        ("begin", int64()),
        ("end", int64()),
        ("count", int64()),
        ("offset", int64()),
        ("lag", int64()),
        ("metadata?", text()),
        ("sparse_acks?", text()),
    ]);
    let new_offset = object(&[
        ("partition?", int32()),
        ("offset?", int64()),
        ("metadata?", text()),
    ]);
    let message = object(&[
        ("key", base64_or_null()),
        ("value", base64_or_null()),
        ("partition", int32()),
        ("offset", int64()),
        ("headers", array(header)),
        ("timestamp?", int64_or_null()),
    ]);
    let entry = object(&[
        ("key?", base64_or_null()),
        ("value?", base64_or_null()),
        (
            "headers?",
            array(object(&[("key", text()), ("value?", base64_or_null())])),
        ),
        ("timestamp?", int64_or_null()),
    ]);
    let ack = one_of(&[reference("Empty"), error.clone()]);
    json!({
        "PixyError": error,
        "PixyPlace": one_of(&[reference("Empty"), place.clone()]),
        "PixyMessageForm": object(&[("msg", text()), ("key?", text()), ("sync?", text()), ("timestamp?", int64())]),
        "PixyMessages": one_of(&[message.clone(), array(message)]),
        "PixyPositions": array(place.clone()),
        "PixyAckForm": object(&[("group", text()), ("partition", int32()), ("offset", int64())]),
        "PixyAckResults": one_of(&[reference("Empty"), array(ack)]),
        "PixyBatch": array(entry),
        "PixyBatchResults": array(one_of(&[place, error])),
        "PixyOffsets": array(offset),
        "PixyNewOffsets": one_of(&[json!({"type": "null"}), array(new_offset)]),
        "PixyConsumers": by_name(by_name(integers())),
        "PixyTopic": topic,
        "PixyTopics": one_of(&[array(text()), by_name(reference("PixyTopic"))]),
    })
}

fn v1() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|(_, name, ..)| *name).collect();
    let encoding = |words: &[&str]| json!({"type": "string", "enum": words});
    let text_or_null = || json!({"type": ["string", "null"]});
    let header = object(&[
        ("name", text()),
        ("name_encoding?", encoding(&["base64"])),
        ("value", text_or_null()),
        ("value_encoding?", encoding(&["base64"])),
    ]);
    let partition = object(&[
        ("partition", int32()),
        (
            "leader",
            json!({"type": ["integer", "null"], "format": "int32"}),
        ),
        ("replicas", integers()),
        ("in_sync", integers()),
    ]);
    let member = object(&[
        ("member_id", text()),
        ("client_id", text()),
        ("topics", array(text())),
        (
            "assigned",
            array(object(&[("topic", text()), ("partition", int32())])),
        ),
    ]);
    let listed_group = object(&[
        ("name", text()),
        ("state", text()),
        ("members", int32()),
        ("topics", array(text())),
    ]);
    let offset = object(&[
        ("partition", int32()),
        ("earliest", int64()),
        ("latest", int64()),
        ("committed", int64_or_null()),
        ("lag", int64_or_null()),
        ("metadata", text()),
        ("acknowledged", text_or_null()),
    ]);
    let edge = || encoding(&["earliest", "latest"]);
    let count = || json!({"type": "integer", "minimum": 1, "maximum": 65535, "default": 1});
    let new_offset = object(&[
        ("partition", int32()),
        (
            "offset?",
            json!({"type": "integer", "format": "int64", "minimum": 0}),
        ),
        ("to?", edge()),
        (
            "timestamp?",
            json!({"type": "integer", "format": "int64", "minimum": 0}),
        ),
        ("metadata?", text()),
    ]);
    let position = object(&[("partition", int32()), ("offset", int64())]);
    json!({
        "Problem": {
            "description": "Problem details (RFC 9457).",
            "type": "object",
            "properties": {
                "type": {"type": "string", "format": "uri", "pattern": format!("^{TYPE_PREFIX}")},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "code": {"type": "string", "examples": codes},
                "detail": {"type": "string"},
                "request_id": {"type": "string"},
                "kafka_error": {"type": "integer"},
            },
            "required": ["type", "title", "status", "code", "detail", "request_id"],
        },
        "NewRecord": object(&[
            ("key?", text_or_null()),
            ("key_encoding?", encoding(&["text", "base64"])),
            ("value", json!({"description": "Any JSON; null is a tombstone."})),
            ("value_encoding?", encoding(&["text", "base64", "json"])),
            ("headers?", array(header.clone())),
            ("partition?", int32()),
            ("timestamp?", int64()),
        ]),
        "ValueOrRecords": json!({"anyOf": [
            reference("Any"), reference("NewRecord"), array(reference("NewRecord")),
        ]}),
        "RecordResult": object(&[
            ("result", encoding(&["written", "accepted", "refused"])),
            ("partition?", int32()),
            ("offset?", int64()),
            ("timestamp?", int64_or_null()),
            ("code?", text()),
            ("detail?", text()),
            ("line?", int64()),
        ]),
        "LineCounts": object(&[
            ("records", int64()),
            ("written", int64()),
            ("accepted", int64()),
            ("refused", int64()),
            ("errors", array(reference("RecordResult"))),
        ]),
        "ProduceResult": one_of(&[
            reference("RecordResult"), array(reference("RecordResult")), reference("LineCounts"),
        ]),
        "Cluster": object(&[("name", text()), ("default", json!({"type": "boolean"}))]),
        "Clusters": object(&[("clusters", array(reference("Cluster")))]),
        "NewTopic": object(&[("name", text()), ("partitions?", count()), ("replication?", count())]),
        "CreatedTopic": object(&[("name", text()), ("partitions", int32()), ("replication", int32())]),
        "Topic": object(&[("name", text()), ("partitions", array(reference("Partition"))), ("config", by_name(text()))]),
        "Topics": object(&[("topics", array(object(&[("name", text()), ("partitions", array(reference("Partition")))])))]),
        "Partition": partition,
        "Group": object(&[("name", text()), ("state", text()), ("members", array(member))]),
        "Groups": object(&[("groups", array(listed_group))]),
        "Record": object(&[
            ("topic", text()),
            ("partition", int32()),
            ("offset", int64()),
            ("timestamp", int64_or_null()),
            ("key", text_or_null()),
            ("key_encoding?", encoding(&["base64"])),
            ("value", json!({"description": "Text or null; any JSON with values=json."})),
            ("value_encoding?", encoding(&["base64", "json"])),
            ("headers", array(header)),
        ]),
        "RecordOrRecords": one_of(&[reference("Record"), array(reference("Record"))]),
        "Position": position,
        "PositionOrPositions": one_of(&[reference("Position"), array(reference("Position"))]),
        "AckResult": object(&[
            ("partition?", int32()),
            ("offset?", int64()),
            ("result", encoding(&["acknowledged", "known", "refused"])),
            ("code?", text()),
            ("detail?", text()),
        ]),
        "AckResults": array(reference("AckResult")),
        "AckResultOrResults": one_of(&[reference("AckResult"), reference("AckResults")]),
        "Offsets": object(&[("offsets", array(offset))]),
        "NewOffsets": object(&[("offsets?", array(new_offset)), ("to?", edge()), ("timestamp?", int64())]),
        "SetOffsets": object(&[("offsets", array(reference("Position")))]),
    })
}
