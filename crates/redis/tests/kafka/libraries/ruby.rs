//! Debian's ruby-redis, which rafka's own client library is built on.

use super::{Conversation, GATEWAY, PASSWORD, converse, output, program, sources};
use barnabas_testkit::topic_name;
use std::process::Command;

fn ruby(file: &str) -> Command {
    let ruby = || {
        let mut command = program("ruby", "ruby-redis");
        command.args(["-E", "UTF-8"]);
        command
    };
    let mut library = ruby();
    library.args(["-r", "redis", "-e", ""]);
    let has_library = library.output().unwrap().status.success();
    assert!(has_library, "run `apt-get install ruby-redis` (Debian)");
    let mut command = ruby();
    command.arg(sources("ruby").join(file));
    command
}

#[test]
fn ruby_redis() {
    converse("ruby-redis", ruby("conversation.rb"), 2);
}

#[test]
fn what_programs_do_that_were_written_for_rafka() {
    let conversation = Conversation::new("rafka-habits");
    let Conversation { name, topic } = &conversation;
    let group = name.split(':').next().unwrap();
    let address = GATEWAY.address();
    let mut command = ruby("rafka_habits.rb");
    command
        .args([address.ip().to_string(), address.port().to_string()])
        .args([PASSWORD, group, topic, &topic_name("absent")]);
    let batch = |offsets: std::ops::Range<u32>| {
        offsets
            .map(|offset| format!("0 {offset} \"number {offset}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let expected = format!(
        "left 0\n\
         raised {}\n\
         ConsumeError: id {group}:w-1 is already taken\n\
         again {}\n\
         batch {}\n\
         raised {}\n\
         batch {}\n\
         nothing nil\n\
         empty batch []\n\
         empty 0 10 \"\"\n\
         accepted 1\n\
         left 0\n\
         ProduceError: Local: Unknown topic\n\
         lost 1\n\
         first of producer.unflushed.messages, producer.delivery.errors, producer.unknown.events\n\
         listed true\n\
         CommandError: ERR unknown command 'incr' (Command not supported: INCR)\n",
        batch(0..1),
        batch(0..1),
        batch(1..5),
        batch(5..7),
        batch(5..10),
    );
    assert_eq!(output(command), expected);
    conversation.check_committed(11);
}
