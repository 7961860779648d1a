//! Jedis and Lettuce, from Maven Central.

use super::{converse, install, output, program};

fn run(class: &str, protocol: u8) {
    let folder = install("java", |folder| {
        // Maven's own words for a Java without a compiler do not say what to install.
        program("javac", "default-jdk-headless");
        let mut maven = program("mvn", "maven");
        maven
            .args(["--quiet", "--batch-mode", "compile"])
            .arg("dependency:copy-dependencies")
            .current_dir(folder);
        output(maven);
    });
    let target = folder.join("target");
    let mut command = program("java", "default-jdk-headless");
    command
        .arg("-Dstdout.encoding=UTF-8")
        .arg("-Dfile.encoding=UTF-8")
        .arg("-classpath")
        .arg(format!(
            "{}:{}/*",
            target.join("classes").display(),
            target.join("libraries").display()
        ))
        .arg(class);
    converse(class, command, protocol);
}

#[test]
fn jedis_resp2() {
    run("JedisConversation", 2);
}

#[test]
fn jedis_resp3() {
    run("JedisConversation", 3);
}

#[test]
fn lettuce_resp2() {
    run("LettuceConversation", 2);
}

#[test]
fn lettuce_resp3() {
    run("LettuceConversation", 3);
}
