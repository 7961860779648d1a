//! The thread that finds out which topics can be written to.
//!
//! It asks the cluster for new topics, at the interval of refreshes, when a
//! connection breaks, and when messages get no answer. A broker that is silent
//! is told from one that is slow by a question of its own to the partition's
//! leader; one that is silent because of a quota says so before.

use super::Shared;
use super::core::Core;
use crate::error::{ErrorCode, KafkaError};
use crate::native::{TopicLookup, TopicMetadata};
use crate::producer::Alarm;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often topics are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Any question gets at least so long.
const SHORTEST: Duration = Duration::from_millis(100);

/// What the monitor's thread and others share.
pub(super) struct Monitor {
    state: Mutex<State>,
    changed: Condvar,
    /// A connection has broken since topics were last looked at.
    has_trouble: AtomicBool,
    /// The last question was not answered, though a connection was there.
    was_silent: AtomicBool,
    last_error: Mutex<Option<Arc<str>>>,
}

#[derive(Default)]
struct State {
    is_woken: bool,
    is_ending: bool,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) down_after: Duration,
    pub(super) retry: Duration,
    pub(super) refresh: Duration,
    pub(super) grace: Duration,
    pub(super) memory: Duration,
}

impl Limits {
    /// How long messages may be without an answer before the cluster is asked.
    pub(super) fn question(&self) -> Duration {
        self.down_after / 3
    }

    /// How long that may take then.
    fn patience(&self) -> Duration {
        self.down_after.saturating_sub(self.question())
    }
}

/// Why a topic wants the cluster to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It is not up, or it is time.
    Due,
    /// Its messages get no answer.
    Silence,
    /// A connection has broken.
    Trouble,
}

/// Leaders that were asked in one round, and how long they took.
pub(super) type Leaders = HashMap<i32, Option<Duration>>;

impl Monitor {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            has_trouble: AtomicBool::new(false),
            was_silent: AtomicBool::new(false),
            last_error: Mutex::new(None),
        }
    }

    /// Lets it look at the topics now.
    pub(super) fn wake(&self) {
        self.state.lock().is_woken = true;
        self.changed.notify_one();
    }

    pub(super) fn end(&self) {
        self.state.lock().is_ending = true;
        self.changed.notify_one();
    }

    /// False at the end.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        if !state.is_woken && !state.is_ending {
            self.changed.wait_for(&mut state, TICK);
        }
        state.is_woken = false;
        !state.is_ending
    }

    /// What is wrong, in librdkafka's words if it has said something.
    fn reason(&self, error: KafkaError) -> Arc<str> {
        let said = self.last_error.lock().clone();
        said.unwrap_or_else(|| error.text().into())
    }

    pub(super) fn run(&self, shared: &Shared) {
        while self.wait() {
            shared.renew();
            let limits = shared.limits();
            let has_trouble = self.has_trouble.swap(false, Ordering::AcqRel);
            let now = Instant::now();
            let throttles = shared.throttles();
            let needing: Vec<(Arc<Core>, Need)> = shared
                .cores()
                .into_iter()
                .filter_map(|core| {
                    core.excuse(&throttles);
                    let need = core.need(&limits, has_trouble, now)?;
                    Some((core, need))
                })
                .collect();
            if !needing.is_empty() {
                self.round(&needing, &limits, &throttles, now);
            }
        }
    }

    /// Asks for topics in one request and tells them.
    fn round(
        &self,
        needing: &[(Arc<Core>, Need)],
        limits: &Limits,
        throttles: &[(i32, Instant)],
        now: Instant,
    ) {
        // Who has said that he will be silent is there.
        let excused = || -> Leaders {
            let leaders = throttles.iter().map(|(leader, _)| *leader);
            leaders
                .map(|leader| (leader, Some(Duration::ZERO)))
                .collect()
        };
        let has = |wanted| needing.iter().any(|(_, need)| *need == wanted);
        // librdkafka closes a connection on which a question was not answered
        // in its time. One to a broker that is only slow must not be closed
        // each time, so nobody is hurried beyond what counts as silence.
        let limit = if has(Need::Trouble) || has(Need::Silence) {
            limits.patience()
        } else if self.was_silent.load(Ordering::Acquire) {
            limits.down_after
        } else {
            limits.retry
        };
        let limit = limit.max(SHORTEST);
        let first = needing.first();
        let Some(outlet) = first.and_then(|(core, _)| core.first_outlet()) else {
            return;
        };
        let lookup = match needing {
            [_] => TopicLookup::One(&outlet.native),
            _ => TopicLookup::Known,
        };
        let answer = outlet.producer.ask(&lookup, limit);
        let is_silence = answer.as_ref().is_err_and(|error| {
            error.is(ErrorCode::OperationTimedOut) || error.is(ErrorCode::TimedOutQueue)
        });
        self.was_silent.store(is_silence, Ordering::Release);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let reason = self.reason(error);
                let mut leaders = excused();
                let down = needing.iter().filter(|(core, _)| {
                    if is_silence && self.knows_better(core, &reason, limits, &mut leaders) {
                        return false;
                    }
                    core.unreached(&reason, is_silence, limits, now)
                });
                log_down(down.count(), &reason);
                return;
            }
        };
        let found: HashMap<&str, &TopicMetadata> = answer
            .iter()
            .map(|topic| (topic.name.as_str(), topic))
            .collect();
        let mut leaders = excused();
        let (mut up, mut down) = (0, 0);
        let reason = self.reason(KafkaError::from_code(ErrorCode::LeaderNotAvailable));
        for (core, _) in needing {
            let topic = found.get(&*core.name).copied();
            match judge(topic) {
                Ok(Some(topic)) => {
                    let asked = limits.patience().max(SHORTEST);
                    core.tell_clients(topic, asked);
                    ask_leaders(core, topic, limits, asked, &mut leaders);
                    match core.found(topic, &leaders, &reason, limits) {
                        (false, true) => up += 1,
                        (true, false) => down += 1,
                        _ => {}
                    }
                }
                Ok(None) => core.is_being_made(now),
                Err(error) => core.missing(error, limits, now),
            }
        }
        log_down(down, &reason);
        if up > 0 {
            tracing::info!(component = "producer", topics = up, "topics are up");
        }
        if leaders.values().all(Option::is_some) {
            // What was wrong is over.
            *self.last_error.lock() = None;
        }
    }

    /// The question may have gone to the one broker that is silent. Leaders
    /// that were known before are asked themselves; true if one is there.
    fn knows_better(
        &self,
        core: &Arc<Core>,
        reason: &Arc<str>,
        limits: &Limits,
        leaders: &mut Leaders,
    ) -> bool {
        let Some(topic) = core.known() else {
            return false;
        };
        let asked = limits.patience().max(SHORTEST);
        ask_leaders(core, &topic, limits, asked, leaders);
        let is_there = |leader| leaders.get(leader).is_some_and(Option::is_some);
        if !topic.leaders.iter().any(is_there) {
            return false;
        }
        core.found(&topic, leaders, reason, limits);
        true
    }
}

/// One line, however many topics there are.
fn log_down(topics: usize, reason: &str) {
    if topics > 0 {
        tracing::warn!(
            component = "producer",
            topics,
            "topics are down, their messages wait: {reason}"
        );
    }
}

impl Alarm for Monitor {
    fn raised(&self, error: KafkaError, text: &str) {
        if error.is(ErrorCode::AllBrokersDown) {
            // It says less than what came before.
            let mut last = self.last_error.lock();
            if last.is_none() {
                *last = Some(text.into());
            }
        } else {
            *self.last_error.lock() = Some(text.into());
        }
        self.has_trouble.store(true, Ordering::Release);
        self.wake();
    }
}

/// The topic if it can be used; `None`: not yet; an error: it is not there, or
/// not for us.
fn judge(found: Option<&TopicMetadata>) -> Result<Option<&TopicMetadata>, KafkaError> {
    let Some(found) = found else {
        return Err(KafkaError::from_code(ErrorCode::UnknownTopicOrPartition));
    };
    let error = KafkaError::from_raw(found.error);
    if found.error == 0 && !found.partitions.is_empty() {
        Ok(Some(found))
    } else if found.error == 0 || error.is(ErrorCode::LeaderNotAvailable) {
        Ok(None)
    } else {
        Err(error)
    }
}

/// Asks those leaders of a topic of whom it is not known that they answer.
fn ask_leaders(
    core: &Core,
    topic: &TopicMetadata,
    limits: &Limits,
    limit: Duration,
    leaders: &mut Leaders,
) {
    let Some(outlet) = core.first_outlet() else {
        return;
    };
    for (partition, leader) in core.doubtful(topic, limits) {
        leaders.entry(leader).or_insert_with(|| {
            let asked = Instant::now();
            let answer = outlet.producer.ask_leader(&core.name, partition, limit);
            let is_there = match answer {
                Ok(()) => true,
                // Anything that a broker says is an answer.
                Err(error) => error.number() > 0,
            };
            is_there.then(|| asked.elapsed())
        });
    }
}
