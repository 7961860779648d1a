//! What a journal is like, and what can go wrong with it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a journal behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// Where its files are. One process at a time.
    pub directory: PathBuf,
    /// What its segments may take on disk; then it is full.
    pub max_bytes: u64,
    /// A segment that has reached this is followed by another one. At most a
    /// quarter of `max_bytes`, because a segment goes as a whole.
    pub segment_bytes: u64,
    /// When a record counts as written.
    pub sync: SyncMode,
    /// What becomes of records that find it full.
    pub on_full: OnFull,
    /// Records that are sent again after a restart get the header
    /// [`REPLAYED_HEADER`].
    pub mark_replayed: bool,
}

/// The header of records that were sent again after a restart.
pub const REPLAYED_HEADER: &str = "barnabas-replayed";

impl JournalOptions {
    /// 1 GiB in segments of 64 MiB, group commit within 5 ms, refusing when
    /// full.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: 1 << 30,
            segment_bytes: 64 << 20,
            sync: SyncMode::Group {
                interval: Duration::from_millis(5),
            },
            on_full: OnFull::Reject,
            mark_replayed: false,
        }
    }

    /// Bytes that may come together: the active segment stays, whatever is
    /// delivered, and takes up to a quarter.
    pub(super) fn most_at_once(&self) -> u64 {
        self.max_bytes / 4 * 3
    }
}

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// After an fsync that is shared by all who wait. It begins when the one
    /// before is over; if several shared that one, it lets the same number
    /// come first, as long as an fsync takes, and at most `interval`.
    Group {
        /// The longest that a record waits for others.
        interval: Duration,
    },
    /// After an fsync that waits for nobody.
    Always,
    /// Once the operating system has it: it survives the end of the process,
    /// not that of the machine.
    Os,
}

/// What becomes of records that find the journal full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// They are refused.
    Reject,
    /// They wait for room as long as their caller does.
    Wait,
}

/// Why a record was not taken, or a journal not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// `max_bytes` is reached.
    #[error("the journal is full")]
    Full {
        /// When there is likely to be room, at the rate of the last seconds.
        retry_after: Duration,
    },
    /// It could not be written. It is not in the journal, or will at most be
    /// sent though it was refused.
    #[error("the journal cannot be written: {0}")]
    Write(Reason),
    /// The record has no place in the journal's format, or with those that
    /// came together with it takes more than three quarters of `max_bytes`.
    #[error("too large for the journal")]
    TooLarge,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
    /// Another process has the directory.
    #[error("the journal in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The directory cannot be used.
    #[error("the journal in {} cannot be opened: {reason}", .directory.display())]
    Open {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        reason: Reason,
    },
}

impl JournalError {
    /// When it makes sense to try again; whole seconds, 1 to 30.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Full { retry_after } => *retry_after,
            _ => RETRY_AFTER,
        }
    }
}

/// A disk may have room again any time.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An error of the operating system.
#[derive(Clone)]
pub struct Reason(pub Arc<io::Error>);

/// Of the same kind, in the same words.
impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind() == other.0.kind() && self.0.to_string() == other.0.to_string()
    }
}

impl Eq for Reason {}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
