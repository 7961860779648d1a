//! Section 2: who is who, and when a name is free again.

use crate::support::{bulk, shared, unique};

#[test]
fn names_are_checked_in_order() {
    let name = unique("g") + ":n";
    let mut holder = shared().connect();
    let address = bulk(&holder.address());
    holder.ask("CLIENT GETNAME", &address);
    holder.ask_words(&["client", "SetName", &name], "$2\r\nOK\r\n");
    holder.ask("CLIENT GETNAME", &bulk(&name));
    // Its own name again is no mistake.
    holder.ask_words(&["CLIENT", "SETNAME", &name], "$2\r\nOK\r\n");
    let mut client = shared().connect();
    let anonymous = bulk(&client.address());
    let taken = format!("-CONS id {name} is already taken\r\n");
    for (words, reply) in [
        (
            &["CLIENT", "SETNAME", "a:\nb"][..],
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
        (&["CLIENT", "SETNAME", &name], &taken),
        (
            &["CLIENT", "SETNAME", "nocolon"],
            "-CONS Cannot parse group.id\r\n",
        ),
        (
            &["CLIENT", "SETNAME", ""],
            "-CONS Cannot parse group.id\r\n",
        ),
        (&["CLIENT", "SETNAME"], "-CONS Cannot parse group.id\r\n"),
    ] {
        client.ask_words(words, reply);
        client.ask("CLIENT GETNAME", &anonymous);
    }
    let own = unique("my group:ü");
    client.ask_words(&["CLIENT", "SETNAME", &own], "$2\r\nOK\r\n");
    let already = format!("-CONS Client ID is already set to {own}\r\n");
    client.ask("CLIENT SETNAME other:name", &already);
    client.ask("CLIENT SETNAME nocolon", &already);
    client.ask_words(&["CLIENT", "SETNAME", &name], &taken);
    client.ask_words(
        &["CLIENT", "SETNAME", "a:\0"],
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
    );
    client.ask_words(&["CLIENT", "GETNAME", "ignored"], &bulk(&own));
    // What was refused is held by nobody.
    let mut third = shared().connect();
    third.ask("CLIENT SETNAME other:name", "$2\r\nOK\r\n");
}

#[test]
fn empty_parts_are_accepted() {
    for name in [":", ":x", "x:", "a:b:c"] {
        let mut client = shared().connect();
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        client.ask("QUIT", "$2\r\nOK\r\n");
    }
}

#[test]
fn a_name_is_free_before_the_reply_to_quit() {
    let name = unique("g") + ":n";
    for _ in 0..300 {
        let mut client = shared().connect();
        client.ask_words(&["CLIENT", "SETNAME", &name], "$2\r\nOK\r\n");
        client.ask("QUIT", "$2\r\nOK\r\n");
    }
}

#[test]
fn a_name_waits_for_the_clean_up_after_its_holder() {
    let name = unique("g") + ":n";
    for _ in 0..100 {
        let mut client = shared().connect();
        client.ask_words(&["CLIENT", "SETNAME", &name], "$2\r\nOK\r\n");
        drop(client);
    }
}

#[test]
fn a_vanished_client_in_blpop_frees_its_name() {
    let gateway = shared();
    let topic = unique("vanished");
    gateway.kafka.create_topic(&topic, 1);
    let name = unique("g") + ":n";
    let mut client = gateway.connect();
    client.ask_words(&["CLIENT", "SETNAME", &name], "$2\r\nOK\r\n");
    // However much pipelined input waits behind it.
    client.send_words(&["BLPOP", &format!("topics:{topic}"), "60"]);
    client.send("PING\r\n".repeat(5_000));
    let mut watcher = gateway.connect();
    crate::support::eventually("the client waits", || {
        let lines = watcher.call("CLIENT LIST").text().to_owned();
        lines
            .lines()
            .any(|line| line.contains(&name) && line.contains(" flags=b "))
    });
    drop(client);
    // It is not kept waiting longer than the clean-up may take (200 ms), or
    // it would be refused.
    watcher.ask_words(&["CLIENT", "SETNAME", &name], "$2\r\nOK\r\n");
}
