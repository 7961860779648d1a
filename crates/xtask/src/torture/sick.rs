//! What one of the gateways has to put up with: a small disk in memory, and a
//! library (`shim.c`) that makes it slow and the clock wrong. It has both all the
//! time, so that nothing begins with a restart.

use crate::run;
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whom it befalls.
pub(crate) const SICK: usize = 0;
/// Of the disk.
const DISK_BYTES: u64 = 16 << 20;

/// The disk and the library.
pub(crate) struct Sick {
    folder: PathBuf,
    library: PathBuf,
}

impl Sick {
    /// Mounts the disk, which needs root, and builds the library with the C compiler
    /// that librdkafka needs, too.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let library = folder.join("shim.so");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(run::root().join("crates/xtask/src/torture/shim.c"));
        run::checked(&mut compiler)?;
        let folder = folder.join("sick");
        fs::create_dir_all(&folder)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
            .arg(&folder);
        run::checked(&mut mount)?;
        let sick = Self { folder, library };
        sick.set_clock(0)?;
        Ok(sick)
    }

    /// On the small disk.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// What the gateway is started with.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("SLOW_SYNC", self.switch()),
            ("CLOCK_OFFSET", self.clock()),
        ]
    }

    fn switch(&self) -> PathBuf {
        self.folder.join("slow")
    }

    fn clock(&self) -> PathBuf {
        self.folder.join("clock-offset")
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Leaves no byte free.
    pub(crate) fn fill_disk(&self) -> Result<()> {
        let mut filler = File::create(self.filler())?;
        let block = [0; 4096];
        // It ends when there is no room for a whole block.
        while filler.write_all(&block).is_ok() {}
        Ok(())
    }

    pub(crate) fn free_disk(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("the filler")
    }

    /// Syncs take half a second from now on.
    pub(crate) fn slow_disk(&self) -> Result<()> {
        File::create(self.switch()).context("the switch")?;
        Ok(())
    }

    pub(crate) fn quick_disk(&self) -> Result<()> {
        fs::remove_file(self.switch()).context("the switch")
    }

    /// By how many seconds the wall clock is wrong.
    pub(crate) fn set_clock(&self, seconds: i64) -> Result<()> {
        // In place: the process has the file mapped.
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.clock())?;
        Ok(file.write_all(&seconds.to_ne_bytes())?)
    }
}

impl Drop for Sick {
    fn drop(&mut self) {
        // Lazily: somebody may still look at it.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
