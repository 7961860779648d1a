//! Reading the configuration again while it serves, and where it comes from:
//! `docs/configuration.md`.

use crate::support::{PATIENCE, address, binary, eventually, file, run, stderr, text};
use crate::tls::certificates;
use barnabas_testkit::{Gateway, Signal, shared, topic_name};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

fn serve(path: &Path) -> Gateway {
    Gateway::builder(binary())
        .args(["serve", "--config", text(path)])
        .listeners(1)
        .spawn()
        .unwrap()
}

/// The status of a request with a token.
fn status(url: &str, token: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "20", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}"])
        .args(["--header", &format!("Authorization: Bearer {token}"), url])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn config(token: &str, more: &str) -> String {
    format!(
        "clusters: {{default: {{properties: {{bootstrap.servers: '{}'}}}}}}\nredis: {{listen: \
         []}}\naccess: {{tokens: {{{token}: [{{actions: [describe, produce]}}]}}}}\n{more}\n",
        shared().bootstrap_servers()
    )
}

/// Waits for a line in the log that was not there before.
fn hears(gateway: &Gateway, line: &str) {
    gateway
        .wait_for_stderr(line, PATIENCE)
        .unwrap_or_else(|_| panic!("{line} is not in\n{}", gateway.stderr()));
}

#[test]
fn a_changed_file_counts_and_connections_stay() {
    let plain = "http: {listen: '127.0.0.1:0'}";
    let (_folder, path) = file("barnabas.yaml", &config("one", plain));
    let gateway = serve(&path);
    let url = format!("http://{}/v1/topics", address(&gateway, 0));
    assert_eq!(
        (status(&url, "one"), status(&url, "two")),
        ("200".into(), "401".into())
    );
    // A connection that is there throughout.
    let mut socket = BufReader::new(TcpStream::connect(address(&gateway, 0)).unwrap());
    let mut ask = |token: &str| {
        let request = format!(
            "GET /v1/clusters HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        socket.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut first, mut length) = (String::new(), 0);
        socket.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut socket, &mut body).unwrap();
        first.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask("one"), "200");

    let changed = "http: {listen: '127.0.0.1:1'}\nlog: {level: debug}\nshutdown: {deadline: 3s}";
    std::fs::write(&path, config("two", changed)).unwrap();
    hears(&gateway, "configuration reloaded: log.level, access.tokens");
    hears(&gateway, "needs a restart: http.listen, shutdown.deadline");
    assert_eq!(
        (status(&url, "one"), status(&url, "two")),
        ("401".into(), "200".into())
    );
    assert_eq!((ask("one"), ask("two")), ("401".into(), "200".into()));

    // What cannot be read changes nothing, whoever asks for it.
    std::fs::write(&path, "access: {tokns: 1}\nlog: {level: '=='}\n").unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    hears(&gateway, "the configuration stays as it was: ");
    hears(&gateway, "access.tokns: no such key");
    assert_eq!(status(&url, "two"), "200");
    // Without tokens everybody could do everything: not by a slip of the pen.
    let open = config("two", plain).replace("access: {tokens: {two", "access: {tokens: {}} #");
    std::fs::write(&path, open).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    hears(
        &gateway,
        "access.tokens (to begin with tokens, or to do without)",
    );
    assert_eq!(
        (status(&url, "one"), ask("two")),
        ("401".into(), "200".into())
    );
    // That it is back is seen, too, and is the log's new level.
    std::fs::write(&path, config("three", plain)).unwrap();
    eventually("the third token", || {
        (status(&url, "three") == "200").then_some(())
    });
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn certificates_are_exchanged_for_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let tls = format!(
        "tls: {{cert: '{}', key: '{}'}}",
        at("cert.pem"),
        at("key.pem")
    );
    let (_folder, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters: {{default: {{properties: {{bootstrap.servers: '{}'}}}}}}\nredis: {{listen: \
             '127.0.0.1:0', {tls}}}\nhttp: {{listen: '127.0.0.1:0', {tls}}}\ngrpc: {{listen: \
             '127.0.0.1:0', {tls}}}\n",
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .listeners(3)
        .spawn()
        .unwrap();
    let ca = |name: &str| std::fs::copy(folder.path().join("ca.pem"), folder.path().join(name));
    ca("old.pem").unwrap();
    // Whether a listener shows a certificate of that authority.
    let trusts = |listener: usize, ca: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address(&gateway, listener)])
            .args([
                "-CAfile",
                &at(ca),
                "-verify_return_error",
                "-servername",
                "localhost",
            ])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("Verify return code: 0 (ok)")
    };
    for listener in 0..3 {
        assert!(trusts(listener, "old.pem"), "{listener}");
    }
    // Another authority, certificate and key.
    certificates(folder.path());
    hears(
        &gateway,
        "configuration reloaded: redis.tls, http.tls, grpc.tls",
    );
    for listener in 0..3 {
        assert!(trusts(listener, "ca.pem"), "{listener}");
        assert!(!trusts(listener, "old.pem"), "{listener}");
    }
    std::fs::write(folder.path().join("cert.pem"), "broken").unwrap();
    hears(&gateway, "the configuration stays as it was: ");
    assert!(trusts(1, "ca.pem"));
}

#[test]
fn the_durability_of_a_topic_changes_at_once() {
    let topic = topic_name("reloaded");
    shared().create_topic(&topic, 1).unwrap();
    let journal = tempfile::tempdir().unwrap();
    let config = |durability: &str| {
        format!(
            "clusters: {{default: {{properties: {{bootstrap.servers: '{}'}}}}}}\nredis: {{listen: \
             []}}\nhttp: {{listen: '127.0.0.1:0'}}\ndurability: {{{topic}: {durability}}}\njournal: \
             {{dir: '{}'}}\n",
            shared().bootstrap_servers(),
            journal.path().display()
        )
    };
    let (_folder, path) = file("barnabas.yaml", &config("memory"));
    let gateway = serve(&path);
    let url = format!("http://{}/v1/topics/{topic}/records", address(&gateway, 0));
    let post = || {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "20", "--data", "x", &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(post().contains("written"));
    std::fs::write(&path, config("journal")).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    hears(&gateway, "configuration reloaded: durability");
    assert_eq!(post(), r#"{"result":"accepted"}"#);
    std::fs::write(&path, config("journal").replace("journal: {dir", "#")).unwrap();
    hears(&gateway, "the configuration stays as it was: ");
    hears(&gateway, "durability: journal needs journal.dir");
    assert_eq!(post(), r#"{"result":"accepted"}"#);
}

#[test]
fn the_environment_comes_from_files_too_and_stands_before_the_configuration() {
    let (folder, secret) = file("secret", "hunter2\n");
    let (_other, path) = file(
        "barnabas.yaml",
        "clusters: {default: {}}\nlog: {level: 'a=nonsense'}\n",
    );
    let env = folder.path().join(".env");
    std::fs::write(
        &env,
        format!(
            "# what differs here\nBARNABAS_LOG__LEVEL=\"info\"\nexport \
             BARNABAS_SHUTDOWN__DEADLINE=soon\nBARNABAS_REDIS__PASSWORD_FILE={}\n",
            secret.display()
        ),
    )
    .unwrap();
    let check = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(binary())
            .args(["serve", "--check"])
            .args(arguments)
            .env_remove("RUST_LOG")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    let (config, env) = (["--config", text(&path)], ["--env-file", text(&env)]);
    let both = [config, env].concat();
    assert!(check(&config, &[]).1.contains("log.level"));
    let (_, said) = check(&both, &[]);
    assert!(said.contains("shutdown.deadline: \"soon\""), "{said}");
    assert!(!said.contains("log.level"), "{said}");
    let own = ("BARNABAS_SHUTDOWN__DEADLINE", "5s");
    assert_eq!(check(&both, &[own]), (Some(0), String::new()));
    // Without any file.
    let servers = (
        "BARNABAS_CLUSTERS__DEFAULT__PROPERTIES__BOOTSTRAP_SERVERS",
        "127.0.0.1:1",
    );
    assert_eq!(check(&[], &[servers]), (Some(0), String::new()));
    let missing = ("BARNABAS_REDIS__PASSWORD_FILE", "/nonexistent");
    let (code, said) = check(&[], &[servers, missing]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("BARNABAS_REDIS__PASSWORD_FILE: cannot read /nonexistent"),
        "{said}"
    );
    let none = run(&["serve", "--check", "--env-file", "/nonexistent"]);
    assert!(stderr(&none).contains("/nonexistent"), "{}", stderr(&none));
}

#[test]
fn kafka_pixy_reloads_tokens_and_takes_variables() {
    let config = |token: &str, more: &str| {
        format!(
            "tcp_addr: nowhere\ngrpc_addr: ''\nauth: {{{token}: [{{actions: \
             [describe]}}]}}\nproxies: {{main: {{kafka: {{seed_peers: ['{}']}}}}}}\n{more}\n",
            shared().bootstrap_servers()
        )
    };
    let (folder, path) = file("pixy.yaml", &config("one", ""));
    let env = folder.path().join(".env");
    std::fs::write(&env, "KAFKA_PIXY_TCP_ADDR=127.0.0.1:0\n").unwrap();
    let gateway = Gateway::builder(binary())
        .args(["kafka-pixy", "-config", text(&path), "-envFile", text(&env)])
        .listeners(1)
        .spawn()
        .unwrap();
    let url = format!("http://{}/topics", address(&gateway, 0));
    assert_eq!(
        (&*status(&url, "one"), &*status(&url, "two")),
        ("200", "401")
    );
    std::fs::write(&path, config("two", "default_cluster: main")).unwrap();
    hears(&gateway, "configuration reloaded: auth");
    hears(&gateway, "needs a restart: default_cluster");
    assert_eq!(
        (&*status(&url, "one"), &*status(&url, "two")),
        ("401", "200")
    );
    std::fs::write(&path, "proxies: {}\n").unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    hears(
        &gateway,
        "the configuration stays as it was: Failed to load config",
    );
    assert_eq!(status(&url, "two"), "200");
}
