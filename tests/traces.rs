//! Traces, as a collector gets them: of requests and of passes, with nothing secret in them. A program of its own, because
//! traces can't be turned off again.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../benches/endpoint/requests.rs"]
#[allow(dead_code)]
mod requests;
#[path = "../benches/endpoint/servers.rs"]
#[allow(dead_code)]
mod servers;
mod support;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cmk_operator::runtime::otlp::Tracing;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::ResourceExt;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use requests::{ACCESS_KEY_ID, Operation, SECRET_ACCESS_KEY};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{component::Component, eventually, world};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const PLAINTEXT: &str = "a plaintext that nobody may see?>";
const VENDOR: &str = "what-the-caller-has-in-tracestate";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    /// Starts one, and answers its address.
    async fn start() -> (Self, String) {
        let (collector, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = format!("http://{}", listener.local_addr().unwrap());
        let takes = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let takes = takes.clone();
                let service = service_fn(move |request| {
                    let takes = takes.clone();
                    async move { Ok::<_, Infallible>(takes.take(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        (collector, address)
    }

    async fn take(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!(request.uri().path(), "/v1/traces");
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.0.lock().unwrap().push(body);
        Response::default()
    }

    /// The attributes of the one process that sent something, and its spans.
    fn spans(&self) -> (BTreeMap<String, String>, Vec<Span>) {
        let (mut resource, mut spans) = (BTreeMap::new(), Vec::new());
        for body in &*self.0.lock().unwrap() {
            for of_process in ExportTraceServiceRequest::decode(body.clone()).unwrap().resource_spans {
                resource = attributes(&of_process.resource.unwrap().attributes);
                spans.extend(of_process.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        (resource, spans)
    }

    fn assert_without(&self, secrets: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let sent = self.0.lock().unwrap().concat();
        assert!(!sent.is_empty());
        for secret in secrets {
            let secret = secret.as_ref();
            let is_in = sent.windows(secret.len()).any(|bytes| bytes == secret);
            assert!(!is_in, "{} was sent", String::from_utf8_lossy(secret));
        }
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a request as the last one of its connection, with more headers.
async fn send(address: &str, request: &[u8], headers: &str) -> String {
    let text = std::str::from_utf8(request).unwrap();
    let request = text.replacen("\r\n", &format!("\r\nConnection: close\r\n{headers}"), 1);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_part_of_its_callers_trace_and_nothing_in_it_is_sent() {
    let (collector, address) = Collector::start().await;
    let (endpoint, key_id) = servers::over_a_double().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint_address = listener.local_addr().unwrap().to_string();
    tokio::spawn(servers::listen_for(endpoint, listener, None));
    let body = format!(r#"{{"KeyId":"{key_id}","Plaintext":"{}"}}"#, STANDARD.encode(PLAINTEXT));
    let encrypt = Operation::Encrypt(0).request("localhost", "/", &body);
    let text = String::from_utf8(encrypt.clone()).unwrap();
    let unknown = text.replace("TrentService.", "TrentService.Invented").into_bytes();
    let traced = format!("traceparent: 00-{TRACE_ID}-{PARENT_ID}-01\r\ntracestate: a={VENDOR}\r\n");
    let not_traced = traced.replace("-01\r", "-00\r");

    // Before they are on, there are none.
    assert!(send(&endpoint_address, &encrypt, &traced).await.starts_with("HTTP/1.1 200"));
    let tracing = Tracing::begin(address.parse().unwrap(), "cmk-system", "cmk-operator-0");
    let answer = send(&endpoint_address, &encrypt, &traced).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for (request, headers) in [(&encrypt, &*not_traced), (&unknown, ""), (&encrypt, "traceparent: 00-x\r\n")] {
        send(&endpoint_address, request, headers).await;
    }
    tracing.end().await;

    let (resource, spans) = collector.spans();
    assert_eq!(resource["service.name"], "cmk-operator");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&*resource["k8s.namespace.name"], &*resource["k8s.pod.name"]), ("cmk-system", "cmk-operator-0"));
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["aws Encrypt", "request", "aws Encrypt"]);

    let (first, attributes) = (&spans[0], spans.iter().map(|span| attributes(&span.attributes)).collect::<Vec<_>>());
    assert_eq!((hex(&first.trace_id), hex(&first.parent_span_id)), (TRACE_ID.into(), PARENT_ID.into()));
    assert_eq!(first.kind(), SpanKind::Server);
    assert!(first.end_time_unix_nano >= first.start_time_unix_nano);
    let said = |name: &str| attributes.iter().map(|of_one| of_one.get(name).map(String::as_str)).collect::<Vec<_>>();
    assert_eq!(said("cmk.operation"), [Some("Encrypt"), Some("-"), Some("Encrypt")]);
    assert_eq!(said("cmk.dialect"), [Some("aws"); 3]);
    assert_eq!(said("cmk.result"), [Some("ok"), Some("SignatureMismatch"), Some("ok")]);
    assert_eq!(said("http.response.status_code"), [Some("200"), Some("400"), Some("200")]);
    assert_eq!(said("cmk.key_id"), [Some(&*key_id), None, Some(&*key_id)]);
    assert!(answer.contains(&attributes[0]["cmk.request_id"]), "{attributes:?} {answer}");
    for span in &spans[1..] {
        assert!(span.parent_span_id.is_empty() && hex(&span.trace_id) != TRACE_ID, "{span:?}");
    }
    let blob = answer.split('"').find(|text| text.len() > 60).unwrap();
    let base64 = STANDARD.encode(PLAINTEXT);
    collector.assert_without([
        PLAINTEXT,
        &base64,
        SECRET_ACCESS_KEY,
        ACCESS_KEY_ID,
        blob,
        VENDOR,
        "Invented",
        "Signature=",
    ]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_and_store_calls_are_sent_at_the_latest_at_the_end() {
    let (collector, address) = Collector::start().await;
    let world = world::World::new("traces").await;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&world.namespace);
    std::fs::create_dir_all(&directory).unwrap();
    let arguments = [
        "run",
        "--namespace",
        &world.operator_namespace,
        "--watch-namespaces",
        &world.namespace,
        "--otlp-endpoint",
        &address,
    ];
    let mut process = Component::start_with(
        "cmk-operator",
        Path::new(env!("CARGO_BIN_EXE_cmk-operator")),
        &directory,
        arguments,
        |it| {
            // Nothing is sent before the end.
            it.env("OTEL_BSP_SCHEDULE_DELAY", "3600000").env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2048");
            it.env("KUBECONFIG", world.operator_kubeconfig()).env_remove("https_proxy").env_remove("HTTPS_PROXY");
        },
    );
    world.apply_key("orders", json!({})).await;
    world.apply_data_key("orders-dek", json!({"keyRef": {"name": "orders"}})).await;
    let data_key = world.data_key_ready("orders-dek").await;
    assert!(collector.0.lock().unwrap().is_empty());
    let pid = Pid::from_raw(process.process_id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended =
        eventually("the operator to end", world::SOON, async || process.exited().ok_or(process.log_tail())).await;
    assert!(ended.success(), "{}", process.log_tail());

    let (resource, spans) = collector.spans();
    assert_eq!(resource["service.name"], "cmk-operator");
    let of = |span: &Span| attributes(&span.attributes);
    let create = spans.iter().find(|span| span.name == "store create").unwrap();
    assert_eq!(of(create)["cmk.result"], "ok");
    let pass = spans.iter().find(|span| span.span_id == create.parent_span_id).unwrap();
    assert_eq!((&*pass.name, &pass.trace_id), ("reconcile CustomerMasterKey", &create.trace_id));
    assert!(pass.parent_span_id.is_empty());
    let expected = [
        ("cmk.kind", "CustomerMasterKey"),
        ("cmk.name", "orders"),
        ("cmk.result", "ok"),
        ("k8s.namespace.name", &world.namespace),
    ];
    assert_eq!(of(pass), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_ne!(pass.status.as_ref().map(|status| status.code()), Some(StatusCode::Error));
    assert!(spans.iter().any(|span| span.name == "reconcile DataKey"), "{spans:?}");

    let delivered = world.secrets().get(&data_key.name_any()).await.unwrap();
    let plaintext = world::entry(&delivered, "plaintext");
    let records = world.records().await.iter().map(|record| record.name_any().into_bytes()).collect::<Vec<_>>();
    assert!(!records.is_empty());
    let base64 = STANDARD.encode(&plaintext).into_bytes();
    collector.assert_without([plaintext, base64].into_iter().chain(records));
}
