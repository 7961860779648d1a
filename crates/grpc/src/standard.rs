//! The services that every gRPC server has under the same names: health and
//! reflection. Neither asks for a token: what they tell is in the project's
//! repository, or whether the process serves.

use crate::request::Checked;
use barnabas_engine::Proxies;
use http::{Request, Response};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;

/// The proto files, compiled; `tests/generated.rs` does so.
const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// What health is told of; the empty name is the whole process.
const SERVICES: [&str; 3] = ["", "KafkaPixy", "barnabas.v1.Gateway"];

/// A service whose type has no name.
type Unnamed = Arc<
    dyn Fn(Request<Checked<Incoming>>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>
        + Send
        + Sync,
>;

fn unnamed<S>(service: S) -> Unnamed
where
    S: Service<Request<Checked<Incoming>>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    Arc::new(move |request| {
        let answer = service.clone().call(request);
        Box::pin(async move {
            match answer.await {
                Ok(reply) => reply,
                Err(never) => match never {},
            }
        })
    })
}

/// Health and reflection. Clones are the same.
#[derive(Clone)]
pub(crate) struct Standard {
    health: Unnamed,
    /// As v1 and v1alpha. Missing only if the committed descriptors were
    /// broken.
    reflection: Option<(Unnamed, Unnamed)>,
}

impl Standard {
    /// Healthy until `proxies` refuse work. Must be called inside a Tokio
    /// runtime.
    pub(crate) fn new(proxies: Arc<Proxies>) -> Self {
        let reporter = HealthReporter::new();
        let health = HealthService::from_health_reporter(reporter.clone());
        tokio::spawn(async move {
            for status in [ServingStatus::Serving, ServingStatus::NotServing] {
                for service in SERVICES {
                    reporter.set_service_status(service, status).await;
                }
                proxies.stopping().await;
            }
        });
        let builder = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let reflection = match (builder().build_v1(), builder().build_v1alpha()) {
            (Ok(new), Ok(old)) => Some((unnamed(new), unnamed(old))),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(component = "grpc", "No reflection: {error}");
                None
            }
        };
        Self {
            health: unnamed(HealthServer::new(health)),
            reflection,
        }
    }

    /// Whether a path is one of theirs.
    pub(crate) fn serves(path: &str) -> bool {
        path.starts_with("/grpc.")
    }

    /// One request.
    pub(crate) async fn call(&self, request: Request<Checked<Incoming>>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.split('/').nth(1).unwrap_or_default();
        match (service, &self.reflection) {
            ("grpc.health.v1.Health", _) => (self.health)(request).await,
            ("grpc.reflection.v1.ServerReflection", Some((new, _))) => new(request).await,
            ("grpc.reflection.v1alpha.ServerReflection", Some((_, old))) => old(request).await,
            _ => Status::unimplemented("").into_http(),
        }
    }
}
