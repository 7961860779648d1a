//! The `barnabas` binary: reads what was typed and configured, wires the
//! parts together, serves, and drains when told to stop.

mod cli;
mod config;
mod dev;
mod gateway;
mod logging;
mod pixy;
mod rafka;
mod signals;

use clap::Parser as _;
use std::process::ExitCode;

// librdkafka frees on one thread what another has allocated, message by
// message; this allocator is made for that, and serves C code too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the process ends with.
mod exit {
    /// A configuration, a port or a broker setting cannot be used; or a
    /// second signal came while draining.
    pub(super) const FAILURE: u8 = 1;
}

fn main() -> ExitCode {
    let program = std::env::args_os().next();
    let result = if cli::is_called(program.as_deref(), "rafka") {
        rafka::run(&cli::RafkaProgram::parse().options)
    } else if cli::is_called(program.as_deref(), "kafka-pixy") {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        pixy::run(&arguments)
    } else {
        match cli::Cli::parse().command {
            cli::Command::Dev(options) => dev::run(&options),
            cli::Command::Serve(options) => gateway::run_configured(&options),
            cli::Command::Rafka(options) => rafka::run(&options),
            cli::Command::KafkaPixy { arguments } => pixy::run(&arguments),
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
