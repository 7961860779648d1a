//! The command line. Wrong usage ends with status 2 (clap's own).

use clap::{Args, Parser, Subcommand};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked (the log tells of messages that could not be
     delivered), or --check found nothing
  1  a configuration, port or certificate cannot be used, or a second signal
     came while draining
  2  wrong usage of the command line";

/// Use Apache Kafka from anything that speaks Redis.
#[derive(Debug, Parser)]
#[command(name = "barnabas", version = version(), after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it out: every front end on a Kafka cluster in memory
    Dev(DevOptions),
    /// Serve as a configuration file says
    Serve(ServeOptions),
    /// Serve as rafka did: its flags, its file, its log
    #[command(version = version(), disable_help_flag = true, disable_version_flag = true)]
    Rafka(RafkaOptions),
    /// Serve as Kafka-Pixy did: its flags, its file, its REST API
    #[command(disable_help_flag = true)]
    KafkaPixy {
        /// The old program's flags; -help lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DevOptions {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port of the Redis front end; 0 takes a free one
    #[arg(long, short, default_value_t = 6380)]
    pub(crate) port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// YAML file; see barnabas.example.yaml. Environment variables override
    /// it: BARNABAS_ and the key in capitals, two underscores between levels
    #[arg(long, short)]
    pub(crate) config: PathBuf,
    /// Only say what is wrong with the configuration
    #[arg(long)]
    pub(crate) check: bool,
}

/// rafka's flags (contract, section 9).
#[derive(Debug, Args)]
pub(crate) struct RafkaOptions {
    /// Host to listen on
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, short, default_value_t = 6380)]
    pub(crate) port: u16,
    /// librdkafka configuration file
    #[arg(long, short, default_value = "librdkafka.json")]
    pub(crate) config: PathBuf,
    /// The same, as older releases called it
    #[arg(long, short = 'k', hide = true)]
    pub(crate) kafka: Option<PathBuf>,
    /// Commit interval in seconds, as older releases had it
    #[arg(long, short = 'i', hide = true)]
    pub(crate) commit_intvl: Option<u32>,
    /// Only say what is wrong with the configuration
    #[arg(long)]
    pub(crate) check: bool,
    /// Print help
    #[arg(long, short, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Print version
    #[arg(long, short, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// The program when it is called by rafka's name.
#[derive(Debug, Parser)]
#[command(
    name = "rafka",
    version = version(),
    after_help = EXIT_CODES,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct RafkaProgram {
    #[command(flatten)]
    pub(crate) options: RafkaOptions,
}

/// Whether the binary was called by an old program's name.
pub(crate) fn is_called(program: Option<&OsStr>, name: &str) -> bool {
    program.is_some_and(|program| {
        Path::new(program)
            .file_stem()
            .is_some_and(|stem| stem == name)
    })
}

/// Both versions: ours and librdkafka's.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        format!(
            "{} (librdkafka {})",
            env!("CARGO_PKG_VERSION"),
            barnabas_engine::librdkafka_version()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
        RafkaProgram::command().debug_assert();
    }

    #[test]
    fn the_name_decides() {
        assert!(is_called(Some(OsStr::new("/usr/bin/rafka")), "rafka"));
        assert!(is_called(Some(OsStr::new("kafka-pixy")), "kafka-pixy"));
        assert!(!is_called(Some(OsStr::new("/usr/bin/barnabas")), "rafka"));
        assert!(!is_called(None, "rafka"));
    }
}
