//! A folder for what targets write, in memory where there is such a place.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

thread_local! {
    /// Tests run beside each other.
    static FOLDER: TempDir = make();
}

fn make() -> TempDir {
    static PARENT: OnceLock<PathBuf> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        }
    });
    tempfile::tempdir_in(parent).expect("a scratch folder")
}

/// This thread's.
pub(crate) fn folder() -> PathBuf {
    FOLDER.with(|folder| folder.path().to_owned())
}

/// A folder in it, with nothing in it.
pub(crate) fn empty(name: &str) -> PathBuf {
    let folder = folder().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a scratch folder");
    folder
}
