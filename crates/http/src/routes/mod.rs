//! The routes: one table, from which requests are served and the OpenAPI
//! document is made, so that neither knows what the other does not.
//!
//! - `pixy`, `v1`: the rows;
//! - `find`: from a path to its resource.

mod find;
mod pixy;
mod v1;

pub(crate) use find::{Found, Resource, Target, find, resources};

use crate::v1::Code;
use barnabas_engine::Action;
use hyper::Method;

/// Which rules a route follows: paths, errors, bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// Kafka-Pixy's REST API.
    Pixy,
    /// The native API, below `/v1`.
    V1,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Pixy(PixyOperation),
    V1(V1Operation),
}

/// What Kafka-Pixy's routes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixyOperation {
    Ping,
    Produce,
    ProduceBatch,
    Consume,
    Ack,
    ReadOffsets,
    WriteOffsets,
    Consumers,
    Topics,
    Topic,
}

/// What the native routes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum V1Operation {
    OpenApi,
    Clusters,
    Cluster,
    Topics,
    CreateTopic,
    Topic,
    DeleteTopic,
    Groups,
    Group,
    Produce,
    Consume,
    Ack,
    ReadOffsets,
    WriteOffsets,
}

/// A method of a resource.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) api: Api,
    pub(crate) method: Method,
    /// Behind what stands for the API and the cluster.
    pub(crate) path: &'static str,
    /// Whether it is there once more for each cluster.
    pub(crate) is_of_cluster: bool,
    pub(crate) operation: Operation,
    /// What a token must allow; `None` needs none.
    pub(crate) action: Option<Action>,
    pub(crate) about: About,
}

/// What the document says about a route.
#[derive(Debug)]
pub(crate) struct About {
    /// `operationId`
    pub(crate) id: &'static str,
    /// The section of the document.
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    /// More than the summary; may be empty.
    pub(crate) details: &'static str,
    /// The query's parameters, and headers that count. Native routes refuse
    /// other parameters.
    pub(crate) parameters: &'static [Parameter],
    pub(crate) body: Option<Content>,
    pub(crate) replies: &'static [Answer],
    pub(crate) errors: Errors,
}

/// A parameter of a query, or a header.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
    pub(crate) is_header: bool,
    pub(crate) text: &'static str,
}

/// What a parameter's value is.
#[derive(Debug)]
pub(crate) enum Kind {
    Text,
    /// Counts by being there.
    Flag,
    /// From, up to.
    Integer(i64, i64),
    OneOf(&'static [&'static str]),
}

/// A body.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) is_required: bool,
    /// Content types and the names of their schemas; [`BYTES`] has none.
    pub(crate) types: &'static [(&'static str, &'static str)],
}

/// The schema of any bytes.
pub(crate) const BYTES: &str = "";

/// A reply that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: &'static str,
    /// As [`Content::types`].
    pub(crate) types: &'static [(&'static str, &'static str)],
    /// Names and meanings.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

/// The errors that only this route has; what all have is added.
#[derive(Debug)]
pub(crate) enum Errors {
    /// By status, with the meaning.
    Pixy(&'static [(u16, &'static str)]),
    V1(&'static [Code]),
}

impl Parameter {
    const fn new(name: &'static str, kind: Kind, text: &'static str) -> Self {
        Self {
            name,
            kind,
            is_required: false,
            is_header: false,
            text,
        }
    }

    /// A header that counts.
    const fn header(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Text,
            is_required: false,
            is_header: true,
            text,
        }
    }

    const fn required(name: &'static str, kind: Kind, text: &'static str) -> Self {
        Self {
            name,
            kind,
            is_required: true,
            is_header: false,
            text,
        }
    }
}

impl Answer {
    const fn new(
        status: u16,
        text: &'static str,
        types: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            status,
            text,
            types,
            headers: &[],
        }
    }
}
