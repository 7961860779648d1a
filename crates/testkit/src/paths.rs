//! Where the test kit keeps things: all of it under `<target>/kafka`, so that `cargo clean` removes
//! it and a CI cache of one folder keeps it.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// `<target>/kafka`, created if needed.
pub(crate) fn kafka_folder() -> Result<PathBuf> {
    folder(&target_folder().join("kafka"))
}

/// `path`, created if needed.
pub(crate) fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).context(|| format!("create {}", path.display()))?;
    Ok(path.to_owned())
}

/// Holds a lock between processes for as long as the file is open; waits for it.
pub(crate) fn lock(name: &str) -> Result<File> {
    let path = kafka_folder()?.join(format!("{name}.lock"));
    let file = open_lock(&path)?;
    file.lock().context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Opens a file to lock. Its content means nothing.
pub(crate) fn open_lock(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .context(|| format!("open {}", path.display()))
}

fn target_folder() -> PathBuf {
    // Tests, benchmarks and xtask all run from inside the target folder, wherever it was put.
    if let Ok(program) = env::current_exe()
        && let Some(folder) = program
            .ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").is_file())
    {
        return folder.to_owned();
    }
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    )
}
