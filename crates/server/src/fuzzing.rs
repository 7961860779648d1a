//! The readers of configurations, for the fuzz targets.

use crate::config::{self, Source};
use crate::{kafboy, kprf, pixy, rafka};
use anyhow::Result;
use std::path::Path;

/// Whose configuration a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `barnabas serve`: our own.
    Serve,
    /// `barnabas kafka-pixy`.
    KafkaPixy,
    /// `barnabas rafka`.
    Rafka,
    /// `barnabas kprf`; the extension is the format.
    Kprf,
    /// `barnabas kafboy`; the extension is the format.
    Kafboy,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Serve,
        Self::KafkaPixy,
        Self::Rafka,
        Self::Kprf,
        Self::Kafboy,
    ];

    /// Reads a file twice, as a reload does, and names the keys that differ
    /// then.
    ///
    /// # Errors
    /// What the program would say of the file.
    pub fn read_twice(self, path: &Path) -> Result<Vec<String>> {
        match self {
            Self::Serve => {
                let resolved = config::load(&Source {
                    config: Some(path.to_owned()),
                    env_file: None,
                })?;
                Ok(resolved
                    .written
                    .differences(&resolved.written.again()?.written))
            }
            Self::KafkaPixy => pixy::read_twice(path),
            Self::Rafka => {
                let one = format!("{:?}", rafka::load(path)?);
                let other = format!("{:?}", rafka::load(path)?);
                Ok(Vec::from_iter((one != other).then_some(other)))
            }
            Self::Kprf => kprf::read_twice(path),
            Self::Kafboy => kafboy::read_twice(path),
        }
    }
}
