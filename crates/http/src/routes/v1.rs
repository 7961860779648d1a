//! The native routes (`docs/http-api.md`).

use super::V1Operation as Does;
use super::{About, Answer, Api, BYTES, Content, Errors, Kind, Operation, Parameter, Route};
use crate::v1::{Code, MAX_BYTES, MAX_RECORDS, MAX_WAIT_MS};
use barnabas_engine::Action;
use hyper::Method;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// What describes a single record that is sent as it is.
const RECORD_HEADERS: &[(&str, &str)] = &[
    ("Kafka-Topic", "The topic."),
    ("Kafka-Partition", "The partition."),
    ("Kafka-Offset", "The offset."),
    (
        "Kafka-Timestamp",
        "Milliseconds since 1970; absent if the record has none.",
    ),
    (
        "Kafka-Key",
        "The key, percent-encoded; absent if the record has none.",
    ),
    (
        "Kafka-Header",
        "A header of the record: name, `=` and value, both percent-encoded; without `=` if its \
         value is null. Once for each, in order.",
    ),
    ("Kafka-Tombstone", "`true` if the record has no value."),
    (
        "Kafka-Omitted",
        "What was too large for headers: `key`, `headers` or both. JSON has everything.",
    ),
];

const fn route(
    method: Method,
    path: &'static str,
    operation: Does,
    action: Action,
    about: About,
) -> Route {
    Route {
        api: Api::V1,
        method,
        path,
        is_of_cluster: true,
        operation: Operation::V1(operation),
        action: Some(action),
        about,
    }
}

/// A route that is about no cluster in particular.
const fn general(path: &'static str, operation: Does, about: About) -> Route {
    Route {
        api: Api::V1,
        method: Method::GET,
        path,
        is_of_cluster: false,
        operation: Operation::V1(operation),
        action: None,
        about,
    }
}

pub(super) static ROUTES: &[Route] = &[
    general(
        "/openapi.json",
        Does::OpenApi,
        About {
            id: "openapi",
            tag: "About",
            summary: "This document.",
            details: "Needs no token.",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "OpenAPI 3.1.", &[(JSON, "Any")])],
            errors: Errors::V1(&[]),
        },
    ),
    general(
        "/clusters",
        Does::Clusters,
        About {
            id: "listClusters",
            tag: "Clusters",
            summary: "The clusters that the token may do anything with.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The clusters.", &[(JSON, "Clusters")])],
            errors: Errors::V1(&[Code::Unauthenticated]),
        },
    ),
    general(
        "/clusters/{cluster}",
        Does::Cluster,
        About {
            id: "getCluster",
            tag: "Clusters",
            summary: "One cluster.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The cluster.", &[(JSON, "Cluster")])],
            errors: Errors::V1(&[Code::Unauthenticated, Code::ClusterNotFound]),
        },
    ),
    route(
        Method::GET,
        "/topics",
        Does::Topics,
        Action::Describe,
        About {
            id: "listTopics",
            tag: "Topics",
            summary: "All topics that the token may describe, by name.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The topics.", &[(JSON, "Topics")])],
            errors: Errors::V1(&[]),
        },
    ),
    route(
        Method::POST,
        "/topics",
        Does::CreateTopic,
        Action::Manage,
        About {
            id: "createTopic",
            tag: "Topics",
            summary: "Create a topic.",
            details: "",
            parameters: &[],
            body: Some(Content {
                is_required: true,
                types: &[(JSON, "NewTopic")],
            }),
            replies: &[Answer {
                status: 201,
                text: "It is created.",
                types: &[(JSON, "CreatedTopic")],
                headers: &[("Location", "The topic's path.")],
            }],
            errors: Errors::V1(&[
                Code::InvalidBody,
                Code::TopicExists,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
            ]),
        },
    ),
    route(
        Method::GET,
        "/topics/{topic}",
        Does::Topic,
        Action::Describe,
        About {
            id: "getTopic",
            tag: "Topics",
            summary: "A topic's partitions and what is set on it.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The topic.", &[(JSON, "Topic")])],
            errors: Errors::V1(&[Code::TopicNotFound]),
        },
    ),
    route(
        Method::DELETE,
        "/topics/{topic}",
        Does::DeleteTopic,
        Action::Manage,
        About {
            id: "deleteTopic",
            tag: "Topics",
            summary: "Delete a topic with everything in it.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(204, "It is deleted.", &[])],
            errors: Errors::V1(&[Code::TopicNotFound]),
        },
    ),
    route(
        Method::POST,
        "/topics/{topic}/records",
        Does::Produce,
        Action::Produce,
        About {
            id: "produceRecords",
            tag: "Records",
            summary: "Produce a record, or many.",
            details: "The body is the value, whatever it is: JSON is not looked into. With \
                      `application/x-ndjson` each line is a value, and there may be any number. \
                      With `as=records` they are objects with the fields of consumed records. \
                      Key, headers, partition and timestamp are parameters or `Kafka-*` headers; \
                      they count for every record that does not say otherwise. Bodies may be \
                      compressed (`Content-Encoding`: gzip, zstd).",
            parameters: &[
                Parameter::new(
                    "as",
                    Kind::OneOf(&["value", "records"]),
                    "`value` (default): the body, or each line, is a value. `records`: an object, \
                     an array of them, or one per line.",
                ),
                Parameter::new(
                    "durability",
                    Kind::OneOf(&["kafka", "journal", "memory"]),
                    "`kafka`: answered once Kafka has it, with its place. `journal`: once it is \
                     on disk. `memory`: at once; lost if the process dies before Kafka has it. \
                     `kafka` if absent, unless the topic is configured as `journal`.",
                ),
                Parameter::new(
                    "key",
                    Kind::Text,
                    "The key, which also chooses the partition; any bytes as the header \
                     `Kafka-Key`, percent-encoded.",
                ),
                Parameter::new(
                    "partition",
                    Kind::Integer(0, i32::MAX as i64),
                    "The partition, whatever the key; or `Kafka-Partition`.",
                ),
                Parameter::new(
                    "timestamp",
                    Kind::Integer(0, i64::MAX),
                    "Milliseconds since 1970, now if absent; or `Kafka-Timestamp`.",
                ),
                Parameter::header(
                    "Idempotency-Key",
                    "The same request with the same key is done once, and answered again with \
                     `Idempotent-Replayed: true`; by this process, within its window.",
                ),
            ],
            body: Some(Content {
                is_required: false,
                types: &[
                    (JSON, "ValueOrRecords"),
                    (NDJSON, "Text"),
                    ("application/octet-stream", BYTES),
                ],
            }),
            replies: &[
                Answer::new(
                    200,
                    "Kafka has them: the place of one, or of each; of lines, how many.",
                    &[(JSON, "ProduceResult")],
                ),
                Answer::new(
                    202,
                    "They are on disk (`journal`) or in memory.",
                    &[(JSON, "ProduceResult")],
                ),
                Answer::new(
                    207,
                    "Some of many were refused: see each result.",
                    &[(JSON, "ProduceResult")],
                ),
            ],
            errors: Errors::V1(&[
                Code::InvalidBody,
                Code::TopicNotFound,
                Code::PartitionNotFound,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
                Code::IdempotencyKeyInUse,
                Code::IdempotencyKeyReused,
                Code::IdempotencyKeysExhausted,
                Code::KafkaRefused,
                Code::JournalFull,
                Code::JournalUnavailable,
                Code::ShuttingDown,
            ]),
        },
    ),
    route(
        Method::GET,
        "/groups",
        Does::Groups,
        Action::Describe,
        About {
            id: "listGroups",
            tag: "Groups",
            summary: "Groups of consumers.",
            details: "With tokens: those that consume a topic that the token may describe; \
                      groups without members only for tokens that may describe all topics.",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The groups.", &[(JSON, "Groups")])],
            errors: Errors::V1(&[]),
        },
    ),
    route(
        Method::GET,
        "/groups/{group}",
        Does::Group,
        Action::Describe,
        About {
            id: "getGroup",
            tag: "Groups",
            summary: "A group's members and their partitions.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The group.", &[(JSON, "Group")])],
            errors: Errors::V1(&[Code::GroupNotFound]),
        },
    ),
    route(
        Method::POST,
        "/groups/{group}/topics/{topic}/records",
        Does::Consume,
        Action::Consume,
        About {
            id: "consumeRecords",
            tag: "Records",
            summary: "Take the next record of a topic for a group, or the next ones.",
            details: "Waits for the first record. The group begins to exist with the first \
                      request. Without `max`, one record: its bytes as they are, or an object \
                      if `Accept` prefers JSON. With `max`, an array, or one object per line.",
            parameters: &[
                Parameter::new(
                    "max",
                    Kind::Integer(1, MAX_RECORDS),
                    "A batch of at most so many records.",
                ),
                Parameter::new(
                    "max_bytes",
                    Kind::Integer(1, MAX_BYTES),
                    "No further record once the batch has so many bytes; 16 MiB if absent.",
                ),
                Parameter::new(
                    "wait",
                    Kind::Integer(0, MAX_WAIT_MS),
                    "Milliseconds to wait for the first record; as configured \
                     (`consumer.long_polling_timeout`) if absent.",
                ),
                Parameter::new(
                    "ack",
                    Kind::OneOf(&["auto", "explicit"]),
                    "`auto` (default): acknowledged once the reply is written, at most once. \
                     `explicit`: by `acks`, else they come again, at least once.",
                ),
                Parameter::new(
                    "values",
                    Kind::OneOf(&["text", "json", "base64"]),
                    "How values stand in JSON. `text` (default): as strings. `json`: as JSON \
                     where they are JSON, else as strings. What cannot be shown so is in base64 \
                     and marked. `base64`: keys and values always.",
                ),
            ],
            body: None,
            replies: &[
                Answer {
                    status: 200,
                    text: "The record, or the batch.",
                    types: &[
                        ("application/octet-stream", BYTES),
                        (JSON, "RecordOrRecords"),
                        (NDJSON, "Text"),
                    ],
                    headers: RECORD_HEADERS,
                },
                Answer::new(204, "Nothing came in time.", &[]),
            ],
            errors: Errors::V1(&[
                Code::NotAcceptable,
                Code::TooManyRequests,
                Code::TooManyGroups,
                Code::ConsumingDisabled,
                Code::ShuttingDown,
            ]),
        },
    ),
    route(
        Method::POST,
        "/groups/{group}/topics/{topic}/acks",
        Does::Ack,
        Action::Consume,
        About {
            id: "acknowledgeRecords",
            tag: "Acks",
            summary: "Acknowledge a record, or many, in any order.",
            details: "Any replica takes them. Committed to Kafka within \
                      `consumer.offsets_commit_interval`. One object is answered by its result \
                      or a problem; an array and lines by a result each, in order.",
            parameters: &[],
            body: Some(Content {
                is_required: true,
                types: &[(JSON, "PositionOrPositions"), (NDJSON, "Text")],
            }),
            replies: &[
                Answer::new(
                    200,
                    "All are acknowledged.",
                    &[(JSON, "AckResultOrResults"), (NDJSON, "Text")],
                ),
                Answer::new(
                    207,
                    "Some of many were refused: see each result.",
                    &[(JSON, "AckResults"), (NDJSON, "Text")],
                ),
            ],
            errors: Errors::V1(&[
                Code::InvalidBody,
                Code::BadOffset,
                Code::NotOwned,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
            ]),
        },
    ),
    route(
        Method::GET,
        "/groups/{group}/topics/{topic}/offsets",
        Does::ReadOffsets,
        Action::Describe,
        About {
            id: "getOffsets",
            tag: "Offsets",
            summary: "How far a group is on each partition of a topic.",
            details: "A group that does not exist has committed nothing.",
            parameters: &[],
            body: None,
            replies: &[Answer::new(200, "The offsets.", &[(JSON, "Offsets")])],
            errors: Errors::V1(&[Code::TopicNotFound]),
        },
    ),
    route(
        Method::PUT,
        "/groups/{group}/topics/{topic}/offsets",
        Does::WriteOffsets,
        Action::Manage,
        About {
            id: "setOffsets",
            tag: "Offsets",
            summary: "Set how far a group is: to offsets, the earliest, the latest, a time.",
            details: "Of partitions that are not named nothing changes. While a partition is \
                      consumed it cannot be set.",
            parameters: &[],
            body: Some(Content {
                is_required: true,
                types: &[(JSON, "NewOffsets")],
            }),
            replies: &[Answer::new(200, "What was set.", &[(JSON, "SetOffsets")])],
            errors: Errors::V1(&[
                Code::InvalidBody,
                Code::TopicNotFound,
                Code::PartitionNotFound,
                Code::GroupActive,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
            ]),
        },
    ),
];
