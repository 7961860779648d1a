//! The last processed offset of each partition, in files.
//!
//! Contract: `node.md`, section 8 and B12. The format and the order of the
//! steps are kafka-native's: a file that either program wrote is valid for the
//! other. A crash at any moment leaves each `.offset` file absent or whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No offset needs more; what is longer is no offset file.
const MAX_BYTES: u64 = 256;

/// What the name of a file begins with while it is written.
const WORKING: &str = ".working-";

/// So many files are written at the same time.
const WRITERS: usize = 8;

/// How often, and how far apart, the number of a lock's owner is looked for:
/// he writes it just after he has taken the lock.
const OWNER_TRIES: u32 = 20;
const OWNER_PAUSE: Duration = Duration::from_millis(2);

/// The files of one topic in a directory that many topics, consumers and
/// processes may share. All calls block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDirectory {
    directory: PathBuf,
    topic: String,
}

/// What is wrong with an offset file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetError {
    /// The text is neither `-1` nor a row of digits.
    #[error("bad file format")]
    BadFormat {
        /// The file.
        path: PathBuf,
    },
    /// A step has failed.
    #[error("{source}, {step} '{}'", path.display())]
    Io {
        /// The system call, e.g. `open`.
        step: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another consumer holds the partition's lock.
    #[error("partition {partition} of topic {topic} is in use by pid {pid}")]
    InUse {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The other's process, which may be our own; 0 if it does not say.
        pid: u32,
    },
}

/// The locks of a consumer's partitions; dropping it, or the end of the
/// process, however it ends, gives them up. The files stay.
#[derive(Debug)]
pub struct OffsetLocks {
    files: Vec<File>,
}

impl Drop for OffsetLocks {
    /// Not by closing alone: a child that is just being started has copies of
    /// the files.
    fn drop(&mut self) {
        for file in &self.files {
            let _ = file.unlock();
        }
    }
}

impl OffsetDirectory {
    /// Touches no file.
    pub fn new(directory: impl Into<PathBuf>, topic: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            topic: topic.into(),
        }
    }

    /// The file of a partition.
    pub fn path(&self, partition: i32) -> PathBuf {
        self.file("", partition, ".offset")
    }

    fn file(&self, prefix: &str, partition: i32, suffix: &str) -> PathBuf {
        let name = format!("{prefix}{}-{partition}{suffix}", self.topic);
        self.directory.join(name)
    }

    /// The last processed offset of each partition, in the given order;
    /// `None` where there is no file, or `-1` in it.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub fn read(&self, partitions: &[i32]) -> Result<Vec<Option<i64>>, OffsetError> {
        let read = |partition: &i32| Self::read_file(&self.path(*partition));
        partitions.iter().map(read).collect()
    }

    /// What [`read`](Self::read) reads of one file, whatever its name.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read_file(path: &Path) -> Result<Option<i64>, OffsetError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", path)(error)),
        };
        let mut content = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(failed("read", path))?;
        // Its beginning may be a number, too.
        let is_whole = content.len() as u64 <= MAX_BYTES;
        let text = std::str::from_utf8(&content).ok().filter(|_| is_whole);
        let offset = text.and_then(parse);
        offset.ok_or_else(|| OffsetError::BadFormat {
            path: path.to_owned(),
        })
    }

    /// What [`write`](Self::write) does for one file, whatever its name.
    ///
    /// # Errors
    /// A step has failed; the file is what it was.
    pub fn write_file(path: &Path, offset: i64) -> Result<(), OffsetError> {
        let directory = path.parent().unwrap_or(Path::new(""));
        // The parent of a bare name is empty and means the current one.
        let directory = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        fs::create_dir_all(directory).map_err(failed("mkdir", directory))?;
        let mut working = OsString::from(WORKING);
        working.push(path.file_name().unwrap_or_default());
        replace(&directory.join(working), path, offset)?;
        sync(directory)
    }

    /// Stores the offset of each partition; each should be there once. When
    /// it returns, all of them survive a crash of the machine.
    ///
    /// # Errors
    /// The first one. The others are stored nonetheless, and the file of one
    /// that has failed is what it was.
    pub fn write(&self, offsets: &[(i32, i64)]) -> Result<(), OffsetError> {
        if offsets.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&self.directory).map_err(failed("mkdir", &self.directory))?;
        let share = offsets.len().div_ceil(WRITERS);
        let mut shares = offsets.chunks(share);
        let own = shares.next().unwrap_or_default();
        let written = std::thread::scope(|scope| {
            let others: Vec<_> = shares
                .map(|share| {
                    let write = || self.write_each(share);
                    // A machine without threads writes one after another.
                    let thread = std::thread::Builder::new().spawn_scoped(scope, write);
                    thread.map_err(|_| self.write_each(share))
                })
                .collect();
            let own = self.write_each(own);
            others.into_iter().fold(own, |first, thread| {
                let other = thread.map_or_else(
                    |written| written,
                    |thread| {
                        let ended =
                            |_| Err(failed("write", &self.directory)(ErrorKind::Other.into()));
                        thread.join().unwrap_or_else(ended)
                    },
                );
                first.and(other)
            })
        });
        written.and(sync(&self.directory))
    }

    fn write_each(&self, offsets: &[(i32, i64)]) -> Result<(), OffsetError> {
        let mut first = Ok(());
        for (partition, offset) in offsets {
            let working = self.file(WORKING, *partition, ".offset");
            first = first.and(replace(&working, &self.path(*partition), *offset));
        }
        first
    }

    /// Takes the locks of partitions, all or none; creates the directory.
    /// They keep out only those who ask for them, too.
    ///
    /// # Errors
    /// [`OffsetError::InUse`] names the first that somebody else holds.
    pub fn lock(&self, partitions: &[i32]) -> Result<OffsetLocks, OffsetError> {
        fs::create_dir_all(&self.directory).map_err(failed("mkdir", &self.directory))?;
        let lock = |partition: &i32| self.lock_one(*partition);
        let files = partitions.iter().map(lock).collect::<Result<_, _>>()?;
        Ok(OffsetLocks { files })
    }

    fn lock_one(&self, partition: i32) -> Result<File, OffsetError> {
        let path = self.file(".lock-", partition, "");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OffsetError::InUse {
                    topic: self.topic.clone(),
                    partition,
                    pid: owner(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("flock", &path)(source)),
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(pid.as_bytes()))
            .map_err(failed("write", &path))?;
        Ok(file)
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OffsetError {
    move |source| OffsetError::Io {
        step,
        path: path.to_owned(),
        source,
    }
}

/// Never touches the final name before all of the new content is on disk under
/// another one.
fn replace(working: &Path, path: &Path, offset: i64) -> Result<(), OffsetError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = options.open(working).map_err(failed("open", working))?;
    file.write_all(format!("{offset}\n").as_bytes())
        .map_err(failed("write", working))?;
    file.sync_all().map_err(failed("fsync", working))?;
    drop(file);
    fs::rename(working, path).map_err(failed("rename", working))
}

/// Makes new names last.
fn sync(directory: &Path) -> Result<(), OffsetError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("fsync", directory))
}

/// The outer `None` is not an offset, the inner one is "nothing yet".
fn parse(text: &str) -> Option<Option<i64>> {
    let text = text.trim();
    if text == "-1" {
        return Some(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().map(Some)
}

fn owner(file: &mut File) -> u32 {
    for _ in 0..OWNER_TRIES {
        let mut text = String::new();
        let read = file
            .rewind()
            .and_then(|()| (&*file).take(MAX_BYTES).read_to_string(&mut text));
        if read.is_ok()
            && text.ends_with('\n')
            && let Ok(pid) = text.trim().parse()
        {
            return pid;
        }
        std::thread::sleep(OWNER_PAUSE);
    }
    0
}

#[cfg(test)]
mod tests;
