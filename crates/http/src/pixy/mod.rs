//! Kafka-Pixy's REST API (contract, `pixy-api.md`, sections 2 and 3): a file
//! per endpoint. Errors are replies.

mod acks;
mod batches;
mod consume;
mod consumers;
mod offsets;
mod produce;
mod topics;

use crate::reply::{self, Reply};
use crate::routes::PixyOperation;
use crate::service::Call;
use barnabas_engine::SHUTTING_DOWN;
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};

/// The content type of forms; others are not read as one.
const FORM: &str = "application/x-www-form-urlencoded";

/// Does what a route is for.
pub(crate) async fn run(operation: PixyOperation, call: Call<'_>) -> Reply {
    let result = match operation {
        PixyOperation::Ping => Ok(reply::with_body(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            "pong",
        )),
        PixyOperation::Produce => produce::run(call).await,
        PixyOperation::ProduceBatch => batches::run(call).await,
        PixyOperation::Consume => consume::run(call).await,
        PixyOperation::Ack => acks::run(call).await,
        PixyOperation::ReadOffsets => offsets::read(&call).await,
        PixyOperation::WriteOffsets => offsets::write(call).await,
        PixyOperation::Consumers => consumers::run(&call).await,
        PixyOperation::Topics => topics::list(&call).await,
        PixyOperation::Topic => topics::one(&call).await,
    };
    result.unwrap_or_else(|refused| *refused)
}

impl Call<'_> {
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

/// Bodies have a bound together.
fn no_room() -> Box<Reply> {
    let text = "the bodies of other requests take all the room";
    let mut reply = reply::error(StatusCode::TOO_MANY_REQUESTS, text);
    let seconds = HeaderValue::from_static("1");
    reply.headers_mut().insert(RETRY_AFTER, seconds);
    Box::new(reply)
}

fn stopping() -> Box<Reply> {
    Box::new(reply::error(StatusCode::SERVICE_UNAVAILABLE, SHUTTING_DOWN))
}
