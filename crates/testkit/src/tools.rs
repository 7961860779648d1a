//! Programs that tests need on the machine: found, or installed where that is allowed, and run.

use std::env;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::paths;
use crate::process::Process;

/// The path of `program`; installs the Debian package `package` if it is missing and this process
/// is root. Test binaries that run side by side wait for one another here.
///
/// # Errors
/// [`Error::ProgramMissing`] with what to install if this process is not root, there is no
/// `apt-get`, or the package does not have the program; [`Error::CommandFailed`] if the
/// installation fails.
pub fn ensure_program(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = find_program(program) {
        return Ok(path);
    }
    let missing = || Error::ProgramMissing {
        program: program.to_owned(),
        package: package.to_owned(),
    };
    if !is_root() || find_program("apt-get").is_none() {
        return Err(missing());
    }
    let _lock = paths::lock("apt")?;
    if find_program(program).is_none() {
        apt_get(&["update"])?;
        apt_get(&["install", "-y", "--no-install-recommends", package])?;
    }
    find_program(program).ok_or_else(missing)
}

/// Where on the `PATH` an executable file of this name is.
pub fn find_program(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

/// What a program prints that reads `input`; it ends with the test, as every child does.
///
/// # Errors
/// [`Error::CommandFailed`] with all that it has written if it fails; [`Error::Timeout`], also with
/// that, if it has not ended within `limit`.
pub fn output(mut command: Command, input: &str, limit: Duration) -> Result<String> {
    let line = format!("{command:?}");
    let action = || format!("run {line}");
    let file = || tempfile::tempfile().context(action);
    // Files, because nobody reads or writes pipes while this thread waits.
    let mut streams = [file()?, file()?, file()?];
    let [stdin, stdout, stderr] = &mut streams;
    stdin.write_all(input.as_bytes()).context(action)?;
    stdin.rewind().context(action)?;
    command
        .stdin(stdin.try_clone().context(action)?)
        .stdout(stdout.try_clone().context(action)?)
        .stderr(stderr.try_clone().context(action)?);
    let process = Process::spawn(command)?;
    let ended = process.wait(limit);
    // A program that still runs must not move the files' position, which it shares.
    drop(process);
    let [said, complained] = [stdout, stderr].map(|stream| {
        let mut bytes = Vec::new();
        stream.rewind().context(action)?;
        stream.read_to_end(&mut bytes).context(action)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    });
    let (said, complained) = (said?, complained?);
    match ended {
        Ok(status) if status.success() => Ok(said),
        Ok(status) => Err(Error::CommandFailed {
            command: line,
            status,
            output: format!("{said}{complained}"),
        }),
        Err(Error::Timeout { waited, .. }) => Err(Error::Timeout {
            what: format!("{line} to end; it has written:\n{said}{complained}"),
            waited,
        }),
        Err(error) => Err(error),
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Our lock is per target folder; dpkg's own may be held by anybody.
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments);
    run(command)
}

/// Runs a command to its end; what it wrote is in the error if it fails.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let line = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .context(|| format!("run {line}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::CommandFailed {
        command: line,
        status: output.status,
        output: format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    })
}

#[allow(
    unsafe_code,
    reason = "std does not tell the effective user; geteuid takes nothing and cannot fail"
)]
fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and no preconditions.
    unsafe { libc::geteuid() == 0 }
}
