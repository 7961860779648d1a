//! The listener, its connections, their end.
//!
//! On hyper itself, without tonic's own server: that takes only bodies of
//! plain `Bytes`, which cannot tell when they have been written (`reply`).

use crate::proto::kafka_pixy_server::KafkaPixyServer;
use crate::reply::{self, with_receipt};
use crate::request;
use crate::service::Service;
use barnabas_engine::Proxies;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tonic::Status;
use tonic::codegen::Service as _;

/// How long requests that run may take when the server stops.
const REQUESTS_LIMIT: Duration = Duration::from_secs(15);

/// A client is asked for a sign of life when it has been silent for so long,
/// so that a host that vanished does not hold messages in its window.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The front end could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener cannot be used.
    #[error("gRPC listener: {0}")]
    Listener(#[from] std::io::Error),
}

/// A running gRPC front end.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Begins to listen. Must be called inside a Tokio runtime, which carries
    /// the connections.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn start(listener: TcpListener, proxies: Arc<Proxies>) -> Result<Self, Error> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let pixy = KafkaPixyServer::new(Service::new(proxies))
            // A second message would come without having been looked at.
            .max_decoding_message_size(request::MAX_MESSAGE);
        let (stop, stopping) = watch::channel(false);
        tracing::info!(component = "grpc", "Listening on {address}");
        Ok(Self {
            address,
            stop,
            accepting: tokio::spawn(accept(listener, pixy, stopping)),
        })
    }

    /// The addresses it listens on, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        std::slice::from_ref(&self.address)
    }

    /// Closes the listener, tells the clients to go elsewhere and finishes
    /// the requests that run; after 15 seconds they are cut off. For the
    /// order of the contract's shutdown, [`Proxies::refuse_work`] and
    /// [`Dispatcher::stop`](barnabas_engine::Dispatcher::stop) come first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.accepting.await;
    }
}

type Pixy = KafkaPixyServer<Service>;

async fn accept(listener: tokio::net::TcpListener, pixy: Pixy, stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = told(&mut stop) => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                connections.spawn(serve(socket, peer, pixy.clone(), stopping.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: those that are there go
                // on, and some will close.
                tracing::warn!(component = "grpc", "accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(REQUESTS_LIMIT, ended).await.is_err() {
        tracing::warn!(
            component = "grpc",
            "{} connections cut off",
            connections.len()
        );
    }
}

/// Resolves when the server stops.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error is the end of the server, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// One client.
async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    pixy: Pixy,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(component = "grpc", "{peer}: {error}");
    }
    let service = service_fn(move |request| {
        let pixy = pixy.clone();
        async move { Ok::<_, Infallible>(answer(pixy, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        // As in the old system. One channel of a client may carry all of its
        // polls, each of which is a stream that waits.
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(component = "grpc", "{peer}: {error}");
    }
}

/// One request. It is dropped, wherever it waits, when its client cancels it.
async fn answer(mut pixy: Pixy, request: Request<Incoming>) -> Response<reply::Body> {
    let deadline = request::deadline(request.headers());
    let answered = async {
        let (head, body) = request.into_parts();
        match request::begin(body).await {
            Ok(body) => match pixy.call(Request::from_parts(head, body)).await {
                Ok(reply) => reply,
                Err(never) => match never {},
            },
            Err(status) => status.into_http(),
        }
    };
    let reply = match deadline {
        None => answered.await,
        Some(limit) => tokio::time::timeout(limit, answered)
            .await
            .unwrap_or_else(|_| Status::deadline_exceeded("context deadline exceeded").into_http()),
    };
    with_receipt(reply)
}
