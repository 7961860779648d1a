//! Acknowledgements message by message, in any order.
//!
//! - `acked`: which messages of a partition are acknowledged, and the text in
//!   which Kafka keeps that beside the committed offset;
//! - `tracker`: what has been delivered and waits for its acknowledgement,
//!   what is due again, what may be committed.
//!
//! Contract: `consume-and-ack.md`, sections 3 to 6 and 10. Pure: no clock and
//! no Kafka in here.

mod acked;
mod tracker;

pub use acked::{Acked, MalformedAcks};
pub use tracker::{AckPolicy, Due, Snapshot, Tracker};
