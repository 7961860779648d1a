//! `CLIENT …` (contract, sections 2 and 12). LIST and KILL have files of
//! their own.

use super::table::Definition;
use super::{Arguments, Context, client_kill, client_list, name};

/// Bytes of a library's name or version that are kept.
const LIBRARY_BYTES: usize = 256;

pub(super) fn run(context: &mut Context<'_>, definition: &Definition, arguments: &Arguments<'_>) {
    let subcommand = definition
        .subcommand(arguments)
        .map_or("", |subcommand| subcommand.name);
    let answered = match subcommand {
        "setname" => {
            name::set_name(context.session, arguments.get(2)).map(|()| context.reply.bulk_ok())
        }
        "getname" => {
            let id = context.session.id();
            context.reply.bulk(id.as_bytes());
            Ok(())
        }
        "id" => {
            let id = i64::try_from(context.session.entry.id).unwrap_or(i64::MAX);
            context.reply.integer(id);
            Ok(())
        }
        "info" => {
            let line = client_list::describe(&context.session.entry);
            context.reply.verbatim(&line);
            Ok(())
        }
        "list" => client_list::list(context.session, arguments)
            .map(|lines| context.reply.verbatim(&lines)),
        "kill" => client_kill::run(context, arguments),
        "setinfo" => set_info(context, arguments).map(|()| context.reply.simple("OK")),
        "no-evict" | "no-touch" => {
            switch(arguments, &["on", "off"]).map(|()| context.reply.simple("OK"))
        }
        // OFF and SKIP would need every reply to be taken back.
        "reply" => switch(arguments, &["on"]).map(|()| context.reply.simple("OK")),
        "unpause" => {
            context.reply.simple("OK");
            Ok(())
        }
        _ => Err(definition.unknown_subcommand(arguments)),
    };
    if let Err(text) = answered {
        context.reply.error(&text);
    }
}

fn switch(arguments: &Arguments<'_>, words: &[&str]) -> Result<(), String> {
    if words.iter().any(|word| arguments.is(2, word)) {
        Ok(())
    } else {
        Err("ERR syntax error".to_owned())
    }
}

/// `CLIENT SETINFO LIB-NAME | LIB-VER <value>`
fn set_info(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Result<(), String> {
    let mut about = context.session.entry.about.lock();
    let (name, place) = if arguments.is(2, "lib-name") {
        ("lib-name", &mut about.library_name)
    } else if arguments.is(2, "lib-ver") {
        ("lib-ver", &mut about.library_version)
    } else {
        return Err(format!("ERR Unrecognized option '{}'", arguments.text(2)));
    };
    let value = arguments.get(3);
    if !value.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        ));
    }
    let kept = value.get(..LIBRARY_BYTES).unwrap_or(value);
    *place = String::from_utf8_lossy(kept).into_owned();
    Ok(())
}
