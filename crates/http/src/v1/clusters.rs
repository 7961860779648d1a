//! `/v1/clusters` and `/v1/clusters/{cluster}`

use super::{Code, Problem, ok};
use crate::reply::Reply;
use crate::routes::Api;
use crate::sender::token;
use crate::service::{self, Call};
use barnabas_engine::{Action, Denied};
use serde_json::{Value, json};

const ACTIONS: [Action; 4] = [
    Action::Produce,
    Action::Consume,
    Action::Describe,
    Action::Manage,
];

pub(super) fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    if is_unknown(call) {
        return Ok(service::refuse(Api::V1, Denied::Unauthenticated, call.id));
    }
    let names = call.shared.proxies.names();
    let shown: Vec<Value> = names
        .filter(|name| is_visible(call, name))
        .map(|name| show(call, name))
        .collect();
    ok(&json!({ "clusters": shown }))
}

pub(super) fn one(call: &Call<'_>) -> Result<Reply, Problem> {
    if is_unknown(call) {
        return Ok(service::refuse(Api::V1, Denied::Unauthenticated, call.id));
    }
    if !is_visible(call, call.cluster) {
        let text = format!("proxy `{}` does not exist", call.cluster);
        return Err(Problem::new(Code::ClusterNotFound, text));
    }
    ok(&show(call, call.cluster))
}

/// Whether there are tokens, and the request has none of them.
fn is_unknown(call: &Call<'_>) -> bool {
    let token = token(call.head);
    let checked = call.shared.access.check(token, Action::Describe, "", None);
    checked == Err(Denied::Unauthenticated)
}

/// Whether the token may do anything with the cluster.
fn is_visible(call: &Call<'_>, cluster: &str) -> bool {
    let (access, token) = (&call.shared.access, token(call.head));
    ACTIONS
        .into_iter()
        .any(|action| access.check(token, action, cluster, None).is_ok())
}

fn show(call: &Call<'_>, name: &str) -> Value {
    json!({"name": name, "default": name == call.shared.proxies.default_name()})
}
