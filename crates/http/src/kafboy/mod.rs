//! kafboy's API (contract, `producer-http.md`, section 8), on the engine's
//! outbox.
//!
//! In reading order: `state` (what is configured, what requests share),
//! `routes`, `call` (a request and its token), `posted` (a body as messages),
//! `produce` (what is asked of the outbox), `carried` (a request's trace in its
//! messages), `reply` (the words of replies), `hook` (who may edit what was
//! posted), `valve` (the overload valve of `/safe`), `drain` (how soon there is
//! room again).

mod call;
mod carried;
mod drain;
mod hook;
mod posted;
mod produce;
mod reply;
mod routes;
mod state;
mod valve;

pub use hook::{
    EditJson, HookAnswer, HookFailure, HookMessage, HookOutcome, HookPair, HookRecord, HookRequest,
};
pub use routes::InvalidRoute;
pub use state::{Kafboy, KafboyLevels, KafboyOptions};
pub use valve::ValveOptions;

use crate::body::{self, Pace, ReadError};
use crate::meter::Asked as Counted;
use crate::parameters::Parameters;
use crate::reply::{self as replies, Reply};
use crate::sender::Sender;
use crate::trace;
use barnabas_engine::Taken;
use bytes::Bytes;
use call::Call;
use hook::Asked;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, StatusCode};
use posted::{Content, Posted};
use produce::Edited;
use reply::Refusal;
use routes::{Found, Mode};
use state::State;
use std::borrow::Cow;

/// kafboy's own limit of a form; what is echoed may be six times as long.
const LONGEST_ECHO: usize = 64_000;

/// A request, from its first line to its reply.
pub(crate) async fn answer(
    kafboy: &Kafboy,
    sender: Sender<'_>,
    request: Request<Incoming>,
) -> Reply {
    let state = &kafboy.state;
    let (head, body) = request.into_parts();
    let matched = state.routes.find(head.uri.path());
    let place = matched.as_ref().map(|matched| matched.place);
    let nowhere = || state.routes.patterns().count();
    let counted = Counted::at(&state.meter, place.unwrap_or_else(nowhere));
    let (trace, mut span) = trace::begin(sender.tracing, &head);
    let reply = match matched {
        None => replies::empty(StatusCode::NOT_FOUND),
        Some(matched) => {
            if span.is_some() {
                trace::route(&mut span, &head.method, matched.pattern);
            }
            let call = Call::new(state, &sender, &head, &trace);
            respond(&call, body, matched.found).await
        }
    };
    counted.answered(reply.status().as_u16());
    trace::end(span, reply.status());
    reply
}

async fn respond(call: &Call<'_>, body: Incoming, found: Found<'_>) -> Reply {
    let answered = match (&found, &call.head.method) {
        (_, &Method::POST) => post(call, body, found).await,
        (Found::Disco, _) => Ok(reply::node(&call.state.options.node)),
        (_, &Method::GET) => Err(Refusal::new(StatusCode::BAD_REQUEST, "POST exp")),
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "POST exp")),
    };
    answered.unwrap_or_else(|refusal| {
        if let Some(hook) = &call.changeable.hook {
            hook.error(&refusal);
        }
        refusal.reply()
    })
}

async fn post(call: &Call<'_>, body: Incoming, found: Found<'_>) -> Result<Reply, Refusal> {
    let state = call.state;
    let Found::Produce {
        topic,
        mode,
        is_guarded,
    } = found
    else {
        let (body, _taken) = read(state, body).await?;
        if body.len() > LONGEST_ECHO {
            return Err(Refusal::too_large());
        }
        return Ok(reply::echo(&posted::form(&body)?));
    };
    // With a hook the path's topic may be no topic at all; what is produced to
    // is asked then.
    let own = call.changeable.hook.is_none().then_some(&*topic);
    call.allow(own)?;
    // Held until the reply is there.
    let _passage = match &state.valve {
        Some(valve) if is_guarded => {
            let refused = |full: valve::Shut| state.overload_as(full.text());
            Some(valve.enter().await.map_err(refused)?)
        }
        _ => None,
    };
    produce(call, body, (topic, mode)).await
}

/// Reads a body, which has to find room among all others.
async fn read(state: &State, mut body: Incoming) -> Result<(Bytes, Taken<'_>), Refusal> {
    let mut taken = state.bodies.nothing();
    let limit = state.options.max_body_bytes;
    let read = body::read_within(&mut body, limit, Pace::default(), |bytes| taken.grow(bytes));
    match read.await {
        Ok(body) => Ok((body, taken)),
        Err(ReadError::TooLarge) => Err(Refusal::too_large()),
        Err(ReadError::NoRoom) => Err(state.overload()),
        Err(ReadError::Failed(_)) => Err(Refusal::new(StatusCode::BAD_REQUEST, "no_body")),
    }
}

async fn produce(
    call: &Call<'_>,
    body: Incoming,
    (topic, mode): (Cow<'_, str>, Mode),
) -> Result<Reply, Refusal> {
    let (state, head) = (call.state, call.head);
    let hook = call.changeable.hook.as_ref();
    if hook.is_none() && !barnabas_engine::is_legal_topic_name(topic.as_bytes()) {
        return Err(Refusal::invalid());
    }
    let content = Content::of(head.headers.get(CONTENT_TYPE));
    let mut parameters = Parameters::default();
    let query = head.uri.query().unwrap_or_default().as_bytes();
    // What else there is does not concern anybody here.
    let _ = parameters.add(query);
    let is_split = parameters.first("split") == Some(b"array");
    let (body, taken) = read(state, body).await?;
    let handed_over = match hook {
        None => {
            let posted = Posted::read(content, is_split, &body)?;
            produce::post(call, &topic, mode, posted.records()).await?
        }
        Some(hook) => {
            let request = Asked::new(head, &topic, content, &body);
            let outcome = hook.post(request).await?;
            match produce::edited(call, mode, &topic, outcome).await? {
                Edited::Reply(body) => return Ok(reply::of_hook(body)),
                Edited::HandedOver(handed_over) => handed_over,
            }
        }
    };
    // The outbox has copies of its own.
    drop(body);
    drop(taken);
    handed_over.reply(call).await
}
