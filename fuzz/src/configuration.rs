//! The readers of configurations, of every program and in every format.
//!
//! - What is wrong is said; nothing else happens.
//! - What is accepted and read again is the same: a reload of an unchanged file
//!   changes nothing.

use crate::scratch;
use barnabas_server::fuzzing::Program;

/// Formats by their extensions; those that a program does not tell apart are
/// read by it as its own.
const EXTENSIONS: [&str; 6] = ["yaml", "json", "toml", "hjson", "ini", "config"];

/// The first byte names program and format, the rest is the file.
pub(crate) fn run(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else {
        return;
    };
    let choice = usize::from(*choice);
    let program = Program::ALL[choice % Program::ALL.len()];
    let extension = EXTENSIONS[choice / Program::ALL.len() % EXTENSIONS.len()];
    // Files that are named would be read, wherever they are.
    if names(text, b"/dev/") || names(text, b"/proc/") {
        return;
    }
    let path = scratch::folder().join(format!("file.{extension}"));
    std::fs::write(&path, text).expect("a scratch file");
    match program.read_twice(&path) {
        Ok(differences) => assert_eq!(differences, [""; 0], "{program:?}"),
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
}

fn names(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// The examples of each program, and small files in each format.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |program: Program, extension: &str, text: &str| {
        let program = Program::ALL.iter().position(|own| *own == program);
        let extension = EXTENSIONS.iter().position(|own| *own == extension);
        let choice = extension.unwrap_or(0) * Program::ALL.len() + program.unwrap_or(0);
        let choice = u8::try_from(choice).unwrap_or(0);
        seeds.push([&[choice], text.as_bytes()].concat());
    };
    for (program, text) in [
        (Program::Serve, include_str!("../../barnabas.example.yaml")),
        (
            Program::KafkaPixy,
            include_str!("../../kafka-pixy.example.yaml"),
        ),
        (Program::Kprf, include_str!("../../kprf.example.yaml")),
        (Program::Kafboy, include_str!("../../kafboy.example.yaml")),
    ] {
        // What is switched off by a comment counts here.
        let switched_on = |line: &str| match line.trim_start().strip_prefix("# ") {
            Some(rest) if rest.contains(": ") && !rest.contains(". ") => rest.to_owned(),
            _ => line.to_owned(),
        };
        let plain: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().starts_with('#'))
            .collect();
        add(program, "yaml", &plain.join("\n"));
        let on: Vec<String> = text.lines().map(switched_on).collect();
        add(program, "yaml", &on.join("\n"));
    }
    let rafka = r#"{"general": {"bootstrap.servers": "a:1", "client.id": "x"},
        "producer": {"linger.ms": 5}, "consumer": {"group.id": "g", "go.logs.channel.enable": true},
        "redis": {"password": "x", "reply": "pair"}}"#;
    add(Program::Rafka, "json", rafka);
    add(
        Program::Kprf,
        "toml",
        "[kafka]\nbrokers = ['a:1']\nretries = 7\nlibrdkafka = {\"compression.type\" = 'lz4'}\n\
         [[ratelimit.rules]]\ntopic_name = 't'\nmax_requests_per_minute = 4\n[ratelimit]\nenabled = true\n",
    );
    add(
        Program::Kprf,
        "hjson",
        "{\n  # c\n  kafka: {\n    brokers: [\"a:1\"]\n  }\n  http: {port: 1}\n}\n",
    );
    add(
        Program::Kprf,
        "ini",
        "output_file=x\n[kafka]\nbrokers=a:1,b:2\n[kafka.librdkafka]\ncompression.type=lz4\n",
    );
    add(
        Program::Kprf,
        "json",
        r#"{"kafka": {"brokers": ["a:1"], "message_max_bytes": 5}}"#,
    );
    add(
        Program::Kafboy,
        "config",
        "%% c\n[{kafboy, [{kafboy_http_port, 8000}, {kafboy_enable_safety_valve, true}]},\n \
         {ekaf, [{ekaf_bootstrap_broker, {\"a\", 9092}}, {ekaf_bootstrap_topics, [<<\"t\">>]},\n \
         {ekaf_max_buffer_size, [{<<\"t\">>, 100}, {ekaf_max_buffer_size, 16#1f}]}]}].\n",
    );
    seeds
}
