//! What the `barnabas` binary does: reads what was typed and configured, wires
//! the parts together, serves, and drains when told to stop. A library so that
//! the fuzz targets reach the readers of configurations.

mod cli;
mod clusters;
mod config;
mod dev;
mod document;
mod front_ends;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod journal;
mod kafboy;
mod kprf;
mod logging;
mod metrics;
mod pixy;
mod rafka;
mod reload;
mod replicas;
mod script;
mod signals;
mod telemetry;
mod tls;
mod tokens;

use clap::Parser as _;
use std::process::ExitCode;

/// What the process ends with.
mod exit {
    /// A configuration, a port or a broker setting cannot be used; or a
    /// second signal came while draining.
    pub(super) const FAILURE: u8 = 1;
    /// kprf's or kafboy's configuration cannot be used.
    pub(super) const CONFIGURATION: u8 = 2;
}

/// The program, under whichever of its names it was called.
pub fn main() -> ExitCode {
    let program = std::env::args_os().next();
    let result = if cli::is_called(program.as_deref(), "rafka") {
        rafka::run(&cli::RafkaProgram::parse().options)
    } else if cli::is_called(program.as_deref(), "kprf") {
        return kprf::run(&cli::KprfProgram::parse().options);
    } else if cli::is_called(program.as_deref(), "kafboy") {
        return kafboy::run(&cli::KafboyProgram::parse().options);
    } else if cli::is_called(program.as_deref(), "kafka-pixy") {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        pixy::run(&arguments)
    } else {
        match cli::Cli::parse().command {
            cli::Command::Dev(options) => dev::run(&options),
            cli::Command::Journal(command) => journal::run(&command),
            cli::Command::Serve(options) => gateway::run_configured(&options),
            cli::Command::Rafka(options) => rafka::run(&options),
            cli::Command::Kprf(options) => return kprf::run(&options),
            cli::Command::Kafboy(options) => return kafboy::run(&options),
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
