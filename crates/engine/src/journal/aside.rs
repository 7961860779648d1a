//! Records that Kafka has refused for good: kept in a file of their own, in
//! the form of a segment. When it has grown large it becomes the old one, and
//! the old one before it goes.

use super::record::{HEADER, Header};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The file's name.
const FILE: &str = "refused";
/// What it becomes.
const OLD: &str = "refused.old";

/// Both, the older one first.
pub(super) fn paths(directory: &Path) -> [PathBuf; 2] {
    [OLD, FILE].map(|name| directory.join(name))
}

/// Adds frames durably.
pub(super) fn add(directory: &Path, marker: u32, frames: &[u8], most_bytes: u64) -> io::Result<()> {
    let [old, path] = paths(directory);
    let mut file = open(&path)?;
    let mut length = file.seek(io::SeekFrom::End(0))?;
    if length > most_bytes {
        if old.exists() {
            tracing::warn!(
                component = "journal",
                "{} goes for newer ones",
                old.display()
            );
        }
        std::fs::rename(&path, old)?;
        file = open(&path)?;
        length = 0;
    }
    let before = length;
    let mut bytes = Vec::new();
    if length < HEADER as u64 {
        file.set_len(0)?;
        file.rewind()?;
        bytes = Header { marker, base: 0 }.encode();
    }
    bytes.extend_from_slice(frames);
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = file.set_len(before);
    }
    written?;
    super::segment::sync_directory(directory)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}
