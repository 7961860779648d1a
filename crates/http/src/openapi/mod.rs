//! The OpenAPI 3.1 document, made once from the table of routes.
//!
//! Own lines instead of a library: those for this (`utoipa`, `aide`) make the
//! document from handlers of their own frameworks; here the table comes
//! first and serves both.

mod schemas;

use crate::reply::{self, Reply};
use crate::routes::{
    Answer, Api, BYTES, Content, Errors, Kind, Parameter, Resource, Route, resources,
};
use crate::v1::{Code, PROBLEM_JSON};
use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const ABOUT: &str = "Kafka over HTTP: the native API below /v1, and Kafka-Pixy's routes. What \
    happens when is in docs/http-api.md and docs/from-kafka-pixy.md.";

/// The document as a reply.
pub(crate) fn reply() -> Reply {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    reply::with_body(StatusCode::OK, reply::JSON, DOCUMENT.clone())
}

fn document() -> Value {
    let mut paths = Map::new();
    for resource in resources() {
        let base = match resource.api {
            Api::Pixy => "",
            Api::V1 => "/v1",
        };
        let path = resource.path;
        paths.insert(format!("{base}{path}"), describe(resource, false));
        if resource.is_of_cluster {
            let path = format!("{base}/clusters/{{cluster}}{path}");
            paths.insert(path, describe(resource, true));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Barnabas",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Only where tokens are configured.",
                },
            },
        },
    })
}

/// A path with its methods.
fn describe(resource: &Resource, is_prefixed: bool) -> Value {
    let mut item = Map::new();
    let mut names = Vec::new();
    if is_prefixed || resource.path.contains("{cluster}") {
        names.push(("cluster", "The cluster."));
    }
    for (name, text) in [("group", "The consumer group."), ("topic", "The topic.")] {
        if resource.path.contains(&format!("{{{name}}}")) {
            names.push((name, text));
        }
    }
    if !names.is_empty() {
        let parameters: Vec<Value> = names
            .into_iter()
            .map(|(name, text)| {
                json!({
                    "name": name,
                    "in": "path",
                    "required": true,
                    "description": text,
                    "schema": {"type": "string", "minLength": 1},
                })
            })
            .collect();
        item.insert("parameters".to_owned(), parameters.into());
    }
    for route in resource.routes() {
        let method = route.method.as_str().to_ascii_lowercase();
        item.insert(method, operation(route, is_prefixed));
    }
    Value::Object(item)
}

fn operation(route: &Route, is_prefixed: bool) -> Value {
    let about = &route.about;
    // Each operation has an id of its own.
    let id = match is_prefixed {
        true => format!("{}InCluster", about.id),
        false => about.id.to_owned(),
    };
    let mut shown = json!({
        "operationId": id,
        "tags": [about.tag],
        "summary": about.summary,
        "responses": responses(route),
        // Tokens are optional.
        "security": match route.action {
            Some(_) => json!([{"token": []}, {}]),
            None => json!([]),
        },
    });
    let Some(members) = shown.as_object_mut() else {
        return shown;
    };
    if !about.details.is_empty() {
        members.insert("description".to_owned(), about.details.into());
    }
    if !about.parameters.is_empty() {
        let parameters: Vec<Value> = about.parameters.iter().map(parameter).collect();
        members.insert("parameters".to_owned(), parameters.into());
    }
    if let Some(body) = &about.body {
        members.insert("requestBody".to_owned(), request_body(body));
    }
    shown
}

fn parameter(own: &Parameter) -> Value {
    let schema = match own.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Flag => json!({"type": "string", "enum": [""]}),
        Kind::Integer(from, to) => {
            json!({"type": "integer", "format": "int64", "minimum": from, "maximum": to})
        }
        Kind::OneOf(words) => json!({"type": "string", "enum": words}),
    };
    let mut shown = json!({
        "name": own.name,
        "in": if own.is_header { "header" } else { "query" },
        "required": own.is_required,
        "description": own.text,
        "schema": schema,
    });
    if let (Kind::Flag, Some(members)) = (&own.kind, shown.as_object_mut()) {
        members.insert("allowEmptyValue".to_owned(), true.into());
    }
    shown
}

fn request_body(body: &Content) -> Value {
    json!({"required": body.is_required, "content": content(body.types)})
}

fn content(types: &[(&str, &str)]) -> Value {
    let mut shown = Map::new();
    for (kind, schema) in types {
        let described = match *schema {
            BYTES => json!({}),
            name => json!({"schema": {"$ref": format!("#/components/schemas/{name}")}}),
        };
        shown.insert((*kind).to_owned(), described);
    }
    Value::Object(shown)
}

/// What the reply's headers are, with the request's id that all have.
fn headers(own: &[(&str, &str)]) -> Value {
    let mut shown = Map::new();
    let id = ("X-Request-Id", "The request's id.");
    for (name, text) in own.iter().copied().chain([id]) {
        let header = json!({"description": text, "schema": {"type": "string"}});
        shown.insert(name.to_owned(), header);
    }
    Value::Object(shown)
}

fn responses(route: &Route) -> Value {
    let mut shown = Map::new();
    for answer in route.about.replies {
        shown.insert(answer.status.to_string(), response(answer));
    }
    match &route.about.errors {
        Errors::Pixy(own) => {
            let mut errors: BTreeMap<u16, &str> = own.iter().copied().collect();
            if route.action.is_some() {
                errors.insert(400, "A parameter or the body is wrong.");
                errors.insert(401, "A valid bearer token is required.");
                errors.insert(403, "The token does not allow this.");
            }
            for (status, text) in errors {
                let error = json!({
                    "description": text,
                    "headers": headers(&[]),
                    "content": content(&[(reply::JSON, "PixyError")]),
                });
                shown.insert(status.to_string(), error);
            }
        }
        Errors::V1(own) => {
            let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
            for code in common(route).iter().chain(own.iter()) {
                let of_status = codes.entry(code.status().as_u16()).or_default();
                of_status.push(code.name());
            }
            for (status, codes) in codes {
                let error = json!({
                    "description": format!("A problem: {}.", codes.join(", ")),
                    "headers": headers(&[]),
                    "content": content(&[(PROBLEM_JSON, "Problem")]),
                });
                shown.insert(status.to_string(), error);
            }
        }
    }
    Value::Object(shown)
}

fn response(answer: &Answer) -> Value {
    let mut shown = json!({
        "description": answer.text,
        "headers": headers(answer.headers),
    });
    if let (false, Some(members)) = (answer.types.is_empty(), shown.as_object_mut()) {
        members.insert("content".to_owned(), content(answer.types));
    }
    shown
}

/// The problems of all routes that ask Kafka something.
fn common(route: &Route) -> &'static [Code] {
    match route.action {
        Some(_) => &[
            Code::InvalidParameter,
            Code::Unauthenticated,
            Code::Forbidden,
            Code::ClusterNotFound,
            Code::KafkaRefused,
            Code::KafkaUnavailable,
        ],
        None => &[Code::InvalidParameter],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str() {
                        Some(target) if name == "$ref" => found.push(target.to_owned()),
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(elements) => {
                for element in elements {
                    references(element, found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_schema_is_there_and_used() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        for target in &found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        for name in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            let target = format!("#/components/schemas/{name}");
            assert!(found.contains(&target), "nothing uses {name}");
        }
    }

    #[test]
    fn every_operation_has_an_id_of_its_own() {
        let document = document();
        let mut ids: Vec<&str> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .filter_map(|operation| operation.get("operationId")?.as_str())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        let routes = resources().iter().map(|resource| {
            let copies = if resource.is_of_cluster { 2 } else { 1 };
            resource.routes().count() * copies
        });
        assert_eq!(count, routes.sum::<usize>());
    }
}
