//! Producing through the journal: the caller is told once his messages are on
//! disk, and the journal's own client sends them.
//!
//! A message is picked by its topic's strategy: at once while the topic is up,
//! otherwise when the journal sends it. What was picked stays picked, by this
//! process and the next one, unless its partition is gone by then. Batches,
//! massages and the bounds of downtime are the memory's; here the journal's own
//! bound holds.
//!
//! Contract: `producer-engine.md`, sections 4, 6 and 11.

use super::budget::Budget;
use super::core::{Core, Inner, Reach};
use super::error::{Dropped, ProduceError};
use super::events::Happening;
use super::payload::{KeptRecord, NewRecord, Payload};
use super::permit::{Permit, Room};
use super::strategy::NotPicked;
use super::topic::OutboxTopic;
use super::{Admission, Shared};
use crate::error::{ErrorCode, KafkaError};
use crate::journal::{
    Durability, Journal, JournalError, JournalRecord, Journaled, Placed, Placer, Refused,
};
use crate::producer::{RECORD_OVERHEAD, Record};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

/// How often it is looked whether what was written in a downtime is delivered.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// What was written to the journal while its topic was down.
#[derive(Debug, Clone, Copy)]
pub(super) struct SavedOnDisk {
    messages: usize,
    /// The sequence behind the last of them.
    end: u64,
}

/// Where a record is written for: its partition, and the lane if that was
/// picked. `None`: it was refused.
type Picks = Vec<Option<(Option<i32>, Option<u32>)>>;

/// Room that goes back with it.
struct Lent<'a> {
    budget: &'a Budget,
    messages: usize,
    bytes: u64,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.messages, self.bytes);
    }
}

impl OutboxTopic {
    /// When those are to be answered who do not ask for Kafka's word.
    pub fn durability(&self) -> Durability {
        self.core().inner.lock().settings.durability
    }

    /// Puts records into the journal, all of them or none but those that can
    /// never be sent, and waits until they are on disk. They go to Kafka from
    /// there, in order, again after a crash. Waits for room as long as
    /// [`sync_timeout`](super::OutboxSettings::sync_timeout), where the journal
    /// is configured to let callers wait. Cancelling may leave them unwritten
    /// or not.
    pub async fn produce_journaled<'a>(&self, payload: impl Into<Payload<'a>>) -> Admission {
        let payload = payload.into();
        let core = self.core();
        let mut room = Room::Shared(&core.parts);
        self.write(payload.records(), &mut room).await
    }

    async fn write(&self, records: &[NewRecord<'_>], room: &mut Room<'_>) -> Admission {
        let core = self.core();
        let at = |index| core.place(index, None);
        let mut admission = Admission::default();
        if records.is_empty() {
            return admission;
        }
        if !room.is_open() {
            admission
                .refused
                .push(ProduceError::ShuttingDown { at: at(0) });
            return admission;
        }
        let picks = core.pick_for_journal(records, &mut admission);
        let taken = || {
            let pairs = records.iter().zip(&picks);
            pairs.filter_map(|(record, pick)| Some((record, (*pick)?)))
        };
        let (count, bytes) = taken().fold((0, 0), |(count, bytes), (record, _)| {
            (count + 1, bytes + record.bytes() as u64)
        });
        let Some(first) = picks.iter().position(Option::is_some) else {
            return admission;
        };
        if !room.take(count, bytes) {
            admission.refused.push(ProduceError::Full {
                at: at(first),
                accepted: 0,
                refused: count,
            });
            return admission;
        }
        let _lent = Lent {
            budget: &core.parts.budget,
            messages: count,
            bytes,
        };
        let now = milliseconds_since_1970();
        let written = taken().map(|(record, (partition, lane))| JournalRecord {
            topic: &core.name,
            record: Record {
                key: record.key,
                value: record.value,
            },
            headers: record.headers,
            timestamp: record.timestamp.unwrap_or(now),
            partition,
            lane,
        });
        let limit = core.inner.lock().sync_timeout;
        let outcome = match self.outbox().journal() {
            Some(journal) => append(journal, written, limit).await,
            None => Err(JournalError::Closed),
        };
        match outcome {
            Ok(sequences) => {
                admission.accepted = count;
                core.is_on_disk(count, sequences);
            }
            Err(error) => {
                let most = core.parts.journal.as_ref().map(|watch| watch.most_bytes());
                let refused = match error {
                    JournalError::TooLarge => ProduceError::TooLarge {
                        at: at(first),
                        bytes,
                        limit: most.unwrap_or_default(),
                    },
                    error => ProduceError::NotJournaled {
                        at: at(first),
                        refused: count,
                        error,
                    },
                };
                core.is_not_on_disk(count, &refused);
                admission.refused.push(refused);
            }
        }
        admission
    }
}

impl Permit {
    /// [`OutboxTopic::produce_journaled`] in this room, which goes back once
    /// they are on disk.
    pub async fn produce_journaled<'a>(
        &mut self,
        topic: &OutboxTopic,
        payload: impl Into<Payload<'a>>,
    ) -> Admission {
        let payload = payload.into();
        topic
            .write(payload.records(), &mut Room::Reserved(self))
            .await
    }
}

/// On disk when this resolves; waits for room no longer than `limit`.
async fn append<'a>(
    journal: &Journal,
    records: impl Iterator<Item = JournalRecord<'a>> + Clone,
    limit: Duration,
) -> Result<Range<u64>, JournalError> {
    // Cancelled before it returns, it has taken nothing.
    let appended = tokio::time::timeout(limit, journal.append(records)).await;
    let full = |_| JournalError::Full { retry_after: limit };
    appended.map_err(full)??.synced().await
}

fn milliseconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

impl Core {
    /// Picks for what is written now. Where nothing is picked the journal asks
    /// again when it sends.
    fn pick_for_journal(&self, records: &[NewRecord<'_>], admission: &mut Admission) -> Picks {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Some(refused) = inner.refuse_absent(self, records.len(), Instant::now()) {
            admission.refused = refused;
            return Vec::new();
        }
        let limit = self.parts.message_max_bytes();
        let is_up = inner.reach == Reach::Open;
        let mut picks = Picks::with_capacity(records.len());
        let mut rest = records;
        while let Some(first) = rest.first() {
            let (run, others) = rest.split_at(super::admission::run_length(rest));
            rest = others;
            let picked = if is_up {
                inner.pick(&self.name, first.partition, first.key, first.value)
            } else {
                Err(NotPicked::NobodyThere)
            };
            let target = match picked {
                Ok(entry) => {
                    let lane = first.partition.is_none().then_some(entry.lane);
                    Ok((Some(inner.partition(entry.slot)), lane))
                }
                Err(NotPicked::NobodyThere) => Ok((first.partition, None)),
                Err(other) => Err(other),
            };
            for record in run {
                let index = picks.len();
                let bytes = record.bytes() as u64 + RECORD_OVERHEAD;
                let refused = match &target {
                    Err(why) => Some(self.not_picked(why.clone(), index)),
                    Ok(_) => (bytes > limit).then(|| ProduceError::TooLarge {
                        at: self.place(index, None),
                        bytes,
                        limit,
                    }),
                };
                picks.push(match (refused, &target) {
                    (None, Ok(target)) => Some(*target),
                    (refused, _) => {
                        admission.refused.extend(refused);
                        None
                    }
                });
            }
        }
        picks
    }

    fn is_on_disk(self: &Arc<Self>, messages: usize, sequences: Range<u64>) {
        let mut inner = self.inner.lock();
        inner.counts.accepted += messages as u64;
        if inner.reach == Reach::Open {
            return;
        }
        let before = inner.on_disk.map_or(0, |saved| saved.messages);
        let end = inner.on_disk.map_or(0, |saved| saved.end);
        inner.on_disk = Some(SavedOnDisk {
            messages: before + messages,
            end: end.max(sequences.end),
        });
        inner.counts.saved += messages as u64;
        self.announce(&inner, None, || Happening::DowntimeSaved { messages });
    }

    fn is_not_on_disk(&self, refused: usize, error: &ProduceError) {
        let is_full = matches!(
            error,
            ProduceError::NotJournaled {
                error: JournalError::Full { .. },
                ..
            }
        );
        let inner = self.inner.lock();
        if is_full && inner.reach != Reach::Open {
            self.announce(&inner, None, || Happening::MaxDowntimeBufferReached {
                dropped: Vec::new(),
                refused,
            });
        }
    }

    /// Where the journal sends a record.
    fn place_journaled(&self, record: &Journaled<'_>) -> Placed {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.refuse_absent(self, 0, Instant::now()).is_some()
            && let Some(absence) = inner.absence
        {
            return Placed::Never(absence.error);
        }
        if inner.reach == Reach::Starting || inner.ring.partitions().is_empty() {
            return Placed::Later;
        }
        let never = |code| Placed::Never(KafkaError::from_code(code));
        if let Some(partition) = record.partition {
            let was_picked = record.lane.is_some();
            if inner.ring.slot_of(partition).is_some() || !was_picked && inner.reach != Reach::Open
            {
                return Placed::At(Some(partition));
            }
            if !was_picked {
                return never(ErrorCode::UnknownPartition);
            }
        }
        let (key, value) = (record.record.key, record.record.value);
        let slot = match inner.pick(&self.name, None, key, value) {
            Ok(entry) => entry.slot,
            // One is as good as another.
            Err(NotPicked::NobodyThere) => inner.ring.turn_of_all(),
            Err(NotPicked::UnknownPartition) => return never(ErrorCode::UnknownPartition),
            Err(NotPicked::Refused(_)) => return never(ErrorCode::PolicyViolation),
        };
        Placed::At(Some(inner.partition(slot)))
    }

    /// Kafka, or the picker, refuses a record of the journal for good.
    fn refused_of_journal(&self, refused: &Refused<'_>) {
        let reason = if refused.error.is(ErrorCode::PolicyViolation) {
            Dropped::Blocked
        } else if refused.error.is_unknown_topic() {
            Dropped::UnknownTopic
        } else {
            Dropped::Refused
        };
        let mut inner = self.inner.lock();
        inner.count_dropped(self, reason, 1);
        self.announce(&inner, None, || {
            let record = NewRecord {
                key: refused.record.key,
                value: refused.record.value,
                ..NewRecord::default()
            };
            let records = vec![KeptRecord::new(&record, Instant::now())];
            Happening::Dropped { reason, records }
        });
    }
}

impl Inner {
    /// Tells of what was written in a downtime once Kafka has it.
    pub(super) fn look_at_disk(&mut self, core: &Core) {
        if let Some(saved) = self.on_disk
            && self.reach == Reach::Open
            && let Some(journal) = &core.parts.journal
            && journal.has_delivered_before(saved.end)
        {
            self.on_disk = None;
            let messages = saved.messages;
            self.counts.replayed += messages as u64;
            core.announce(self, None, || Happening::DowntimeReplayed { messages });
        }
    }
}

/// What the journal knows of the outbox. It must not own it: the outbox owns
/// the journal, whose thread asks.
pub(super) struct Places(Weak<Shared>);

impl Places {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Hears of what Kafka refuses.
    pub(super) fn refused(&self, refused: &Refused<'_>) {
        let shared = self.0.upgrade();
        if let Some(core) = shared.and_then(|shared| shared.core(refused.topic)) {
            core.refused_of_journal(refused);
        }
    }
}

impl Placer for Places {
    fn place(&self, record: &Journaled<'_>) -> Placed {
        let Some(shared) = self.0.upgrade() else {
            // The next process knows where.
            return Placed::Later;
        };
        match shared.core(record.topic) {
            Some(core) => core.place_journaled(record),
            None => Placed::Never(KafkaError::from_code(ErrorCode::InvalidTopic)),
        }
    }

    fn missed(&self, topic: &str) {
        let shared = self.0.upgrade();
        if let Some(core) = shared.and_then(|shared| shared.core(topic)) {
            core.inner.lock().lose(&core);
        }
    }

    fn compression(&self, topic: &str) -> Option<String> {
        let shared = self.0.upgrade()?;
        let settings = Arc::clone(&shared.parts.settings.read());
        settings.compression.of(topic).clone()
    }
}
