//! The whole of a configuration, from its text to what the program runs on.

use super::*;
use barnabas_engine::{Action, InitialOffset};

pub(crate) fn problems(text: &str, variables: &[(&str, &str)]) -> String {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match parse(text, variables) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

const CLUSTER: &str = "clusters: {default: {properties: {bootstrap.servers: 'a:1'}}}\n";

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "
log: {format: xml, levle: info}
redis: {max_conections: 5, threads: many, reply: pairs, tls: {cert: a}}
clusters:
  default:
    properties: {bootstrap.server: 'a:1'}
    producer: {linger.ms: soon}
    produce: {partitioner: round}
    consume: {max_pendin: 1, initial_offset: latest, ack_timeout: 0s, max_waiting: 0,
              isolation_level: none, static_membership: true, disabled: maybe}
  other: {producer: {partitioner: random}, produce: {partitioner: hash}}
shutdown: {deadline: fast}
default_cluster: main
http: {listn: [], tls: {client_ca: x}}
grpc: {tls: {key: x}, client_timeout: 0s}
access: {tokens: {hunter2: [{actions: [eat]}]}, tokens_file: /nonexistent.yaml}
";
    let said = problems(text, &[("BARNABAS_REDIS__PASWORD", "x")]);
    for expected in [
        "log.format: \"xml\"",
        "text, json",
        "log.levle: no such key, did you mean log.level?",
        "redis.max_conections: no such key, did you mean redis.max_connections?",
        "redis.threads: \"many\"",
        "redis.reply: \"pairs\"",
        "redis.tls.key: missing",
        "\"bootstrap.server\", did you mean \"bootstrap.servers\"?",
        "linger.ms",
        "shutdown.deadline: \"fast\"",
        "BARNABAS_REDIS__PASWORD: no such key, did you mean redis.password?",
        "default_cluster: there is no cluster \"main\"",
        "http.listn: no such key, did you mean http.listen?",
        "http.tls.client_ca: needs http.tls.cert and http.tls.key",
        "grpc.tls.cert: missing, grpc.tls.key is given",
        "grpc.client_timeout: must be at least 1s",
        "access.tokens: token 1, grant 1: actions: \"eat\"",
        "access.tokens_file: cannot read /nonexistent.yaml",
        "clusters.default.consume.max_pendin: no such key, did you mean \
             clusters.default.consume.max_pending?",
        "clusters.default.consume.initial_offset: \"latest\" must be newest, oldest, a time",
        "clusters.default.consume.ack_timeout: must be longer than 0",
        "clusters.default.consume.max_waiting: \"0\" must be a whole number of at least 1",
        "clusters.default.consume.isolation_level: \"none\" must be one of read_committed",
        "clusters.default.consume.static_membership: needs the property client.id",
        "clusters.default.consume.disabled: \"maybe\" must be true or false",
        "clusters.default.produce.partitioner: \"round\" must be one of hash, random, \
             roundrobin",
        "clusters.other.produce.partitioner: clusters.other.producer.partitioner has it, too",
    ] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn sections_of_clusters_become_what_they_are_for() {
    let text = "
clusters:
  a:
    properties: {bootstrap.servers: 'a:1', client.id: me}
    consumer: {isolation.level: read_uncommitted, session.timeout.ms: 7000}
    produce: {partitioner: roundrobin, max_message_bytes: 5000, strict_async: true}
    consume: {initial_offset: 2026-01-01T00:00:00Z, max_retries: 3, dead_letter_topic: lost,
              assignor: range, static_membership: true, session_timeout: 9s, disabled: true,
              max_groups: 7, ack_timeout: 10s}
  b: {properties: {bootstrap.servers: 'b:1'}, consume: {initial_offset: 1767225600000}}
redis: {listen: []}
grpc: {listen: '127.0.0.1:0'}
";
    let resolved = parse(text, std::iter::empty()).unwrap();
    assert_eq!(resolved.default_cluster, "a", "the first one");
    assert!(resolved.redis_listen.is_empty() && !resolved.is_redis_only());
    let [a, b] = resolved.clusters.as_slice() else {
        panic!("{resolved:?}");
    };
    let producer = &a.config.producer;
    assert_eq!(producer.get("partitioner"), Some("roundrobin"));
    assert_eq!(producer.get("message.max.bytes"), Some("5000"));
    assert_eq!(a.options.max_message_bytes, 5_000);
    assert!(a.options.strict_async && a.options.is_consuming_disabled);
    let get = |name| a.group_properties.get(name);
    // What is given counts before the consumer section, else that does.
    assert_eq!(get("session.timeout.ms"), Some("9000"));
    assert_eq!(get("isolation.level"), None);
    assert_eq!(get("partition.assignment.strategy"), Some("range"));
    assert_eq!(get("group.instance.id"), Some("me"));
    assert_eq!(a.dispatch.acks.max_retries, Some(3));
    assert_eq!(a.dispatch.dead_letter_topic.as_deref(), Some("lost"));
    assert_eq!(
        (a.dispatch.max_groups, a.dispatch.acks.timeout.as_secs()),
        (7, 10)
    );
    let time = InitialOffset::Time(1_767_225_600_000);
    assert_eq!([a, b].map(|plan| plan.dispatch.initial_offset), [time; 2]);
    let defaults = &b.group_properties;
    assert_eq!(defaults.get("isolation.level"), Some("read_committed"));
    assert_eq!(defaults.get("session.timeout.ms"), Some("15000"));
    assert_eq!(b.dispatch.acks.max_pending, 10_000);
    assert_eq!(b.config.producer.get("partitioner"), None);
}

#[test]
fn tokens_come_from_the_file_its_own_file_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.yaml");
    let own = format!("{CLUSTER}access: {{tokens_file: {}}}\n", path.display());
    let grants = "[{actions: [consume]}]";
    std::fs::write(&path, format!("hunter2: {grants}")).unwrap();
    let resolve = |text: &str, variable: &str| {
        let variables = [("BARNABAS_ACCESS__TOKENS".to_owned(), variable.to_owned())];
        parse(text, variables.into_iter())
    };
    let resolved = resolve(&own, &format!("Hunter3: {grants}")).unwrap();
    let access = resolved.tokens.clone().access();
    for token in ["hunter2", "Hunter3"] {
        assert!(access.is_allowed(Some(token), Action::Consume, "default", "t"));
    }
    assert!(!format!("{resolved:?}").contains("unter"));
    let twice = resolve(&own, &format!("hunter2: {grants}")).unwrap_err();
    assert!(
        twice
            .to_string()
            .contains("a token is in access.tokens, too")
    );
    std::fs::write(&path, "").unwrap();
    let emptied = problems(&own, &[]);
    assert!(emptied.contains("no tokens"), "{emptied}");
}

#[test]
fn something_has_to_be_listened_on() {
    let text = format!("{CLUSTER}redis: {{listen: []}}\n");
    assert!(problems(&text, &[]).contains("nothing is listened on"));
    assert_eq!(
        problems(&text, &[("BARNABAS_GRPC__LISTEN", "'[::1]:0'")]),
        ""
    );
    let other = "clusters: {main: {}}\nredis: {listen: []}\nhttp: {unix: /x}\n";
    assert_eq!(problems(other, &[]), "", "redis needs no cluster then");
}

#[test]
fn variables_know_no_case_and_properties_keep_their_underscores() {
    let text = "clusters: {Main: {properties: {bootstrap.servers: 'a:1'}}}\nredis: {cluster: \
                    Main}";
    let variables = [
        (
            "BARNABAS_CLUSTERS__MAIN__PROPERTIES__BOOTSTRAP_SERVERS",
            "b:2",
        ),
        ("BARNABAS_CLUSTERS__MAIN__PROPERTIES__LOG_LEVEL", "7"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let resolved = parse(text, variables.into_iter()).unwrap();
    let common = &resolved.clusters[0].config.common;
    assert_eq!(common.get("bootstrap.servers"), Some("b:2"));
    assert_eq!(common.get("log_level"), Some("7"));
}

#[test]
fn the_environment_overrides_every_key() {
    let variables = [
        ("BARNABAS_REDIS__MAX_CONNECTIONS", "7"),
        ("BARNABAS_REDIS__LISTEN", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
        ("BARNABAS_REDIS__USERS", "{ann: secret}"),
        ("BARNABAS_REDIS__PASSWORD", "12345"),
        ("BARNABAS_LOG__LEVEL", "debug"),
        ("BARNABAS_SHUTDOWN__DEADLINE", "500ms"),
        ("BARNABAS_CLUSTERS__DEFAULT__PRODUCER", "{linger.ms: 3}"),
        (
            "BARNABAS_CLUSTERS__DEFAULT__CONSUMER__AUTO_OFFSET_RESET",
            "earliest",
        ),
        ("OTHER", "x"),
    ];
    let text = format!("{CLUSTER}redis: {{max_connections: 5}}");
    let resolved = parse(
        &text,
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
    .unwrap();
    assert_eq!(resolved.redis.max_connections, 7);
    assert_eq!(resolved.redis_listen, ["127.0.0.1:1", "[::1]:2"]);
    assert_eq!(resolved.redis.users.len(), 1);
    assert_eq!(resolved.redis.password, Some(Secret::new("12345".into())));
    assert_eq!(resolved.log.level, "debug");
    assert_eq!(resolved.shutdown_deadline, Duration::from_millis(500));
    assert_eq!(
        resolved.clusters[0].config.producer.get("linger.ms"),
        Some("3")
    );
    assert_eq!(
        resolved.clusters[0]
            .config
            .consumer
            .get("auto.offset.reset"),
        Some("earliest")
    );
}

#[test]
fn secrets_come_from_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let tokens = folder.path().join("tokens.yaml");
    std::fs::write(&tokens, "t: [{actions: [consume]}]").unwrap();
    let file = secret.to_str().unwrap().to_owned();
    let variables = [
        ("BARNABAS_REDIS__PASSWORD_FILE", file.clone()),
        ("BARNABAS_REDIS__USERS__ANN_FILE", "named so".to_owned()),
        (
            "BARNABAS_CLUSTERS__DEFAULT__PROPERTIES__SASL_PASSWORD_FILE",
            file,
        ),
        // Keys of their own.
        (
            "BARNABAS_ACCESS__TOKENS_FILE",
            tokens.to_str().unwrap().to_owned(),
        ),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let resolved = parse(CLUSTER, variables.into_iter()).unwrap();
    let secret = Some(Secret::new("hunter2".into()));
    assert_eq!(resolved.redis.password, secret);
    assert!(resolved.redis.users.contains_key("ann_file"));
    let common = &resolved.clusters[0].config.common;
    assert_eq!(common.get("sasl.password"), Some("hunter2"));
    let access = resolved.tokens.access();
    assert!(access.is_allowed(Some("t"), Action::Consume, "default", "x"));
    let missing = [("BARNABAS_REDIS__PASSWORD_FILE", "/nonexistent")];
    assert!(
        problems(CLUSTER, &missing)
            .starts_with("BARNABAS_REDIS__PASSWORD_FILE: cannot read /nonexistent: ")
    );
    let unknown = [("BARNABAS_REDIS__PASWORD_FILE", "/nonexistent")];
    assert!(problems(CLUSTER, &unknown).contains("no such key"));
}

#[test]
fn the_example_names_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../barnabas.example.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(problems(&text, &[]), "");
    let value: Value = serde_norway::from_str(&text).unwrap();
    let document = Document::read(&value, "", &mut Vec::new());
    for key in keys::KEYS {
        let path = key.path.replace('*', "default");
        // What is off unless given stands in a comment.
        let last = format!("{}:", path.rsplit('.').next().unwrap());
        let is_shown = |line: &str| {
            let rest = line.trim_start().strip_prefix('#');
            rest.is_some_and(|rest| rest.trim_start().starts_with(&last))
        };
        let commented = key.default == "none" && text.lines().any(is_shown);
        assert!(
            document.has(&path) || commented,
            "{path} is not in the example"
        );
        if let Some(shown) = document.shown(&path)
            && key.default != "none"
        {
            assert_eq!(shown, key.default, "{path}");
        }
    }
    let plan = &parse(&text, std::iter::empty()).unwrap().clusters[0];
    let bare = &parse(CLUSTER, std::iter::empty()).unwrap().clusters[0];
    assert_eq!(plan.dispatch, bare.dispatch);
    assert_eq!(plan.options, bare.options);
    assert_eq!(plan.group_properties, bare.group_properties);
    let defaults = Resolved::default();
    let resolved = parse(&text, std::iter::empty()).unwrap();
    assert_eq!(resolved.log, defaults.log);
    assert_eq!(resolved.redis_listen, defaults.redis_listen);
    assert_eq!(resolved.shutdown_deadline, defaults.shutdown_deadline);
    assert_eq!(
        resolved.redis.max_connections,
        defaults.redis.max_connections
    );
    assert_eq!(resolved.redis.reply, defaults.redis.reply);
}

#[test]
fn a_cluster_must_exist() {
    assert!(problems("{}", &[]).contains("no cluster \"default\""));
    assert_eq!(problems(CLUSTER, &[]), "");
    let other = format!("{CLUSTER}redis: {{cluster: other}}");
    assert!(problems(&other, &[]).contains("no cluster \"other\""));
}

#[test]
fn secrets_are_not_shown() {
    let text = format!("{CLUSTER}redis: {{password: hunter2, users: {{a: hunter2}}}}");
    let resolved = parse(&text, std::iter::empty()).unwrap();
    assert!(!format!("{resolved:?}").contains("hunter2"));
}

#[test]
fn opentelemetrys_variables_come_from_the_file_of_variables_too() {
    let folder = tempfile::tempdir().unwrap();
    let (config, env) = (folder.path().join("b.yaml"), folder.path().join(".env"));
    std::fs::write(&config, CLUSTER).unwrap();
    std::fs::write(&env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318\n").unwrap();
    let mut source = Source {
        config: Some(config),
        env_file: None,
    };
    assert!(!load(&source).unwrap().telemetry.sends_metrics());
    source.env_file = Some(env);
    assert!(load(&source).unwrap().telemetry.sends_metrics());
}
