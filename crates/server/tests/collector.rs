//! A collector: OTLP's own services, from its own definition.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

/// What has come.
#[derive(Default)]
struct Taken {
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
    /// Of each request.
    keys: Mutex<Vec<Option<String>>>,
}

/// Runs as long as its test's runtime.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    taken: Arc<Taken>,
}

struct Service(Arc<Taken>);

impl Service {
    fn note<T>(&self, request: &tonic::Request<T>) {
        let key = request.metadata().get("api-key");
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        self.0.keys.lock().push(key);
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.note(&request);
        self.0.traces.lock().push(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        self.note(&request);
        self.0.metrics.lock().push(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

impl Collector {
    /// Over gRPC.
    pub(crate) async fn grpc() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Taken>::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Service(Arc::clone(&taken))))
            .add_service(MetricsServiceServer::new(Service(Arc::clone(&taken))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Self { address, taken }
    }

    /// Over HTTP/1.1.
    pub(crate) async fn http() -> Self {
        Self::over_http(None).await
    }

    /// Over HTTP/1.1 and TLS.
    pub(crate) async fn https(tls: rustls::ServerConfig) -> Self {
        Self::over_http(Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn over_http(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Taken>::default();
        let all = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let taken = Arc::clone(&all);
                let tls = tls.clone();
                let service = service_fn(move |request| take(Arc::clone(&taken), request));
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(async move {
                    // Whoever does not trust it goes away.
                    match tls {
                        None => {
                            let socket = TokioIo::new(socket);
                            drop(builder.serve_connection(socket, service).await);
                        }
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                let socket = TokioIo::new(socket);
                                drop(builder.serve_connection(socket, service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, taken }
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.taken.traces.lock().clone();
        let resources = requests.into_iter().flat_map(|own| own.resource_spans);
        let scopes = resources.flat_map(|own| own.scope_spans);
        scopes.flat_map(|own| own.spans).collect()
    }

    /// What the sender of the last spans is.
    pub(crate) fn resource(&self, name: &str) -> Option<String> {
        let requests = self.taken.traces.lock();
        let resource = requests.last()?.resource_spans[0].resource.as_ref()?;
        attribute(&resource.attributes, name)
    }

    /// The headers `api-key` of all requests.
    pub(crate) fn keys(&self) -> Vec<Option<String>> {
        self.taken.keys.lock().clone()
    }

    /// A metric as it came last.
    pub(crate) fn metric(&self, name: &str) -> Option<Metric> {
        let requests = self.taken.metrics.lock().clone();
        let resources = requests
            .into_iter()
            .rev()
            .flat_map(|own| own.resource_metrics);
        let scopes = resources.flat_map(|own| own.scope_metrics);
        let mut metrics = scopes.flat_map(|own| own.metrics);
        metrics.find(|metric| metric.name == name)
    }

    /// A series of a counter as it came last.
    pub(crate) fn counter(&self, name: &str, label: (&str, &str)) -> Option<f64> {
        let Some(metric::Data::Sum(sum)) = self.metric(name)?.data else {
            panic!("{name} is no counter");
        };
        assert!(sum.is_monotonic);
        let mut points = sum.data_points.iter();
        let point = points
            .find(|point| attribute(&point.attributes, label.0).as_deref() == Some(label.1))?;
        match point.value {
            Some(number_data_point::Value::AsDouble(value)) => Some(value),
            other => panic!("{other:?}"),
        }
    }
}

/// OTLP over HTTP, as its specification has it.
async fn take(
    taken: Arc<Taken>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let key = head.headers.get("api-key");
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    taken.keys.lock().push(key);
    let is_protobuf = head.headers["content-type"] == "application/x-protobuf";
    let body = body.collect().await.unwrap().to_bytes();
    let is_taken = is_protobuf
        && head.method == "POST"
        && match head.uri.path() {
            "/v1/traces" => {
                let message = ExportTraceServiceRequest::decode(body).unwrap();
                taken.traces.lock().push(message);
                true
            }
            "/v1/metrics" => {
                let message = ExportMetricsServiceRequest::decode(body).unwrap();
                taken.metrics.lock().push(message);
                true
            }
            _ => false,
        };
    let mut response = Response::new(Full::default());
    if !is_taken {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// An attribute as text.
pub(crate) fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|own| own.key == name);
    Some(match found.next()?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}
