//! Kafka-Pixy's routes (contract, `pixy-api.md`, section 2).

use super::PixyOperation as Does;
use super::{About, Answer, Api, Content, Errors, Kind, Operation, Parameter, Route};
use barnabas_engine::Action;
use hyper::Method;

const TAG: &str = "Kafka-Pixy";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

const GROUP: Parameter = Parameter::required("group", Kind::Text, "The consumer group.");
const PARTITION: Kind = Kind::Integer(0, i32::MAX as i64);
const OFFSET: Kind = Kind::Integer(0, i64::MAX);

const fn route(
    method: Method,
    path: &'static str,
    operation: Does,
    action: Action,
    about: About,
) -> Route {
    Route {
        api: Api::Pixy,
        method,
        path,
        is_of_cluster: true,
        operation: Operation::Pixy(operation),
        action: Some(action),
        about,
    }
}

pub(super) static ROUTES: &[Route] = &[
    Route {
        api: Api::Pixy,
        method: Method::GET,
        path: "/_ping",
        is_of_cluster: false,
        operation: Operation::Pixy(Does::Ping),
        action: None,
        about: About {
            id: "ping",
            tag: TAG,
            summary: "Whether the process serves; says nothing about Kafka.",
            details: "",
            parameters: &[],
            body: None,
            replies: &[Answer::new(
                200,
                "The text `pong`.",
                &[("text/plain; charset=utf-8", "Text")],
            )],
            errors: Errors::Pixy(&[]),
        },
    },
    route(
        Method::POST,
        "/topics/{topic}/messages",
        Does::Produce,
        Action::Produce,
        About {
            id: "pixyProduce",
            tag: TAG,
            summary: "Produce a message.",
            details: "The body is the value as it is, or `msg` of a form. Each HTTP header \
                      `X-Kafka-<name>` with a value in base64 becomes a header of the record. \
                      Without `sync` the reply leaves when the message is queued.",
            parameters: &[
                Parameter::new("key", Kind::Text, "Chooses the partition and is stored."),
                Parameter::new("sync", Kind::Flag, "Answer after Kafka has confirmed."),
                Parameter::new(
                    "timestamp",
                    Kind::Integer(0, i64::MAX),
                    "The record's time, in milliseconds since 1970; now if absent.",
                ),
            ],
            body: Some(Content {
                is_required: true,
                types: &[
                    ("text/plain", "Text"),
                    (JSON, "Any"),
                    (FORM, "PixyMessageForm"),
                ],
            }),
            replies: &[Answer::new(
                200,
                "`{}`, or with `sync` the message's place.",
                &[(JSON, "PixyPlace")],
            )],
            errors: Errors::Pixy(&[
                (404, "The topic does not exist (`sync`)."),
                (500, "Kafka has refused it (`sync`)."),
                (503, "The gateway is about to end."),
            ]),
        },
    ),
    route(
        Method::GET,
        "/topics/{topic}/messages",
        Does::Consume,
        Action::Consume,
        About {
            id: "pixyConsume",
            tag: TAG,
            summary: "Consume a message, and acknowledge it or an earlier one.",
            details: "Without `noAck`, `ackPartition` and `ackOffset` the message is \
                      acknowledged by this request. With `max` the reply is an array.",
            parameters: &[
                GROUP,
                Parameter::new("noAck", Kind::Flag, "Acknowledge nothing."),
                Parameter::new("ackPartition", PARTITION, "Of the message to acknowledge."),
                Parameter::new("ackOffset", OFFSET, "Of the message to acknowledge."),
                Parameter::new("max", Kind::Integer(1, 1000), "At most so many messages."),
                Parameter::new(
                    "timestamp",
                    Kind::Flag,
                    "Each message has `timestamp`, too, in milliseconds since 1970, or null.",
                ),
            ],
            body: None,
            replies: &[Answer::new(
                200,
                "The message, or with `max` an array.",
                &[(JSON, "PixyMessages")],
            )],
            errors: Errors::Pixy(&[
                (408, "Nothing to deliver in time."),
                (429, "Too many requests wait."),
                (500, "The group's client cannot be started."),
                (
                    503,
                    "The gateway is about to end, or consuming is switched off.",
                ),
            ]),
        },
    ),
    route(
        Method::POST,
        "/topics/{topic}/acks",
        Does::Ack,
        Action::Consume,
        About {
            id: "pixyAck",
            tag: TAG,
            summary: "Acknowledge a message, or with a JSON array as body many.",
            details: "Recorded in memory, committed within `offsets_commit_interval`.",
            parameters: &[
                GROUP,
                Parameter::new("partition", PARTITION, "The message's partition."),
                Parameter::new("offset", OFFSET, "The message's offset."),
            ],
            body: Some(Content {
                is_required: false,
                types: &[(JSON, "PixyPositions"), (FORM, "PixyAckForm")],
            }),
            replies: &[Answer::new(
                200,
                "`{}`; for an array one result each, in order.",
                &[(JSON, "PixyAckResults")],
            )],
            errors: Errors::Pixy(&[(500, "No replica has the partition.")]),
        },
    ),
    route(
        Method::POST,
        "/topics/{topic}/batches",
        Does::ProduceBatch,
        Action::Produce,
        About {
            id: "pixyProduceBatch",
            tag: TAG,
            summary: "Produce many messages and wait for Kafka.",
            details: "",
            parameters: &[],
            body: Some(Content {
                is_required: true,
                types: &[(JSON, "PixyBatch")],
            }),
            replies: &[Answer::new(
                200,
                "A place or an error for each message, in order.",
                &[(JSON, "PixyBatchResults")],
            )],
            errors: Errors::Pixy(&[
                (413, "The batch is too large."),
                (503, "The gateway is about to end."),
            ]),
        },
    ),
    route(
        Method::GET,
        "/topics/{topic}/offsets",
        Does::ReadOffsets,
        Action::Describe,
        About {
            id: "pixyReadOffsets",
            tag: TAG,
            summary: "How far a group is on each partition.",
            details: "",
            parameters: &[GROUP],
            body: None,
            replies: &[Answer::new(
                200,
                "One object for each partition.",
                &[(JSON, "PixyOffsets")],
            )],
            errors: Errors::Pixy(&[(404, "Unknown topic."), (500, "Kafka does not answer.")]),
        },
    ),
    route(
        Method::POST,
        "/topics/{topic}/offsets",
        Does::WriteOffsets,
        Action::Manage,
        About {
            id: "pixyWriteOffsets",
            tag: TAG,
            summary: "Set how far a group is.",
            details: "The body is read as JSON whatever its content type.",
            parameters: &[GROUP],
            body: Some(Content {
                is_required: true,
                types: &[(JSON, "PixyNewOffsets")],
            }),
            replies: &[Answer::new(200, "`{}`", &[(JSON, "Empty")])],
            errors: Errors::Pixy(&[
                (404, "Unknown topic."),
                (409, "A partition is being consumed."),
                (500, "Kafka has refused."),
            ]),
        },
    ),
    route(
        Method::GET,
        "/topics/{topic}/consumers",
        Does::Consumers,
        Action::Describe,
        About {
            id: "pixyConsumers",
            tag: TAG,
            summary: "Who consumes the topic.",
            details: "",
            parameters: &[Parameter::new("group", Kind::Text, "Only this group.")],
            body: None,
            replies: &[Answer::new(
                200,
                "Partitions by group and member.",
                &[(JSON, "PixyConsumers")],
            )],
            errors: Errors::Pixy(&[(500, "Kafka does not answer.")]),
        },
    ),
    route(
        Method::GET,
        "/topics",
        Does::Topics,
        Action::Describe,
        About {
            id: "pixyTopics",
            tag: TAG,
            summary: "All topics.",
            details: "With `withPartitions` or `withConfig` an object by name, else an array of \
                      names.",
            parameters: &[
                Parameter::new("withPartitions", Kind::Flag, "With partitions."),
                Parameter::new("withConfig", Kind::Flag, "With what is set on each topic."),
            ],
            body: None,
            replies: &[Answer::new(
                200,
                "Names or descriptions.",
                &[(JSON, "PixyTopics")],
            )],
            errors: Errors::Pixy(&[(500, "Kafka does not answer.")]),
        },
    ),
    route(
        Method::GET,
        "/topics/{topic}",
        Does::Topic,
        Action::Describe,
        About {
            id: "pixyTopic",
            tag: TAG,
            summary: "What is set on a topic.",
            details: "",
            parameters: &[Parameter::new(
                "withPartitions",
                Kind::Flag,
                "With partitions.",
            )],
            body: None,
            replies: &[Answer::new(200, "The description.", &[(JSON, "PixyTopic")])],
            errors: Errors::Pixy(&[(404, "Unknown topic."), (500, "Kafka does not answer.")]),
        },
    ),
];
