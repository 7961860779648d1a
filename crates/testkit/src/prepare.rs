//! What is made once per version so that every later start is cheaper.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::captured::Captured;
use crate::error::{Context, Result};
use crate::fetch::{KafkaFiles, remove_folder, write};
use crate::paths;
use crate::ports;
use crate::process::Process;
use crate::tools::run;

/// Far more than it takes; the machine may be busy compiling.
const PATIENCE: Duration = Duration::from_secs(60);

/// Formats a throw-away log folder with Kafka's own tool and keeps the one file that is the same
/// for every cluster.
pub(crate) fn make_bootstrap_checkpoint(files: &KafkaFiles) -> Result<()> {
    let scratch = files.scratch();
    remove_folder(&scratch)?;
    paths::folder(&scratch)?;
    write_properties(&scratch, 9092, 9093)?;
    let mut command = files.java(&["-XX:TieredStopAtLevel=1".to_owned()]);
    command
        .args(["kafka.tools.StorageTool", "format", "--cluster-id"])
        .arg("AAAAAAAAAAAAAAAAAAAAAQ")
        .arg("--config")
        .arg(properties(&scratch));
    run(command)?;
    let checkpoint = data(&scratch).join("bootstrap.checkpoint");
    fs::copy(&checkpoint, files.bootstrap_checkpoint())
        .context(|| format!("keep {}", checkpoint.display()))?;
    Ok(())
}

/// Runs the broker that [`make_bootstrap_checkpoint`] has formatted once, and keeps its classes
/// parsed and linked (JEP 350). That halves the time and the work of every start. A JVM that finds
/// that the archive does not fit, say after an upgrade, goes on without it.
pub(crate) fn make_class_archive(files: &KafkaFiles) -> Result<()> {
    let scratch = files.scratch();
    let (broker, controller) = (ports::reserve()?, ports::reserve()?);
    write_properties(&scratch, broker.number(), controller.number())?;
    // Not at its final place before it is whole: an unfinished one would be used by this very JVM.
    let unfinished = scratch.join("classes.jsa");
    let mut command = files.java(&[
        "-XX:+UseSerialGC".to_owned(),
        "-XX:TieredStopAtLevel=1".to_owned(),
        format!("-XX:ArchiveClassesAtExit={}", unfinished.display()),
    ]);
    command
        .arg("kafka.Kafka")
        .arg(properties(&scratch))
        .current_dir(&scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let process = Process::spawn(command)?;
    let log = Captured::read(process.with_child(|child| child.stderr.take()))?;
    log.wait(PATIENCE, |log| {
        log.contains("Kafka Server started").then_some(())
    });
    process.terminate(PATIENCE)?;
    // Some JVMs have no archive of their own to build upon, and write none.
    if unfinished.exists() {
        fs::rename(&unfinished, files.class_archive())
            .context(|| format!("keep {}", unfinished.display()))?;
    }
    remove_folder(&scratch)
}

fn data(scratch: &Path) -> PathBuf {
    scratch.join("data")
}

fn properties(scratch: &Path) -> PathBuf {
    scratch.join("server.properties")
}

fn write_properties(scratch: &Path, broker: u16, controller: u16) -> Result<()> {
    write(
        &properties(scratch),
        &format!(
            "process.roles=broker,controller\n\
             node.id=0\n\
             controller.quorum.voters=0@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             log.dirs={}\n",
            data(scratch).display()
        ),
    )
}
