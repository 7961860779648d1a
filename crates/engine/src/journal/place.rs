//! Where records go that were written without a partition, or for one that is
//! gone by now: somebody else may know.

use super::record::Journaled;
use crate::error::KafkaError;

/// Finds partitions for records when they are sent. Asked by the thread that
/// sends, record by record and in order.
pub(crate) trait Placer: Send + Sync {
    /// Where the record goes.
    fn place(&self, record: &Journaled<'_>) -> Placed;

    /// The client does not know the topic or partition, although it has just
    /// asked. The record is asked for again.
    fn missed(&self, topic: &str);

    /// librdkafka's `compression.type` for a topic; `None`: as the client has
    /// it.
    fn compression(&self, topic: &str) -> Option<String>;
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// To this partition; `None`: wherever librdkafka sends it.
    At(Option<i32>),
    /// That is not known yet. It and all behind it wait.
    Later,
    /// Nowhere: it is kept aside, whatever the error: who says so has tried for
    /// long enough.
    Never(KafkaError),
}
