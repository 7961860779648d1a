//! A request from its first line to its reply: its id, where its path leads,
//! whether its token allows it, what does it, what a browser is told.

use crate::body::RequestBody;
use crate::cors::Cors;
use crate::meter::Asked;
use crate::parameters::Parameters;
use crate::reply::{self, Reply};
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::routes::{Api, Found, Operation, Resource, Route, Target, find};
use crate::sender::{self, token};
use crate::server::Shared;
use crate::v1::{Code, Problem};
use crate::{pixy, trace, v1};
use barnabas_engine::{Action, CLUSTER_UNREACHABLE, Denied, Proxy, RequestTrace, Span};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;

/// A request that may be served: whose it is, what it says, and the body
/// still to be read.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) id: &'a RequestId,
    pub(crate) cluster: &'a str,
    pub(crate) proxy: &'a Arc<Proxy>,
    /// Empty where the path has none.
    pub(crate) group: &'a str,
    /// Empty where the path has none.
    pub(crate) topic: &'a str,
    pub(crate) head: &'a Parts,
    pub(crate) parameters: Parameters<'a>,
    pub(crate) body: RequestBody<'a>,
    pub(crate) trace: RequestTrace,
}

impl Call<'_> {
    /// The content type as sent; empty if there is none.
    pub(crate) fn content_type(&self) -> Cow<'_, str> {
        let sent = self.head.headers.get(CONTENT_TYPE);
        sent.map_or(Cow::Borrowed(""), |value| {
            String::from_utf8_lossy(value.as_bytes())
        })
    }

    /// Whether a list may show this topic.
    pub(crate) fn may_describe(&self, topic: &str) -> bool {
        let access = &self.shared.access;
        access.is_open()
            || access.is_allowed(token(self.head), Action::Describe, self.cluster, topic)
    }
}

/// Answers a request. Errors are replies.
pub(crate) async fn answer(shared: &Shared, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let id = shared.ids.of(&head.headers);
    let mut asked = Asked::now(&shared.meter);
    let (trace, mut span) = trace::begin(&shared.tracing, &head);
    let mut reply = respond(shared, &head, body, &id, (trace, &mut span), &mut asked).await;
    let status = reply.status();
    asked.answered(status.as_u16());
    trace::end(span, status);
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(
            component = "http",
            request_id = id.as_str(),
            "{} {} is answered with {status}",
            head.method,
            head.uri.path()
        );
    }
    let headers = reply.headers_mut();
    shared.cors.mark(&head.headers, headers);
    headers.insert(X_REQUEST_ID, id.into_value());
    reply
}

async fn respond(
    shared: &Shared,
    head: &Parts,
    body: Incoming,
    id: &RequestId,
    (trace, span): (RequestTrace, &mut Option<Span>),
    asked: &mut Asked<'_>,
) -> Reply {
    let target = match find(head.uri.path()) {
        Found::Target(target) => target,
        Found::Nowhere(Api::Pixy) => {
            let text = "404 page not found\n";
            return reply::with_body(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text);
        }
        Found::Nowhere(Api::V1) => {
            return Problem::new(Code::NotFound, "there is nothing at this path").into_reply(id);
        }
        Found::Malformed(api, problem) => return malformed(api, problem, id),
        Found::Elsewhere(path) => return moved(&path, head.uri.query()),
    };
    let Some(route) = target.resource.route(&head.method) else {
        return without_route(&shared.cors, head, target.resource, id);
    };
    if span.is_some() {
        let api = match route.api {
            Api::Pixy => "",
            Api::V1 => "/v1",
        };
        let cluster = match route.is_of_cluster && !target.cluster.is_empty() {
            true => "/clusters/{cluster}",
            false => "",
        };
        trace::route(span, &head.method, &format!("{api}{cluster}{}", route.path));
    }
    asked.is_for(route);
    let cluster = match &*target.cluster {
        "" => shared.proxies.default_name(),
        name => name,
    };
    let allowed = allow(shared, head, route, cluster, &target);
    if let Err(denied) = allowed {
        return refuse(route.api, denied, id);
    }
    let mut parameters = Parameters::default();
    let query = head.uri.query().unwrap_or("");
    if let Err(problem) = parameters.add(query.as_bytes()) {
        return malformed(route.api, problem, id);
    }
    let proxy = match shared.proxies.get(cluster) {
        Ok(proxy) => proxy,
        Err(unknown) => {
            return match route.api {
                Api::Pixy => reply::error(StatusCode::BAD_REQUEST, unknown.to_string()),
                Api::V1 => Problem::new(Code::ClusterNotFound, unknown.to_string()).into_reply(id),
            };
        }
    };
    let is_ready = |action| proxy.is_ready_for(action, Some(&target.topic));
    if !route.action.is_none_or(is_ready) {
        return match route.api {
            Api::Pixy => reply::error(StatusCode::SERVICE_UNAVAILABLE, CLUSTER_UNREACHABLE),
            Api::V1 => Problem::new(Code::KafkaUnavailable, CLUSTER_UNREACHABLE).into_reply(id),
        };
    }
    let call = Call {
        shared,
        id,
        cluster,
        proxy,
        group: &target.group,
        topic: &target.topic,
        head,
        parameters,
        body: RequestBody::new(body, &shared.bodies, shared.client_timeout),
        trace,
    };
    match route.operation {
        Operation::Pixy(operation) => pixy::run(operation, call).await,
        Operation::V1(operation) => v1::run(operation, route, call).await,
    }
}

/// A method that the path does not have: what a browser asks before it lets a
/// script go on, or a mistake.
fn without_route(cors: &Cors, head: &Parts, resource: &Resource, id: &RequestId) -> Reply {
    if head.method == Method::OPTIONS {
        let mut reply = reply::empty(StatusCode::NO_CONTENT);
        if cors.is_preflight(&head.headers) {
            cors.answer_preflight(&head.headers, &resource.allow, reply.headers_mut());
            return reply;
        }
        if resource.api == Api::V1 {
            reply.headers_mut().insert(ALLOW, resource.allow.clone());
            return reply;
        }
    }
    let mut reply = match resource.api {
        Api::Pixy => reply::empty(StatusCode::METHOD_NOT_ALLOWED),
        Api::V1 => {
            let allow = resource.allow.to_str().unwrap_or_default();
            let detail = format!("{} is not allowed here, but {allow}", head.method);
            Problem::new(Code::MethodNotAllowed, detail).into_reply(id)
        }
    };
    reply.headers_mut().insert(ALLOW, resource.allow.clone());
    reply
}

/// Whether the request's token allows it.
fn allow(
    shared: &Shared,
    head: &Parts,
    route: &Route,
    cluster: &str,
    target: &Target<'_>,
) -> Result<(), Denied> {
    let Some(action) = route.action.filter(|_| !shared.access.is_open()) else {
        return Ok(());
    };
    let topic = Some(&*target.topic).filter(|topic| !topic.is_empty());
    shared.access.check(token(head), action, cluster, topic)
}

/// The reply to a request that its token does not allow, in the form of the
/// API.
pub(crate) fn refuse(api: Api, denied: Denied, id: &RequestId) -> Reply {
    let code = match denied {
        Denied::Unauthenticated => Code::Unauthenticated,
        Denied::Forbidden => Code::Forbidden,
    };
    let mut reply = match api {
        Api::Pixy => reply::error(sender::status(denied), denied.to_string()),
        Api::V1 => Problem::new(code, denied.to_string()).into_reply(id),
    };
    if denied == Denied::Unauthenticated {
        sender::ask_for_token(reply.headers_mut());
    }
    reply
}

fn malformed(api: Api, problem: String, id: &RequestId) -> Reply {
    match api {
        Api::Pixy => reply::error(StatusCode::BAD_REQUEST, problem),
        Api::V1 => Problem::new(Code::InvalidParameter, problem).into_reply(id),
    }
}

fn moved(path: &str, query: Option<&str>) -> Reply {
    let mut reply = reply::empty(StatusCode::MOVED_PERMANENTLY);
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(target) = HeaderValue::from_str(&target) {
        reply.headers_mut().insert(LOCATION, target);
    }
    reply
}
