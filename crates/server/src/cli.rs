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

const KPRF_EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked (the log tells of records that could not be
     delivered), or --check found nothing
  1  a port cannot be used, or a second signal came while draining
  2  the configuration cannot be used, or wrong usage of the command line";

/// Use Apache Kafka from anything that speaks Redis, HTTP or gRPC.
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
    /// Look into journals, and send what is left in them
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Serve as rafka did: its flags, its file, its log
    #[command(version = version(), disable_help_flag = true, disable_version_flag = true)]
    Rafka(RafkaOptions),
    /// Serve as kprf (kafka-proxy) did: its file, its API, its metrics
    #[command(version = version(), after_help = KPRF_EXIT_CODES)]
    Kprf(KprfOptions),
    /// Serve as kafboy on ekaf did: its routes, its file or sys.config
    #[command(version = version(), after_help = KPRF_EXIT_CODES)]
    Kafboy(KafboyOptions),
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
    /// Port of the HTTP front end [default: 19092; a free one with --port 0]
    #[arg(long)]
    pub(crate) http_port: Option<u16>,
    /// Port of the gRPC front end [default: 19091; a free one with --port 0]
    #[arg(long)]
    pub(crate) grpc_port: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// YAML file; see barnabas.example.yaml. Environment variables override
    /// it: BARNABAS_ and the key in capitals, two underscores between levels
    #[arg(long, short)]
    pub(crate) config: Option<PathBuf>,
    /// File of such variables, a NAME=value per line; the environment wins
    #[arg(long)]
    pub(crate) env_file: Option<PathBuf>,
    /// Only say what is wrong with the configuration
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Show segments, topics, and what is not delivered
    Inspect {
        /// journal.dir of the configuration, or one cluster's part of it
        #[arg(long)]
        dir: PathBuf,
        /// In JSON
        #[arg(long)]
        json: bool,
    },
    /// Check every record; status 1 if one is damaged or missing
    Verify {
        /// As that of inspect
        #[arg(long)]
        dir: PathBuf,
    },
    /// Send what is not delivered to the configured clusters, and end
    Replay(ReplayOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// As that of serve
    #[arg(long, short)]
    pub(crate) config: PathBuf,
    /// Instead of the configuration's journal.dir
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Only this cluster's
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// How many seconds it may take; what is left stays, with status 1
    #[arg(long)]
    pub(crate) timeout: Option<u64>,
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

/// kprf's flags (contract, `producer-http.md`, section 4).
#[derive(Debug, Args)]
pub(crate) struct KprfOptions {
    /// File: YAML, or by its extension JSON, TOML, HJSON or INI; see
    /// kprf.example.yaml. Environment variables override it: KPRF_ and the key
    /// in capitals, two underscores between levels
    #[arg(long, short)]
    pub(crate) config: Option<PathBuf>,
    /// File of such variables, a NAME=value per line; the environment wins
    #[arg(long)]
    pub(crate) env_file: Option<PathBuf>,
    /// Only say what is wrong with the configuration
    #[arg(long)]
    pub(crate) check: bool,
}

/// As kprf's (contract, `producer-http.md`, section 8).
#[derive(Debug, Clone, Args)]
pub(crate) struct KafboyOptions {
    /// File: YAML, or by its extension JSON, TOML, HJSON, INI or Erlang's
    /// sys.config; see kafboy.example.yaml. Environment variables override it:
    /// KAFBOY_ and the key in capitals, two underscores between levels
    #[arg(long, short)]
    pub(crate) config: Option<PathBuf>,
    /// File of such variables, a NAME=value per line; the environment wins
    #[arg(long)]
    pub(crate) env_file: Option<PathBuf>,
    /// Only say what is wrong with the configuration
    #[arg(long)]
    pub(crate) check: bool,
}

/// The program when it is called by kafboy's name.
#[derive(Debug, Parser)]
#[command(name = "kafboy", version = version(), after_help = KPRF_EXIT_CODES)]
pub(crate) struct KafboyProgram {
    #[command(flatten)]
    pub(crate) options: KafboyOptions,
}

/// The program when it is called by kprf's name.
#[derive(Debug, Parser)]
#[command(name = "kprf", version = version(), after_help = KPRF_EXIT_CODES)]
pub(crate) struct KprfProgram {
    #[command(flatten)]
    pub(crate) options: KprfOptions,
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
        KprfProgram::command().debug_assert();
        KafboyProgram::command().debug_assert();
    }

    #[test]
    fn the_name_decides() {
        assert!(is_called(Some(OsStr::new("/usr/bin/rafka")), "rafka"));
        assert!(is_called(Some(OsStr::new("./kprf")), "kprf"));
        assert!(is_called(Some(OsStr::new("kafka-pixy")), "kafka-pixy"));
        assert!(!is_called(Some(OsStr::new("/usr/bin/barnabas")), "rafka"));
        assert!(!is_called(None, "rafka"));
    }
}
