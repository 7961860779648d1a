//! What librdkafka says about itself every `statistics.interval.ms`.

use super::Producer;
use parking_lot::RwLock;
use std::sync::Arc;

/// Hears each text as it comes.
type Listener = Box<dyn Fn(&Arc<str>) + Send + Sync>;

/// The last text, and who hears of the next ones.
#[derive(Default)]
pub(super) struct ClientStatistics {
    latest: RwLock<Option<Arc<str>>>,
    listeners: RwLock<Vec<Listener>>,
}

impl ClientStatistics {
    pub(super) fn publish(&self, json: String) {
        let json: Arc<str> = json.into();
        for listener in &*self.listeners.read() {
            listener(&json);
        }
        *self.latest.write() = Some(json);
    }
}

impl Producer {
    /// librdkafka's own statistics as JSON (its `STATISTICS.md`), as it has
    /// written them last; `None` before the first time, and for ever unless
    /// `statistics.interval.ms` is set.
    pub fn client_statistics(&self) -> Option<Arc<str>> {
        self.shared.client_statistics.latest.read().clone()
    }

    /// Lets somebody hear of librdkafka's statistics from now on, as long as
    /// the producer lives. Called by the thread that takes delivery reports,
    /// so it must not wait for anything.
    pub fn hear_client_statistics(&self, listener: impl Fn(&Arc<str>) + Send + Sync + 'static) {
        let mut listeners = self.shared.client_statistics.listeners.write();
        listeners.push(Box::new(listener));
    }
}
