//! Who may do what (contract, B6).

use crate::errors;
use barnabas_engine::{Access, Action, CLUSTER_UNREACHABLE, Denied, Proxies, Proxy, bearer_token};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::sync::Arc;
use tonic::Status;

/// The one who sent a request.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    access: &'a Access,
    token: Option<&'a str>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(access: &'a Access, headers: &'a HeaderMap) -> Self {
        let header = headers.get(AUTHORIZATION);
        Self {
            access,
            token: header
                .and_then(|header| header.to_str().ok())
                .and_then(bearer_token),
        }
    }

    /// Whether his token is one of those that are known.
    pub(crate) fn identify(&self) -> Result<(), Status> {
        // No topic, and a cluster that nothing is allowed on: what is left is
        // who he is.
        match self.access.check(self.token, Action::Describe, "", None) {
            Err(denied @ Denied::Unauthenticated) => Err(errors::denied(denied)),
            _ => Ok(()),
        }
    }

    /// The cluster that a request names, if its sender may act there: on the
    /// topic or, without one, on any.
    pub(crate) fn proxy<'p>(
        &self,
        proxies: &'p Proxies,
        cluster: &str,
        action: Action,
        topic: Option<&str>,
    ) -> Result<&'p Arc<Proxy>, Status> {
        // Before it is known whether the cluster exists: that is nobody's
        // business who has no token.
        self.access
            .check(self.token, action, name(proxies, cluster), topic)
            .map_err(errors::denied)?;
        let proxy = proxies.get(cluster).map_err(errors::unknown_cluster)?;
        match proxy.is_ready_for(action, topic) {
            true => Ok(proxy),
            false => Err(Status::unavailable(CLUSTER_UNREACHABLE)),
        }
    }

    /// Whether he may act on a topic of the cluster.
    pub(crate) fn may(
        &self,
        proxies: &Proxies,
        cluster: &str,
        action: Action,
        topic: &str,
    ) -> bool {
        self.access
            .is_allowed(self.token, action, name(proxies, cluster), topic)
    }
}

fn name<'a>(proxies: &'a Proxies, cluster: &'a str) -> &'a str {
    if cluster.is_empty() {
        proxies.default_name()
    } else {
        cluster
    }
}
