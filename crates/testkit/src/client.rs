//! The client library, set up for tests: quick to notice that a broker is back, quiet, and never
//! the reason why a topic exists.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::error::{Context, Result};

/// How long any single question to the cluster may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a question may take that is asked again if there is no answer.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn configuration(bootstrap_servers: &str) -> ClientConfig {
    let mut configuration = ClientConfig::new();
    configuration
        .set("bootstrap.servers", bootstrap_servers)
        .set("client.id", "testkit")
        .set("broker.address.family", "v4")
        // Up to 10 s by default, which a test would spend waiting after every restart.
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set_log_level(RDKafkaLogLevel::Critical);
    configuration
}

/// A client that looks and does not read. Without a group it can be dropped at once; leaving even a
/// group that was never joined takes 100 ms.
pub(crate) fn observer(bootstrap_servers: &str) -> Result<BaseConsumer> {
    configuration(bootstrap_servers)
        .set("allow.auto.create.topics", "false")
        .create()
        .context(|| "make a client".to_owned())
}

/// A consumer that reads partitions assigned to it, or asks what `group` has committed. It does not
/// join the group.
pub(crate) fn consumer(bootstrap_servers: &str, group: &str) -> Result<BaseConsumer> {
    configuration(bootstrap_servers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .create()
        .context(|| "make a consumer".to_owned())
}

/// Whether every partition of these topics has a leader that serves it. A broker tells who leads a
/// partition a moment before that one has opened it, and answers "not leader" in between.
pub(crate) fn all_are_served(observer: &BaseConsumer, topics: &[MetadataTopic]) -> bool {
    let mut partitions = TopicPartitionList::new();
    for topic in topics {
        for partition in topic.partitions() {
            let added =
                partitions.add_partition_offset(topic.name(), partition.id(), Offset::Offset(0));
            if partition.leader() < 0 || added.is_err() {
                return false;
            }
        }
    }
    // Asks each leader for the first offset since 1970: one request for any number of partitions.
    partitions.count() == 0
        || observer
            .offsets_for_times(partitions, PROBE_TIMEOUT)
            .is_ok_and(|offsets| {
                offsets
                    .elements()
                    .iter()
                    .all(|partition| partition.error().is_ok())
            })
}

/// Asks again while the group's coordinator starts or moves, as it does after the first question ever
/// about a group: whoever asks first makes the topic that coordinators keep their groups in.
pub(crate) fn patiently<T>(
    mut ask: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    const PASSING: [RDKafkaErrorCode; 3] = [
        RDKafkaErrorCode::NotCoordinator,
        RDKafkaErrorCode::CoordinatorNotAvailable,
        RDKafkaErrorCode::CoordinatorLoadInProgress,
    ];
    let started = Instant::now();
    loop {
        match ask() {
            Err(error)
                if started.elapsed() < REQUEST_TIMEOUT
                    && error
                        .rdkafka_error_code()
                        .is_some_and(|code| PASSING.contains(&code)) =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            answer => return answer,
        }
    }
}

/// The partitions of a topic.
pub(crate) fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let action = || format!("look at topic {topic}");
    let metadata = consumer
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .context(action)?;
    let Some(found) = metadata.topics().first() else {
        return Ok(Vec::new());
    };
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into())).context(action);
    }
    Ok(found
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect())
}

pub(crate) type Admin = AdminClient<DefaultClientContext>;

/// An admin client is dropped slowly, so that one is kept for as long as the same brokers run.
#[derive(Default)]
pub(crate) struct AdminSlot(Mutex<Option<(String, Arc<Admin>)>>);

impl AdminSlot {
    pub(crate) fn get(&self, bootstrap_servers: String) -> Result<Arc<Admin>> {
        let mut slot = self.0.lock();
        if let Some((servers, admin)) = &*slot
            && *servers == bootstrap_servers
        {
            return Ok(Arc::clone(admin));
        }
        let admin: Admin = configuration(&bootstrap_servers)
            .create()
            .context(|| "make an admin client".to_owned())?;
        let admin = Arc::new(admin);
        *slot = Some((bootstrap_servers, Arc::clone(&admin)));
        Ok(admin)
    }
}

impl fmt::Debug for AdminSlot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminSlot")
    }
}

/// Waits for a future on this thread. Not tokio's: that one refuses to block a thread that drives a
/// runtime, and tests may call us from there.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
