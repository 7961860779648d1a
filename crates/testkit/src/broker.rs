//! What tests do to a single broker.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::Running;
use crate::error::{Context, Result};
use crate::node::Node;

/// Controlled shutdown moves leadership away first, which on a busy machine takes its time.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// One broker of a [`crate::Cluster`]. Every method reports [`crate::Error::NoSuchBroker`] if there
/// is no broker of this id.
#[derive(Clone, Copy, Debug)]
pub struct Broker<'a> {
    pub(crate) cluster: &'a Running,
    pub(crate) id: i32,
}

impl Broker<'_> {
    /// The node id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// `127.0.0.1:<port>`; the same after every start.
    ///
    /// # Errors
    /// There is no such broker.
    pub fn address(&self) -> Result<String> {
        Ok(self.node()?.address())
    }

    /// The port for clients; the same after every start.
    ///
    /// # Errors
    /// There is no such broker.
    pub fn port(&self) -> Result<u16> {
        Ok(self.node()?.broker_port.number())
    }

    /// The process id of the Java process.
    ///
    /// # Errors
    /// [`crate::Error::BrokerState`] or [`crate::Error::BrokerEnded`] if it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.node()?.with_process(|process| Ok(process.pid()))
    }

    /// CPU time of the Java process so far.
    ///
    /// # Errors
    /// As for [`Broker::pid`].
    pub fn cpu_time(&self) -> Result<Duration> {
        self.node()?.with_process(|process| process.cpu_time())
    }

    /// Whether the process runs and is not paused.
    ///
    /// # Errors
    /// There is no such broker.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.node()?.is_running())
    }

    /// The log file, appended to by every start.
    ///
    /// # Errors
    /// There is no such broker.
    pub fn log_path(&self) -> Result<PathBuf> {
        Ok(self.node()?.log_path())
    }

    /// How many records each batch has that the broker keeps of a partition, in order: what a
    /// producer has sent together, in the first file of the log (a gigabyte unless configured).
    ///
    /// # Errors
    /// The broker does not keep the partition, or not any more.
    pub fn batches(&self, topic: &str, partition: i32) -> Result<Vec<i32>> {
        let path = self.node()?.segment_path(topic, partition);
        let log = fs::read(&path).context(|| format!("read {}", path.display()))?;
        let mut rest = log.as_slice();
        let mut counts = Vec::new();
        // The last one may be half written.
        while let (Some(length), Some(count)) = (number_at(rest, 8), number_at(rest, 57)) {
            // After the first offset and the length itself.
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(next) = rest.get(length.saturating_add(12)..) else {
                break;
            };
            counts.push(count);
            rest = next;
        }
        Ok(counts)
    }

    /// Stops it in order (SIGTERM) and waits until it has ended.
    ///
    /// # Errors
    /// It does not run, or not stop within a minute.
    pub fn stop(&self) -> Result<()> {
        let node = self.node()?;
        node.with_process(|process| process.terminate(STOP_TIMEOUT))?;
        node.discard_process();
        Ok(())
    }

    /// Kills it (SIGKILL) and waits until its sockets are closed.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<()> {
        let node = self.node()?;
        node.with_process(|process| process.kill())?;
        node.discard_process();
        Ok(())
    }

    /// Makes it stand still (SIGSTOP): connections stay open, the kernel still accepts new ones,
    /// and nothing is answered.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.node()?.pause()
    }

    /// Lets it go on after [`Broker::pause`]. Does not wait until it is ready.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<()> {
        self.node()?.resume()
    }

    /// Starts it again on the same port and folder after [`Broker::stop`] or [`Broker::kill`], and
    /// waits until it is ready. After a kill that takes up to 3 s more, until the controller has
    /// given up the session from before.
    ///
    /// # Errors
    /// It runs already, ends while starting, or is not ready in time.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        self.wait_until_ready()
    }

    /// The first half of [`Broker::start`]: for tests in which several brokers have to start before
    /// any can be ready, or which watch what happens meanwhile.
    ///
    /// # Errors
    /// It runs already.
    pub fn launch(&self) -> Result<()> {
        self.cluster.launch(self.node()?)
    }

    /// Waits until it answers and sees all brokers that run.
    ///
    /// # Errors
    /// It does not run, ends, or is not ready in time.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.cluster.wait_until_ready(self.node()?)
    }

    fn node(&self) -> Result<&Node> {
        self.cluster.node(self.id)
    }
}

/// A number in the header of a batch (format 2, KIP-98).
fn number_at(batch: &[u8], place: usize) -> Option<i32> {
    let bytes = batch.get(place..)?.first_chunk()?;
    Some(i32::from_be_bytes(*bytes))
}
