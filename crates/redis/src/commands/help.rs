//! `<command> HELP` of every command that has subcommands.

use super::Context;
use super::table::Definition;

pub(super) fn run(context: &mut Context<'_>, definition: &Definition) {
    let reply = &mut *context.reply;
    reply.array(definition.subcommands.len() * 2 + 3);
    reply.simple(&format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        definition.name.to_uppercase()
    ));
    for subcommand in definition.subcommands {
        reply.simple(&subcommand.name.to_uppercase());
        reply.simple(&format!("    {}.", subcommand.summary));
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}
