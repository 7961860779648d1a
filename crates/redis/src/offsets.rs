//! How many messages topics keep. librdkafka's calls for that block, so they
//! run on threads for such, few at a time.

use barnabas_engine::{Admin, Cluster, Error, ErrorCode, KafkaError};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Questions under way at the same time; more wait for their turn.
const QUESTIONS: usize = 4;
/// How long one may take, its turn included.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks for offsets, over one client that is made on first use.
pub(crate) struct Offsets {
    admin: Arc<Mutex<Option<Arc<Admin>>>>,
    turns: Arc<Semaphore>,
}

impl Default for Offsets {
    fn default() -> Self {
        Self {
            admin: Arc::default(),
            turns: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }
}

impl Offsets {
    /// High minus low, summed over the partitions of a topic; 0 if it does
    /// not exist. May be cancelled: the question itself goes on, bounded.
    pub(crate) async fn length(
        &self,
        cluster: &Cluster,
        background: &tokio::runtime::Handle,
        topic: &str,
    ) -> Result<i64, Error> {
        let deadline = Instant::now() + LIMIT;
        let timed_out = || Error::from(KafkaError::from_code(ErrorCode::OperationTimedOut));
        let turn = tokio::time::timeout(LIMIT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| timed_out())?;
        let (admin, cluster, topic) = (Arc::clone(&self.admin), cluster.clone(), topic.to_owned());
        let question = background.spawn_blocking(move || {
            let _turn = turn;
            let admin = shared_admin(&admin, &cluster)?;
            sum(&admin, &topic, deadline)
        });
        question.await.unwrap_or_else(|_| Err(timed_out()))
    }
}

fn shared_admin(place: &Mutex<Option<Arc<Admin>>>, cluster: &Cluster) -> Result<Arc<Admin>, Error> {
    let mut place = place.lock();
    if let Some(admin) = &*place {
        return Ok(Arc::clone(admin));
    }
    let admin = Arc::new(cluster.admin()?);
    *place = Some(Arc::clone(&admin));
    Ok(admin)
}

fn sum(admin: &Admin, topic: &str, deadline: Instant) -> Result<i64, Error> {
    // librdkafka takes no zero; a millisecond late is no matter.
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    };
    let topics = admin.topics(left())?;
    let Some(found) = topics.into_iter().find(|found| found.name == topic) else {
        return Ok(0);
    };
    let mut sum: i64 = 0;
    for partition in found.partitions {
        let (low, high) = admin.watermarks(topic, partition, left())?;
        sum = sum.saturating_add(high.saturating_sub(low));
    }
    Ok(sum)
}
