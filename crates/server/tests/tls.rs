//! TLS and tokens, as both kinds of configuration name them.

use crate::support::{address, binary, curl, file, grpcurl_folder, repository, run, stderr, text};
use barnabas_testkit::{Gateway, shared};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::process::Command;

/// Writes `ca.pem`, `cert.pem`, `key.pem` (for localhost) and, of another authority, `other.pem`.
pub(crate) fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate whose issuer has its own name for self-signed.
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().unwrap();
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    write("cert.pem", params.signed_by(&own, &issuer).unwrap().pem());
    write("key.pem", own.serialize_pem());
    write("other.pem", KeyPair::generate().unwrap().serialize_pem());
}

#[test]
fn check_reads_certificates_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    for section in ["http", "grpc"] {
        let check = |cert: &str, key: &str, client_ca: &str| {
            let (_folder, path) = file(
                "barnabas.yaml",
                &format!(
                    "clusters: {{default: {{}}}}\n{section}: {{listen: '127.0.0.1:0', tls: {{cert: \
                     {}, key: {}, client_ca: {}}}}}\n",
                    at(cert),
                    at(key),
                    at(client_ca)
                ),
            );
            run(&["serve", "--check", "--config", text(&path)])
        };
        let good = check("cert.pem", "key.pem", "ca.pem");
        assert!(good.status.success(), "{}", stderr(&good));
        for (cert, key, client_ca, named) in [
            ("missing.pem", "key.pem", "ca.pem", "missing.pem"),
            ("cert.pem", "cert.pem", "ca.pem", "cert.pem"),
            ("cert.pem", "other.pem", "ca.pem", "cert.pem"),
            ("cert.pem", "key.pem", "key.pem", "key.pem"),
        ] {
            let bad = check(cert, key, client_ca);
            assert_eq!(bad.status.code(), Some(1), "{cert} {key} {client_ca}");
            let said = stderr(&bad);
            assert!(said.contains(&format!("{section}.tls: ")), "{said}");
            assert!(said.contains(named), "{said}");
        }
    }
}

#[test]
fn kafka_pixy_refuses_half_of_tls() {
    for (tls, expected) in [
        ("{certificate_path: a}", "tls.key_path: missing"),
        ("{key_path: a}", "tls.certificate_path: missing"),
        ("{certificate_path: /no.pem, key_path: /no.pem}", "/no.pem"),
    ] {
        let (_folder, path) = file(
            "pixy.yaml",
            &format!("tcp_addr: 127.0.0.1:0\ngrpc_addr: ''\ntls: {tls}\nproxies: {{a: {{}}}}\n"),
        );
        let output = run(&["kafka-pixy", "-config", text(&path)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

/// Both listeners want a certificate of the authority, and a token.
fn is_closed(gateway: &Gateway, folder: &Path) {
    let at = |name: &str| text(&folder.join(name)).to_owned();
    let port = |index: usize| {
        address(gateway, index)
            .rsplit_once(':')
            .unwrap()
            .1
            .to_owned()
    };
    let (http, grpc) = (port(0), port(1));
    let url = format!("https://localhost:{http}/topics");
    let (ca, cert, key) = (at("ca.pem"), at("cert.pem"), at("key.pem"));
    let own = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let with = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        curl(&[&own[..], &["-H", &header, &url]].concat()).0
    };
    assert_eq!(with("s3cret"), 200);
    assert_eq!(with("nonsense"), 401);
    assert_eq!(curl(&[&own[..], &[&url]].concat()).0, 401);
    let curl = |arguments: &[&str]| {
        let curl = Command::new("curl").arg("-sS").args(arguments).output();
        curl.unwrap().status.success()
    };
    assert!(!curl(&["--cacert", &ca, &url]), "without a certificate");
    assert!(!curl(&[&format!("http://localhost:{http}/topics")]));

    let grpcurl = |seconds: &str, arguments: &[&str]| {
        let output = Command::new(grpcurl_folder().join("grpcurl"))
            .args([
                "-import-path",
                "crates/grpc/proto",
                "-proto",
                "kafkapixy.proto",
            ])
            .args(["-connect-timeout", seconds, "-cacert", &ca])
            .args(arguments)
            .args([&format!("localhost:{grpc}"), "KafkaPixy/ListTopics"])
            .current_dir(repository())
            .output()
            .unwrap();
        match output.status.success() {
            true => String::new(),
            false => stderr(&output),
        }
    };
    let own = ["-cert", &cert, "-key", &key];
    let token = ["-H", "Authorization: Bearer s3cret"];
    assert_eq!(grpcurl("30", &[&own[..], &token].concat()), "");
    assert!(grpcurl("30", &own).contains("Unauthenticated"));
    // It tries until its time is over.
    assert_ne!(grpcurl("5", &token), "", "without a certificate");
}

#[test]
fn serve_wants_certificates_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let tls = format!(
        "{{cert: {}, key: {}, client_ca: {}}}",
        at("cert.pem"),
        at("key.pem"),
        at("ca.pem")
    );
    let (_own, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters: {{main: {{properties: {{bootstrap.servers: '{}'}}}}}}\nredis: {{listen: \
             []}}\nhttp: {{listen: 'localhost:0', tls: {tls}}}\ngrpc: {{listen: 'localhost:0', tls: \
             {tls}}}\naccess: {{tokens: {{s3cret: [{{actions: [describe]}}]}}}}\n",
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .listeners(2)
        .spawn()
        .unwrap();
    is_closed(&gateway, folder.path());
}

#[test]
fn kafka_pixy_wants_certificates_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (_own, path) = file(
        "pixy.yaml",
        &format!(
            "tcp_addr: localhost:0\ngrpc_addr: localhost:0\ntls: {{certificate_path: {}, key_path: \
             {}, client_ca_path: {}}}\nauth: {{s3cret: [{{actions: [describe]}}]}}\nproxies: \
             {{main: {{kafka: {{seed_peers: ['{}']}}}}}}\n",
            at("cert.pem"),
            at("key.pem"),
            at("ca.pem"),
            shared().bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kafka-pixy", "-config", text(&path)])
        .listeners(2)
        .spawn()
        .unwrap();
    is_closed(&gateway, folder.path());
}
