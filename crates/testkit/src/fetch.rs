//! Apache Kafka itself: fetched once per version by its Maven coordinates, then started as plain
//! `java` with the jars on the class path.
//!
//! `<target>/kafka/<version>/` has `jars/`, what `prepare` makes of them, and, written last,
//! `pom.xml`, which says by its content that the folder is whole and belongs to the pom of this
//! source tree. Whoever makes it holds a lock; the others wait.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::paths;
use crate::prepare;
use crate::tools::{ensure_program, run};

const POM: &str = include_str!("../kafka/pom.xml");
const MARKER: &str = "pom.xml";

/// The versions of Apache Kafka that tests run against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KafkaVersion {
    /// 3.9, the last line with the old protocol versions and without the new group protocol.
    V3_9,
    /// 4.1, what tests run against unless they or `KAFKA_UNDER_TEST` ask for another.
    #[default]
    V4_1,
}

/// The variable that says which version [`KafkaVersion::from_environment`] is.
const VARIABLE: &str = "KAFKA_UNDER_TEST";

impl KafkaVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 2] = [Self::V3_9, Self::V4_1];

    /// The version that the environment variable `KAFKA_UNDER_TEST` names, whole (`3.9.1`) or in
    /// short (`3.9`), so that the same tests run against each; the default one if it is not set.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`]: tests that go on with another version would prove nothing.
    pub fn from_environment() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(name) => Self::named(&name.to_string_lossy()),
            None => Ok(Self::default()),
        }
    }

    fn named(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|version| {
                version.number() == name
                    || version
                        .number()
                        .rsplit_once('.')
                        .is_some_and(|(line, _)| line == name)
            })
            .ok_or_else(|| Error::UnknownVersion {
                name: name.to_owned(),
            })
    }

    /// The version as Maven knows it.
    pub fn number(self) -> &'static str {
        match self {
            Self::V3_9 => "3.9.1",
            Self::V4_1 => "4.1.0",
        }
    }
}

impl fmt::Display for KafkaVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.number())
    }
}

/// A Kafka that can be started.
#[derive(Clone, Debug)]
pub struct KafkaFiles {
    java: PathBuf,
    folder: PathBuf,
}

impl KafkaFiles {
    /// The folder with all jars of this version.
    pub fn jars(&self) -> PathBuf {
        self.folder.join("jars")
    }

    /// See [`prepare::make_class_archive`]; need not exist.
    pub(crate) fn class_archive(&self) -> PathBuf {
        self.folder.join("classes.jsa")
    }

    /// Where preparations may write while they are made.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// What a fresh log folder has to contain besides `meta.properties`: the feature levels that
    /// `kafka-storage format` chooses for this version. Nothing in it belongs to one cluster or
    /// node, so it is made once and copied; that saves a JVM start per broker.
    pub(crate) fn bootstrap_checkpoint(&self) -> PathBuf {
        self.folder.join("bootstrap.checkpoint")
    }

    /// `java` with this Kafka on its class path; options of the JVM and a main class may follow.
    pub(crate) fn java(&self, jvm_options: &[String]) -> Command {
        let mut class_path = OsString::from(self.jars());
        class_path.push("/*");
        let mut command = Command::new(&self.java);
        if self.class_archive().exists() {
            let mut option = OsString::from("-XX:SharedArchiveFile=");
            option.push(self.class_archive());
            command.arg(option);
        }
        command.args(jvm_options).arg("-cp").arg(class_path);
        command
    }
}

/// Makes sure that Kafka `version` is there and can be run. The first call per version and target
/// folder downloads about 45 MB with Maven and takes a minute or two; other processes that
/// want the same wait for it. Later calls take no time.
///
/// Java and Maven are installed from Debian if they are missing and this process is root.
///
/// # Errors
/// [`crate::Error::ProgramMissing`] names the package to install; [`crate::Error::CommandFailed`]
/// has Maven's words.
pub fn fetch(version: KafkaVersion) -> Result<KafkaFiles> {
    let java = ensure_program("java", "openjdk-17-jre-headless")?;
    let kafka = paths::kafka_folder()?;
    let files = KafkaFiles {
        java,
        folder: kafka.join(version.number()),
    };
    if is_whole(&files.folder) {
        return Ok(files);
    }

    let maven = ensure_program("mvn", "maven")?;
    let _lock = paths::lock("fetch")?;
    if is_whole(&files.folder) {
        return Ok(files);
    }
    // A process that was killed while fetching leaves its half behind; under the lock it is ours.
    remove_folder(&files.folder)?;
    paths::folder(&files.folder)?;
    download(&maven, &files, version)?;
    prepare::make_bootstrap_checkpoint(&files)?;
    prepare::make_class_archive(&files)?;
    write(&files.folder.join(MARKER), POM)?;
    Ok(files)
}

fn is_whole(folder: &Path) -> bool {
    fs::read_to_string(folder.join(MARKER)).is_ok_and(|pom| pom == POM)
}

fn download(maven: &Path, files: &KafkaFiles, version: KafkaVersion) -> Result<()> {
    // Maven reads the pom under another name: the marker must not be there before all else is.
    let pom = files.folder.join("fetch.xml");
    write(&pom, POM)?;
    let mut command = Command::new(maven);
    command
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!("-Dkafka.version={version}"))
        .arg(format!("-DoutputDirectory={}", files.jars().display()));
    run(command)
}

pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).context(|| format!("write {}", path.display()))
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_long_and_a_short_name() {
        for (name, version) in [
            ("3.9", KafkaVersion::V3_9),
            ("3.9.1", KafkaVersion::V3_9),
            ("4.1", KafkaVersion::V4_1),
            ("4.1.0", KafkaVersion::V4_1),
        ] {
            assert_eq!(KafkaVersion::named(name).unwrap(), version);
        }
        for name in ["", "3", "4.10", "3.9.0"] {
            let error = KafkaVersion::named(name).unwrap_err();
            assert!(matches!(error, Error::UnknownVersion { .. }), "{error}");
        }
    }
}
