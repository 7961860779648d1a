//! The folder of one cluster: configuration, data and logs. Removed with the cluster, unless
//! something failed and a person will want to read it.

use std::fs::{self, File, TryLockError};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::error::{Context, Result};
use crate::paths;

/// Set to anything: no folder is removed.
const KEEP: &str = "TESTKIT_KEEP";

/// How long the folder of a failed run is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Locked by the process that uses the folder: how others know that the user is gone.
const OWNER: &str = "owner.lock";

/// Its presence says that somebody may want to read this folder.
const KEPT: &str = "kept";

static A_THREAD_PANICKED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    failed: AtomicBool,
    _owner: File,
}

impl RunFolder {
    /// Makes a new, empty folder, and tidies up after processes that were killed.
    pub(crate) fn create() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        watch_for_panics();
        // Between its creation and the lock on its owner file a folder looks abandoned.
        let _lock = paths::lock("clusters")?;
        let all = paths::folder(&paths::kafka_folder()?.join("clusters"))?;
        remove_abandoned(&all);
        let pid = std::process::id();
        let path = loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = all.join(format!("{pid}-{number}"));
            // Left by a process of the same pid, and kept.
            if !path.exists() {
                break paths::folder(&path)?;
            }
        };
        let owner = paths::open_lock(&path.join(OWNER))?;
        owner
            .lock()
            .context(|| format!("lock {}", path.join(OWNER).display()))?;
        Ok(Self {
            path,
            failed: AtomicBool::new(false),
            _owner: owner,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that what happened here is worth reading.
    pub(crate) fn keep(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Removes the folder or, after a failure, says where it is.
    pub(crate) fn finish(&self, failed: bool) {
        if failed || self.failed.load(Ordering::Relaxed) || std::env::var_os(KEEP).is_some() {
            // Errors cannot be reported from here, and the folder is there either way.
            let _ = fs::write(self.path.join(KEPT), "");
            eprintln!("kept for a day: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether the test that runs on this thread is failing right now.
pub(crate) fn this_thread_panics() -> bool {
    thread::panicking()
}

/// Whether any test of this process has failed: what is known when a `static` cluster ends.
pub(crate) fn any_thread_panicked() -> bool {
    A_THREAD_PANICKED.load(Ordering::Relaxed)
}

fn watch_for_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            A_THREAD_PANICKED.store(true, Ordering::Relaxed);
            previous(info);
        }));
    });
}

fn remove_abandoned(all: &Path) {
    let Ok(folders) = fs::read_dir(all) else {
        return;
    };
    for path in folders.filter_map(|entry| Some(entry.ok()?.path())) {
        if is_kept(&path) || is_in_use(&path) {
            continue;
        }
        let _ = fs::remove_dir_all(&path);
    }
}

fn is_kept(path: &Path) -> bool {
    path.join(KEPT)
        .metadata()
        .and_then(|kept| kept.modified())
        .is_ok_and(|at| {
            SystemTime::now()
                .duration_since(at)
                .is_ok_and(|age| age < KEPT_FOR)
        })
}

fn is_in_use(path: &Path) -> bool {
    File::open(path.join(OWNER))
        .is_ok_and(|owner| matches!(owner.try_lock(), Err(TryLockError::WouldBlock)))
}
