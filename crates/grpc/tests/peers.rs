//! Acknowledgements handed to another replica.

use crate::support::{Gateway, committed, connect, fill, message, new_topic, next, no_ack};
use barnabas_engine::{Access, AckError, Action, Grant, PeerAcks, Peers as _};
use barnabas_grpc::PeerClient;
use barnabas_grpc::v1::gateway_client::GatewayClient;
use barnabas_grpc::v1::{AckRequest, Position};
use barnabas_testkit::topic_name;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;
use tonic::transport::Endpoint;

fn acks<'a>(group: &'a str, topic: &'a str, positions: &'a [(i32, i64)]) -> PeerAcks<'a> {
    PeerAcks {
        cluster: "main",
        group,
        topic,
        positions,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_position_has_its_result() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("peers"), new_topic("peers", 1));
    fill(&topic, &["a", "b"]);
    for offset in [0, 1] {
        assert_eq!(next(&mut client, &no_ack(&group, &topic)).await.0, offset);
    }
    let peers = PeerClient::new(None, None).unwrap();
    let address = gateway.address().to_string();
    let positions = [(0, 1), (0, 1), (7, 0), (0, 99), (0, 0)];
    let results = peers.ack(&address, acks(&group, &topic, &positions)).await;
    let expected = vec![
        Ok(true),
        Ok(false),
        Err(AckError::not_owned(&group, &topic, 7)),
        Err(AckError::BadOffset(99)),
        Ok(true),
    ];
    assert_eq!(results, Ok(expected));
    committed(&group, &topic, 2).await;
    // More than fit into one call; the last ones are of another partition.
    let mut many = vec![(0, 0); 40_000];
    many.push((3, 0));
    let results = peers.ack(&address, acks(&group, &topic, &many)).await;
    let results = results.unwrap();
    assert_eq!(results.len(), 40_001);
    assert!(results[..40_000].iter().all(|result| *result == Ok(false)));
    assert_eq!(results[40_000], Err(AckError::not_owned(&group, &topic, 3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_acknowledge_many_at_once() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("many"), new_topic("many", 1));
    fill(&topic, &["a", "b"]);
    for offset in [0, 1] {
        assert_eq!(next(&mut client, &no_ack(&group, &topic)).await.0, offset);
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.address())).unwrap();
    let mut client = GatewayClient::new(endpoint.connect().await.unwrap());
    let positions = [(0, 0), (0, 1), (0, 2), (0, -1)];
    let response = client
        .ack(AckRequest {
            group: group.clone(),
            topic: topic.clone(),
            positions: positions
                .map(|(partition, offset)| Position { partition, offset })
                .to_vec(),
            ..AckRequest::default()
        })
        .await;
    let results = response.unwrap().into_inner().results;
    let texts: Vec<_> = results
        .iter()
        .map(|result| result.error.as_ref().map_or("", |error| &*error.text))
        .collect();
    assert_eq!(texts, ["", "", "bad offset: 2", "bad offset: -1"]);
    committed(&group, &topic, 2).await;
}

/// An address where nobody listens, and one that never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replica_is_told_soon() {
    let peers = PeerClient::new(None, None).unwrap();
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    for _ in 0..3 {
        // Not "no answer in time".
        let refused = peers.ack(&address, acks("g", "t", &[(0, 0)])).await;
        assert!(refused.unwrap_err().contains("refused"));
    }

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let refused = peers.ack(&address, acks("g", "t", &[(0, 0)])).await;
    assert_eq!(refused, Err("no answer in time".to_owned()));
    for nonsense in ["", "nowhere", "a b:1", "host.invalid:80"] {
        let refused = peers.ack(nonsense, acks("g", "t", &[(0, 0)])).await;
        assert!(refused.is_err(), "{nonsense}");
    }
}

/// The connection is kept, and made again when the replica has come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_and_made_again() {
    // One connection may be there at a time: more would wait for ever.
    let gateway = Gateway::with(|options| options.server.max_connections = 1);
    let address = gateway.address().to_string();
    let peers = PeerClient::new(None, None).unwrap();
    for _ in 0..20 {
        let results = peers.ack(&address, acks("g", "t", &[(0, 0)])).await;
        assert_eq!(results, Ok(vec![Err(AckError::not_owned("g", "t", 0))]));
    }
    gateway.server.stop().await;
    let refused = peers.ack(&address, acks("g", "t", &[(0, 0)])).await;
    assert!(refused.is_err());
    let again = TcpListener::bind(&address).unwrap();
    let server = barnabas_grpc::Server::start(
        again,
        Arc::clone(&gateway.proxies),
        barnabas_grpc::Options::default(),
    );
    let started = Instant::now();
    while peers
        .ack(&address, acks("g", "t", &[(0, 0)]))
        .await
        .is_err()
    {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_trust_each_other_by_certificate_and_token() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        certified.signing_key.serialize_der(),
    ));
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let distrusting = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let grant = Grant {
        clusters: vec!["*".to_owned()],
        topics: vec!["*".to_owned()],
        actions: vec![Action::Consume],
    };
    let gateway = Gateway::with(|options| {
        options.server.tls = Some(Arc::new(server));
        options.server.access = Arc::new(Access::only([("replica".to_owned(), vec![grant])]));
    });
    let address = gateway.address().to_string();
    let ask = async |token: Option<&str>, tls: Option<&rustls::ClientConfig>| {
        let peers = PeerClient::new(token, tls.cloned()).unwrap();
        peers.ack(&address, acks("g", "t", &[(0, 0)])).await
    };
    assert_eq!(
        ask(Some("replica"), Some(&trusting)).await,
        Ok(vec![Err(AckError::not_owned("g", "t", 0))])
    );
    assert_eq!(
        ask(None, Some(&trusting)).await,
        Err("Unauthenticated: a valid bearer token is required".to_owned())
    );
    assert!(ask(Some("replica"), Some(&distrusting)).await.is_err());
    assert!(ask(Some("replica"), None).await.is_err());
    let mut plain = connect(gateway.address()).await.unwrap();
    assert!(plain.produce(message("t", "x")).await.is_err());
    assert!(PeerClient::new(Some("a\nb"), None).is_err());
}
