//! The groups that this process has: finding and starting them.

use super::driver;
use super::group::Group;
use super::{ConsumeError, Dispatcher, Inner};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Dispatcher {
    pub(super) fn found(&self, group: &str) -> Option<Arc<Group>> {
        self.inner.groups.lock().get(group).map(Arc::clone)
    }

    /// The group of that name; starts it if need be. Nobody waits for that
    /// but those whose groups are not there yet.
    pub(super) async fn group(&self, name: &str) -> Result<Arc<Group>, ConsumeError> {
        if let Some(group) = self.inner.running(name)? {
            return Ok(group);
        }
        let turn = Arc::clone(&self.inner.starting).lock_owned().await;
        if let Some(group) = self.inner.running(name)? {
            return Ok(group);
        }
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        let started = tokio::task::spawn_blocking(move || {
            // Also if whoever asked goes away.
            let _turn = turn;
            inner.begin(&name)
        });
        // It is not cancelled and does not panic; a runtime that ends does.
        started.await.unwrap_or(Err(ConsumeError::ShuttingDown))
    }
}

impl Inner {
    /// The group of that name, if it has been started.
    fn running(&self, name: &str) -> Result<Option<Arc<Group>>, ConsumeError> {
        let groups = self.groups.lock();
        // Under the lock: whoever stops the groups has seen all that are
        // there, or says so here.
        if self.is_stopping.load(Ordering::Acquire) {
            return Err(ConsumeError::ShuttingDown);
        }
        let found = groups.get(name).filter(|group| !group.has_ended());
        if found.is_none() && groups.len() >= self.config.max_groups && !groups.contains_key(name) {
            return Err(ConsumeError::TooManyGroups);
        }
        Ok(found.map(Arc::clone))
    }

    /// Starts a group that is not there; the caller has the turn.
    fn begin(self: &Arc<Self>, name: &str) -> Result<Arc<Group>, ConsumeError> {
        let driver = driver::start(self, name)?;
        let group = Arc::clone(driver.group());
        {
            let mut groups = self.groups.lock();
            if self.is_stopping.load(Ordering::Acquire) {
                return Err(ConsumeError::ShuttingDown);
            }
            groups.insert(name.to_owned(), Arc::clone(&group));
        }
        self.runtime.spawn(driver.run());
        Ok(group)
    }

    /// Forgets a group that has left.
    pub(super) fn forget(&self, group: &Arc<Group>) {
        let mut groups = self.groups.lock();
        if groups
            .get(group.name())
            .is_some_and(|found| Arc::ptr_eq(found, group))
        {
            groups.remove(group.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AckMode, Consume, DispatchConfig};
    use super::*;
    use crate::cluster::{Cluster, ClusterConfig};
    use crate::properties::Properties;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_has_a_group_does_not_wait_for_those_that_are_started() {
        let mut config = ClusterConfig::default();
        // Nobody listens there.
        config.common.set("bootstrap.servers", "127.0.0.1:1");
        let cluster = Cluster::open(config).unwrap();
        let config = DispatchConfig::default();
        let dispatcher = Dispatcher::start(&cluster, config, &Properties::new()).unwrap();
        let ask = async |group| {
            let request = Consume {
                wait: Some(Duration::ZERO),
                ..Consume::one(group, "topic", AckMode::Auto)
            };
            dispatcher.consume(&request).await.err()
        };
        assert!(matches!(ask("a").await, Some(ConsumeError::Timeout)));
        let turn = Arc::clone(&dispatcher.inner.starting).lock_owned().await;
        let mut other = std::pin::pin!(ask("b"));
        tokio::select! {
            biased;
            _ = &mut other => panic!("started out of turn"),
            none = ask("a") => assert!(matches!(none, Some(ConsumeError::Timeout))),
        }
        assert_eq!(dispatcher.pending("a", "topic"), 0);
        drop(turn);
        assert!(matches!(other.await, Some(ConsumeError::Timeout)));
        dispatcher.stop(std::future::ready(())).await;
        assert!(matches!(ask("c").await, Some(ConsumeError::ShuttingDown)));
    }
}
