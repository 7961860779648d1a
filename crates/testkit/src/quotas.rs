//! Quotas: how much clients may produce.

use crate::cluster::Cluster;
use crate::error::Result;

impl Cluster {
    /// Lets no client produce more than so many bytes a second to a broker, on average over some
    /// seconds (`producer_byte_rate`). A broker answers nothing on the connection of one who has
    /// produced more until the average is right again.
    ///
    /// # Errors
    /// Kafka's tool fails.
    pub fn limit_producers(&self, bytes_per_second: u32) -> Result<()> {
        let limit = format!("producer_byte_rate={bytes_per_second}");
        self.running().configure(&[
            "--alter",
            "--entity-type",
            "clients",
            "--entity-default",
            "--add-config",
            &limit,
        ])
    }
}
