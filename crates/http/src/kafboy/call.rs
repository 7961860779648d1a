//! A request that is being answered: who has sent it, and what counts for it
//! until its end.

use super::reply::Refusal;
use super::routes::Mode;
use super::state::{Changeable, State};
use crate::sender::{Sender, token};
use barnabas_engine::{Access, Action, RequestTrace};
use hyper::http::request::Parts;
use std::sync::Arc;

/// What tokens' grants call the only cluster there is.
const CLUSTER: &str = "ekaf";

/// A request without its body.
pub(super) struct Call<'a> {
    pub(super) state: &'a State,
    /// As it was at the request's begin.
    pub(super) changeable: Arc<Changeable>,
    pub(super) head: &'a Parts,
    pub(super) trace: &'a RequestTrace,
    access: &'a Access,
    token: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        state: &'a State,
        sender: &Sender<'a>,
        head: &'a Parts,
        trace: &'a RequestTrace,
    ) -> Self {
        let access = sender.access;
        Self {
            changeable: state.changeable(),
            token: token(head).filter(|_| !access.is_open()),
            access,
            state,
            head,
            trace,
        }
    }

    /// Whether its token allows to produce to this topic; `None`: to any at
    /// all.
    pub(super) fn allow(&self, topic: Option<&str>) -> Result<(), Refusal> {
        self.access
            .check(self.token, Action::Produce, CLUSTER, topic)
            .map_err(Refusal::denied)
    }

    /// Whether Kafka's word is waited for.
    pub(super) fn waits(&self, mode: Mode, topic: &str) -> bool {
        mode == Mode::Sync || *self.changeable.waits.of(topic)
    }

    pub(super) fn drain_seconds(&self) -> u64 {
        self.state.drain.seconds(&self.state.outbox)
    }
}
