//! Disks below the journal: full, and slow.

use super::STRICT;
use crate::run;
use crate::torture::Stage;
use crate::torture::ledger::Findings;
use crate::torture::workload::Workload;
use crate::torture::world::{Special, World, eventually};
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// Whose journal it is.
const GATEWAY: usize = 0;
/// Of the disk that gets full.
const DISK_BYTES: u64 = 8 << 20;

/// A file system in memory; needs root.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
            .arg(&folder);
        run::checked(&mut mount)?;
        Ok(Self(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no byte free.
    fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.filler())?;
        let block = [0; 4096];
        // It ends when there is no room for a whole block.
        while filler.write_all(&block).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("the filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: somebody may still look at it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Waits until this gateway's journal takes messages again.
fn takes_again(work: &Workload) -> Result<()> {
    let before = work.ledger.journaled_by(GATEWAY);
    eventually("the journal to take messages", || {
        Ok(work.ledger.journaled_by(GATEWAY) > before)
    })
}

/// The gateway anew, with what is special about it; clients notice.
fn replace(world: &mut World, special: &Special) -> Result<()> {
    world.stop_gateway(GATEWAY)?;
    world.start_gateway(GATEWAY, special)
}

/// No room for one journal, until its clients were told so.
pub(super) fn full(stage: &mut Stage<'_>) -> Result<Findings> {
    let disk = Disk::mount(stage.world.folder().join("small-disk"))?;
    let special = Special {
        journal: Some(disk.0.join("journal")),
        ..Special::default()
    };
    replace(stage.world, &special)?;
    let findings = stage.play(STRICT, |_, work| {
        takes_again(work)?;
        let refused = work.ledger.refused_count();
        disk.fill()?;
        eventually("a client to be refused", || {
            Ok(work.ledger.refused_count() > refused)
        })?;
        disk.free()?;
        takes_again(work)
    });
    replace(stage.world, &Special::default())?;
    findings
}

/// Syncs of one journal take long.
pub(super) fn slow(stage: &mut Stage<'_>) -> Result<Findings> {
    let folder = stage.world.folder().to_owned();
    let switch = folder.join("slow");
    let special = Special {
        environment: vec![
            ("LD_PRELOAD".to_owned(), super::shim(&folder)?),
            ("SLOW_SYNC".to_owned(), switch.display().to_string()),
        ],
        ..Special::default()
    };
    replace(stage.world, &special)?;
    let findings = stage.play(STRICT, |_, work| {
        takes_again(work)?;
        File::create(&switch)?;
        takes_again(work)?;
        work.flows()?;
        fs::remove_file(&switch)?;
        Ok(())
    });
    replace(stage.world, &Special::default())?;
    findings
}
