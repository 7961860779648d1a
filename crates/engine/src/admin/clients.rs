//! The librdkafka clients behind [`super::Admin`] and the threads that wait
//! for them.
//!
//! librdkafka's calls for metadata, offsets and groups block; they run on
//! tokio's threads for that. The answer is handed over before the thread has
//! cleaned up: to close a client that names a group takes 100 ms.

use super::convert;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::Kind;
use crate::properties::Properties;
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError as RdkafkaError;
use rdkafka::{ClientConfig, ClientContext};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// How long a question may take altogether.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// How much earlier than the caller librdkafka gives up, so that its own
/// error is what the caller sees.
const HEAD_START: Duration = Duration::from_millis(250);

/// How many questions may be under way at once. Each blocks a thread, and
/// some have a client of their own; while no broker answers, more would
/// only pile up.
const AT_ONCE: usize = 16;

/// How many events of the observer are cleared away after a question.
const EVENTS: usize = 64;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// A client that looks and never reads. It is a consumer because a producer
/// lets the broker create the topics that it asks for.
pub(super) type Client = BaseConsumer<Quiet>;

/// Until when a question must be answered.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// What is left; zero means that time is up.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The observer, which all questions share, and what makes the clients that
/// name a group.
pub(super) struct Clients {
    properties: Properties,
    observer: Arc<Mutex<Option<Arc<Client>>>>,
    slots: Arc<Semaphore>,
}

impl Clients {
    /// Connects to nothing yet.
    pub(super) fn new(properties: &Properties) -> Self {
        let mut properties = properties.applicable(Kind::Consumer);
        // Without it the client needs not be closed.
        properties.remove("group.id");
        properties
            .set("allow.auto.create.topics", "false")
            .set("enable.auto.commit", "false")
            // Or the end of a partition is that of its last transaction, and
            // offsets of one that is still open are waited for.
            .set("isolation.level", "read_uncommitted")
            .set("socket.timeout.ms", LIMIT.as_millis().to_string())
            // Nobody would read them.
            .set("statistics.interval.ms", "0");
        Self {
            properties,
            observer: Arc::new(Mutex::new(None)),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Asks something that is not about one group.
    pub(super) async fn observe<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Client, Deadline) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let properties = self.properties.clone();
        let observer = Arc::clone(&self.observer);
        self.run(move |deadline, answer| {
            match shared(&observer, &properties) {
                Ok(observer) => {
                    // Who asked may have gone.
                    let _ = answer.send(question(&observer, deadline));
                    clear(&observer);
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        })
        .await
    }

    /// Asks something about a group, without joining it: with the observer,
    /// and a client that names the group, since librdkafka ties both reading
    /// and committing offsets to the one group of the client.
    pub(super) async fn observe_group<T: Send + 'static>(
        &self,
        group: &str,
        question: impl FnOnce(&Client, &Client, Deadline) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if group.is_empty() || group.contains('\0') {
            return Err(KafkaError::from_code(ErrorCode::InvalidGroupId).into());
        }
        let properties = self.properties.clone();
        let mut own = properties.clone();
        own.set("group.id", group)
            // How long librdkafka keeps a commit that finds no coordinator.
            .set("session.timeout.ms", LIMIT.as_millis().to_string());
        let observer = Arc::clone(&self.observer);
        self.run(move |deadline, answer| {
            let clients =
                shared(&observer, &properties).and_then(|observer| Ok((observer, create(&own)?)));
            match clients {
                Ok((observer, named)) => {
                    let _ = answer.send(question(&observer, &named, deadline));
                    clear(&observer);
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        })
        .await
    }

    /// Runs what blocks on a thread for that and waits for its answer.
    async fn run<T: Send + 'static>(
        &self,
        blocking: impl FnOnce(Deadline, oneshot::Sender<Result<T, Error>>) + Send + 'static,
    ) -> Result<T, Error> {
        let deadline = Deadline(Instant::now() + LIMIT - HEAD_START);
        let answered = async {
            let slot = Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .map_err(|_| Error::Closed)?;
            let (answer, answered) = oneshot::channel();
            tokio::task::spawn_blocking(move || {
                blocking(deadline, answer);
                drop(slot);
            });
            // No answer: the runtime ends, or rdkafka has met bytes that are
            // no text, at which it panics.
            answered.await.unwrap_or_else(|_| {
                Err(Error::Client {
                    reason: "the question to the cluster was given up".to_owned(),
                })
            })
        };
        match tokio::time::timeout(LIMIT, answered).await {
            Ok(result) => result,
            Err(_) => Err(timed_out()),
        }
    }
}

/// Tries again while a coordinator moves or starts, as after the first
/// request ever for one, or a broker has just gone. librdkafka looks for the
/// new one by itself, but does not repeat every request.
pub(super) fn patiently<T>(
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    const PASSING: [ErrorCode; 4] = [
        ErrorCode::BrokerTransportFailure,
        ErrorCode::NotCoordinator,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::CoordinatorLoadInProgress,
    ];
    loop {
        match attempt() {
            Err(Error::Kafka { error })
                if deadline.left() > PAUSE && PASSING.iter().any(|code| error.is(*code)) =>
            {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// librdkafka's "timed out".
pub(super) fn timed_out() -> Error {
    KafkaError::from_code(ErrorCode::OperationTimedOut).into()
}

/// The client that all questions share, created by the first.
fn shared(
    slot: &Mutex<Option<Arc<Client>>>,
    properties: &Properties,
) -> Result<Arc<Client>, Error> {
    let mut slot = slot.lock();
    if let Some(observer) = &*slot {
        return Ok(Arc::clone(observer));
    }
    let observer = Arc::new(create(properties)?);
    *slot = Some(Arc::clone(&observer));
    Ok(observer)
}

fn create(properties: &Properties) -> Result<Client, Error> {
    let mut config = ClientConfig::new();
    for (name, value) in properties.iter() {
        config.set(name, value);
    }
    // Each call reports its own trouble, and the client of `Admin` logs that
    // of the cluster.
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config.create_with_context(Quiet).map_err(convert)
}

/// Errors of brokers gather in the client's queue, which nobody else reads.
fn clear(client: &Client) {
    for _ in 0..EVENTS {
        let _ = client.poll(Duration::ZERO);
    }
}

/// Logs nothing.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, _error: RdkafkaError, _reason: &str) {}
}

impl ConsumerContext for Quiet {}
