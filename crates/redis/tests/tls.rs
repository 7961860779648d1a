//! Section 11, row 16: the same port speaks TLS only.

use crate::support::{Client, Gateway, Value, unique};
use barnabas_redis::{Config, Error, Server, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An authority, and what it has signed, as PEM.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A certificate for `localhost` and its key.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A gateway with a certificate of the first authority that asks clients
/// for one of the second, if any.
fn start(folder: &Path, server: &Authority, clients: Option<&Authority>) -> Gateway {
    let (certificate, key) = server.sign();
    Gateway::start(Config {
        tls: Some(TlsFiles {
            cert: write(folder, "cert.pem", &certificate),
            key: write(folder, "key.pem", &key),
            client_ca: clients.map(|ca| write(folder, "ca.pem", &ca.certificate)),
        }),
        ..Config::default()
    })
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(gateway: &Gateway, trusted: &Authority, own: Option<(String, String)>) -> Client<Tls> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(gateway.address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    Client::with(StreamOwned::new(session, socket))
}

#[test]
fn commands_work_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let gateway = start(folder.path(), &authority, None);
    let mut client = connect(&gateway, &authority, None);
    client.ask("PING", "+PONG\r\n");
    let name = unique("g:n");
    client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
    // Larger than a TLS record, and than a read.
    let large = "x".repeat(300_000);
    client.ask_words(&["ECHO", &large], &format!("$300000\r\n{large}\r\n"));
    client.send("PING\r\n".repeat(30_000));
    client.expect(&"+PONG\r\n".repeat(30_000));
    client.ask("RPUSHX topics:tls x", ":1\r\n");
    client.ask("DUMP 10000", ":0\r\n");
    client.ask(&format!("BLPOP topics:tls:{} 20", ""), "*8\r\n");
    for _ in 0..8 {
        client.value();
    }
    client.ask("BLPOP topics:tls 0.05", "*-1\r\n");
    // Another connection sees it wait, and ends it.
    let mut other = connect(&gateway, &authority, None);
    client.send_words(&["BLPOP", "topics:tls", "0"]);
    crate::support::eventually("the client waits", || {
        other
            .call("INFO clients")
            .text()
            .contains("blocked_clients:1")
    });
    // Its end is seen behind more input than the sockets hold.
    client.send("PING\r\n".repeat(2_000_000));
    drop(client);
    crate::support::eventually("the name is free", || {
        other.call(&format!("CLIENT SETNAME {name}")) == Value::Bulk("OK".to_owned())
    });
    // A watcher over TLS.
    let mut watcher = connect(&gateway, &authority, None);
    watcher.ask("MONITOR", "+OK\r\n");
    other.ask("PING", "+PONG\r\n");
    assert!(watcher.value().text().ends_with("\"PING\""));
    watcher.ask("PING", "+PONG\r\n");
    other.ask("QUIT", "$2\r\nOK\r\n");
    other.expect_end();
}

#[test]
fn an_idle_connection_over_tls_can_be_killed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let gateway = start(folder.path(), &authority, None);
    let mut idle = connect(&gateway, &authority, None);
    let id = idle.call("CLIENT ID").integer();
    let mut other = connect(&gateway, &authority, None);
    other.ask(&format!("CLIENT KILL ID {id}"), ":1\r\n");
    idle.expect_end();
    gateway.drain();
    other.expect_end();
}

#[test]
fn plain_text_is_not_understood() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let gateway = start(folder.path(), &authority, None);
    let mut plain = TcpStream::connect(gateway.address).unwrap();
    plain
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"));
    connect(&gateway, &authority, None).ask("PING", "+PONG\r\n");
}

#[test]
fn clients_show_a_certificate_of_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (server, clients) = (Authority::new(), Authority::new());
    let gateway = start(folder.path(), &server, Some(&clients));
    let mut known = connect(&gateway, &server, Some(clients.sign()));
    known.ask("PING", "+PONG\r\n");
    for certificate in [None, Some(server.sign())] {
        let mut unknown = connect(&gateway, &server, certificate);
        let _ = unknown.stream.write_all(b"PING\r\n");
        let mut answer = [0; 16];
        assert!(!matches!(unknown.stream.read(&mut answer), Ok(1..)));
    }
    known.ask("PING", "+PONG\r\n");
}

#[test]
fn unusable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.sign();
    let cert = write(folder.path(), "cert.pem", &certificate);
    let key = write(folder.path(), "key.pem", &key);
    let empty = write(folder.path(), "empty.pem", "");
    let missing = folder.path().join("missing.pem");
    let files = |cert: &Path, key: &Path, ca: Option<&Path>| TlsFiles {
        cert: cert.to_owned(),
        key: key.to_owned(),
        client_ca: ca.map(Path::to_owned),
    };
    for (tls, culprit) in [
        (files(&missing, &key, None), &missing),
        (files(&cert, &missing, None), &missing),
        (files(&cert, &empty, None), &empty),
        (files(&empty, &key, None), &empty),
        (files(&cert, &key, Some(&missing)), &missing),
        (files(&cert, &key, Some(&empty)), &empty),
    ] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let cluster = barnabas_engine::Cluster::open(Default::default()).unwrap();
        let config = Config {
            tls: Some(tls),
            ..Config::default()
        };
        match Server::start(Vec::new(), config, cluster, None) {
            Err(Error::Tls { path, .. }) => assert_eq!(path, *culprit),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{} was accepted", culprit.display()),
        }
    }
}
