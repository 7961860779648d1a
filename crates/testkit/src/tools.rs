//! Programs that tests need on the machine: found, or installed where that is allowed.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::paths;

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
