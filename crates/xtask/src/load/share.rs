//! A part of a processor for a process, by a control group: what the limit of a
//! container is, too.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is given its part anew.
const PERIOD: Duration = Duration::from_millis(20);

pub(super) struct Share {
    process: String,
    parent: &'static Path,
    group: PathBuf,
}

impl Share {
    /// From now on `process` gets no more than this part of one processor.
    /// Only root may.
    pub(super) fn give(process: u32, part: f64) -> Result<Self> {
        // In version 1 each kind of limit has a tree of its own.
        let first = Path::new("/sys/fs/cgroup/cpu");
        let is_first = first.is_dir();
        let parent = if is_first {
            first
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let share = Self {
            process: process.to_string(),
            parent,
            group: parent.join(format!("barnabas-{process}")),
        };
        let period = PERIOD.as_micros();
        let quota = PERIOD.mul_f64(part).as_micros();
        if is_first {
            fs::create_dir(&share.group).context("making a control group takes root")?;
            share.set("cpu.cfs_period_us", &period.to_string())?;
            share.set("cpu.cfs_quota_us", &quota.to_string())?;
        } else {
            fs::write(parent.join("cgroup.subtree_control"), "+cpu")
                .context("limiting processors takes root")?;
            fs::create_dir(&share.group).context("making a control group takes root")?;
            share.set("cpu.max", &format!("{quota} {period}"))?;
        }
        share.set("cgroup.procs", &share.process)?;
        Ok(share)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let file = self.group.join(name);
        fs::write(&file, value).with_context(|| format!("write {value} to {}", file.display()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Only an empty one can be removed. The process may have ended.
        let _ = fs::write(self.parent.join("cgroup.procs"), &self.process);
        let _ = fs::remove_dir(&self.group);
    }
}
