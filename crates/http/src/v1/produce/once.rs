//! Requests that carry an `Idempotency-Key`. Nothing is done before the body is
//! there as a whole; then it is done whether the client waits or not, so that a
//! repetition finds what has become of it.

use super::lines::Lines;
use super::{About, Done, Form, Target, reply_of, unreadable, waits};
use crate::inflate::Inflate;
use crate::parameters::Parameters;
use crate::reply::Reply;
use crate::sender::token;
use crate::service::Call;
use crate::v1::idempotency::{Answer, Found, Keys};
use crate::v1::{Code, IDEMPOTENT_REPLAYED, Problem};
use barnabas_engine::{Durability, Error, Kept, Proxies, Proxy, RequestTrace};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use std::sync::Arc;

/// All of a request.
struct Whole {
    proxies: Arc<Proxies>,
    proxy: Arc<Proxy>,
    topic: String,
    headers: HeaderMap,
    query: String,
    form: Form,
    durability: Durability,
    body: Bytes,
    _room: Kept,
    trace: RequestTrace,
}

pub(super) async fn run(
    call: &mut Call<'_>,
    key: &str,
    (form, durability): (Form, Durability),
    inflate: Option<Inflate>,
) -> Result<Reply, Problem> {
    let keys = &call.shared.idempotency;
    // Nobody learns what others have sent: keys are the token's own.
    let scope = (token(call.head), call.cluster, call.topic, key);
    let found = keys.claim(keys.digest(&scope))?;
    let limit = form.largest_body();
    let body = call.body.read_inflated(inflate, limit).await;
    let whole = Whole {
        proxies: Arc::clone(&call.shared.proxies),
        proxy: Arc::clone(call.proxy),
        topic: call.topic.to_owned(),
        headers: call.head.headers.clone(),
        query: call.head.uri.query().unwrap_or_default().to_owned(),
        form,
        durability,
        body: body.map_err(|error| unreadable(error, limit))?,
        _room: call.body.keep(),
        trace: call.trace.clone(),
    };
    let request = whole.digest(keys);
    let claim = match found {
        Found::Answered(seen) => {
            let answer = seen.answer_to(request)?;
            return Ok(again(answer, call));
        }
        Found::First(claim) => claim,
    };
    let doing = tokio::spawn(async move {
        let done = whole.produce().await;
        // What had no effect may be tried again.
        if done.has_effect {
            claim.answered(request, &done.answer);
        }
        done.answer
    });
    match doing.await {
        Ok(answer) => reply_of(answer),
        Err(_) => Err(Error::Closed.into()),
    }
}

/// An answer that has been given before.
fn again(answer: Answer, call: &Call<'_>) -> Reply {
    let mut reply = reply_of(answer).unwrap_or_else(|problem| problem.into_reply(call.id));
    let headers = reply.headers_mut();
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    reply
}

impl Whole {
    /// Everything that makes a difference.
    fn digest(&self, keys: &Keys) -> [u64; 2] {
        let kind = self.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let of_kafka: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("kafka-"))
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        keys.digest(&(&self.query, kind, of_kafka, &self.body[..]))
    }

    async fn produce(self) -> Done {
        let mut parameters = Parameters::default();
        if let Err(problem) = parameters.add(self.query.as_bytes()) {
            return Problem::new(Code::InvalidParameter, problem).into();
        }
        let about = match About::of(&self.headers, &parameters) {
            Ok(about) => about,
            Err(problem) => return problem.into(),
        };
        let target = Target {
            proxies: &self.proxies,
            proxy: &self.proxy,
            destination: match self.proxy.producer.destination(&self.topic) {
                Ok(destination) => destination,
                Err(error) => return Problem::from(error).into(),
            },
            topic: &self.topic,
            durability: self.durability,
            waits: waits(self.form, self.durability),
            sending: self.trace.sending(&self.topic),
        };
        if self.form.is_lines {
            let mut lines = Lines::of(self.body.clone(), self.form.longest_line());
            return target.produce_lines(&mut lines, self.form, &about).await;
        }
        target.produce_body(&self.body, self.form, &about).await
    }
}
