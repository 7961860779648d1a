//! Consumers that keep their offsets themselves.
//!
//! No group is joined and nothing is committed to Kafka: which partitions a
//! worker reads is arithmetic, and where it goes on stands in files. What the
//! package for Node promises is made of these parts:
//!
//! - `slot`: which partitions a worker reads;
//! - `directory`: the last processed offset of each partition, on disk;
//! - `progress`: what was missed or repeated, and what may be committed;
//! - `consumer`: batches from librdkafka, as fast as they are taken;
//! - `batch`: what is in one.
//!
//! Contract: `node.md`, sections 5 to 8. A worker in full:
//!
//! ```no_run
//! use barnabas_engine::{
//!     LocalBatch, LocalConfig, LocalConsumer, LocalSink, OffsetDirectory, Progress, Properties,
//!     WorkerSlot,
//! };
//! use std::sync::mpsc;
//! use std::time::Duration;
//!
//! struct Hand(mpsc::SyncSender<Vec<(i32, i64)>>);
//!
//! impl LocalSink for Hand {
//!     fn batch(&mut self, batch: &LocalBatch<'_>) {
//!         let places = batch.records().map(|one| (one.partition(), one.offset()));
//!         let _ = self.0.send(places.collect());
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Properties::new();
//! client.set("metadata.broker.list", "localhost:9092");
//! let (hand, batches) = mpsc::sync_channel(2);
//! let consumer = LocalConsumer::open(LocalConfig::new("orders", client), Hand(hand))?;
//! let count = consumer.partition_count(Duration::from_secs(1))?;
//! let own = WorkerSlot::new(2, 0)?.partitions("orders", count)?;
//!
//! let directory = OffsetDirectory::new("offsets", "orders");
//! let stored: Vec<_> = own.iter().copied().zip(directory.read(&own)?).collect();
//! let mut progress = Progress::new(stored);
//! consumer.start(&progress.expected().collect::<Vec<_>>())?;
//! for batch in batches {
//!     let summary = progress.hand_over(batch, |partition| consumer.log_start(partition));
//!     // … the work …
//!     directory.write(&progress.finish(summary.number))?;
//!     consumer.taken();
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod consumer;
mod directory;
mod options;
mod progress;
mod slot;

pub use batch::{LocalBatch, LocalMark, LocalRecord};
pub use consumer::{LocalConsumer, LocalSink};
pub use directory::{OffsetDirectory, OffsetError, OffsetLocks};
pub use options::LocalConfig;
pub use progress::{BatchNumber, BatchSummary, Progress, Repeat};
pub use slot::{SlotError, WorkerSlot};
