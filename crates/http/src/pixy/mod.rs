//! Kafka-Pixy's REST API: the routes (contract, section 2).

mod acks;
mod batches;
mod consume;
mod consumers;
mod offsets;
mod produce;
mod topics;

use crate::parameters::{Parameters, decode};
use crate::reply::{self, Reply};
use crate::server::Shared;
use barnabas_engine::{Proxy, SHUTTING_DOWN};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Request, StatusCode};
use std::borrow::Cow;

/// The content type of forms; others are not read as one.
const FORM: &str = "application/x-www-form-urlencoded";

/// What a path addresses.
#[derive(Debug, PartialEq, Eq)]
enum Resource {
    Ping,
    Messages(String),
    Acks(String),
    Batches(String),
    Offsets(String),
    Consumers(String),
    Topics,
    Topic(String),
}

/// A cluster (empty: the default one) and what of it.
type Target = (String, Resource);

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Target(Target),
    Nowhere,
    /// The same without doubled slashes.
    Elsewhere(String),
    /// A percent escape that is none.
    Malformed(String),
}

/// A request's cluster, what it says, and the body still to be read.
struct Call<'a> {
    shared: &'a Shared,
    proxy: &'a Proxy,
    parameters: Parameters,
    request: Request<Incoming>,
}

/// Answers a request. Errors are replies.
pub(crate) async fn answer(shared: &Shared, request: Request<Incoming>) -> Reply {
    let (cluster, resource) = match find(request.uri().path()) {
        Found::Target(target) => target,
        Found::Malformed(problem) => return reply::error(StatusCode::BAD_REQUEST, problem),
        Found::Nowhere => {
            let text = "404 page not found\n";
            return reply::with_body(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text);
        }
        Found::Elsewhere(path) => {
            let mut reply = reply::empty(StatusCode::MOVED_PERMANENTLY);
            let query = request.uri().query().map(|query| format!("?{query}"));
            let target = format!("{path}{}", query.unwrap_or_default());
            if let Ok(target) = HeaderValue::from_str(&target) {
                reply.headers_mut().insert(LOCATION, target);
            }
            return reply;
        }
    };
    let is_allowed = match (&resource, request.method()) {
        (Resource::Ping, &Method::GET) => {
            return reply::with_body(StatusCode::OK, "text/plain; charset=utf-8", "pong");
        }
        (Resource::Messages(_), &Method::GET | &Method::POST)
        | (Resource::Acks(_) | Resource::Batches(_), &Method::POST)
        | (Resource::Offsets(_), &Method::GET | &Method::POST)
        | (Resource::Consumers(_) | Resource::Topics | Resource::Topic(_), &Method::GET) => true,
        _ => false,
    };
    if !is_allowed {
        return reply::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let proxy = match shared.proxies.get(&cluster) {
        Ok(proxy) => proxy,
        Err(unknown) => return reply::error(StatusCode::BAD_REQUEST, unknown.to_string()),
    };
    let mut parameters = Parameters::default();
    if let Err(problem) = parameters.add(request.uri().query().unwrap_or("").as_bytes()) {
        return reply::error(StatusCode::BAD_REQUEST, problem);
    }
    let call = Call {
        shared,
        proxy,
        parameters,
        request,
    };
    let result = match (resource, call.request.method()) {
        (Resource::Messages(topic), &Method::POST) => produce::run(call, &topic).await,
        (Resource::Messages(topic), _) => consume::run(call, &topic).await,
        (Resource::Acks(topic), _) => acks::run(call, &topic).await,
        (Resource::Batches(topic), _) => batches::run(call, &topic).await,
        (Resource::Offsets(topic), &Method::POST) => offsets::write(call, &topic).await,
        (Resource::Offsets(topic), _) => offsets::read(&call, &topic).await,
        (Resource::Consumers(topic), _) => consumers::run(&call, &topic).await,
        (Resource::Topics, _) => topics::list(&call).await,
        (Resource::Topic(topic), _) => topics::one(&call, &topic).await,
        (Resource::Ping, _) => Ok(reply::empty(StatusCode::OK)),
    };
    result.unwrap_or_else(|refused| *refused)
}

impl Call<'_> {
    /// The content type as sent; empty if there is none.
    fn content_type(&self) -> Cow<'_, str> {
        let sent = self.request.headers().get(CONTENT_TYPE);
        sent.map_or(Cow::Borrowed(""), |value| {
            String::from_utf8_lossy(value.as_bytes())
        })
    }

    fn is_form(&self) -> bool {
        self.content_type() == FORM
    }

    fn refuse_if_stopping(&self) -> Result<(), Box<Reply>> {
        if self.shared.proxies.is_stopping() {
            return Err(stopping());
        }
        Ok(())
    }
}

fn stopping() -> Box<Reply> {
    Box::new(reply::error(StatusCode::SERVICE_UNAVAILABLE, SHUTTING_DOWN))
}

fn find(path: &str) -> Found {
    if path.contains("//") {
        let mut clean = path.to_owned();
        while clean.contains("//") {
            clean = clean.replace("//", "/");
        }
        return Found::Elsewhere(clean);
    }
    let mut segments = Vec::new();
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        match decode(segment.as_bytes(), false) {
            Ok(bytes) => segments.push(String::from_utf8_lossy(&bytes).into_owned()),
            Err(problem) => return Found::Malformed(problem),
        }
    }
    let mut segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if segments == ["_ping"] {
        return Found::Target((String::new(), Resource::Ping));
    }
    let mut cluster = "";
    if let ["clusters", name, ..] = segments.as_slice()
        && !name.is_empty()
    {
        cluster = name;
        segments.drain(..2);
    }
    let resource = match segments.as_slice() {
        ["topics", "", _] => return Found::Nowhere,
        ["topics", topic, "messages"] => Resource::Messages((*topic).to_owned()),
        ["topics", topic, "acks"] => Resource::Acks((*topic).to_owned()),
        ["topics", topic, "batches"] => Resource::Batches((*topic).to_owned()),
        ["topics", topic, "offsets"] => Resource::Offsets((*topic).to_owned()),
        ["topics", topic, "consumers"] => Resource::Consumers((*topic).to_owned()),
        ["topics", ""] => return Found::Nowhere,
        ["topics", topic] => Resource::Topic((*topic).to_owned()),
        ["topics"] => Resource::Topics,
        _ => return Found::Nowhere,
    };
    Found::Target((cluster.to_owned(), resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_somewhere() {
        let messages = |cluster: &str, topic: &str| {
            Found::Target((cluster.to_owned(), Resource::Messages(topic.to_owned())))
        };
        assert_eq!(find("/topics/a%20b/messages"), messages("", "a b"));
        assert_eq!(find("/clusters/c/topics/t/messages"), messages("c", "t"));
        assert_eq!(find("/topics/clusters/messages"), messages("", "clusters"));
        for nowhere in [
            "/",
            "",
            "/topics/t/messages/",
            "/topics/t/message",
            "/clusters/c",
            "/topics/",
            "/clusters/c/_ping",
            "/_ping/",
        ] {
            assert_eq!(find(nowhere), Found::Nowhere, "{nowhere}");
        }
        let clean = Found::Elsewhere("/topics/t/acks".to_owned());
        assert_eq!(find("/topics//t///acks"), clean);
        assert!(matches!(find("/topics/%zz/acks"), Found::Malformed(_)));
    }
}
