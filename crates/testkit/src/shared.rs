//! One broker per test binary instead of one per test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::Cluster;

/// The one-broker cluster that all tests of this process share; started by the first that asks.
/// Topics have to be created. Tests that stop or pause a broker start their own.
///
/// # Panics
/// If it does not start: a test cannot go on without, and every test that asks should say why.
pub fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    started(&CLUSTER, false)
}

/// [`shared()`] with a broker that creates topics when they are asked for, and has done so once.
///
/// # Panics
/// If it does not start.
pub fn shared_auto_create() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    started(&CLUSTER, true)
}

#[allow(
    clippy::panic,
    reason = "the assertion of a test helper; documented where it is public"
)]
fn started(
    slot: &'static OnceLock<Result<Cluster, String>>,
    auto_create: bool,
) -> &'static Cluster {
    let result = slot.get_or_init(|| {
        Cluster::builder()
            .auto_create_topics(auto_create)
            // Nobody stops it. A machine that stands still must not, either.
            .property("broker.session.timeout.ms", "60000")
            .start()
            .and_then(|cluster| {
                if auto_create {
                    // A controller that has just started takes half a second and more over the
                    // first topic that it creates: longer than clients may wait for one.
                    cluster.produce(&topic_name("first"), None, None, None)?;
                }
                Ok(cluster)
            })
            .map_err(|error| error.to_string())
    });
    match result {
        Ok(cluster) => cluster,
        Err(error) => panic!("the shared Kafka does not start: {error}"),
    }
}

/// A name that no other call in this process, and hardly any in another, returns:
/// `<prefix>-<pid>-<number>`. For topics and groups alike.
pub fn topic_name(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}
