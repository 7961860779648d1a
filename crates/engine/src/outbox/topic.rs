//! A topic as its users see it.

use super::answers::{Answers, Hearer, Outcome, ProduceSink};
use super::core::{Core, Reach};
use super::error::ProduceError;
use super::info::TopicInfo;
use super::payload::{NewRecord, Payload};
use super::permit::Room;
use super::settings::TopicSettings;
use super::strategy::{NotPicked, PartitionView};
use super::{Admission, Buffered, Mode, Outbox, Picked};
use std::sync::Arc;
use std::time::Instant;

/// A topic of an [`Outbox`], looked up once for many messages. Clones are the
/// same topic.
#[derive(Clone)]
pub struct OutboxTopic {
    core: Arc<Core>,
    outbox: Outbox,
}

impl OutboxTopic {
    pub(super) fn new(core: Arc<Core>, outbox: Outbox) -> Self {
        Self { core, outbox }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The outbox that it belongs to.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Produces in any mode; `hearer` hears of each record that is accepted,
    /// by the number that is given with it plus its index in the payload.
    /// Accepted means: in memory, in order behind the earlier ones.
    pub fn produce<'a>(
        &self,
        mode: Mode,
        payload: impl Into<Payload<'a>>,
        hearer: Option<Hearer>,
    ) -> Admission {
        let payload = payload.into();
        let mut room = Room::Shared(&self.core.parts);
        self.produce_in(payload.records(), mode, hearer, &mut room)
    }

    pub(super) fn produce_in(
        &self,
        records: &[NewRecord<'_>],
        mode: Mode,
        hearer: Option<Hearer>,
        room: &mut Room<'_>,
    ) -> Admission {
        self.core.produce(records, mode, hearer, room, None)
    }

    /// Sends at once, without an answer.
    pub fn produce_async<'a>(&self, payload: impl Into<Payload<'a>>) -> Admission {
        self.produce(Mode::Async, payload, None)
    }

    /// [`produce_async`](Self::produce_async) by its other name.
    pub fn publish<'a>(&self, payload: impl Into<Payload<'a>>) -> Admission {
        self.produce_async(payload)
    }

    /// Puts records into the batches of their partitions, without an answer.
    pub fn produce_async_batched<'a>(&self, payload: impl Into<Payload<'a>>) -> Admission {
        self.produce(Mode::AsyncBatched, payload, None)
    }

    /// Sends at once and waits for Kafka's word on each record, in order, for
    /// at most about [`sync_timeout`](super::OutboxSettings::sync_timeout).
    /// Dropping the future withdraws nothing.
    pub async fn produce_sync<'a>(&self, payload: impl Into<Payload<'a>>) -> Vec<Outcome> {
        let payload = payload.into();
        let count = payload.records().len();
        let (answers, all) = Answers::new(count);
        let sink = Arc::clone(&answers);
        let admission = self.produce(Mode::Sync, payload, Some((sink, 0)));
        answers.refuse(admission, count);
        let closed = |index| {
            let at = self.core.place(index, None);
            Err(ProduceError::ShuttingDown { at })
        };
        all.all()
            .await
            .unwrap_or_else(|| (0..count).map(closed).collect())
    }

    /// Puts records into the batches of their partitions and says how much is
    /// there with them.
    pub fn produce_sync_batched<'a>(
        &self,
        payload: impl Into<Payload<'a>>,
    ) -> Vec<Result<Buffered, ProduceError>> {
        let payload = payload.into();
        let records = payload.records();
        let mut placed = Vec::with_capacity(records.len());
        let mut room = Room::Shared(&self.core.parts);
        let mode = Mode::AsyncBatched;
        let admission = self
            .core
            .produce(records, mode, None, &mut room, Some(&mut placed));
        let mut results: Vec<Result<Buffered, ProduceError>> = Vec::new();
        let mut refused = admission.refused.into_iter().peekable();
        let mut placed = placed.into_iter().peekable();
        let mut last = None;
        for index in 0..records.len() {
            if let Some((_, buffered)) = placed.next_if(|(at, _)| *at == index) {
                results.push(Ok(buffered));
                continue;
            }
            last = refused
                .next_if(|error| error.place().index == index)
                .or(last);
            let at = self.core.place(index, None);
            let error = last.clone();
            results.push(Err(error.unwrap_or(ProduceError::ShuttingDown { at })));
        }
        results
    }

    /// [`produce_sync_batched`](Self::produce_sync_batched) by its other name.
    pub fn batch<'a>(
        &self,
        payload: impl Into<Payload<'a>>,
    ) -> Vec<Result<Buffered, ProduceError>> {
        self.produce_sync_batched(payload)
    }

    /// Makes the pick that the next message would make; the turn is used up.
    ///
    /// # Errors
    /// [`ProduceError::Downtime`] unless the topic is up, and what the picker
    /// says.
    pub fn pick(&self, key: Option<&[u8]>) -> Result<Picked, ProduceError> {
        let mut inner = self.core.inner.lock();
        let inner = &mut *inner;
        if inner.reach == Reach::Open {
            match inner.pick(&self.core.name, None, key, None) {
                Ok(entry) => {
                    return Ok(Picked {
                        partition: inner.partition(entry.slot),
                        lane: entry.lane,
                    });
                }
                Err(NotPicked::NobodyThere) => {}
                Err(other) => return Err(self.core.not_picked(other, 0)),
            }
        }
        Err(ProduceError::Downtime {
            at: self.core.place(0, None),
            last: Arc::clone(&inner.last_error),
        })
    }

    /// Waits until the topic can be written to, for at most
    /// [`sync_timeout`](super::OutboxSettings::sync_timeout).
    ///
    /// # Errors
    /// [`ProduceError::UnknownTopic`], or what else is wrong.
    pub async fn prepare(&self) -> Result<(), ProduceError> {
        self.metadata().await.map(drop)
    }

    /// Its partitions and who leads them; waits as
    /// [`prepare`](Self::prepare) does until they are known.
    ///
    /// # Errors
    /// As there.
    pub async fn metadata(&self) -> Result<Vec<PartitionView>, ProduceError> {
        let limit = self.core.inner.lock().sync_timeout;
        let known = async {
            loop {
                let changed = self.core.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let mut inner = self.core.inner.lock();
                    if let Some(absence) = inner.absence
                        && absence.until <= Instant::now()
                    {
                        inner.absence = None;
                        self.core.parts.monitor.wake();
                    }
                    if let Some(absence) = inner.absence {
                        return Err(self.core.failed(absence.error, 0, None));
                    }
                    if inner.reach == Reach::Open {
                        return Ok(inner.ring.partitions().to_vec());
                    }
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(limit, known).await;
        found.unwrap_or_else(|_| {
            let last = Arc::clone(&self.core.inner.lock().last_error);
            let at = self.core.place(0, None);
            Err(ProduceError::Downtime { at, last })
        })
    }

    /// Levels and counters.
    pub fn info(&self) -> TopicInfo {
        self.core.info()
    }

    /// What holds for it at present.
    pub fn settings(&self) -> TopicSettings {
        self.core.inner.lock().settings.clone()
    }

    /// Sends its batches now.
    pub fn flush(&self) {
        self.core.flush_batches();
    }
}

impl Answers {
    /// What was refused of `count` records at once has its answer, too.
    pub fn refuse(&self, admission: Admission, count: usize) {
        for error in admission.refused {
            let first = error.place().index;
            let stands_for_all = matches!(
                error,
                ProduceError::Full { .. }
                    | ProduceError::NotJournaled { .. }
                    | ProduceError::ShuttingDown { .. }
            );
            let last = if stands_for_all { count } else { first + 1 };
            for index in first..last {
                self.settled(index as u64, Err(error.clone()));
            }
        }
    }
}
