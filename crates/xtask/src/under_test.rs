//! Which gateway is measured: the one that `GATEWAY_BINARY` names, or a build.

use crate::run;
use anyhow::Result;
#[cfg(feature = "torture")]
use anyhow::bail;
use std::path::PathBuf;

/// The gateway is built already, for debugging.
#[cfg(feature = "torture")]
pub(crate) const BUILT: &str = "--built";

/// A release build, made now, or what `GATEWAY_BINARY` names.
pub(crate) fn release() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("GATEWAY_BINARY") {
        return Ok(binary.into());
    }
    run::checked(run::cargo().args(["build", "--release", "--package", "barnabas-server"]))?;
    Ok(folder("release").join("barnabas"))
}

/// The debug build that is there, or what `GATEWAY_BINARY` names.
#[cfg(feature = "torture")]
pub(crate) fn debug() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("GATEWAY_BINARY") {
        return Ok(binary.into());
    }
    let binary = folder("debug").join("barnabas");
    if !binary.exists() {
        bail!("there is no {}", binary.display());
    }
    Ok(binary)
}

/// The one or the other.
#[cfg(feature = "torture")]
pub(crate) fn either(is_built: bool) -> Result<PathBuf> {
    if is_built { debug() } else { release() }
}

/// How it is called on a page.
#[cfg(feature = "torture")]
pub(crate) fn build_name(is_built: bool) -> &'static str {
    // Wherever cargo has put it.
    let is_release = std::env::var_os("GATEWAY_BINARY").map_or(!is_built, |named| {
        PathBuf::from(named)
            .parent()
            .is_some_and(|folder| folder.ends_with("release"))
    });
    if is_release {
        "release build"
    } else {
        "debug build"
    }
}

/// Where builds of a profile are.
pub(crate) fn folder(profile: &str) -> PathBuf {
    run::target().join(profile)
}
