//! The native API (`docs/http-api.md`): a file per resource. Errors are
//! problems.

mod acks;
mod clusters;
mod groups;
mod idempotency;
mod offsets;
mod problem;
mod produce;
mod records;
mod shown;
mod topics;

pub use idempotency::IdempotencyOptions;
pub(crate) use idempotency::{IDEMPOTENT_REPLAYED, Keys};
pub(crate) use problem::{Code, PROBLEM_JSON, Problem, TYPE_PREFIX};

use crate::body::ReadError;
use crate::openapi;
use crate::parameters::Parameters;
use crate::reply::{self, Reply};
use crate::routes::{Kind, Parameter, Route, V1Operation};
use crate::service::Call;
use bytes::Bytes;
use hyper::StatusCode;
use serde::de::DeserializeOwned;

/// Records that one request may ask for.
pub(crate) const MAX_RECORDS: i64 = 1_000;
/// Bytes that one request may ask for.
pub(crate) const MAX_BYTES: i64 = 64 << 20;
/// How long one request may wait, in milliseconds: proxies commonly give up
/// after a minute.
pub(crate) const MAX_WAIT_MS: i64 = 60_000;

/// Does what a route is for.
pub(crate) async fn run(operation: V1Operation, route: &Route, call: Call<'_>) -> Reply {
    let id = call.id;
    let result = match check_parameters(route, &call) {
        Err(problem) => Err(problem),
        Ok(()) => match operation {
            V1Operation::OpenApi => Ok(openapi::reply()),
            V1Operation::Clusters => clusters::list(&call),
            V1Operation::Cluster => clusters::one(&call),
            V1Operation::Topics => topics::list(&call).await,
            V1Operation::CreateTopic => topics::create(call).await,
            V1Operation::Topic => topics::one(&call).await,
            V1Operation::DeleteTopic => topics::delete(&call).await,
            V1Operation::Groups => groups::list(&call).await,
            V1Operation::Group => groups::one(&call).await,
            V1Operation::Produce => produce::run(call).await,
            V1Operation::Consume => records::consume(&call).await,
            V1Operation::Ack => acks::run(call).await,
            V1Operation::ReadOffsets => offsets::read(&call).await,
            V1Operation::WriteOffsets => offsets::write(call).await,
        },
    };
    result.unwrap_or_else(|problem| problem.into_reply(id))
}

/// Every parameter must be one of the route's, there once, and of its kind.
fn check_parameters(route: &Route, call: &Call<'_>) -> Result<(), Problem> {
    let wrong = |text: String| Err(Problem::new(Code::InvalidParameter, text));
    let known = route.about.parameters;
    for name in call.parameters.names() {
        let is_known = |own: &Parameter| !own.is_header && own.name.as_bytes() == name;
        if !known.iter().any(is_known) {
            let name = String::from_utf8_lossy(name);
            return wrong(format!("there is no parameter {name:?} here"));
        }
    }
    for own in known.iter().filter(|own| !own.is_header) {
        let mut values = call.parameters.all(own.name);
        let Some(value) = values.next() else {
            if own.is_required {
                return wrong(format!("the parameter {:?} is required", own.name));
            }
            continue;
        };
        if values.next().is_some() {
            return wrong(format!("{:?} is given more than once", own.name));
        }
        let value = String::from_utf8_lossy(value);
        match own.kind {
            Kind::Text | Kind::Flag => {}
            Kind::Integer(from, to) => {
                let number = value.parse::<i64>().ok();
                if number.is_none_or(|number| !(from..=to).contains(&number)) {
                    return wrong(format!(
                        "{:?} must be an integer from {from} to {to}, not {value:?}",
                        own.name
                    ));
                }
            }
            Kind::OneOf(words) => {
                if !words.contains(&&*value) {
                    return wrong(format!(
                        "{:?} must be one of {}, not {value:?}",
                        own.name,
                        words.join(", ")
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Reading what a native request says.
impl Call<'_> {
    /// A parameter that `check_parameters` has let through.
    fn integer<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        integer(&self.parameters, name)
    }

    fn is(&self, name: &str, word: &str) -> bool {
        self.parameters.first(name) == Some(word.as_bytes())
    }

    /// The body, if it is of one of these types; none at all is the first.
    async fn read(
        &mut self,
        types: &[&'static str],
        limit: usize,
    ) -> Result<(&'static str, Bytes), Problem> {
        let sent = self.content_type();
        let name = sent.split(';').next().unwrap_or_default().trim();
        let is_meant = |own: &&&'static str| own.eq_ignore_ascii_case(name);
        let kind = match types.iter().find(is_meant).or(types.first()) {
            Some(kind) if name.is_empty() || kind.eq_ignore_ascii_case(name) => *kind,
            _ => {
                return Err(Problem::new(
                    Code::UnsupportedMediaType,
                    format!("the body must be {}, not {name:?}", types.join(" or ")),
                ));
            }
        };
        match self.body.read(limit).await {
            Ok(body) => Ok((kind, body)),
            Err(error) => Err(unreadable(error, limit)),
        }
    }

    /// A JSON body.
    async fn json<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, Problem> {
        let (_, body) = self.read(&[reply::JSON], limit).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Problem::new(Code::InvalidBody, error.to_string()))
    }

    fn refuse_work(&self) -> Result<(), Problem> {
        if self.shared.proxies.is_stopping() {
            return Err(Problem::new(
                Code::ShuttingDown,
                "the gateway is about to end",
            ));
        }
        Ok(())
    }
}

fn unreadable(error: ReadError, limit: usize) -> Problem {
    match error {
        ReadError::TooLarge => Problem::new(
            Code::PayloadTooLarge,
            format!("a body here has at most {limit} bytes"),
        ),
        ReadError::NoRoom => no_room(),
        ReadError::Failed(cause) => Problem::new(Code::InvalidBody, cause),
    }
}

/// Bodies have a bound together.
fn no_room() -> Problem {
    let text = "the bodies of other requests take all the room";
    Problem::new(Code::Overloaded, text)
}

fn integer<T: TryFrom<i64>>(parameters: &Parameters<'_>, name: &str) -> Option<T> {
    let value = std::str::from_utf8(parameters.first(name)?).ok()?;
    T::try_from(value.parse().ok()?).ok()
}

fn ok(value: &impl serde::Serialize) -> Result<Reply, Problem> {
    Ok(reply::compact(StatusCode::OK, reply::JSON, value))
}
