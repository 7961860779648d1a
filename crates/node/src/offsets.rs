//! The offset directory, on threads of Node's pool.

use crate::progress::{number, whole};
use barnabas_engine::{OffsetDirectory, OffsetError, OffsetLocks};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Result, Task};
use napi_derive::napi;
use std::path::Path;

/// The engine's `OffsetDirectory` for JavaScript, a job per pass.
#[napi]
pub struct NativeOffsets {
    directory: OffsetDirectory,
}

/// Why a step has failed.
#[napi(object)]
pub struct OffsetFailure {
    /// The text, where it is not the system's.
    pub message: Option<String>,
    /// The system's error number.
    pub errno: Option<i32>,
    /// The system call.
    pub syscall: Option<String>,
    /// The file.
    pub path: Option<String>,
}

/// What a job has done: a failure is told as a value, since an error could
/// not carry its parts.
#[napi(object)]
pub struct OffsetOutcome {
    /// The offsets that were read, -1 for none.
    pub offsets: Vec<f64>,
    /// Why it has failed.
    pub failure: Option<OffsetFailure>,
}

/// The locks of a consumer's partitions.
#[napi]
pub struct NativeLocks {
    locks: Option<OffsetLocks>,
}

#[napi]
impl NativeLocks {
    /// Gives them up; again is allowed.
    #[napi]
    pub fn release(&mut self) {
        self.locks = None;
    }
}

#[napi]
impl NativeOffsets {
    /// Touches no file.
    #[napi(constructor)]
    #[must_use]
    pub fn new(directory: String, topic: String) -> Self {
        Self {
            directory: OffsetDirectory::new(directory, topic),
        }
    }

    /// Reads the offsets of partitions.
    #[napi]
    #[must_use]
    pub fn read(&self, partitions: Vec<i32>) -> AsyncTask<Job> {
        let directory = self.directory.clone();
        Job::new(move || {
            let offsets = directory.read(&partitions)?;
            let offsets = offsets.into_iter();
            Ok(offsets.map(|offset| offset.map_or(-1.0, number)).collect())
        })
    }

    /// Writes partitions and offsets, in turn.
    #[napi]
    #[must_use]
    pub fn write(&self, in_turn: Vec<f64>) -> AsyncTask<Job> {
        let directory = self.directory.clone();
        Job::new(move || {
            let (pairs, _) = in_turn.as_chunks::<2>();
            let pairs = pairs.iter().filter_map(|[partition, offset]| {
                Some((i32::try_from(whole(*partition)).ok()?, whole(*offset)))
            });
            directory.write(&pairs.collect::<Vec<_>>())?;
            Ok(Vec::new())
        })
    }

    /// Takes the locks of partitions, at once: nobody is waited for.
    ///
    /// # Errors
    /// The first one that somebody else has.
    #[napi]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn lock(&self, partitions: Vec<i32>) -> Result<NativeLocks> {
        let locks = self.directory.lock(&partitions);
        let locks = locks.map_err(|error| napi::Error::from_reason(error.to_string()))?;
        Ok(NativeLocks { locks: Some(locks) })
    }

    /// Reads one file, of any name.
    #[napi]
    #[must_use]
    pub fn read_file(path: String) -> AsyncTask<Job> {
        Job::new(move || {
            let offset = OffsetDirectory::read_file(Path::new(&path))?;
            Ok(vec![offset.map_or(-1.0, number)])
        })
    }

    /// Writes one file, of any name.
    #[napi]
    #[must_use]
    pub fn write_file(path: String, offset: f64) -> AsyncTask<Job> {
        Job::new(move || {
            OffsetDirectory::write_file(Path::new(&path), whole(offset))?;
            Ok(Vec::new())
        })
    }
}

/// What a job does: answers with offsets.
type Run = dyn FnOnce() -> std::result::Result<Vec<f64>, OffsetError> + Send;

/// A job beside the event loop.
pub struct Job {
    run: Option<Box<Run>>,
}

impl Job {
    fn new(
        run: impl FnOnce() -> std::result::Result<Vec<f64>, OffsetError> + Send + 'static,
    ) -> AsyncTask<Self> {
        AsyncTask::new(Self {
            run: Some(Box::new(run)),
        })
    }
}

impl Task for Job {
    type Output = OffsetOutcome;
    type JsValue = OffsetOutcome;

    fn compute(&mut self) -> Result<Self::Output> {
        let done = self.run.take().map_or_else(|| Ok(Vec::new()), |run| run());
        Ok(match done {
            Ok(offsets) => OffsetOutcome {
                offsets,
                failure: None,
            },
            Err(error) => OffsetOutcome {
                offsets: Vec::new(),
                failure: Some(failure(&error)),
            },
        })
    }

    fn resolve(&mut self, _env: Env, outcome: Self::Output) -> Result<Self::JsValue> {
        Ok(outcome)
    }
}

fn failure(error: &OffsetError) -> OffsetFailure {
    let mut failure = OffsetFailure {
        message: Some(error.to_string()),
        errno: None,
        syscall: None,
        path: None,
    };
    match error {
        OffsetError::BadFormat { path } => failure.path = Some(path.display().to_string()),
        OffsetError::Io { step, path, source } => {
            failure.errno = source.raw_os_error();
            failure.syscall = Some((*step).to_owned());
            failure.path = Some(path.display().to_string());
        }
        _ => {}
    }
    failure
}
