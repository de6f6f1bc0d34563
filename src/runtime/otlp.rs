//! Sends traces to an OpenTelemetry collector: OTLP over HTTP, in protobuf. A collector that is away costs the spans, and
//! nothing else: what waits is bounded, and nobody waits for it.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Uri, body::Bytes, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use prost::Message;
use tokio::runtime::Handle;

use crate::trace;

/// How long a collector may take for a batch, and how long the end of the process waits for the last one.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer of a collector that is read: it has a number and a sentence.
const MAX_ANSWER: usize = 64 * 1024;

/// Where a collector takes traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector(Uri);

impl FromStr for Collector {
    type Err = String;

    /// Reads the address of a collector: that of all its signals, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = format!("{}/v1/traces", text.trim_end_matches('/'));
        let uri = address.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
        uri.filter(|uri| uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none())
            .map(Self)
            .ok_or_else(|| "not an address such as http://collector:4318 (OTLP over HTTP, without TLS)".into())
    }
}

/// Traces, while they are on.
pub struct Tracing(SdkTracerProvider);

impl Tracing {
    /// Has traces sent to this collector from now on, by tasks of the runtime that this is called in. `pod`: where this is.
    /// What is sampled and how much may wait is said by the environment, as with every program that has OpenTelemetry:
    /// `OTEL_TRACES_SAMPLER`, `OTEL_BSP_MAX_QUEUE_SIZE`.
    #[must_use]
    pub fn begin(collector: Collector, namespace: &str, pod: &str) -> Self {
        let resource = Resource::builder()
            .with_attributes([
                KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("k8s.namespace.name", namespace.to_owned()),
                KeyValue::new("k8s.pod.name", pod.to_owned()),
            ])
            .build();
        let exporter = Exporter {
            client: Client::builder(TokioExecutor::new()).build_http(),
            collector,
            runtime: Handle::current(),
            resource: Arc::new(ResourceAttributesWithSchema::from(&resource)),
            lost: AtomicU64::default(),
        };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        trace::begin(provider.tracer(env!("CARGO_PKG_NAME")));
        Self(provider)
    }

    /// Sends what waits, and ends. Takes no longer than a collector may take for a batch.
    pub async fn end(self) {
        // The thread that sends is waited for, and the runtime has to go on meanwhile.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(PATIENCE)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces are lost"),
            Err(error) => tracing::warn!(%error, "the last traces are lost"),
        }
    }
}

/// Sends batches of spans.
#[derive(Debug)]
struct Exporter {
    client: Client<HttpConnector, Full<Bytes>>,
    collector: Collector,
    /// The SDK exports on a thread of its own, which has none.
    runtime: Handle,
    resource: Arc<ResourceAttributesWithSchema>,
    /// How many spans were lost since a batch was taken. 0: the last one was.
    lost: AtomicU64,
}

impl SpanExporter for Exporter {
    /// Never fails: the SDK would log each time, for as long as the collector is away.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans: spans }.encode_to_vec();
        let sending = send(self.client.clone(), self.collector.clone(), body);
        let sent = self.runtime.spawn(async { tokio::time::timeout(PATIENCE, sending).await }).await;
        let sent = match sent {
            Ok(Ok(sent)) => sent,
            Ok(Err(_)) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            Err(error) => Err(error.to_string()),
        };
        self.note(count, sent);
        Ok(())
    }
}

impl Exporter {
    /// Logs when batches begin to be lost, and when they no longer are.
    fn note(&self, count: u64, sent: Result<(), String>) {
        match sent {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(lost, "the collector takes traces again");
                }
            }
            Err(error) => {
                if self.lost.fetch_add(count, Ordering::Relaxed) == 0 {
                    tracing::warn!(error, "the collector takes no traces: they are lost until it does");
                }
            }
        }
    }
}

/// Sends a batch. What is wrong, if it was not taken as a whole.
async fn send(
    client: Client<HttpConnector, Full<Bytes>>,
    Collector(uri): Collector,
    body: Vec<u8>,
) -> Result<(), String> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = client.request(request).await.map_err(|error| whole(&error))?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    let answer = ExportTraceServiceResponse::decode(answer.to_bytes()).map_err(|error| error.to_string())?;
    match answer.partial_success {
        Some(partial) if partial.rejected_spans > 0 => Err(format!("it rejects spans: {}", partial.error_message)),
        _ => Ok(()),
    }
}

/// An error with its causes: hyper's say what, but not why.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Response, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_of_collectors_are_read() {
        for address in ["http://collector:4318", "http://collector:4318/"] {
            let Collector(uri) = address.parse().unwrap();
            assert_eq!(uri, "http://collector:4318/v1/traces");
        }
        assert_eq!("http://[::1]:4318/otlp".parse::<Collector>().unwrap().0.path(), "/otlp/v1/traces");
        for address in ["", "collector:4318", "https://collector:4318", "http://", "http://collector?x=1", "http://a b"]
        {
            assert!(address.parse::<Collector>().is_err(), "{address}");
        }
    }

    /// What a collector that answers this makes of a batch.
    async fn sent(status: u16, answer: ExportTraceServiceResponse) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let served = async {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(async |_| {
                let body = Full::new(Bytes::from(answer.encode_to_vec()));
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            });
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        };
        tokio::select! {
            sent = send(Client::builder(TokioExecutor::new()).build_http(), collector, Vec::new()) => sent,
            ended = served => panic!("{ended:?}"),
        }
    }

    #[tokio::test]
    async fn only_a_batch_that_is_taken_as_a_whole_is_sent() {
        let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
        let partial = ExportTraceServiceResponse { partial_success: Some(partial) };
        assert_eq!(sent(200, ExportTraceServiceResponse::default()).await, Ok(()));
        assert_eq!(sent(200, partial).await, Err("it rejects spans: too old".into()));
        assert_eq!(
            sent(503, ExportTraceServiceResponse::default()).await,
            Err("it answers 503 Service Unavailable".into())
        );
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_the_spans_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector: Collector = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let exporter = Exporter {
            client: Client::builder(TokioExecutor::new()).build_http(),
            collector,
            runtime: Handle::current(),
            resource: Arc::default(),
            lost: AtomicU64::default(),
        };
        let refused = send(exporter.client.clone(), exporter.collector.clone(), Vec::new()).await;
        assert!(refused.as_ref().is_err_and(|error| error.contains("refused")), "{refused:?}");
        exporter.note(3, refused.clone());
        exporter.note(2, refused);
        assert_eq!(exporter.lost.load(Ordering::Relaxed), 5);
        exporter.note(1, Ok(()));
        assert_eq!(exporter.lost.load(Ordering::Relaxed), 0);
        assert!(exporter.export(Vec::new()).await.is_ok());
    }
}
