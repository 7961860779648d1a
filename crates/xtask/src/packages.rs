//! The Debian packages that the tests and measurements need.

use crate::run;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// A program, the package it comes from, and what it is needed for.
struct Package {
    /// A name on the PATH, or an absolute path.
    program: &'static str,
    package: &'static str,
    reason: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        program: "redis-cli",
        package: "redis-tools",
        reason: "redis-cli and redis-benchmark are clients under test",
    },
    Package {
        program: "redis-server",
        package: "redis-server",
        reason: "the reference of the measurements and of the queue program",
    },
    Package {
        // A ruby may be there without it.
        program: "/usr/share/doc/ruby-redis/copyright",
        package: "ruby-redis",
        reason: "the Ruby client under test",
    },
    Package {
        program: "python3",
        package: "python3-venv",
        reason: "redis-py is a client under test",
    },
    Package {
        program: "npm",
        package: "npm",
        reason: "ioredis and node-redis are clients under test; the Node package is one of ours",
    },
    Package {
        program: "go",
        package: "golang",
        reason: "go-redis is a client under test",
    },
    Package {
        program: "cmake",
        package: "cmake",
        reason: "librdkafka's build",
    },
    Package {
        program: "c++",
        package: "g++",
        reason: "libFuzzer, which clippy builds with all features",
    },
    Package {
        // A java may be there without a compiler.
        program: "javac",
        package: "default-jdk-headless",
        reason: "Apache Kafka; Jedis and Lettuce are clients under test",
    },
    Package {
        program: "mvn",
        package: "maven",
        reason: "fetching Apache Kafka",
    },
];

/// Installs what is missing, or says what to install.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| !is_there(package.program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("missing: {} ({})", package.program, package.reason);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.package).collect();
    if !is_root() {
        bail!("install as root: apt-get install {}", names.join(" "));
    }
    run::checked(Command::new("apt-get").args(["update", "-qq"]))?;
    run::checked(
        Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&names)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // A service that starts by itself is of no use here.
            .env("RUNLEVEL", "1")
            .stdout(Stdio::null()),
    )?;
    if let Some(package) = missing.iter().find(|package| !is_there(package.program)) {
        bail!("{} did not bring {}", package.package, package.program);
    }
    Ok(())
}

fn is_there(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
