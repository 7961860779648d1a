//! Debian's ruby-redis, which rafka's own client library is built on.

use super::{converse, program, sources};

#[test]
fn ruby_redis() {
    let mut command = program("ruby", "ruby-redis");
    command
        .args(["-E", "UTF-8"])
        .arg(sources("ruby").join("conversation.rb"));
    converse("ruby-redis", command, 2);
}
